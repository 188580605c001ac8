//! Forwards: the log from here to there, without what the session leaves out, and exactly where it cannot go on.
//!
//! Changes are folded over many transactions, so a fold that does not fit says neither which transaction nor which
//! change it was. Then the way from the last commit is gone again in smaller steps, in the end change by change, until
//! it is beyond that place.

use ptr_log::{Item, LogError, Outline};
use ptr_model::{Change, Position, SchemaChange};

use super::{NavigateError, Travel, dropped_index};
use crate::{
    apply::{Applier, Boundary, Limits, Notice},
    decisions::{Names, Ruling},
    error::{Mismatch, ReplayError},
    feed::{self, Feed},
    stop::{Place, Stop, located, passes},
};

/// By how much the steps become smaller.
const FINER: u64 = 64;

/// Why a part of the way was not gone, and at which change.
struct Halt {
    error: ReplayError,
    place: Option<Place>,
}

/// Where in the log the way is.
struct Course {
    ordinal: u64,
    next_change: u64,
    next_entry: u64,
    /// Where CREATE TABLE AS end in the transaction (and extensions' statements); their tables are made before that,
    /// with their first row.
    ends: Vec<Place>,
    /// What its schema changes were about.
    names: Names,
}

impl Course {
    fn at(ordinal: u64, next_entry: u64) -> Self {
        Self { ordinal, next_change: 0, next_entry, ends: Vec::new(), names: Names::default() }
    }

    fn begin(&mut self, outline: &Outline) {
        *self = Self::at(outline.ordinal, outline.first_entry);
    }

    fn pass(&mut self, change: &Change) -> Place {
        let place = Place::of(change, self.next_change, self.next_entry);
        self.next_change += 1;
        self.next_entry += u64::from(place.entry.is_some());
        place
    }

    /// A change that failed: the CREATE TABLE AS that was to be run for it, or itself.
    fn halt(&self, error: ReplayError, place: Place) -> Halt {
        let ahead = match &error {
            ReplayError::Stopped(stop) if place.statement.is_none() && stop.statement.is_some() => {
                self.ends.iter().find(|end| end.statement == stop.statement).cloned()
            }
            _ => None,
        };
        Halt { error, place: Some(ahead.unwrap_or(place)) }
    }
}

