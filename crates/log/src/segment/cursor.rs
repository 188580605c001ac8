//! A place among the records of a segment that moves forward, with one block in memory.

use std::{ops::Range, sync::Arc};

use super::{Fault, SegmentFile};
use crate::{
    LogError,
    format::{BlockHeader, FormatError, Glance, Input, Record, RelationMap, decode_record, glance},
};

/// Reads records one after the other.
pub(crate) struct RecordCursor {
    segment: Arc<SegmentFile>,
    relations: RelationMap,
    block: Option<LoadedBlock>,
    payload: Vec<u8>,
    /// The record that was read last, in the payload.
    record: Range<usize>,
}

#[derive(Clone, Copy)]
struct LoadedBlock {
    header: BlockHeader,
    file: u64,
}

impl RecordCursor {
    pub(crate) fn new(segment: Arc<SegmentFile>) -> Self {
        Self { segment, relations: RelationMap::default(), block: None, payload: Vec::new(), record: 0..0 }
    }

    /// The first ordinal of the segment that it reads.
    pub(crate) fn segment_ordinal(&self) -> u64 {
        self.segment.header().start.ordinal
    }

    /// Goes to the record that begins at a logical offset.
    pub(crate) fn seek(&mut self, logical: u64) -> Result<(), LogError> {
        let holds = |block: &LoadedBlock| {
            block.header.facts.logical <= logical && logical < block.header.logical_end()
        };
        let block = match self.block {
            Some(block) if holds(&block) => block,
            _ => self.load(self.segment.locate(logical)?.file)?,
        };
        let within = usize::try_from(logical - block.header.facts.logical).unwrap_or(usize::MAX);
        let at = (block.header.relation_bytes as usize).saturating_add(within).min(self.payload.len());
        self.record = at..at;
        Ok(())
    }

    /// Goes to a record at or before an entry of the transaction whose records are at `within`, and says how
    /// many entries of the log come before that record. Saves reading the beginning of a long transaction.
    pub(crate) fn seek_entry(
        &mut self,
        entry: u64,
        first_entry: u64,
        within: Range<u64>,
    ) -> Result<u64, LogError> {
        let place = self.segment.locate_entry(entry, within.start, within.end)?;
        if place.logical <= within.start {
            self.seek(within.start)?;
            return Ok(first_entry);
        }
        self.seek(place.logical)?;
        Ok(place.first_entry)
    }

    /// Moves to the next record.
    pub(crate) fn advance(&mut self) -> Result<Glance, LogError> {
        if self.record.end == self.payload.len() {
            let block = self.block.ok_or_else(|| self.error(0, FormatError::Short("the segment")))?;
            let next = self.load(block.file + block.header.block_bytes())?;
            let at = next.header.relation_bytes as usize;
            self.record = at..at;
        }
        let start = self.record.end;
        let mut input = Input::new(&self.payload[start..]);
        let seen = glance(&mut input);
        let end = start + input.at();
        let seen = seen.map_err(|problem| self.block_error(problem))?;
        self.record = start..end;
        Ok(seen)
    }

    /// Decodes the record that [`RecordCursor::advance`] moved to.
    pub(crate) fn decode(&self) -> Result<Record, LogError> {
        decode_record(&self.payload[self.record.clone()], &self.relations)
            .map_err(|problem| self.block_error(problem))
    }

    /// The bytes of that record.
    pub(crate) fn record(&self) -> &[u8] {
        &self.payload[self.record.clone()]
    }

    pub(crate) fn relations(&self) -> &RelationMap {
        &self.relations
    }

    fn load(&mut self, file: u64) -> Result<LoadedBlock, LogError> {
        self.block = None;
        let header = self.segment.read_block(file, &mut self.payload).map_err(|fault| self.fault(fault))?;
        let section = &self.payload[..header.relation_bytes as usize];
        let learned = self.relations.learn(section);
        learned.map_err(|problem| self.error(file, problem))?;
        let block = LoadedBlock { header, file };
        self.block = Some(block);
        Ok(block)
    }

    /// The record does not say what the index says of it.
    pub(crate) fn contradiction(&self, problem: &'static str) -> LogError {
        self.block_error(FormatError::Contradiction(problem))
    }

    /// An error at the block in memory.
    pub(crate) fn block_error(&self, problem: FormatError) -> LogError {
        self.error(self.block.map_or(0, |block| block.file), problem)
    }

    fn error(&self, offset: u64, problem: FormatError) -> LogError {
        self.fault(Fault::Format { offset, problem })
    }

    fn fault(&self, fault: Fault) -> LogError {
        let first = self.block.map_or(self.segment_ordinal(), |block| block.header.facts.first_ordinal);
        fault.into_error(self.segment.path(), (first, None))
    }
}
