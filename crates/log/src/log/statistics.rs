//! How large a log is, and what it is made of.

use ptr_model::OperationCounts;
use serde::{Deserialize, Serialize};

use super::Log;
use crate::{LogError, segment};

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
            Ok(LogStatistics {
                transactions: index.head()?.ordinal,
                counts: index.chunk_counts(0..u64::MAX >> 1, None)?,
                tables: index.table_totals()?,
                raw_bytes: index.raw_bytes()?,
                ..LogStatistics::default()
            })
        })?;
        let (disk, directory) = (&self.inner.disk, self.inner.layout.segments());
        for first_ordinal in segment::list(disk, &directory)? {
            let path = segment::segment_path(&directory, first_ordinal);
            let file = disk.open(&path).map_err(LogError::file("open", &path))?;
            statistics.segment_bytes += file.length().map_err(LogError::file("read the length of", &path))?;
            statistics.segments += 1;
        }
        Ok(statistics)
    }
}
