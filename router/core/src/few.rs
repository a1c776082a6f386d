//! One or a few: most users have one session, most channels one gateway, and neither should pay for a list.

/// A small set in the order of addition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Few<T> {
    One(T),
    Many(Vec<T>),
}

impl<T: Copy + PartialEq> Few<T> {
    pub(crate) fn as_slice(&self) -> &[T] {
        match self {
            Self::One(item) => core::slice::from_ref(item),
            Self::Many(items) => items,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.as_slice().len()
    }

    pub(crate) fn contains(&self, item: &T) -> bool {
        self.as_slice().contains(item)
    }

    /// Adds an item that is not in it yet.
    pub(crate) fn add(&mut self, item: T) {
        debug_assert!(!self.contains(&item));
        match self {
            Self::One(first) => *self = Self::Many(vec![*first, item]),
            Self::Many(items) => items.push(item),
        }
    }

    /// Keeps what the caller wants to keep; returns how many went. Without any left the set is of no more use.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) -> usize {
        let before = self.len();
        match self {
            Self::One(item) => {
                if !keep(item) {
                    *self = Self::Many(Vec::new());
                }
            }
            Self::Many(items) => {
                items.retain(keep);
                if let [last] = items[..] {
                    *self = Self::One(last);
                }
            }
        }
        before - self.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_and_shrinks() {
        let mut few = Few::One(1);
        few.add(2);
        few.add(3);
        assert_eq!((few.as_slice(), few.contains(&2)), (&[1, 2, 3][..], true));
        assert_eq!(few.retain(|n| *n != 1), 1);
        assert_eq!(few.retain(|n| *n != 2), 1);
        assert_eq!(few, Few::One(3));
        assert_eq!(few.retain(|_| false), 1);
        assert!(few.is_empty());
    }
}
