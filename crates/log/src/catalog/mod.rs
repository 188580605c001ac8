//! The catalog, `catalog.sqlite`: checkpoints, sessions and their moves.
//!
//! Unlike the index it cannot be learnt from anything else, so every change is durable before it is reported. The one
//! exception is the history of moves: where a session is, its database says, so what is noted about a move may be lost
//! with the machine's power in the moment before [`Catalog::sync`]; never with this process alone.
//! Several processes use it at once; each change is one SQLite transaction.

mod checkpoint;
mod conclusion;
mod condition;
mod decision;
mod error;
mod history;
mod moves;
mod rates;
mod schema;
mod sequences;
mod session;

use std::{
    fs,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use ptr_model::{Lsn, Position, Timestamp};
use rusqlite::{Connection, Row, Transaction, TransactionBehavior};
use uuid::Uuid;

pub use self::{
    checkpoint::{Checkpoint, CheckpointKind, NewCheckpoint},
    conclusion::Conclusion,
    condition::Condition,
    decision::{Decision, DecisionId, DecisionKind},
    error::CatalogError,
    moves::{Move, MoveId, MoveOutcome, MoveStep, NewMove},
    rates::MeasuredRate,
    sequences::SequenceSample,
    session::{DEFAULT_SESSION, NewSession, Session},
};
use crate::disk::create_private_directory;

/// How long one user waits for another.
const PATIENCE: Duration = Duration::from_secs(30);

/// The catalog, opened. Cheap to clone; every thread may ask.
#[derive(Clone, Debug)]
pub struct Catalog {
    path: Arc<PathBuf>,
    connection: Arc<Mutex<Connection>>,
}

impl Catalog {
    /// Opens the catalog at `path`, making it, and the folders above it, where it is not there yet.
    ///
    /// # Errors
    /// [`CatalogError::File`] and [`CatalogError::Database`] where it cannot be opened, [`CatalogError::Newer`]
    /// where a newer program made it.
    pub fn open(path: &Path) -> Result<Self, CatalogError> {
        let file = |source| CatalogError::File { path: path.to_owned(), source };
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            create_private_directory(directory).map_err(file)?;
        }
        // SQLite would make the file for everybody that the umask allows; an empty file is an empty database.
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(file)?;
        let connection = Self::connect(path).map_err(CatalogError::database(path))?;
        let catalog = Self { path: Arc::new(path.to_owned()), connection: Arc::new(Mutex::new(connection)) };
        catalog.change(|transaction| schema::migrate(transaction, path))?;
        Ok(catalog)
    }

    fn connect(path: &Path) -> rusqlite::Result<Connection> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(PATIENCE)?;
        use_write_ahead_log(&connection)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        Ok(connection)
    }

    /// Reads.
    fn ask<T>(&self, ask: impl FnOnce(&Connection) -> Result<T, CatalogError>) -> Result<T, CatalogError> {
        ask(&self.connection.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes, all or nothing. `IMMEDIATE`, so that nobody changes what the change is decided upon.
    fn change<T>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, CatalogError>,
    ) -> Result<T, CatalogError> {
        let failed = |error| CatalogError::database(&self.path)(error);
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let result = change(&transaction)?;
        transaction.commit().map_err(failed)?;
        Ok(result)
    }

    /// Changes, all or nothing, without waiting for the disk: a crash of this process loses nothing, one of the machine
    /// may take the last of these changes back, in order. [`Catalog::sync`] and every other change make them durable.
    fn note<T>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, CatalogError>,
    ) -> Result<T, CatalogError> {
        let failed = |error| CatalogError::database(&self.path)(error);
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        connection.pragma_update(None, "synchronous", "NORMAL").map_err(failed)?;
        let changed = (|| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
            let result = change(&transaction)?;
            transaction.commit().map_err(failed)?;
            Ok(result)
        })();
        connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        changed
    }

    /// Makes durable what was noted about moves. Their commits are in the write-ahead log, or were synced with the
    /// catalog itself when SQLite emptied it.
    ///
    /// # Errors
    /// [`CatalogError::File`] where the disk refuses.
    pub fn sync(&self) -> Result<(), CatalogError> {
        let mut path = self.path.as_os_str().to_owned();
        path.push("-wal");
        let path = PathBuf::from(path);
        match fs::File::open(&path).and_then(|file| file.sync_data()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(CatalogError::File { path, source: error })
            }
            _ => Ok(()),
        }
    }

    fn failed(&self) -> impl Fn(rusqlite::Error) -> CatalogError + '_ {
        |error| CatalogError::database(&self.path)(error)
    }
}

/// Changing the journal's mode is the one thing for which SQLite does not wait by itself while others use the
/// file: the first users, who all want it, would refuse each other.
fn use_write_ahead_log(connection: &Connection) -> rusqlite::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(error) if is_busy(&error) && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(2));
            }
            result => return result,
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked)
    )
}

fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
}

/// The three columns of a position, as SQLite's signed integers.
fn position_columns(position: Position) -> [i64; 3] {
    [position.ordinal, position.lsn.0, position.entry_index].map(u64::cast_signed)
}

fn position_of(row: &Row<'_>, first: usize) -> rusqlite::Result<Position> {
    let number = |column| row.get::<_, i64>(first + column).map(i64::cast_unsigned);
    Ok(Position { ordinal: number(0)?, lsn: Lsn(number(1)?), entry_index: number(2)? })
}

fn uuid_of(row: &Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    let text: String = row.get(column)?;
    parse_uuid(&text, column)
}

fn parse_uuid(text: &str, column: usize) -> rusqlite::Result<Uuid> {
    Uuid::parse_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}
