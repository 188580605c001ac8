//! What the primary holds or did that cannot be captured: looked at each minute and at checkpoints, kept beside the
//! record of set-up, told by the status and by doctor.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use ptr_capture::limits::{Fingerprint, Met, Slipped, present, slipped};
use ptr_log::{Direction, EntryQuery, Log, LogError};
use ptr_model::{Change, Operation, Position};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Captured, Service, ServiceError, blocking, running::write_private};
use crate::resource::status::FindingAnswer;

/// How often the primary is looked at.
const PAUSE: Duration = Duration::from_secs(60);

/// Findings that are kept, the newest.
const KEPT: usize = 50;

/// What `source/<database>.limits.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Seen {
    log_id: Uuid,
    /// Where the log was just before the look.
    position: Position,
    fingerprint: Fingerprint,
    slipped: Vec<Occurrence>,
}

/// Something that changed without passing through the log, and when.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Occurrence {
    since: Position,
    until: Position,
    #[serde(flatten)]
    what: Slipped,
}

impl Service {
    /// Looks each minute as long as this process captures.
    pub(super) fn watch_limits(self: &Arc<Self>, database: &str) {
        let (service, database) = (Arc::clone(self), database.to_owned());
        self.tasks.spawn(async move {
            let ended = service.shutdown.clone();
            let watch = async {
                loop {
                    if let Ok(captured) = service.captured(Some(&database)) {
                        service.look_for_limits(&captured).await;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            };
            ended.run_until_cancelled(watch).await;
        });
    }

    /// Looks now. What cannot be asked now is asked the next time: nothing depends on it.
    pub(super) async fn look_for_limits(&self, captured: &Arc<Captured>) {
        let _one_at_a_time = self.looking_for_limits.lock().await;
        if let Err(error) = self.try_look_for_limits(captured).await {
            tracing::debug!(database = captured.database, "what slips through cannot be looked for: {error}");
        }
    }

    async fn try_look_for_limits(&self, captured: &Arc<Captured>) -> Result<(), ServiceError> {
        let before = self.limits_seen(captured);
        let connection = self.connect_for_marker(captured).await?;
        let position = captured.read(Log::head).await?;
        let fingerprint = Fingerprint::take(&connection).await?;
        let mut seen =
            Seen { log_id: captured.log.identity().log_id, position, fingerprint, slipped: Vec::new() };
        if let Some(before) = before {
            seen.slipped = before.slipped;
            if !slipped(&before.fingerprint, &seen.fingerprint, &BTreeSet::new()).is_empty() {
                // What was captured meanwhile is in the log when the marker is.
                let (since, until) = (before.position, self.marker_by(&connection, captured).await?);
                let touched = captured.read(move |log| touched(log, since, until)).await?;
                let found = slipped(&before.fingerprint, &seen.fingerprint, &touched);
                seen.slipped.extend(found.into_iter().map(|what| Occurrence { since, until, what }));
                let superfluous = seen.slipped.len().saturating_sub(KEPT);
                seen.slipped.drain(..superfluous);
            }
        }
        connection.close().await;
        let path = self.limits_file(captured);
        let json = serde_json::to_vec(&seen).expect("what was seen has only string keys");
        blocking(move || write_private(&path, &json).map_err(ServiceError::file("write", &path))).await?
    }

    /// What was seen last of this history.
    fn limits_seen(&self, captured: &Captured) -> Option<Seen> {
        let json = std::fs::read(self.limits_file(captured)).ok()?;
        let seen: Seen = serde_json::from_slice(&json).ok()?;
        (seen.log_id == captured.log.identity().log_id).then_some(seen)
    }

    fn limits_file(&self, captured: &Captured) -> PathBuf {
        self.configuration.data.source_record(&captured.database).with_extension("limits.json")
    }

    /// What slipped through and what cannot be captured, a line each.
    pub(super) fn limits_told(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for captured in self.all_captured() {
            let Some(seen) = self.limits_seen(&captured) else { continue };
            let database = &captured.database;
            lines.extend(
                present(&seen.fingerprint)
                    .into_iter()
                    .map(|Met { limit, found }| format!("{database}: not captured: {found}; {}", limit.fix)),
            );
            lines.extend(seen.slipped.iter().map(|occurrence| format!("{database}: {}", occurrence.told())));
        }
        lines
    }

    /// What slipped through, for doctor, which looks for itself at what is there.
    pub(super) fn slipped_findings(&self) -> Vec<FindingAnswer> {
        let mut findings = Vec::new();
        for captured in self.all_captured() {
            let Some(seen) = self.limits_seen(&captured) else { continue };
            findings.extend(seen.slipped.iter().map(|occurrence| FindingAnswer {
                code: "slipped_through".to_owned(),
                severity: "warning".to_owned(),
                title: format!("{}: {}", captured.database, occurrence.what.told()),
                meaning: format!(
                    "between {} and {} on the primary, without passing through the log: replicas do not have it",
                    occurrence.since.lsn, occurrence.until.lsn
                ),
                fix: occurrence.what.limit().map_or("", |limit| limit.fix).to_owned(),
                fixable: false,
            }));
        }
        findings
    }
}

impl Occurrence {
    fn told(&self) -> String {
        let fix = self.what.limit().map_or("", |limit| limit.fix);
        format!(
            "between {} and {} {} on the primary without passing through the log; {fix}",
            self.since.lsn,
            self.until.lsn,
            self.what.told()
        )
    }
}

/// The objects that captured schema changes were about.
fn touched(log: &Log, since: Position, until: Position) -> Result<BTreeSet<String>, LogError> {
    let mut touched = BTreeSet::new();
    let mut after = None;
    loop {
        let page = log.entries(&EntryQuery {
            table: None,
            operations: vec![Operation::Ddl],
            since,
            until,
            after,
            limit: 1_000,
            direction: Direction::Forward,
        })?;
        for entry in page.entries {
            if let Change::Schema(change) = entry.change {
                touched.extend(change.objects.into_iter().map(|object| object.identity));
                touched.extend(change.dropped.into_iter().map(|object| object.identity));
            }
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(touched),
        }
    }
}
