//! Proves that a database equals another, or shows where it does not; or keeps what it held, as hashes.
//!
//! Equal means: the same schema entries by `pg_dump --schema-only`, whatever their order, and every table the
//! same multiset of rows as text under canonical settings; for sequences see [`sequences`]. Left out is what
//! capture puts on the primary: our schema, event triggers, publication, and REPLICA IDENTITY FULL; and the
//! contents of unlogged tables, which logical decoding does not see.
//!
//! The way: [`tables`] lists what there is -> [`plan`] cuts it into ranges of pages -> [`read`] has several
//! connections add up hashes, each range in a transaction of its own in the exported snapshot, so that no lock
//! is held for long -> [`digest`] compares by groups of rows -> [`rows`] names the first differing rows of
//! differing groups. Memory is bounded by the number of groups, not by the rows.
//!
//! The caller sees to it that both snapshots are of the same position.

mod digest;
mod kept;
mod plan;
mod read;
mod rows;
mod schema;
pub mod sequences;
mod sql;
mod tables;

use ptr_postgres::{ConnectError, Dsn, Installation, QualifiedName};
use serde::Serialize;
use tokio::sync::watch;

pub use kept::{KeptHashes, KeptTable, hash};

use crate::{
    database::{self, DatabaseError, Doing},
    snapshot::{Exported, SnapshotError},
};

/// Differing rows that are shown of a table.
const SHOWN_ROWS: usize = 5;

/// How to compare.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// Whose `pg_dump` is used, for both sides the same.
    pub installation: Installation,
    /// Our publication, which only the primary has.
    pub publication: String,
    /// Connections to each side.
    pub jobs: usize,
    /// The `application_name` of the sessions that read, which no others have: by it [`end_sessions`] finds them.
    pub application_name: String,
}

/// How far a comparison is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct VerifyProgress {
    /// What is being done.
    pub step: String,
    /// Pages read.
    pub done: u64,
    /// Pages to read.
    pub total: u64,
}

/// What was compared, and how it came out.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct VerifyReport {
    /// Schema entries that one side has and the other has not, or has in another form.
    pub schema: Vec<SchemaDifference>,
    /// Every table of either side.
    pub tables: Vec<TableReport>,
    /// Tables whose rows were not compared, because our publication leaves them out.
    pub left_out: Vec<String>,
    /// Tables that were truncated, rewritten or dropped on the first side while they were read: what is said of
    /// them means nothing.
    pub disturbed: Vec<String>,
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
    /// The primary, or what was kept of it.
    Primary,
    /// The database that is compared with it.
    Replica,
}

/// A schema entry that differs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SchemaDifference {
    /// Who has it; `None` where both have it, in different forms.
    pub only_on: Option<Side>,
    /// Its heading in the dump: name, type, schema and owner.
    pub entry: String,
    /// Its SQL on the primary, where that is known.
    pub primary: Option<String>,
    /// Its SQL on the replica.
    pub replica: Option<String>,
}

/// How a table came out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TableReport {
    /// The table, quoted.
    pub table: String,
    /// Rows on the primary; `None` where it has no such table, or has it without contents.
    pub primary_rows: Option<u64>,
    /// Rows on the replica; `None` where it has no such table, or has it without contents.
    pub replica_rows: Option<u64>,
    /// Whether the rows are the same.
    pub same_rows: bool,
    /// The first rows that differ: in the order of the key, where there is one.
    pub first_differences: Vec<RowDifference>,
}

impl TableReport {
    /// Whether both sides have it, with the same rows.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.same_rows && self.primary_rows.is_some() && self.replica_rows.is_some()
    }
}

/// A row that differs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RowDifference {
    /// Its primary key as text; `None` in a table without one.
    pub key: Option<String>,
    /// Who has it; `None` where both have a row of that key.
    pub only_on: Option<Side>,
    /// The columns that differ; all of them in a row that only one side has.
    pub columns: Vec<ColumnDifference>,
}

/// A column's two values, NULL as `None`. Long values are cut, with a hash of the whole.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ColumnDifference {
    /// Its name.
    pub column: String,
    /// On the primary.
    pub primary: Option<String>,
    /// On the replica.
    pub replica: Option<String>,
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
    /// No snapshot could be taken.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A table went away or changed its columns while it was read.
    #[error("{table} changed while it was read: {source}")]
    Disturbed {
        /// The table.
        table: String,
        /// What the server said.
        source: DatabaseError,
    },
    /// A server's answer does not read as it should.
    #[error("a sum over {table} reads {text:?}")]
    Unreadable {
        /// The table.
        table: String,
        /// What was answered.
        text: String,
    },
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
    primary: &Exported,
    replica: &Exported,
    options: &VerifyOptions,
    progress: &watch::Sender<VerifyProgress>,
) -> Result<VerifyReport, VerifyError> {
    progress.send_modify(|progress| "comparing the schema".clone_into(&mut progress.step));
    let schema = schema::compare(primary, replica, options).await?;
    let publication = &options.publication;
    let listed = [tables::list(primary, publication).await?, tables::list(replica, publication).await?];
    let plan::Planned { plans, left_out } = plan::of_two(listed);
    let digests = read::digests(&[primary, replica], &plans, options, progress).await?;
    let mut reports = Vec::with_capacity(plans.len());
    for (plan, digest) in plans.iter().zip(&digests) {
        let first_differences = if digest.differing.is_empty() {
            Vec::new()
        } else {
            rows::first_differences([primary, replica], plan, &digest.differing, options).await?
        };
        reports.push(TableReport {
            table: plan.shown(),
            primary_rows: digest.rows[0],
            replica_rows: digest.rows[1],
            same_rows: digest.same,
            first_differences,
        });
    }
    let disturbed = tables::disturbed(primary, &plans).await?;
    Ok(VerifyReport { schema, tables: reports, left_out, disturbed })
}

/// Ends what a comparison that was dropped still has running on a server: a server notices that its client is gone only
/// when it has something to say, and one that waits for a lock has not.
///
/// # Errors
/// [`DatabaseError`] or [`ConnectError`] where the server cannot be told.
pub async fn end_sessions(dsn: &Dsn, application_name: &str) -> Result<(), VerifyError> {
    let connection = database::open(dsn).await?;
    let sql = "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
               WHERE application_name = $1 AND pid <> pg_catalog.pg_backend_pid() AND usename = session_user";
    connection.execute(sql, &[&application_name]).await.doing("end the sessions of a comparison")?;
    connection.close().await;
    Ok(())
}

/// The name of a table as reports show it.
fn shown(schema: &str, name: &str) -> String {
    QualifiedName::new(schema, name).to_string()
}
