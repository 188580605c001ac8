//! Set-up, in the order that loses nothing.
//!
//! Checks -> record -> triggers -> replica identities -> publication -> slot -> base image in the slot's snapshot.
//! Identities come before the slot, because changes in between would have no old image; the publication comes
//! before the slot, because a slot streams by the publications of its own past. Between triggers and publication all
//! transactions end that are older than the triggers, and the tables are looked at again: those that they made fired
//! no event, and nobody could see them before.

use std::path::Path;

use ptr_log::LogIdentity;
use ptr_model::Oid;
use ptr_postgres::{Connection, SessionSettings, connect};
use uuid::Uuid;

use super::{
    Manifest, NotedIdentity, Progress, SchemaCapture, ServerFacts, SetupEvent, SourceError, SourceOptions,
    SourceRecord, Step,
    catalog::{Table, tables},
    exclusive, history, identity, open_transactions, publication,
    publication::Scope,
    schema,
    schema::OurSchema,
    slot, teardown,
};
use crate::{
    ddl::Secret,
    doctor::{self, Finding, Severity},
};

/// What capture needs to begin, and what the user should know.
#[derive(Clone, Debug)]
pub struct PreparedSource {
    /// For `ptr_log::create`, and to compare with a log that is there.
    pub identity: LogIdentity,
    /// Signs the messages of the event triggers; `None` where there are none.
    pub secret: Option<Secret>,
    /// Whether schema changes are captured.
    pub schema_capture: SchemaCapture,
    /// What is not as it could be.
    pub warnings: Vec<Finding>,
    /// The base image.
    pub manifest: Manifest,
    /// Whether all this was there already.
    pub was_prepared: bool,
}

/// Makes everything that capture needs on the primary, and takes the base image. Does nothing where that was done.
///
/// # Errors
/// [`SourceError`]. What was made by then stays, is in the record, and is undone when called again.
pub async fn prepare(
    options: &SourceOptions,
    progress: &dyn Progress,
) -> Result<PreparedSource, SourceError> {
    progress.report(SetupEvent::Checking);
    let session = SessionSettings::canonical("postgres-test-replay set-up").that_writes();
    let connection = connect(&options.dsn, &session).await?;
    // Of several hosts, all that follows goes to the one that was reached, with the password that is noted for it.
    let options = &SourceOptions { dsn: connection.dsn().clone(), ..options.clone() };
    exclusive::keep_others_out(&connection).await?;
    let facts = ServerFacts::ask(&connection).await?;
    if let Some(record) = SourceRecord::load(&options.record_path)? {
        is_of_this_database(&record, &facts, options)?;
        if record.began(Step::Complete) {
            let prepared = verify(&connection, &record, options).await?;
            schema::bring_up_to_date(&connection, &facts, &record, progress).await;
            return Ok(prepared);
        }
        progress.report(SetupEvent::UndoingUnfinished);
        exclusive::end_slot_makers(&connection).await?;
        teardown::undo(&connection, options, Some(&record), progress).await?;
    }
    let warnings = check(&connection, &facts, options, progress).await?;
    let (record, manifest) = make(&connection, &facts, options, progress).await?;
    progress.report(SetupEvent::Prepared { lsn: manifest.lsn });
    Ok(prepared(&record, manifest, warnings, false))
}

/// Refuses before anything is changed.
async fn check(
    connection: &Connection,
    facts: &ServerFacts,
    options: &SourceOptions,
    progress: &dyn Progress,
) -> Result<Vec<Finding>, SourceError> {
    nothing_is_taken(connection, options).await?;
    let findings = doctor::check_server(connection, facts, options).await?;
    let (errors, others): (Vec<_>, Vec<_>) =
        findings.into_iter().partition(|finding| finding.severity == Severity::Error);
    if !errors.is_empty() {
        return Err(SourceError::NotReady(errors));
    }
    for finding in others.iter().filter(|finding| finding.severity == Severity::Warning) {
        progress.report(SetupEvent::Warning { text: format!("{}: {}", finding.title, finding.meaning) });
    }
    Ok(others)
}

