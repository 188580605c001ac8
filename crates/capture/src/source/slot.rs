//! The slot: the server's bookmark, from which on it keeps every change for us.

use std::time::Duration;

use ptr_postgres::{Connection, sqlstate::SqlState};

use super::{Doing, Progress, SetupEvent, SourceError, open_transactions::writers};
use crate::transport::{CreatedSlot, ReplicationConnection, SlotKind};

/// What is known of a slot that is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SlotState {
    pub(crate) plugin: String,
    pub(crate) database: String,
    /// The walsender that streams from it.
    pub(crate) active_pid: Option<i32>,
    /// The `application_name` and role of that walsender.
    pub(crate) used_by: Option<String>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub(crate) wal_status: String,
    /// WAL kept for it, in bytes.
    pub(crate) kept_bytes: u64,
}

const STATE: &str = "SELECT coalesce(s.plugin::text, ''), coalesce(s.database::text, ''), s.active_pid,
        CASE WHEN a.pid IS NOT NULL THEN pg_catalog.format('process %s (%s) of %s', a.pid, a.application_name, a.usename) END,
        coalesce(s.wal_status, ''),
        coalesce(pg_catalog.pg_wal_lsn_diff(
            CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_receive_lsn()
                 ELSE pg_catalog.pg_current_wal_lsn() END, s.restart_lsn), 0)::int8
    FROM pg_catalog.pg_replication_slots s
    LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = s.active_pid
    WHERE s.slot_name = $1";

/// The slot of this name.
pub(crate) async fn find(connection: &Connection, name: &str) -> Result<Option<SlotState>, SourceError> {
    let row =
        connection.query_opt(STATE, &[&name]).await.doing(|| format!("looking for the slot {name:?}"))?;
    Ok(row.map(|row| SlotState {
        plugin: row.get(0),
        database: row.get(1),
        active_pid: row.get(2),
        used_by: row.get(3),
        wal_status: row.get(4),
        kept_bytes: u64::try_from(row.get::<_, i64>(5)).unwrap_or_default(),
    }))
}

/// How often open transactions are looked at while the slot waits for them.
const LOOK: Duration = Duration::from_millis(500);

/// Makes the slot. It waits for every transaction that has written, in any database, and says for which; `observer`
/// is another connection.
pub(super) async fn create(
    observer: &Connection,
    replication: &mut ReplicationConnection,
    name: &str,
    major_version: u32,
    progress: &dyn Progress,
) -> Result<CreatedSlot, SourceError> {
    let creating = replication.create_slot(name, SlotKind::Permanent, major_version);
    tokio::pin!(creating);
    let mut told = Vec::new();
    loop {
        tokio::select! {
            created = &mut creating => {
                return created.map_err(|source| SourceError::Replication {
                    doing: format!("making the slot {name:?}"),
                    source: Box::new(source),
                });
            }
            () = tokio::time::sleep(LOOK) => {
                let waits = writers(observer).await?;
                if waits != told && !waits.is_empty() {
                    progress.report(SetupEvent::WaitingForSlot { waits: waits.clone() });
                }
                told = waits;
            }
        }
    }
}

/// How often a slot that is still in use is tried again, after its walsender was told to end.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// Drops a slot that is ours, ending the walsender that uses it. True if it was there.
pub(crate) async fn drop(connection: &Connection, name: &str) -> Result<bool, SourceError> {
    for _ in 0..ATTEMPTS {
        let Some(state) = find(connection, name).await? else { return Ok(false) };
        if let Some(pid) = state.active_pid {
            connection
                .query("SELECT pg_catalog.pg_terminate_backend($1)", &[&pid])
                .await
                .doing(|| format!("ending process {pid}, which uses the slot {name:?}"))?;
        }
        let dropped = connection.query("SELECT pg_catalog.pg_drop_replication_slot($1)", &[&name]).await;
        match dropped {
            Ok(_) => return Ok(true),
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_OBJECT) => return Ok(false),
            Err(error) if error.code() == Some(&SqlState::OBJECT_IN_USE) => tokio::time::sleep(PAUSE).await,
            Err(error) => return Err(error).doing(|| format!("dropping the slot {name:?}")),
        }
    }
    Err(SourceError::NotOurs {
        what: "slot",
        name: name.to_owned(),
        detail: ", and somebody connects to it again and again".to_owned(),
        hint: "stop the listener, and run teardown again".to_owned(),
    })
}

/// Whether a slot without a record can only be ours: its name, its plugin and its database.
pub(crate) fn looks_ours(name: &str, state: &SlotState, database: &str) -> bool {
    name.starts_with(ptr_model::OUR_SCHEMA) && state.plugin == "pgoutput" && state.database == database
}

/// Says whose a slot is, as far as it can be known, and what to do.
pub(crate) fn not_ours(name: &str, state: &SlotState) -> SourceError {
    let user = state.used_by.clone().unwrap_or_else(|| "nobody".to_owned());
    SourceError::NotOurs {
        what: "slot",
        name: name.to_owned(),
        detail: format!(
            " (plugin {}, database {}, used by {user}, {} bytes of WAL kept)",
            state.plugin, state.database, state.kept_bytes
        ),
        hint: format!(
            "choose another name with REPLICATION_SLOT, or, if nothing needs it: SELECT pg_drop_replication_slot({})",
            ptr_postgres::quote_literal(name)
        ),
    }
}
