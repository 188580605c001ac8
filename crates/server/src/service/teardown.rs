//! Removing everything that we put on the primary.

use ptr_capture::source::{SourceRecord, TeardownReport, TeardownStep, teardown};

use super::{Service, ServiceError};
use crate::resource::status::{Teardown, TornDown};

impl Service {
    /// `POST /api/teardown`.
    ///
    /// # Errors
    /// A listener that still runs, a primary that does not answer.
    pub async fn teardown(&self, request: Teardown) -> Result<TornDown, ServiceError> {
        let databases = match request.database {
            Some(database) => vec![database],
            None => self.configuration.databases.clone(),
        };
        let mut report = TornDown { removed: Vec::new(), left: Vec::new(), kept: Vec::new() };
        for database in databases {
            report.kept.extend(self.would_keep(&database));
            if request.dry_run {
                report.removed.extend(self.would_remove(&database)?);
                continue;
            }
            self.refuse_while_capturing(&database)?;
            let done = self.remove_from_primary(&database).await?;
            done.steps.into_iter().for_each(|step| match step {
                TeardownStep::Removed { what } => report.removed.push(format!("{database}: {what}")),
                TeardownStep::IdentityRestored { table, identity } => {
                    report.removed.push(format!("{database}: {table} has replica identity {identity} again"));
                }
                TeardownStep::Left { what, why } => report.left.push(format!("{database}: {what}: {why}")),
                TeardownStep::NotThere { .. } => {}
            });
        }
        Ok(report)
    }

    /// An embedded primary is down while nothing captures it; it runs as long as this takes.
    async fn remove_from_primary(&self, database: &str) -> Result<TeardownReport, ServiceError> {
        let options = self.source_options(database)?;
        let mut embedded = self.embedded.lock().await;
        let was_down = embedded.start_primary().await?;
        let done = teardown(&options, &()).await;
        if was_down {
            embedded.stop().await?;
        }
        Ok(done?)
    }

    fn would_remove(&self, database: &str) -> Result<Vec<String>, ServiceError> {
        let Some(record) = SourceRecord::load(&self.configuration.data.source_record(database))? else {
            return Ok(Vec::new());
        };
        let (slot, publication) = (&record.slot, &record.publication);
        Ok(vec![
            format!("{database}: replication slot {slot}"),
            format!("{database}: publication {publication}"),
            format!("{database}: schema postgres_test_replay and its event triggers"),
            format!("{database}: the replica identities of {} tables are put back", record.identities.len()),
        ])
    }

    /// The history outlives capture: the next set-up sets it aside and begins another.
    fn would_keep(&self, database: &str) -> Vec<String> {
        let data = &self.configuration.data;
        let parts = [("log", data.log_of(database)), ("base image", data.base_of(database))];
        let there = parts.into_iter().filter(|(_, path)| path.exists());
        there.map(|(what, path)| format!("{database}: {what} {}", path.display())).collect()
    }

    fn refuse_while_capturing(&self, database: &str) -> Result<(), ServiceError> {
        let Ok(captured) = self.captured(Some(database)) else { return Ok(()) };
        let listener = captured.listener();
        if matches!(listener.state.as_str(), "absent" | "stopped" | "failed") {
            return Ok(());
        }
        let pid = listener.pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
        Err(ServiceError::precondition(
            format!("{database:?} is being captured{pid}; teardown would take its slot away"),
            "run postgres-test-replay down first, then teardown",
        ))
    }
}
