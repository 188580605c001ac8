//! Takes a session to a position: plan, then do it.
//!
//! Invariant: whatever fails or is interrupted, the session's database is at the position its cursor says. A
//! move within the database commits at positions; a move by keyframe builds another database first.

mod departure;
mod dropped_index;
mod facts;
mod forward;
mod undo;

use std::time::{Duration, Instant};

use ptr_log::{Log, SequenceSample, TransactionQuery};
use ptr_model::{Position, TransactionSummary};
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::facts::{Gathered, Look};
pub use departure::{Departure, Kept, depart};

use crate::{
    apply::{Applier, Limits, Notice},
    cursor::CursorState,
    decisions::Decisions,
    error::{Mismatch, ReplayError},
    keyframe::Images,
    plan::{
        Component, Contents, Estimate, Here, Measurement, NoWay, Part, Plan, PlanStep, Rates, Strategy, plan,
    },
    session::{SessionDatabase, SessionError, TargetState, next_name},
};

/// A move to make.
#[derive(Clone, Debug)]
pub struct NavigateRequest {
    /// The history.
    pub log: Log,
    /// The session's database.
    pub session: SessionDatabase,
    /// Where to.
    pub to: Position,
    /// Whether the session was opened for local writes since its last move by keyframe.
    pub locally_written: bool,
    /// Whether its database was made under other decisions, or is to be made anew for another reason.
    pub outdated: bool,
    /// What the session leaves out.
    pub decisions: Decisions,
    /// What the primary's sequences held at that position, or at the last one before it that was sampled.
    pub sequences: Option<SequenceSample>,
    /// Memory and transaction sizes.
    pub limits: Limits,
    /// What the parts of a move cost on this server.
    pub rates: Rates,
}

/// How far a move is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct NavigateProgress {
    /// The plan, once it is made.
    pub plan: Option<Plan>,
    /// Where the database that moves is, as committed or about to be.
    pub at: Option<Position>,
    /// Transactions done.
    pub done: u64,
    /// Transactions to do.
    pub total: u64,
    /// What the user should know, also where the move does not arrive.
    pub notices: Vec<Notice>,
}

/// What a move did.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct NavigateOutcome {
    /// Where the session was; `None` where it had no database.
    pub from: Option<Position>,
    /// Where it is.
    pub to: Position,
    /// How it got there.
    pub strategy: Strategy,
    /// Why that way.
    pub reason: String,
    /// Transactions of the log that were applied or taken back.
    pub transactions: u64,
    /// Entries of the log that were applied or taken back.
    pub entries_applied: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// Connections of others to the session's database that had to be ended.
    pub connections_ended: u64,
    /// What the user should know.
    pub notices: Vec<Notice>,
    /// What it was expected to cost, and what else could have been done.
    pub plan: Plan,
    /// What its parts took, to learn from.
    pub measured: Vec<Measurement>,
}

/// Why a move did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum NavigateError {
    /// Replay failed; the session is where its cursor says.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The session's database could not be made or replaced.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Nothing leads there.
    #[error(transparent)]
    NoWay(#[from] NoWay),
}

impl NavigateError {
    /// Whether a new database can go where the session's own cannot.
    #[must_use]
    pub fn wants_new_database(&self) -> bool {
        matches!(self, Self::Replay(error) if error.wants_new_database())
    }

    /// Whether the output server has no more locks to give.
    #[must_use]
    pub fn is_out_of_locks(&self) -> bool {
        matches!(self, Self::Replay(error) if error.is_out_of_locks())
    }

    /// Whether trying again later, with nothing changed by the user, may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Replay(error) => error.is_transient(),
            Self::Session(error) => error.is_transient(),
            Self::NoWay(_) => false,
        }
    }
}

