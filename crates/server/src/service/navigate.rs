//! Taking sessions to positions.
//!
//! request -> lock of the session -> position -> a task of its own, which plans, moves, and writes the history ->
//! answer. The task goes on when whoever asked goes away.

use std::sync::Arc;

use ptr_log::{Conclusion, Move, MoveOutcome, MoveStep, NewMove, Session, crash_point};
use ptr_model::{Position, PositionExpression, SessionId};
use ptr_replay::{
    ReplayError,
    apply::Limits,
    decisions::Decisions,
    navigate::{
        Departure, Kept, NavigateError, NavigateOutcome, NavigateProgress, NavigateRequest, depart, follow,
        plan_for, travel,
    },
    plan::{Alternative, Estimate, Plan, Strategy},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Announcer, Captured, Direction, Service, ServiceError, blocking,
    decisions::{Ended, of_session, refused},
    entries::{Wanted, cursor, page_length},
    lanes::{OwnedPlace, is_heavy},
    moves::{Asked, SessionLock},
};
use crate::resource::{
    event::Event,
    navigation::{AlternativeAnswer, Between, MoveAnswer, Navigate, Navigated, Progress, Replay, Step},
};

/// What a request to navigate came to.
#[derive(Debug)]
pub enum Moved {
    /// The session is there; or it was only planned.
    Arrived(Box<Navigated>),
    /// The move goes on in the background.
    UnderWay(Box<MoveAnswer>),
    /// Nothing was moved: the entries between two positions.
    Looked(Box<Between>),
}

/// A move that is about to be made.
struct Journey {
    session: Session,
    captured: Arc<Captured>,
    request: NavigateRequest,
    /// Whether the session is to be kept at head afterwards.
    follow: bool,
    /// What kind of step in the history it is.
    step: MoveStep,
    limit: usize,
}

/// How a move ended.
struct Arrival {
    /// Where the session is.
    reached: Position,
    /// The way that was taken last: an undo that is refused goes on by keyframe. `None` where none was begun.
    used: Option<Strategy>,
    /// What the user should know.
    notices: Vec<String>,
}

impl Service {
    /// `POST /api/navigate`.
    ///
    /// # Errors
    /// A position that means nothing or is not in the log, a session that does not exist, replay that stops.
    pub async fn navigate(self: &Arc<Self>, request: Navigate) -> Result<Moved, ServiceError> {
        if request.start_id.is_some() || request.end_id.is_some() {
            return self.look(request).await;
        }
        let expression = match (&request.checkpoint_id, &request.position) {
            (Some(checkpoint), None) => PositionExpression::Checkpoint(checkpoint.clone()),
            (None, Some(position)) => position.parse()?,
            (None, None) if request.follow => PositionExpression::Head,
            _ => {
                return Err(ServiceError::usage(
                    "say where to go: either a checkpoint or a position",
                    "give checkpoint_id or position; start_id and end_id only look",
                ));
            }
        };
        if request.follow && expression != PositionExpression::Head {
            return Err(ServiceError::usage(
                "only a session at head can follow",
                "leave the position out, or give head",
            ));
        }
        let session = self.session_named(request.session_id.as_deref()).await?;
        let limit = page_length(request.limit)?;
        if request.dry_run {
            let mut journey = self.journey(session, expression, limit).await?;
            journey.request.outdated |= request.rebuild;
            return self.plan_only(journey).await;
        }
        let asked = self.moves.asked(request.id.as_deref(), self.shutdown.child_token())?;
        // The lock first: what @ means may change while another move ends.
        let (session, lock) = asked.unless_ended(self.take_to_move(session.id)).await?;
        let mut journey = self.journey(session, expression, limit).await?;
        journey.follow = request.follow;
        journey.request.outdated |= request.rebuild;
        self.set_out(journey, lock, asked, request.background).await
    }

    /// The right to move a session, and the session as it is then: it may have been opened, deleted or taken elsewhere
    /// while this waited.
    async fn take_to_move(&self, id: SessionId) -> Result<(Session, SessionLock), ServiceError> {
        let lock = self.moves.take_to_move(id, &self.configuration.data.run()).await?;
        Ok((self.session_named(Some(&id.to_string())).await?, lock))
    }

