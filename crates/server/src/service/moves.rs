//! Moves under way: one a session at a time, in any process, told as they go on, and cancelled by request. Between
//! moves a session's connection stays open for a moment, so that the next one need not begin with another.

use std::{
    collections::{HashMap, hash_map::Entry},
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
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Service, ServiceError, blocking, file_lock::FileLock, lock, standing::Standings};
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
pub(super) struct Moves {
    running: Mutex<HashMap<String, RunningMove>>,
    /// Those that clients gave an id, from when they are asked for until they are over.
    asked: Arc<Mutex<HashMap<Uuid, AskedMove>>>,
    /// How many are under way; whoever works in the background waits for none.
    under_way: watch::Sender<usize>,
    /// How many have ended.
    made: AtomicU64,
    /// How often a session was taken for something other than a move.
    taken: AtomicU64,
    locks: Mutex<HashMap<SessionId, Arc<tokio::sync::Mutex<Slot>>>>,
    pub(super) standings: Standings,
    /// What there is room for of connections that are kept.
    room: Arc<Semaphore>,
}

/// The lock under which a session is compared in a database made for it: two comparisons would use the same one.
pub(super) fn comparison_of(session: SessionId) -> SessionId {
    SessionId(Uuid::from_u128(session.0.as_u128() ^ 1))
}

/// How long a connection stays open after a move. PostgreSQL waits five seconds for others to leave before it refuses to
/// drop, rename or clone a database, so whoever wants that waits and is not refused.
const KEPT_FOR: Duration = Duration::from_secs(3);

/// Connections that are kept at a time: each is one of those that the output server has for everybody.
const KEPT: usize = 8;

/// What is kept of a session between moves.
#[derive(Default)]
struct Slot {
    kept: Option<(Kept, OwnedSemaphorePermit)>,
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

/// A move that a client gave an id.
struct AskedMove {
    cancel: CancellationToken,
    /// The move's own id, once it has begun.
    began: Option<MoveId>,
}

/// A move from when it is asked for until it is over: its client can end it all the while.
pub(super) struct Asked {
    id: Option<Uuid>,
    all: Arc<Mutex<HashMap<Uuid, AskedMove>>>,
    pub(super) cancel: CancellationToken,
}

impl Asked {
    /// Does what comes before the move, unless that is ended meanwhile.
    pub(super) async fn unless_ended<T>(
        &self,
        before: impl Future<Output = Result<T, ServiceError>>,
    ) -> Result<T, ServiceError> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(ServiceError::precondition(
                "the move was ended before it began",
                "the session was left where it is; ask for the move again",
            )),
            done = before => done,
        }
    }

    fn began(&self, move_id: MoveId) {
        if let Some(id) = self.id {
            lock(&self.all).entry(id).and_modify(|known| known.began = Some(move_id));
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            lock(&self.all).remove(&id);
        }
    }
}

/// The right to move a session. Dropping it gives the session free, in this order: who waits in this process must
/// find the file unlocked, and not take us for another process.
pub(crate) struct SessionLock {
    _elsewhere: FileLock,
    here: OwnedMutexGuard<Slot>,
    room: Arc<Semaphore>,
}

impl SessionLock {
    /// The connection of the move before, if it is still there.
    pub(super) fn take_kept(&mut self) -> Option<Kept> {
        self.here.kept.take().map(|(kept, _)| kept)
    }

