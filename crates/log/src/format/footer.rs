//! The last bytes of a sealed segment: where its blocks are, and where its history ends.

use ptr_model::{Lsn, Position};

use super::{FormatError, Input};

/// The very last bytes of a sealed segment: length and checksum of the footer, and a magic number.
pub(crate) const TRAILER_BYTES: usize = 16;

const MAGIC: [u8; 8] = *b"PTREND\r\n";

/// Where a block is, and what it begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BlockPlace {
    /// Offset of its header in the file.
    pub(crate) file: u64,
    /// Where its records begin in the segment's concatenated record sections.
    pub(crate) logical: u64,
    /// The ordinal of the transaction that its first record belongs to.
    pub(crate) first_ordinal: u64,
    /// Entries of the log before its first record.
    pub(crate) first_entry: u64,
}

/// The block directory of a sealed segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Footer {
    /// The position after the segment's last transaction.
    pub(crate) end: Position,
    /// Bytes of all record sections.
    pub(crate) logical_end: u64,
    /// All blocks, in order.
    pub(crate) blocks: Vec<BlockPlace>,
}

impl Footer {
    /// Footer and trailer.
    pub(crate) fn encode(&self, seed: u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32 + self.blocks.len() * 32 + TRAILER_BYTES);
        for value in [self.end.ordinal, self.end.entry_index, self.end.lsn.0, self.logical_end] {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        for block in &self.blocks {
            for value in [block.file, block.logical, block.first_ordinal, block.first_entry] {
                bytes.extend_from_slice(&value.to_le_bytes());
            }
        }
        let footer_bytes = u32::try_from(bytes.len()).expect("a directory of 2^27 blocks spans over 32 TiB");
        bytes.extend_from_slice(&footer_bytes.to_le_bytes());
        let checksum = crc32c::crc32c_append(seed, &bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes.extend_from_slice(&MAGIC);
        bytes
    }

    /// Length of the footer, without trailer, as the trailer gives it.
    pub(crate) fn length(trailer: &[u8; TRAILER_BYTES]) -> Result<u32, FormatError> {
        let mut input = Input::new(trailer);
        let footer_bytes = input.u32("the trailer")?;
        if trailer[8..] != MAGIC {
            return Err(FormatError::Contradiction("the file does not end like a sealed segment"));
        }
        Ok(footer_bytes)
    }

    /// Reads footer and trailer.
    pub(crate) fn decode(bytes: &[u8], seed: u32) -> Result<Self, FormatError> {
        let what = "the footer";
        let (body, trailer) = bytes.split_last_chunk::<TRAILER_BYTES>().ok_or(FormatError::Short(what))?;
        let checksum = crc32c::crc32c_append(crc32c::crc32c_append(seed, body), &trailer[..4]);
        if checksum.to_le_bytes() != trailer[4..8] {
            return Err(FormatError::Checksum(what));
        }
        let mut input = Input::new(body);
        let (ordinal, entry_index) = (input.u64(what)?, input.u64(what)?);
        let end = Position { ordinal, lsn: Lsn(input.u64(what)?), entry_index };
        let logical_end = input.u64(what)?;
        let mut blocks = Vec::with_capacity(body.len() / 32);
        while !input.is_empty() {
            let (file, logical) = (input.u64(what)?, input.u64(what)?);
            let (first_ordinal, first_entry) = (input.u64(what)?, input.u64(what)?);
            blocks.push(BlockPlace { file, logical, first_ordinal, first_entry });
        }
        Ok(Self { end, logical_end, blocks })
    }
}
