//! The replication protocol, from login to the stream of changes.
//!
//! First step of capture. tokio-postgres has no replication mode, so the few messages that it takes are spoken
//! here, on the stream that `ptr-postgres` opens (so DSN, TLS and sockets are the same everywhere) and with the
//! message formats of `postgres-protocol`.
//!
//! A [`ReplicationConnection`] takes commands; [`ReplicationConnection::start`] turns it into a
//! [`ReplicationStream`], and [`ReplicationConnection::peek`] reads the same messages by SQL, before. Nothing else in
//! the crate knows what the protocol looks like.
//!
//! Facts: PostgreSQL manual, chapters "Frontend/Backend Protocol" and "Streaming Replication Protocol".

mod command;
mod login;
mod peek;
mod stream;
mod wire;

use ptr_model::{Lsn, OUR_SCHEMA};
use ptr_postgres::{
    ConnectError, Dsn, ServerError, connect::passes, dsn::TargetSession, quote_identifier, quote_literal,
};

pub use command::{CreatedSlot, SlotKind, SystemIdentity};
pub use peek::{Peek, Peeked};
pub use stream::{ReplicationStream, StandbyStatus, StreamMessage};
use wire::Wire;

/// What went wrong between us and the server.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The server cannot be reached, or refuses the login.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server answered with an error.
    #[error("the server ended {doing}: {error}")]
    Server {
        /// What was being done.
        doing: String,
        /// The server's words.
        error: Box<ServerError>,
    },
    /// The connection broke.
    #[error("the replication connection broke: {0}")]
    Io(#[from] std::io::Error),
    /// The server closed the connection without a word.
    #[error("the server closed the replication connection")]
    Closed,
    /// Nothing came, though the server was asked to say something.
    #[error(
        "the server has said nothing for {seconds} s, though it was asked to: the connection may be half-open, \
         as when a firewall forgets it"
    )]
    Silent {
        /// How long.
        seconds: u64,
    },
    /// The login takes what we do not have.
    #[error("the server asks for {asked}, {missing}")]
    Login {
        /// What it asks for.
        asked: String,
        /// What is missing, and what to do.
        missing: &'static str,
    },
    /// The server sent what the protocol does not allow here.
    #[error(
        "the server sent {what}, which is not part of the replication protocol; is this a pooler's port?"
    )]
    Protocol {
        /// What came.
        what: String,
    },
}

impl TransportError {
    /// The server's own error, if it is one.
    #[must_use]
    pub fn server_error(&self) -> Option<&ServerError> {
        match self {
            Self::Server { error, .. } => Some(error),
            Self::Connect(ConnectError::LoginRefused { error, .. } | ConnectError::Server { error, .. }) => {
                Some(error)
            }
            _ => None,
        }
    }
}

/// A session in replication mode that takes commands, and SQL as well (`replication=database`).
#[derive(Debug)]
pub struct ReplicationConnection {
    wire: Wire,
    is_in_recovery: bool,
}

impl ReplicationConnection {
    /// Logs in at the first host that will do, as [`ptr_postgres::connect()`] does, with the settings under which one
    /// value has one text, and without limits of time: decoding counts as a transaction.
    ///
    /// # Errors
    /// [`TransportError::Connect`] or [`TransportError::Login`].
    pub async fn connect(dsn: &Dsn) -> Result<Self, TransportError> {
        let (mut attempts, mut broken) = (Vec::new(), None);
        for target in passes(dsn.target()) {
            for host in dsn.hosts() {
                match Self::at_host(&dsn.with_host(host), *target).await {
                    Err(TransportError::Connect(error)) if error.leaves_other_hosts_to_try() => {
                        attempts.push(error);
                    }
                    Err(error @ (TransportError::Io(_) | TransportError::Closed)) => broken = Some(error),
                    result => return result,
                }
            }
        }
        Err(broken.unwrap_or_else(|| ConnectError::of_attempts(attempts).into()))
    }

    /// Of a DSN with one host.
    async fn at_host(dsn: &Dsn, target: TargetSession) -> Result<Self, TransportError> {
        let wire = login::log_in(dsn, OUR_SCHEMA).await?;
        let mut connection = Self { wire, is_in_recovery: false };
        let question = "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only') = 'on'";
        let rows = connection.query(question).await?;
        let is = |at: usize| {
            rows.first().is_some_and(|row| row.get(at).is_some_and(|b| b.as_deref() == Some("t")))
        };
        let (in_recovery, read_only) = (is(0), is(1));
        connection.is_in_recovery = in_recovery;
        let fits = match target {
            TargetSession::Any => true,
            TargetSession::ReadWrite => !read_only,
            TargetSession::ReadOnly => read_only,
            TargetSession::Primary => !in_recovery,
            TargetSession::Standby | TargetSession::PreferStandby => in_recovery,
        };
        if fits {
            return Ok(connection);
        }
        // What is not wanted is left without a word if the goodbye fails.
        let _ = connection.close().await;
        let host = dsn.hosts().first().map(ToString::to_string).unwrap_or_default();
        Err(ConnectError::WrongKind { host, wanted: target }.into())
    }

    /// Whether the server was a standby when it was logged in to.
    #[must_use]
    pub fn is_in_recovery(&self) -> bool {
        self.is_in_recovery
    }

    /// Starts streaming a slot from `from` on, or from where it was confirmed if that is later.
    ///
    /// # Errors
    /// [`TransportError::Server`]: 42704 where the slot is missing, 55006 where it is in use, 55000 where it was
    /// invalidated.
    pub async fn start(
        mut self,
        slot: &str,
        publication: &str,
        from: Lsn,
    ) -> Result<ReplicationStream, TransportError> {
        let options: Vec<String> = plugin_options(publication)
            .iter()
            .map(|(name, value)| format!("{name} {}", quote_literal(value)))
            .collect();
        let command = format!(
            "START_REPLICATION SLOT {} LOGICAL {from} ({})",
            quote_identifier(slot),
            options.join(", ")
        );
        self.wire.query(&command).await?;
        self.wire.expect_copy_both("the start of replication").await?;
        Ok(ReplicationStream::new(self.wire))
    }
}

/// What `pgoutput` is asked for, by whichever way: whole transactions, and logical messages among them.
fn plugin_options(publication: &str) -> [(&'static str, String); 3] {
    [
        ("proto_version", "1".to_owned()),
        // A list of identifiers inside a string.
        ("publication_names", quote_identifier(publication)),
        ("messages", "true".to_owned()),
    ]
}
