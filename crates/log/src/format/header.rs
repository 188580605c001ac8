//! The first bytes of a segment: whose history it holds, and from where on.

use ptr_model::{Lsn, Oid, Position, Timestamp};
use uuid::Uuid;

use super::{FORMAT_VERSION, FormatError, Input};

const MAGIC: [u8; 8] = *b"PTRSEG\r\n";

/// Bytes before the database's name.
const FIXED_BYTES: usize = 84;

/// The longest header: a name has at most 65,535 bytes.
pub(crate) const MAX_HEADER_BYTES: usize = FIXED_BYTES + u16::MAX as usize + 4;

/// Whether a segment is still appended to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    /// Blocks as they were flushed, and maybe a torn tail.
    Open,
    /// Rewritten with larger blocks and a footer; never altered again.
    Sealed,
}

/// What the first bytes of a segment say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SegmentHeader {
    pub(crate) form: Form,
    pub(crate) system_identifier: u64,
    pub(crate) log_id: Uuid,
    pub(crate) database_oid: Oid,
    pub(crate) timeline: u32,
    /// The position before the segment's first transaction.
    pub(crate) start: Position,
    pub(crate) created: Timestamp,
    pub(crate) database: String,
}

impl SegmentHeader {
    /// The header's bytes. The database's name must be at most 65,535 bytes long.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let name_bytes =
            u16::try_from(self.database.len()).expect("the identity's name was checked at creation");
        let header_bytes =
            u32::try_from(FIXED_BYTES + self.database.len() + 4).expect("a header is at most 64 KiB long");
        let mut bytes = Vec::with_capacity(header_bytes as usize);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&header_bytes.to_le_bytes());
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.system_identifier.to_le_bytes());
        bytes.extend_from_slice(self.log_id.as_bytes());
        bytes.extend_from_slice(&self.database_oid.0.to_le_bytes());
        bytes.extend_from_slice(&self.timeline.to_le_bytes());
        bytes.extend_from_slice(&self.start.ordinal.to_le_bytes());
        bytes.extend_from_slice(&self.start.entry_index.to_le_bytes());
        bytes.extend_from_slice(&self.start.lsn.0.to_le_bytes());
        bytes.extend_from_slice(&self.created.0.to_le_bytes());
        bytes.extend_from_slice(&[u8::from(self.form == Form::Sealed), 0]);
        bytes.extend_from_slice(&name_bytes.to_le_bytes());
        bytes.extend_from_slice(self.database.as_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// The header at the beginning of `bytes`, its length, and its checksum, with which the checksums of the
    /// segment's blocks begin.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Self, usize, u32), FormatError> {
        let what = "the segment header";
        let mut input = Input::new(bytes);
        if input.array(what)? != MAGIC {
            return Err(FormatError::Contradiction("the file does not begin like a segment"));
        }
        let header_bytes = input.u32(what)? as usize;
        let (body, checksum) = bytes
            .get(..header_bytes)
            .and_then(|header| header.split_last_chunk::<4>())
            .ok_or(FormatError::Short(what))?;
        let checksum = u32::from_le_bytes(*checksum);
        if crc32c::crc32c(body) != checksum {
            return Err(FormatError::Checksum(what));
        }
        let version = input.u32(what)?;
        if version != FORMAT_VERSION {
            return Err(FormatError::Version(version));
        }
        let header = Self::decode_fields(&mut input)?;
        if input.at() + 4 != header_bytes {
            return Err(FormatError::Contradiction("the header's length is not that of its fields"));
        }
        Ok((header, header_bytes, checksum))
    }

    fn decode_fields(input: &mut Input<'_>) -> Result<Self, FormatError> {
        let what = "the segment header";
        let system_identifier = input.u64(what)?;
        let log_id = Uuid::from_bytes(input.array(what)?);
        let database_oid = Oid(input.u32(what)?);
        let timeline = input.u32(what)?;
        let (ordinal, entry_index, lsn) = (input.u64(what)?, input.u64(what)?, Lsn(input.u64(what)?));
        let created = Timestamp(input.i64(what)?);
        let form = match input.u16(what)? {
            0 => Form::Open,
            1 => Form::Sealed,
            value => return Err(FormatError::Unknown { what: "form of a segment", value: value.into() }),
        };
        let name_bytes = input.u16(what)?;
        let name = input.take(name_bytes.into(), what)?.to_vec();
        let database = String::from_utf8(name).map_err(|_| FormatError::Text)?;
        let start = Position { ordinal, lsn, entry_index };
        Ok(Self { form, system_identifier, log_id, database_oid, timeline, start, created, database })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            form: Form::Open,
            system_identifier: 7_000_000_000_000_000_001,
            log_id: Uuid::from_u128(0x0190_a5a4),
            database_oid: Oid(16384),
            timeline: 1,
            start: Position { ordinal: 3, lsn: Lsn(0x16B_3748), entry_index: 42 },
            created: Timestamp(1_700_000_000_000_000),
            database: "shop".to_owned(),
        }
    }

    #[test]
    fn a_header_comes_back() {
        let bytes = header().encode();
        let (decoded, length, _) = SegmentHeader::decode(&bytes).unwrap();
        assert_eq!((decoded, length), (header(), bytes.len()));
    }

    #[test]
    fn any_altered_byte_of_a_header_is_noticed() {
        let bytes = header().encode();
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 0x10;
            assert!(SegmentHeader::decode(&altered).is_err(), "byte {at}");
        }
    }
}
