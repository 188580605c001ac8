//! The captured databases: their logs, their listeners, and "now".
//!
//! A listener writes its state to `run/listener-<database>.json` as it changes, so that other processes can tell
//! it. Whether one really runs is told by its process, not by the file.

use std::{path::PathBuf, sync::Arc, time::Duration};

use ptr_capture::{
    listener::{
        CatchUp, ListenError, ListenerOptions, ListenerState, ListenerStatus as Listening, QUEUE_BYTES,
        listen,
    },
    sequences::sample_sequences,
    source::{SourceRecord, Step, emit_marker},
};
use ptr_log::{Direction, EntryQuery, Log, LogError};
use ptr_model::{Lsn, MarkerToken, Position, Relation, SequenceState};
use ptr_postgres::{Connection, SessionSettings, connect};
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, task::JoinHandle};

use super::{APPLICATION_NAME, Role, Service, ServiceError, blocking, lock, running};
use crate::resource::{event::Event, status::ListenerStatus};

/// How long a marker may take to come round. It takes about a millisecond when the listener keeps up.
const MARKER_PATIENCE: Duration = Duration::from_secs(30);

/// How often the log is asked for a marker.
const MARKER_PAUSE: Duration = Duration::from_millis(2);

/// How soon it is tried whether a log can be written again: whether a full disk has room, again and again; whether
/// anything else has passed, after pauses that double up to the longest.
const LOG_PAUSE: Duration = Duration::from_secs(3);
const LONGEST_LOG_PAUSE: Duration = Duration::from_secs(60);

/// A captured database with a log.
pub(crate) struct Captured {
    pub(crate) database: String,
    pub(crate) log: Log,
    /// The listener of this process; `None` where it runs elsewhere or not at all.
    listener: Option<watch::Receiver<Listening>>,
    /// Where a listener of any process writes its state.
    state_file: PathBuf,
}

/// What `run/listener-<database>.json` holds.
#[derive(Serialize, Deserialize)]
struct StateFile {
    pid: u32,
    /// When the process began: ids are used again.
    #[serde(default)]
    born: Option<u64>,
    #[serde(flatten)]
    status: serde_json::Value,
}

impl Captured {
    /// What the listener does, wherever it runs.
    pub(super) fn listener(&self) -> ListenerStatus {
        match &self.listener {
            Some(watched) => shown(std::process::id(), serde_json::json!(&*watched.borrow())),
            None => listener_elsewhere(&self.state_file),
        }
    }

    /// Whether its listener runs in this process.
    pub(super) fn is_listened_here(&self) -> bool {
        self.listener.is_some()
    }

    fn keeps_up(&self) -> bool {
        matches!(self.listener().state.as_str(), "starting" | "catching_up" | "streaming" | "reconnecting")
    }
}

/// What a listener of another process does.
pub(super) fn listener_elsewhere(path: &std::path::Path) -> ListenerStatus {
    let text = std::fs::read(path).ok();
    let file: Option<StateFile> = text.and_then(|text| serde_json::from_slice(&text).ok());
    match file {
        Some(file) if running::process_lives(file.pid, file.born) => shown(file.pid, file.status),
        _ => ListenerStatus { state: "absent".into(), ..ListenerStatus::default() },
    }
}

fn shown(pid: u32, details: serde_json::Value) -> ListenerStatus {
    let state = details.get("state").and_then(|state| state.as_str()).unwrap_or("absent").to_owned();
    ListenerStatus { state, pid: Some(pid), details }
}

/// Names on the primary.
pub(super) struct OnPrimary {
    pub(super) slot: String,
    pub(super) publication: String,
}

impl Service {
    /// Opens the log of a database where there is one.
    pub(super) async fn open_log(&self, database: &str) -> Result<(), ServiceError> {
        let directory = self.configuration.data.log_of(database);
        if !directory.join("log.json").exists() {
            return Ok(());
        }
        let log = blocking(move || Log::open(&directory)).await??;
        self.go_on_beginning(database, &log).await?;
        self.keep(database, log, None);
        Ok(())
    }

    fn keep(&self, database: &str, log: Log, listener: Option<watch::Receiver<Listening>>) {
        let state_file = self.configuration.data.listener_file(database);
        let captured = Captured { database: database.to_owned(), log, listener, state_file };
        let mut known = self.captured.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        known.insert(database.to_owned(), Arc::new(captured));
    }

