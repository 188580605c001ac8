//! Walking over the blocks of a segment from one to the next, every checksum compared.

use std::io;

use super::Fault;
use crate::{
    disk::DiskFile,
    format::{BLOCK_HEADER_BYTES, BLOCK_MARK, BlockHeader, FormatError},
};

/// Read at once; blocks are smaller than this unless a record is larger.
const WINDOW_BYTES: usize = 1 << 20;

/// Steps over blocks, holding a window of the file in memory.
pub(crate) struct Walker<'f> {
    file: &'f dyn DiskFile,
    seed: u32,
    /// Where the next block begins.
    at: u64,
    /// Where blocks end: the file's end, or the footer of a sealed segment.
    end: u64,
    window: Vec<u8>,
    window_start: u64,
}

/// A block whose checksum holds.
pub(crate) struct WalkedBlock<'w> {
    pub(crate) header: BlockHeader,
    /// Offset of the block in the file.
    pub(crate) file_offset: u64,
    /// The payload as it is stored.
    pub(crate) stored: &'w [u8],
}

impl<'f> Walker<'f> {
    pub(crate) fn new(file: &'f dyn DiskFile, seed: u32, from: u64, end: u64) -> Self {
        Self { file, seed, at: from, end, window: Vec::new(), window_start: 0 }
    }

    /// Where the next block begins.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// The next block, `None` exactly at the end.
    pub(crate) fn next_block(&mut self) -> Result<Option<WalkedBlock<'_>>, Fault> {
        if self.at == self.end {
            return Ok(None);
        }
        let file_offset = self.at;
        let header = self.verified_header(file_offset)?;
        self.at = file_offset + header.block_bytes();
        let start = file_offset + BLOCK_HEADER_BYTES as u64;
        let stored = self.bytes(start, header.stored_bytes as usize)?;
        Ok(Some(WalkedBlock { header, file_offset, stored }))
    }

    /// The header of the block at `offset`, after comparing its checksum.
    fn verified_header(&mut self, offset: u64) -> Result<BlockHeader, Fault> {
        let seed = self.seed;
        let mut head = [0; BLOCK_HEADER_BYTES];
        head.copy_from_slice(self.bytes(offset, BLOCK_HEADER_BYTES)?);
        let header = BlockHeader::decode(&head).map_err(Fault::at(offset))?;
        let payload = self.bytes(offset + BLOCK_HEADER_BYTES as u64, header.stored_bytes as usize);
        let payload = payload.map_err(|fault| match fault {
            Fault::Format { problem, .. } => Fault::Format { offset, problem },
            Fault::Io(error) => Fault::Io(error),
        })?;
        header.verify(&head, payload, seed).map_err(Fault::at(offset))?;
        Ok(header)
    }

    /// Bytes of the file, from the window, which moves where needed.
    fn bytes(&mut self, offset: u64, length: usize) -> Result<&[u8], Fault> {
        if self.end.saturating_sub(offset) < length as u64 {
            return Err(Fault::Format { offset, problem: FormatError::Short("a block") });
        }
        let window_end = self.window_start + self.window.len() as u64;
        if offset < self.window_start || offset + length as u64 > window_end {
            self.fill(offset, length).map_err(Fault::Io)?;
        }
        let skipped = usize::try_from(offset - self.window_start).expect("the window is in memory");
        let taken = self.window.get(skipped..skipped + length);
        taken.ok_or(Fault::Format { offset, problem: FormatError::Short("a block") })
    }

    fn fill(&mut self, offset: u64, length: usize) -> io::Result<()> {
        let wanted = length.max(WINDOW_BYTES);
        let left = usize::try_from(self.end - offset).unwrap_or(usize::MAX);
        self.window.resize(wanted.min(left), 0);
        let filled = self.file.read_at(offset, &mut self.window)?;
        self.window.truncate(filled);
        self.window_start = offset;
        Ok(())
    }
}

/// Looks for proof that bytes which cannot be read from `offset` on were once durable: a later block that holds
/// and was written when they were, or a block right there whose checksum holds and whose content does not. The
/// offset of the proof is given. Without proof the bytes are a torn tail: nothing of them was ever acknowledged.
pub(crate) fn proof_of_damage(
    file: &dyn DiskFile,
    seed: u32,
    offset: u64,
    end: u64,
) -> Result<Option<u64>, io::Error> {
    let mut walker = Walker::new(file, seed, offset, end);
    let mut at = offset;
    while at + BLOCK_HEADER_BYTES as u64 <= end {
        let Some(candidate) = find_mark(&mut walker, at)? else { return Ok(None) };
        match walker.verified_header(candidate) {
            Ok(header) if candidate == offset || header.facts.synced > offset => return Ok(Some(candidate)),
            Ok(_) | Err(Fault::Format { .. }) => {}
            Err(Fault::Io(error)) => return Err(error),
        }
        at = candidate + 1;
    }
    Ok(None)
}

fn find_mark(walker: &mut Walker<'_>, mut at: u64) -> io::Result<Option<u64>> {
    loop {
        let length = usize::try_from(walker.end.saturating_sub(at)).unwrap_or(usize::MAX).min(WINDOW_BYTES);
        if length < BLOCK_MARK.len() {
            return Ok(None);
        }
        let bytes = match walker.bytes(at, length) {
            Ok(bytes) => bytes,
            Err(Fault::Io(error)) => return Err(error),
            Err(Fault::Format { .. }) => return Ok(None),
        };
        if let Some(found) = bytes.windows(BLOCK_MARK.len()).position(|window| window == BLOCK_MARK) {
            return Ok(Some(at + found as u64));
        }
        at += (length - BLOCK_MARK.len() + 1) as u64;
    }
}