/// Where a session is: its cursor, or `None` where it has no database of this log.
///
/// # Errors
/// [`NavigateError`] where the server cannot be asked, or the name is taken by a database that is not ours.
pub async fn whereabouts(request: &NavigateRequest) -> Result<Option<Here>, NavigateError> {
    match request.session.inspect().await? {
        TargetState::Absent => Ok(None),
        TargetState::Ours(cursor) if cursor.log_id == request.session.log_id => {
            let contents = match (cursor.state, request.locally_written) {
                (CursorState::Moving, _) => Contents::Unsettled,
                (CursorState::Settled, true) => Contents::LocallyWritten,
                (CursorState::Settled, false) if request.outdated => Contents::Outdated,
                (CursorState::Settled, false) => Contents::FromLog,
            };
            Ok(Some(Here { position: cursor.position, contents }))
        }
        TargetState::Ours(cursor) => Err(not_ours(request, format!("a session of log {}", cursor.log_id))),
        TargetState::Empty => Err(not_ours(request, "nothing, but it was not made by us".to_owned())),
        TargetState::Foreign { holds } => Err(not_ours(request, holds)),
    }
}

fn not_ours(request: &NavigateRequest, holds: String) -> NavigateError {
    SessionError::Foreign { database: request.session.name.clone(), holds }.into()
}

/// Where the session is (`None`: it has no database) and what would be done, without doing it, and what else could be.
/// `is_connected` says whether a connection is kept with which it could be done.
///
/// # Errors
/// As [`navigate`].
pub async fn plan_for(
    request: &NavigateRequest,
    is_connected: bool,
) -> Result<(Option<Position>, Plan), NavigateError> {
    let from = whereabouts(request).await?;
    let gathered = facts::gather(request, from, Look::ForAll, is_connected).await?;
    Ok((from.map(|here| here.position), plan(from, request.to, &gathered.facts)?))
}

/// Takes a session to a position, in the cheapest way.
///
/// Cancelling stops it at a position of the log: within the session's database where [`ReplayError::Cancelled`] says,
/// else where it was.
///
/// # Errors
/// [`NavigateError`]; the session is at a position all the same.
pub async fn navigate(
    request: &NavigateRequest,
    progress: &watch::Sender<NavigateProgress>,
    cancel: &CancellationToken,
) -> Result<NavigateOutcome, NavigateError> {
    let departure = depart(request, None).await?;
    travel(request, departure, progress, cancel).await.0
}

/// Makes the move that was planned, and returns the connection with which the next one can be made.
pub async fn travel(
    request: &NavigateRequest,
    departure: Departure,
    progress: &watch::Sender<NavigateProgress>,
    cancel: &CancellationToken,
) -> (Result<NavigateOutcome, NavigateError>, Option<Kept>) {
    let started = Instant::now();
    let Departure { from, plan, images, applier, is_connected, took } = departure;
    let ready = applier;
    let mut travel = Travel { images, from, ready, is_connected, ..Travel::new(request, progress, cancel) };
    let travelled = travel.go(plan).await;
    let Travel { outcome, kept, again, .. } = travel;
    let Travelled { transactions, entries, connections_ended, notices, mut measured } = outcome;
    let elapsed = took + started.elapsed();
    if again == 0 {
        // What is in none of the steps.
        let steps: Duration = measured.iter().map(|part| part.elapsed).sum();
        let parts = Part::around(is_connected);
        measured.push(Measurement { parts, elapsed: elapsed.saturating_sub(steps) });
    }
    let outcome = travelled.map(|taken| NavigateOutcome {
        from: from.map(|here| here.position),
        to: request.to,
        strategy: taken.strategy,
        reason: taken.reason.clone(),
        transactions,
        entries_applied: entries,
        elapsed,
        connections_ended,
        notices,
        plan: taken,
        measured,
    });
    let kept = kept.filter(|_| outcome.is_ok()).map(Kept);
    (outcome, kept)
}

/// How often a move is planned again because a keyframe or spare went away meanwhile.
const ATTEMPTS: usize = 4;

/// Whether a way failed for what a keyframe from before the destination does not suffer from.
fn is_barred(plan: &Plan, error: &ReplayError) -> bool {
    let is_undo = plan.steps.iter().any(|step| matches!(step, PlanStep::Undo { .. }));
    error.wants_new_database() || (is_undo && is_only_this_way_barred(error))
}

