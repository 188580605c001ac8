//! What the tests of set-up and doctor share: a server with databases, set-up's options, and a look into the stream
//! through the server's own SQL functions.

#![allow(dead_code, reason = "each test file uses its part")]

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use ptr_capture::assemble::{Assembler, Step};
use ptr_capture::ddl::{Secret, signature::verify};
use ptr_capture::decode::decode;
use ptr_capture::source::{Manifest, PreparedSource, SourceOptions, prepare};
use ptr_model::{Lsn, Timestamp, Xid};
use ptr_postgres::{Connection, Dsn, SessionSettings, connect, programs::Installations};
use ptr_testkit::{ServerVersion, TestServer, TestServerOptions};
use serde_json::Value;

/// Runs a test once on each version.
#[macro_export]
macro_rules! on_every_version {
    ($($(#[$doc:meta])* async fn $name:ident($version:ident) $body:block)*) => {
        $(mod $name {
            use super::*;

            async fn run($version: ptr_testkit::ServerVersion) $body

            #[tokio::test]
            async fn on_15() { run(ptr_testkit::ServerVersion::Debian15).await }

            #[tokio::test]
            async fn on_18() { run(ptr_testkit::ServerVersion::Pypi18).await }
        })*
    };
}

/// A server with one database, `shop`, and the options to capture it.
pub struct Primary {
    pub server: TestServer,
    pub options: SourceOptions,
}

impl Primary {
    pub async fn start(version: ServerVersion) -> Self {
        Self::start_with(version, TestServerOptions::default()).await
    }

    pub async fn start_with(version: ServerVersion, server: TestServerOptions) -> Self {
        let server = server.with("max_prepared_transactions", "5");
        let server = TestServer::start(version, server).await;
        server.database("shop").await;
        let options = options(&server, "shop");
        Self { server, options }
    }

    /// One that was prepared, and whose server has since given up the WAL that the slot waits with.
    pub async fn with_a_lost_slot(version: ServerVersion) -> Self {
        let small = [("max_slot_wal_keep_size", "1MB"), ("min_wal_size", "32MB"), ("max_wal_size", "32MB")];
        let server =
            small.iter().fold(TestServerOptions::default(), |server, (name, value)| server.with(name, value));
        let primary = Self::start_with(version, server).await;
        primary.prepare().await;
        primary.run("CREATE TABLE t (x int)").await;
        for _ in 0..6 {
            primary.run("INSERT INTO t VALUES (1); SELECT pg_switch_wal(); CHECKPOINT").await;
        }
        primary
    }

    /// A session of the superuser.
    pub async fn session(&self) -> Connection {
        self.server.client("shop").await
    }

    /// A session of a role that exists already, without a password.
    pub async fn session_as(&self, role: &str) -> Connection {
        session_as(&self.server.dsn("shop"), role).await
    }

    pub async fn run(&self, sql: &str) {
        self.server.psql("shop", sql).await;
    }

    /// The single value of a query, as text.
    pub async fn value(&self, sql: &str) -> String {
        self.server.psql("shop", sql).await.trim().to_owned()
    }

    pub async fn prepare(&self) -> PreparedSource {
        prepare(&self.options, &()).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Makes a database of the base image, as a replica does it: `pg_restore`, led by the list.
    pub async fn restore(&self, manifest: &Manifest, database: &str) {
        self.server.database(database).await;
        let base = &self.options.base_directory;
        let mut command = Command::new(self.server.cluster().installation().program("pg_restore"));
        self.server.dsn(database).apply_to(&mut command);
        command.args(["--exit-on-error", "--dbname", database, "-L"]);
        command.arg(base.join(&manifest.restore_list)).arg(base.join(&manifest.dump));
        let output = tokio::process::Command::from(command).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// `psql` on `shop`, for what is to happen inside set-up's own thread.
    pub fn psql(&self) -> Command {
        let mut command = Command::new(self.server.cluster().installation().program("psql"));
        self.options.dsn.apply_to(&mut command);
        command.args(["-XqAt", "-v", "ON_ERROR_STOP=1"]);
        command
    }

    /// What the slot holds now, by transaction, as the log would get it.
    pub async fn stream(&self, secret: &Secret) -> Vec<Step> {
        let rows = self
            .session()
            .await
            .query(
                "SELECT data FROM pg_logical_slot_peek_binary_changes($1, NULL, NULL,
                    'proto_version', '1', 'publication_names', $2, 'messages', 'true')",
                &[&self.options.slot, &self.options.publication],
            )
            .await
            .unwrap();
        let mut assembler = Assembler::new(Lsn(0), Some(secret.clone()));
        let mut steps = Vec::new();
        for row in rows {
            let message = decode(row.get::<_, Vec<u8>>(0).into()).unwrap();
            assembler.take(message, Timestamp(0), &mut steps).unwrap();
        }
        assert_eq!(assembler.ignored().count, 0);
        steps
    }

    /// Our messages in the slot, in order, each with a signature that holds; and how many others had our prefix.
    pub async fn messages(&self, secret: &Secret) -> (Vec<Value>, usize) {
        let session = self.server.client(self.options.dsn.database()).await;
        let rows = session
            .query(
                "SELECT xid::text, data FROM pg_logical_slot_peek_binary_changes($1, NULL, NULL,
                    'proto_version', '1', 'publication_names', $2, 'messages', 'true')",
                &[&self.options.slot, &self.options.publication],
            )
            .await
            .unwrap();
        let mut believed = Vec::new();
        let mut refused = 0;
        for row in rows {
            let xid = Xid(row.get::<_, String>(0).parse().unwrap());
            // An empty one only keeps a row behind the message before it.
            let Some(content) = content(row.get(1)).filter(|content| !content.is_empty()) else { continue };
            match verify(Some(secret), &content, xid) {
                Ok(json) => believed.push(serde_json::from_slice(json).unwrap()),
                Err(_) => refused += 1,
            }
        }
        (believed, refused)
    }
}

/// The content of a logical message with our prefix: `M`, flags, LSN, prefix, length, content (PostgreSQL manual,
/// "Logical Replication Message Formats").
fn content(message: &[u8]) -> Option<Vec<u8>> {
    let rest = message.strip_prefix(b"M")?.get(9..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    (&rest[..end] == b"postgres_test_replay").then(|| rest[end + 5..].to_vec())
}

pub fn options(server: &TestServer, database: &str) -> SourceOptions {
    let bin = server.cluster().installation().bin_dir.display().to_string();
    let programs = Installations::find(&|name| (name == "PG_BIN").then(|| bin.clone())).unwrap();
    let folder: PathBuf = server.folder().join("data");
    let base = folder.join("base").join(database);
    let record = folder.join("source").join(format!("{database}.json"));
    let mut options = SourceOptions::new(server.dsn(database), programs, base, record);
    options.lock_patience = Duration::from_secs(20);
    options
}

pub async fn session_as(dsn: &Dsn, role: &str) -> Connection {
    let dsn = dsn.with_user(role, dsn.password().cloned());
    connect(&dsn, &SessionSettings::named("a test")).await.unwrap_or_else(|error| panic!("{error}"))
}

/// SQL that makes a role which can log in with the superuser's password.
pub fn create_role(server: &TestServer, role: &str, options: &str) -> String {
    let dsn = server.dsn("postgres");
    let password = dsn.password().expect("a test server has a password").reveal().to_owned();
    format!("CREATE ROLE {role} LOGIN {options} PASSWORD '{password}';")
}

/// SQLSTATE of a refused statement, `00000` of one that went well.
pub async fn sqlstate(session: &Connection, statement: &str) -> String {
    match session.batch_execute(statement).await {
        Ok(()) => "00000".to_owned(),
        Err(error) => error.code().unwrap_or_else(|| panic!("{statement}: {error}")).code().to_owned(),
    }
}
