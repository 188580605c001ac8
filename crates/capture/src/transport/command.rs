//! Commands before streaming: who the server is, slots, and plain SQL.

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{DataRowBody, Message};
use ptr_model::Lsn;
use ptr_postgres::quote_identifier;

use super::{ReplicationConnection, TransportError};

/// The first major version with `CREATE_REPLICATION_SLOT ... (option, ...)`.
const OPTIONS_IN_PARENTHESES: u32 = 15;

/// What IDENTIFY_SYSTEM answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SystemIdentity {
    /// Names the cluster.
    pub system_identifier: u64,
    /// The WAL branch it is on.
    pub timeline: u32,
    /// How far its WAL is flushed.
    pub flush_lsn: Lsn,
    /// The database of this session.
    pub database: String,
}

/// How long a slot lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlotKind {
    /// Until it is dropped.
    Permanent,
    /// As long as the session that made it.
    Temporary,
}

/// What CREATE_REPLICATION_SLOT answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreatedSlot {
    /// Every transaction that commits after this is streamed; the snapshot sees every one before.
    pub consistent_point: Lsn,
    /// The exported snapshot, for SET TRANSACTION SNAPSHOT and `pg_dump --snapshot`. It lasts until the next command
    /// on this connection, or its end.
    pub snapshot: String,
}

impl ReplicationConnection {
    /// Runs a command or SQL and returns its rows as text.
    ///
    /// # Errors
    /// [`TransportError::Server`] where the server refuses it; the connection can be used again then.
    pub async fn query(&mut self, command: &str) -> Result<Vec<Vec<Option<String>>>, TransportError> {
        self.wire.query(command).await?;
        let mut rows = Vec::new();
        let mut failure = None;
        loop {
            match self.wire.message().await {
                Ok(Message::DataRow(row)) => rows.push(texts(&row)?),
                Ok(Message::ReadyForQuery(_)) => return failure.map_or(Ok(rows), Err),
                Ok(
                    Message::RowDescription(_) | Message::CommandComplete(_) | Message::EmptyQueryResponse,
                ) => {}
                Ok(_) => {
                    return Err(TransportError::Protocol { what: "something else than rows".to_owned() });
                }
                // The server goes on to ReadyForQuery after an error.
                Err(error @ TransportError::Server { .. }) => failure = Some(error),
                Err(error) => return Err(error),
            }
        }
    }

    /// Which cluster this is, and how far it is.
    ///
    /// # Errors
    /// [`TransportError`].
    pub async fn identify_system(&mut self) -> Result<SystemIdentity, TransportError> {
        let rows = self.query("IDENTIFY_SYSTEM").await?;
        let field = |at: usize| rows.first().and_then(|row| row.get(at)?.clone());
        let identity = || {
            Some(SystemIdentity {
                system_identifier: field(0)?.parse().ok()?,
                timeline: field(1)?.parse().ok()?,
                flush_lsn: field(2)?.parse().ok()?,
                database: field(3)?,
            })
        };
        identity().ok_or_else(|| TransportError::Protocol { what: format!("{rows:?} as its identity") })
    }

    /// Makes a logical slot of pgoutput and exports the snapshot that fits it. Waits for every transaction that is
    /// open, in any database.
    ///
    /// # Errors
    /// [`TransportError::Server`]: 42710 where the slot exists, 53400 where no slot is free, 55000 where
    /// `wal_level` is not logical.
    pub async fn create_slot(
        &mut self,
        name: &str,
        kind: SlotKind,
        major_version: u32,
    ) -> Result<CreatedSlot, TransportError> {
        let kind = match kind {
            SlotKind::Permanent => "",
            SlotKind::Temporary => " TEMPORARY",
        };
        let export =
            if major_version >= OPTIONS_IN_PARENTHESES { "(SNAPSHOT 'export')" } else { "EXPORT_SNAPSHOT" };
        let name = quote_identifier(name);
        let command = format!("CREATE_REPLICATION_SLOT {name}{kind} LOGICAL pgoutput {export}");
        let rows = self.query(&command).await?;
        let field = |at: usize| rows.first().and_then(|row| row.get(at)?.clone());
        let created = || Some(CreatedSlot { consistent_point: field(1)?.parse().ok()?, snapshot: field(2)? });
        created().ok_or_else(|| TransportError::Protocol { what: format!("{rows:?} as a new slot") })
    }

    /// Ends the session.
    ///
    /// # Errors
    /// [`TransportError::Io`] where the connection is broken already.
    pub async fn close(mut self) -> Result<(), TransportError> {
        self.wire.terminate().await
    }
}

fn texts(row: &DataRowBody) -> Result<Vec<Option<String>>, TransportError> {
    let buffer = row.buffer();
    let text = |range: Option<std::ops::Range<usize>>| {
        Ok(range.map(|range| String::from_utf8_lossy(&buffer[range]).into_owned()))
    };
    Ok(row.ranges().map(text).collect()?)
}
