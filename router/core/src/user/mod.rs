//! The user machine: a user's inbox, one row per channel (contract: design §2, "small and large groups").
//!
//! A row says how far a channel has moved, never what was said: `(channel, head, message count)`, maximum wins, so
//! repeated and late updates are harmless. A row that moves takes the next `user_seq`; a device syncs by that number.

mod row;

pub(crate) use row::check_row;

use std::collections::BTreeMap;

use throng_wire::frame::SyncEntry;
use throng_wire::ids::{ChannelId, Seq, UserId, UserSeq};
use throng_wire::peer::InboxRow;

use crate::limits::INBOX_ROWS_MAX;

/// One user's inbox.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) id: UserId,
    /// The newest position. Invariant: every row's position is at most this, and no two rows share one.
    pub(crate) user_seq: UserSeq,
    rows: BTreeMap<ChannelId, Position>,
    /// Invariant: exactly the rows, by their position.
    channel_by_seq: BTreeMap<UserSeq, ChannelId>,
    dirty: Dirty,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    head: Seq,
    count: u64,
    user_seq: UserSeq,
    is_dirty: bool,
}

/// What changed since the last flush batch was cut.
#[derive(Clone, Debug, Default)]
struct Dirty {
    /// Rows to write, or to remove if they are gone.
    rows: Vec<ChannelId>,
}

impl User {
    /// A user nobody has written to.
    pub(crate) fn empty(id: UserId) -> Self {
        Self {
            id,
            user_seq: UserSeq(0),
            rows: BTreeMap::new(),
            channel_by_seq: BTreeMap::new(),
            dirty: Dirty::default(),
        }
    }

    /// Moves a row; `None` if it is there already.
    pub(crate) fn update(&mut self, moved: &InboxRow) -> Option<UserSeq> {
        debug_assert_eq!(moved.user, self.id);
        let before = self.rows.get(&moved.channel).copied();
        if before.is_some_and(|before| before.head >= moved.head) {
            return None;
        }
        if let Some(before) = before {
            self.channel_by_seq.remove(&before.user_seq);
        } else if self.rows.len() >= INBOX_ROWS_MAX {
            self.drop_oldest();
        }
        self.user_seq = UserSeq(self.user_seq.0 + 1);
        let count = moved.count.max(before.map_or(0, |before| before.count));
        let position = Position { head: moved.head, count, user_seq: self.user_seq, is_dirty: true };
        self.rows.insert(moved.channel, position);
        self.channel_by_seq.insert(self.user_seq, moved.channel);
        if !before.is_some_and(|before| before.is_dirty) {
            self.dirty.rows.push(moved.channel);
        }
        assert_eq!(self.rows.len(), self.channel_by_seq.len(), "every row has one position");
        Some(self.user_seq)
    }

    /// The row that moved longest ago makes room; its channel still learns of the user's return when it moves again.
    fn drop_oldest(&mut self) {
        let Some((_, channel)) = self.channel_by_seq.pop_first() else { return };
        let row = self.rows.remove(&channel).expect("every position has its row");
        if !row.is_dirty {
            self.dirty.rows.push(channel);
        }
    }

    /// At most `limit` rows that moved after `after`, in the order they moved, and whether more follow.
    pub(crate) fn moved_after(&self, after: UserSeq, limit: usize) -> (bool, Vec<SyncEntry>) {
        let mut moved = self.channel_by_seq.range(UserSeq(after.0.saturating_add(1))..);
        let entries = moved
            .by_ref()
            .take(limit)
            .map(|(&user_seq, &channel)| {
                let row = self.rows.get(&channel).expect("every position has its row");
                SyncEntry { channel, head: row.head, count: row.count, user_seq }
            })
            .collect();
        (moved.next().is_some(), entries)
    }

    /// About how much memory the object takes.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.rows.len() * 112
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(channel: u8, head: u64) -> InboxRow {
        InboxRow { user: UserId::NIL, channel: ChannelId([channel; 16]), head: Seq(head), count: head / 2 }
    }

    #[test]
    fn maximum_wins_and_only_moved_rows_take_a_number() {
        let mut user = User::empty(UserId::NIL);
        assert_eq!(user.update(&moved(1, 4)), Some(UserSeq(1)));
        assert_eq!(user.update(&moved(2, 1)), Some(UserSeq(2)));
        assert_eq!(user.update(&moved(1, 4)), None, "repeated");
        assert_eq!(user.update(&moved(1, 3)), None, "late");
        assert_eq!(user.update(&moved(1, 6)), Some(UserSeq(3)));
        let (more, entries) = user.moved_after(UserSeq(0), 10);
        assert!(!more);
        let seen: Vec<_> =
            entries.iter().map(|e| (e.channel.0[0], e.head.0, e.count, e.user_seq.0)).collect();
        assert_eq!(seen, [(2, 1, 0, 2), (1, 6, 3, 3)]);
        assert_eq!(user.moved_after(UserSeq(2), 10).1.len(), 1);
        assert_eq!(user.moved_after(UserSeq(u64::MAX), 10), (false, vec![]));
        assert!(user.moved_after(UserSeq(0), 1).0);
    }

    #[test]
    fn a_full_inbox_drops_what_moved_longest_ago() {
        let mut user = User::empty(UserId::NIL);
        for n in 0..=INBOX_ROWS_MAX as u64 {
            let mut channel = [0u8; 16];
            channel[..8].copy_from_slice(&n.to_be_bytes());
            user.update(&InboxRow { user: UserId::NIL, channel: ChannelId(channel), head: Seq(1), count: 0 });
        }
        assert_eq!(user.rows.len(), INBOX_ROWS_MAX);
        assert_eq!(user.moved_after(UserSeq(0), 1).1[0].user_seq, UserSeq(2));
    }
}