/// Things of our names without a record are somebody else's, or of a record that was lost.
async fn nothing_is_taken(connection: &Connection, options: &SourceOptions) -> Result<(), SourceError> {
    if let Some(state) = slot::find(connection, &options.slot).await? {
        return Err(slot::not_ours(&options.slot, &state));
    }
    if let Some(found) = publication::find(connection, &options.publication).await? {
        let maker = if found.is_ours { ", made by another set-up" } else { "" };
        return Err(SourceError::NotOurs {
            what: "publication",
            name: options.publication.clone(),
            detail: format!(" (owner {}{maker})", found.owner),
            hint: "choose another name with PUBLICATION_NAME, or run teardown if nothing else uses it"
                .to_owned(),
        });
    }
    match schema::installed(connection).await?.schema {
        OurSchema::Missing => {}
        OurSchema::Others { owner } => return Err(schema::not_ours(&owner)),
        OurSchema::Ours => {
            return Err(SourceError::NotOurs {
                what: "schema",
                name: ptr_model::OUR_SCHEMA.to_owned(),
                detail: ": another data directory captures this database, or captured it".to_owned(),
                hint: "run teardown with that data directory, or here if it is gone".to_owned(),
            });
        }
    }
    if options.base_directory.exists() {
        return Err(SourceError::NotOurs {
            what: "base image",
            name: options.base_directory.display().to_string(),
            detail: String::new(),
            hint: "it belongs to an earlier history; move the folder away, or choose another data directory"
                .to_owned(),
        });
    }
    Ok(())
}

fn is_of_this_database(
    record: &SourceRecord,
    facts: &ServerFacts,
    options: &SourceOptions,
) -> Result<(), SourceError> {
    if (record.system_identifier, record.database_oid) == (facts.system_identifier, facts.database_oid) {
        return Ok(());
    }
    Err(SourceError::Broken {
        what: format!(
            "{} is about database {:?} of another server, or of this server before it was made anew",
            options.record_path.display(),
            record.database
        ),
        hint: "set INPUT_DSN to that server, or choose another data directory for this one".to_owned(),
    })
}

async fn make(
    connection: &Connection,
    facts: &ServerFacts,
    options: &SourceOptions,
    progress: &dyn Progress,
) -> Result<(SourceRecord, Manifest), SourceError> {
    let path = &options.record_path;
    let before = tables(connection, facts.version).await?;
    let mut record = begin(facts, options, identity::note(&before));

    if record.schema_capture == SchemaCapture::On {
        record.begin(Step::Triggers, path)?;
        progress.report(SetupEvent::InstallingTriggers);
        let secret = schema::install(connection, facts.version, options, &record.identities).await?;
        record.secret = Some(secret.reveal().to_owned());
        record.save(path)?;
        schema::mark_as_ours(connection).await?;
    }

    set_identities(connection, &before, options, &mut record, progress).await?;
    open_transactions::until_older_ones_end(connection, progress).await?;
    let tables = tables(connection, facts.version).await?;
    note_later(connection, &tables, &mut record, path).await?;
    set_identities(connection, &tables, options, &mut record, progress).await?;

    let scope = scope(facts, &tables, options);
    record.begin(Step::Publication, path)?;
    progress.report(SetupEvent::Publishing {
        name: options.publication.clone(),
        tables: match &scope {
            Scope::AllTables => None,
            Scope::Tables(tables) => Some(tables.len()),
        },
    });
    publication::create(connection, &options.publication, &scope, facts.version, record.log_id).await?;

    let manifest = history::begin(connection, facts, options, &mut record, progress).await?;
    record.begin(Step::Complete, path)?;
    Ok((record, manifest))
}

/// Sets REPLICA IDENTITY FULL on those of the tables that are to get it and do not have it.
async fn set_identities(
    connection: &Connection,
    tables: &[Table],
    options: &SourceOptions,
    record: &mut SourceRecord,
    progress: &dyn Progress,
) -> Result<(), SourceError> {
    let due = identity::due(tables, options);
    if due.is_empty() {
        return Ok(());
    }
    record.begin(Step::Identities, &options.record_path)?;
    progress.report(SetupEvent::SettingIdentities {
        tables: due.iter().map(|table| table.name.to_string()).collect(),
    });
    identity::set_full(connection, &due, options.lock_patience, progress).await
}

