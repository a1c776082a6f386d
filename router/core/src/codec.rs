//! Bytes of entries and rows: fixed integers big-endian, counts and numbers that are small as LEB128. One codec for
//! both, apart from the wire's, because what rests on disk changes for other reasons than what clients speak.

use bytes::BufMut;

/// Bytes that are not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Corrupt(
    /// Which field does not parse.
    pub(crate) &'static str,
);

/// Appends a LEB128 number: 7 bits a byte, low first.
pub(crate) fn put_var(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Reads what was written, never beyond the end.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Starts at an offset that an earlier reader reached.
    pub(crate) fn at(bytes: &'a [u8], at: usize) -> Self {
        debug_assert!(at <= bytes.len());
        Self { bytes, at }
    }

    /// Where the next field begins.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// Bytes left.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `len` bytes.
    pub(crate) fn take(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], Corrupt> {
        if len > self.left() {
            return Err(Corrupt(field));
        }
        let bytes = &self.bytes[self.at..self.at + len];
        self.at += len;
        Ok(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Corrupt> {
        self.take(N, field)?.try_into().map_err(|_| Corrupt(field))
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, Corrupt> {
        Ok(self.array::<1>(field)?[0])
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, Corrupt> {
        Ok(u16::from_be_bytes(self.array(field)?))
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, Corrupt> {
        Ok(u32::from_be_bytes(self.array(field)?))
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, Corrupt> {
        Ok(u64::from_be_bytes(self.array(field)?))
    }

    /// A LEB128 number in its shortest form.
    pub(crate) fn var(&mut self, field: &'static str) -> Result<u64, Corrupt> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(field)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Corrupt(field));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                let padded = byte == 0 && shift > 0;
                return if padded { Err(Corrupt(field)) } else { Ok(value) };
            }
        }
        Err(Corrupt(field))
    }

    /// A count of things that take at least `each` bytes, checked against what is left before anything is allocated.
    pub(crate) fn count(&mut self, each: usize, field: &'static str) -> Result<usize, Corrupt> {
        let count = self.var(field)?;
        let fits = count.checked_mul(each.max(1) as u64).is_some_and(|bytes| bytes <= self.left() as u64);
        if fits { Ok(count as usize) } else { Err(Corrupt(field)) }
    }

    /// Nothing may be left.
    pub(crate) fn end(&self, field: &'static str) -> Result<(), Corrupt> {
        if self.left() == 0 { Ok(()) } else { Err(Corrupt(field)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_padded_ones_are_refused() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            put_var(&mut out, value);
            let mut reader = Reader::new(&out);
            assert_eq!((reader.var("n"), reader.left()), (Ok(value), 0));
        }
        for bad in [&[0x80, 0x00][..], &[0xff; 10], &[0x80], &[]] {
            assert_eq!(Reader::new(bad).var("n"), Err(Corrupt("n")), "{bad:?}");
        }
    }

    #[test]
    fn counts_are_checked_before_anything_is_allocated() {
        let mut out = Vec::new();
        put_var(&mut out, 1 << 40);
        out.extend([0; 64]);
        assert_eq!(Reader::new(&out).count(16, "rows"), Err(Corrupt("rows")));
    }
}
