//! The segment format, byte by byte: `docs/log-format.md` is its specification. Pure, no I/O.
//!
//! A segment is a [`SegmentHeader`] followed by blocks; a block is a [`BlockHeader`] followed by its payload;
//! a payload is a section of relation definitions followed by a section of records. A sealed segment ends
//! with a [`Footer`].

mod block;
mod footer;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod golden;
mod header;
mod input;
mod record;
mod relation;

pub(crate) use block::{
    BLOCK_HEADER_BYTES, BLOCK_MARK, BlockEncoder, BlockFacts, BlockHeader, Compression, decode_payload,
};
pub(crate) use footer::{BlockPlace, Footer, TRAILER_BYTES};
pub(crate) use header::{Form, MAX_HEADER_BYTES, SegmentHeader};
pub(crate) use input::{Input, put_varint};
pub(crate) use record::{
    Glance, Record, decode_record, glance, put_begin, put_change, put_commit, truncated_relations,
};
pub(crate) use relation::{RelationId, RelationMap, put_relation};

/// Version of the format that this crate writes. It reads no other.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// The longest record, and so the largest block: PostgreSQL sends no message above 1 GB, and the old and the
/// new image of a row share one message.
pub(crate) const MAX_RECORD_BYTES: u64 = 0x7000_0000;

/// Bytes that are not what the format says.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// It ends in the middle of something.
    #[error("it ends inside {0}")]
    Short(&'static str),
    /// A checksum differs.
    #[error("the checksum of {0} differs: bytes were altered")]
    Checksum(&'static str),
    /// A number stands for nothing.
    #[error("{value} stands for no {what}")]
    Unknown {
        /// What was expected.
        what: &'static str,
        /// What was found.
        value: u64,
    },
    /// Numbers contradict each other.
    #[error("{0}")]
    Contradiction(&'static str),
    /// A name that is no UTF-8.
    #[error("a name is not UTF-8")]
    Text,
    /// The JSON of a schema change or a gap.
    #[error("the JSON of a record is malformed")]
    Json(#[from] serde_json::Error),
    /// The compressed payload.
    #[error("the payload does not decompress")]
    Zstd(#[source] std::io::Error),
    /// The format is of another version.
    #[error("format version {0} is not known, this program reads version {FORMAT_VERSION}")]
    Version(u32),
}
