//! Reads a message from front to back; every read is checked against its end.

use bytes::{Buf, Bytes};

use super::{DecodeError, Tag};

/// What is left of one message.
pub(super) struct Cursor {
    tag: Tag,
    rest: Bytes,
    length: usize,
}

impl Cursor {
    /// Takes the first byte as the message's tag.
    pub(super) fn new(payload: Bytes) -> Result<Self, DecodeError> {
        let length = payload.len();
        let mut cursor = Self { tag: Tag(0), rest: payload, length };
        cursor.tag = Tag(cursor.u8()?);
        Ok(cursor)
    }

    pub(super) fn tag(&self) -> Tag {
        self.tag
    }

    /// The message must be used up.
    pub(super) fn finish(&self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(DecodeError::TrailingBytes { tag: self.tag, extra }),
        }
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.need(1)?;
        Ok(self.rest.get_u8())
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.need(4)?;
        Ok(self.rest.get_u32())
    }

    pub(super) fn i32(&mut self) -> Result<i32, DecodeError> {
        self.need(4)?;
        Ok(self.rest.get_i32())
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.need(8)?;
        Ok(self.rest.get_u64())
    }

    pub(super) fn i64(&mut self) -> Result<i64, DecodeError> {
        self.need(8)?;
        Ok(self.rest.get_i64())
    }

    /// An Int16 that counts something and so is not negative.
    pub(super) fn count16(&mut self, field: &'static str) -> Result<usize, DecodeError> {
        self.need(2)?;
        let count = self.rest.get_i16();
        usize::try_from(count).map_err(|_| self.invalid(field, count.into()))
    }

    /// An Int32 that counts something and so is not negative.
    pub(super) fn count32(&mut self, field: &'static str) -> Result<usize, DecodeError> {
        let count = self.i32()?;
        usize::try_from(count).map_err(|_| self.invalid(field, count.into()))
    }

    /// The next `length` bytes, sharing the message's memory.
    pub(super) fn bytes(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        self.need(length)?;
        Ok(self.rest.split_to(length))
    }

    /// A string that ends with a zero byte. `subject` says whose it is, for the error.
    pub(super) fn string(
        &mut self,
        field: &'static str,
        subject: impl FnOnce() -> String,
    ) -> Result<String, DecodeError> {
        let Some(end) = self.rest.iter().position(|&byte| byte == 0) else {
            return Err(DecodeError::Truncated { tag: self.tag, at: self.length, needed: 1 });
        };
        let bytes = self.rest.split_to(end);
        self.rest.advance(1);
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(DecodeError::InvalidName {
                field,
                shown: String::from_utf8_lossy(&bytes).into_owned(),
                subject: subject(),
            }),
        }
    }

    pub(super) fn expect_byte(&mut self, expected: u8, field: &'static str) -> Result<(), DecodeError> {
        match self.u8()? {
            byte if byte == expected => Ok(()),
            other => Err(self.invalid(field, other.into())),
        }
    }

    /// How many items to reserve memory for: an announced count is not believed beyond what the rest of the
    /// message could hold.
    pub(super) fn at_most(&self, announced: usize, smallest_item: usize) -> usize {
        announced.min(self.rest.len() / smallest_item)
    }

    pub(super) fn invalid(&self, field: &'static str, value: i64) -> DecodeError {
        DecodeError::InvalidField { tag: self.tag, field, value }
    }

    fn need(&self, bytes: usize) -> Result<(), DecodeError> {
        match bytes.checked_sub(self.rest.len()) {
            None | Some(0) => Ok(()),
            Some(needed) => Err(DecodeError::Truncated { tag: self.tag, at: self.length, needed }),
        }
    }
}
