//! Taking away what set-up made, and putting back what it changed.
//!
//! The order keeps the user's statements working at every moment: the publication goes before the identities,
//! because a published table without a key refuses UPDATE; the triggers go before the identities, so that they do
//! not set them again; the schema goes last, because it remembers what identities the user asked for.

use std::{collections::BTreeMap, fs, io};

use ptr_model::OUR_SCHEMA;
use ptr_postgres::{Connection, SessionSettings, connect, quote_identifier, sqlstate::SqlState};
use serde::Serialize;

use super::{
    Doing, Progress, SchemaCapture, ServerFacts, SourceError, SourceOptions, SourceRecord, Step, base,
    catalog::{Table, letter, tables},
    exclusive, identity, publication, schema,
    schema::OurSchema,
    slot,
};

/// What teardown did, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct TeardownReport {
    /// Each thing, and what became of it.
    pub steps: Vec<TeardownStep>,
}

/// One thing, and what became of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum TeardownStep {
    /// It was there and is gone.
    Removed {
        /// The thing.
        what: String,
    },
    /// It was gone already.
    NotThere {
        /// The thing.
        what: String,
    },
    /// A table has the identity that the user wants again.
    IdentityRestored {
        /// The table, qualified and quoted.
        table: String,
        /// The identity, as in ALTER TABLE.
        identity: String,
    },
    /// It stays.
    Left {
        /// The thing.
        what: String,
        /// Why.
        why: String,
    },
}

impl TeardownReport {
    fn removed(&mut self, was_there: bool, what: String) {
        self.steps.push(if was_there {
            TeardownStep::Removed { what }
        } else {
            TeardownStep::NotThere { what }
        });
    }
}

/// Removes from the primary all that is ours, by the record; without one, as far as names tell. The base image and
/// the log stay: they are history.
///
/// # Errors
/// [`SourceError`]; what is left is removed when called again.
pub async fn teardown(
    options: &SourceOptions,
    progress: &dyn Progress,
) -> Result<TeardownReport, SourceError> {
    let record = SourceRecord::load(&options.record_path)?;
    let session = SessionSettings::canonical("postgres-test-replay teardown").that_writes();
    let connection = connect(&options.dsn, &session).await?;
    exclusive::keep_others_out(&connection).await?;
    exclusive::end_slot_makers(&connection).await?;
    remove(&connection, options, record.as_ref(), progress).await
}

/// Takes back a set-up that broke off, its part of a base image too.
pub(super) async fn undo(
    connection: &Connection,
    options: &SourceOptions,
    record: Option<&SourceRecord>,
    progress: &dyn Progress,
) -> Result<(), SourceError> {
    remove(connection, options, record, progress).await?;
    base::remove(&base::partial(&options.base_directory))?;
    if record.is_some_and(|record| record.began(Step::Base)) {
        base::remove(&options.base_directory)?;
    }
    Ok(())
}

async fn remove(
    connection: &Connection,
    options: &SourceOptions,
    record: Option<&SourceRecord>,
    progress: &dyn Progress,
) -> Result<TeardownReport, SourceError> {
    let facts = ServerFacts::ask(connection).await?;
    let mut report = TeardownReport::default();
    let found = schema::installed(connection).await?.schema;
    let has_schema = found == OurSchema::Ours;
    if has_schema && facts.is_superuser {
        schema::mark_as_ours(connection).await?;
    }
    remove_slot(connection, options, record, has_schema, &mut report).await?;
    remove_publication(connection, options, record, &mut report).await?;
    if facts.is_superuser {
        remove_triggers(connection, &mut report).await?;
    }
    restore_identities(connection, &facts, options, record, has_schema, progress, &mut report).await?;
    remove_schema(connection, &facts, &found, &mut report).await?;
    remove_record(options, record, &mut report)?;
    Ok(report)
}

async fn remove_slot(
    connection: &Connection,
    options: &SourceOptions,
    record: Option<&SourceRecord>,
    has_schema: bool,
    report: &mut TeardownReport,
) -> Result<(), SourceError> {
    let name = record.map_or(&options.slot, |record| &record.slot);
    let what = format!("slot {name}");
    let Some(state) = slot::find(connection, name).await? else {
        report.removed(false, what);
        return Ok(());
    };
    let is_ours = match record {
        Some(record) => record.began(Step::Slot),
        None => has_schema && slot::looks_ours(name, &state, connection.dsn().database()),
    };
    if !is_ours {
        report.steps.push(TeardownStep::Left { what, why: slot::not_ours(name, &state).to_string() });
        return Ok(());
    }
    let was_there = slot::drop(connection, name).await?;
    report.removed(was_there, what);
    Ok(())
}

async fn remove_publication(
    connection: &Connection,
    options: &SourceOptions,
    record: Option<&SourceRecord>,
    report: &mut TeardownReport,
) -> Result<(), SourceError> {
    let name = record.map_or(&options.publication, |record| &record.publication);
    let what = format!("publication {name}");
    match publication::find(connection, name).await? {
        None => report.removed(false, what),
        Some(found) if found.is_ours => {
            publication::drop(connection, name).await?;
            report.removed(true, what);
        }
        Some(found) => report.steps.push(TeardownStep::Left {
            what,
            why: format!("it was not made by set-up, and belongs to {}", found.owner),
        }),
    }
    Ok(())
}

