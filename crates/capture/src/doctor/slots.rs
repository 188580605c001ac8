//! Slots, walsenders, and what holds a new slot up.

use ptr_model::OUR_SCHEMA;
use ptr_postgres::{Connection, quote_identifier, quote_literal};

use super::{
    Finding,
    finding::{list, size},
};
use crate::source::{
    Doing, OpenTransaction, SlotState, SourceError, SourceOptions, SourceRecord, Step, find_publication,
    find_slot, schema_is_there, slot_looks_ours, writers,
};

/// WAL kept for a slot that is worth a word.
const MUCH_WAL: u64 = 1 << 30;

pub(super) async fn check(
    connection: &Connection,
    options: &SourceOptions,
    is_logical: bool,
) -> Result<Vec<Finding>, SourceError> {
    let record = SourceRecord::load(&options.record_path)?;
    let slot = find_slot(connection, &options.slot).await?;
    let mut findings = Vec::new();
    match (&slot, &record) {
        (Some(state), Some(record)) if record.began(Step::Slot) => {
            findings.extend(kept(connection, &options.slot, state).await?);
            findings.extend(publication(connection, record).await?);
        }
        (Some(state), _) => findings.push(leftover(connection, options, state)),
        (None, Some(record)) if record.began(Step::Complete) => findings.push(gone(record)),
        (None, _) => {
            findings.extend(used_up(connection).await?);
            if is_logical {
                findings.extend(waiting(connection).await?);
            }
        }
    }
    if record.is_none() {
        findings.extend(of_another(connection, options).await?);
    }
    Ok(findings)
}

/// What set-up would refuse: things of our names that no record of this data directory knows.
async fn of_another(connection: &Connection, options: &SourceOptions) -> Result<Vec<Finding>, SourceError> {
    let mut findings = Vec::new();
    if find_publication(connection, &options.publication).await? {
        let name = &options.publication;
        let finding =
            Finding::error("leftover_publication", format!("a publication {name:?} is there already"))
                .means("it is not of this data directory, so set-up does not begin")
                .fix("choose another name with PUBLICATION_NAME, or run teardown if nothing else uses it");
        findings.push(finding);
    }
    if schema_is_there(connection).await? {
        let finding = Finding::error("leftover_schema", format!("schema {OUR_SCHEMA:?} is there already"))
            .means(
                "another data directory captures this database, or captured it; a database is captured once",
            )
            .fix("run teardown with that data directory, or here if it is gone");
        findings.push(finding);
    }
    Ok(findings)
}

async fn used_up(connection: &Connection) -> Result<Vec<Finding>, SourceError> {
    let query = "SELECT pg_catalog.current_setting('max_replication_slots')::int8,
            (SELECT count(*) FROM pg_catalog.pg_replication_slots),
            (SELECT slot_name::text FROM pg_catalog.pg_replication_slots WHERE NOT active ORDER BY slot_name LIMIT 1),
            ARRAY(SELECT pg_catalog.format('%s (%s)', slot_name, CASE WHEN active THEN 'in use' ELSE 'not in use' END)
                    FROM pg_catalog.pg_replication_slots ORDER BY active, slot_name)";
    let row = connection.query_one(query, &[]).await.doing(|| "counting the slots".to_owned())?;
    let (allowed, used, names): (i64, i64, Vec<String>) = (row.get(0), row.get(1), row.get(3));
    if used < allowed {
        return Ok(Vec::new());
    }
    let more = allowed + 5;
    let mut fix = format!("ALTER SYSTEM SET max_replication_slots = {more}; then restart the server");
    if let Some(idle) = row.get::<_, Option<String>>(2) {
        let drop = format!("SELECT pg_drop_replication_slot({})", quote_literal(&idle));
        fix = format!("{fix}. Or, if nothing needs that slot any more: {drop}");
    }
    let finding = Finding::error("slots", format!("all {allowed} replication slots are used"))
        .means(format!("there is none for us: {}", list(&names)))
        .fix(fix);
    Ok(vec![finding])
}

fn leftover(connection: &Connection, options: &SourceOptions, state: &SlotState) -> Finding {
    let name = &options.slot;
    let is_ours = slot_looks_ours(name, state, connection.dsn().database()) && state.active_pid.is_none();
    let user = state.used_by.clone().unwrap_or_else(|| "nobody".to_owned());
    let end = state.active_pid.map(|pid| format!("SELECT pg_terminate_backend({pid}); "));
    Finding::error("leftover_slot", format!("a slot {name:?} is there already"))
        .means(format!(
            "it is not of this data directory (database {}, plugin {}, used by {user}) and keeps {} of WAL",
            state.database,
            state.plugin,
            size(state.kept_bytes)
        ))
        .fix(format!(
            "if nothing needs it: {}SELECT pg_drop_replication_slot({}); else choose another name with REPLICATION_SLOT",
            end.unwrap_or_default(),
            quote_literal(name)
        ))
        .fixable(is_ours)
}

