//! Reading and writing of the primitive values: little-endian integers, variable-length integers, strings.

use super::FormatError;

/// A place in bytes that moves forward as values are taken.
pub(crate) struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes taken so far.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub(crate) fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], FormatError> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..length).ok_or(FormatError::Short(what))?;
        self.at += length;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], FormatError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    pub(crate) fn byte(&mut self, what: &'static str) -> Result<u8, FormatError> {
        Ok(self.array::<1>(what)?[0])
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, FormatError> {
        self.array(what).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, FormatError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, FormatError> {
        self.array(what).map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self, what: &'static str) -> Result<i64, FormatError> {
        self.array(what).map(i64::from_le_bytes)
    }

    /// A LEB128 integer: seven bits a byte, low ones first, the high bit set on all but the last byte.
    pub(crate) fn varint(&mut self, what: &'static str) -> Result<u64, FormatError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or(FormatError::Short(what))?;
            self.at += 1;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(FormatError::Contradiction("an integer has more than 64 bits"))
    }

    pub(crate) fn varint_u32(&mut self, what: &'static str) -> Result<u32, FormatError> {
        let value = self.varint(what)?;
        u32::try_from(value).map_err(|_| FormatError::Unknown { what, value })
    }

    /// A length or a count of things of at least one byte each, so never more than what is left.
    pub(crate) fn length(&mut self, what: &'static str) -> Result<usize, FormatError> {
        let length = self.varint(what)?;
        usize::try_from(length)
            .ok()
            .filter(|length| *length <= self.bytes.len() - self.at)
            .ok_or(FormatError::Short(what))
    }

    pub(crate) fn string(&mut self, what: &'static str) -> Result<String, FormatError> {
        let length = self.length(what)?;
        let bytes = self.take(length, what)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| FormatError::Text)
    }
}

pub(crate) fn put_varint(buffer: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        buffer.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    buffer.push((value & 0x7F) as u8);
}

pub(crate) fn put_bytes(buffer: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(buffer, bytes.len() as u64);
    buffer.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_integer_comes_back(value: u64) {
            let mut buffer = Vec::new();
            put_varint(&mut buffer, value);
            let mut input = Input::new(&buffer);
            prop_assert_eq!(input.varint("test").unwrap(), value);
            prop_assert!(input.is_empty());
        }

        #[test]
        fn any_bytes_are_an_integer_or_an_error(bytes: Vec<u8>) {
            let _ = Input::new(&bytes).varint("test");
            let _ = Input::new(&bytes).string("test");
        }
    }

    #[test]
    fn an_integer_of_more_than_64_bits_is_refused() {
        assert!(Input::new(&[0xFF; 9]).varint("test").is_err());
        assert!(
            Input::new(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2]).varint("test").is_err()
        );
    }
}
