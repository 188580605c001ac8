//! Walking over the transactions that may match a filter, whole chunks of others skipped.

use std::{collections::VecDeque, ops::Range};

use ptr_model::{Operation, OperationCounts};

use super::Direction;
use crate::index::{CHUNK, IndexReader, IndexedTransaction, TableId};

/// Transactions of a range that match a table and operations, one after the other.
pub(super) struct Candidates {
    /// What is left of the range.
    range: Range<u64>,
    direction: Direction,
    tables: Option<Vec<TableId>>,
    operations: Vec<Operation>,
    /// Of the chunk that is being gone through.
    found: VecDeque<IndexedTransaction>,
}

impl Candidates {
    pub(super) fn new(
        index: &IndexReader<'_>,
        range: Range<u64>,
        direction: Direction,
        table: Option<&str>,
        operations: &[Operation],
    ) -> rusqlite::Result<Self> {
        let tables = table.map(|text| index.current_names().map(|names| names.matching(text))).transpose()?;
        Ok(Self { range, direction, tables, operations: operations.to_vec(), found: VecDeque::new() })
    }

    /// The tables that the filter's text means; `None` where there is no such filter.
    pub(super) fn tables(&self) -> Option<&[TableId]> {
        self.tables.as_deref()
    }

    pub(super) fn next(&mut self, index: &IndexReader<'_>) -> rusqlite::Result<Option<IndexedTransaction>> {
        loop {
            let found = match self.direction {
                Direction::Forward => self.found.pop_front(),
                Direction::Backward => self.found.pop_back(),
            };
            if found.is_some() {
                return Ok(found);
            }
            if self.range.is_empty() || !self.load_chunk(index)? {
                return Ok(None);
            }
        }
    }

    fn load_chunk(&mut self, index: &IndexReader<'_>) -> rusqlite::Result<bool> {
        let chunks = self.range.start / CHUNK..self.range.end.div_ceil(CHUNK);
        let backward = self.direction == Direction::Backward;
        let Some(chunk) = index.next_chunk(chunks, backward, self.tables.as_deref(), &self.operations)?
        else {
            return Ok(false);
        };
        let first = (chunk * CHUNK).max(self.range.start);
        let end = ((chunk + 1) * CHUNK).min(self.range.end);
        match self.direction {
            Direction::Forward => self.range.start = end,
            Direction::Backward => self.range.end = first,
        }
        let all = index.range(first, end)?;
        self.found = all.into_iter().filter(|transaction| self.matches(transaction)).collect();
        Ok(true)
    }

    fn matches(&self, transaction: &IndexedTransaction) -> bool {
        let of_table = self
            .tables
            .as_ref()
            .is_none_or(|tables| transaction.tables.iter().any(|table| tables.contains(table)));
        of_table && (self.operations.is_empty() || count(&transaction.counts, &self.operations) > 0)
    }
}

/// Entries of the given kinds, of all kinds where none is given.
pub(super) fn count(counts: &OperationCounts, operations: &[Operation]) -> u64 {
    if operations.is_empty() {
        return counts.total();
    }
    let of = |operation: &Operation| match operation {
        Operation::Insert => counts.inserts,
        Operation::Update => counts.updates,
        Operation::Delete => counts.deletes,
        Operation::Truncate => counts.truncates,
        Operation::Ddl => counts.ddl,
        Operation::Message => counts.messages,
    };
    let mut kinds = operations.to_vec();
    kinds.sort_unstable();
    kinds.dedup();
    kinds.iter().map(of).sum()
}