    /// Keeps a connection for the next move, for a moment, where not many are kept already.
    pub(super) fn keep(&mut self, kept: Option<Kept>) {
        let kept = kept.and_then(|kept| Some((kept, Arc::clone(&self.room).try_acquire_owned().ok()?)));
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

impl Default for Moves {
    fn default() -> Self {
        Self {
            running: Mutex::default(),
            asked: Arc::default(),
            under_way: watch::Sender::default(),
            made: AtomicU64::default(),
            taken: AtomicU64::default(),
            locks: Mutex::default(),
            standings: Standings::default(),
            room: Arc::new(Semaphore::new(KEPT)),
        }
    }
}

impl Moves {
    /// Waits until no other move of this process is at the session, then takes it for this process. Nothing is kept of
    /// the move before: whoever takes it may do anything with the database.
    pub(super) async fn take(&self, session: SessionId, run: &Path) -> Result<SessionLock, ServiceError> {
        let mut lock = self.take_to_move(session, run).await?;
        lock.keep(None);
        self.taken.fetch_add(1, Ordering::Relaxed);
        self.standings.forget(session);
        Ok(lock)
    }

    /// [`Moves::take`] for a move within the database, which may go on with the connection of the one before.
    pub(super) async fn take_to_move(
        &self,
        session: SessionId,
        run: &Path,
    ) -> Result<SessionLock, ServiceError> {
        let here = self.slot(session).lock_owned().await;
        self.locked(session, run, here)
    }

    /// [`Moves::take_to_move`] where nobody in this process moves the session; `None` where somebody does.
    pub(super) fn take_if_free(
        &self,
        session: SessionId,
        run: &Path,
    ) -> Result<Option<SessionLock>, ServiceError> {
        let here = self.slot(session).try_lock_owned().ok();
        here.map(|here| self.locked(session, run, here)).transpose()
    }

    /// How often a session was taken for something other than a move.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Whether a move of a session is under way in this process, or something else has it.
    pub(super) fn is_moving(&self, session: SessionId) -> bool {
        self.slot(session).try_lock().is_err()
    }

    /// Whether the next move of a session is likely to find a connection open: one is kept, or a move is under way.
    pub(super) fn keeps(&self, session: SessionId) -> bool {
        self.slot(session).try_lock().map_or(true, |slot| slot.kept.is_some())
    }

    fn slot(&self, session: SessionId) -> Arc<tokio::sync::Mutex<Slot>> {
        Arc::clone(lock(&self.locks).entry(session).or_default())
    }

    /// Takes it for this process.
    fn locked(
        &self,
        session: SessionId,
        run: &Path,
        here: OwnedMutexGuard<Slot>,
    ) -> Result<SessionLock, ServiceError> {
        let elsewhere = FileLock::take(run, &format!("session-{session}.lock"))?;
        let elsewhere = elsewhere.ok_or(ServiceError::MovedElsewhere)?;
        Ok(SessionLock { _elsewhere: elsewhere, here, room: Arc::clone(&self.room) })
    }

    /// Notes that a move is asked for, by the id that its client gave it.
    pub(super) fn asked(&self, id: Option<&str>, cancel: CancellationToken) -> Result<Asked, ServiceError> {
        let unfit = |what| {
            ServiceError::usage(
                format!("id {:?} {what}", id.unwrap_or_default()),
                "leave it out, or make another",
            )
        };
        let id: Option<Uuid> = id.map(str::parse).transpose().map_err(|_| unfit("is no UUID"))?;
        if let Some(id) = id {
            match lock(&self.asked).entry(id) {
                Entry::Occupied(_) => return Err(unfit("is that of another move")),
                Entry::Vacant(free) => drop(free.insert(AskedMove { cancel: cancel.clone(), began: None })),
            }
        }
        Ok(Asked { id, all: Arc::clone(&self.asked), cancel })
    }

    pub(super) fn began(&self, moved: MoveId, answer: &watch::Sender<MoveAnswer>, asked: &Asked) {
        let running = RunningMove { answer: answer.subscribe(), cancel: asked.cancel.clone() };
        lock(&self.running).insert(moved.0.to_string(), running);
        asked.began(moved);
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

    /// The move's own id, where it may be the one that its client gave it. `Err` is what ends one that has not begun.
    fn own_id(&self, id: &str) -> Result<String, CancellationToken> {
        let asked = lock(&self.asked);
        match id.parse().ok().and_then(|id: Uuid| asked.get(&id)) {
            None => Ok(id.to_owned()),
            Some(AskedMove { began: Some(began), .. }) => Ok(began.0.to_string()),
            Some(AskedMove { began: None, cancel }) => Err(cancel.clone()),
        }
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
        let begun = self.moves.own_id(id).map_err(|_| {
            ServiceError::not_found(
                "move",
                id,
                "it is asked for and has not begun; DELETE ends it all the same",
            )
        })?;
        if let Some(running) = self.moves.running(&begun) {
            return Ok(running);
        }
        let missing = || ServiceError::not_found("move", id, "GET /api/moves lists them");
        let wanted = MoveId(begun.parse().map_err(|_| missing())?);
        let catalog = self.catalog.clone();
        match blocking(move || catalog.moved(wanted)).await? {
            Ok(found) => Ok(answer(&found)),
            Err(CatalogError::NotFound { .. }) => Err(missing()),
            Err(error) => Err(error.into()),
        }
    }

    /// `DELETE /api/moves/{id}`: asks it to end; it does at the next position. `None` is one that had not begun.
    ///
    /// # Errors
    /// It is not under way in this process.
    pub async fn cancel_move(&self, id: &str) -> Result<Option<MoveAnswer>, ServiceError> {
        let id = match self.moves.own_id(id) {
            Ok(id) => id,
            Err(cancel) => {
                cancel.cancel();
                return Ok(None);
            }
        };
        let running = |id| {
            let running = lock(&self.moves.running);
            running.get(id).map(|running: &RunningMove| (running.cancel.clone(), running.answer.clone()))
        };
        let Some((cancel, mut watched)) = running(&id) else {
            self.moved(&id).await?;
            return Err(ServiceError::precondition(
                format!("the move {id} is not under way in this service"),
                "undo takes the session back, with --session one that is not the active one",
            ));
        };
        cancel.cancel();
        // An error means that the move is gone, and what was borrowed last is how it ended.
        let _ = watched.wait_for(|answer| answer.state != MoveState::Running).await;
        let answer = watched.borrow().clone();
        Ok(Some(answer))
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