/// Whether an undo failed for what a keyframe does not suffer from: old rows that the log has not, a
/// constraint that rows of that time do not meet.
fn is_only_this_way_barred(error: &ReplayError) -> bool {
    let ReplayError::Mismatch(mismatch) = error else { return false };
    matches!(mismatch.as_ref(), Mismatch::NotReversible(_) | Mismatch::Refused { .. } | Mismatch::Fold { .. })
}

fn is_cancelled(error: &NavigateError) -> bool {
    matches!(error, NavigateError::Replay(ReplayError::Cancelled { .. }))
}

fn is_stopped(outcome: &Result<(), NavigateError>) -> bool {
    matches!(outcome, Err(NavigateError::Replay(ReplayError::Stopped(_))))
}

/// The summaries of transactions from `from` up to and without `to`, at most `limit` of them.
fn transactions(log: &Log, from: u64, to: u64, limit: usize) -> Result<Vec<TransactionSummary>, ReplayError> {
    let query = TransactionQuery { since: Some(from), until: Some(to), limit, ..TransactionQuery::default() };
    Ok(log.transactions(&query)?)
}

#[derive(Default)]
struct Travelled {
    transactions: u64,
    entries: u64,
    connections_ended: u64,
    notices: Vec<Notice>,
    measured: Vec<Measurement>,
}

struct Travel<'a> {
    request: &'a NavigateRequest,
    progress: &'a watch::Sender<NavigateProgress>,
    cancel: &'a CancellationToken,
    /// The keyframes and spares that were there when the move was planned.
    images: Images,
    /// Where the session is.
    from: Option<Here>,
    outcome: Travelled,
    /// A connection to the session's database that is ready to be used.
    ready: Option<Applier>,
    /// Whether it was used by the move before.
    is_connected: bool,
    /// The connection to the session's database that was used.
    kept: Option<Applier>,
    /// How often it was planned again.
    again: usize,
    /// Where the copy is that the move goes on from.
    copied_at: Option<Position>,
    /// Whether it goes from CREATION because another keyframe was no good.
    from_creation: bool,
    /// How the new database gets its rows.
    building: Building,
    /// Why it did not get them freely.
    freely: Option<NavigateError>,
}

/// How a database that nobody can be in gets its rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Building {
    /// Over several connections if rows are many, in parts of transactions if tables are.
    #[default]
    Freely,
    /// So, and if it fails the database is at no position.
    Unsettled,
    /// Over one connection, in whole transactions, because freely it failed: where, and with which position, shows
    /// only then.
    Settled,
}

impl<'a> Travel<'a> {
    /// One that begins nowhere and has nothing at hand.
    fn new(
        request: &'a NavigateRequest,
        progress: &'a watch::Sender<NavigateProgress>,
        cancel: &'a CancellationToken,
    ) -> Self {
        Self {
            request,
            progress,
            cancel,
            images: Images::default(),
            from: None,
            outcome: Travelled::default(),
            ready: None,
            is_connected: false,
            kept: None,
            again: 0,
            copied_at: None,
            from_creation: false,
            building: Building::default(),
            freely: None,
        }
    }

    /// What an attempt that came to nothing leaves is not the next one's.
    fn begin_again(&mut self) {
        (self.outcome, self.kept, self.copied_at) = (Travelled::default(), None, None);
        self.again += 1;
    }

