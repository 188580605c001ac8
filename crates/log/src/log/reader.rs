//! Reading transactions in order, in bounded memory: one block and a page of the index.

use std::collections::VecDeque;

use ptr_model::{Change, TransactionSummary};

use super::Log;
use crate::{
    LogError,
    format::{Glance, Record},
    index::{IndexedTransaction, Place},
    segment::RecordCursor,
};

/// Transactions that are asked of the index at a time.
const PAGE: u64 = 256;

/// A step of reading.
#[derive(Clone, PartialEq, Debug)]
pub enum Item {
    /// A transaction begins.
    Begin(TransactionSummary),
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
    page: VecDeque<(TransactionSummary, Place)>,
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
        let Some((summary, place)) = self.page.pop_front() else { return Ok(None) };
        let mut cursor = self.log.cursor_in(place.segment, self.cursor.take())?;
        begin(&mut cursor, place, &summary)?;
        self.cursor = Some(cursor);
        self.inside = Some(Progress { entries: summary.counts.total(), seen: 0 });
        Ok(Some(Item::Begin(summary)))
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
        let (found, summaries) = self.log.inner.index.with(|index| {
            let found = index.range(from, to)?;
            let summaries = index.summaries(&found)?;
            Ok((found, summaries))
        })?;
        if found.len() as u64 != to - from || found.first().is_some_and(|first| first.ordinal != from) {
            return Err(LogError::Refused(format!(
                "the index lacks some of the transactions {from} to {to}"
            )));
        }
        self.page = summaries.into_iter().zip(found.iter().map(|transaction| transaction.place)).collect();
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
fn begin(cursor: &mut RecordCursor, place: Place, summary: &TransactionSummary) -> Result<(), LogError> {
    cursor.seek(place.logical)?;
    let seen = cursor.advance()?;
    let found = if seen == Glance::Begin { Some(cursor.decode()?) } else { None };
    match found {
        Some(Record::Begin(header))
            if header.commit_lsn == summary.header.commit_lsn && header.xid == summary.header.xid =>
        {
            Ok(())
        }
        _ => Err(cursor.contradiction("the transaction that the index knows is not there")),
    }
}
