//! How large a log is, and what it is made of.

use ptr_model::OperationCounts;
use serde::{Deserialize, Serialize};

use super::Log;
use crate::{LogError, index::NamedTotals};

/// Totals of a log.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LogStatistics {
    /// Committed transactions.
    pub transactions: u64,
    /// Entries by kind.
    pub counts: OperationCounts,
    /// Entries of each table by kind, by name. A TRUNCATE of several tables counts in each.
    pub tables: Vec<(String, OperationCounts)>,
    /// Bytes of all segments on disk.
    pub segment_bytes: u64,
    /// Bytes of all records, before compression.
    pub raw_bytes: u64,
    /// Segments, the open one included.
    pub segments: u64,
}

impl Log {
    /// Totals, from the index and the segments' sizes.
    ///
    /// # Errors
    /// Where the index or the folder cannot be read.
    pub fn statistics(&self) -> Result<LogStatistics, LogError> {
        let mut statistics = self.inner.index.with(|index| {
            let transactions = index.head()?.ordinal - index.start()?.ordinal;
            let NamedTotals { counts, bytes: raw_bytes, tables } = index.totals()?;
            Ok(LogStatistics { transactions, counts, tables, raw_bytes, ..LogStatistics::default() })
        })?;
        for (_, bytes) in self.segments()? {
            statistics.segment_bytes += bytes;
            statistics.segments += 1;
        }
        Ok(statistics)
    }
}
