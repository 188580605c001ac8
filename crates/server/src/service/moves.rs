//! Moves under way: one a session at a time, in any process, told as they go on, and cancelled by request. Between
//! moves a session's connection stays open for a moment, so that the next one need not begin with another.

use std::{
    collections::HashMap,
    fs::File,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ptr_log::{CatalogError, Move, MoveId, MoveOutcome};
use ptr_model::SessionId;
use ptr_replay::navigate::Kept;
use tokio::sync::{OwnedMutexGuard, watch};
use tokio_util::sync::CancellationToken;

use super::{Service, ServiceError, blocking, lock};
use crate::resource::{
    LONGEST_PAGE,
    navigation::{MoveAnswer, MoveQuery, MoveState},
};

/// Which way in the history of moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Back.
    Undo,
    /// Forward again.
    Redo,
}

/// The moves of this process.
#[derive(Default)]
pub(super) struct Moves {
    running: Mutex<HashMap<String, RunningMove>>,
    /// How many are under way; whoever works in the background waits for none.
    under_way: watch::Sender<usize>,
    /// How many have ended.
    made: AtomicU64,
    locks: Mutex<HashMap<SessionId, Arc<tokio::sync::Mutex<Slot>>>>,
}

/// How long a connection stays open after a move. PostgreSQL waits five seconds for others to leave before it refuses to
/// drop, rename or clone a database, so whoever wants that waits and is not refused.
const KEPT_FOR: Duration = Duration::from_secs(3);

/// What is kept of a session between moves.
#[derive(Default)]
struct Slot {
    kept: Option<Kept>,
    used: Option<Instant>,
    /// Whether a task waits for it to be idle.
    watched: bool,
}

impl Slot {
    fn is_idle(&self) -> bool {
        self.used.is_none_or(|used| used.elapsed() >= KEPT_FOR)
    }
}

struct RunningMove {
    answer: watch::Receiver<MoveAnswer>,
    cancel: CancellationToken,
}

/// The right to move a session. Dropping it gives the session free, in this order: who waits in this process must
/// find the file unlocked, and not take us for another process.
pub(super) struct SessionLock {
    /// Locked by `flock`, so it ends with the process.
    _elsewhere: File,
    here: OwnedMutexGuard<Slot>,
}

impl SessionLock {
    /// The connection of the move before, if it is still there.
    pub(super) fn take_kept(&mut self) -> Option<Kept> {
        self.here.kept.take()
    }

    /// Keeps a connection for the next move, for a moment.
    pub(super) fn keep(&mut self, kept: Option<Kept>) {
        (self.here.kept, self.here.used) = (kept, Some(Instant::now()));
        if self.here.kept.is_some() && !std::mem::replace(&mut self.here.watched, true) {
            let slot = Arc::clone(OwnedMutexGuard::mutex(&self.here));
            tokio::spawn(forget_when_idle(slot));
        }
    }
}

async fn forget_when_idle(slot: Arc<tokio::sync::Mutex<Slot>>) {
    loop {
        tokio::time::sleep(KEPT_FOR / 3).await;
        // Whoever holds it is moving the session.
        let Ok(mut slot) = slot.try_lock() else { continue };
        if slot.is_idle() {
            (slot.kept, slot.watched) = (None, false);
            return;
        }
    }
}

impl Moves {
    /// Waits until no other move of this process is at the session, then takes it for this process. Nothing is kept of
    /// the move before: whoever takes it may do anything with the database.
    pub(super) async fn take(&self, session: SessionId, run: &Path) -> Result<SessionLock, ServiceError> {
        let mut lock = self.take_to_move(session, run).await?;
        lock.keep(None);
        Ok(lock)
    }

