//! A segment opened for reading: its header, and where its blocks are.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::{Fault, Walker, segment_path};
use crate::{
    LogError,
    disk::{Disk, DiskFile},
    format::{
        BLOCK_HEADER_BYTES, BlockHeader, BlockPlace, Footer, Form, FormatError, MAX_HEADER_BYTES,
        SegmentHeader, TRAILER_BYTES, decode_payload,
    },
    identity::LogIdentity,
};

/// Enough for the header of a database with a name of usual length.
const USUAL_HEADER_BYTES: usize = 1024;

/// A segment that can be read at any place. It stays readable when the segment is sealed meanwhile: the file
/// that is open keeps its bytes, and logical offsets are the same in both.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    header: SegmentHeader,
    header_bytes: u64,
    seed: u32,
    directory: Directory,
}

#[derive(Debug)]
enum Directory {
    /// The blocks found so far.
    Open(Mutex<Explored>),
    /// From the footer.
    Sealed { footer: Footer, blocks_end: u64 },
}

/// How far the blocks of an open segment are known.
#[derive(Debug)]
struct Explored {
    blocks: Vec<BlockPlace>,
    file_end: u64,
    logical_end: u64,
}

impl SegmentFile {
    /// Opens the segment that begins with `first_ordinal`, and compares its header with the log's identity.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        directory: &Path,
        first_ordinal: u64,
        identity: &LogIdentity,
    ) -> Result<Self, LogError> {
        let path = segment_path(directory, first_ordinal);
        let file = disk.open(&path).map_err(LogError::file("open", &path))?;
        let opened =
            Self::read_header(&*file).map_err(|fault| fault.into_error(&path, (first_ordinal, None)))?;
        let (header, header_bytes, seed) = opened;
        if !identity.owns(&header) || header.start.ordinal != first_ordinal {
            let problem = format!(
                "belongs to another log, or to another place in this one: it begins with transaction {} of the log {}",
                header.start.ordinal, header.log_id
            );
            return Err(LogError::Unsuitable { path, problem });
        }
        let directory = match header.form {
            Form::Open => Ok(Directory::Open(Mutex::new(Explored {
                blocks: Vec::new(),
                file_end: header_bytes,
                logical_end: 0,
            }))),
            Form::Sealed => Self::read_footer(&*file, seed),
        };
        let directory = directory.map_err(|fault| fault.into_error(&path, (first_ordinal, None)))?;
        Ok(Self { path, file, header, header_bytes, seed, directory })
    }

    fn read_header(file: &dyn DiskFile) -> Result<(SegmentHeader, u64, u32), Fault> {
        let mut bytes = vec![0; USUAL_HEADER_BYTES];
        let mut filled = file.read_at(0, &mut bytes).map_err(Fault::Io)?;
        if matches!(SegmentHeader::decode(&bytes[..filled]), Err(FormatError::Short(_))) {
            bytes.resize(MAX_HEADER_BYTES, 0);
            filled = file.read_at(0, &mut bytes).map_err(Fault::Io)?;
        }
        let (header, length, seed) = SegmentHeader::decode(&bytes[..filled]).map_err(Fault::at(0))?;
        Ok((header, length as u64, seed))
    }

    fn read_footer(file: &dyn DiskFile, seed: u32) -> Result<Directory, Fault> {
        let length = file.length().map_err(Fault::Io)?;
        let short = |offset| Fault::Format { offset, problem: FormatError::Short("the footer") };
        let trailer_start = length.checked_sub(TRAILER_BYTES as u64).ok_or(short(0))?;
        let mut trailer = [0; TRAILER_BYTES];
        file.read_at(trailer_start, &mut trailer).map_err(Fault::Io)?;
        let footer_bytes = Footer::length(&trailer).map_err(Fault::at(trailer_start))?;
        let blocks_end = trailer_start.checked_sub(footer_bytes.into()).ok_or(short(trailer_start))?;
        let mut bytes = vec![0; footer_bytes as usize + TRAILER_BYTES];
        file.read_at(blocks_end, &mut bytes).map_err(Fault::Io)?;
        let footer = Footer::decode(&bytes, seed).map_err(Fault::at(blocks_end))?;
        Ok(Directory::Sealed { footer, blocks_end })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn header(&self) -> &SegmentHeader {
        &self.header
    }

    pub(crate) fn header_bytes(&self) -> u64 {
        self.header_bytes
    }

    pub(crate) fn seed(&self) -> u32 {
        self.seed
    }

    pub(crate) fn file(&self) -> &dyn DiskFile {
        &*self.file
    }

    pub(crate) fn into_file(self) -> Box<dyn DiskFile> {
        self.file
    }

    /// The directory of a sealed segment.
    pub(crate) fn footer(&self) -> Option<&Footer> {
        match &self.directory {
            Directory::Open(_) => None,
            Directory::Sealed { footer, .. } => Some(footer),
        }
    }

    /// Where its blocks end in the file: before the footer, or where the file ends now.
    pub(crate) fn blocks_end(&self) -> Result<u64, LogError> {
        match &self.directory {
            Directory::Open(_) => {
                self.file.length().map_err(LogError::file("read the length of", &self.path))
            }
            Directory::Sealed { blocks_end, .. } => Ok(*blocks_end),
        }
    }

    /// A walk over all its blocks.
    pub(crate) fn walk(&self) -> Result<Walker<'_>, LogError> {
        Ok(Walker::new(&*self.file, self.seed, self.header_bytes, self.blocks_end()?))
    }

    /// The block that holds the record at `logical`.
    pub(crate) fn locate(&self, logical: u64) -> Result<BlockPlace, LogError> {
        self.find(logical, |blocks| blocks.partition_point(|block| block.logical <= logical))
    }

    /// The last block at or after `from` and before `to` (logical offsets) at whose beginning at most `entry`
    /// entries of the log have gone by; the block that holds `from` if there is none.
    pub(crate) fn locate_entry(&self, entry: u64, from: u64, to: u64) -> Result<BlockPlace, LogError> {
        self.find(to.saturating_sub(1), |blocks| {
            let first = blocks.partition_point(|block| block.logical <= from);
            let within = &blocks[first..];
            let passed = within.partition_point(|block| block.logical < to && block.first_entry <= entry);
            first + passed
        })
    }

    /// The last block before the partition point that `search` gives, once blocks up to `logical` are known.
    fn find(&self, logical: u64, search: impl Fn(&[BlockPlace]) -> usize) -> Result<BlockPlace, LogError> {
        let place = |blocks: &[BlockPlace]| search(blocks).checked_sub(1).map(|index| blocks[index]);
        let found = match &self.directory {
            Directory::Sealed { footer, .. } => {
                if logical < footer.logical_end {
                    place(&footer.blocks)
                } else {
                    None
                }
            }
            Directory::Open(explored) => {
                let mut explored = explored.lock().unwrap_or_else(PoisonError::into_inner);
                self.explore(&mut explored, logical)?;
                if logical < explored.logical_end { place(&explored.blocks) } else { None }
            }
        };
        found.ok_or_else(|| {
            let problem = FormatError::Short("the segment: records that the index knows are not in it");
            let offset = self.blocks_end().unwrap_or(0);
            Fault::Format { offset, problem }.into_error(&self.path, (self.header.start.ordinal, None))
        })
    }

    /// Walks on until the block with `logical` is known or the file ends.
    fn explore(&self, explored: &mut Explored, logical: u64) -> Result<(), LogError> {
        if explored.logical_end > logical {
            return Ok(());
        }
        let mut walker = Walker::new(&*self.file, self.seed, explored.file_end, self.blocks_end()?);
        while explored.logical_end <= logical {
            let lost = explored.blocks.last().map_or(self.header.start.ordinal, |block| block.first_ordinal);
            let step = walker.next_block().map_err(|fault| fault.into_error(&self.path, (lost, None)))?;
            let Some(block) = step else { break };
            let facts = block.header.facts;
            explored.blocks.push(BlockPlace {
                file: block.file_offset,
                logical: facts.logical,
                first_ordinal: facts.first_ordinal,
                first_entry: facts.first_entry,
            });
            explored.logical_end = block.header.logical_end();
            explored.file_end = block.file_offset + block.header.block_bytes();
        }
        Ok(())
    }

    /// Reads the block at a file offset, compares its checksum, and decompresses its payload.
    pub(crate) fn read_block(&self, at: u64, payload: &mut Vec<u8>) -> Result<BlockHeader, Fault> {
        let short = || Fault::Format { offset: at, problem: FormatError::Short("a block") };
        let mut head = [0; BLOCK_HEADER_BYTES];
        if self.file.read_at(at, &mut head).map_err(Fault::Io)? < BLOCK_HEADER_BYTES {
            return Err(short());
        }
        let header = BlockHeader::decode(&head).map_err(Fault::at(at))?;
        // A length is believed only as far as the file goes: memory is taken for it.
        if at + header.block_bytes() > self.file.length().map_err(Fault::Io)? {
            return Err(short());
        }
        let mut stored = vec![0; header.stored_bytes as usize];
        self.file.read_at(at + BLOCK_HEADER_BYTES as u64, &mut stored).map_err(Fault::Io)?;
        header.verify(&head, &stored, self.seed).map_err(Fault::at(at))?;
        decode_payload(&header, &stored, payload).map_err(Fault::at(at))?;
        Ok(header)
    }
}
