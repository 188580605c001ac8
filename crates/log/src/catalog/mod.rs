//! The catalog, `catalog.sqlite`: checkpoints, sessions and their moves.
//!
//! Unlike the index it cannot be learnt from anything else, so every change is durable before it is reported. The one
//! exception is the history of moves: where a session is, its database says, so what is noted about a move may be lost
//! with the machine's power in the moment before [`Catalog::sync`]; never with this process alone.
//! Several processes use it at once; each change is one SQLite transaction.
//!
//! After a sync that failed the system may have dropped what it could not write, and the next sync says nothing of it. What
//! stands in the write-ahead log is in memory still, so it goes into the database, and the log is begun anew, before
//! anything else is acknowledged: behind a hole in the log SQLite would find nothing after a power failure.

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
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
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

/// So many notes of moves, of about four pages each, and the write-ahead log is emptied.
const NOTES: u32 = 256;

/// The catalog, opened. Cheap to clone; every thread may ask.
#[derive(Clone, Debug)]
pub struct Catalog {
    path: Arc<PathBuf>,
    connection: Arc<Mutex<Connection>>,
    /// Whether the disk failed, so that nobody knows what of the write-ahead log is on it.
    is_doubtful: Arc<AtomicBool>,
    notes: Arc<AtomicU32>,
}

impl Catalog {
    /// Opens the catalog at `path`, making it, and the folders above it, where it is not there yet.
    ///
    /// # Errors
    /// [`CatalogError::File`] and [`CatalogError::Database`] where it cannot be opened, [`CatalogError::Newer`]
    /// where a newer program made it.
    pub fn open(path: &Path) -> Result<Self, CatalogError> {
        let file = |source| CatalogError::File { operation: "open", path: path.to_owned(), source };
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
        let is_doubtful = begin_anew(&connection).is_err();
        let catalog = Self {
            path: Arc::new(path.to_owned()),
            connection: Arc::new(Mutex::new(connection)),
            is_doubtful: Arc::new(AtomicBool::new(is_doubtful)),
            notes: Arc::default(),
        };
        catalog.change(|transaction| schema::migrate(transaction, path))?;
        Ok(catalog)
    }

    fn connect(path: &Path) -> rusqlite::Result<Connection> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(PATIENCE)?;
        use_write_ahead_log(&connection)?;
        restrict(&connection)?;
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
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        self.make_certain(&connection)?;
        self.doubt(self.commit(&mut connection, change))
    }

    /// Changes, all or nothing, without waiting for the disk: a crash of this process loses nothing, one of the machine
    /// may take the last of these changes back, in order. [`Catalog::sync`] and every other change make them durable.
    fn note<T>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, CatalogError>,
    ) -> Result<T, CatalogError> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        self.make_certain(&connection)?;
        // Were SQLite to empty its write-ahead log by itself here, it would keep a failure of the disk to itself.
        let eased = connection.execute_batch("PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0");
        let changed = eased.map_err(self.failed()).and_then(|()| self.commit(&mut connection, change));
        if restrict(&connection).is_err() {
            self.is_doubtful.store(true, Ordering::SeqCst);
        }
        if self.notes.fetch_add(1, Ordering::SeqCst) % NOTES == NOTES - 1 {
            // What was noted is noted; who changes something next is told if it cannot be made durable.
            let _ = self.doubt(empty(&connection, "PASSIVE").map_err(self.failed()));
        }
        self.doubt(changed)
    }

    fn commit<T>(
        &self,
        connection: &mut Connection,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, CatalogError>,
    ) -> Result<T, CatalogError> {
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(self.failed())?;
        let result = change(&transaction)?;
        transaction.commit().map_err(self.failed())?;
        Ok(result)
    }

    /// Makes durable what was noted about moves. Their commits are in the write-ahead log, or were synced with the
    /// catalog itself when SQLite emptied it.
    ///
    /// # Errors
    /// [`CatalogError::File`] and [`CatalogError::Database`] where the disk refuses.
    pub fn sync(&self) -> Result<(), CatalogError> {
        if self.is_doubtful.load(Ordering::SeqCst) {
            return self.make_certain(&self.connection.lock().unwrap_or_else(PoisonError::into_inner));
        }
        let mut path = self.path.as_os_str().to_owned();
        path.push("-wal");
        let path = PathBuf::from(path);
        match fs::File::open(&path).and_then(|file| file.sync_data()) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                self.doubt(Err(CatalogError::File { operation: "make durable", path, source }))
            }
            _ => Ok(()),
        }
    }

    /// Makes durable what is there, where the disk had failed.
    fn make_certain(&self, connection: &Connection) -> Result<(), CatalogError> {
        if self.is_doubtful.load(Ordering::SeqCst) {
            restrict(connection).and_then(|()| empty(connection, "TRUNCATE")).map_err(self.failed())?;
            self.is_doubtful.store(false, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Notes a failure of the disk.
    fn doubt<T>(&self, result: Result<T, CatalogError>) -> Result<T, CatalogError> {
        if result.as_ref().is_err_and(CatalogError::is_of_disk) {
            self.is_doubtful.store(true, Ordering::SeqCst);
        }
        result
    }

    fn failed(&self) -> impl Fn(rusqlite::Error) -> CatalogError + '_ {
        |error| CatalogError::database(&self.path)(error)
    }
}

/// Every commit waits for the disk; the write-ahead log is emptied when it has grown to SQLite's usual 1,000 pages.
fn restrict(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 1000")
}

/// Empties what others may have left in the write-ahead log to whom the disk had failed, and who did not come to it. Where
/// others use it, it is theirs.
fn begin_anew(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::ZERO)?;
    let emptied = empty(connection, "TRUNCATE");
    connection.busy_timeout(PATIENCE)?;
    emptied.or_else(|error| if is_busy(&error) { Ok(()) } else { Err(error) })
}

/// Takes what the write-ahead log holds into the database, durable. Only `TRUNCATE` waits for others, and is an error where
/// they do not end.
fn empty(connection: &Connection, mode: &str) -> rusqlite::Result<()> {
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    let is_hindered: bool = connection.query_row(&sql, [], |row| row.get(0))?;
    if is_hindered && mode == "TRUNCATE" {
        let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
        return Err(rusqlite::Error::SqliteFailure(busy, None));
    }
    Ok(())
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
