//! A primary whose changes go into a log, and a session on the same server that replays them.
//!
//! Changes come from a real server's `pgoutput`; the replica starts from a real `pg_dump`. A statement given
//! to [`World::ddl`] runs on the primary and leaves a message in its transaction, which becomes the schema
//! change in the log: the event triggers are tested where they are made.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::path::PathBuf;

use ptr_capture::{
    assemble::{Assembler, Step},
    ddl::Secret,
    decode::decode,
    source::{SourceOptions, prepare},
    undescribed::{LookUpError, look_up},
};
use ptr_log::{Log, LogIdentity, Writer, WriterOptions};
use ptr_model::{Change, Environment, Lsn, Oid, Position, SchemaChange, SessionId, Statement, Timestamp};
use ptr_postgres::{Connection, Dsn, SessionSettings, connect, programs::Installations};
use ptr_replay::{
    BaseOptions, Decisions, Limits, NavigateError, NavigateOutcome, NavigateProgress, NavigateRequest,
    ReplayError, SessionDatabase, Stop, base::DatabaseProperties, install_base, navigate,
};
use ptr_testkit::{DatabaseState, ServerVersion, TestServer, TestServerOptions, assert_equal_states};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub const PRIMARY: &str = "shop";
pub const DDL_PREFIX: &str = "test-ddl";

pub struct World {
    pub server: TestServer,
    pub primary: Connection,
    pub folder: tempfile::TempDir,
    pub log: Log,
    pub session: SessionDatabase,
    pub template: String,
    pub limits: Limits,
    pub decisions: Decisions,
    writer: Writer,
    canonical: Connection,
    slot: String,
    secret: Option<Secret>,
}

impl World {
    /// A primary on which `schema` was run before capture began.
    pub async fn new(version: ServerVersion, schema: &str) -> Self {
        let server = TestServer::start(version, TestServerOptions::default()).await;
        server.database(PRIMARY).await;
        server.psql(PRIMARY, schema).await;
        let primary = server.client(PRIMARY).await;
        let full = "DO $$ DECLARE t regclass; BEGIN FOR t IN SELECT oid FROM pg_class WHERE relkind = 'r' AND
                    relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
                    AND relreplident = 'd'
                    LOOP EXECUTE format('ALTER TABLE %s REPLICA IDENTITY FULL', t); END LOOP; END $$";
        primary.batch_execute(full).await.unwrap();
        primary.batch_execute("CREATE PUBLICATION postgres_test_replay FOR ALL TABLES").await.unwrap();
        let row = primary
            .query_one("SELECT lsn::text FROM pg_create_logical_replication_slot('test', 'pgoutput')", &[])
            .await
            .unwrap();
        let creation: Lsn = row.get::<_, String>(0).parse().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let log_id = Uuid::new_v4();
        let properties = base_image(&server, &folder.path().join("base"), log_id, creation).await;
        let identity = LogIdentity {
            system_identifier: 1,
            timeline: 1,
            database: PRIMARY.into(),
            database_oid: Oid(1),
            creation,
            created_at: Timestamp(0),
            log_id,
        };
        // As where event triggers tell schema changes: here [`World::ddl`] does.
        let secret = Some(Secret::generate().unwrap());
        Self::begin(server, primary, folder, identity, properties, "test", secret).await
    }

    /// A primary that was set up as users do it, event triggers and base image included.
    pub async fn set_up(version: ServerVersion, schema: &str) -> Self {
        let server = TestServer::start(version, TestServerOptions::default()).await;
        server.database(PRIMARY).await;
        server.psql(PRIMARY, schema).await;
        let primary = server.client(PRIMARY).await;
        let folder = tempfile::tempdir().unwrap();
        let programs = server.cluster().installation().bin_dir.display().to_string();
        let options = SourceOptions::new(
            server.dsn(PRIMARY),
            Installations::find(&|name| (name == "PG_BIN").then(|| programs.clone())).unwrap(),
            folder.path().join("base"),
            folder.path().join("source.json"),
        );
        let prepared = prepare(&options, &()).await.unwrap_or_else(|error| panic!("{error}"));
        let properties = ptr_replay::Manifest::read(&folder.path().join("base")).unwrap().database;
        let identity = prepared.identity;
        Self::begin(server, primary, folder, identity, properties, &options.slot, prepared.secret).await
    }

