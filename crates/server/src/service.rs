//! The service: one data directory, the two servers, the logs of the captured databases, and every operation that
//! users can ask for.
//!
//! [`Service::open`] finds the servers (or makes [`embedded`] ones), opens the catalog and the logs, and starts
//! what its [`Role`] asks for: set-up of each captured database ([`setup`]), its listener ([`capturing`]), and the
//! tasks that keep followers at head ([`follow`]) and keyframes where they pay ([`keeper`]). The operations are methods, one file a resource.
//!
//! Invariants: a session is moved by one move at a time, in any process ([`moves`]); a move goes on when whoever
//! asked for it goes away; what only looks never waits for a move.

mod announce;
mod capturing;
mod checkpoints;
mod decisions;
mod diff;
mod doctor;
mod dsn;
mod earlier;
mod embedded;
mod entries;
mod error;
mod file_lock;
mod follow;
mod histogram;
mod history;
mod keeper;
mod keyframes;
mod lanes;
mod latest;
mod limits;
mod moves;
mod navigate;
mod positions;
mod rates;
mod readiness;
mod renewal;
mod resync;
mod retention;
mod roles;
mod running;
mod sampling;
mod search;
mod sessions;
mod setup;
mod slot_guard;
mod snapshots;
mod standing;
mod status;
mod teardown;
mod transactions;
mod values;
mod verify;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, RwLock},
    time::Duration,
};

use ptr_log::Catalog;
use ptr_postgres::Dsn;
use tokio::{net::UnixListener, sync::broadcast};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use announce::{Announcement, Announcer};
pub use dsn::End;
pub use error::ServiceError;
pub use moves::Direction;
pub use navigate::Moved;
pub use roles::Role;
pub use running::Running;
pub use verify::Verification;

pub(crate) use capturing::Captured;
pub(crate) use history::blocking;
pub(crate) use positions::now;
pub(crate) use running::{born, process_lives, write_private};
pub(crate) use sessions::check_target;
pub(crate) use snapshots::TiedSnapshot;

use embedded::{Embedded, Ends, Start};
use follow::Followers;
use keeper::Keeping;
use lanes::Lanes;
use latest::Latest;
use moves::Moves;
use rates::KnownRates;
use running::RunningFile;
use verify::Verifications;

use crate::{
    backups::Backups,
    configuration::Configuration,
    resource::{event::Event, retention::LastCollection, session::SessionAnswer, status::Status},
    serve::Entrance,
};

/// The `application_name` of our sessions.
pub(crate) const APPLICATION_NAME: &str = "postgres-test-replay";

/// How long what is under way may take once the service is to end.
const GRACE: Duration = Duration::from_secs(60);

/// Events that a slow client may be behind before it misses some.
const EVENT_BACKLOG: usize = 1024;

/// One opened data directory and everything that can be asked of it.
pub struct Service {
    configuration: Configuration,
    role: Role,
    input: Option<Dsn>,
    output: Option<Dsn>,
    embedded: tokio::sync::Mutex<Embedded>,
    catalog: Catalog,
    captured: RwLock<BTreeMap<String, Arc<Captured>>>,
    moves: Moves,
    lanes: Lanes,
    latest_status: Latest<Status>,
    latest_sessions: Latest<Vec<SessionAnswer>>,
    known_rates: KnownRates,
    followers: Followers,
    /// What the keepers of the captured databases do.
    keeping: Mutex<HashMap<String, Keeping>>,
    verifications: Verifications,
    pub(crate) backups: Backups,
    events: broadcast::Sender<Event>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    running: Mutex<Option<RunningFile>>,
    address: Mutex<Option<String>>,
    /// Opened before anything is begun; [`crate::serve`] takes it.
    entrance: Mutex<Option<Entrance>>,
    warnings: Mutex<Vec<String>>,
    /// Stands in for a data directory that is not there; removed with the service.
    _nowhere: Option<tempfile::TempDir>,
    /// Why a listener of this process ended by itself.
    capture_failure: Mutex<Option<ServiceError>>,
    /// Held to read by who gives a position a name or a session; to write by who has a history begin later.
    beginning: tokio::sync::RwLock<()>,
    /// What the policy by itself did last.
    retained: Mutex<Option<LastCollection>>,
    /// Held by who makes what a history is to begin with.
    beginning_made: tokio::sync::Mutex<()>,
    /// Held by who looks for what slips through the log.
    looking_for_limits: tokio::sync::Mutex<()>,
    /// Held by who folds a difference for a reader.
    comparing: tokio::sync::Mutex<()>,
}

