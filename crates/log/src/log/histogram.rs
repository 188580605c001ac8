//! Entries over the course of the log, for a timeline: counted from the index alone, whole chunks at a time.

use std::ops::Range;

use ptr_model::{OperationCounts, Position, Timestamp};

use super::Log;
use crate::{
    LogError,
    index::{CHUNK, IndexReader, add_counts},
};

/// What a histogram's buckets are equal parts of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Axis {
    /// Of the transactions. Buckets of more than one chunk of the index begin where a chunk does, so the first
    /// and the last one may be smaller, and there may be one more than was asked for.
    #[default]
    Transactions,
    /// Of the time from the first commit to the last.
    Time,
}

/// A part of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bucket {
    /// The position that it begins at. It ends where the next one begins.
    pub since: Position,
    /// When it begins; on an axis of transactions, when the first of them committed.
    pub time: Timestamp,
    /// Its transactions.
    pub transactions: u64,
    /// Their entries.
    pub counts: OperationCounts,
}

impl Log {
    /// The transactions of a range of ordinals in about so many buckets, in log order, none where the range is
    /// empty. A bucket of an axis of time may be empty; it goes from the position that its first moment means
    /// to the one that the next bucket's means.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn histogram(&self, range: Range<u64>, axis: Axis, buckets: usize) -> Result<Vec<Bucket>, LogError> {
        self.inner.index.with(|index| {
            let head = index.head()?.ordinal;
            let range = range.start..range.end.min(head);
            if range.is_empty() || buckets == 0 {
                return Ok(Vec::new());
            }
            let chunks = Chunks::load(index, head)?;
            let starts = match axis {
                Axis::Transactions => by_transactions(index, &range, buckets as u64)?,
                Axis::Time => by_time(index, &chunks, &range, i64::try_from(buckets).unwrap_or(i64::MAX))?,
            };
            let ends = starts.iter().skip(1).map(|(start, _)| *start).chain([range.end]);
            let mut before = chunks.before(index, range.start)?;
            let mut made = Vec::with_capacity(starts.len());
            for (&(start, time), end) in starts.iter().zip(ends) {
                let after = chunks.before(index, end)?;
                let since = index.position_at(start)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
                let counts = difference(&after, &before);
                made.push(Bucket { since, time, transactions: end - start, counts });
                before = after;
            }
            Ok(made)
        })
    }
}

/// Where each bucket begins, and when.
type Starts = Vec<(u64, Timestamp)>;

fn by_transactions(index: &IndexReader<'_>, range: &Range<u64>, buckets: u64) -> rusqlite::Result<Starts> {
    let mut width = (range.end - range.start).div_ceil(buckets);
    let mut next = range.start + width;
    if width > CHUNK {
        width = width.next_multiple_of(CHUNK);
        next = (range.start + width) / CHUNK * CHUNK;
    }
    let mut starts = vec![(range.start, time_of(index, range.start)?)];
    while next < range.end {
        starts.push((next, time_of(index, next)?));
        next += width;
    }
    Ok(starts)
}

fn by_time(
    index: &IndexReader<'_>,
    chunks: &Chunks,
    range: &Range<u64>,
    buckets: i64,
) -> rusqlite::Result<Starts> {
    let (first, last) = (time_of(index, range.start)?, time_of(index, range.end - 1)?);
    // One microsecond more, so that the last commit is in the last bucket and not after it.
    let span = last.0.saturating_sub(first.0).max(0).saturating_add(1);
    let width = (span / buckets + i64::from(span % buckets != 0)).max(1);
    let mut starts = vec![(range.start, first)];
    for number in 1..buckets {
        let time = Timestamp(first.0.saturating_add(width.saturating_mul(number)));
        if time > last {
            break;
        }
        let before = match chunks.last_begun_by(Timestamp(time.0 - 1)) {
            Some(chunk) => index.last_by_time_in(chunk, Timestamp(time.0 - 1))?.map_or(0, |last| last + 1),
            None => 0,
        };
        let previous = starts.last().map_or(range.start, |(start, _)| *start);
        starts.push((before.clamp(previous, range.end), time));
    }
    Ok(starts)
}

fn time_of(index: &IndexReader<'_>, ordinal: u64) -> rusqlite::Result<Timestamp> {
    let transaction = index.transaction(ordinal)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    Ok(transaction.header.commit_time)
}

/// What the index knows of its chunks, read once.
struct Chunks {
    /// The first of them.
    first: u64,
    /// The earliest commit time of each chunk and all after it: it never decreases.
    begun: Vec<Timestamp>,
    /// Entries of all chunks before each, and of all at the end.
    sums: Vec<OperationCounts>,
    /// Chunks that are full, so that their totals stay.
    full: u64,
}

impl Chunks {
    fn load(index: &IndexReader<'_>, head: u64) -> rusqlite::Result<Self> {
        let (mut begun, mut sums) = (Vec::new(), vec![OperationCounts::default()]);
        for (time, counts) in index.chunks()? {
            let mut sum = sums[begun.len()];
            add_counts(&mut sum, &counts);
            sums.push(sum);
            begun.push(time);
        }
        for place in (1..begun.len()).rev() {
            begun[place - 1] = begun[place - 1].min(begun[place]);
        }
        Ok(Self { first: index.start()?.ordinal / CHUNK, begun, sums, full: head / CHUNK })
    }

    /// The last chunk with a transaction that committed at or before a time.
    fn last_begun_by(&self, time: Timestamp) -> Option<u64> {
        let count = self.begun.partition_point(|begun| *begun <= time);
        count.checked_sub(1).map(|last| self.first + last as u64)
    }

    /// Entries of all transactions before one: whole chunks, and what is left from the nearer end of its chunk.
    fn before(&self, index: &IndexReader<'_>, ordinal: u64) -> rusqlite::Result<OperationCounts> {
        let chunk = ordinal / CHUNK;
        let place = usize::try_from(chunk - self.first).unwrap_or(usize::MAX);
        let sum = |place: usize| self.sums.get(place).copied().ok_or(rusqlite::Error::QueryReturnedNoRows);
        let (first, end) = (chunk * CHUNK, (chunk + 1) * CHUNK);
        if chunk < self.full && ordinal - first > CHUNK / 2 {
            return Ok(difference(&sum(place + 1)?, &index.transaction_counts(ordinal..end)?));
        }
        let mut counts = sum(place)?;
        if ordinal > first {
            add_counts(&mut counts, &index.transaction_counts(first..ordinal)?);
        }
        Ok(counts)
    }
}

/// The counts of a part: those of the whole without those of the rest.
fn difference(whole: &OperationCounts, rest: &OperationCounts) -> OperationCounts {
    OperationCounts {
        inserts: whole.inserts - rest.inserts,
        updates: whole.updates - rest.updates,
        deletes: whole.deletes - rest.deletes,
        truncates: whole.truncates - rest.truncates,
        ddl: whole.ddl - rest.ddl,
        messages: whole.messages - rest.messages,
    }
}
