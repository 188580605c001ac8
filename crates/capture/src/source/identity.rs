//! Replica identities: which old rows the server sends.
//!
//! FULL gives old images, without which there is no undo; it is set only where it can make none of the user's
//! statements fail. What was there before is noted first and put back by teardown.

use std::fmt;
use std::time::{Duration, Instant};

use ptr_postgres::{Connection, QualifiedName, ServerVersion, quote_identifier, sqlstate::SqlState};
use serde::{Deserialize, Serialize};

use super::{
    Doing, OpenTransaction, Progress, SetupEvent, SourceError, SourceOptions, catalog::Table,
    open_transactions::holders,
};

/// A table's replica identity as the user had it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NotedIdentity {
    /// `pg_class.oid`: the table may have another name by the time it is put back.
    pub oid: u32,
    /// The table's schema.
    pub schema: String,
    /// The table's name.
    pub table: String,
    /// `pg_class.relreplident`: `d`, `n`, `f` or `i`.
    pub identity: char,
    /// The index of identity `i`.
    pub index: Option<String>,
}

/// Why REPLICA IDENTITY FULL would make UPDATE and DELETE of a table fail.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum IdentityException {
    /// It has a virtual generated column (18).
    VirtualGeneratedColumn {
        /// The column.
        column: String,
    },
    /// It has a stored generated column that a publication leaves out (18).
    StoredGeneratedColumn {
        /// The column.
        column: String,
    },
    /// A publication of the user's lists its columns.
    ColumnList {
        /// The publication.
        publication: String,
    },
}

impl IdentityException {
    /// From the words of `sql/identity_exceptions.sql`.
    pub(super) fn read(reason: Option<String>, subject: Option<String>) -> Option<Self> {
        let subject = subject.unwrap_or_default();
        match reason?.as_str() {
            "virtual_generated_column" => Some(Self::VirtualGeneratedColumn { column: subject }),
            "stored_generated_column" => Some(Self::StoredGeneratedColumn { column: subject }),
            _ => Some(Self::ColumnList { publication: subject }),
        }
    }
}

impl fmt::Display for IdentityException {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VirtualGeneratedColumn { column } => {
                write!(f, "column {column:?} is generated and virtual")
            }
            Self::StoredGeneratedColumn { column } => {
                write!(f, "column {column:?} is generated, and a publication leaves it out")
            }
            Self::ColumnList { publication } => {
                write!(f, "publication {publication:?} has a column list for it")
            }
        }
    }
}

const EXCEPTIONS: &str = include_str!("../../sql/identity_exceptions.sql");
const EXCEPTIONS_18: &str = include_str!("../../sql/identity_exceptions_18.sql");

/// The tables on which FULL would make statements fail: `relation, reason, subject`. One definition, for us and
/// for the event triggers.
pub(super) fn exceptions_sql(version: ServerVersion) -> String {
    if version.major >= 18 { format!("{EXCEPTIONS}{EXCEPTIONS_18}") } else { EXCEPTIONS.to_owned() }
}

/// Every table's identity, for the record.
pub(super) fn note(tables: &[Table]) -> Vec<NotedIdentity> {
    let noted = tables.iter().map(|table| NotedIdentity {
        oid: table.oid,
        schema: table.name.schema.clone(),
        table: table.name.name.clone(),
        identity: table.identity,
        index: table.index.clone(),
    });
    noted.collect()
}

/// The tables that should get FULL and do not have it.
pub(crate) fn due<'a>(tables: &'a [Table], options: &SourceOptions) -> Vec<&'a Table> {
    due_of(tables, options).collect()
}

/// Those of some tables.
pub(crate) fn due_of<'a>(
    tables: impl IntoIterator<Item = &'a Table>,
    options: &SourceOptions,
) -> impl Iterator<Item = &'a Table> {
    tables.into_iter().filter(|table| table.identity != 'f' && table.gets_full(options))
}

/// Sets REPLICA IDENTITY FULL, table by table.
pub(crate) async fn set_full(
    connection: &Connection,
    tables: &[&Table],
    patience: Duration,
    progress: &dyn Progress,
) -> Result<(), SourceError> {
    for table in tables {
        alter_patiently(connection, &table.name, "REPLICA IDENTITY FULL", patience, progress).await?;
    }
    Ok(())
}

/// How long one attempt may hold up those who queue behind it.
const ATTEMPT: &str = "300ms";
/// The pause that lets them through.
const PAUSE: Duration = Duration::from_millis(200);

/// ALTER TABLE, in short attempts: while it waits for its lock, everybody else on the table waits behind it. False
/// if the table is not there.
pub(super) async fn alter_patiently(
    connection: &Connection,
    table: &QualifiedName,
    action: &str,
    patience: Duration,
    progress: &dyn Progress,
) -> Result<bool, SourceError> {
    let begun = Instant::now();
    // ONLY: the identity of a partitioned table does not reach its leaves, each is altered by itself.
    let statement = format!("ALTER TABLE ONLY {table} {action}");
    while let Err(error) = attempt(connection, &statement).await? {
        if [Some(&SqlState::UNDEFINED_TABLE), Some(&SqlState::INVALID_SCHEMA_NAME)].contains(&error.code()) {
            return Ok(false);
        }
        if error.code() != Some(&SqlState::LOCK_NOT_AVAILABLE) {
            return Err(error).doing(|| statement);
        }
        let holders = holders(connection, table).await?;
        if begun.elapsed() > patience {
            let holders = holders.iter().map(OpenTransaction::to_string).collect::<Vec<_>>().join(", ");
            return Err(SourceError::Locked {
                table: table.to_string(),
                seconds: patience.as_secs(),
                holders,
            });
        }
        progress.report(SetupEvent::WaitingForTable { table: table.to_string(), holders });
        tokio::time::sleep(PAUSE).await;
    }
    Ok(true)
}

/// Runs a statement that takes a lock in a transaction of its own, without waiting for long. The outer error is
/// that the connection is of no use any more.
pub(super) async fn attempt(
    connection: &Connection,
    statement: &str,
) -> Result<Result<(), tokio_postgres::Error>, SourceError> {
    let script = format!("BEGIN; SET LOCAL lock_timeout = '{ATTEMPT}'; {statement}; COMMIT");
    let outcome = connection.batch_execute(&script).await;
    if outcome.is_err() {
        connection.batch_execute("ROLLBACK").await.doing(|| "rolling back".to_owned())?;
    }
    Ok(outcome)
}

/// The action that gives a table this identity.
pub(super) fn action(identity: char, index: Option<&str>) -> String {
    match (identity, index) {
        ('i', Some(index)) => format!("REPLICA IDENTITY USING INDEX {}", quote_identifier(index)),
        ('n', _) => "REPLICA IDENTITY NOTHING".to_owned(),
        ('f', _) => "REPLICA IDENTITY FULL".to_owned(),
        _ => "REPLICA IDENTITY DEFAULT".to_owned(),
    }
}