impl Service {
    /// Opens the data directory in a role. [`Role::Offline`] starts and makes nothing.
    ///
    /// # Errors
    /// [`ServiceError`]: a server that does not answer, a directory that cannot be used, a set-up that is refused.
    pub async fn open(
        configuration: Configuration,
        role: Role,
        announcer: &Announcer,
    ) -> Result<Arc<Self>, ServiceError> {
        // A port that is taken, or a certificate that cannot be used, is told before anything is begun.
        let entrance = match role.serves() {
            true => Some(Entrance::open(&configuration).await?),
            false => None,
        };
        let start = if role.makes_things() { Start::All } else { Start::Nothing };
        let Ends { input, output, embedded } = Ends::find(&configuration, start, announcer).await?;
        let nowhere = nowhere(&configuration, role)?;
        let path = nowhere
            .as_ref()
            .map_or(configuration.data.catalog(), |folder| folder.path().join("catalog.sqlite"));
        let catalog = blocking(move || Catalog::open(&path)).await??;
        let service = Arc::new(Self {
            backups: Backups::at(configuration.data.backups()),
            warnings: Mutex::new(configuration.warnings.clone()),
            configuration,
            role,
            input,
            output,
            embedded: embedded.into(),
            catalog,
            captured: RwLock::default(),
            moves: Moves::default(),
            lanes: Lanes::default(),
            latest_status: Latest::default(),
            latest_sessions: Latest::default(),
            known_rates: KnownRates::default(),
            followers: Followers::default(),
            keeping: Mutex::default(),
            verifications: Verifications::default(),
            events: broadcast::Sender::new(EVENT_BACKLOG),
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
            running: Mutex::default(),
            address: Mutex::default(),
            entrance: Mutex::new(entrance),
            _nowhere: nowhere,
            capture_failure: Mutex::default(),
            beginning: tokio::sync::RwLock::default(),
            retained: Mutex::default(),
            beginning_made: tokio::sync::Mutex::default(),
            looking_for_limits: tokio::sync::Mutex::default(),
            comparing: tokio::sync::Mutex::default(),
        });
        service.start(announcer).await?;
        Ok(service)
    }

    /// Starts what the role asks for.
    async fn start(self: &Arc<Self>, announcer: &Announcer) -> Result<(), ServiceError> {
        let told = match self.role {
            Role::Offline => Vec::new(),
            Role::Up | Role::Listener | Role::Ipc => self.check_before_start(announcer).await?,
        };
        for database in self.configuration.databases.clone() {
            if self.role.captures() {
                self.set_earlier_aside(&database, announcer).await?;
                self.set_up(&database, announcer, &told).await?;
                self.start_listener(&database).await?;
                self.watch_limits(&database);
            } else {
                self.open_log(&database).await?;
            }
        }
        self.open_earlier().await?;
        if self.role != Role::Offline {
            self.guard_slots();
        }
        if self.role.serves() {
            self.ensure_default_session(announcer).await?;
            self.renew_sessions(announcer).await?;
            self.start_watching();
            self.start_following();
            self.start_keeping();
            self.start_retaining();
        }
        Ok(())
    }

    /// The configuration it was opened with.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Cancelled when it ends, by whoever wants it to end.
    #[must_use]
    pub fn shutdown_token(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Live events from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Where the API is to answer everybody, once.
    pub(crate) fn take_entrance(&self) -> Option<Entrance> {
        lock(&self.entrance).take()
    }

    /// What a browser opens. A service on all addresses is asked on loopback.
    pub(crate) fn url(&self) -> Option<String> {
        let address = lock(&self.address).clone()?;
        let address = address.replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:");
        let scheme = if self.configuration.tls.is_some() { "https" } else { "http" };
        Some(format!("{scheme}://{address}"))
    }

    /// Writes `run/service.json`: from here on other processes find this service, by the socket that is given, and know
    /// the address that everybody else uses.
    pub(crate) fn publish(&self, address: String) -> Result<UnixListener, ServiceError> {
        let data = &self.configuration.data;
        let (file, socket) = RunningFile::write(data, address.clone(), self.role.name())
            .map_err(ServiceError::file("write", data.service_file()))?;
        *lock(&self.running) = Some(file);
        *lock(&self.address) = Some(address);
        Ok(socket)
    }

    /// Ends it in good order: moves stop at a position, listeners confirm what is durable, embedded servers that
    /// it started are shut down.
    ///
    /// # Errors
    /// An embedded server that does not stop; for [`Role::Listener`], why capture ended by itself.
    pub async fn close(&self) -> Result<(), ServiceError> {
        self.shutdown.cancel();
        self.moves.cancel_all();
        self.tasks.close();
        if tokio::time::timeout(GRACE, self.tasks.wait()).await.is_err() {
            tracing::warn!("something still runs after {} s and is left behind", GRACE.as_secs());
        }
        self.keep_rates().await;
        *lock(&self.running) = None;
        if self.role.makes_things() {
            self.embedded.lock().await.stop().await?;
        }
        match lock(&self.capture_failure).take() {
            Some(failure) if self.role == Role::Listener => Err(failure),
            _ => Ok(()),
        }
    }

    /// Tells whoever listens.
    pub(crate) fn tell(&self, event: Event) {
        // An error means that nobody listens.
        let _ = self.events.send(event);
    }

    fn warn(&self, text: String) {
        let mut warnings = lock(&self.warnings);
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }
}

/// A command in a folder without a data directory must not leave one behind, so its catalog is elsewhere.
fn nowhere(configuration: &Configuration, role: Role) -> Result<Option<tempfile::TempDir>, ServiceError> {
    if role != Role::Offline || configuration.data.catalog().exists() || configuration.data.root().exists() {
        return Ok(None);
    }
    let folder = tempfile::tempdir().map_err(ServiceError::file("create", std::env::temp_dir()))?;
    Ok(Some(folder))
}

/// Locks a mutex whose holders never panic halfway: each only replaces or copies a value.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
