//! Keeps keyframes and spares while nobody moves: looks what there is, asks the policy what to do next, does it.
//!
//! It looks when a log grew or a move ended, and waits for moves at every step. What it makes and what goes wrong is
//! told by `status` and the log. A database of ours that a move replaced, or a crash left over, is dropped here too.

use std::{collections::HashMap, sync::Arc, time::Duration};

use ptr_log::{Log, LogError, Session};
use ptr_model::Position;
use ptr_replay::{
    Images, Keyframe, KeyframeError, NavigateError, NavigateOutcome, Rates, ReplayError,
    keyframe::Reason,
    keyframe::policy::{Action, Scale, Situation, Standing, next},
    plan::{Component, Part, PlanStep},
};
use tokio::time::Instant;

use super::{Captured, Service, ServiceError, blocking, keyframes::failed, lock};

/// How often it is looked whether something changed.
const PAUSE: Duration = Duration::from_secs(1);

/// How long it waits after something could not be done.
const AFTER_FAILURE: Duration = Duration::from_secs(30);

/// What a keeper does, for whoever asks.
#[derive(Debug, Clone, Default)]
pub(super) struct Keeping {
    /// At the moment.
    pub(super) doing: Option<String>,
    /// What could not be done last.
    pub(super) problem: Option<String>,
    /// The keyframe that a move used last.
    used: Option<Position>,
    /// Where replay stops: no keyframe can be made after it.
    reach: Option<Position>,
}

/// When a database is to be looked at again.
#[derive(Default)]
struct Watch {
    /// What was seen at the last look after which nothing was to be done.
    settled: Option<Seen>,
    not_before: Option<Instant>,
    swept: Option<u64>,
}

/// What changes what there is to do.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    head: Position,
    moves: u64,
}

impl Service {
    /// Starts the task.
    pub(super) fn start_keeping(self: &Arc<Self>) {
        let service = Arc::clone(self);
        self.tasks.spawn(async move {
            let mut watches: HashMap<String, Watch> = HashMap::new();
            let ended = service.shutdown.clone();
            while ended.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_some() {
                for captured in service.all_captured() {
                    let watch = watches.entry(captured.database.clone()).or_default();
                    service.look_after(&captured, watch).await;
                }
                service.keep_rates().await;
            }
        });
    }

    /// Does what is to be done for one database, until nothing is.
    async fn look_after(&self, captured: &Arc<Captured>, watch: &mut Watch) {
        while !self.shutdown.is_cancelled() && watch.not_before.is_none_or(|time| time <= Instant::now()) {
            let Ok(head) = captured.read(Log::head).await else { return };
            let seen = Seen { head, moves: self.moves.made() };
            if watch.settled == Some(seen) {
                return;
            }
            match self.do_next(captured, watch, seen).await {
                Ok(true) => {}
                Ok(false) => {
                    // A log that grows all the time is looked at again after the pause, not at once.
                    watch.settled = Some(seen);
                    self.note(captured, |keeping| (keeping.doing, keeping.problem) = (None, None));
                    return;
                }
                Err(error) => {
                    tracing::warn!(database = captured.database, "keyframes: {error}");
                    watch.not_before = Some(Instant::now() + AFTER_FAILURE);
                    let problem = error.to_string();
                    self.note(captured, |keeping| (keeping.doing, keeping.problem) = (None, Some(problem)));
                }
            }
        }
    }

