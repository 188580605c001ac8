//! A session on a server: a stream, a login, and the settings every session of ours has.
//!
//! [`Connection`] is tokio-postgres's `Client` with its driver task tied to it. Each host of the DSN is
//! tried in order, as libpq does: the next one after a host that cannot be reached, is starting up or
//! is of the wrong kind, but none after a refused login.

mod error;
mod login;
mod proof;
mod watch;

pub use error::ConnectError;
pub(crate) use watch::{MARK, ask as ask_aside};

use crate::dsn::{Dsn, Host, SslMode, TargetSession};
use crate::settings::SessionSettings;
use crate::stream::{OpenedStream, open_host, within};
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage};

/// An open session. Dereferences to [`Client`]; dropping it ends the session.
#[derive(Debug)]
pub struct Connection {
    client: Client,
    driver: JoinHandle<()>,
    dsn: Dsn,
    is_pooled: bool,
}

impl Connection {
    /// The host that was reached.
    pub fn host(&self) -> &Host {
        self.dsn.hosts().first().expect("a DSN has at least one host")
    }

    /// The DSN narrowed to the host that was reached.
    pub fn dsn(&self) -> &Dsn {
        &self.dsn
    }

    /// Whether a pooler let us in, and not the server itself: what the login announced is another process than the one
    /// that works for us. Known of connections that [`connect`] opened.
    pub fn is_pooled(&self) -> bool {
        self.is_pooled
    }

    /// Asks the server to cancel what this session runs, over a connection of its own.
    ///
    /// The statement may have ended before; then nothing happens.
    ///
    /// # Errors
    /// [`ConnectError`] when the server cannot be reached for it.
    pub async fn cancel(&self) -> Result<(), ConnectError> {
        let opened =
            within(self.dsn.connect_timeout(), self.host(), open_host(&self.dsn, self.host())).await?;
        login::cancel(&self.client, opened)
            .await
            .map_err(|error| ConnectError::of_client(&self.dsn, self.host(), error))
    }

    /// Ends the session and waits until the connection is closed.
    pub async fn close(self) {
        let Self { client, driver, .. } = self;
        drop(client);
        // The driver returns once it has sent Terminate; a panic in it has nothing left to tell us.
        let _ = driver.await;
    }
}

impl Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

/// Opens a session on the first host that will do.
///
/// # Errors
/// [`ConnectError`]: of the only host, or of all of them in [`ConnectError::NoHost`].
pub async fn connect(dsn: &Dsn, session: &SessionSettings) -> Result<Connection, ConnectError> {
    let mut attempts = Vec::new();
    for target in passes(dsn.target()) {
        for host in dsn.hosts() {
            match connect_host(dsn, host, session, *target).await {
                Ok(connection) => return Ok(connection),
                Err(error) if error.leaves_other_hosts_to_try() => attempts.push(error),
                Err(error) => return Err(error),
            }
        }
    }
    Err(ConnectError::of_attempts(attempts))
}

/// The kinds of servers that are looked for, one after the other, each among all hosts: `prefer-standby` goes through
/// them twice.
#[must_use]
pub fn passes(target: TargetSession) -> &'static [TargetSession] {
    use TargetSession::{Any, PreferStandby, Primary, ReadOnly, ReadWrite, Standby};
    match target {
        Any => &[Any],
        ReadWrite => &[ReadWrite],
        ReadOnly => &[ReadOnly],
        Primary => &[Primary],
        Standby => &[Standby],
        PreferStandby => &[Standby, Any],
    }
}

async fn connect_host(
    dsn: &Dsn,
    host: &Host,
    session: &SessionSettings,
    target: TargetSession,
) -> Result<Connection, ConnectError> {
    let attempt = |dsn: Dsn| async move { within(dsn.connect_timeout(), host, log_in(&dsn, session)).await };
    let narrow = dsn.with_host(host);
    let first = attempt(narrow.clone()).await;
    let connection = match first {
        // pg_hba.conf may allow clear text only (`hostnossl`).
        Err(ConnectError::LoginRefused { error, .. })
            if narrow.ssl().mode < SslMode::Require
                && narrow.ssl().mode != SslMode::Disable
                && error.sqlstate == SqlState::INVALID_AUTHORIZATION_SPECIFICATION =>
        {
            attempt(narrow.with_sslmode(SslMode::Disable)).await?
        }
        first => first?,
    };
    check_target(&connection, target).await?;
    Ok(connection)
}

async fn log_in(dsn: &Dsn, session: &SessionSettings) -> Result<Connection, ConnectError> {
    log_in_and_watch(dsn, session, true).await
}

/// Without a look at whether it still leads anywhere: for such a look, whose type would otherwise contain itself.
fn log_in_unwatched<'a>(
    dsn: &'a Dsn,
    session: &'a SessionSettings,
) -> Pin<Box<dyn Future<Output = Result<Connection, ConnectError>> + Send + 'a>> {
    Box::pin(log_in_and_watch(dsn, session, false))
}

async fn log_in_and_watch(
    dsn: &Dsn,
    session: &SessionSettings,
    is_watched: bool,
) -> Result<Connection, ConnectError> {
    let host = dsn.hosts().first().expect("a DSN has at least one host");
    let opened: OpenedStream = open_host(dsn, host).await?;
    let refused = |error| ConnectError::of_client(dsn, host, error);
    let (client, session_watch, driver) =
        login::log_in(dsn, &session.application_name, opened).await.map_err(refused)?;
    let mut connection = Connection { client, driver, dsn: dsn.clone(), is_pooled: false };
    // One statement: the settings, and by what the server knows the session.
    let mut settings = session.to_sql();
    if is_watched {
        settings.push_str(&format!(", {WHO_WE_ARE}"));
    }
    let answer = connection.simple_query(&settings).await.map_err(refused)?;
    if is_watched {
        let backend = backend_in(&answer);
        connection.is_pooled = backend.as_ref().map(|backend| backend.pid) != session_watch.announced;
        session_watch.begin(dsn, backend);
    }
    Ok(connection)
}

/// Process id and start of our session on the server, as the last two columns.
const WHO_WE_ARE: &str = "pg_catalog.pg_backend_pid(), \
     (SELECT EXTRACT(epoch FROM backend_start) FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()))";

fn backend_in(answer: &[SimpleQueryMessage]) -> Option<watch::Backend> {
    answer.iter().find_map(|message| {
        let SimpleQueryMessage::Row(row) = message else { return None };
        let (pid, began) = (row.len().checked_sub(2)?, row.len().checked_sub(1)?);
        Some(watch::Backend { pid: row.get(pid)?.parse().ok()?, began: row.get(began)?.to_owned() })
    })
}

async fn check_target(connection: &Connection, target: TargetSession) -> Result<(), ConnectError> {
    let query = match target {
        TargetSession::Any => return Ok(()),
        TargetSession::ReadWrite => "SELECT pg_catalog.current_setting('transaction_read_only') = 'off'",
        TargetSession::ReadOnly => "SELECT pg_catalog.current_setting('transaction_read_only') = 'on'",
        TargetSession::Primary => "SELECT NOT pg_catalog.pg_is_in_recovery()",
        TargetSession::Standby | TargetSession::PreferStandby => "SELECT pg_catalog.pg_is_in_recovery()",
    };
    let fits = connection.query_one(query, &[]).await.and_then(|row| row.try_get::<_, bool>(0));
    match fits {
        Ok(true) => Ok(()),
        Ok(false) => Err(ConnectError::WrongKind { host: connection.host().to_string(), wanted: target }),
        Err(error) => Err(ConnectError::of_client(connection.dsn(), connection.host(), error)),
    }
}
