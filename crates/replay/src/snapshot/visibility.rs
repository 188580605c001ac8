//! Which transactions a snapshot sees, and the position of the log that comes to.

use ptr_log::{Log, LogError, TransactionQuery};
use ptr_model::{Position, TransactionSummary, Xid};

/// Transactions of the log that are looked at at a time.
const PAGE: usize = 1000;

/// Transactions that may commit around a snapshot; with more, another one is quicker than looking at them all.
const WINDOW: u64 = 1_000_000;

/// The transactions that a snapshot sees.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Visibility {
    /// `xmax`: ids from here on are not seen.
    end: u64,
    /// `xip`: those below it that are not seen either. Top-level ids only, as those in the log.
    running: Vec<u64>,
    /// Every id that was given out before the snapshot is below this one.
    given_out: u64,
}

impl Visibility {
    /// Reads PostgreSQL's text of a `pg_snapshot`, `xmin:xmax:xip,...`, and a transaction id that was given out
    /// after it, both with their epoch. `None` where they do not read so.
    #[must_use]
    pub fn parse(snapshot: &str, given_out: &str) -> Option<Self> {
        let mut parts = snapshot.split(':');
        let (_, end, running) = (parts.next()?, parts.next()?, parts.next()?);
        let running = running.split(',').filter(|xid| !xid.is_empty()).map(|xid| xid.parse().ok());
        Some(Self {
            end: end.parse().ok()?,
            running: running.collect::<Option<_>>()?,
            given_out: given_out.parse().ok()?,
        })
    }

    /// Whether a committed transaction is seen. The log has the low 32 bits of its id; the rest is what brings
    /// it nearest to the snapshot. `None` for what is no transaction and changes no row: a message of a user's
    /// that stands alone.
    #[must_use]
    pub fn sees(&self, xid: Xid) -> Option<bool> {
        if xid.0 == 0 {
            return None;
        }
        let full = |epoch: u64| epoch << 32 | u64::from(xid.0);
        let epoch = self.end >> 32;
        let candidates = [epoch.checked_sub(1), Some(epoch), epoch.checked_add(1)];
        let nearest = candidates.into_iter().flatten().map(full).min_by_key(|full| full.abs_diff(self.end));
        nearest.map(|full| full < self.end && !self.running.contains(&full))
    }

    /// The position whose transactions are exactly those that it sees. `None` where there is none.
    ///
    /// `before` is a position of a moment before the snapshot, `after` of one after it, both with every
    /// transaction that was visible then. So what it sees is before `after`. What it does not see is behind
    /// `before`, but for transactions whose commit was written and not yet visible when it was taken: those had
    /// their ids already, so they are looked up one by one.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub fn position_in(
        &self,
        log: &Log,
        before: Position,
        after: Position,
    ) -> Result<Option<Position>, LogError> {
        let begun = self.running.iter().copied().chain(self.end..self.given_out.max(self.end));
        let mut start = before.ordinal;
        for full in begun.take(usize::try_from(WINDOW).unwrap_or(usize::MAX)) {
            // One of an earlier epoch stands far back and lets the snapshot be refused, never wrongly accepted.
            if let Some(found) = log.transaction_of_xid(low(full))? {
                start = start.min(found.ordinal);
            }
        }
        if after.ordinal.saturating_sub(start) > WINDOW {
            return Ok(None);
        }
        let mut end = None;
        while start < after.ordinal {
            let some = page(log, start, after.ordinal)?;
            for transaction in &some {
                match (self.sees(transaction.header.xid), end) {
                    (Some(false), None) => end = Some(transaction.ordinal),
                    (Some(true), Some(_)) => return Ok(None),
                    _ => {}
                }
            }
            let Some(last) = some.last() else { break };
            start = last.ordinal + 1;
        }
        end.map_or(Ok(after), |ordinal| log.position_at(ordinal)).map(Some)
    }
}

/// The part of an id that the log has.
fn low(full: u64) -> Xid {
    Xid(u32::try_from(full & u64::from(u32::MAX)).expect("32 bits"))
}

fn page(log: &Log, since: u64, until: u64) -> Result<Vec<TransactionSummary>, LogError> {
    log.transactions(&TransactionQuery {
        since: Some(since),
        until: Some(until),
        limit: PAGE,
        ..TransactionQuery::default()
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ptr_model::{Change, Message};
    use ptr_testkit::HandwrittenLog;

    use super::*;

    /// A log of transactions with these ids, in this order.
    fn log_of(xids: &[u32]) -> (tempfile::TempDir, Log) {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("log");
        let mut log = HandwrittenLog::begin(&directory, Duration::ZERO);
        for xid in xids {
            let content = bytes::Bytes::from_static(b"x");
            let message = Message { prefix: "of the user".into(), content, transactional: true };
            log.transaction_of(*xid, [Change::Message(message)]);
        }
        log.close();
        let log = Log::open(&directory).unwrap();
        (folder, log)
    }

    /// The ordinal at which a snapshot stands in a log of these ids, `before` of which committed before it.
    fn ordinal(xids: &[u32], snapshot: &str, given_out: &str, before: u64) -> Option<u64> {
        let (_folder, log) = log_of(xids);
        let visibility = Visibility::parse(snapshot, given_out).unwrap();
        let before = log.position_at(before).unwrap();
        visibility.position_in(&log, before, log.head().unwrap()).unwrap().map(|found| found.ordinal)
    }

    #[test]
    fn a_first_part_is_a_position_and_a_gap_is_none() {
        assert_eq!(ordinal(&[8, 9, 11, 12, 16], "10:15:10,12", "16", 0), Some(3));
        assert_eq!(ordinal(&[9, 12, 11], "10:15:10,12", "16", 0), None);
        assert_eq!(ordinal(&[], "10:15:10,12", "16", 0), Some(0));
        assert_eq!(ordinal(&[8, 9], "10:15:", "16", 0), Some(2));
    }

    #[test]
    fn a_commit_that_was_written_and_not_yet_visible_is_found_behind_the_beginning() {
        // 10 is in the log before the snapshot, which does not see it; 11 behind it is seen.
        assert_eq!(ordinal(&[8, 10, 11], "10:15:10", "16", 3), None);
        assert_eq!(ordinal(&[8, 10], "10:15:10", "16", 2), Some(1));
        // 15 had its id and is not among the running ones: nobody above it had ended.
        assert_eq!(ordinal(&[8, 15, 11], "15:15:", "16", 3), None);
        assert_eq!(ordinal(&[8, 15], "15:15:", "16", 2), Some(1));
    }

    #[test]
    fn a_message_that_stands_alone_stands_in_nobodys_way() {
        assert_eq!(ordinal(&[8, 0, 9, 12, 0], "10:10:", "12", 0), Some(3));
    }

    #[test]
    fn transaction_ids_that_wrapped_are_told_apart() {
        let snapshot = Visibility::parse("4294967290:4294967306:", "4294967306").unwrap();
        assert_eq!([u32::MAX, 9, 10].map(|xid| snapshot.sees(Xid(xid)).unwrap()), [true, true, false]);
        assert_eq!(ordinal(&[u32::MAX - 1, 3, 9, 10], "4294967290:4294967306:", "4294967306", 0), Some(3));
    }

    #[test]
    fn what_is_no_snapshot_is_refused() {
        for text in ["", "1", "1:x:", "1:2:x"] {
            assert_eq!(Visibility::parse(text, "2"), None, "{text:?}");
        }
        assert_eq!(Visibility::parse("1:2:", ""), None);
    }
}