    /// `POST /api/replay`.
    ///
    /// # Errors
    /// As [`Service::navigate`].
    pub async fn replay(self: &Arc<Self>, request: Replay) -> Result<Moved, ServiceError> {
        let Replay { id, session_id, checkpoint_id, position } = request;
        self.navigate(Navigate { id, session_id, checkpoint_id, position, ..Navigate::default() }).await
    }

    /// `POST /api/undo` and `POST /api/redo`.
    ///
    /// # Errors
    /// There is nothing to take back.
    pub async fn step(self: &Arc<Self>, direction: Direction, request: Step) -> Result<Moved, ServiceError> {
        let session = self.session_named(request.session_id.as_deref()).await?;
        let asked = self.moves.asked(request.id.as_deref(), self.shutdown.child_token())?;
        let (session, lock) = asked.unless_ended(self.take_to_move(session.id)).await?;
        self.find_after_a_break(&session).await?;
        let (catalog, id) = (self.catalog.clone(), session.id);
        let found = blocking(move || match direction {
            Direction::Undo => catalog.move_to_undo(id),
            Direction::Redo => catalog.move_to_redo(id),
        })
        .await??;
        let Some(moved) = found else {
            let what =
                if direction == Direction::Undo { "no move to take back" } else { "no undo to take back" };
            return Err(ServiceError::precondition(
                format!("session {:?} has {what}", session.name),
                "navigate takes it anywhere",
            ));
        };
        let to = match direction {
            Direction::Undo => moved.from.unwrap_or(self.captured(Some(&session.database))?.log.creation()),
            Direction::Redo => moved.to,
        };
        let begins = self.captured(Some(&session.database))?.log.creation();
        if to < begins {
            return Err(ServiceError::precondition(
                format!(
                    "that leads to {to}, and the history begins at {begins} since gc removed what was before"
                ),
                "navigate takes it anywhere in the history",
            ));
        }
        let mut journey = self.journey_to(session, to, page_length(None)?).await?;
        if request.dry_run {
            return self.plan_only(journey).await;
        }
        journey.step = if direction == Direction::Undo { MoveStep::Undo } else { MoveStep::Redo };
        self.set_out(journey, lock, asked, false).await
    }

    /// Where the last move did not arrive, the history may not know how far it came; the session's database does.
    async fn find_after_a_break(&self, session: &Session) -> Result<(), ServiceError> {
        let (catalog, id) = (self.catalog.clone(), session.id);
        let last = blocking(move || catalog.moves(id, 1)).await??.pop();
        if last.is_none_or(|last| last.outcome == Some(MoveOutcome::Done)) {
            return Ok(());
        }
        if let Some(cursor) = self.cursor_of(session).await? {
            let catalog = self.catalog.clone();
            blocking(move || catalog.found_at(id, cursor.position)).await??;
        }
        Ok(())
    }

    async fn journey(
        &self,
        session: Session,
        expression: PositionExpression,
        limit: usize,
    ) -> Result<Journey, ServiceError> {
        let captured = self.captured(Some(&session.database))?;
        let relative = matches!(expression, PositionExpression::Session(_));
        let ordinal = if relative { self.ordinal_of(&session).await? } else { None };
        let to = self.resolve_expression(&captured, expression, ordinal).await?;
        self.journey_to(session, to, limit).await
    }

    async fn journey_to(
        &self,
        session: Session,
        to: Position,
        limit: usize,
    ) -> Result<Journey, ServiceError> {
        let captured = self.captured(Some(&session.database))?;
        let request = self.request_to(&session, &captured, to).await?;
        Ok(Journey { session, captured, request, follow: false, step: MoveStep::Navigate, limit })
    }

    /// What replay needs to know to take a session's database to a position.
    pub(super) async fn request_to(
        &self,
        session: &Session,
        captured: &Arc<Captured>,
        to: Position,
    ) -> Result<NavigateRequest, ServiceError> {
        let (catalog, database, id) = (self.catalog.clone(), session.database.clone(), session.id);
        let known = blocking(move || {
            let condition = catalog.condition(id)?;
            Ok::<_, ServiceError>((catalog.sequences_at(&database, to)?, catalog.decisions(id)?, condition))
        });
        let (sequences, decisions, condition) = known.await??;
        Ok(NavigateRequest {
            outdated: condition.outdated,
            decisions: Decisions::new(decisions).with_contents_in(&self.contents_of(session)),
            log: captured.log.clone(),
            session: self.session_database(session)?,
            to,
            locally_written: session.open,
            sequences,
            limits: Limits::default(),
            rates: self.rates(&session.database).await?,
        })
    }

