//! What may pass by itself, and how long it is put up with before capture ends for it.
//!
//! Apart from [`super::error`], because it is what the listener remembers from one attempt to the next.

use std::time::{Duration, Instant};

use ptr_model::Lsn;

/// How long the server may need to notice that a connection of ours is dead (`wal_sender_timeout` is a minute).
const SLOT: Duration = Duration::from_secs(90);
/// How long logins may be refused: a password that is being changed, a directory service that is out of order.
const LOGIN: Duration = Duration::from_secs(60);
/// Between two of them, so that few attempts fill that time: directories lock a role out after some.
pub(super) const LOGIN_PAUSE: Duration = Duration::from_secs(15);
/// How long the server may be out of memory for one and the same change.
const MEMORY: Duration = Duration::from_secs(300);
/// Between two attempts at it, each of which costs the server as much memory again.
pub(super) const MEMORY_PAUSE: Duration = Duration::from_secs(10);
/// However long it took, what was tried less often is tried again.
const ATTEMPTS: u32 = 5;

/// What failed lately, and since when.
#[derive(Debug, Default)]
pub(super) struct Patience {
    slot: Spell,
    login: Spell,
    memory: Spell,
    memory_after: Lsn,
}

/// Failures of one kind, without a success in between.
#[derive(Debug, Default)]
struct Spell {
    since: Option<Instant>,
    times: u32,
}

impl Patience {
    /// Whether to go on waiting for a slot that is in use: usually by a connection of our own that died.
    pub(super) fn with_slot(&mut self, now: Instant) -> bool {
        self.slot.fail(now) < SLOT
    }

    /// Whether to try again after a login was refused.
    pub(super) fn with_login(&mut self, now: Instant) -> bool {
        self.login.fail(now) < LOGIN || self.login.times < ATTEMPTS
    }

    /// Whether to try again after the server ran out of memory at this place.
    pub(super) fn with_memory(&mut self, after: Lsn, now: Instant) -> bool {
        if self.memory_after != after {
            (self.memory, self.memory_after) = (Spell::default(), after);
        }
        self.memory.fail(now) < MEMORY || self.memory.times < ATTEMPTS
    }

    /// A stream began: logins and slot are in order.
    pub(super) fn streams(&mut self) {
        (self.slot, self.login) = (Spell::default(), Spell::default());
    }
}

impl Spell {
    /// Notes a failure; how long they have lasted by now.
    fn fail(&mut self, now: Instant) -> Duration {
        self.times += 1;
        now.saturating_duration_since(*self.since.get_or_insert(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_tried_five_times_within_a_minute_and_anew_after_a_success() {
        let (mut patience, begun) = (Patience::default(), Instant::now());
        for _ in 0..2 {
            for attempt in 0..4 {
                assert!(patience.with_login(begun + attempt * LOGIN_PAUSE), "{attempt}");
            }
            assert!(!patience.with_login(begun + 4 * LOGIN_PAUSE));
            patience.streams();
        }
    }

    #[test]
    fn too_little_memory_ends_capture_only_when_it_stays_at_one_place() {
        let (mut patience, begun) = (Patience::default(), Instant::now());
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        assert!(patience.with_memory(Lsn(1), at(0)) && patience.with_memory(Lsn(1), at(299)));
        // Streams begin in between each time.
        patience.streams();
        assert!(patience.with_memory(Lsn(1), at(300)) && patience.with_memory(Lsn(1), at(301)), "too seldom");
        assert!(patience.with_memory(Lsn(2), at(302)), "another place");
        for second in 303..306 {
            assert!(patience.with_memory(Lsn(2), at(second)));
        }
        assert!(patience.with_memory(Lsn(2), at(600)) && !patience.with_memory(Lsn(2), at(602)));
    }
}
