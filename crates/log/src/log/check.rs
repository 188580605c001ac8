//! Reading every byte of a log to see whether it still is what was written.

use std::sync::Arc;

use ptr_model::Position;

use super::Log;
use crate::{
    Damage, LogError,
    format::FormatError,
    segment::{self, Depth, Scanner, SegmentFile},
};

/// What a check found.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// Transactions that were read whole.
    pub transactions: u64,
    /// Segments that were read.
    pub segments: u64,
    /// Where bytes are not what was written, by position.
    pub damages: Vec<Damage>,
    /// What is wrong with the index, which can be rebuilt.
    pub index_problems: Vec<String>,
}

impl CheckReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damages.is_empty() && self.index_problems.is_empty()
    }
}

impl Log {
    /// Reads every byte of every segment, decodes every value, and compares the index with what was found.
    /// What the writer has appended but not acknowledged yet is left aside.
    ///
    /// # Errors
    /// Where a file cannot be read at all; damage is in the report.
    pub fn check(&self) -> Result<CheckReport, LogError> {
        let mut report = CheckReport::default();
        // The head first: what comes later must all be there.
        let head = self.head()?;
        let directory = self.inner.layout.segments();
        let segments = self.segment_ordinals()?;
        let mut expected = self.creation();
        for (number, first_ordinal) in segments.iter().enumerate() {
            let next = segments.get(number + 1).copied();
            if let Err(error) = self.check_segment(*first_ordinal, next, head, &mut expected, &mut report) {
                let LogError::Damaged(damage) = error else { return Err(error) };
                report.damages.push(damage);
                // What lies behind is judged by its own beginning.
                expected = next.map_or(Ok(head), |ordinal| self.position_at(ordinal)).unwrap_or(head);
            }
            report.segments += 1;
        }
        if expected < head {
            report.damages.push(missing(directory, 0, expected.ordinal, head.ordinal));
        }
        report.index_problems.extend(self.inner.index.with(|index| index.integrity())?);
        Ok(report)
    }

    fn check_segment(
        &self,
        first_ordinal: u64,
        next: Option<u64>,
        head: Position,
        expected: &mut Position,
        report: &mut CheckReport,
    ) -> Result<(), LogError> {
        let (disk, directory) = (&self.inner.disk, self.inner.layout.segments());
        let segment = Arc::new(SegmentFile::open(disk, &directory, first_ordinal, self.identity())?);
        if segment.header().start != *expected {
            let damage = missing(segment.path().to_owned(), 0, expected.ordinal, first_ordinal);
            report.damages.push(damage);
        }
        let mut scanner = Scanner::new(&segment, Depth::Decode)?;
        loop {
            let at = scanner.settled().position.ordinal;
            // Behind the head that was read first, the writer may just be writing.
            if next.is_none() && at >= head.ordinal {
                break;
            }
            let lost = (at, next.or(Some(head.ordinal)));
            let read = scanner.next_transaction().map_err(|fault| fault.into_error(segment.path(), lost))?;
            let Some(transaction) = read else { break };
            report.transactions += 1;
            self.compare(&transaction, first_ordinal, report)?;
        }
        let settled = scanner.settled();
        *expected = settled.position;
        if let Some(footer) = segment.footer()
            && (footer.end != settled.position || footer.logical_end != settled.logical_end)
        {
            let problem = FormatError::Contradiction("the footer says another end than its blocks have");
            let path = segment.path().to_owned();
            return Err(Damage {
                path,
                offset: segment.blocks_end()?,
                problem,
                lost: (settled.position.ordinal, next),
            }
            .into());
        }
        let end = next.unwrap_or(head.ordinal);
        if settled.position.ordinal < end {
            return Err(
                missing(segment.path().to_owned(), settled.file_end, settled.position.ordinal, end).into()
            );
        }
        Ok(())
    }

    /// Compares one transaction with its row in the index.
    fn compare(
        &self,
        found: &segment::ScannedTransaction,
        first_ordinal: u64,
        report: &mut CheckReport,
    ) -> Result<(), LogError> {
        let known = self.inner.index.with(|index| index.transaction(found.ordinal))?;
        let same = known.is_some_and(|known| {
            known.header == found.header
                && known.counts == found.counts
                && known.first_entry == found.first_entry
                && known.has_gap == found.has_gap
                && (known.place.segment, known.place.logical, known.place.bytes)
                    == (first_ordinal, found.logical, found.bytes)
        });
        if !same && report.index_problems.len() < 100 {
            report
                .index_problems
                .push(format!("transaction {} is not in the index as it is in the log", found.ordinal));
        }
        Ok(())
    }
}

fn missing(path: std::path::PathBuf, offset: u64, from: u64, to: u64) -> Damage {
    let problem = FormatError::Short("the history: the index knows more of it");
    Damage { path, offset, problem, lost: (from, Some(to)) }
}
