//! Where sessions stopped, and what was decided about it.

use ptr_log::{
    Catalog, CatalogError, Condition, Decision, DecisionId, DecisionKind, EntryQuery, Item, Log, LogError,
    Session, TableName,
};
use ptr_model::{Oid, Position, SessionId};
use ptr_replay::{Decisions, NavigateError, ReplayError, Stop, stop::describe};

use super::{Service, ServiceError, blocking, resync::replaced};
use crate::resource::{
    decision::{ChoiceAnswer, Decide, DecisionAnswer, DecisionQuery, StopAnswer},
    position::PositionAnswer,
};

/// What there is to say of a session beside where it is.
#[derive(Debug, Default)]
pub(super) struct Remarks {
    pub(super) stop: Option<StopAnswer>,
    pub(super) decisions: Vec<DecisionAnswer>,
    pub(super) differs: Vec<String>,
    pub(super) notices: Vec<String>,
}

/// A decision that was made or taken back.
struct Changed {
    /// Those that there were.
    before: Vec<Decision>,
    decision: Decision,
    /// How many transactions the session's database has.
    here: Option<u64>,
    /// Whether it was to be built anew anyway.
    was_outdated: bool,
}

impl Service {
    /// `POST /api/decisions`.
    ///
    /// # Errors
    /// There is no such session or entry; it did not stop, and nothing else was named.
    pub async fn decide(&self, request: Decide) -> Result<DecisionAnswer, ServiceError> {
        let session = self.session_named(request.session_id.as_deref()).await?;
        let (session, _lock) = self.take_session(session.id).await?;
        let stop = self.stop_of(session.id).await?;
        let (from, kind, what) = match (request.entry, &request.table, &request.resync) {
            (Some(entry), None, None) => self.skip_entry(&session, entry).await?,
            (None, Some(table), None) => self.leave_out_table(&session, table, stop.as_ref()).await?,
            (None, None, Some(table)) => self.resync_table(&session, table, stop.as_ref()).await?,
            (None, None, None) => skip_stop(&session, stop.as_ref())?,
            _ => {
                return Err(ServiceError::usage(
                    "an entry, a table left out and a table resynchronised are decisions of their own",
                    "give one of entry, table and resync",
                ));
            }
        };
        let before = self.decisions_of(session.id).await?;
        let (from, instead_of) = replaced(&before, from, &kind);
        let id = session.id;
        let decide = move |catalog: &Catalog| catalog.decide(id, from, &kind, &what, &instead_of);
        self.change_decisions(&session, before, decide).await
    }

    /// Makes or takes back a decision. Where its database stands is asked before, and the database counts as outdated
    /// before the decision is there: ended in between, the session is built anew once for nothing, and never goes on over
    /// what was made by other decisions.
    async fn change_decisions(
        &self,
        session: &Session,
        before: Vec<Decision>,
        change: impl FnOnce(&Catalog) -> Result<Decision, CatalogError> + Send + 'static,
    ) -> Result<DecisionAnswer, ServiceError> {
        let here = self.ordinal_of(session).await?;
        let (catalog, id) = (self.catalog.clone(), session.id);
        let (decision, was_outdated) = blocking(move || {
            let was_outdated = catalog.condition(id)?.outdated;
            catalog.set_condition(id, |condition| condition.outdated = true)?;
            let decision = change(&catalog);
            if decision.is_err() {
                catalog.set_condition(id, |condition| condition.outdated = was_outdated)?;
            }
            Ok::<_, CatalogError>((decision?, was_outdated))
        })
        .await??;
        self.decided(session, Changed { before, decision, here, was_outdated }).await
    }

    /// What follows from a decision that was made or taken back.
    async fn decided(&self, session: &Session, changed: Changed) -> Result<DecisionAnswer, ServiceError> {
        let Changed { before, decision, here, was_outdated } = changed;
        let (before, now) = (Decisions::new(before), Decisions::new(self.decisions_of(session.id).await?));
        let behind = here.is_some_and(|here| !now.same_at(here, &before));
        self.remove_unnamed_contents(session).await?;
        let (catalog, id, about) = (self.catalog.clone(), session.id, decision.clone());
        blocking(move || {
            if behind {
                // It could only go on from what it has now.
                catalog.set_session_follow(id, false)?;
            }
            catalog.set_condition(id, |condition| {
                condition.outdated = was_outdated || behind;
                if read_stop(condition).is_some_and(|stop| stop.position == about.from) {
                    condition.stop = None;
                }
            })
        })
        .await??;
        self.told_session(session).await?;
        Ok(DecisionAnswer { rebuilds: behind, ..answer(&decision) })
    }

