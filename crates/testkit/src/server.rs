//! A server for one test.
//!
//! Invariant: no server outlives its test. Dropping stops it; a test process that is killed takes it
//! along by the [`watchdog`].

mod standby;
mod watchdog;

use crate::ServerVersion;
use crate::program;
use ptr_postgres::cluster::{ClusterRole, Durability};
use ptr_postgres::{Cluster, ClusterOptions, Connection, Dsn, SessionSettings, connect, quote_identifier};
use std::path::{Path, PathBuf};
use watchdog::Watchdog;

/// What a test may want differently.
#[derive(Debug, Clone)]
pub struct TestServerOptions {
    /// Primary (logical decoding on) or replica.
    pub role: ClusterRole,
    /// Further server settings, by name.
    pub settings: Vec<(String, String)>,
}

impl Default for TestServerOptions {
    fn default() -> Self {
        Self { role: ClusterRole::Primary, settings: Vec::new() }
    }
}

impl TestServerOptions {
    /// Adds a server setting.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A running server with a folder and a port of its own. Dropping it removes it.
#[derive(Debug)]
pub struct TestServer {
    cluster: Cluster,
    // Dropped last: ends the server and removes the folder.
    watchdog: Watchdog,
}

impl TestServer {
    /// Starts a server of this version.
    ///
    /// # Panics
    /// When the version is not installed (the message says how to install it) or does not start.
    pub async fn start(version: ServerVersion, options: TestServerOptions) -> Self {
        let root = root_folder();
        let folder = watchdog::folder_in(&root.join("servers"));
        let watchdog = Watchdog::over(&folder);
        let mut wanted = ClusterOptions::new(folder.join("cluster"), version.installation(), options.role);
        wanted.durability = Durability::Volatile;
        wanted.template_cache = Some(root.join("templates"));
        wanted.settings = options.settings;
        // Without the background writer's rounds a test's server is silent between its statements.
        wanted.settings.push(("autovacuum_naptime".to_owned(), "1h".to_owned()));
        let mut cluster = Cluster::create_or_open(wanted).await.unwrap_or_else(|error| panic!("{error}"));
        cluster.start().await.unwrap_or_else(|error| panic!("{error}"));
        Self { cluster, watchdog }
    }

    /// Where to connect as the superuser, password included.
    pub fn dsn(&self, database: &str) -> Dsn {
        self.cluster.dsn(database)
    }

    /// A session of the superuser in this database.
    pub async fn client(&self, database: &str) -> Connection {
        let session = SessionSettings::named("postgres-test-replay-testkit");
        connect(&self.dsn(database), &session).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Creates an empty database and gives its DSN.
    pub async fn database(&self, name: &str) -> Dsn {
        self.database_from(name, "template0").await
    }

    /// Creates a database as a copy of another one, to which nobody may be connected.
    pub async fn database_from(&self, name: &str, template: &str) -> Dsn {
        let sql =
            format!("CREATE DATABASE {} TEMPLATE {}", quote_identifier(name), quote_identifier(template));
        let client = self.client("postgres").await;
        client.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        client.close().await;
        self.dsn(name)
    }

    /// Runs SQL by `psql`, stopping at the first error; gives its output, unaligned and without headers.
    pub async fn psql(&self, database: &str, sql: &str) -> String {
        self.run("psql", database, &["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"], sql).await
    }

    /// Runs `pgbench` with these arguments; `["-i", "-s", "1"]` makes its tables.
    pub async fn pgbench(&self, database: &str, arguments: &[&str]) -> String {
        self.run("pgbench", database, arguments, "").await
    }

    /// The database's schema as `pg_dump` of this version writes it.
    pub async fn pg_dump_schema(&self, database: &str) -> String {
        self.run("pg_dump", database, &["--schema-only"], "").await
    }

    async fn run(&self, name: &str, database: &str, arguments: &[&str], input: &str) -> String {
        program::run(&self.cluster.installation().program(name), &self.dsn(database), arguments, input).await
    }

    /// Stops and starts the server; sessions are ended.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.start_again().await;
    }

    /// Stops the server; [`TestServer::start_again`] brings it back.
    pub async fn stop(&mut self) {
        self.cluster.stop().await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Stops the server as a crash would.
    pub async fn crash(&mut self) {
        self.cluster.crash().await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Kills the postmaster, whose children notice and end by themselves; nothing is told to anybody.
    pub async fn kill(&mut self) {
        let data = self.cluster.data_directory();
        let Some(pid) = self.cluster.pid().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()))
        else {
            return;
        };
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)
            .unwrap_or_else(|error| panic!("cannot kill the server in {}: {error}", data.display()));
        crate::wait_until("the server is gone", std::time::Duration::from_secs(60), async || {
            !self.cluster.is_running()
        })
        .await;
    }

    /// Starts the server after [`TestServer::stop`] or [`TestServer::crash`], on the same port if it is still free.
    pub async fn start_again(&mut self) {
        self.cluster.start().await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// The cluster behind it: port, pid, log file, programs.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// A folder that is removed with the server, free for the test's own files.
    pub fn folder(&self) -> &Path {
        self.watchdog.folder()
    }
}

/// Templates and servers of this user, outside any build folder, so that `cargo clean` does not matter.
fn root_folder() -> PathBuf {
    let uid = rustix::process::geteuid().as_raw();
    let root = PathBuf::from(format!("/var/tmp/postgres-test-replay-testkit-{uid}"));
    std::fs::create_dir_all(root.join("servers"))
        .unwrap_or_else(|error| panic!("cannot create {}: {error}", root.display()));
    root
}
