//! Pages of entries: what `log` and the API show.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use ptr_model::{Change, Operation, OperationCounts, Position, TransactionSummary};

use super::{
    Direction, Log, MAX_PAGE,
    candidates::{Candidates, count},
};
use crate::{
    LogError,
    format::{Glance, Record, RelationId, truncated_relations},
    index::{CHUNK, IndexedTransaction, TableId, names_table},
    segment::RecordCursor,
};

/// Which entries are asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EntryQuery {
    /// Only those of this table, as `schema.table` or as a bare name in any schema.
    pub table: Option<String>,
    /// Only those kinds; all where it is empty.
    pub operations: Vec<Operation>,
    /// Only those after this position.
    pub since: Position,
    /// Only those before this position.
    pub until: Position,
    /// The index of the entry where the page before this one stopped: only those after it, or, backward, only
    /// those before it.
    pub after: Option<u64>,
    /// At most this many, and never more than 1,000.
    pub limit: usize,
    /// Forward, the first entries; backward, the last ones. A page is in the order of history either way.
    pub direction: Direction,
}

/// One entry.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// Its transaction.
    pub transaction: Arc<TransactionSummary>,
    /// How many entries of the log come before it.
    pub index: u64,
    /// What it is.
    pub change: Change,
}

/// Some entries, the newest last.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct EntryPage {
    /// The entries.
    pub entries: Vec<Entry>,
    /// What to give as `after` for the next page; `None` where this one was the last.
    pub next: Option<u64>,
}

impl Log {
    /// A page of entries.
    ///
    /// # Errors
    /// Where the index or a segment cannot be read.
    pub fn entries(&self, query: &EntryQuery) -> Result<EntryPage, LogError> {
        let limit = query.limit.clamp(1, MAX_PAGE);
        let mut collector = Collector {
            log: self,
            query,
            window: entry_window(query),
            // One more than asked for tells whether there is another page.
            wanted: limit + 1,
            found: VecDeque::new(),
            cursor: None,
        };
        collector.collect()?;
        Ok(collector.into_page(limit))
    }

    /// How many entries the query matches in all, `after` and `limit` left aside. Cheap without a table; with
    /// one, transactions at the edges of the range may have to be read.
    ///
    /// # Errors
    /// Where the index or a segment cannot be read.
    pub fn count_entries(&self, query: &EntryQuery) -> Result<u64, LogError> {
        let range = query.since.ordinal..query.until.ordinal;
        if range.is_empty() {
            return Ok(0);
        }
        if query.table.is_none() && query.operations.is_empty() {
            return Ok(query.until.entry_index.saturating_sub(query.since.entry_index));
        }
        let whole = range.start.div_ceil(CHUNK)..range.end / CHUNK;
        if whole.start >= whole.end {
            return self.count_edge(query, range);
        }
        let head = self.count_edge(query, range.start..whole.start * CHUNK)?;
        let tail = self.count_edge(query, whole.end * CHUNK..range.end)?;
        Ok(head + self.count_chunks(query, whole)? + tail)
    }

    /// Of whole chunks, without looking at transactions.
    fn count_chunks(&self, query: &EntryQuery, chunks: Range<u64>) -> Result<u64, LogError> {
        self.inner.index.with(|index| {
            let Some(table) = &query.table else {
                return Ok(count(&index.chunk_counts(chunks, None)?, &query.operations));
            };
            let mut total = 0;
            for id in index.current_names()?.matching(table) {
                total += count(&index.chunk_counts(chunks.clone(), Some(id))?, &query.operations);
            }
            Ok(total)
        })
    }

    /// Of single transactions, whose records are read where they touched other tables too.
    fn count_edge(&self, query: &EntryQuery, range: Range<u64>) -> Result<u64, LogError> {
        let (mut total, mut unclear) = (0, Vec::new());
        self.inner.index.with(|index| {
            let (table, direction) = (query.table.as_deref(), Direction::Forward);
            let mut candidates = Candidates::new(index, range, direction, table, &query.operations)?;
            while let Some(transaction) = candidates.next(index)? {
                if is_wholly_of(&transaction, candidates.tables()) {
                    total += count(&transaction.counts, &query.operations);
                } else {
                    unclear.push(transaction);
                }
            }
            Ok(())
        })?;
        let mut cursor = None;
        for transaction in unclear {
            let mut at = self.cursor_at(&transaction, cursor)?;
            loop {
                match at.advance()? {
                    Glance::Commit => break,
                    seen => total += u64::from(matches(query, &at, seen)?),
                }
            }
            cursor = Some(at);
        }
        Ok(total)
    }
}

/// Whether every entry of a transaction is one of the given tables: it touched no other, and what names no
/// table is none of it.
fn is_wholly_of(transaction: &IndexedTransaction, tables: Option<&[TableId]>) -> bool {
    let OperationCounts { ddl, messages, .. } = transaction.counts;
    tables.is_none_or(|tables| {
        transaction.tables.iter().all(|id| tables.contains(id)) && ddl == 0 && messages == 0
    })
}

/// The entry indexes that can be on the page.
fn entry_window(query: &EntryQuery) -> Range<u64> {
    let (mut start, mut end) = (query.since.entry_index, query.until.entry_index);
    match (query.direction, query.after) {
        (Direction::Forward, Some(after)) => start = start.max(after.saturating_add(1)),
        (Direction::Backward, Some(before)) => end = end.min(before),
        (_, None) => {}
    }
    start..end
}