    async fn skip_entry(
        &self,
        session: &Session,
        entry: u64,
    ) -> Result<(Position, DecisionKind, String), ServiceError> {
        let captured = self.captured(Some(&session.database))?;
        let found = captured.read(move |log| change_of_entry(log, entry)).await?;
        let (from, change, what) = found.ok_or_else(|| {
            ServiceError::not_found("entry", entry.to_string(), "log shows the entries that there are")
        })?;
        Ok((from, DecisionKind::Skip { change, entry: Some(entry) }, what))
    }

    async fn leave_out_table(
        &self,
        session: &Session,
        written: &str,
        stop: Option<&Stop>,
    ) -> Result<(Position, DecisionKind, String), ServiceError> {
        let table = table_name(written)?;
        self.refuse_partitioned(session, &table).await?;
        let from = self.where_from(session, &table, stop).await?;
        let oid = self.oid_of(session, &table, from).await?;
        let what = format!("changes of table {table}");
        Ok((from, DecisionKind::LeaveOut { table, oid }, what))
    }

    /// From the stop on, if it is about this table, else from where the session is.
    pub(super) async fn where_from(
        &self,
        session: &Session,
        table: &TableName,
        stop: Option<&Stop>,
    ) -> Result<Position, ServiceError> {
        if let Some(stop) = stop.filter(|stop| stop.table.as_ref() == Some(table)) {
            return Ok(stop.position);
        }
        let cursor = self.cursor_of(session).await?;
        Ok(cursor.map_or(self.captured(Some(&session.database))?.log.creation(), |cursor| cursor.position))
    }

    /// The oid on the primary of a table, as its first change from a position on has it.
    pub(super) async fn oid_of(
        &self,
        session: &Session,
        table: &TableName,
        from: Position,
    ) -> Result<Option<Oid>, ServiceError> {
        let (captured, table) = (self.captured(Some(&session.database))?, table.clone());
        captured
            .read(move |log| {
                let query = EntryQuery {
                    table: Some(format!("{}.{}", table.schema, table.name)),
                    operations: Vec::new(),
                    since: from,
                    until: log.head()?,
                    after: None,
                    limit: 1,
                    direction: ptr_log::Direction::Forward,
                };
                let page = log.entries(&query)?;
                let relations = page.entries.iter().flat_map(|entry| entry.change.relations());
                let mut named = relations.filter(|one| one.schema == table.schema && one.name == table.name);
                Ok(named.next().map(|relation| relation.oid))
            })
            .await
    }

    /// `GET /api/decisions`.
    ///
    /// # Errors
    /// There is no such session.
    pub async fn decisions(&self, query: DecisionQuery) -> Result<Vec<DecisionAnswer>, ServiceError> {
        let session = self.session_named(query.session_id.as_deref()).await?;
        Ok(self.decisions_of(session.id).await?.iter().map(answer).collect())
    }

    /// `DELETE /api/decisions/{id}`.
    ///
    /// # Errors
    /// There is none of that id.
    pub async fn undecide(&self, id: i64) -> Result<DecisionAnswer, ServiceError> {
        let catalog = self.catalog.clone();
        let sessions = blocking(move || catalog.sessions()).await??;
        for session in sessions {
            if self.decisions_of(session.id).await?.iter().any(|decision| decision.id.0 == id) {
                let (session, _lock) = self.take_session(session.id).await?;
                let before = self.decisions_of(session.id).await?;
                let whose = session.id;
                let undecide = move |catalog: &Catalog| catalog.undecide(whose, DecisionId(id));
                return self.change_decisions(&session, before, undecide).await;
            }
        }
        Err(ServiceError::not_found("decision", id.to_string(), "session decisions lists them"))
    }

    pub(super) async fn decisions_of(&self, session: SessionId) -> Result<Vec<Decision>, ServiceError> {
        let catalog = self.catalog.clone();
        Ok(blocking(move || catalog.decisions(session)).await??)
    }

    pub(super) async fn stop_of(&self, session: SessionId) -> Result<Option<Stop>, ServiceError> {
        Ok(read_stop(&self.condition_of(session).await?))
    }

    pub(super) async fn condition_of(&self, session: SessionId) -> Result<Condition, ServiceError> {
        let catalog = self.catalog.clone();
        Ok(blocking(move || catalog.condition(session)).await??)
    }

