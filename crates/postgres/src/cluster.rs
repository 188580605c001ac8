//! A private PostgreSQL server in a folder of its own: the embedded primary and replica.
//!
//! [`Cluster::create_or_open`] makes or finds the folder (`initdb`, or a copy of a kept one),
//! [`Cluster::start`] runs `postgres` on it, detached, or picks up the one that still runs after
//! a crash of ours, [`Cluster::stop`] shuts it down.
//!
//! In the folder: `data/`, `server.log`, `password` (0600) and `port`.
//!
//! Invariants: the server listens on 127.0.0.1 only, by password; it never runs as root (see
//! `account`); as root we follow no link in `data/`, which is the server's account's; only a process whose working directory
//! is our `data/` is ever signalled.

mod account;
mod create;
mod error;
mod identity;
mod place;
mod port;
mod postmaster;
mod run;
mod template;

pub use account::Account;
pub use error::ClusterError;

use crate::dsn::{Dsn, Host, HostAddress, SslMode, SslSettings};
use crate::{Installation, Password};
use std::path::{Path, PathBuf};
use std::process::Child;

/// The role that owns a private cluster.
pub const SUPERUSER: &str = "postgres";

/// What kind of cluster, and where.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// The folder that holds the cluster; made when missing. Another place is used when the server's
    /// account cannot enter it, see [`Cluster::directory`].
    pub directory: PathBuf,
    /// The programs to make and run it with.
    pub installation: Installation,
    /// What it is for.
    pub role: ClusterRole,
    /// A fixed port; without one a free port is chosen once and remembered.
    pub port: Option<u16>,
    /// Whether it must survive a power failure.
    pub durability: Durability,
    /// Further lines for the server's configuration, by name.
    pub settings: Vec<(String, String)>,
    /// A folder for initdb'ed data directories to copy from; `initdb` runs each time without one.
    pub template_cache: Option<PathBuf>,
}

/// What a cluster is for; decides its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterRole {
    /// Is captured: logical decoding on.
    Primary,
    /// Holds sessions' databases: no WAL beyond what a crash needs.
    Replica,
}

/// Whether data must survive a power failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Yes: `fsync` on.
    Durable,
    /// No: for tests.
    Volatile,
}

/// How [`Cluster::start`] found the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// It was down and has been started.
    New,
    /// It was running already, most often after a crash of ours.
    PickedUp,
}

/// A private server and its folder. Dropping it leaves the server running.
#[derive(Debug)]
pub struct Cluster {
    options: ClusterOptions,
    /// Where the cluster really is.
    directory: PathBuf,
    account: Account,
    password: Password,
    port: u16,
    /// Ours to reap, when this process started the server.
    child: Option<Child>,
}

impl ClusterOptions {
    /// A durable cluster of this role, with a port of the system's choice.
    pub fn new(directory: impl Into<PathBuf>, installation: Installation, role: ClusterRole) -> Self {
        Self {
            directory: directory.into(),
            installation,
            role,
            port: None,
            durability: Durability::Durable,
            settings: Vec::new(),
            template_cache: None,
        }
    }
}

impl Cluster {
    /// The folder the cluster really is in: the one asked for, or one under `/var/lib/postgres-test-replay` or
    /// `/var/tmp` when we are root and the server's account cannot enter that.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether the cluster had to go to another place than the one asked for.
    pub fn is_elsewhere(&self) -> bool {
        self.directory != self.options.directory
    }

    /// The data directory (`PGDATA`).
    pub fn data_directory(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// The server's log.
    pub fn log_file(&self) -> PathBuf {
        self.directory.join("server.log")
    }

    /// The port it listens on, or will.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The programs it runs with.
    pub fn installation(&self) -> &Installation {
        &self.options.installation
    }

    /// The system account the server runs as.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Where to connect, as the superuser, password included.
    pub fn dsn(&self, database: &str) -> Dsn {
        let address = HostAddress::Tcp { name: "127.0.0.1".to_owned(), address: None };
        Dsn {
            hosts: vec![Host { address, port: self.port, password: None }],
            user: SUPERUSER.to_owned(),
            password: Some(self.password.clone()),
            passfile: None,
            database: database.to_owned(),
            ssl: SslSettings { mode: SslMode::Prefer, ..SslSettings::default() },
            connect_timeout: Some(crate::dsn::DEFAULT_CONNECT_TIMEOUT),
            application_name: None,
            options: None,
            target: crate::dsn::TargetSession::Any,
            channel_binding: crate::dsn::ChannelBindingMode::Prefer,
            scram_only: false,
        }
    }
}
