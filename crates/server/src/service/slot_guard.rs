//! Lets a slot go before the WAL that it keeps fills the primary's disk, where `SLOT_LIMIT` asks for it.
//!
//! The primary is worth more than the history: what was captured stays readable, and another history can begin. It works
//! while a service of ours runs. PostgreSQL's own `max_slot_wal_keep_size` works always, and also where the primary
//! cannot be reached.

use std::{sync::Arc, time::Duration};

use ptr_capture::source::SourceRecord;
use ptr_postgres::{Connection, SessionSettings, connect, sqlstate::SqlState};

use super::{APPLICATION_NAME, Service, ServiceError, status::slot_status};

/// How often it is looked.
const PAUSE: Duration = Duration::from_secs(5);

/// How long a walsender that was ended may hold the slot.
const PATIENCE: Duration = Duration::from_secs(10);

impl Service {
    /// Starts the task, where a limit is set.
    pub(super) fn guard_slots(self: &Arc<Self>) {
        let Some(limit) = self.configuration.slot_limit else { return };
        let service = Arc::clone(self);
        self.tasks.spawn(async move {
            let ended = service.shutdown.clone();
            while ended.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_some() {
                for database in service.configuration.databases.clone() {
                    // A primary that does not answer is asked again; nothing can be done about its disk meanwhile.
                    if let Err(error) = service.guard_slot(&database, limit).await {
                        tracing::debug!(database, "the slot was not looked at: {error}");
                    }
                }
            }
        });
    }

    async fn guard_slot(&self, database: &str, limit: u64) -> Result<(), ServiceError> {
        // Only what this data directory made is ours to drop.
        let record = SourceRecord::load(&self.configuration.data.source_record(database))?;
        let Some(slot) = record.map(|record| record.slot) else { return Ok(()) };
        let dsn = self.input()?.with_database(database);
        let primary = connect(&dsn, &SessionSettings::named(APPLICATION_NAME)).await?;
        let kept = slot_status(&primary, &slot).await.and_then(|status| status.retained_bytes);
        if let Some(kept) = kept.filter(|kept| *kept >= limit) {
            let text = format!(
                "the slot {slot:?} kept {} MB of WAL on the primary, beyond SLOT_LIMIT, and was dropped: capture of \
                 {database} has ended, and what was captured stays readable; teardown, then up, begins another history",
                kept >> 20
            );
            tracing::error!("{text}");
            drop_slot(&primary, &slot).await?;
            self.warn(text);
        }
        primary.close().await;
        Ok(())
    }

    /// What is to be said of the WAL that a slot keeps.
    pub(super) fn slot_warning(&self, slot: &str, kept: Option<u64>) -> Option<String> {
        let limit = self.configuration.slot_limit?;
        let kept = kept.filter(|kept| *kept >= limit / 2)?;
        Some(format!(
            "the slot {slot:?} keeps {} MB of WAL on the primary; at {} MB (SLOT_LIMIT) it is dropped, and capture ends",
            kept >> 20,
            limit >> 20
        ))
    }
}

async fn drop_slot(primary: &Connection, slot: &str) -> Result<(), ServiceError> {
    let end = "SELECT pg_catalog.pg_terminate_backend(active_pid) FROM pg_catalog.pg_replication_slots
               WHERE slot_name = $1 AND active_pid IS NOT NULL";
    let drop = "SELECT pg_catalog.pg_drop_replication_slot(slot_name)
                FROM pg_catalog.pg_replication_slots WHERE slot_name = $1";
    let since = tokio::time::Instant::now();
    loop {
        // The listener comes back for it at once.
        primary.query(end, &[&slot]).await?;
        match primary.query(drop, &[&slot]).await {
            Ok(_) => return Ok(()),
            Err(error) if error.code() == Some(&SqlState::OBJECT_IN_USE) && since.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
