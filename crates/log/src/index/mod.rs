//! The transaction index, `index.sqlite`: what can be asked of the log without reading segments.
//!
//! Everything in it but markers and coverage is learnt from the segments and can be learnt again, so it is
//! never waited for: SQLite's WAL with `synchronous = NORMAL` may lose the last commits in a power failure,
//! and recovery adds them again. It is written only after the segment is durable, so it never knows a
//! transaction that the segments might not have: where it does, a segment was damaged.
//!
//! SQLite's integers are signed. LSNs are kept as the same 64 bits (an LSN from 2^63 on reads negative) and are
//! never compared in SQL; ordinals, entry indexes and counts stay far below 2^63.
//!
//! Transactions come in chunks of [`CHUNK`] by ordinal. For each chunk the index keeps what helps to skip it:
//! the span of commit times, and entries by table and operation.

mod names;
mod outline;
mod read;
mod write;

pub(crate) use names::{TableId, names_table};
pub(crate) use outline::IndexedOutline;
pub(crate) use read::{IndexReader, IndexReaders, IndexedTransaction, NamedTotals, Place};
pub(crate) use write::{Index, IndexRow, add_counts, recorded_extent};

/// Transactions of one chunk.
pub(crate) const CHUNK: u64 = 1024;

/// The `user_version` of an index that this crate can use; another one is rebuilt.
const VERSION: i64 = 2;

/// Under which key `meta` keeps where the log begins, as `beginning.json` says it; absent as long as there is none.
const BEGINNING: &str = "beginning";

/// Under which key `meta` keeps whether coverage is what it was, as long as that is in doubt; see [`crate::Coverage`].
const COVERAGE: &str = "coverage";

/// Under which key `meta` keeps what names the last start of the writer's machine, as long as the writer has not ended in
/// order.
const BOOT: &str = "boot";

const FLAG_GAP: i64 = 1;
const FLAG_SCHEMA_EVENT: i64 = 2;

/// What tells transactions that may not be taken back by their rows alone. The text is that of the partial index
/// `txn_barrier`, word for word, or SQLite does not use it.
const BARRIER: &str = "(ddl > 0 OR truncates > 0 OR flags <> 0 OR bytes > 1048576)";

const SCHEMA: &str = "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE table_name (id INTEGER PRIMARY KEY, schema TEXT NOT NULL, name TEXT NOT NULL);
    CREATE TABLE txn (
        ordinal INTEGER PRIMARY KEY, xid INTEGER NOT NULL,
        commit_lsn INTEGER NOT NULL, end_lsn INTEGER NOT NULL, commit_time INTEGER NOT NULL,
        first_entry INTEGER NOT NULL, inserts INTEGER NOT NULL, updates INTEGER NOT NULL,
        deletes INTEGER NOT NULL, truncates INTEGER NOT NULL, ddl INTEGER NOT NULL, messages INTEGER NOT NULL,
        segment INTEGER NOT NULL, logical INTEGER NOT NULL, bytes INTEGER NOT NULL,
        tables BLOB, flags INTEGER NOT NULL, origin_name TEXT, origin_lsn INTEGER);
    CREATE INDEX txn_xid ON txn (xid);
    CREATE INDEX txn_ddl ON txn (ordinal) WHERE ddl > 0;
    CREATE INDEX txn_barrier ON txn (ordinal) WHERE (ddl > 0 OR truncates > 0 OR flags <> 0 OR bytes > 1048576);
    CREATE TABLE chunk (
        id INTEGER PRIMARY KEY, min_time INTEGER NOT NULL, max_time INTEGER NOT NULL, bytes INTEGER NOT NULL,
        inserts INTEGER NOT NULL, updates INTEGER NOT NULL, deletes INTEGER NOT NULL,
        truncates INTEGER NOT NULL, ddl INTEGER NOT NULL, messages INTEGER NOT NULL);
    CREATE TABLE chunk_table (
        table_id INTEGER NOT NULL, chunk INTEGER NOT NULL,
        inserts INTEGER NOT NULL, updates INTEGER NOT NULL, deletes INTEGER NOT NULL,
        truncates INTEGER NOT NULL, ddl INTEGER NOT NULL, messages INTEGER NOT NULL,
        PRIMARY KEY (table_id, chunk)) WITHOUT ROWID;
    CREATE TABLE marker (id INTEGER PRIMARY KEY, token BLOB NOT NULL UNIQUE, ordinal INTEGER NOT NULL, lsn INTEGER NOT NULL);
";

const TABLES: [&str; 6] = ["meta", "table_name", "txn", "chunk", "chunk_table", "marker"];
