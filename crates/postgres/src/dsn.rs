//! Connection strings: anything libpq takes, understood once and carried as a value.
//!
//! text (`uri`, `keyword`) -> parameters -> service file -> environment -> defaults -> [`Dsn`].
//! [`Dsn::parse`] is pure; [`Dsn::resolve`] also reads the files libpq would read (service file,
//! password file, default certificates).
//!
//! Invariants: there is at least one host; printing, serialising or debugging a [`Dsn`] never shows a
//! password, and neither does any error of this module.

mod build;
mod error;
mod keyword;
mod parameters;
mod passfile;
mod render;
mod service;
mod uri;

pub use error::DsnError;

use crate::Password;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How long one host may take to answer and log us in when the DSN has no `connect_timeout`.
///
/// libpq waits forever; a person in front of a terminal does not.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Where a server is and as whom to log in. Prints as a URI without the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dsn {
    pub(crate) hosts: Vec<Host>,
    pub(crate) user: String,
    pub(crate) password: Option<Password>,
    /// The password file, where it is not the usual one.
    pub(crate) passfile: Option<PathBuf>,
    pub(crate) database: String,
    pub(crate) ssl: SslSettings,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) application_name: Option<String>,
    pub(crate) options: Option<String>,
    pub(crate) target: TargetSession,
    pub(crate) channel_binding: ChannelBindingMode,
    /// See [`Dsn::with_scram_only`].
    pub(crate) scram_only: bool,
}

/// One of the hosts of a DSN.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Host {
    /// How to reach it.
    pub address: HostAddress,
    /// The port; with a socket directory, the number in the socket's file name.
    pub port: u16,
    /// From the password file, whose entries are per host.
    pub(crate) password: Option<Password>,
}

/// How to reach a host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostAddress {
    /// By network. `address` (libpq's `hostaddr`) saves the look-up; certificates are checked against `name`.
    Tcp {
        /// Host name or address as written.
        name: String,
        /// `hostaddr`, if given.
        address: Option<IpAddr>,
    },
    /// By the Unix-domain socket in this directory.
    Unix(PathBuf),
}

/// How much TLS is asked for; the same words as libpq.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum SslMode {
    /// Never.
    Disable,
    /// As [`SslMode::Prefer`]: libpq would try without first, we try with.
    Allow,
    /// Try, go on without.
    #[default]
    Prefer,
    /// Required; the certificate is checked only when a root certificate is there.
    Require,
    /// Required, and the certificate must come from a trusted authority.
    VerifyCa,
    /// Required, from a trusted authority, and for this host name.
    VerifyFull,
}

/// Everything about TLS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SslSettings {
    /// `sslmode`.
    pub mode: SslMode,
    /// `sslrootcert`.
    pub root: Option<RootCertificates>,
    /// `sslcert`: the client's certificate chain (PEM).
    pub certificate: Option<PathBuf>,
    /// `sslkey`: the client's private key (PEM).
    pub key: Option<PathBuf>,
    /// `sslnegotiation`.
    pub negotiation: SslNegotiation,
}

/// Whom to trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootCertificates {
    /// The operating system's authorities (`sslrootcert=system`).
    System,
    /// The authorities in this PEM file.
    File(PathBuf),
}

/// How TLS begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SslNegotiation {
    /// By an `SSLRequest` message.
    #[default]
    Postgres,
    /// At once (servers from 17 on).
    Direct,
}

/// Which kind of server will do (`target_session_attrs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TargetSession {
    /// The first that answers.
    #[default]
    Any,
    /// One that takes writes.
    ReadWrite,
    /// One that refuses writes.
    ReadOnly,
    /// One that is not in recovery.
    Primary,
    /// One in recovery.
    Standby,
    /// One in recovery, else any.
    PreferStandby,
}

/// Whether SCRAM is bound to the TLS channel (`channel_binding`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChannelBindingMode {
    /// Never.
    Disable,
    /// Where both ends can.
    #[default]
    Prefer,
    /// Always.
    Require,
}

impl Dsn {
    /// The hosts, in the order in which they are tried. Never empty.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The role to log in as.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The password of the DSN itself, the environment or the service file.
    pub fn password(&self) -> Option<&Password> {
        self.password.as_ref()
    }

    /// The password for one host: the DSN's, else the password file's.
    pub fn password_for<'a>(&'a self, host: &'a Host) -> Option<&'a Password> {
        self.password.as_ref().or(host.password.as_ref())
    }

    /// What is asked of TLS.
    pub fn ssl(&self) -> &SslSettings {
        &self.ssl
    }

    /// How long one host may take; `None` means forever (`connect_timeout=0`).
    pub fn connect_timeout(&self) -> Option<Duration> {
        self.connect_timeout
    }

    /// `application_name`, if the user chose one.
    pub fn application_name(&self) -> Option<&str> {
        self.application_name.as_deref()
    }

    /// Command-line options for the server process (`options`).
    pub fn options(&self) -> Option<&str> {
        self.options.as_deref()
    }

    /// Which kind of server will do.
    pub fn target(&self) -> TargetSession {
        self.target
    }

    /// Whether SCRAM is bound to the TLS channel.
    pub fn channel_binding(&self) -> ChannelBindingMode {
        self.channel_binding
    }

    /// Whether the server is to show by SCRAM that it knows the password.
    pub fn is_scram_only(&self) -> bool {
        self.scram_only
    }

    /// The same database, reached only by SCRAM, in which a server shows that it knows the password and is not told it.
    /// For servers of ours at a remembered port, where somebody else may listen by now. No URI says so.
    #[must_use]
    pub fn with_scram_only(&self) -> Self {
        Self { scram_only: true, ..self.clone() }
    }

    /// The same database, for a session of another name.
    #[must_use]
    pub fn with_application_name(&self, name: &str) -> Self {
        Self { application_name: Some(name.to_owned()), ..self.clone() }
    }

    /// The same server, another database.
    #[must_use]
    pub fn with_database(&self, database: &str) -> Self {
        Self { database: database.to_owned(), ..self.clone() }
    }

    /// The same server, another role; the password is dropped with the role it belongs to.
    #[must_use]
    pub fn with_user(&self, user: &str, password: Option<Password>) -> Self {
        let mut dsn = Self { user: user.to_owned(), password, ..self.clone() };
        dsn.hosts.iter_mut().for_each(|host| host.password = None);
        dsn
    }

    /// The same server, another `sslmode`.
    #[must_use]
    pub fn with_sslmode(&self, mode: SslMode) -> Self {
        let mut dsn = self.clone();
        dsn.ssl.mode = mode;
        dsn
    }

    /// The same DSN with one of its hosts only, for a second connection to the very server the
    /// first one reached.
    #[must_use]
    pub fn with_host(&self, host: &Host) -> Self {
        Self { hosts: vec![host.clone()], ..self.clone() }
    }

    /// Whether both lead to the same database by the same way. Different ways to one server are
    /// not seen here; a look at the server itself decides.
    pub fn same_place(&self, other: &Self) -> bool {
        self.database == other.database
            && self.hosts.iter().any(|host| {
                other.hosts.iter().any(|there| there.port == host.port && there.address == host.address)
            })
    }
}