/// Whether the record at the cursor is an entry that the query asks for.
fn matches(query: &EntryQuery, cursor: &RecordCursor, seen: Glance) -> Result<bool, LogError> {
    let Some(operation) = seen.operation() else { return Ok(false) };
    if !query.operations.is_empty() && !query.operations.contains(&operation) {
        return Ok(false);
    }
    let Some(table) = &query.table else { return Ok(true) };
    let named = |id: RelationId| {
        let relation = cursor.relations().get(id)?;
        Ok(names_table(table, &relation.schema, &relation.name))
    };
    let answer = match seen {
        Glance::Row(_, relation) => named(relation),
        Glance::Truncate => truncated_relations(cursor.record())
            .and_then(|ids| ids.into_iter().map(named).try_fold(false, |any, one| Ok(any | one?))),
        _ => Ok(false),
    };
    answer.map_err(|problem| cursor.block_error(problem))
}

/// Gathers one page.
struct Collector<'q> {
    log: &'q Log,
    query: &'q EntryQuery,
    /// The entry indexes that can be on the page.
    window: Range<u64>,
    wanted: usize,
    found: VecDeque<Entry>,
    cursor: Option<RecordCursor>,
}

impl Collector<'_> {
    fn collect(&mut self) -> Result<(), LogError> {
        if self.window.is_empty() {
            return Ok(());
        }
        let (index, query) = (&self.log.inner.index, self.query);
        let mut candidates = index.with(|index| {
            let head = index.head()?.ordinal;
            // Transactions that end before the window begins, and those that begin after it.
            let first = index.partition(head, |transaction| transaction.end_entry() <= self.window.start)?;
            let end = index.partition(head, |transaction| transaction.first_entry < self.window.end)?;
            let range = first.max(query.since.ordinal)..end.min(query.until.ordinal);
            Candidates::new(index, range, query.direction, query.table.as_deref(), &query.operations)
        })?;
        while self.found.len() < self.wanted {
            let next = index.with(|index| {
                let Some(transaction) = candidates.next(index)? else { return Ok(None) };
                let summary = index.summary(&transaction)?;
                Ok(Some((transaction, Arc::new(summary))))
            })?;
            let Some((transaction, summary)) = next else { break };
            self.read_transaction(&transaction, &summary)?;
        }
        Ok(())
    }

    fn read_transaction(
        &mut self,
        transaction: &IndexedTransaction,
        summary: &Arc<TransactionSummary>,
    ) -> Result<(), LogError> {
        match self.query.direction {
            Direction::Forward => {
                let end = self.window.end.min(transaction.end_entry());
                let room = self.wanted - self.found.len();
                let found = self.read_part(transaction, summary, self.window.start..end, room)?;
                self.found.extend(found);
            }
            Direction::Backward => self.read_backward(transaction, summary)?,
        }
        Ok(())
    }

    /// Reads a transaction from its end in parts that double, so that the last entries of a long one do not
    /// cost reading all of it.
    fn read_backward(
        &mut self,
        transaction: &IndexedTransaction,
        summary: &Arc<TransactionSummary>,
    ) -> Result<(), LogError> {
        let start = self.window.start.max(transaction.first_entry);
        let mut end = self.window.end.min(transaction.end_entry());
        let mut part = 2 * MAX_PAGE as u64;
        while start < end && self.found.len() < self.wanted {
            let from = end.saturating_sub(part).max(start);
            let room = self.wanted - self.found.len();
            let found = self.read_part(transaction, summary, from..end, usize::MAX)?;
            for entry in found.into_iter().rev().take(room) {
                self.found.push_front(entry);
            }
            (end, part) = (from, part * 2);
        }
        Ok(())
    }

    /// The matching entries of a transaction with an index in `part`, at most `room`, the last ones where there
    /// is no limit to read but one to keep.
    fn read_part(
        &mut self,
        transaction: &IndexedTransaction,
        summary: &Arc<TransactionSummary>,
        part: Range<u64>,
        room: usize,
    ) -> Result<VecDeque<Entry>, LogError> {
        let place = transaction.place;
        let mut cursor = self.log.cursor_in(place.segment, self.cursor.take())?;
        let within = place.logical..place.logical + place.bytes;
        let mut index = cursor.seek_entry(part.start, transaction.first_entry, within)?;
        let mut found = VecDeque::new();
        while index < part.end && found.len() < room {
            let seen = cursor.advance()?;
            if seen == Glance::Commit {
                return Err(cursor.contradiction("a transaction has fewer entries than the index says"));
            }
            if part.contains(&index) && matches(self.query, &cursor, seen)? {
                if let Record::Change(change) = cursor.decode()? {
                    found.push_back(Entry { transaction: Arc::clone(summary), index, change });
                }
                if found.len() > self.wanted && room == usize::MAX {
                    found.pop_front();
                }
            }
            index += u64::from(seen.operation().is_some());
        }
        self.cursor = Some(cursor);
        Ok(found)
    }

    fn into_page(self, limit: usize) -> EntryPage {
        let more = self.found.len() > limit;
        let mut entries = Vec::from(self.found);
        let next = match self.query.direction {
            Direction::Forward => {
                entries.truncate(limit);
                entries.last()
            }
            Direction::Backward => {
                entries.drain(..entries.len().saturating_sub(limit));
                entries.first()
            }
        };
        let next = next.map(|entry| entry.index).filter(|_| more);
        EntryPage { entries, next }
    }
}