    /// Goes the planned way; another, where an undo is barred or a keyframe went away. Returns the way that was taken.
    async fn go(&mut self, planned: Plan) -> Result<Plan, NavigateError> {
        let (mut chosen, mut barred) = (planned, None);
        loop {
            match self.run(&chosen).await {
                Ok(()) => return Ok(chosen),
                Err(error) if self.building == Building::Unsettled && !is_cancelled(&error) => {
                    tracing::debug!(%error, "once more, over one connection");
                    (self.building, self.freely) = (Building::Settled, Some(error));
                    self.begin_again();
                    continue;
                }
                // Others make and take keyframes at the same time.
                Err(NavigateError::Session(
                    SessionError::NoSpare { .. } | SessionError::NoTemplate { .. },
                )) if self.again < ATTEMPTS => {}
                Err(NavigateError::Replay(error)) if barred.is_none() && is_barred(&chosen, &error) => {
                    barred = Some(error.to_string());
                    // A redo may have come some way.
                    self.from = whereabouts(self.request).await?;
                }
                Err(NavigateError::Replay(ReplayError::Stopped(stop))) if self.may_go_from_creation() => {
                    self.from_creation = true;
                    let reason =
                        format!("from the keyframe that was nearer, replay stopped at {}", stop.position);
                    let facts = facts::from_creation(self.request, &self.images).await?;
                    // Where that keyframe was dropped, the same way again: what it reaches takes the session's place.
                    if let Ok(way) = plan(None, self.request.to, &facts) {
                        chosen = Plan { reason, ..way };
                    }
                    self.begin_again();
                    continue;
                }
                // Whole transactions have no locks, so what failed in parts of them matters more.
                Err(error) if error.is_out_of_locks() => return Err(self.freely.take().unwrap_or(error)),
                Err(error) => return Err(error),
            }
            self.begin_again();
            chosen = self.plan_again(barred.as_deref()).await?;
        }
    }

    /// Another way: where one is barred, forwards from a keyframe.
    async fn plan_again(&mut self, barred: Option<&str>) -> Result<Plan, NavigateError> {
        self.is_connected = false;
        let Gathered { mut facts, images } =
            facts::gather(self.request, self.from, Look::ForAll, false).await?;
        if barred.is_some() {
            facts.images.retain(|image| image.position <= self.request.to);
        }
        let here = self.from.filter(|_| barred.is_none());
        let mut chosen = plan(here, self.request.to, &facts)?;
        if let Some(reason) = barred {
            reason.clone_into(&mut chosen.reason);
        }
        self.images = images;
        Ok(chosen)
    }

    async fn run(&mut self, plan: &Plan) -> Result<(), NavigateError> {
        self.progress.send_modify(|progress| {
            *progress = NavigateProgress { plan: Some(plan.clone()), ..NavigateProgress::default() };
        });
        let session = &self.request.session;
        let mut database = session.name.clone();
        for step in &plan.steps {
            let result = self.step(step, &mut database).await;
            if result.is_err() && database != session.name {
                // An error that matters more than that something is left for the next move to remove.
                if let Err(error) = session.drop_next().await {
                    tracing::warn!("what a move began to build is left for later: {error}");
                }
            }
            result?;
        }
        if plan.steps.is_empty() {
            let mut applier = self.open(&database).await?;
            self.restore_sequences(&mut applier, self.request.to).await?;
            self.keep(applier);
        }
        Ok(())
    }

    /// A keyframe has what was committed, and nothing of a session of the primary's: a statement about a temporary
    /// table that was made before it stops replay. From CREATION nothing is missing.
    fn may_go_from_creation(&self) -> bool {
        !self.from_creation && self.copied_at.is_some_and(|at| at > self.request.log.creation())
    }

    /// Whether a database was taken, in whole transactions, as far as one in whose parts replay stopped.
    fn came_before_a_stop(&self, outcome: &Result<(), NavigateError>) -> bool {
        matches!(self.freely, Some(NavigateError::Replay(ReplayError::Stopped(_))))
            && outcome.as_ref().is_err_and(NavigateError::is_out_of_locks)
    }