    /// Starts the listener of a database that was set up.
    pub(super) async fn start_listener(self: &Arc<Self>, database: &str) -> Result<(), ServiceError> {
        let data = &self.configuration.data;
        let record = SourceRecord::load(&data.source_record(database))?;
        let OnPrimary { slot, publication } = self.on_primary(database)?;
        let secret = record.and_then(|record| record.secret());
        let directory = data.log_of(database);
        let known = match &secret {
            Some(_) => Vec::new(),
            None => blocking(move || last_known_tables(&Log::open(&directory)?)).await??,
        };
        let dsn = self.input()?.with_database(database);
        let options = ListenerOptions {
            dsn,
            slot,
            publication,
            secret,
            known,
            queue_bytes: QUEUE_BYTES,
            catch_up: CatchUp::default(),
        };
        let (state, watched) = watch::channel(Listening::default());
        let directory = data.log_of(database);
        let opened = directory.clone();
        let log = blocking(move || Log::open(&opened)).await??;
        // Before anybody writes it.
        self.go_on_beginning(database, &log).await?;
        let capture =
            self.tasks.spawn(Arc::clone(self).capture(database.to_owned(), options, directory, state));
        self.tasks.spawn(Arc::clone(self).notice_panic(database.to_owned(), capture));
        self.tasks.spawn(publish_state(Arc::clone(self), database.to_owned(), watched.clone()));
        self.keep(database, log, Some(watched));
        Ok(())
    }

    /// Captures until the service ends. A full disk has room again one day, a process files to open, an index that `gc`
    /// makes shorter its turn; the primary keeps what was not confirmed: that is waited for. Every other end is final.
    async fn capture(
        self: Arc<Self>,
        database: String,
        options: ListenerOptions,
        directory: PathBuf,
        state: watch::Sender<Listening>,
    ) {
        let (mut pause, mut durable) = (LOG_PAUSE, Lsn::INVALID);
        loop {
            let ended = self.shutdown.clone();
            let error = match listen(options.clone(), directory.clone(), state.clone(), ended).await {
                Ok(()) => return,
                Err(ListenError::Log(error)) if passes(&error) => error,
                Err(error) => return self.capture_ended(&database, error.into()),
            };
            // What went on in between ended an earlier wait.
            let reached = state.borrow().progress.durable_lsn;
            if reached > durable || matches!(error, LogError::DiskFull { .. }) {
                (pause, durable) = (LOG_PAUSE, reached);
            }
            tracing::warn!(database, ?pause, "capture waits until the log can be written: {error}");
            let seconds = pause.as_secs();
            let told = format!("{error}. Capture tries again in {seconds} s");
            state.send_modify(|status| status.state = ListenerState::Failed { error: told, again: true });
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(LONGEST_LOG_PAUSE);
        }
    }

    /// A fault of ours ends capture too, and is told like any other end.
    async fn notice_panic(self: Arc<Self>, database: String, capture: JoinHandle<()>) {
        if let Err(error) = capture.await
            && error.is_panic()
        {
            let detail = format!("the task that captures ended early: {error}");
            self.capture_ended(&database, ServiceError::Broken { detail });
        }
    }

    /// Capture that cannot go on is told by the status; a process that is there for nothing else ends.
    fn capture_ended(&self, database: &str, error: ServiceError) {
        tracing::error!(database, "capture ended: {error}");
        *lock(&self.capture_failure) = Some(error);
        if self.role == Role::Listener {
            self.shutdown.cancel();
        }
    }

    /// The position of this moment, exactly, and what the sequences held just after it, which is not kept.
    pub(super) async fn marker_and_sequences(
        &self,
        captured: &Arc<Captured>,
    ) -> Result<(Position, Vec<SequenceState>), ServiceError> {
        let turn = self.lanes.turn().await;
        let connection = self.connect_for_marker(captured).await?;
        let token = send_marker(&connection).await?;
        let states = sample_sequences(&connection).await;
        connection.close().await;
        drop(turn);
        Ok((self.await_marker(captured, token).await?, states?))
    }

    /// A connection to send markers by.
    pub(super) async fn connect_for_marker(
        &self,
        captured: &Arc<Captured>,
    ) -> Result<Connection, ServiceError> {
        if !captured.keeps_up() {
            let state = captured.listener().state;
            return Err(ServiceError::precondition(
                format!(
                    "nothing captures {:?} at the moment (the listener is {state}), so there is no telling where in the log now is",
                    captured.database
                ),
                "run postgres-test-replay up, or listener; or name a position with --at",
            ));
        }
        let dsn = self.input()?.with_database(&captured.database);
        Ok(connect(&dsn, &SessionSettings::named(APPLICATION_NAME)).await?)
    }

    /// The position of this moment, by a connection that is there.
    pub(super) async fn marker_by(
        &self,
        connection: &Connection,
        captured: &Arc<Captured>,
    ) -> Result<Position, ServiceError> {
        let token = send_marker(connection).await?;
        self.await_marker(captured, token).await
    }