/// Notes the identities that transactions older than the triggers left, for teardown.
async fn note_later(
    connection: &Connection,
    tables: &[Table],
    record: &mut SourceRecord,
    path: &Path,
) -> Result<(), SourceError> {
    let later: Vec<NotedIdentity> = identity::note(tables)
        .into_iter()
        // FULL may be ours by now.
        .filter(|noted| noted.identity != 'f' && !record.identities.contains(noted))
        .collect();
    if later.is_empty() {
        return Ok(());
    }
    if record.schema_capture == SchemaCapture::On {
        schema::want_identities(connection, &later).await?;
    }
    record.identities.retain(|noted| later.iter().all(|later| later.oid != noted.oid));
    record.identities.extend(later);
    record.save(path)
}

fn begin(facts: &ServerFacts, options: &SourceOptions, identities: Vec<NotedIdentity>) -> SourceRecord {
    let schema_capture = if facts.is_superuser {
        SchemaCapture::On
    } else {
        SchemaCapture::Off {
            reason: format!("role {:?} is no superuser, which event triggers need", facts.user),
        }
    };
    SourceRecord {
        log_id: Uuid::now_v7(),
        system_identifier: facts.system_identifier,
        timeline: facts.timeline,
        database: facts.database.clone(),
        database_oid: facts.database_oid,
        slot: options.slot.clone(),
        publication: options.publication.clone(),
        replica_identity: options.replica_identity,
        schema_capture,
        secret: None,
        identities,
        steps: Vec::new(),
        creation: None,
        created_at: facts.now,
    }
}

/// All tables where the role may and none would break. Else those it owns, but for such as would: with event
/// triggers, which keep the list, each table by itself; without, a partitioned table stands for its partitions, also
/// later ones.
fn scope(facts: &ServerFacts, tables: &[Table], options: &SourceOptions) -> Scope {
    let breaks = |table: &&Table| table.would_break(options);
    if facts.is_superuser && !tables.iter().any(|table| breaks(&table)) {
        return Scope::AllTables;
    }
    let by_itself = |table: &&Table| match facts.is_superuser {
        true => !table.is_partitioned,
        false => table.is_owned && !table.is_partition,
    };
    let published = tables.iter().filter(by_itself).filter(|table| !breaks(table));
    Scope::Tables(published.map(|table| table.name.clone()).collect())
}

/// Checks that what set-up made is still there.
async fn verify(
    connection: &Connection,
    record: &SourceRecord,
    options: &SourceOptions,
) -> Result<PreparedSource, SourceError> {
    let manifest = Manifest::load(&options.base_directory)?;
    let lost = |what: String| SourceError::Broken {
        what,
        hint: "run teardown, then up: another history begins, and this one stays readable beside it"
            .to_owned(),
    };
    if manifest.log_id != record.log_id {
        return Err(lost(format!("{} is of another history", options.base_directory.display())));
    }
    match slot::find(connection, &record.slot).await? {
        None => return Err(lost(format!("the slot {:?} is gone", record.slot))),
        Some(state) if state.wal_status == "lost" => {
            return Err(lost(format!("the server gave up the WAL of the slot {:?}", record.slot)));
        }
        Some(_) => {}
    }
    if publication::find(connection, &record.publication).await?.is_none() {
        return Err(lost(format!("the publication {:?} is gone", record.publication)));
    }
    if record.schema_capture == SchemaCapture::On {
        let missing = schema::installed(connection).await?.missing_triggers;
        if !missing.is_empty() {
            return Err(lost(format!("event triggers are gone or disabled: {}", missing.join(", "))));
        }
    }
    Ok(prepared(record, manifest, Vec::new(), true))
}

fn prepared(
    record: &SourceRecord,
    manifest: Manifest,
    warnings: Vec<Finding>,
    was_prepared: bool,
) -> PreparedSource {
    PreparedSource {
        identity: LogIdentity {
            system_identifier: record.system_identifier,
            timeline: record.timeline,
            database: record.database.clone(),
            database_oid: Oid(record.database_oid),
            creation: manifest.lsn,
            created_at: record.created_at,
            log_id: record.log_id,
        },
        secret: record.secret(),
        schema_capture: record.schema_capture.clone(),
        warnings,
        manifest,
        was_prepared,
    }
}