    /// In what a session's database differs from the primary at a position, by decision.
    pub(super) async fn decided_at(
        &self,
        session: &Session,
        position: Position,
    ) -> Result<Vec<String>, ServiceError> {
        Ok(differences(&self.decisions_of(session.id).await?, position))
    }

    /// What there is to say of a session at a position.
    pub(super) async fn remarks(
        &self,
        session: &Session,
        at: Option<Position>,
    ) -> Result<Remarks, ServiceError> {
        let decisions = self.decisions_of(session.id).await?;
        let condition = self.condition_of(session.id).await?;
        Ok(Remarks {
            stop: read_stop(&condition).map(|stop| stop_answer(&stop, session)),
            differs: at.map(|at| differences(&decisions, at)).unwrap_or_default(),
            decisions: decisions.iter().map(answer).collect(),
            notices: condition.notices,
        })
    }
}

/// What a session's database lacks at a position, by decision, for people.
fn differences(decisions: &[Decision], at: Position) -> Vec<String> {
    let differs = |decision: &Decision| {
        let Decision { id: DecisionId(id), from, kind, what, .. } = decision;
        if from.ordinal >= at.ordinal {
            return None;
        }
        match kind {
            DecisionKind::Resync { until, .. } if at.ordinal >= until.ordinal => None,
            DecisionKind::Resync { until, table, .. } => Some(format!(
                "differs from the primary between {from} and {until}: what table {table} held there is not known, \
                 because it was resynchronised (decision {id})"
            )),
            DecisionKind::Skip { .. } => Some(format!(
                "differs from the primary since {from}, because {what} was skipped (decision {id})"
            )),
            DecisionKind::LeaveOut { .. } => Some(format!(
                "differs from the primary since {from}, because {what} are left out (decision {id})"
            )),
        }
    };
    decisions.iter().filter_map(differs).collect()
}

fn skip_stop(
    session: &Session,
    stop: Option<&Stop>,
) -> Result<(Position, DecisionKind, String), ServiceError> {
    let Some(stop) = stop else {
        return Err(ServiceError::precondition(
            format!("session {:?} did not stop anywhere", session.name),
            "give the entry that is to be left out; log shows their numbers",
        ));
    };
    match stop.change.filter(|_| stop.choices().contains(&ptr_replay::Choice::Skip)) {
        Some(change) => Ok((stop.position, DecisionKind::Skip { change, entry: stop.entry }, stop.before())),
        None => Err(ServiceError::precondition(
            format!("there is no one change that could be left out: {stop}"),
            commands(&stop_answer(stop, session)),
        )),
    }
}

/// The place of an entry: the position before its transaction, its number among the changes, what it is.
fn change_of_entry(log: &Log, wanted: u64) -> Result<Option<(Position, u64, String)>, LogError> {
    let Some(summary) = log.transaction_of_entry(wanted)? else { return Ok(None) };
    let (mut entry, mut number) = (summary.first_entry, 0);
    for item in log.read(summary.ordinal, summary.ordinal + 1)? {
        let Item::Change(change) = item? else { continue };
        if change.operation().is_some() {
            if entry == wanted {
                let what = describe(&change, number, entry);
                return Ok(Some((log.position_at(summary.ordinal)?, number, what)));
            }
            entry += 1;
        }
        number += 1;
    }
    Ok(None)
}

pub(super) fn table_name(written: &str) -> Result<TableName, ServiceError> {
    written.parse().map_err(|error: ptr_log::TableNameError| {
        ServiceError::usage(error.to_string(), "for example public.orders")
    })
}

fn read_stop(condition: &Condition) -> Option<Stop> {
    serde_json::from_str(condition.stop.as_deref()?).ok()
}

/// A failed move as its session's user meets it.
pub(super) fn refused(error: NavigateError, session: &Session) -> ServiceError {
    match error {
        NavigateError::Replay(ReplayError::Stopped(stop)) => ServiceError::Stopped {
            detail: stop.to_string(),
            mismatch: stop.mismatch,
            session: session.name.clone(),
            answer: Box::new(stop_answer(&stop, session)),
        },
        other => other.into(),
    }
}

/// What the end of a move changes of what there is to say about its session.
pub(super) struct Ended {
    notices: Vec<String>,
    reached: Option<Position>,
    stop: Option<String>,
}