fn gone(record: &SourceRecord) -> Finding {
    Finding::error("slot_gone", format!("the slot {:?} is gone", record.slot))
        .means("changes since then are not captured, and cannot be")
        .fix("run teardown, then up: another history begins, and this one stays readable beside it")
}

async fn kept(connection: &Connection, name: &str, state: &SlotState) -> Result<Vec<Finding>, SourceError> {
    if state.wal_status == "lost" {
        let lost = Finding::error("slot_lost", format!("the server gave up the WAL of the slot {name:?}"))
            .means("changes since then are not captured, and cannot be")
            .fix("run teardown, then up: another history begins, and this one stays readable beside it; raise max_slot_wal_keep_size");
        return Ok(vec![lost]);
    }
    // In megabytes, -1 for no limit.
    let row = connection
        .query_one(
            "SELECT pg_catalog.current_setting('max_slot_wal_keep_size'),
                    (SELECT setting::int8 FROM pg_catalog.pg_settings WHERE name = 'max_slot_wal_keep_size')",
            &[],
        )
        .await
        .doing(|| "reading max_slot_wal_keep_size".to_owned())?;
    let limit: String = row.get(0);
    // Half of what the server allows is the last good moment to say so.
    let half = u64::try_from(row.get::<_, i64>(1)).map_or(MUCH_WAL, |megabytes| megabytes << 19);
    if state.kept_bytes < half.min(MUCH_WAL) {
        return Ok(Vec::new());
    }
    let meaning = if limit == "-1" {
        "it grows until the listener catches up, and can fill the disk of the server".to_owned()
    } else {
        format!("beyond max_slot_wal_keep_size ({limit}) the server gives it up, and changes are lost")
    };
    let much =
        Finding::warning("wal_kept", format!("the slot {name:?} keeps {} of WAL", size(state.kept_bytes)))
            .means(meaning)
            .fix("run the listener (up), or teardown if nothing is to be captured any more");
    Ok(vec![much])
}

/// From 18 on the server only warns, and streams nothing.
async fn publication(connection: &Connection, record: &SourceRecord) -> Result<Option<Finding>, SourceError> {
    let is_due = record.began(Step::Complete);
    if !is_due || find_publication(connection, &record.publication).await? {
        return Ok(None);
    }
    Ok(Some(
        Finding::error("publication_gone", format!("the publication {:?} is gone", record.publication))
            .means("the slot streams nothing any more; making the publication again does not help, because the slot looks at the past")
            .fix("run teardown, then up: another history begins, and this one stays readable beside it"),
    ))
}

async fn waiting(connection: &Connection) -> Result<Option<Finding>, SourceError> {
    let waits = writers(connection).await?;
    if waits.is_empty() {
        return Ok(None);
    }
    let commands: Vec<String> = waits.iter().take(10).map(ending).collect();
    let waits: Vec<String> = waits.iter().map(ToString::to_string).collect();
    let finding = Finding::warning("open_writers", "a new slot waits for open transactions")
        .means(format!("set-up stands still until they end: {}", list(&waits)))
        .fix(format!("let them end; or end them: {}", commands.join("; ")));
    Ok(Some(finding))
}

/// What ends an open transaction.
fn ending(open: &OpenTransaction) -> String {
    match open {
        OpenTransaction::Session { pid, .. } => format!("SELECT pg_terminate_backend({pid})"),
        OpenTransaction::Prepared { gid, database, .. } => {
            format!("in database {}: ROLLBACK PREPARED {}", quote_identifier(database), quote_literal(gid))
        }
    }
}

/// Whether doctor may drop this slot: it has our prefix, and nobody uses it.
pub(super) async fn droppable(connection: &Connection, options: &SourceOptions) -> Result<bool, SourceError> {
    let has_record = SourceRecord::load(&options.record_path)?.is_some_and(|record| record.began(Step::Slot));
    let state = find_slot(connection, &options.slot).await?;
    Ok(!has_record
        && options.slot.starts_with(OUR_SCHEMA)
        && state.is_some_and(|state| {
            state.active_pid.is_none() && slot_looks_ours(&options.slot, &state, connection.dsn().database())
        }))
}
