//! One transaction in parts, for what cannot be held whole.

use std::ops::Range;

use ptr_model::Change;

use super::Log;
use crate::{
    LogError,
    format::{Glance, Record},
    index::IndexedTransaction,
    segment::RecordCursor,
};

/// Yields the changes of one part, decoded, in order. After an error it yields nothing more.
pub struct PartReader {
    cursor: RecordCursor,
    /// The entry that comes next, counted as in a [`ptr_model::Position`].
    next: u64,
    part: Range<u64>,
}

impl Log {
    /// Cuts a transaction into ranges of entry indexes, of which each holds at most `bytes` of records, or a single
    /// entry. Reads it once, without decoding rows.
    ///
    /// # Errors
    /// Where the index or a segment cannot be read.
    pub fn parts(&self, ordinal: u64, bytes: u64) -> Result<Vec<Range<u64>>, LogError> {
        let transaction = self.indexed(ordinal)?;
        let mut cursor = self.cursor_at(&transaction, None)?;
        let mut parts = Vec::new();
        let (mut begin, mut index, mut held) = (transaction.first_entry, transaction.first_entry, 0);
        loop {
            let seen = cursor.advance()?;
            if seen == Glance::Commit {
                break;
            }
            let size = cursor.record().len() as u64;
            if index > begin && held + size > bytes {
                parts.push(begin..index);
                (begin, held) = (index, 0);
            }
            held += size;
            index += u64::from(seen.operation().is_some());
        }
        if begin < index {
            parts.push(begin..index);
        }
        Ok(parts)
    }

    /// Reads the entries of a transaction that have an index in `part`. A long beginning is not read for it.
    ///
    /// # Errors
    /// Where the index or a segment cannot be read.
    pub fn read_part(&self, ordinal: u64, part: Range<u64>) -> Result<PartReader, LogError> {
        let transaction = self.indexed(ordinal)?;
        let place = transaction.place;
        let mut cursor = self.cursor_in(place.segment, None)?;
        let within = place.logical..place.logical + place.bytes;
        let next = cursor.seek_entry(part.start, transaction.first_entry, within)?;
        Ok(PartReader { cursor, next, part })
    }

    fn indexed(&self, ordinal: u64) -> Result<IndexedTransaction, LogError> {
        let found = self.inner.index.with(|index| index.range(ordinal, ordinal + 1))?;
        let missing = || LogError::Refused(format!("the index lacks transaction {ordinal}"));
        found.into_iter().next().ok_or_else(missing)
    }
}

impl PartReader {
    fn step(&mut self) -> Result<Option<Change>, LogError> {
        while self.next < self.part.end {
            let seen = self.cursor.advance()?;
            if seen == Glance::Commit {
                return Err(self.cursor.contradiction("a transaction has fewer entries than the index says"));
            }
            let index = self.next;
            let is_entry = seen.operation().is_some();
            self.next += u64::from(is_entry);
            if is_entry
                && self.part.contains(&index)
                && let Record::Change(change) = self.cursor.decode()?
            {
                return Ok(Some(change));
            }
        }
        Ok(None)
    }
}

impl Iterator for PartReader {
    type Item = Result<Change, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.next = self.part.end;
        }
        step.transpose()
    }
}