    async fn begin(
        server: TestServer,
        primary: Connection,
        folder: tempfile::TempDir,
        identity: LogIdentity,
        properties: DatabaseProperties,
        slot: &str,
        secret: Option<Secret>,
    ) -> Self {
        let directory = folder.path().join("log");
        ptr_log::create(&directory, &identity).unwrap();
        let writer = Writer::open(&directory, WriterOptions::default()).unwrap();
        let log = Log::open(&directory).unwrap();
        let options = BaseOptions {
            output: server.dsn("postgres"),
            directory: folder.path().join("base"),
            installation: server.cluster().installation().clone(),
            jobs: 2,
        };
        let installed = install_base(&options, &|_| {}).await.unwrap_or_else(|error| panic!("{error}"));
        let session = SessionDatabase {
            output: server.dsn("postgres"),
            name: "session".into(),
            session_id: SessionId(Uuid::new_v4()),
            log_id: identity.log_id,
            properties,
        };
        let canonical =
            connect(&server.dsn(PRIMARY), &SessionSettings::canonical("test-capture")).await.unwrap();
        Self {
            server,
            primary,
            folder,
            log,
            session,
            template: installed.template,
            limits: Limits::default(),
            decisions: Decisions::default(),
            writer,
            canonical,
            slot: slot.to_owned(),
            secret,
        }
    }

    /// Runs SQL on the primary.
    pub async fn sql(&self, sql: &str) {
        self.primary.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// Runs a schema change on the primary, as a transaction of its own.
    pub async fn ddl(&self, sql: &str) {
        self.sql(&format!("BEGIN; {}; COMMIT", ddl_in(sql))).await;
    }

    /// Takes what the primary did since the last time into the log; the position reached.
    pub async fn capture(&mut self) -> Position {
        let sql =
            "SELECT data FROM pg_logical_slot_get_binary_changes($1::text, NULL, NULL, 'proto_version', '1',
                   'publication_names', 'postgres_test_replay', 'messages', 'true')";
        let rows = self.canonical.query(sql, &[&self.slot]).await.unwrap();
        let mut assembler = Assembler::new(self.writer.head().lsn, self.secret.clone());
        let mut steps = Vec::new();
        for row in rows {
            let message = decode(bytes::Bytes::from(row.get::<_, Vec<u8>>(0))).unwrap();
            if let Some(asked) = assembler.undescribed(&message) {
                // As the listener does it: a primary without our schema does not say.
                let made = match look_up(&self.server.dsn(PRIMARY), &asked).await {
                    Err(LookUpError::Refused(_)) => None,
                    answer => answer.unwrap(),
                };
                made.into_iter().for_each(|made| assembler.describe(made, &mut steps));
            }
            assembler.take(message, Timestamp(0), &mut steps).unwrap();
            for step in steps.drain(..) {
                self.write(step);
            }
        }
        self.writer.flush().unwrap()
    }

    fn write(&mut self, step: Step) {
        match step {
            Step::Begin(header) => drop(self.writer.begin(&header).unwrap()),
            Step::Change(change) => self.writer.append(&as_schema_change(change)).unwrap(),
            Step::Commit { end_lsn } => drop(self.writer.commit(end_lsn).unwrap()),
            Step::Passed { end_lsn } => self.writer.covered(end_lsn),
            Step::Marker { .. } => {}
        }
    }

    pub fn request(&self, to: Position) -> NavigateRequest {
        NavigateRequest {
            log: self.log.clone(),
            session: self.session.clone(),
            to,
            locally_written: false,
            outdated: false,
            decisions: self.decisions.clone(),
            sequences: None,
            limits: self.limits,
            rates: ptr_replay::Rates::default(),
        }
    }

    pub async fn try_go(&self, to: Position) -> Result<NavigateOutcome, NavigateError> {
        let (progress, _) = watch::channel(NavigateProgress::default());
        navigate(&self.request(to), &progress, &CancellationToken::new()).await
    }

    pub async fn go(&self, to: Position) -> NavigateOutcome {
        let outcome = self.try_go(to).await.unwrap_or_else(|error| panic!("to {to}: {error}"));
        let cursor = self.cursor().await;
        assert_eq!(cursor, to);
        outcome
    }

    /// The same with the session's database made anew.
    pub async fn rebuild(&self, to: Position) -> Result<NavigateOutcome, NavigateError> {
        let (progress, _) = watch::channel(NavigateProgress::default());
        let request = NavigateRequest { outdated: true, ..self.request(to) };
        navigate(&request, &progress, &CancellationToken::new()).await
    }

