//! Blocks: what one flush wrote, or what sealing merged.

use std::{cell::RefCell, io};

use super::{FormatError, Input};

/// The first four bytes of every block, so that one can be found behind a damaged one.
pub(crate) const BLOCK_MARK: [u8; 4] = [0xB1, b'P', b'T', b'R'];

/// Bytes of a block's header.
pub(crate) const BLOCK_HEADER_BYTES: usize = 56;

/// Bytes of the header that its checksum covers.
const CHECKED_BYTES: usize = 52;

/// The smallest payload that is worth compressing while it waits for sealing.
const COMPRESS_FROM_BYTES: usize = 4 << 10;

const CONTINUES: u8 = 1;
const UNFINISHED: u8 = 2;

/// How a payload is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Codec {
    Raw,
    Zstd,
}

/// What is known of a block before it is encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BlockFacts {
    /// Where its records begin in the segment's concatenated record sections.
    pub(crate) logical: u64,
    /// The ordinal of the transaction that its first record belongs to.
    pub(crate) first_ordinal: u64,
    /// Entries of the log before its first record.
    pub(crate) first_entry: u64,
    /// Bytes of the file that were durable before the block was written; 0 in a sealed segment.
    pub(crate) synced: u64,
    /// Whether its first record is not a BEGIN.
    pub(crate) continues: bool,
    /// Whether its last record is not a COMMIT.
    pub(crate) unfinished: bool,
}

/// A block's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BlockHeader {
    pub(crate) facts: BlockFacts,
    /// Bytes of the payload in the file.
    pub(crate) stored_bytes: u32,
    /// Bytes of the payload before compression.
    pub(crate) payload_bytes: u32,
    /// Bytes of the relation section, before compression.
    pub(crate) relation_bytes: u32,
    pub(crate) codec: Codec,
    checksum: u32,
}

impl BlockHeader {
    /// Bytes of its record section.
    pub(crate) fn record_bytes(&self) -> u64 {
        u64::from(self.payload_bytes - self.relation_bytes)
    }

    /// Where the records after it begin.
    pub(crate) fn logical_end(&self) -> u64 {
        self.facts.logical + self.record_bytes()
    }

    /// Bytes of the block in the file.
    pub(crate) fn block_bytes(&self) -> u64 {
        BLOCK_HEADER_BYTES as u64 + u64::from(self.stored_bytes)
    }

    pub(crate) fn decode(bytes: &[u8; BLOCK_HEADER_BYTES]) -> Result<Self, FormatError> {
        let what = "a block header";
        let mut input = Input::new(bytes);
        if input.array(what)? != BLOCK_MARK {
            return Err(FormatError::Contradiction("there is no block where one should begin"));
        }
        let (stored_bytes, payload_bytes, relation_bytes) =
            (input.u32(what)?, input.u32(what)?, input.u32(what)?);
        let (logical, first_ordinal) = (input.u64(what)?, input.u64(what)?);
        let (first_entry, synced) = (input.u64(what)?, input.u64(what)?);
        let codec = match input.byte(what)? {
            0 => Codec::Raw,
            1 => Codec::Zstd,
            value => return Err(FormatError::Unknown { what: "codec", value: value.into() }),
        };
        let flags = input.byte(what)?;
        let reserved = input.u16(what)?;
        if flags > CONTINUES | UNFINISHED || reserved != 0 {
            return Err(FormatError::Unknown { what: "block flag", value: flags.into() });
        }
        if relation_bytes > payload_bytes || (codec == Codec::Raw && stored_bytes != payload_bytes) {
            return Err(FormatError::Contradiction("the lengths of a block contradict each other"));
        }
        let facts = BlockFacts {
            logical,
            first_ordinal,
            first_entry,
            synced,
            continues: flags & CONTINUES != 0,
            unfinished: flags & UNFINISHED != 0,
        };
        Ok(Self { facts, stored_bytes, payload_bytes, relation_bytes, codec, checksum: input.u32(what)? })
    }

    /// Compares the checksum over header and stored payload; `seed` is the checksum of the segment's header,
    /// so that a block counts only in the segment for which it was written.
    pub(crate) fn verify(
        &self,
        header: &[u8; BLOCK_HEADER_BYTES],
        payload: &[u8],
        seed: u32,
    ) -> Result<(), FormatError> {
        let checksum = crc32c::crc32c_append(crc32c::crc32c_append(seed, &header[..CHECKED_BYTES]), payload);
        if checksum == self.checksum { Ok(()) } else { Err(FormatError::Checksum("a block")) }
    }