impl Ended {
    /// Of a move that ended so; `None` where it moved nothing.
    pub(super) fn of(outcome: Result<Option<Position>, &NavigateError>, notices: Vec<String>) -> Self {
        let stop = match outcome {
            Err(NavigateError::Replay(ReplayError::Stopped(stop))) => {
                Some(serde_json::to_string(stop).expect("texts and numbers are JSON"))
            }
            _ => None,
        };
        Self { notices, reached: outcome.ok().flatten(), stop }
    }

    pub(super) fn tell(self, condition: &mut Condition) {
        condition.notices.extend(self.notices);
        let is_passed = |reached: Position| {
            read_stop(condition).is_none_or(|stop| stop.position.ordinal < reached.ordinal)
        };
        if self.stop.is_some() {
            condition.stop = self.stop;
        } else if self.reached.is_some_and(is_passed) {
            condition.stop = None;
        }
    }
}

pub(crate) fn commands(stop: &StopAnswer) -> String {
    let widest = stop.choices.iter().filter_map(|choice| choice.command.as_ref()).map(String::len).max();
    let width = widest.unwrap_or(0);
    let line = |choice: &ChoiceAnswer| match &choice.command {
        Some(command) => format!("{command:width$}  {}", choice.does),
        None => choice.does.clone(),
    };
    stop.choices.iter().map(line).collect::<Vec<_>>().join("\n       ")
}

fn stop_answer(stop: &Stop, session: &Session) -> StopAnswer {
    let at = PositionAnswer::from(stop.position);
    StopAnswer {
        entry: stop.entry,
        operation: stop.operation.clone(),
        table: stop.table.as_ref().map(ToString::to_string),
        statement: stop.statement.clone(),
        sqlstate: stop.sqlstate.clone(),
        reason: stop.reason.clone(),
        choices: stop.choices().into_iter().map(|choice| choice_answer(choice, stop, session)).collect(),
        position: at,
    }
}

fn choice_answer(choice: ptr_replay::Choice, stop: &Stop, session: &Session) -> ChoiceAnswer {
    use ptr_replay::Choice;
    let of = of_session(session);
    let table = stop.table.as_ref().map(|table| shell_word(&table.to_string())).unwrap_or_default();
    let (name, does, command) = match choice {
        Choice::Again => {
            ("again", "try again: this may have gone by".to_owned(), Some(format!("navigate head{of}")))
        }
        Choice::Rebuild => (
            "rebuild",
            "build the session's database anew from the log; what others wrote into it is dropped".to_owned(),
            Some(format!("navigate head --rebuild{of}")),
        ),
        Choice::Skip => (
            "skip",
            format!(
                "leave out {}, then navigate again",
                if stop.statement.is_some() { "this statement" } else { "this change" }
            ),
            Some(format!("session skip{of}")),
        ),
        Choice::Resync => (
            "resync",
            "take the table's rows from the primary as they are now, then navigate again; from here until then its \
             rows are not known"
                .to_owned(),
            Some(format!("session resync {table}{of}")),
        ),
        Choice::LeaveOut => (
            "leave_out",
            "leave the table out from here on, then navigate again".to_owned(),
            Some(format!("session skip --table {table}{of}")),
        ),
        Choice::Stay => ("stay", format!("or stop here: the session stays at {}", stop.position), None),
    };
    let command = command.map(|command| format!("postgres-test-replay {command}"));
    ChoiceAnswer { choice: name.into(), does, command }
}

/// The option that names a session, where commands would mean another.
pub(super) fn of_session(session: &Session) -> String {
    if session.active { String::new() } else { format!(" --session {}", shell_word(&session.name)) }
}

/// A word as a shell takes it.
pub(super) fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '@');
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn answer(decision: &Decision) -> DecisionAnswer {
    let (kind, entry, table, until) = match &decision.kind {
        DecisionKind::Skip { entry, .. } => ("skip", *entry, None, None),
        DecisionKind::LeaveOut { table, .. } => ("leave_out", None, Some(table), None),
        DecisionKind::Resync { table, until, .. } => ("resync", None, Some(table), Some(*until)),
    };
    DecisionAnswer {
        id: decision.id.0,
        session_id: decision.session_id.to_string(),
        kind: kind.into(),
        from: decision.from.into(),
        until: until.map(Into::into),
        entry,
        table: table.map(ToString::to_string),
        what: decision.what.clone(),
        rebuilds: false,
        decided_at: decision.decided_at.to_string(),
    }
}
