//! Sessions on the output server, and what goes wrong in them.
//!
//! Everything that replay says to a server goes through a [`Connection`] opened here, so that every session
//! has the canonical settings and every failure says what was being done and with which SQLSTATE it ended.

use std::error::Error;

use ptr_postgres::{ConnectError, Connection, Dsn, ServerError, SessionSettings};

use crate::stop::passes;

/// The `application_name` of our sessions, by which they are told from clients.
pub(crate) const APPLICATION_NAME: &str = "postgres-test-replay";

/// A statement of ours that failed.
#[derive(Debug, thiserror::Error)]
#[error("could not {doing}: {}", describe(.source))]
pub struct DatabaseError {
    /// What was being done, as it reads after "could not".
    pub doing: String,
    /// What the client library reports.
    #[source]
    pub source: tokio_postgres::Error,
}

fn describe(error: &tokio_postgres::Error) -> String {
    ServerError::of(error).map_or_else(|| error.to_string(), |server| server.to_string())
}

impl DatabaseError {
    pub(crate) fn new(doing: impl Into<String>, source: tokio_postgres::Error) -> Self {
        Self { doing: doing.into(), source }
    }

    /// The SQLSTATE, where it was the server that refused.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        self.source.code().map(tokio_postgres::error::SqlState::code)
    }

    /// Whether trying again later, with nothing changed by the user, may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.sqlstate().map_or_else(|| is_lost(&self.source), passes)
    }
}

/// Whether it was the connection that failed, and not what was asked over it.
fn is_lost(error: &tokio_postgres::Error) -> bool {
    error.is_closed() || error.source().is_some_and(|source| source.is::<std::io::Error>())
}

/// Whether a server may be reached later that could not be reached now.
pub(crate) fn may_answer_later(error: &ConnectError) -> bool {
    match error {
        ConnectError::Protocol { source, .. } => is_lost(source),
        ConnectError::NoHost { attempts } => attempts.iter().any(may_answer_later),
        other => {
            other.is_transient() || other.server_error().is_some_and(|error| passes(error.sqlstate.code()))
        }
    }
}

/// Adds what was being done to an error of the client library.
pub(crate) trait Doing<T> {
    fn doing(self, what: &str) -> Result<T, DatabaseError>;
    fn doing_with(self, what: impl FnOnce() -> String) -> Result<T, DatabaseError>;
}

impl<T> Doing<T> for Result<T, tokio_postgres::Error> {
    fn doing(self, what: &str) -> Result<T, DatabaseError> {
        self.map_err(|source| DatabaseError::new(what, source))
    }

    fn doing_with(self, what: impl FnOnce() -> String) -> Result<T, DatabaseError> {
        self.map_err(|source| DatabaseError::new(what(), source))
    }
}

/// A session with canonical settings, in the database of `dsn`, that may write there.
pub(crate) async fn open(dsn: &Dsn) -> Result<Connection, ConnectError> {
    ptr_postgres::connect(dsn, &settings()).await
}

/// From now on nothing of the user's fires in this session, event triggers among it: what we make or alter for ourselves
/// is no event of theirs. Before 17 those that are ENABLE ALWAYS or ENABLE REPLICA fire all the same.
pub(crate) async fn fire_nothing(client: &tokio_postgres::Client) -> Result<(), DatabaseError> {
    let sql = "SET session_replication_role = replica;
               SELECT pg_catalog.set_config(name, 'off', false) FROM pg_catalog.pg_settings WHERE name = 'event_triggers'";
    client.batch_execute(sql).await.doing("have no event trigger fire")
}

/// What each session of ours has from its login on.
pub(crate) fn settings() -> SessionSettings {
    SessionSettings::canonical(APPLICATION_NAME).that_writes().with("standard_conforming_strings", "on")
}

/// The server's version as `server_version_num` has it, such as 150018.
pub(crate) async fn server_version(client: &tokio_postgres::Client) -> Result<i32, DatabaseError> {
    let sql = "SELECT pg_catalog.current_setting('server_version_num')::int";
    let row = client.query_one(sql, &[]).await.doing("ask for the server's version")?;
    row.try_get(0).doing("read the server's version")
}
