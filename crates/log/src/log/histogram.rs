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
            let range = range.start..range.end.min(index.head()?.ordinal);
            if range.is_empty() || buckets == 0 {
                return Ok(Vec::new());
            }
            let starts = match axis {
                Axis::Transactions => by_transactions(index, &range, buckets as u64)?,
                Axis::Time => by_time(index, &range, i64::try_from(buckets).unwrap_or(i64::MAX))?,
            };
            let ends = starts.iter().skip(1).map(|(start, _)| *start).chain([range.end]);
            let parts = starts.iter().zip(ends);
            parts.map(|(&(start, time), end)| bucket(index, start..end, time)).collect()
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

fn by_time(index: &IndexReader<'_>, range: &Range<u64>, buckets: i64) -> rusqlite::Result<Starts> {
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
        let before = index.last_by_time(Timestamp(time.0 - 1))?.map_or(0, |ordinal| ordinal + 1);
        let previous = starts.last().map_or(range.start, |(start, _)| *start);
        starts.push((before.clamp(previous, range.end), time));
    }
    Ok(starts)
}

fn time_of(index: &IndexReader<'_>, ordinal: u64) -> rusqlite::Result<Timestamp> {
    let transaction = index.transaction(ordinal)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    Ok(transaction.header.commit_time)
}

fn bucket(index: &IndexReader<'_>, range: Range<u64>, time: Timestamp) -> rusqlite::Result<Bucket> {
    let since = index.position_at(range.start)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    let transactions = range.end - range.start;
    Ok(Bucket { since, time, transactions, counts: counts(index, range)? })
}

/// Entries of a range by kind: whole chunks from their totals, the rest transaction by transaction.
fn counts(index: &IndexReader<'_>, range: Range<u64>) -> rusqlite::Result<OperationCounts> {
    let chunks = range.start.div_ceil(CHUNK)..range.end / CHUNK;
    if chunks.start >= chunks.end {
        return index.transaction_counts(range);
    }
    let mut sum = index.chunk_counts(chunks.clone(), None)?;
    add_counts(&mut sum, &index.transaction_counts(range.start..chunks.start * CHUNK)?);
    add_counts(&mut sum, &index.transaction_counts(chunks.end * CHUNK..range.end)?);
    Ok(sum)
}