    /// A move that replay stops, with the session where the stop says.
    pub async fn stops(&self, to: Position) -> Stop {
        match self.try_go(to).await.expect_err("it cannot be replayed") {
            NavigateError::Replay(ReplayError::Stopped(stop)) => {
                assert_eq!(self.cursor().await, stop.position);
                *stop
            }
            other => panic!("{other}"),
        }
    }

    /// Somebody writes to the session's database.
    pub async fn tamper(&self, sql: &str) {
        let sql = format!("SET default_transaction_read_only = off; {sql}");
        self.server.psql(&self.session.name, &sql).await;
    }

    pub async fn cursor(&self) -> Position {
        let client = self.server.client(&self.session.name).await;
        ptr_replay::cursor::read(&client).await.unwrap().unwrap().position
    }

    pub async fn primary_state(&self) -> DatabaseState {
        DatabaseState::capture(&self.server.dsn(PRIMARY)).await.without_sequences()
    }

    pub async fn session_state(&self) -> DatabaseState {
        DatabaseState::capture(&self.dsn()).await.without_sequences()
    }

    pub fn dsn(&self) -> Dsn {
        self.session.dsn()
    }

    /// Captures, goes there, and compares with the primary as it is.
    pub async fn arrives(&mut self) -> (Position, DatabaseState) {
        let position = self.capture().await;
        let expected = self.primary_state().await;
        self.go(position).await;
        assert_equal_states(&expected, &self.session_state().await);
        (position, expected)
    }
}

/// A schema change as part of a transaction: the statement, and the message that tells the log of it.
pub fn ddl_in(sql: &str) -> String {
    let quoted = sql.replace('\'', "''");
    format!("{sql}; SELECT pg_logical_emit_message(true, '{DDL_PREFIX}', '{quoted}')")
}

fn as_schema_change(change: Change) -> Change {
    match change {
        Change::Message(message) if message.prefix == DDL_PREFIX => {
            let text = String::from_utf8(message.content.to_vec()).unwrap();
            let tag = text.split_whitespace().take(2).collect::<Vec<_>>().join(" ").to_uppercase();
            Change::Schema(Box::new(schema_change(&tag, &text)))
        }
        change => change,
    }
}

pub fn schema_change(tag: &str, text: &str) -> SchemaChange {
    SchemaChange {
        tag: tag.into(),
        is_entry: true,
        event: "ddl_command_end".into(),
        statement: Statement::Text(text.into()),
        environment: Environment { search_path: "\"$user\", public".into(), ..Environment::default() },
        objects: vec![],
        dropped: vec![],
        rewrites: vec![],
        missing_values: vec![],
        roles: None,
        details: std::collections::BTreeMap::default(),
    }
}

async fn base_image(server: &TestServer, base: &PathBuf, log_id: Uuid, lsn: Lsn) -> DatabaseProperties {
    std::fs::create_dir_all(base).unwrap();
    let programs = server.cluster().installation();
    let dsn = server.dsn(PRIMARY);
    let mut dump = std::process::Command::new(programs.program("pg_dump"));
    dsn.apply_to(&mut dump);
    let status =
        dump.args(["--format=directory", "--jobs=2", "--file"]).arg(base.join("dump")).status().unwrap();
    assert!(status.success());
    let list = std::process::Command::new(programs.program("pg_restore"))
        .arg("-l")
        .arg(base.join("dump"))
        .output()
        .unwrap();
    let list: String = String::from_utf8(list.stdout)
        .unwrap()
        .lines()
        .filter(|line| !line.contains("PUBLICATION - postgres_test_replay"))
        .flat_map(|line| [line, "\n"])
        .collect();
    std::fs::write(base.join("restore.list"), list).unwrap();
    let manifest = format!(
        "{{\"log_id\": \"{log_id}\", \"lsn\": \"{lsn}\", \"server_major\": 15, \"dump\": \"dump\",
           \"restore_list\": \"restore.list\", \"database\": {{\"name\": \"{PRIMARY}\", \"encoding\": \"UTF8\",
           \"comment\": \"of the shop\"}}}}"
    );
    std::fs::write(base.join("manifest.json"), manifest).unwrap();
    ptr_replay::Manifest::read(base).unwrap().database
}
