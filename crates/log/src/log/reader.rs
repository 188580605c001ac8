//! Reading transactions in order, in bounded memory: one block and a page of the index.

use std::collections::VecDeque;

use ptr_model::{Change, Position, TransactionHeader};

use super::Log;
use crate::{
    LogError,
    format::{Glance, Record},
    index::{IndexedOutline, IndexedTransaction},
    segment::RecordCursor,
};

/// Transactions that are asked of the index at a time.
const PAGE: u64 = 1024;

/// What is known of a transaction before its changes are read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outline {
    /// What is known of it beside its changes.
    pub header: TransactionHeader,
    /// How many transactions of the log come before it.
    pub ordinal: u64,
    /// The index of its first entry.
    pub first_entry: u64,
    /// How many entries it has.
    pub entries: u64,
    /// Whether one of them changes the schema.
    pub changes_schema: bool,
    /// Whether its end is a position that replay must stop at: it holds a [`ptr_model::Gap`].
    pub has_gap: bool,
}

impl Outline {
    /// The position just after it.
    #[must_use]
    pub fn after(&self) -> Position {
        Position {
            ordinal: self.ordinal + 1,
            lsn: self.header.end_lsn,
            entry_index: self.first_entry + self.entries,
        }
    }
}

/// A step of reading.
#[derive(Clone, PartialEq, Debug)]
pub enum Item {
    /// A transaction begins.
    Begin(Outline),
    /// It does something.
    Change(Change),
    /// It has ended.
    Commit,
}

/// Yields the transactions of a range, step by step. It stays usable while the log grows and while its
/// segments are sealed. After an error it yields nothing more.
pub struct Reader {
    log: Log,
    next: u64,
    end: u64,
    page: VecDeque<IndexedOutline>,
    cursor: Option<RecordCursor>,
    /// Entries that the transaction being read still has, and that were counted.
    inside: Option<Progress>,
}

struct Progress {
    entries: u64,
    seen: u64,
}

impl Reader {
    pub(super) fn new(log: Log, from: u64, to: u64) -> Self {
        Self { log, next: from, end: to, page: VecDeque::new(), cursor: None, inside: None }
    }

    fn step(&mut self) -> Result<Option<Item>, LogError> {
        if self.inside.is_some() {
            return self.step_inside().map(Some);
        }
        if self.page.is_empty() && self.next < self.end {
            self.load_page()?;
        }
        let Some(indexed) = self.page.pop_front() else { return Ok(None) };
        let mut cursor = self.log.cursor_in(indexed.segment, self.cursor.take())?;
        let header = begin(&mut cursor, &indexed)?;
        self.cursor = Some(cursor);
        self.inside = Some(Progress { entries: indexed.entries, seen: 0 });
        Ok(Some(Item::Begin(Outline {
            header,
            ordinal: indexed.ordinal,
            first_entry: indexed.first_entry,
            entries: indexed.entries,
            changes_schema: indexed.changes_schema,
            has_gap: indexed.has_gap,
        })))
    }

    fn step_inside(&mut self) -> Result<Item, LogError> {
        let (Some(cursor), Some(progress)) = (&mut self.cursor, &mut self.inside) else {
            return Err(LogError::Refused("a reader is read on after its end".to_owned()));
        };
        cursor.advance()?;
        match cursor.decode()? {
            Record::Change(change) => {
                progress.seen += u64::from(change.operation().is_some());
                Ok(Item::Change(change))
            }
            Record::Commit { entries, .. } if entries == progress.seen && entries == progress.entries => {
                self.inside = None;
                Ok(Item::Commit)
            }
            Record::Commit { .. } => {
                Err(cursor.contradiction("a transaction has another number of entries than it should"))
            }
            Record::Begin(_) => Err(cursor.contradiction("a transaction begins inside another")),
        }
    }

    fn load_page(&mut self) -> Result<(), LogError> {
        let (from, to) = (self.next, self.end.min(self.next + PAGE));
        let found = self.log.inner.index.with(|index| index.outlines(from, to))?;
        if found.len() as u64 != to - from || found.first().is_some_and(|first| first.ordinal != from) {
            return Err(LogError::Refused(format!(
                "the index lacks some of the transactions {from} to {to}"
            )));
        }
        self.page = found.into();
        self.next = to;
        Ok(())
    }
}

impl Iterator for Reader {
    type Item = Result<Item, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.next = self.end;
            self.page.clear();
            (self.cursor, self.inside) = (None, None);
        }
        step.transpose()
    }
}

impl Log {
    /// A cursor in the given segment: the one that is at hand, if it is in that segment.
    pub(super) fn cursor_in(
        &self,
        segment: u64,
        at_hand: Option<RecordCursor>,
    ) -> Result<RecordCursor, LogError> {
        match at_hand.filter(|cursor| cursor.segment_ordinal() == segment) {
            Some(cursor) => Ok(cursor),
            None => Ok(RecordCursor::new(self.segment(segment)?)),
        }
    }

    /// A cursor just after the BEGIN of a transaction.
    pub(super) fn cursor_at(
        &self,
        transaction: &IndexedTransaction,
        at_hand: Option<RecordCursor>,
    ) -> Result<RecordCursor, LogError> {
        let mut cursor = self.cursor_in(transaction.place.segment, at_hand)?;
        cursor.seek(transaction.place.logical)?;
        Ok(cursor)
    }
}

/// Reads a transaction's BEGIN and compares it with what the index says.
fn begin(cursor: &mut RecordCursor, indexed: &IndexedOutline) -> Result<TransactionHeader, LogError> {
    cursor.seek(indexed.logical)?;
    let seen = cursor.advance()?;
    let found = if seen == Glance::Begin { Some(cursor.decode()?) } else { None };
    match found {
        Some(Record::Begin(header)) if header.commit_lsn == indexed.commit_lsn => {
            Ok(TransactionHeader { end_lsn: indexed.end_lsn, ..header })
        }
        _ => Err(cursor.contradiction("the transaction that the index knows is not there")),
    }
}
