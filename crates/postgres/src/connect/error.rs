//! Why no session could be opened, sorted by who can do something about it.

use super::proof;
use crate::dsn::{Dsn, Host, HostAddress, TargetSession};
use crate::server_error::ServerError;
use crate::sqlstate::{self, SqlState};
use crate::tls::TlsError;
use std::error::Error;
use std::io;
use std::time::Duration;

/// Why no session could be opened. [`ConnectError::hint`] says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answers there.
    #[error("cannot reach the server at {host}: {source}")]
    Unreachable {
        /// `host:port`, or the socket.
        host: String,
        /// The operating system's reason.
        source: io::Error,
        /// What to do about it.
        hint: &'static str,
    },
    /// No answer within the time allowed.
    #[error("the server at {host} did not answer within {} s", after.as_secs())]
    Timeout {
        /// `host:port`.
        host: String,
        /// The limit that passed.
        after: Duration,
    },
    /// TLS could not be agreed on.
    #[error("no TLS session with {host}: {source}")]
    Tls {
        /// `host:port`.
        host: String,
        /// What failed.
        source: TlsError,
    },
    /// The server answered and does not let us in.
    #[error("{host} refuses {user:?} the login to {database:?}: {error}")]
    LoginRefused {
        /// `host:port`.
        host: String,
        /// The role.
        user: String,
        /// The database.
        database: String,
        /// The server's words.
        error: Box<ServerError>,
    },
    /// The server answered with another error (starting up, too many connections).
    #[error("{host}: {error}")]
    Server {
        /// `host:port`.
        host: String,
        /// The server's words.
        error: Box<ServerError>,
    },
    /// The server wants a password, and nothing gives one.
    #[error("{host} asks {user:?} for a password, and none is given")]
    NoPassword {
        /// `host:port`.
        host: String,
        /// The role.
        user: String,
    },
    /// A server of ours was to show that it knows the password, and something else is asked for.
    #[error(
        "{host} does not ask for a login by SCRAM, so it may be another server than ours, and was told nothing"
    )]
    NoProof {
        /// `host:port`.
        host: String,
    },
    /// Something other than a PostgreSQL server answered, a login method we do not have, or the
    /// connection broke in the middle.
    #[error("{host} does not go on with the login: {source}")]
    Protocol {
        /// `host:port`.
        host: String,
        /// What the client library says.
        source: tokio_postgres::Error,
    },
    /// The server works but is not of the kind `target_session_attrs` asks for.
    #[error("{host} is not of the kind asked for by target_session_attrs ({wanted:?})")]
    WrongKind {
        /// `host:port`.
        host: String,
        /// What was asked for.
        wanted: TargetSession,
    },
    /// Several hosts, none of which will do.
    #[error("none of {} hosts will do: {}", attempts.len(), list(attempts))]
    NoHost {
        /// What happened at each, in order.
        attempts: Vec<ConnectError>,
    },
}

impl ConnectError {
    pub(crate) fn unreachable(host: &Host, source: io::Error) -> Self {
        let hint = match (&host.address, source.kind()) {
            (HostAddress::Unix(_), io::ErrorKind::PermissionDenied) => {
                "this user may not enter the socket's directory; connect by host=127.0.0.1"
            }
            (HostAddress::Unix(_), _) => {
                "no server has its socket there; is it running? Add host=NAME to connect by network"
            }
            (_, io::ErrorKind::ConnectionRefused) => {
                "nothing listens on that port; is the server running, and does listen_addresses include this address? \
                 Inside a container localhost is the container itself: use the service name"
            }
            (
                _,
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe,
            ) => {
                "something takes the connection and closes it, as a proxy or tunnel does: is the server behind it running?"
            }
            _ => "check the host name and the port",
        };
        Self::Unreachable { host: host.to_string(), source, hint }
    }