    /// Does one thing, if there is one to do.
    async fn do_next(
        &self,
        captured: &Arc<Captured>,
        watch: &mut Watch,
        seen: Seen,
    ) -> Result<bool, ServiceError> {
        let keyframes = self.keyframes_of(captured)?;
        if watch.swept != Some(seen.moves) {
            for gone in keyframes.sweep().await? {
                tracing::info!(database = captured.database, dropped = gone, "no longer used");
            }
            if let Some(beginning) = captured.read(Log::beginning).await? {
                keyframes.drop_before(beginning.position).await?;
            }
            watch.swept = Some(seen.moves);
        }
        let images = keyframes.list().await?;
        // Without CREATION's nothing can be made; a session's database brings it.
        if images.before(captured.log.creation()).is_none() {
            return Ok(false);
        }
        let (action, scale) = self.next_for(captured, &images, seen.head).await?;
        let Some(action) = action else { return Ok(false) };
        let mut quiet = self.moves.quiet();
        let at_entry =
            |entry: u64| images.keyframes.iter().find(|one| scale.of(one.position.entry_index) == entry);
        match action {
            Action::Remove { database } => {
                self.tell_keeping(captured, format!("dropping {database}, which no longer pays"));
                match keyframes.remove(&database).await {
                    Ok(_) | Err(KeyframeError::NotFound { .. }) => {}
                    Err(error) => return Err(failed(error)),
                }
            }
            Action::Spare { entry } => {
                let Some(keyframe) = at_entry(entry) else { return Ok(false) };
                self.tell_keeping(
                    captured,
                    format!("making a spare of the keyframe at {}", keyframe.position),
                );
                keyframes.make_spare(keyframe, &mut quiet, &self.shutdown).await.map_err(failed)?;
            }
            Action::Make { entry, reason } => {
                let at = position_at(captured, scale.entry(entry)).await?;
                self.tell_keeping(captured, format!("making a keyframe at {at} ({})", told(reason)));
                let made = keyframes.make(&captured.log, at, reason, &mut quiet, &self.shutdown).await;
                self.note_reach(captured, &made);
                made.map_err(failed)?;
            }
        }
        Ok(true)
    }

    /// The first thing to do.
    async fn next_for(
        &self,
        captured: &Arc<Captured>,
        images: &Images,
        head: Position,
    ) -> Result<(Option<Action>, Scale), ServiceError> {
        let rates = self.rates(&captured.database).await?;
        let budget = self.configuration.keyframe_budget;
        let keeping = lock(&self.keeping).get(&captured.database).cloned().unwrap_or_default();
        let head = keeping.reach.map_or(head, |reach| reach.min(head));
        let wanted = self.spares_wanted(captured, images, keeping.used).await?;
        let (log, images) = (captured.log.clone(), images.clone());
        blocking(move || {
            let schema_changes: Vec<u64> =
                log.schema_changing()?.into_iter().map(|(_, entry)| entry).collect();
            let scale = Scale { schema_changes, each: entries_as_long_as_a_schema_change(&rates) };
            let situation = situation(&images, head, &wanted, budget, &scale, &rates);
            let action = next(&situation, &|scaled| boundary(&log, &scale, scaled)).into_iter().next();
            Ok::<_, LogError>((action, scale))
        })
        .await?
        .map_err(ServiceError::from)
    }

    /// Of which keyframes a spare is wanted: the one that was used last, and those that moves back from where the
    /// sessions are would use.
    async fn spares_wanted(
        &self,
        captured: &Captured,
        images: &Images,
        used: Option<Position>,
    ) -> Result<Vec<Position>, ServiceError> {
        let catalog = self.catalog.clone();
        let mut sessions: Vec<Session> = blocking(move || catalog.sessions()).await??;
        sessions.retain(|session| session.database == captured.database);
        sessions.sort_by_key(|session| !session.active);
        let mut wanted: Vec<Position> = Vec::new();
        let mut behind: Vec<Position> = Vec::new();
        for session in sessions {
            // A session that cannot be asked has no position now.
            let Ok(Some(standing)) = self.standing(&session).await else { continue };
            let before: Vec<&Keyframe> =
                images.keyframes.iter().filter(|one| one.position < standing).collect();
            behind.extend(before.last().map(|keyframe| keyframe.position));
            // Used last, and something was done since that can be left behind.
            wanted.extend(used.filter(|used| before.iter().any(|one| one.position == *used)));
        }
        wanted.extend(behind);
        let mut seen = Vec::new();
        wanted.retain(|position| {
            !seen.contains(position) && {
                seen.push(*position);
                true
            }
        });
        Ok(wanted)
    }

