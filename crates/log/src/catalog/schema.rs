//! The tables of the catalog, and the steps from each version to the next.

use std::path::Path;

use rusqlite::Transaction;

use super::CatalogError;

/// What leads from version N to version N + 1, at place N. A step that was released is never altered.
const STEPS: [&str; 5] = ["
    CREATE TABLE session (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE,
        description TEXT NOT NULL, database TEXT NOT NULL, target_database TEXT NOT NULL UNIQUE,
        created_at INTEGER NOT NULL, follow INTEGER NOT NULL DEFAULT 0, open INTEGER NOT NULL DEFAULT 0,
        active INTEGER NOT NULL DEFAULT 0);
    CREATE UNIQUE INDEX one_active_session ON session (active) WHERE active;
    CREATE TABLE checkpoint (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, database TEXT NOT NULL, name TEXT NOT NULL,
        kind TEXT NOT NULL, description TEXT NOT NULL,
        ordinal INTEGER NOT NULL, lsn INTEGER NOT NULL, entry_index INTEGER NOT NULL,
        session_id TEXT REFERENCES session (id) ON DELETE SET NULL,
        created_at INTEGER NOT NULL, pinned INTEGER NOT NULL DEFAULT 0, hash TEXT,
        UNIQUE (database, name));
    CREATE TABLE move (
        id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL REFERENCES session (id) ON DELETE CASCADE,
        step TEXT NOT NULL, strategy TEXT NOT NULL,
        from_ordinal INTEGER, from_lsn INTEGER, from_entry INTEGER,
        to_ordinal INTEGER NOT NULL, to_lsn INTEGER NOT NULL, to_entry INTEGER NOT NULL,
        started_at INTEGER NOT NULL, finished_at INTEGER, outcome TEXT, error TEXT,
        stack TEXT, repeats INTEGER REFERENCES move (id));
    CREATE INDEX move_session ON move (session_id, id);
", "
    CREATE TABLE sequence_sample (
        database TEXT NOT NULL, ordinal INTEGER NOT NULL, lsn INTEGER NOT NULL, entry_index INTEGER NOT NULL,
        states TEXT NOT NULL, PRIMARY KEY (database, ordinal)) WITHOUT ROWID;
", "
    CREATE TABLE decision (
        id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL REFERENCES session (id) ON DELETE CASCADE,
        ordinal INTEGER NOT NULL, lsn INTEGER NOT NULL, entry_index INTEGER NOT NULL,
        kind TEXT NOT NULL, what TEXT NOT NULL, decided_at INTEGER NOT NULL);
    CREATE INDEX decision_session ON decision (session_id, id);
    CREATE TABLE condition (
        session_id TEXT PRIMARY KEY REFERENCES session (id) ON DELETE CASCADE,
        stop TEXT, notices TEXT NOT NULL, outdated INTEGER NOT NULL) WITHOUT ROWID;
", "
    CREATE INDEX move_unfinished ON move (session_id) WHERE finished_at IS NULL;
    CREATE INDEX move_stack ON move (session_id, stack, id) WHERE stack IS NOT NULL;
", "
    CREATE TABLE rate (
        server TEXT NOT NULL, component TEXT NOT NULL, nanoseconds REAL NOT NULL, measured INTEGER NOT NULL,
        PRIMARY KEY (server, component)) WITHOUT ROWID;
"];

/// Takes the catalog to the version of this program.
pub(super) fn migrate(transaction: &Transaction<'_>, path: &Path) -> Result<(), CatalogError> {
    let failed = |error| CatalogError::database(path)(error);
    let found: i64 =
        transaction.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    let known = STEPS.len();
    let done = usize::try_from(found).ok().filter(|done| *done <= known);
    let done = done.ok_or(CatalogError::Newer { path: path.to_owned(), found })?;
    for step in &STEPS[done..] {
        transaction.execute_batch(step).map_err(failed)?;
    }
    transaction.pragma_update(None, "user_version", known.to_string()).map_err(failed)
}
