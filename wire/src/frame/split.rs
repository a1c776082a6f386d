//! Finding frames in a byte stream.

use core::ops::Range;

use crate::error::DecodeError;
use crate::varint::{self, Peek};

/// What stands at the start of some bytes of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Split {
    /// A whole frame.
    Frame {
        /// Bytes it takes; the next frame starts behind them.
        consumed: usize,
        /// Where its payload (type, flags, fields) stands.
        payload: Range<usize>,
    },
    /// Not yet a whole frame.
    NeedMore {
        /// How many bytes, counted from the start of the frame, are needed before more can be said: the exact size of
        /// a tail buffer once the length is known. Never above the frame limit plus 8.
        at_least: usize,
    },
}

/// Looks for a frame at the start of `input`. `frame_max` bounds the bytes after the length field and is checked as
/// soon as the length is there, before anybody allocates for it (SPEC W-FRAME-4).
///
/// # Errors
/// [`DecodeError`] if the length is malformed, below 2 or above `frame_max`.
pub fn split(input: &[u8], frame_max: usize) -> Result<Split, DecodeError> {
    let (length, start) = match varint::peek(input)? {
        Peek::Value { value, len } => (value, len),
        Peek::NeedMore { len } => return Ok(Split::NeedMore { at_least: len }),
    };
    if length > frame_max as u64 {
        return Err(DecodeError::FrameTooLarge { length });
    }
    if length < 2 {
        return Err(DecodeError::ShortFrame);
    }
    let end = start + length as usize;
    if input.len() < end {
        return Ok(Split::NeedMore { at_least: end });
    }
    Ok(Split::Frame { consumed: end, payload: start..end })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_one_by_one_and_tails_say_what_they_need() {
        let stream = [3, 1, 0, 9, 2, 8, 0, 4];
        assert_eq!(split(&stream, 64), Ok(Split::Frame { consumed: 4, payload: 1..4 }));
        assert_eq!(split(&stream[4..], 64), Ok(Split::Frame { consumed: 3, payload: 1..3 }));
        assert_eq!(split(&stream[7..], 64), Ok(Split::NeedMore { at_least: 5 }));
        assert_eq!(split(&[], 64), Ok(Split::NeedMore { at_least: 1 }));
        assert_eq!(split(&[0x80, 0], 64), Ok(Split::NeedMore { at_least: 4 }));
    }

    #[test]
    fn a_bad_length_is_refused_before_its_bytes_arrive() {
        // SPEC W-FRAME-2, W-FRAME-4.
        assert_eq!(split(&[0x40, 65], 64), Err(DecodeError::FrameTooLarge { length: 65 }));
        assert_eq!(split(&[0xff; 8], 64), Err(DecodeError::FrameTooLarge { length: varint::MAX }));
        assert_eq!(split(&[0], 64), Err(DecodeError::ShortFrame));
        assert_eq!(split(&[1], 64), Err(DecodeError::ShortFrame));
        assert_eq!(split(&[0x40, 9], 64), Err(DecodeError::NotShortest));
        assert_eq!(split(&[0x40, 64], 64), Ok(Split::NeedMore { at_least: 66 }));
    }
}