    async fn plan_only(&self, journey: Journey) -> Result<Moved, ServiceError> {
        let planned = plan_for(&journey.request, self.moves.keeps(journey.session.id)).await;
        let (from, plan) = match planned {
            Err(NavigateError::NoWay(_)) => {
                let cursor = self.cursor_of(&journey.session).await?;
                (cursor.map(|cursor| cursor.position), by_base_image())
            }
            planned => planned?,
        };
        let outcome = NavigateOutcome {
            from,
            to: journey.request.to,
            strategy: plan.strategy,
            reason: plan.reason.clone(),
            transactions: 0,
            entries_applied: 0,
            elapsed: std::time::Duration::from_micros(plan.estimate.microseconds),
            connections_ended: 0,
            notices: Vec::new(),
            plan: plan.clone(),
            measured: Vec::new(),
        };
        let connections_to_end = match outcome.strategy {
            Strategy::Keyframe => journey.request.session.clients().await?,
            _ => Vec::new(),
        };
        let navigated = answer(&journey, &outcome, None).await?;
        let status = "planned".into();
        Ok(Moved::Arrived(Box::new(Navigated { status, connections_to_end, ..navigated })))
    }

    /// Starts the move as a task of its own and waits for it, unless it is to go on in the background.
    async fn set_out(
        self: &Arc<Self>,
        journey: Journey,
        mut lock: SessionLock,
        asked: Asked,
        background: bool,
    ) -> Result<Moved, ServiceError> {
        let (departure, place) = asked.unless_ended(self.depart(&journey, &mut lock)).await?;
        let moved = self.begin(&journey, &departure).await?;
        crash_point("move");
        let first = super::moves::answer(&moved);
        let (told, _) = watch::channel(first.clone());
        self.moves.began(moved.id, &told, &asked);
        let service = Arc::clone(self);
        let task = self.spawn(async move {
            let (outcome, kept) = service.travel(&journey, departure, &moved, &told, &asked.cancel).await;
            service.moves.ended(&moved.id.0.to_string());
            lock.keep(kept);
            drop((lock, place));
            service.sync_moves();
            outcome
        });
        if background {
            return Ok(Moved::UnderWay(Box::new(first)));
        }
        let joined = task.await;
        let navigated = joined
            .map_err(|error| ServiceError::Broken { detail: format!("the move's task ended: {error}") })?;
        Ok(Moved::Arrived(Box::new(navigated?)))
    }

    /// Plans the move, once there is a place for it. One that turns out to be heavy where no heavy place is free gives its
    /// connection back before it waits for one, or those who wait would hold all that the server has. Where every keyframe
    /// was dropped on the output server and one is needed, the base image is restored there first.
    async fn depart(
        &self,
        journey: &Journey,
        lock: &mut SessionLock,
    ) -> Result<(Departure, OwnedPlace), ServiceError> {
        let light = self.lanes.light().await;
        let departure = match depart(&journey.request, lock.take_kept()).await {
            Err(NavigateError::NoWay(_)) => {
                drop(light);
                let heavy = self.lanes.heavy().await;
                self.install_base(&journey.session.database, &Announcer::silent()).await?;
                return Ok((depart(&journey.request, None).await?, heavy));
            }
            departed => departed?,
        };
        if !is_heavy(departure.plan()) {
            return Ok((departure, light));
        }
        if let Some(heavy) = self.lanes.heavy_if_free() {
            return Ok((departure, Some(heavy)));
        }
        drop((departure, light));
        let heavy = self.lanes.heavy().await;
        Ok((depart(&journey.request, None).await?, heavy))
    }

    /// Notes that a move begins.
    async fn begin(&self, journey: &Journey, departure: &Departure) -> Result<Move, ServiceError> {
        let new = NewMove {
            session_id: journey.session.id,
            step: journey.step,
            from: departure.from(),
            to: journey.request.to,
            strategy: name(departure.plan().strategy).to_owned(),
        };
        let catalog = self.catalog.clone();
        Ok(blocking(move || catalog.begin_move(&new)).await??)
    }

