//! Proves that a session's database equals the primary, or shows where it does not.
//!
//! Equal means: the same schema entries by `pg_dump --schema-only`, whatever their order, and every table the
//! same multiset of rows as text under canonical settings. Left out is what capture puts on the primary: our
//! schema, event triggers, publication, and REPLICA IDENTITY FULL; and the contents of unlogged tables, which
//! logical decoding does not see.
//!
//! The caller sees to it that both are at the same position: a busy primary differs by what it did since.

mod contents;
mod schema;

use ptr_postgres::{ConnectError, Dsn, Installation, QualifiedName};
use serde::Serialize;

use crate::database::DatabaseError;

/// Differing rows that are shown of a table.
const SHOWN_ROWS: usize = 5;

/// What was compared, and how it came out.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct VerifyReport {
    /// Schema entries that one side has and the other has not, or has in another form.
    pub schema: Vec<SchemaDifference>,
    /// Every table of either side.
    pub tables: Vec<TableReport>,
}

impl VerifyReport {
    /// Whether the two are equal.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.schema.is_empty() && self.tables.iter().all(TableReport::is_equal)
    }
}

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The primary.
    Primary,
    /// The session's database.
    Replica,
}

/// A schema entry that only one side has.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SchemaDifference {
    /// Who has it.
    pub only_on: Side,
    /// Its heading in the dump: name, type, schema and owner.
    pub entry: String,
    /// Its SQL.
    pub sql: String,
}

/// How a table came out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TableReport {
    /// The table, quoted.
    pub table: String,
    /// Rows on the primary; `None` where it has no such table.
    pub primary_rows: Option<u64>,
    /// Rows in the session's database; `None` where it has no such table.
    pub replica_rows: Option<u64>,
    /// Whether the rows are the same.
    pub same_rows: bool,
    /// The first rows, in the order of their text, that one side has more often than the other.
    pub first_differences: Vec<RowDifference>,
}

impl TableReport {
    /// Whether both sides have it, with the same rows.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.same_rows && self.primary_rows.is_some() && self.replica_rows.is_some()
    }
}

/// A row that only one side has.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RowDifference {
    /// Who has it.
    pub only_on: Side,
    /// The row as a record's text.
    pub row: String,
}

/// Why nothing could be compared.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A server cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A server refused.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// `pg_dump` could not be run.
    #[error("cannot run {program}: {source}")]
    Program {
        /// The program.
        program: String,
        /// The reason.
        source: std::io::Error,
    },
    /// `pg_dump` failed.
    #[error("{program} failed on {dsn} ({status}): {output}")]
    Dump {
        /// The program.
        program: String,
        /// On which database.
        dsn: String,
        /// Its exit status.
        status: String,
        /// What it said.
        output: String,
    },
}

/// Compares two databases, schema and rows.
///
/// # Errors
/// [`VerifyError`] where they cannot be compared; differences are no errors.
pub async fn verify(
    primary: &Dsn,
    replica: &Dsn,
    installation: &Installation,
    publication: &str,
) -> Result<VerifyReport, VerifyError> {
    let on_primary = schema::entries(&schema::dump(primary, installation).await?, publication);
    let on_replica = schema::entries(&schema::dump(replica, installation).await?, publication);
    let schema = schema::differences(&on_primary, &on_replica);
    let tables = contents::compare(primary, replica).await?;
    Ok(VerifyReport { schema, tables })
}

/// The name of a table as reports show it.
fn shown(schema: &str, name: &str) -> String {
    QualifiedName::new(schema, name).to_string()
}