    fn encode(&self, seed: u32, payload: &[u8], block: &mut [u8]) {
        let facts = &self.facts;
        block[..4].copy_from_slice(&BLOCK_MARK);
        block[4..8].copy_from_slice(&self.stored_bytes.to_le_bytes());
        block[8..12].copy_from_slice(&self.payload_bytes.to_le_bytes());
        block[12..16].copy_from_slice(&self.relation_bytes.to_le_bytes());
        block[16..24].copy_from_slice(&facts.logical.to_le_bytes());
        block[24..32].copy_from_slice(&facts.first_ordinal.to_le_bytes());
        block[32..40].copy_from_slice(&facts.first_entry.to_le_bytes());
        block[40..48].copy_from_slice(&facts.synced.to_le_bytes());
        block[48] = u8::from(self.codec == Codec::Zstd);
        block[49] =
            if facts.continues { CONTINUES } else { 0 } | if facts.unfinished { UNFINISHED } else { 0 };
        block[50..52].copy_from_slice(&[0, 0]);
        let checksum = crc32c::crc32c_append(crc32c::crc32c_append(seed, &block[..CHECKED_BYTES]), payload);
        block[52..56].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// How hard to compress.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Compression {
    /// While a transaction waits for its fsync.
    Quick,
    /// In the background, once and for ever.
    Thorough,
}

impl Compression {
    fn level(self) -> i32 {
        match self {
            Self::Quick => 1,
            Self::Thorough => 3,
        }
    }
}

/// Makes blocks; its buffers are used again for each.
pub(crate) struct BlockEncoder {
    compressor: zstd::bulk::Compressor<'static>,
    block: Vec<u8>,
    packed: Vec<u8>,
}

impl BlockEncoder {
    pub(crate) fn new(compression: Compression) -> io::Result<Self> {
        let compressor = zstd::bulk::Compressor::new(compression.level())?;
        Ok(Self { compressor, block: Vec::new(), packed: Vec::new() })
    }

    /// The bytes of a block and its header. Together, relations and records must be below 2 GiB.
    pub(crate) fn encode<'d>(
        &mut self,
        seed: u32,
        facts: BlockFacts,
        relations: impl Iterator<Item = &'d [u8]>,
        records: &[u8],
    ) -> io::Result<(&[u8], BlockHeader)> {
        self.block.clear();
        self.block.resize(BLOCK_HEADER_BYTES, 0);
        for definition in relations {
            self.block.extend_from_slice(definition);
        }
        let relation_bytes = self.block.len() - BLOCK_HEADER_BYTES;
        self.block.extend_from_slice(records);
        let payload_bytes = self.block.len() - BLOCK_HEADER_BYTES;
        let packed = self.pack()?;
        let too_large = |_| io::Error::new(io::ErrorKind::InvalidInput, "a block of 4 GiB or more");
        let block = if packed { &mut self.packed } else { &mut self.block };
        let header = BlockHeader {
            facts,
            stored_bytes: u32::try_from(block.len() - BLOCK_HEADER_BYTES).map_err(too_large)?,
            payload_bytes: u32::try_from(payload_bytes).map_err(too_large)?,
            relation_bytes: u32::try_from(relation_bytes).map_err(too_large)?,
            codec: if packed { Codec::Zstd } else { Codec::Raw },
            checksum: 0,
        };
        let (head, payload) = block.split_at_mut(BLOCK_HEADER_BYTES);
        header.encode(seed, payload, head);
        Ok((block, header))
    }

    /// Compresses the payload in `block` into `packed`, and says whether that made it smaller.
    fn pack(&mut self) -> io::Result<bool> {
        let payload = &self.block[BLOCK_HEADER_BYTES..];
        if payload.len() < COMPRESS_FROM_BYTES {
            return Ok(false);
        }
        self.packed.resize(BLOCK_HEADER_BYTES + zstd::zstd_safe::compress_bound(payload.len()), 0);
        let stored = self.compressor.compress_to_buffer(payload, &mut self.packed[BLOCK_HEADER_BYTES..])?;
        self.packed.truncate(BLOCK_HEADER_BYTES + stored);
        Ok(stored < payload.len())
    }

    /// Gives memory back after a block that was much larger than usual.
    pub(crate) fn shrink(&mut self, to: usize) {
        self.block.clear();
        self.packed.clear();
        self.block.shrink_to(to);
        self.packed.shrink_to(to);
    }
}

/// No block of a zstd frame has fewer bytes (a header of three, and a byte to be repeated), and none comes to more
/// (RFC 8878, 3.1.1.2).
const ZSTD_BLOCK_LEAST: u64 = 4;
const ZSTD_BLOCK_MOST: u64 = 128 << 10;

thread_local! {
    /// Making one takes a good part of the time of a small block. It holds nothing from one block to the next.
    static DECOMPRESSOR: RefCell<zstd::bulk::Decompressor<'static>> = RefCell::default();
}

/// The payload of a verified block, decompressed into `payload`.
pub(crate) fn decode_payload(
    header: &BlockHeader,
    stored: &[u8],
    payload: &mut Vec<u8>,
) -> Result<(), FormatError> {
    payload.clear();
    match header.codec {
        Codec::Raw => payload.extend_from_slice(stored),
        Codec::Zstd => {
            // Memory is taken for no more than such a frame can hold.
            if u64::from(header.payload_bytes)
                > (stored.len() as u64 / ZSTD_BLOCK_LEAST + 1) * ZSTD_BLOCK_MOST
            {
                return Err(FormatError::Contradiction("a payload is longer than its stored bytes can hold"));
            }
            payload.resize(header.payload_bytes as usize, 0);
            let written = DECOMPRESSOR.with_borrow_mut(|decompressor| {
                decompressor.decompress_to_buffer(stored, payload.as_mut_slice())
            });
            let written = written.map_err(FormatError::Zstd)?;
            payload.truncate(written);
        }
    }
    if payload.len() == header.payload_bytes as usize {
        Ok(())
    } else {
        Err(FormatError::Contradiction("a payload has another length than its header says"))
    }
}
