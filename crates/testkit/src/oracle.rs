//! Whether two databases are equal, decided by `pg_dump` and SQL and by nothing of the product.
//!
//! Equal means: the same schema entries, whatever their order (`pg_dump` orders some by OID); the same
//! multiset of rows as text in every table; the same sequences. Left out is what capture itself puts on
//! a primary: our schema, our event triggers and publication, REPLICA IDENTITY FULL. Contents of
//! unlogged tables are left out too, since logical decoding does not see them.

mod compare;
mod rows;
mod schema;

pub use compare::assert_equal_states;

use crate::program;
use ptr_postgres::{Connection, Dsn, SessionSettings, connect};
use std::collections::BTreeMap;

/// The schema the product keeps its own objects in.
pub const OUR_SCHEMA: &str = "postgres_test_replay";

/// All of a database that replay promises to bring back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseState {
    /// What was captured, for messages: the DSN without its password.
    pub name: String,
    /// Schema entries as `pg_dump` writes them, sorted.
    pub schema: Vec<String>,
    /// Rows by table, `schema.table` quoted.
    pub tables: BTreeMap<String, TableState>,
    /// Sequences by quoted name.
    pub sequences: BTreeMap<String, SequenceState>,
}

/// The rows of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableState {
    /// How many there are.
    pub count: usize,
    /// SHA-256 over the sorted rows.
    pub digest: String,
    /// The sorted rows in COPY's text form, kept for small tables, to show what differs.
    pub rows: Option<Vec<String>>,
}

/// Where a sequence is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SequenceState {
    /// `last_value`.
    pub last_value: i64,
    /// `is_called`.
    pub is_called: bool,
}

impl DatabaseState {
    /// Captures the database's state, schema and rows in one snapshot.
    ///
    /// # Panics
    /// When the database cannot be reached or read.
    pub async fn capture(dsn: &Dsn) -> Self {
        Self::capture_without_publications(dsn, &[]).await
    }

    /// As [`DatabaseState::capture`], leaving these publications out besides those named like our schema.
    pub async fn capture_without_publications(dsn: &Dsn, publications: &[&str]) -> Self {
        let session = SessionSettings::canonical("postgres-test-replay-oracle");
        let client = connect(dsn, &session).await.unwrap_or_else(|error| panic!("{error}"));
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL row_security = off";
        client.batch_execute(begin).await.unwrap_or_else(|error| panic!("{error:?}"));
        let snapshot: String = value(&client, "SELECT pg_export_snapshot()").await;
        let dump = dump_schema(dsn, &snapshot).await;
        let state = Self {
            name: dsn.to_string(),
            schema: schema::entries(&dump, publications),
            tables: rows::tables(&client).await,
            sequences: rows::sequences(&client).await,
        };
        client.close().await;
        state
    }

    /// Without sequences, for positions at which they are only promised not to be behind.
    #[must_use]
    pub fn without_sequences(mut self) -> Self {
        self.sequences.clear();
        self
    }
}

async fn dump_schema(dsn: &Dsn, snapshot: &str) -> String {
    let pg_dump = crate::newest_program("pg_dump");
    let snapshot = format!("--snapshot={snapshot}");
    let mut arguments = vec!["--schema-only", snapshot.as_str()];
    // Newer minor releases write a random key otherwise.
    if program::run(&pg_dump, dsn, &["--help"], "").await.contains("--restrict-key") {
        arguments.push("--restrict-key=oracle");
    }
    program::run(&pg_dump, dsn, &arguments, "").await
}

async fn value(client: &Connection, sql: &str) -> String {
    let row = client.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    row.get(0)
}
