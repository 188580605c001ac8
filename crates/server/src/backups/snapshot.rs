//! Which position of the log a snapshot of the primary shows.
//!
//! The order in which commits become visible is not the order in which they are in the WAL, so a snapshot need
//! not match any position. It does where the transactions that it sees are a prefix of the log; else another
//! snapshot is taken.

/// The transactions that a snapshot sees, from `pg_current_snapshot()`: `xmin:xmax:xip,...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Visibility {
    next: u64,
    running: Vec<u64>,
}

impl Visibility {
    /// Reads PostgreSQL's text of a `pg_snapshot`; `None` where it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (_, next, running) = (parts.next()?, parts.next()?, parts.next()?);
        let running = running.split(',').filter(|xid| !xid.is_empty()).map(|xid| xid.parse().ok());
        Some(Self { next: next.parse().ok()?, running: running.collect::<Option<_>>()? })
    }

    /// Whether a committed transaction is seen. The log has the low 32 bits of its id; the rest is what brings
    /// it nearest to the snapshot.
    pub(super) fn sees(&self, xid: u32) -> bool {
        let epoch = self.next >> 32;
        let full = |epoch: u64| epoch << 32 | u64::from(xid);
        let distance = |full: &u64| full.abs_diff(self.next);
        let candidates = [epoch.checked_sub(1), Some(epoch), epoch.checked_add(1)];
        let nearest =
            candidates.into_iter().flatten().map(full).min_by_key(distance).unwrap_or_else(|| full(epoch));
        nearest < self.next && !self.running.contains(&nearest)
    }

    /// How many of these transactions, in log order, it sees; `None` where they are no prefix.
    pub(super) fn prefix(&self, xids: &[u32]) -> Option<usize> {
        let seen = xids.iter().take_while(|xid| self.sees(**xid)).count();
        xids[seen..].iter().all(|xid| !self.sees(*xid)).then_some(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_position_and_a_gap_is_none() {
        let snapshot = Visibility::parse("10:15:10,12").unwrap();
        assert_eq!(snapshot.prefix(&[8, 9, 11, 12, 16]), Some(3));
        assert_eq!(snapshot.prefix(&[9, 12, 11]), None);
        assert_eq!(snapshot.prefix(&[]), Some(0));
    }

    #[test]
    fn transaction_ids_that_wrapped_are_told_apart() {
        let snapshot = Visibility::parse("4294967290:4294967306:").unwrap();
        assert!(snapshot.sees(u32::MAX) && snapshot.sees(9));
        assert!(!snapshot.sees(10));
    }

    #[test]
    fn what_is_no_snapshot_is_refused() {
        for text in ["", "1", "1:x:", "1:2:x"] {
            assert_eq!(Visibility::parse(text), None, "{text:?}");
        }
    }
}
