//! How long to wait before the next attempt to connect.

use std::time::Duration;

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);

/// Exponential, with jitter so that several listeners of one server do not come back in step.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The delay before the next attempt: between half and all of 100 ms, 200 ms, ... 10 s.
    pub(super) fn next_delay(&mut self) -> Duration {
        let full = SHORTEST.saturating_mul(1 << self.attempts.min(10)).min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        full / 2 + (full / 2).mul_f64(random_fraction())
    }

    /// Attempts since the last success.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// It worked.
    pub(super) fn reset(&mut self) {
        self.attempts = 0;
    }
}

/// Between 0 and 1; 1 where the system has no random numbers, which only makes the wait longer.
fn random_fraction() -> f64 {
    let mut bytes = [0; 4];
    match getrandom::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_ten_seconds_and_start_over_after_a_success() {
        let mut backoff = Backoff::default();
        let delays: Vec<_> = (0..12).map(|_| backoff.next_delay()).collect();
        assert!(delays[0] >= SHORTEST / 2 && delays[0] <= SHORTEST);
        assert!(delays[11] >= LONGEST / 2 && delays[11] <= LONGEST);
        backoff.reset();
        assert!(backoff.next_delay() <= SHORTEST);
    }
}
