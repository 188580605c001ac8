//! How much is done at a time on the servers, so that memory and connections do not grow with those who ask.
//!
//! A move waits for a place before it connects: of those that read little of the log there may be many, of the others few,
//! because each holds windows of net effect. Who only asks a server something (where a session is, what time it is in
//! the log) waits for a turn. Invariant: nobody who has a turn waits for a place or for another turn.

use std::sync::Arc;

use ptr_replay::plan::Plan;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Moves at a time that read little.
const LIGHT: usize = 8;

/// Moves at a time that read more; each may hold three windows of 24 MB.
const HEAVY: usize = 2;

/// Bytes of the log, before compression, that a light move reads at most. What it holds is a few times as much.
const LIGHT_BYTES: u64 = 4 << 20;

/// Questions at a time, a connection each.
const TURNS: usize = 8;

/// What there is room for.
#[derive(Debug)]
pub(super) struct Lanes {
    light: Arc<Semaphore>,
    heavy: Arc<Semaphore>,
    turns: Semaphore,
}

impl Default for Lanes {
    fn default() -> Self {
        Self {
            light: Arc::new(Semaphore::new(LIGHT)),
            heavy: Arc::new(Semaphore::new(HEAVY)),
            turns: Semaphore::new(TURNS),
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
}

/// Whether a move holds much on its way.
pub(super) fn is_heavy(plan: &Plan) -> bool {
    plan.estimate.bytes > LIGHT_BYTES
}