    pub(crate) fn of_client(dsn: &Dsn, host: &Host, error: tokio_postgres::Error) -> Self {
        let host = host.to_string();
        match ServerError::of(&error).map(Box::new) {
            Some(error) if sqlstate::refuses_login(&error.sqlstate) => Self::LoginRefused {
                host,
                user: dsn.user().to_owned(),
                database: dsn.database().to_owned(),
                error,
            },
            Some(error) => Self::Server { host, error },
            None if proof::is_missing(&error) => Self::NoProof { host },
            None if misses_password(dsn, &error) => Self::NoPassword { host, user: dsn.user().to_owned() },
            None => Self::Protocol { host, source: error },
        }
    }

    /// One error of several attempts: itself when there is only one.
    #[must_use]
    pub fn of_attempts(mut attempts: Vec<ConnectError>) -> Self {
        match attempts.len() {
            1 => attempts.remove(0),
            _ => Self::NoHost { attempts },
        }
    }

    /// Whether libpq would go on to the next host.
    #[must_use]
    pub fn leaves_other_hosts_to_try(&self) -> bool {
        match self {
            Self::Server { error, .. } => error.sqlstate == SqlState::CANNOT_CONNECT_NOW,
            Self::LoginRefused { .. } | Self::NoPassword { .. } | Self::NoProof { .. } => false,
            _ => true,
        }
    }

    /// The server's own error, where it gave one.
    pub fn server_error(&self) -> Option<&ServerError> {
        match self {
            Self::LoginRefused { error, .. } | Self::Server { error, .. } => Some(error),
            Self::NoHost { attempts } => attempts.iter().rev().find_map(Self::server_error),
            _ => None,
        }
    }

    /// Whether trying again later, with nothing changed by the user, may succeed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::WrongKind { .. } => true,
            Self::Server { error, .. } => error.is_transient(),
            Self::Protocol { source, .. } => source.is_closed(),
            Self::NoHost { attempts } => attempts.iter().any(Self::is_transient),
            Self::Tls { .. } | Self::LoginRefused { .. } | Self::NoPassword { .. } | Self::NoProof { .. } => {
                false
            }
        }
    }

    /// What to do next.
    pub fn hint(&self) -> &str {
        match self {
            Self::Unreachable { hint, .. } => hint,
            Self::Timeout { .. } => {
                "a firewall may drop the packets; check host and port, or raise connect_timeout"
            }
            Self::Tls { .. } => "check sslmode, sslrootcert and the name in the server's certificate",
            Self::LoginRefused { error, .. } => login_hint(&error.sqlstate),
            Self::Server { error, .. } => error.hint.as_deref().unwrap_or("see the server's log"),
            Self::NoPassword { .. } => {
                "give it in the connection string, in PGPASSWORD, or in ~/.pgpass, which nobody else may read (chmod 0600)"
            }
            Self::NoProof { .. } => {
                "see what listens on that port and end it, then start ours: postgres-test-replay up"
            }
            Self::Protocol { .. } => "check that a PostgreSQL server listens there (not a web server)",
            Self::WrongKind { .. } => "name another host, or drop target_session_attrs",
            Self::NoHost { attempts } => attempts.last().map_or("name a host", Self::hint),
        }
    }
}

/// The client library calls a missing password a wrong configuration. Of an error that has a cause, nothing else is left
/// where there is no password to be sent, but for the connection itself.
fn misses_password(dsn: &Dsn, error: &tokio_postgres::Error) -> bool {
    dsn.password().is_none() && error.source().is_some_and(|cause| !cause.is::<io::Error>())
}

fn login_hint(state: &SqlState) -> &'static str {
    if *state == SqlState::INVALID_PASSWORD {
        "check the password: in the connection string, PGPASSWORD or ~/.pgpass"
    } else if *state == SqlState::UNDEFINED_DATABASE {
        "create the database, or name another one in the connection string"
    } else if *state == SqlState::INSUFFICIENT_PRIVILEGE {
        "let the owner run GRANT CONNECT ON DATABASE for this role"
    } else {
        "add a line for this role, database and address to pg_hba.conf and reload the server"
    }
}

fn list(attempts: &[ConnectError]) -> String {
    attempts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
