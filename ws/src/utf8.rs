//! UTF-8 checked piece by piece, failing at the first byte that cannot be part of any text (RFC 3629 §4).

/// Between two pieces: which bytes may come next.
///
/// ```text
///            80..BF              80..BF
///   Two  ───────────►  One  ───────────►  Boundary          (also: E0 A0..BF, ED 80..9F, F0 90..BF, F4 80..8F)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Utf8 {
    /// A character may begin, or the text end.
    #[default]
    Boundary,
    /// One continuation byte is missing.
    One,
    /// Two are missing.
    Two,
    /// Three are missing.
    Three,
    /// After E0: A0..BF, else it would be overlong.
    AfterE0,
    /// After ED: 80..9F, else it would be a surrogate.
    AfterEd,
    /// After F0: 90..BF, else it would be overlong.
    AfterF0,
    /// After F4: 80..8F, else it would be above U+10FFFF.
    AfterF4,
}

impl Utf8 {
    /// The state after these bytes; `None` if no text begins like this.
    pub(crate) fn feed(mut self, bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        while self != Self::Boundary {
            let Some((&byte, after)) = rest.split_first() else { return Some(self) };
            self = self.step(byte)?;
            rest = after;
        }
        // The bulk goes through the standard library's fast path; its error tells a cut-off character from a bad one.
        match core::str::from_utf8(rest) {
            Ok(_) => Some(Self::Boundary),
            Err(error) if error.error_len().is_some() => None,
            Err(error) => {
                rest[error.valid_up_to()..].iter().try_fold(Self::Boundary, |state, &byte| state.step(byte))
            }
        }
    }

    fn step(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Boundary, 0x00..=0x7f) => Some(Self::Boundary),
            (Self::Boundary, 0xc2..=0xdf) => Some(Self::One),
            (Self::Boundary, 0xe0) => Some(Self::AfterE0),
            (Self::Boundary, 0xed) => Some(Self::AfterEd),
            (Self::Boundary, 0xe1..=0xef) => Some(Self::Two),
            (Self::Boundary, 0xf0) => Some(Self::AfterF0),
            (Self::Boundary, 0xf1..=0xf3) => Some(Self::Three),
            (Self::Boundary, 0xf4) => Some(Self::AfterF4),
            (Self::One, 0x80..=0xbf) => Some(Self::Boundary),
            (Self::Two, 0x80..=0xbf) | (Self::AfterE0, 0xa0..=0xbf) | (Self::AfterEd, 0x80..=0x9f) => {
                Some(Self::One)
            }
            (Self::Three, 0x80..=0xbf) | (Self::AfterF0, 0x90..=0xbf) | (Self::AfterF4, 0x80..=0x8f) => {
                Some(Self::Two)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All of it in one step, as the standard library judges.
    fn whole(bytes: &[u8]) -> bool {
        core::str::from_utf8(bytes).is_ok()
    }

    fn in_pieces(bytes: &[u8], cuts: &[usize]) -> Option<Utf8> {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(bytes.len());
        let mut from = 0;
        cuts.iter().try_fold(Utf8::default(), |state, &to| {
            let state = state.feed(&bytes[from..to]);
            from = to;
            state
        })
    }

    #[test]
    fn every_character_passes_byte_by_byte() {
        for character in '\0'..=char::MAX {
            let mut buffer = [0u8; 4];
            let bytes = character.encode_utf8(&mut buffer).as_bytes();
            let end = bytes.iter().try_fold(Utf8::default(), |state, byte| state.feed(&[*byte]));
            assert_eq!(end, Some(Utf8::Boundary), "U+{:04X}", u32::from(character));
        }
    }

    #[test]
    fn the_first_impossible_byte_fails() {
        let cases: &[(&[u8], usize)] = &[
            (b"\x80", 0),             // continuation without a start
            (b"\xc0\x80", 0),         // overlong NUL
            (b"\xe0\x9f\xbf", 1),     // overlong
            (b"\xed\xa0\x80", 1),     // surrogate
            (b"\xf0\x8f\xbf\xbf", 1), // overlong
            (b"\xf4\x90\x80\x80", 1), // above U+10FFFF
            (b"\xf5", 0),
            (b"ok\xce\xbaA\xff", 5),
        ];
        for (bytes, bad) in cases {
            assert!(in_pieces(&bytes[..*bad], &[]).is_some(), "{bytes:x?} is possible up to {bad}");
            assert_eq!(in_pieces(&bytes[..=*bad], &[]), None, "{bytes:x?} fails at {bad}");
        }
    }

    proptest! {
        #[test]
        fn pieces_agree_with_the_standard_library(
            bytes in proptest::collection::vec(any::<u8>(), 0..12),
            text in ".{0,8}",
            cuts in proptest::collection::vec(any::<usize>(), 0..6),
        ) {
            for input in [bytes.clone(), [text.as_bytes(), &bytes].concat(), text.as_bytes().to_vec()] {
                prop_assert_eq!(in_pieces(&input, &cuts) == Some(Utf8::Boundary), whole(&input));
            }
        }
    }
}