    /// Has the disk keep what was noted about moves. Nobody waits for it: the position is in the session's database.
    fn sync_moves(&self) {
        let catalog = self.catalog.clone();
        self.tasks.spawn_blocking(move || {
            if let Err(error) = catalog.sync() {
                tracing::warn!("the history of moves may lack the last ones after a power failure: {error}");
            }
        });
    }

    /// The move itself, and what is written about it; with the connection for the next one.
    async fn travel(
        &self,
        journey: &Journey,
        departure: Departure,
        moved: &Move,
        told: &watch::Sender<MoveAnswer>,
        cancel: &CancellationToken,
    ) -> (Result<Navigated, ServiceError>, Option<Kept>) {
        let (progress, watched) = watch::channel(NavigateProgress::default());
        let way = async {
            match travel(&journey.request, departure, &progress, cancel).await {
                (Err(no_way @ NavigateError::NoWay(_)), _) => {
                    self.travel_from_base(journey, no_way, &progress, cancel).await
                }
                ended => ended,
            }
        };
        let (outcome, kept) = tokio::select! {
            ended = way => ended,
            () = self.tell_progress(watched.clone(), told) => unreachable!("progress is told until the move is over"),
        };
        (self.arrive(journey, moved, told, outcome, &watched).await, kept)
    }

    /// The move where every keyframe was dropped on the output server, and the way that was planned without one is barred.
    async fn travel_from_base(
        &self,
        journey: &Journey,
        no_way: NavigateError,
        progress: &watch::Sender<NavigateProgress>,
        cancel: &CancellationToken,
    ) -> (Result<NavigateOutcome, NavigateError>, Option<Kept>) {
        if let Err(error) = self.install_base(&journey.session.database, &Announcer::silent()).await {
            tracing::warn!("the base image cannot be restored on the output server: {error}");
            return (Err(no_way), None);
        }
        let request = NavigateRequest { outdated: true, ..journey.request.clone() };
        match depart(&request, None).await {
            Ok(departure) => travel(&request, departure, progress, cancel).await,
            Err(error) => (Err(error), None),
        }
    }