    async fn await_marker(
        &self,
        captured: &Arc<Captured>,
        token: MarkerToken,
    ) -> Result<Position, ServiceError> {
        let deadline = tokio::time::Instant::now() + MARKER_PATIENCE;
        loop {
            if let Some(position) = captured.read(move |log| log.marker(token)).await? {
                return Ok(position);
            }
            if tokio::time::Instant::now() > deadline {
                let state = captured.listener().state;
                return Err(ServiceError::precondition(
                    format!(
                        "the listener (now {state}) did not come to this moment within {} s",
                        MARKER_PATIENCE.as_secs()
                    ),
                    "status shows how far behind it is; try again when it is streaming",
                ));
            }
            tokio::time::sleep(MARKER_PAUSE).await;
        }
    }

    /// What capture of a database has on the primary: what set-up made, whatever the settings say by now; before that,
    /// what they say.
    pub(super) fn on_primary(&self, database: &str) -> Result<OnPrimary, ServiceError> {
        let record = SourceRecord::load(&self.configuration.data.source_record(database))?;
        if let Some(made) = record.filter(|record| record.began(Step::Complete)) {
            return Ok(OnPrimary { slot: made.slot, publication: made.publication });
        }
        let first = database == self.configuration.default_database();
        let slot = ptr_capture::source::slot_name(&self.configuration.slot, database, first);
        Ok(OnPrimary { slot, publication: self.configuration.publication.clone() })
    }

    /// Each log's head, as events; what a new client of the stream gets first.
    pub async fn heads(&self) -> Vec<Event> {
        let mut heads = Vec::new();
        for captured in self.all_captured() {
            // A log that cannot be read now is told by the status.
            if let Ok(head) = captured.read(Log::head).await {
                heads.push(Event::Head { database: captured.database.clone(), head: head.into() });
            }
        }
        heads
    }
}

/// Whether a log that cannot be written can be later, though nobody does anything here. Who writes it does so until it
/// ends, and captures instead of us; who recovers it or removes its oldest part is done soon.
fn passes(error: &LogError) -> bool {
    !matches!(error, LogError::Locked { writes: true, .. }) && error.is_transient()
}

/// Each table of the log as its last entry shows it.
fn last_known_tables(log: &Log) -> Result<Vec<Arc<Relation>>, LogError> {
    let mut known = Vec::new();
    for (table, _) in log.statistics()?.tables {
        let page = log.entries(&EntryQuery {
            table: Some(table),
            operations: Vec::new(),
            since: log.creation(),
            until: log.head()?,
            after: None,
            limit: 1,
            direction: Direction::Backward,
        })?;
        known.extend(page.entries.iter().flat_map(|entry| entry.change.relations()).cloned());
    }
    Ok(known)
}

async fn send_marker(connection: &Connection) -> Result<MarkerToken, ServiceError> {
    let token = MarkerToken::random();
    emit_marker(connection, token).await?;
    Ok(token)
}

/// Writes the listener's state to its file and tells it, as it changes.
async fn publish_state(service: Arc<Service>, database: String, mut watched: watch::Receiver<Listening>) {
    let path = service.configuration.data.listener_file(&database);
    let born = running::born(std::process::id());
    let mut last = String::new();
    loop {
        let status = serde_json::json!(&*watched.borrow_and_update());
        let listener = shown(std::process::id(), status.clone());
        let file = StateFile { pid: std::process::id(), born, status };
        let text = serde_json::to_vec(&file).unwrap_or_default();
        if let Err(error) = running::write_private(&path, &text) {
            tracing::warn!("cannot write {}: {error}", path.display());
        }
        if listener.state != last {
            last.clone_from(&listener.state);
            service.tell(Event::Listener { database: database.clone(), listener });
        }
        if watched.changed().await.is_err() {
            break;
        }
        // The progress changes with every flush; nobody reads the file that often.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Left behind, it names a process that is gone.
    let _ = std::fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locked(writes: bool) -> LogError {
        LogError::Locked { path: "log".into(), holder: "process 7".into(), writes }
    }

    #[test]
    fn a_log_that_another_process_captures_is_not_waited_for_and_one_that_is_trimmed_is() {
        assert!(!passes(&locked(true)));
        assert!(passes(&locked(false)));
        let source = std::io::Error::from_raw_os_error(24);
        assert!(passes(&LogError::File { operation: "open", path: "00.seg".into(), source }));
        assert!(!passes(&LogError::Refused("a change of 2 GiB".into())));
    }
}
