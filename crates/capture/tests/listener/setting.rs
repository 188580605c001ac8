//! A server with pgbench's tables, a publication, two slots at one position, and an empty log.

use std::{path::PathBuf, time::Duration};

use ptr_capture::{
    listener::{
        CatchUp, ListenError, ListenerOptions, ListenerState, ListenerStatus, QUEUE_BYTES, TransactionLog,
        listen_to,
    },
    transport::{ReplicationConnection, SlotKind},
};
use ptr_log::{Log, LogError, LogIdentity, Writer, WriterOptions};
use ptr_model::{Lsn, Oid, Timestamp};
use ptr_postgres::{Connection, Dsn};
use ptr_testkit::{Proxy, ServerVersion, TestServer, TestServerOptions, wait_until};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(60);

pub struct Setting {
    pub server: TestServer,
    pub client: Connection,
    pub log_directory: PathBuf,
    pub identity: LogIdentity,
    pub catch_up: CatchUp,
    /// By which way the listener reaches the server; directly where there is none.
    pub way: Option<Proxy>,
    _folder: tempfile::TempDir,
}

impl Setting {
    pub async fn new(version: ServerVersion, options: TestServerOptions) -> Self {
        let server = TestServer::start(version, options).await;
        server.database("app").await;
        server.pgbench("app", &["-q", "-i", "-s", "1"]).await;
        let client = server.client("app").await;
        client
            .batch_execute(
                "ALTER TABLE pgbench_history REPLICA IDENTITY FULL; CREATE PUBLICATION app FOR ALL TABLES",
            )
            .await
            .unwrap();
        let mut connection = ReplicationConnection::connect(&server.dsn("app")).await.unwrap();
        let system = connection.identify_system().await.unwrap();
        let major = version.installation().version.major;
        let slot = connection.create_slot("app", SlotKind::Permanent, major).await.unwrap();
        connection.close().await.unwrap();
        client.batch_execute("SELECT pg_copy_logical_replication_slot('app', 'oracle')").await.unwrap();
        let oid: u32 =
            client.query_one("SELECT oid FROM pg_database WHERE datname = 'app'", &[]).await.unwrap().get(0);
        let folder = tempfile::tempdir().unwrap();
        let log_directory = folder.path().join("log");
        let identity = LogIdentity {
            system_identifier: system.system_identifier,
            timeline: system.timeline,
            database: "app".to_owned(),
            database_oid: Oid(oid),
            creation: slot.consistent_point,
            created_at: Timestamp(0),
            log_id: uuid::Uuid::new_v4(),
        };
        ptr_log::create(&log_directory, &identity).unwrap();
        Self {
            server,
            client,
            log_directory,
            identity,
            catch_up: CatchUp::default(),
            way: None,
            _folder: folder,
        }
    }

    pub fn options(&self) -> ListenerOptions {
        let dsn = self.server.dsn("app");
        Self::options_for(self.way.as_ref().map_or(dsn.clone(), |way| way.lead(&dsn)), self.catch_up)
    }

    pub fn options_for(dsn: Dsn, catch_up: CatchUp) -> ListenerOptions {
        ListenerOptions {
            dsn,
            slot: "app".to_owned(),
            publication: "app".to_owned(),
            secret: None,
            known: Vec::new(),
            queue_bytes: QUEUE_BYTES,
            catch_up,
        }
    }

    pub fn listen(&self) -> Listening {
        let directory = self.log_directory.clone();
        self.listen_with(QUEUE_BYTES, move || Writer::open(&directory, WriterOptions::default()))
    }

    pub fn listen_by(&self, dsn: Dsn) -> Listening {
        let directory = self.log_directory.clone();
        let options = ListenerOptions { dsn, ..self.options() };
        Self::start(options, move || Writer::open(&directory, WriterOptions::default()))
    }

    pub fn listen_with<L: TransactionLog>(
        &self,
        queue_bytes: usize,
        open: impl FnOnce() -> Result<L, LogError> + Send + 'static,
    ) -> Listening {
        Self::start(ListenerOptions { queue_bytes, ..self.options() }, open)
    }

    fn start<L: TransactionLog>(
        options: ListenerOptions,
        open: impl FnOnce() -> Result<L, LogError> + Send + 'static,
    ) -> Listening {
        let (sender, status) = watch::channel(ListenerStatus::default());
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(listen_to(options, open, sender, shutdown.clone()));
        Listening { status, shutdown, task }
    }

    /// Begins another log, for a slot at the position of the oracle's.
    pub async fn begin_anew(&mut self, name: &str) {
        let slots = "SELECT pg_drop_replication_slot('app'); SELECT pg_copy_logical_replication_slot('oracle', 'app')";
        // The server may not have noticed yet that the listener has gone.
        wait_until("the slot is free", PATIENCE, async || self.client.batch_execute(slots).await.is_ok())
            .await;
        self.log_directory = self.log_directory.with_file_name(name);
        ptr_log::create(&self.log_directory, &self.identity).unwrap();
    }

    pub async fn reconnect_client(&mut self) {
        self.client = self.server.client("app").await;
    }

    async fn lsn(&self, query: &str) -> Lsn {
        let text: String = self.client.query_one(query, &[]).await.unwrap().get(0);
        text.parse().unwrap()
    }

    pub async fn current_lsn(&self) -> Lsn {
        self.lsn("SELECT pg_current_wal_insert_lsn()::text").await
    }

    pub async fn confirmed_lsn(&self) -> Lsn {
        self.lsn("SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = 'app'").await
    }

    pub fn head(&self) -> Lsn {
        Log::open(&self.log_directory).unwrap().head().unwrap().lsn
    }

    /// Removes the index, as nobody should.
    pub fn lose_index(&self) {
        for suffix in ["", "-wal", "-shm"] {
            let path = self.log_directory.join(format!("index.sqlite{suffix}"));
            assert!(std::fs::remove_file(&path).is_ok() || !path.exists(), "{}", path.display());
        }
    }

    /// Alters the last byte of the open segment.
    pub fn damage_end(&self) {
        let segments = std::fs::read_dir(self.log_directory.join("segments")).unwrap();
        let path = segments.map(|entry| entry.unwrap().path()).max().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }

    /// Waits until everything written so far is durable in the log.
    pub async fn until_captured(&self, listener: &Listening) {
        let written = self.current_lsn().await;
        wait_until("everything written is durable", PATIENCE, async || {
            assert!(!listener.task.is_finished(), "the listener ended: {:?}", listener.status());
            listener.status().progress.durable_lsn >= written
        })
        .await;
    }

    pub async fn terminate_walsender(&self) {
        self.client
            .batch_execute(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'app' AND active",
            )
            .await
            .unwrap();
    }
}

pub struct Listening {
    status: watch::Receiver<ListenerStatus>,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), ListenError>>,
}

impl Listening {
    pub fn status(&self) -> ListenerStatus {
        self.status.borrow().clone()
    }

    pub async fn until_streaming(&self) {
        wait_until("the marker comes round", PATIENCE, async || {
            assert!(!self.task.is_finished(), "the listener ended: {:?}", self.status());
            self.status().state == ListenerState::Streaming
        })
        .await;
    }

    pub async fn stop(self) -> Result<(), ListenError> {
        self.shutdown.cancel();
        self.task.await.unwrap()
    }
}

/// The error by which a listener ends of its own accord.
pub async fn fatal_error(listener: Listening) -> ListenError {
    tokio::time::timeout(PATIENCE, listener.task).await.expect("it ends").unwrap().unwrap_err()
}
