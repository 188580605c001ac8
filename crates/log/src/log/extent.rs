//! What a range of the log holds, told from the index alone: sums of whole chunks, and what stands in the way of
//! taking it back. The cost does not grow with the range's transactions.

use std::ops::Range;

use ptr_model::{OperationCounts, Timestamp, TransactionSummary};

use super::Log;
use crate::{
    LogError,
    index::{CHUNK, IndexReader, add_counts},
};

/// What a range of transactions holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Extent {
    /// Transactions.
    pub transactions: u64,
    /// Their entries by kind.
    pub counts: OperationCounts,
    /// Transactions that change the schema.
    pub schema_changes: u64,
    /// Bytes of their records, before compression.
    pub bytes: u64,
}

impl Log {
    /// What the transactions of a range of ordinals hold.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn extent(&self, range: Range<u64>) -> Result<Extent, LogError> {
        self.inner.index.with(|index| {
            let range = range.start..range.end.min(index.head()?.ordinal);
            if range.is_empty() {
                return Ok(Extent::default());
            }
            extent(index, &range)
        })
    }

    /// The first transaction of a range that may not be one of mere rows of ordinary size: it changes the schema,
    /// empties tables, has a gap, or has more than a megabyte of records.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn next_barrier(&self, range: Range<u64>) -> Result<Option<TransactionSummary>, LogError> {
        self.inner.index.with(|index| {
            let found = index.next_barrier(&range)?;
            found.map(|transaction| index.summary(&transaction)).transpose()
        })
    }

    /// The ordinal of the first transaction, in log order, that committed at or after a time; `None` where none did.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn first_since(&self, time: Timestamp) -> Result<Option<u64>, LogError> {
        self.inner.index.with(|index| index.first_since(time))
    }

    /// The ordinals of all transactions with schema changes, and the index of each one's first entry, in order.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn schema_changing(&self) -> Result<Vec<(u64, u64)>, LogError> {
        self.inner.index.with(|index| index.schema_changing())
    }
}

/// Whole chunks by their sums, what is left at both ends by its transactions.
fn extent(index: &IndexReader<'_>, range: &Range<u64>) -> rusqlite::Result<Extent> {
    let whole = range.start.div_ceil(CHUNK)..range.end / CHUNK;
    let mut all = Extent {
        transactions: range.end - range.start,
        schema_changes: index.schema_changes_in(range)?,
        ..Extent::default()
    };
    let mut add = |(counts, bytes): (OperationCounts, u64)| {
        add_counts(&mut all.counts, &counts);
        all.bytes += bytes;
    };
    if whole.is_empty() {
        add(index.transaction_sums(range.clone())?);
        return Ok(all);
    }
    add(index.transaction_sums(range.start..whole.start * CHUNK)?);
    add(index.chunk_sums(whole.clone())?);
    add(index.transaction_sums(whole.end * CHUNK..range.end)?);
    Ok(all)
}