    /// Makes one step, and notes how long it took.
    async fn step(&mut self, step: &PlanStep, database: &mut String) -> Result<(), NavigateError> {
        let (session, started) = (&self.request.session, Instant::now());
        let is_acquainted = self.is_connected && *database == session.name;
        let parts = match step {
            PlanStep::Clone { keyframe, at } => {
                *database = next_name(&session.name);
                let server = session.server().await.map_err(SessionError::from)?;
                session.clone_to(&server, keyframe, database).await?;
                server.close().await;
                self.arrive_by_copy(database, *at).await?;
                self.copied_at = Some(*at);
                Part::copy(self.tell_notices(keyframe))
            }
            PlanStep::Spare { spare, at } => {
                *database = next_name(&session.name);
                let server = session.server().await.map_err(SessionError::from)?;
                session.take_spare(&server, spare, database).await?;
                server.close().await;
                self.tell_notices(spare);
                if *at == self.request.to {
                    session.claim(database).await?;
                }
                self.arrive_by_copy(database, *at).await?;
                self.copied_at = Some(*at);
                vec![Part::new(Component::Spare, 1)]
            }
            PlanStep::Redo { from, to } => {
                let outcome = self.redo(database, *from, *to).await;
                let stopped = is_stopped(&outcome)
                    && self.building != Building::Unsettled
                    && !self.may_go_from_creation();
                if *database != session.name && (stopped || self.came_before_a_stop(&outcome)) {
                    // What can be reached takes the session's place: it is where the stop says.
                    self.outcome.connections_ended += session.swap_in(database).await?;
                }
                self.staying(outcome, database)?;
                self.way(true, *from, *to, is_acquainted).await?
            }
            PlanStep::Undo { from, to } => {
                let outcome = self.undo(database, *from, *to).await;
                self.staying(outcome, database)?;
                self.way(false, *from, *to, is_acquainted).await?
            }
            PlanStep::Swap => {
                if self.cancel.is_cancelled() {
                    self.staying(Err(ReplayError::Cancelled { at: self.request.to }.into()), database)?;
                }
                self.outcome.connections_ended += session.swap_in(database).await?;
                vec![Part::new(Component::Swap, 1)]
            }
        };
        self.outcome.measured.push(Measurement { parts, elapsed: started.elapsed() });
        Ok(())
    }

    /// A copy that is where the move goes needs no more than the sequences: a keyframe's are what rows tell of them.
    async fn arrive_by_copy(&mut self, database: &str, at: Position) -> Result<(), NavigateError> {
        if at == self.request.to && self.request.sequences.is_some() {
            let mut applier = self.open(database).await?;
            self.restore_sequences(&mut applier, at).await?;
        }
        Ok(())
    }

    /// A move by keyframe that is cancelled leaves the session where it was, not where the new database got to.
    fn staying(&self, outcome: Result<(), NavigateError>, database: &str) -> Result<(), NavigateError> {
        match (outcome, self.from) {
            (Err(NavigateError::Replay(ReplayError::Cancelled { .. })), Some(here))
                if database != self.request.session.name =>
            {
                Err(ReplayError::Cancelled { at: here.position }.into())
            }
            (outcome, _) => outcome,
        }
    }

    /// Tells what was told on the way to an image, and says how large it is.
    fn tell_notices(&mut self, database: &str) -> u64 {
        let all = self.images.keyframes.iter().chain(&self.images.spares);
        let Some(image) = all.into_iter().find(|image| image.database == database) else { return 0 };
        self.outcome.notices.clone_from(&image.notices);
        image.bytes
    }

    /// What a way was made of.
    async fn way(
        &self,
        forwards: bool,
        from: Position,
        to: Position,
        is_acquainted: bool,
    ) -> Result<Vec<Part>, NavigateError> {
        let (log, range) = (self.request.log.clone(), from.min(to).ordinal..from.max(to).ordinal);
        let read = tokio::task::spawn_blocking(move || log.extent(range));
        let extent = read.await.expect("reading the index does not panic").map_err(ReplayError::from)?;
        let mut parts = Part::way(forwards, extent.counts.total(), extent.bytes, extent.schema_changes);
        parts.push(Part::new(Component::Acquaint, u64::from(!is_acquainted)));
        Ok(parts)
    }

    /// Where the move ends, the sequences get what is known of them.
    async fn restore_sequences(&self, applier: &mut Applier, at: Position) -> Result<(), ReplayError> {
        match &self.request.sequences {
            Some(sample) if at == self.request.to => applier.restore_sequences(sample).await,
            _ => Ok(()),
        }
    }

    async fn open(&mut self, database: &str) -> Result<Applier, ReplayError> {
        if let Some(ready) = self.ready.take().filter(|_| database == self.request.session.name) {
            return Ok(ready);
        }
        let dsn = self.request.session.output.with_database(database);
        let mut applier = Applier::open(&dsn, self.request.session.log_id, self.request.limits).await?;
        applier.assign(self.request.session.session_id);
        Ok(applier)
    }