    /// [`Moves::take`] for a move within the database, which may go on with the connection of the one before.
    pub(super) async fn take_to_move(
        &self,
        session: SessionId,
        run: &Path,
    ) -> Result<SessionLock, ServiceError> {
        let mutex = Arc::clone(lock(&self.locks).entry(session).or_default());
        let here = mutex.lock_owned().await;
        let path = run.join(format!("session-{session}.lock"));
        ptr_log::create_private_folder(run).map_err(ServiceError::file("create", run))?;
        let file = File::create(&path).map_err(ServiceError::file("create", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(SessionLock { _elsewhere: file, here }),
            Err(std::fs::TryLockError::WouldBlock) => Err(ServiceError::precondition(
                "another process is moving this session",
                "wait until it is done; moves list shows it",
            )),
            Err(std::fs::TryLockError::Error(error)) => Err(ServiceError::file("lock", path)(error)),
        }
    }

    pub(super) fn began(&self, answer: &watch::Sender<MoveAnswer>, cancel: &CancellationToken) {
        let id = answer.borrow().id.clone();
        let running = RunningMove { answer: answer.subscribe(), cancel: cancel.clone() };
        lock(&self.running).insert(id, running);
        self.under_way.send_modify(|moves| *moves += 1);
    }

    /// Tells whether a move is under way.
    pub(super) fn quiet(&self) -> watch::Receiver<usize> {
        self.under_way.subscribe()
    }

    /// How many moves have ended.
    pub(super) fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    pub(super) fn ended(&self, id: &str) {
        lock(&self.running).remove(id);
        self.made.fetch_add(1, Ordering::Relaxed);
        self.under_way.send_modify(|moves| *moves = moves.saturating_sub(1));
    }

    pub(super) fn cancel_all(&self) {
        lock(&self.running).values().for_each(|running| running.cancel.cancel());
        for slot in lock(&self.locks).values() {
            // A move that still runs is about to end, and its connection with it.
            if let Ok(mut slot) = slot.try_lock() {
                slot.kept = None;
            }
        }
    }

    fn running(&self, id: &str) -> Option<MoveAnswer> {
        lock(&self.running).get(id).map(|running| running.answer.borrow().clone())
    }
}

impl Service {
    /// `GET /api/moves`: newest first.
    ///
    /// # Errors
    /// There is no such session.
    pub async fn moves(&self, query: MoveQuery) -> Result<Vec<MoveAnswer>, ServiceError> {
        let session = self.session_named(query.session_id.as_deref()).await?.id;
        let catalog = self.catalog.clone();
        let moves = blocking(move || catalog.moves(session, LONGEST_PAGE)).await??;
        let shown =
            |moved: &Move| self.moves.running(&moved.id.0.to_string()).unwrap_or_else(|| answer(moved));
        Ok(moves.iter().map(shown).collect())
    }

    /// `GET /api/moves/{id}`.
    ///
    /// # Errors
    /// There is none of that id.
    pub async fn moved(&self, id: &str) -> Result<MoveAnswer, ServiceError> {
        if let Some(running) = self.moves.running(id) {
            return Ok(running);
        }
        let missing = || ServiceError::not_found("move", id, "GET /api/moves lists them");
        let wanted = MoveId(id.parse().map_err(|_| missing())?);
        let catalog = self.catalog.clone();
        let found = blocking(move || {
            for session in catalog.sessions()? {
                let moves = catalog.moves(session.id, usize::MAX)?;
                if let Some(found) = moves.into_iter().find(|moved| moved.id == wanted) {
                    return Ok(Some(found));
                }
            }
            Ok::<_, CatalogError>(None)
        });
        found.await??.as_ref().map(answer).ok_or_else(missing)
    }

    /// `DELETE /api/moves/{id}`: asks it to end; it does at the next position.
    ///
    /// # Errors
    /// It is not under way in this process.
    pub async fn cancel_move(&self, id: &str) -> Result<MoveAnswer, ServiceError> {
        let cancel =
            lock(&self.moves.running).get(id).map(|running| (running.cancel.clone(), running.answer.clone()));
        let Some((cancel, mut watched)) = cancel else {
            self.moved(id).await?;
            return Err(ServiceError::precondition(
                format!("the move {id} is not under way in this service"),
                "undo takes the session back",
            ));
        };
        cancel.cancel();
        // An error means that the move is gone, and what was borrowed last is how it ended.
        let _ = watched.wait_for(|answer| answer.state != MoveState::Running).await;
        let answer = watched.borrow().clone();
        Ok(answer)
    }
}

/// A move of the catalog as it is shown.
pub(super) fn answer(moved: &Move) -> MoveAnswer {
    let (state, error) = match &moved.outcome {
        None => (MoveState::Running, None),
        Some(MoveOutcome::Done) => (MoveState::Done, None),
        Some(MoveOutcome::Interrupted) => (MoveState::Cancelled, None),
        Some(MoveOutcome::Failed(error)) => (MoveState::Failed, Some(error.clone())),
    };
    MoveAnswer {
        id: moved.id.0.to_string(),
        session_id: moved.session_id.to_string(),
        from: moved.from.map(Into::into),
        to: moved.to.into(),
        strategy: moved.strategy.clone(),
        state,
        progress: None,
        error,
        started_at: moved.started_at.to_string(),
        finished_at: moved.finished_at.map(|time| time.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_move_that_waits_for_another_of_this_process_gets_its_turn() {
        let run = tempfile::tempdir().unwrap();
        let session = SessionId("01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap());
        let moves = Arc::new(Moves::default());
        let waiting = (0..8).map(|_| {
            let (moves, run) = (Arc::clone(&moves), run.path().to_owned());
            tokio::spawn(async move {
                for _ in 0..500 {
                    drop(moves.take(session, &run).await?);
                }
                Ok::<_, ServiceError>(())
            })
        });
        for waited in waiting.collect::<Vec<_>>() {
            waited.await.unwrap().expect("no other process is there");
        }
    }
}
