//! The open segment: the one file that grows.
//!
//! A block of an open segment holds either whole transactions, or a part of exactly one. So the end of the
//! last committed transaction is always the end of a block, and recovery cuts between blocks.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Fault, SegmentFile, new_path, segment_path};
use crate::{
    LogError,
    disk::{Disk, DiskFile},
    format::{BlockEncoder, BlockFacts, Compression, SegmentHeader},
    rehearsal::crash_point,
};

/// Memory that the encoder keeps between blocks.
const KEPT_BYTES: usize = 4 << 20;

/// Appends blocks to a segment's file.
pub(crate) struct OpenSegment {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    seed: u32,
    first_ordinal: u64,
    /// Bytes of the file that hold blocks.
    file_end: u64,
    /// Bytes of the file that are durable.
    synced: u64,
    logical_end: u64,
    encoder: BlockEncoder,
}

/// What of its transactions a block holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BlockRange {
    pub(crate) first_ordinal: u64,
    pub(crate) first_entry: u64,
    pub(crate) continues: bool,
    pub(crate) unfinished: bool,
}

impl OpenSegment {
    /// Makes a new segment. It gets its name only when its header is durable, so a segment without a sound
    /// header was damaged, never torn.
    pub(crate) fn create(
        disk: &Arc<dyn Disk>,
        directory: &Path,
        header: &SegmentHeader,
    ) -> Result<Self, LogError> {
        let first_ordinal = header.start.ordinal;
        let (unfinished, path) = (new_path(directory, first_ordinal), segment_path(directory, first_ordinal));
        let bytes = header.encode();
        let (_, length, seed) = SegmentHeader::decode(&bytes)
            .map_err(|problem| Fault::at(0)(problem).into_error(&path, (first_ordinal, None)))?;
        let file = disk.create(&unfinished).map_err(LogError::file("create", &unfinished))?;
        file.write_at(0, &bytes).map_err(LogError::write(&unfinished, bytes.len()))?;
        file.sync().map_err(LogError::write(&unfinished, bytes.len()))?;
        disk.rename(&unfinished, &path).map_err(LogError::file("name", &path))?;
        let file_end = length as u64;
        Self::assemble(path, file, seed, first_ordinal, file_end, 0)
    }

    /// Goes on with a segment whose sound part ends at `file_end`; everything before it is durable.
    pub(crate) fn resume(segment: SegmentFile, file_end: u64, logical_end: u64) -> Result<Self, LogError> {
        let (path, seed) = (segment.path().to_owned(), segment.seed());
        let first_ordinal = segment.header().start.ordinal;
        Self::assemble(path, segment.into_file(), seed, first_ordinal, file_end, logical_end)
    }

    fn assemble(
        path: PathBuf,
        file: Box<dyn DiskFile>,
        seed: u32,
        first_ordinal: u64,
        file_end: u64,
        logical_end: u64,
    ) -> Result<Self, LogError> {
        let encoder = BlockEncoder::new(Compression::Quick).map_err(LogError::file("compress for", &path))?;
        Ok(Self { path, file, seed, first_ordinal, file_end, synced: file_end, logical_end, encoder })
    }

    pub(crate) fn first_ordinal(&self) -> u64 {
        self.first_ordinal
    }

    /// Bytes of the file.
    pub(crate) fn file_end(&self) -> u64 {
        self.file_end
    }

    /// Where the next record will be.
    pub(crate) fn logical_end(&self) -> u64 {
        self.logical_end
    }

    /// Writes one block. It is durable after [`OpenSegment::sync`].
    pub(crate) fn append<'d>(
        &mut self,
        range: BlockRange,
        relations: impl Iterator<Item = &'d [u8]>,
        records: &[u8],
    ) -> Result<(), LogError> {
        let BlockRange { first_ordinal, first_entry, continues, unfinished } = range;
        let (logical, synced) = (self.logical_end, self.synced);
        let facts = BlockFacts { logical, first_ordinal, first_entry, synced, continues, unfinished };
        let (block, header) = self
            .encoder
            .encode(self.seed, facts, relations, records)
            .map_err(LogError::file("encode for", &self.path))?;
        crash_point("append");
        self.file.write_at(self.file_end, block).map_err(LogError::write(&self.path, block.len()))?;
        crash_point("appended");
        self.file_end += block.len() as u64;
        self.logical_end = header.logical_end();
        if block.len() > KEPT_BYTES {
            self.encoder.shrink(KEPT_BYTES);
        }
        Ok(())
    }

    /// Makes all blocks durable.
    pub(crate) fn sync(&mut self) -> Result<(), LogError> {
        if self.synced < self.file_end {
            let unsynced = usize::try_from(self.file_end - self.synced).unwrap_or(usize::MAX);
            crash_point("fsync");
            self.file.sync().map_err(LogError::write(&self.path, unsynced))?;
            crash_point("fsynced");
            self.synced = self.file_end;
        }
        Ok(())
    }

    /// Takes back what was appended after the given place, durably.
    pub(crate) fn cut(&mut self, file_end: u64, logical_end: u64) -> Result<(), LogError> {
        self.file.truncate(file_end).map_err(LogError::file("cut", &self.path))?;
        self.file.sync().map_err(LogError::file("make durable", &self.path))?;
        (self.file_end, self.synced, self.logical_end) = (file_end, file_end, logical_end);
        Ok(())
    }
}
