//! Takes a session to a position: plan, then do it.
//!
//! Invariant: whatever fails or is interrupted, the session's database is at the position its cursor says. A
//! move within the database commits at positions; a move by keyframe builds another database first.

mod departure;
mod facts;
mod forward;
mod undo;

use std::time::{Duration, Instant};

use ptr_log::{Log, SequenceSample, TransactionQuery};
use ptr_model::{Position, TransactionSummary};
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use departure::{Departure, Kept, depart};

use crate::{
    apply::{Applier, Limits, Notice},
    cursor::CursorState,
    decisions::Decisions,
    error::{Mismatch, ReplayError},
    plan::{Contents, Here, NoWay, Plan, PlanFacts, PlanStep, Strategy, plan},
    session::{SessionDatabase, SessionError, TargetState, next_name},
};

/// A move to make.
#[derive(Clone, Debug)]
pub struct NavigateRequest {
    /// The history.
    pub log: Log,
    /// The session's database.
    pub session: SessionDatabase,
    /// The template database at CREATION.
    pub template: String,
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

/// What would be done, without doing it.
///
/// # Errors
/// As [`navigate`].
pub async fn plan_for(request: &NavigateRequest) -> Result<Plan, NavigateError> {
    let from = whereabouts(request).await?;
    let facts = facts::gather(request, from.map(|here| here.position)).await?;
    Ok(plan(from, request.to, &facts)?)
}

/// Takes a session to a position, in the cheapest way.
///
/// Cancelling stops it at a position of the log; the session is then where [`ReplayError::Cancelled`] says.
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
    let Departure { from, plan, facts, applier } = departure;
    let outcome = Travelled::default();
    let mut travel = Travel { request, progress, cancel, outcome, ready: applier, kept: None };
    let travelled = travel.take(plan, facts).await;
    let Travel { outcome: Travelled { transactions, entries, connections_ended, notices }, kept, .. } =
        travel;
    let outcome = travelled.map(|taken| NavigateOutcome {
        from: from.map(|here| here.position),
        to: request.to,
        strategy: taken.strategy,
        reason: taken.reason,
        transactions,
        entries_applied: entries,
        elapsed: started.elapsed(),
        connections_ended,
        notices,
    });
    let kept = kept.filter(|_| outcome.is_ok()).map(Kept);
    (outcome, kept)
}

/// Whether an undo failed for what a keyframe does not suffer from: old rows that the log has not, a
/// constraint that rows of that time do not meet.
fn is_only_this_way_barred(error: &ReplayError) -> bool {
    let ReplayError::Mismatch(mismatch) = error else { return false };
    matches!(mismatch.as_ref(), Mismatch::NotReversible(_) | Mismatch::Refused { .. } | Mismatch::Fold { .. })
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
}

struct Travel<'a> {
    request: &'a NavigateRequest,
    progress: &'a watch::Sender<NavigateProgress>,
    cancel: &'a CancellationToken,
    outcome: Travelled,
    /// A connection to the session's database that is ready to be used.
    ready: Option<Applier>,
    /// The connection to the session's database that was used.
    kept: Option<Applier>,
}

impl Travel<'_> {
    /// Goes the planned way; where an undo is barred, by keyframe. Returns the way that was taken.
    async fn take(&mut self, planned: Plan, facts: Option<PlanFacts>) -> Result<Plan, NavigateError> {
        let result = self.run(&planned).await;
        let Err(NavigateError::Replay(error)) = &result else { return result.map(|()| planned) };
        if planned.strategy != Strategy::Undo || !is_only_this_way_barred(error) {
            return result.map(|()| planned);
        }
        let reason = error.to_string();
        let facts = match facts {
            Some(facts) => facts,
            None => facts::gather(self.request, None).await?,
        };
        let by_keyframe = Plan { reason, ..plan(None, self.request.to, &facts)? };
        (self.outcome, self.kept) = (Travelled::default(), None);
        self.run(&by_keyframe).await?;
        Ok(by_keyframe)
    }

    async fn run(&mut self, plan: &Plan) -> Result<(), NavigateError> {
        self.progress.send_modify(|progress| {
            *progress = NavigateProgress { plan: Some(plan.clone()), ..NavigateProgress::default() };
        });
        let session = &self.request.session;
        let mut database = session.name.clone();
        for step in &plan.steps {
            match step {
                PlanStep::Clone { keyframe, .. } => {
                    database = next_name(&session.name);
                    let server = session.server().await.map_err(SessionError::from)?;
                    session.clone_to(&server, keyframe, &database).await?;
                }
                PlanStep::Redo { from, to } => {
                    let outcome = self.redo(&database, *from, *to).await;
                    if is_stopped(&outcome) && database != session.name {
                        // What can be reached takes the session's place: it is where the stop says.
                        self.outcome.connections_ended += session.swap_in(&database).await?;
                    }
                    outcome?;
                }
                PlanStep::Undo { from, to } => self.undo(&database, *from, *to).await?,
                PlanStep::Swap => self.outcome.connections_ended += session.swap_in(&database).await?,
            }
        }
        if plan.steps.is_empty() {
            let mut applier = self.open(&database).await?;
            self.restore_sequences(&mut applier, self.request.to).await?;
            self.keep(applier);
        }
        Ok(())
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
        self.redo_and_count(&mut applier, to).await?;
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
    let outcome = Travelled::default();
    let ready = departure::ready(request, kept).await;
    let mut travel = Travel { request, progress, cancel, outcome, ready, kept: None };
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
    };
    (Ok(Some(outcome)), Some(Kept(applier)))
}
