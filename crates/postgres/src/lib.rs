//! What a PostgreSQL server needs from its client: DSNs, TLS, connections, programs, private clusters.
//!
//! Capture and replay both speak to servers and may not know each other; what they share about
//! *reaching* a server lives here, and nothing about what is said afterwards.
//!
//! The way of a connection: [`dsn`] (text to [`Dsn`]) -> [`stream`] (socket, TLS by [`tls`]) ->
//! [`mod@connect`] (login, [`settings`]). Errors a server answers are seen as [`ServerError`], by SQLSTATE.
//! [`programs`] finds `pg_dump` and its like, [`cluster`] keeps a private server under a directory.

pub mod cluster;
pub mod connect;
pub mod dsn;
pub mod identifier;
mod owners;
pub mod password;
pub mod programs;
pub mod server_error;
pub mod settings;
pub mod sqlstate;
pub mod stream;
pub mod tls;

pub use cluster::{Cluster, ClusterError, ClusterOptions};
pub use connect::{ConnectError, Connection, connect};
pub use dsn::{Dsn, DsnError, Host, SslMode};
pub use identifier::{QualifiedName, quote_identifier, quote_literal};
pub use owners::OWNERS;
pub use password::Password;
pub use programs::{Installation, ProgramsError, ServerVersion};
pub use server_error::ServerError;
pub use settings::{CANONICAL_SETTINGS, SessionSettings, own_settings_sql};
pub use sqlstate::SqlState;
pub use stream::{OpenedStream, PgStream, open_stream};
