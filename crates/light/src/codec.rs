//! Reading bytes from strangers: a cursor that never reads past the end, and the engine's variable-length numbers.

use crate::error::LightError;

/// Bytes that are still to be read.
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
    part: &'static str,
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(part: &'static str, bytes: &'a [u8]) -> Self {
        Self { rest: bytes, part }
    }

    pub(crate) const fn wrong(&self, what: &'static str) -> LightError {
        LightError::Malformed { part: self.part, what }
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], LightError> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(self.wrong("it ends too early"))?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], LightError> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| self.wrong("it ends too early"))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, LightError> {
        Ok(u8::from_be_bytes(self.array()?))
    }
    pub(crate) fn u16(&mut self) -> Result<u16, LightError> {
        Ok(u16::from_be_bytes(self.array()?))
    }
    pub(crate) fn u32(&mut self) -> Result<u32, LightError> {
        Ok(u32::from_be_bytes(self.array()?))
    }
    pub(crate) fn u64(&mut self) -> Result<u64, LightError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// A yes or a no: nothing but 0 and 1 is either.
    pub(crate) fn flag(&mut self) -> Result<bool, LightError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.wrong("a flag is neither 0 nor 1")),
        }
    }

    /// The engine's varint: seven bits a byte, lowest first, in the fewest bytes.
    pub(crate) fn varint(&mut self) -> Result<u64, LightError> {
        let mut value = 0u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if bits.leading_zeros() < shift {
                return Err(self.wrong("a number is too large"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                // A last byte of zero could have been left out: two encodings of one number.
                return if byte == 0 && shift > 0 { Err(self.wrong("a number has needless bytes")) } else { Ok(value) };
            }
        }
        Err(self.wrong("a number is too large"))
    }

    /// How many items follow; at most `limit`.
    pub(crate) fn count(&mut self, limit: usize) -> Result<usize, LightError> {
        let got = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        self.limited(got, limit)
    }

    pub(crate) const fn limited(&self, got: usize, limit: usize) -> Result<usize, LightError> {
        if got > limit { Err(LightError::TooLong { part: self.part, got, limit }) } else { Ok(got) }
    }

    /// What was not read yet.
    pub(crate) const fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Everything must have been read.
    pub(crate) const fn end(self) -> Result<(), LightError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.wrong("it goes on after its end")) }
    }
}

/// The inverse of [`Cursor::varint`].
pub(crate) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_encoding() {
        for value in [0, 1, 127, 128, 300, 16_383, 16_384, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut bytes = vec![];
            put_varint(value, &mut bytes);
            let mut cursor = Cursor::new("n", &bytes);
            assert_eq!(cursor.varint(), Ok(value));
            assert_eq!(cursor.end(), Ok(()));
        }
        for bad in [&[0x80, 0][..], &[0x81, 0x00], &[0x80], &[], &[0xff; 10], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]] {
            assert!(Cursor::new("n", bad).varint().is_err(), "{bad:?}");
        }
    }
}