impl Travel<'_> {
    pub(super) async fn redo_and_count(
        &mut self,
        applier: &mut Applier,
        to: Position,
    ) -> Result<(), NavigateError> {
        let outcome = self.redo_with(applier, to).await;
        if outcome.is_err() {
            applier.give_up().await;
        }
        self.count(applier);
        Ok(outcome?)
    }

    async fn redo_with(&self, applier: &mut Applier, to: Position) -> Result<(), ReplayError> {
        let from = applier.position();
        self.progress.send_modify(|progress| progress.total = to.ordinal.saturating_sub(from.ordinal));
        if self.request.decisions.is_empty() {
            applier.compare_images();
        }
        let mut trouble = None;
        while let Err(halt) = self.redo_part(applier, from, to, trouble).await {
            if applier.is_unsettled() {
                // It is at no position from which to go on in smaller steps.
                return Err(halted(halt, applier.reached()));
            }
            let is_out_of_locks = halt.error.is_out_of_locks();
            let is_sessions_own = applier.client().dsn().database() == self.request.session.name;
            if is_out_of_locks && is_sessions_own && applier.could_go_in_parts() {
                return Err(Mismatch::ManyTables.into());
            }
            // What stopped took whole transactions with it that were not committed yet; in a new database, what has no
            // locks left did, too.
            let stopped =
                matches!(halt.error, ReplayError::Stopped(_)) || (is_out_of_locks && !is_sessions_own);
            let too_far = stopped && applier.reached() != applier.position();
            let finer = finer(applier.limits()).filter(|_| too_far || is_of_a_fold(&halt.error));
            let Some(finer) = finer else {
                let at = applier.position();
                let more = dropped_index::explained(&self.request.log, &halt.error, at.ordinal).await;
                let mut error = located(halt.error, halt.place, at);
                if let (ReplayError::Stopped(stop), Some(more)) = (&mut error, more) {
                    stop.reason.push_str(&more);
                }
                return Err(error);
            };
            trouble = Some(applier.reached());
            applier.start_again(finer).await?;
        }
        self.restore_sequences(applier, to).await
    }

    /// Goes as far as it can. `trouble` is the last transaction that was whole where it halted before: once more than
    /// that is committed, the steps are large again.
    async fn redo_part(
        &self,
        applier: &mut Applier,
        from: Position,
        to: Position,
        trouble: Option<Position>,
    ) -> Result<(), Halt> {
        let somewhere = |error: ReplayError| Halt { error, place: None };
        let begin = applier.position().ordinal;
        let mut feed = Feed::start(&self.request.log, begin, to.ordinal);
        let mut course = Course::at(begin, 0);
        while let Some(portion) = feed.next().await {
            let portion = portion.map_err(|error| somewhere(error.into()))?;
            applier.acquaint(&portion).await.map_err(somewhere)?;
            for item in portion {
                match item {
                    Item::Begin(outline) => {
                        course.begin(&outline);
                        applier.know_old_rows_by_key(self.request.decisions.skipped_by(outline.ordinal));
                        applier.begin(&outline).await.map_err(somewhere)?;
                    }
                    Item::Change(change) => self.pass(applier, &mut course, change).await?,
                    Item::Commit => {
                        self.end(applier, course.ordinal).await.map_err(somewhere)?;
                        if trouble.is_some_and(|place| applier.position().ordinal > place.ordinal) {
                            applier.go_on_within(self.request.limits);
                        }
                    }
                }
            }
            self.report(applier, from);
        }
        applier.commit().await.map_err(somewhere)?;
        if applier.position() == to {
            return Ok(());
        }
        let problem = format!("arrived at {} instead of {to}: the log ends there", applier.position());
        Err(somewhere(Mismatch::Cursor { database: self.request.session.name.clone(), problem }.into()))
    }

    async fn end(&self, applier: &mut Applier, ordinal: u64) -> Result<(), ReplayError> {
        for load in self.request.decisions.loads_at(ordinal + 1) {
            applier.load(&load).await?;
        }
        applier.end().await?;
        if self.cancel.is_cancelled() {
            applier.commit().await?;
            return Err(ReplayError::Cancelled { at: applier.position() });
        }
        Ok(())
    }

    /// Applies a change, or leaves it out.
    async fn pass(&self, applier: &mut Applier, course: &mut Course, change: Change) -> Result<(), Halt> {
        let place = course.pass(&change);
        let decisions = &self.request.decisions;
        if applier.needs_ends(&change) {
            let foreseen = self.foresee(applier, course).await;
            foreseen.map_err(|error| Halt { error: error.into(), place: None })?;
        }
        if decisions.is_empty() {
            return applier.change(change).await.map_err(|error| course.halt(error, place));
        }
        course.names.learn(&change);
        match decisions.rule(course.ordinal, place.change, change, &course.names) {
            Ruling::Apply(change) => {
                let applied = applier.change(change).await;
                applied.map_err(|error| course.halt(error, place))?;
                let is_left_out =
                    |table: &str| decisions.leaving_out_named(course.ordinal, table, &course.names).is_some();
                applier.await_no_rows_of(is_left_out);
            }
            Ruling::LeaveOut(change, decision) => {
                let what = if decision.what.is_empty() { place.named() } else { decision.what.clone() };
                applier.leave_out(&change, Notice::LeftOut { decision: decision.id.0, what });
            }
        }
        Ok(())
    }

    /// Rows of a CREATE TABLE AS and of an extension's script come before its end: looks where that is.
    async fn foresee(&self, applier: &mut Applier, course: &mut Course) -> Result<(), LogError> {
        let found = feed::boundaries(&self.request.log, course.ordinal).await?;
        course.ends =
            found.iter().filter(|(place, _)| place.entry.is_some()).map(|(place, _)| place.clone()).collect();
        let boundary = |(place, change): (Place, SchemaChange)| {
            let is_left_out = self.request.decisions.skips(course.ordinal, place.change);
            Boundary { change, is_left_out }
        };
        applier.foresee(found.into_iter().map(boundary).collect());
        Ok(())
    }

    fn report(&self, applier: &Applier, from: Position) {
        let at = applier.reached();
        self.progress.send_modify(|progress| {
            progress.at = Some(at);
            progress.done = at.ordinal.abs_diff(from.ordinal);
        });
    }
}

/// What stopped within a transaction of which parts are committed: before it, where whole transactions went in.
fn halted(halt: Halt, before: Position) -> ReplayError {
    // A fold does not say which change it was.
    let place = halt.place.filter(|_| matches!(halt.error, ReplayError::Stopped(_)));
    match located(halt.error, place, before) {
        ReplayError::Stopped(stop) => ReplayError::Stopped(Box::new(Stop { position: before, ..*stop })),
        error => error,
    }
}

/// Whether it may have been any of the changes that were folded.
fn is_of_a_fold(error: &ReplayError) -> bool {
    match error {
        ReplayError::Mismatch(mismatch) => !matches!(**mismatch, Mismatch::Cursor { .. }),
        ReplayError::Database(error) => error.sqlstate().is_some_and(|state| !passes(state)),
        _ => false,
    }
}

/// Smaller steps; `None` where they cannot be smaller.
fn finer(limits: Limits) -> Option<Limits> {
    match limits {
        Limits { commit_changes: 1, window_rows: 1, .. } => None,
        Limits { commit_changes: 1, .. } => Some(Limits { window_rows: 1, ..limits }),
        _ => Some(Limits { commit_changes: (limits.commit_changes / FINER).max(1), ..limits }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_become_smaller_until_they_are_single_changes() {
        let steps: Vec<_> = std::iter::successors(Some(Limits::default()), |limits| finer(*limits))
            .map(|limits| (limits.commit_changes, limits.window_rows))
            .collect();
        assert_eq!(
            steps,
            [
                (16_000_000, 1_000_000),
                (250_000, 1_000_000),
                (3_906, 1_000_000),
                (61, 1_000_000),
                (1, 1_000_000),
                (1, 1)
            ]
        );
    }
}