    /// Notes which keyframe a move used.
    pub(super) fn note_used(&self, captured: &Captured, outcome: &NavigateOutcome) {
        let used = outcome.plan.steps.iter().find_map(|step| match step {
            PlanStep::Clone { at, .. } | PlanStep::Spare { at, .. } => Some(*at),
            _ => None,
        });
        if let Some(used) = used {
            self.note(captured, |keeping| keeping.used = Some(used));
        }
    }

    fn note_reach(&self, captured: &Captured, made: &Result<Keyframe, KeyframeError>) {
        if let Err(KeyframeError::Navigate(NavigateError::Replay(ReplayError::Stopped(stop)))) = made {
            let reach = stop.position;
            self.note(captured, |keeping| keeping.reach = Some(reach));
        }
    }

    fn tell_keeping(&self, captured: &Captured, doing: String) {
        tracing::info!(database = captured.database, "{doing}");
        self.note(captured, |keeping| keeping.doing = Some(doing));
    }

    fn note(&self, captured: &Captured, note: impl FnOnce(&mut Keeping)) {
        note(lock(&self.keeping).entry(captured.database.clone()).or_default());
    }
}

fn told(reason: Reason) -> &'static str {
    match reason {
        Reason::SchemaChange => "schema changes follow",
        Reason::Distance => "the next one before is far",
        Reason::Creation | Reason::Manual => "asked for",
    }
}

/// How many entries take as long as replaying one transaction with schema changes.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a positive number of ordinary size"
)]
fn entries_as_long_as_a_schema_change(rates: &Rates) -> u64 {
    let entry = rates.nanoseconds(Component::RedoBulkEntry);
    (rates.nanoseconds(Component::SchemaChange) / entry).clamp(1.0, 1e6) as u64
}

/// How many entries take as long as copying a keyframe and putting it in place, twice: with a nearer one nobody gains.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a positive number of ordinary size"
)]
fn worth(rates: &Rates, bytes: u64) -> u64 {
    let mut parts = Part::copy(bytes);
    parts.push(Part::new(Component::Swap, 1));
    let nanoseconds = rates.estimate(&parts).as_secs_f64() * 2e9;
    (nanoseconds / rates.nanoseconds(Component::RedoBulkEntry)).clamp(1_000.0, 1e9) as u64
}

fn situation(
    images: &Images,
    head: Position,
    spares_wanted: &[Position],
    budget: u64,
    scale: &Scale,
    rates: &Rates,
) -> Situation {
    let standing = |image: &Keyframe| Standing {
        database: image.database.clone(),
        entry: scale.of(image.position.entry_index),
        bytes: image.bytes,
        reason: image.reason,
    };
    let image_bytes = images.keyframes.iter().map(|image| image.bytes).max().unwrap_or(0);
    Situation {
        budget,
        image_bytes,
        worth: worth(rates, image_bytes),
        head: scale.of(head.entry_index),
        schema_changes: scale.schema_changes.iter().map(|entry| scale.of(*entry)).collect(),
        keyframes: images.keyframes.iter().map(standing).collect(),
        spares: images.spares.iter().map(standing).collect(),
        spares_wanted: spares_wanted.iter().map(|at| scale.of(at.entry_index)).collect(),
    }
}

/// The end of the transaction with an entry, or the entry itself where one begins with it; on the scale. An index that
/// cannot be read gives the entry, and whatever is done next says what is wrong.
fn boundary(log: &Log, scale: &Scale, scaled: u64) -> u64 {
    let entry = scale.entry(scaled);
    match log.transaction_of_entry(entry) {
        Ok(Some(found)) if found.first_entry == entry && scale.of(entry) == scaled => scaled,
        Ok(Some(found)) => scale.of(found.after().entry_index),
        Ok(None) | Err(_) => scaled,
    }
}

/// The position before the transaction that begins with an entry; head where none does.
async fn position_at(captured: &Captured, entry: u64) -> Result<Position, ServiceError> {
    captured
        .read(move |log| match log.transaction_of_entry(entry)? {
            Some(found) => log.position_at(found.ordinal),
            None => log.head(),
        })
        .await
}
