//! A snapshot of the primary, and which position of the log it shows.
//!
//! The order in which commits become visible is not the order in which they are in the WAL, so a snapshot need
//! not match any position. It does where the transactions that it sees are a first part of the log. The way:
//! "now" in the log -> [`Exported::open`] -> "now" again -> [`Exported::visibility`]`.position_in(log, ..)`; where
//! that is none, another snapshot. What "now" is in the log is told by a marker, which is capture's.

mod visibility;

pub use visibility::Visibility;

use ptr_postgres::{ConnectError, Connection, Dsn};

use crate::database::{self, DatabaseError, Doing};

/// How many snapshots are worth trying. With eight writers one in six matches no position.
pub const ATTEMPTS: usize = 60;

/// A snapshot that others can read in, as long as this is there. It holds no table lock.
#[derive(Debug)]
pub struct Exported {
    connection: Connection,
    id: String,
    visibility: Visibility,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The server cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server refused.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The server's snapshot does not read as one.
    #[error("the server's snapshot reads {0:?}")]
    Unreadable(String),
}

impl Exported {
    /// Opens a transaction in a snapshot and exports it.
    ///
    /// # Errors
    /// [`SnapshotError`] where the server does not give one.
    pub async fn open(dsn: &Dsn) -> Result<Self, SnapshotError> {
        let connection = database::open(dsn).await?;
        let host = connection.dsn().clone();
        connection
            .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            .await
            .doing("begin to read")?;
        let sql = "SELECT pg_catalog.pg_current_snapshot()::text, pg_catalog.pg_export_snapshot()";
        let row = connection.query_one(sql, &[]).await.doing("export a snapshot")?;
        // Another connection's own id: every id given out before the snapshot is below it.
        let other = database::open(&host).await?;
        let sql = "SELECT pg_catalog.pg_current_xact_id()::text";
        let next = other.query_one(sql, &[]).await.doing("ask for a transaction id")?;
        other.close().await;
        let (text, next): (String, String) = (row.get(0), next.get(0));
        let visibility = Visibility::parse(&text, &next)
            .ok_or_else(|| SnapshotError::Unreadable(format!("{text} before {next}")))?;
        Ok(Self { connection, id: row.get(1), visibility })
    }

    /// What `SET TRANSACTION SNAPSHOT` and `pg_dump --snapshot` take.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where the snapshot can be used: the one host that it was taken on.
    #[must_use]
    pub fn dsn(&self) -> &Dsn {
        self.connection.dsn()
    }

    /// Which transactions it sees.
    #[must_use]
    pub fn visibility(&self) -> &Visibility {
        &self.visibility
    }

    /// The connection whose transaction is in the snapshot.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Gives the snapshot back.
    pub async fn close(self) {
        self.connection.close().await;
    }
}
