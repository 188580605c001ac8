//! Where MIGRATION is: the end of the first run of schema changes.

use std::ops::ControlFlow;

use ptr_model::{Position, Timestamp};

use super::Log;
use crate::LogError;

/// A run of schema changes ends where this long, in microseconds of commit time, none follows.
const QUIET_MICROSECONDS: i64 = 5_000_000;

/// The first run, as far as it was followed.
struct SchemaRun {
    /// Ordinals of checkpoints made by hand, sorted.
    checkpoints: Vec<u64>,
    /// The last transaction of the run and its commit time.
    last: Option<(u64, Timestamp)>,
}

impl SchemaRun {
    fn new(checkpoints: &[Position]) -> Self {
        let mut checkpoints: Vec<u64> = checkpoints.iter().map(|checkpoint| checkpoint.ordinal).collect();
        checkpoints.sort_unstable();
        Self { checkpoints, last: None }
    }

    fn visit(&mut self, ordinal: u64, time: Timestamp) -> ControlFlow<()> {
        if let Some((last, last_time)) = self.last {
            let next = self.checkpoints.partition_point(|checkpoint| *checkpoint <= last);
            let parted = self.checkpoints.get(next).is_some_and(|checkpoint| *checkpoint <= ordinal);
            if time.0.saturating_sub(last_time.0) >= QUIET_MICROSECONDS || parted {
                return ControlFlow::Break(());
            }
        }
        self.last = Some((ordinal, time));
        ControlFlow::Continue(())
    }
}

impl Log {
    /// Where MIGRATION is as long as nobody pinned it: equal to CREATION until the first DDL statement is
    /// captured; then the end of the first run of transactions with DDL, a run ending at the first five seconds
    /// of commit time without one, or at the first checkpoint made by hand.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn migration_position(&self, checkpoints_by_hand: &[Position]) -> Result<Position, LogError> {
        let mut run = SchemaRun::new(checkpoints_by_hand);
        self.inner.index.with(|index| index.schema_changes(|ordinal, time| run.visit(ordinal, time)))?;
        match run.last {
            None => Ok(self.creation()),
            Some((last, _)) => self.position_at(last + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use ptr_model::Lsn;

    use super::*;

    fn last_of(changes: &[(u64, i64)], checkpoints: &[u64]) -> Option<u64> {
        let checkpoints: Vec<Position> = checkpoints
            .iter()
            .map(|ordinal| Position { ordinal: *ordinal, lsn: Lsn(0), entry_index: 0 })
            .collect();
        let mut run = SchemaRun::new(&checkpoints);
        for (ordinal, seconds) in changes {
            if run.visit(*ordinal, Timestamp(seconds * 1_000_000)).is_break() {
                break;
            }
        }
        run.last.map(|(ordinal, _)| ordinal)
    }

    #[test]
    fn a_run_ends_at_five_seconds_without_a_schema_change() {
        assert_eq!(last_of(&[], &[]), None);
        assert_eq!(last_of(&[(3, 0), (4, 4), (9, 8)], &[]), Some(9));
        assert_eq!(last_of(&[(3, 0), (4, 4), (9, 9)], &[]), Some(4));
    }

    #[test]
    fn a_clock_that_went_back_does_not_end_a_run() {
        assert_eq!(last_of(&[(3, 100), (4, 10), (5, 12)], &[]), Some(5));
    }

    #[test]
    fn a_checkpoint_made_by_hand_ends_a_run() {
        assert_eq!(last_of(&[(3, 0), (4, 1)], &[4]), Some(3));
        assert_eq!(last_of(&[(3, 0), (4, 1)], &[0, 3, 5]), Some(4));
    }
}