async fn remove_triggers(connection: &Connection, report: &mut TeardownReport) -> Result<(), SourceError> {
    for name in schema::event_trigger_names() {
        let doing = || format!("dropping the event trigger {name}");
        let there = connection
            .query_opt("SELECT FROM pg_catalog.pg_event_trigger WHERE evtname = $1", &[name])
            .await
            .doing(doing)?;
        connection
            .batch_execute(&format!("DROP EVENT TRIGGER IF EXISTS {}", quote_identifier(name)))
            .await
            .doing(doing)?;
        report.removed(there.is_some(), format!("event trigger {name}"));
    }
    Ok(())
}

/// An identity, and its index.
type Wanted = (char, Option<String>);

async fn restore_identities(
    connection: &Connection,
    facts: &ServerFacts,
    options: &SourceOptions,
    record: Option<&SourceRecord>,
    has_schema: bool,
    progress: &dyn Progress,
    report: &mut TeardownReport,
) -> Result<(), SourceError> {
    let set_new_tables = match record {
        Some(record) => record.replica_identity && record.began(Step::Triggers),
        None => has_schema,
    };
    let wanted = wanted(connection, facts, record, has_schema).await?;
    for table in tables(connection, facts.version).await? {
        if table.identity != 'f' || options.exclude_tables.contains(&table.name) {
            continue;
        }
        let target = match wanted.get(&table.oid) {
            Some(wanted) => wanted.clone(),
            None if set_new_tables => ('d', None),
            None => continue,
        };
        restore_one(connection, options, &table, target, progress, report).await?;
    }
    Ok(())
}

/// What the user asked for, by table: last what the triggers saw, and before that what was there at set-up.
async fn wanted(
    connection: &Connection,
    facts: &ServerFacts,
    record: Option<&SourceRecord>,
    has_schema: bool,
) -> Result<BTreeMap<u32, Wanted>, SourceError> {
    let mut wanted: BTreeMap<u32, Wanted> = record
        .into_iter()
        .flat_map(|record| &record.identities)
        .map(|noted| (noted.oid, (noted.identity, noted.index.clone())))
        .collect();
    if has_schema && facts.is_superuser {
        let query = format!("SELECT relation, identity, index_name::text FROM {OUR_SCHEMA}.wanted_identity");
        let rows = connection.query(&query, &[]).await;
        let rows = rows.doing(|| "reading what identities the user asked for".to_owned())?;
        wanted.extend(rows.iter().map(|row| (row.get(0), (letter(row.get(1)), row.get(2)))));
    }
    Ok(wanted)
}

async fn restore_one(
    connection: &Connection,
    options: &SourceOptions,
    table: &Table,
    (identity, index): Wanted,
    progress: &dyn Progress,
    report: &mut TeardownReport,
) -> Result<(), SourceError> {
    if identity == 'f' {
        return Ok(());
    }
    let left =
        |why: String| TeardownStep::Left { what: format!("REPLICA IDENTITY FULL of {}", table.name), why };
    if !table.is_owned {
        report.steps.push(left("the table belongs to another role".to_owned()));
        return Ok(());
    }
    let action = identity::action(identity, index.as_deref());
    let restored =
        identity::alter_patiently(connection, &table.name, &action, options.lock_patience, progress).await;
    match restored {
        Ok(true) => {
            let identity = action.trim_start_matches("REPLICA IDENTITY ").to_owned();
            report.steps.push(TeardownStep::IdentityRestored { table: table.name.to_string(), identity });
        }
        Ok(false) => {}
        // The index that was its identity is gone; what it does without one is what DEFAULT does.
        Err(error) if error.server_error().is_some_and(|e| e.sqlstate == SqlState::UNDEFINED_OBJECT) => {
            let action = identity::action('d', None);
            identity::alter_patiently(connection, &table.name, &action, options.lock_patience, progress)
                .await?;
            report
                .steps
                .push(left(format!("its index is gone, so it has REPLICA IDENTITY DEFAULT now ({error})")));
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// How often the schema's lock is tried for: DDL of the user's holds it until its transaction ends.
const ATTEMPTS: u32 = 100;

async fn remove_schema(
    connection: &Connection,
    facts: &ServerFacts,
    found: &OurSchema,
    report: &mut TeardownReport,
) -> Result<(), SourceError> {
    let what = format!("schema {OUR_SCHEMA}");
    match found {
        OurSchema::Ours => {}
        OurSchema::Missing => {
            report.removed(false, what);
            return Ok(());
        }
        OurSchema::Others { owner } => {
            report
                .steps
                .push(TeardownStep::Left { what, why: format!("{owner:?} made it, and set-up did not") });
            return Ok(());
        }
    }
    if !facts.is_superuser {
        report.steps.push(TeardownStep::Left { what, why: format!("role {:?} is no superuser", facts.user) });
        return Ok(());
    }
    let statement = format!("DROP SCHEMA IF EXISTS {OUR_SCHEMA} CASCADE");
    let mut outcome = identity::attempt(connection, &statement).await?;
    for _ in 0..ATTEMPTS {
        match &outcome {
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                outcome = identity::attempt(connection, &statement).await?;
            }
            _ => break,
        }
    }
    outcome.doing(|| statement)?;
    report.removed(true, what);
    Ok(())
}

fn remove_record(
    options: &SourceOptions,
    record: Option<&SourceRecord>,
    report: &mut TeardownReport,
) -> Result<(), SourceError> {
    let Some(record) = record else { return Ok(()) };
    if let SchemaCapture::Off { .. } = record.schema_capture {
        report.steps.retain(|step| *step != TeardownStep::NotThere { what: format!("schema {OUR_SCHEMA}") });
    }
    match fs::remove_file(&options.record_path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(SourceError::file(&options.record_path)(error))
        }
        _ => {
            report.removed(true, format!("record {}", options.record_path.display()));
            Ok(())
        }
    }
}