    async fn redo(&mut self, database: &str, from: Position, to: Position) -> Result<(), NavigateError> {
        let mut applier = self.open(database).await?;
        self.expect(&applier, from)?;
        if database != self.request.session.name && self.building == Building::Freely {
            applier.share_work();
            applier.may_be_unsettled();
        }
        let outcome = self.redo_and_count(&mut applier, to).await;
        if applier.is_unsettled() {
            self.building = Building::Unsettled;
        }
        applier.dismiss().await;
        outcome?;
        applier.discard_temporary_objects().await?;
        self.keep(applier);
        Ok(())
    }

    /// Keeps a connection for the next move, if it is to the session's own database.
    fn keep(&mut self, applier: Applier) {
        if applier.client().dsn().database() == self.request.session.name {
            self.kept = Some(applier);
        }
    }

    fn expect(&self, applier: &Applier, position: Position) -> Result<(), ReplayError> {
        if applier.position() == position {
            return Ok(());
        }
        let problem = format!("moved to {} meanwhile; navigate again", applier.position());
        Err(Mismatch::Cursor { database: self.request.session.name.clone(), problem }.into())
    }

    fn count(&mut self, applier: &Applier) {
        let applied = applier.applied();
        self.outcome.transactions += applied.transactions;
        self.outcome.entries += applied.entries;
        self.outcome.notices.extend(applied.notices.iter().cloned());
        let notices = self.outcome.notices.clone();
        self.progress.send_modify(|progress| progress.notices = notices);
    }
}

/// Takes a session that follows forward to `to` within its database, without looking at other ways; cheap where
/// little is new. Nothing happens where it is there, or beyond, or was opened for local writes.
///
/// What it returns first is as of [`navigate`], then comes the connection for the next time.
pub async fn follow(
    request: &NavigateRequest,
    kept: Option<Kept>,
    progress: &watch::Sender<NavigateProgress>,
    cancel: &CancellationToken,
) -> (Result<Option<NavigateOutcome>, NavigateError>, Option<Kept>) {
    let started = Instant::now();
    let (ready, is_connected) = departure::ready(request, kept).await;
    if ready.is_none()
        && !request.locally_written
        && let Err(error) = request.session.remove_leftovers().await
    {
        return (Err(error.into()), None);
    }
    let mut travel = Travel { ready, is_connected, ..Travel::new(request, progress, cancel) };
    let mut applier = match travel.open(&request.session.name).await {
        Ok(applier) => applier,
        Err(error) => return (Err(error.into()), None),
    };
    let from = applier.position();
    if from >= request.to || request.locally_written || request.outdated {
        return (Ok(None), Some(Kept(applier)));
    }
    if let Err(error) = travel.redo_and_count(&mut applier, request.to).await {
        return (Err(error), None);
    }
    let Travelled { transactions, entries, notices, .. } = travel.outcome;
    let outcome = NavigateOutcome {
        from: Some(from),
        to: request.to,
        strategy: Strategy::Redo,
        reason: "the session follows the log".to_owned(),
        transactions,
        entries_applied: entries,
        elapsed: started.elapsed(),
        connections_ended: 0,
        notices,
        plan: Plan {
            strategy: Strategy::Redo,
            steps: vec![PlanStep::Redo { from, to: request.to }],
            reason: "the session follows the log".to_owned(),
            estimate: Estimate::default(),
            alternatives: Vec::new(),
        },
        measured: Vec::new(),
    };
    (Ok(Some(outcome)), Some(Kept(applier)))
}

/// Takes a database that no session has forwards.
pub(crate) async fn redo_by(
    request: &NavigateRequest,
    applier: &mut Applier,
    to: Position,
    cancel: &CancellationToken,
) -> Result<(), NavigateError> {
    let progress = watch::Sender::new(NavigateProgress::default());
    Travel::new(request, &progress, cancel).redo_and_count(applier, to).await
}
