//! How much is done at a time on the servers, so that memory and connections do not grow with those who ask.
//!
//! A move waits for a place before it connects: of those that read little of the log there may be many, of the others few,
//! because each holds windows of net effect. Who only asks a server something (where a session is, what time it is in
//! the log) waits for a turn. Invariant: nobody who has a turn waits for a place or for another turn.
//!
//! Who copies or reads whole databases (a backup that is made, restored or verified, a comparison with the primary) waits
//! for a turn of its own, and holds no lock and no connection meanwhile: sessions' locks come after it, and moves, which
//! have those, never wait for it.

use std::{future::Future, sync::Arc};

use ptr_replay::plan::Plan;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::{Service, ServiceError};

/// Moves at a time that read little.
const LIGHT: usize = 8;

/// Moves at a time that read more; each may hold three windows of 24 MB.
const HEAVY: usize = 2;

/// Bytes of the log, before compression, that a light move reads at most. What it holds is a few times as much.
const LIGHT_BYTES: u64 = 4 << 20;

/// Questions at a time, a connection each.
const TURNS: usize = 8;

/// Whole databases that are copied or compared at a time: each has programs of PostgreSQL's at work, connections, and disk.
const COPIES: usize = 2;

/// Those that are, and those that wait for it, which may be told to in the background and are no requests then.
const MOST_WAITING: usize = 64;

/// What there is room for.
#[derive(Debug)]
pub(super) struct Lanes {
    light: Arc<Semaphore>,
    heavy: Arc<Semaphore>,
    turns: Semaphore,
    copies: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Default for Lanes {
    fn default() -> Self {
        Self {
            light: Arc::new(Semaphore::new(LIGHT)),
            heavy: Arc::new(Semaphore::new(HEAVY)),
            turns: Semaphore::new(TURNS),
            copies: Arc::new(Semaphore::new(COPIES)),
            waiting: Arc::new(Semaphore::new(MOST_WAITING)),
        }
    }
}

/// The right to move. The semaphores are never closed, so one is never missing.
pub(super) type OwnedPlace = Option<OwnedSemaphorePermit>;

/// The right to ask, likewise.
pub(super) type Turn<'a> = Option<SemaphorePermit<'a>>;

impl Lanes {
    /// A place for a move that is light, or whose weight is not known yet.
    pub(super) async fn light(&self) -> OwnedPlace {
        Arc::clone(&self.light).acquire_owned().await.ok()
    }

    /// A place for a heavy move, if one is free.
    pub(super) fn heavy_if_free(&self) -> OwnedPlace {
        Arc::clone(&self.heavy).try_acquire_owned().ok()
    }

    /// A place for a heavy move.
    pub(super) async fn heavy(&self) -> OwnedPlace {
        Arc::clone(&self.heavy).acquire_owned().await.ok()
    }

    /// The right to connect to a server for a question.
    pub(super) async fn turn(&self) -> Turn<'_> {
        self.turns.acquire().await.ok()
    }

    fn turn_to_copy(&self) -> Result<impl Future<Output = Copying> + Send + 'static + use<>, ServiceError> {
        let counted = Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| {
            ServiceError::precondition(
                format!(
                    "{MOST_WAITING} backups, restores and verifications go on or wait, and that is the most"
                ),
                "ask again when some of them are done",
            )
        })?;
        let copies = Arc::clone(&self.copies);
        Ok(async move { Copying { _right: copies.acquire_owned().await.ok(), _counted: counted } })
    }
}

/// The right to copy a whole database, and a place among those who do or wait for it.
#[derive(Debug)]
pub(crate) struct Copying {
    _right: OwnedPlace,
    _counted: OwnedSemaphorePermit,
}

impl Service {
    /// Queues up before a whole database is copied; the turn comes in the order in which it was asked for.
    ///
    /// # Errors
    /// Too many wait already.
    pub(crate) fn turn_to_copy(
        &self,
    ) -> Result<impl Future<Output = Copying> + Send + 'static + use<>, ServiceError> {
        self.lanes.turn_to_copy()
    }
}

/// Whether a move holds much on its way.
pub(super) fn is_heavy(plan: &Plan) -> bool {
    plan.estimate.bytes > LIGHT_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn two_copy_at_a_time_in_order_and_more_than_may_wait_are_told_so() {
        let lanes = Lanes::default();
        let mut all: Vec<_> = (0..MOST_WAITING).map(|_| lanes.turn_to_copy().unwrap()).collect();
        let problem = lanes.turn_to_copy().err().unwrap().problem();
        assert!(problem.detail.starts_with("64 backups, restores and verifications"), "{}", problem.detail);
        assert_eq!(problem.hint.as_deref(), Some("ask again when some of them are done"));
        let (first, second, third) = (all.remove(0).await, all.remove(0).await, all.remove(0));
        let mut third = std::pin::pin!(third);
        assert!(futures_util::poll!(third.as_mut()).is_pending());
        drop(first);
        third.await;
        drop((second, all));
        for _ in 0..MOST_WAITING {
            lanes.turn_to_copy().unwrap().await;
        }
    }
}