    /// What is written and told of a move that ended.
    async fn arrive(
        &self,
        journey: &Journey,
        moved: &Move,
        told: &watch::Sender<MoveAnswer>,
        outcome: Result<NavigateOutcome, NavigateError>,
        watched: &watch::Receiver<NavigateProgress>,
    ) -> Result<Navigated, ServiceError> {
        let reached = match &outcome {
            Ok(outcome) => outcome.to,
            // A server that went away cannot be asked; the next move finds out.
            Err(_) => match self.cursor_of(&journey.session).await {
                Ok(Some(cursor)) => cursor.position,
                Ok(None) | Err(_) => moved.from.unwrap_or(journey.captured.log.creation()),
            },
        };
        if let Ok(outcome) = &outcome {
            self.followers.forget(journey.session.id);
            if journey.follow {
                // It is elsewhere as soon as the log grows, by no move.
                self.moves.standings.forget(journey.session.id);
            } else {
                self.moves.standings.arrived(journey.session.id, moved.id, outcome.to);
            }
            self.learn_rates(&journey.session.database, outcome);
            self.note_used(&journey.captured, outcome);
        }
        let last = watched.borrow().plan.as_ref().map(|plan| plan.strategy);
        let used = outcome.as_ref().map_or(last, |outcome| Some(outcome.strategy));
        let notices = watched.borrow().notices.iter().map(ToString::to_string).collect();
        let arrival = Arrival { reached, used, notices };
        crash_point("moved");
        let finished = self.finish(journey, moved, &outcome, arrival).await?;
        crash_point("concluded");
        let shown = super::moves::answer(&finished);
        let id = shown.id.clone();
        told.send_replace(shown.clone());
        self.tell(Event::Move { r#move: shown });
        match &outcome {
            Ok(outcome) => self.told_session_at(&journey.session, outcome.to).await?,
            Err(_) => drop(self.told_session(&journey.session).await?),
        }
        let outcome = outcome.map_err(|error| refused(error, &journey.session))?;
        answer(journey, &outcome, Some(id)).await
    }

    /// Tells how far a move is, until it is dropped.
    async fn tell_progress(
        &self,
        mut watched: watch::Receiver<NavigateProgress>,
        told: &watch::Sender<MoveAnswer>,
    ) {
        while watched.changed().await.is_ok() {
            let now = watched.borrow_and_update().clone();
            let NavigateProgress { plan, done, total, .. } = now;
            let Some(plan) = plan else { continue };
            told.send_modify(|answer| {
                answer.strategy = name(plan.strategy).to_owned();
                answer.progress = Some(Progress {
                    step: plan.reason.clone(),
                    done,
                    total: Some(total),
                    unit: "transactions".into(),
                });
            });
            let shown = told.borrow().clone();
            self.tell(Event::Move { r#move: shown });
            // Several steps within this time are told as one.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        std::future::pending().await
    }

    /// Notes how a move ended, and what follows for the session.
    async fn finish(
        &self,
        journey: &Journey,
        moved: &Move,
        outcome: &Result<NavigateOutcome, NavigateError>,
        Arrival { reached, used, notices }: Arrival,
    ) -> Result<Move, ServiceError> {
        // A keyframe holds exactly what the log says, whatever was written into the database before.
        let stopped = matches!(outcome, Err(NavigateError::Replay(ReplayError::Stopped(_))));
        let closed = used == Some(Strategy::Keyframe) && (outcome.is_ok() || stopped);
        let ended = Ended::of(outcome.as_ref().map(|outcome| Some(outcome.to)), notices);
        let conclusion = Conclusion {
            outcome: written(outcome),
            reached,
            strategy: used.map(|used| name(used).to_owned()),
            // One that was ended, or could not go on, is left where it is.
            follow: journey.follow && outcome.is_ok(),
            closed,
        };
        let (catalog, moved) = (self.catalog.clone(), moved.id);
        let concluded = blocking(move || {
            catalog.conclude_move(moved, &conclusion, |condition| {
                condition.notices.clear();
                condition.outdated &= !closed;
                ended.tell(condition);
            })
        });
        Ok(concluded.await??)
    }

    /// The entries between two positions; moves nothing.
    async fn look(&self, request: Navigate) -> Result<Moved, ServiceError> {
        let (Some(start), Some(end)) = (&request.start_id, &request.end_id) else {
            return Err(ServiceError::usage("a look needs both ends", "give start_id and end_id"));
        };
        let session = self.session_named(request.session_id.as_deref()).await?;
        let captured = self.captured(Some(&session.database))?;
        let relative = start.starts_with('@') || end.starts_with('@');
        let ordinal = if relative { self.ordinal_of(&session).await? } else { None };
        let start = self.resolve(&captured, start, ordinal).await?;
        let end = self.resolve(&captured, end, ordinal).await?;
        let (from, to) = if start <= end { (start, end) } else { (end, start) };
        let wanted =
            Wanted::between(from, to, page_length(request.limit)?, cursor(request.cursor.as_deref())?);
        let (entries, next) = captured.entries(wanted).await?;
        Ok(Moved::Looked(Box::new(Between {
            from: from.into(),
            to: to.into(),
            transactions: to.ordinal - from.ordinal,
            count: to.entry_index - from.entry_index,
            entries,
            next_cursor: next.map(|next| next.to_string()),
        })))
    }

    /// Takes a follower to `head`. It is no move of the history: the user asked once.
    pub(super) async fn advance(&self, session: &Session, head: Position) -> Result<(), ServiceError> {
        let (session, mut lock) = self.take_to_move(session.id).await?;
        if session.follow {
            let journey = self.journey_to(session, head, 1).await?;
            if journey.request.outdated {
                // Whoever changed its decisions was ended before it was said what follows.
                let of_session = of_session(&journey.session);
                return Err(ServiceError::precondition(
                    "its decisions changed, and its database holds what earlier ones made of it",
                    format!("postgres-test-replay navigate head --follow{of_session} builds it anew"),
                ));
            }
            let (progress, watched) = watch::channel(NavigateProgress::default());
            let kept = lock.take_kept();
            let (outcome, kept) = follow(&journey.request, kept, &progress, &self.shutdown).await;
            lock.keep(kept);
            if outcome.as_ref().is_err_and(NavigateError::wants_new_database) {
                return self.follow_anew(journey, &mut lock).await;
            }
            let notices = watched.borrow().notices.iter().map(ToString::to_string).collect();
            self.followed(&journey.session, outcome, notices).await?;
        }
        Ok(())
    }

    /// Takes a follower to where its database cannot go, in one that is made anew.
    async fn follow_anew(&self, mut journey: Journey, lock: &mut SessionLock) -> Result<(), ServiceError> {
        journey.request.outdated = true;
        let (departure, _place) = self.depart(&journey, lock).await?;
        let (progress, watched) = watch::channel(NavigateProgress::default());
        let (outcome, _) = travel(&journey.request, departure, &progress, &self.shutdown).await;
        if let Err(error) = &outcome
            && error.is_out_of_locks()
        {
            // It would be built again and again.
            return Err(ServiceError::precondition(
                format!("a transaction of more tables than the output server has locks for is next: {error}"),
                format!(
                    "set max_locks_per_transaction of that server higher, restart it, then postgres-test-replay navigate \
                     head --follow{}",
                    of_session(&journey.session)
                ),
            ));
        }
        let notices = watched.borrow().notices.iter().map(ToString::to_string).collect();
        self.followed(&journey.session, outcome.map(Some), notices).await
    }

    /// Notes what came of following.
    async fn followed(
        &self,
        session: &Session,
        outcome: Result<Option<NavigateOutcome>, NavigateError>,
        notices: Vec<String>,
    ) -> Result<(), ServiceError> {
        let before = self.condition_of(session.id).await?;
        let mut after = before.clone();
        let reached = outcome.as_ref().map(|outcome| outcome.as_ref().map(|outcome| outcome.to));
        Ended::of(reached, notices).tell(&mut after);
        if after != before {
            let (catalog, id) = (self.catalog.clone(), session.id);
            blocking(move || catalog.set_condition(id, |condition| *condition = after)).await??;
        }
        outcome.map(drop).map_err(|error| refused(error, session))
    }
}

/// The way where every keyframe was dropped; what it takes is not known before the base image is restored.
fn by_base_image() -> Plan {
    Plan {
        strategy: Strategy::Keyframe,
        steps: Vec::new(),
        reason: "no keyframe is left on the output server: the base image is restored there first".to_owned(),
        estimate: Estimate::default(),
        alternatives: Vec::new(),
    }
}

fn written(outcome: &Result<NavigateOutcome, NavigateError>) -> MoveOutcome {
    match outcome {
        Ok(_) => MoveOutcome::Done,
        Err(NavigateError::Replay(ReplayError::Cancelled { .. })) => MoveOutcome::Interrupted,
        Err(error) => MoveOutcome::Failed(error.to_string()),
    }
}

fn name(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::Nothing => "nothing",
        Strategy::Redo => "redo",
        Strategy::Undo => "undo",
        Strategy::Keyframe => "keyframe",
    }
}

fn milliseconds(microseconds: u64) -> f64 {
    std::time::Duration::from_micros(microseconds).as_secs_f64() * 1e3
}

fn alternative(other: &Alternative) -> AlternativeAnswer {
    AlternativeAnswer {
        strategy: name(other.strategy).to_owned(),
        way: other.way.clone(),
        estimate_ms: other.estimate.map(|estimate| milliseconds(estimate.microseconds)),
        barred: other.barred.clone(),
    }
}

async fn answer(
    journey: &Journey,
    outcome: &NavigateOutcome,
    move_id: Option<String>,
) -> Result<Navigated, ServiceError> {
    let to = outcome.to;
    let from = outcome.from.unwrap_or(journey.captured.log.creation());
    let (earlier, later) = if from <= to { (from, to) } else { (to, from) };
    let wanted = Wanted::between(earlier, later, journey.limit, None);
    let (entries, next) = journey.captured.entries(wanted).await?;
    Ok(Navigated {
        status: "success".into(),
        session_id: journey.session.id.to_string(),
        from: outcome.from.map(Into::into),
        to: to.into(),
        strategy: name(outcome.strategy).into(),
        reason: outcome.reason.clone(),
        transactions: later.ordinal - earlier.ordinal,
        entries_applied: outcome.entries_applied,
        count: later.entry_index - earlier.entry_index,
        entries,
        next_cursor: next.map(|next| next.to_string()),
        elapsed_ms: u64::try_from(outcome.elapsed.as_millis()).unwrap_or(u64::MAX),
        estimate_ms: milliseconds(outcome.plan.estimate.microseconds),
        alternatives: outcome.plan.alternatives.iter().map(alternative).collect(),
        connections_ended: outcome.connections_ended,
        connections_to_end: Vec::new(),
        notices: outcome.notices.iter().map(ToString::to_string).collect(),
        move_id,
    })
}
