//! Starting, finding and stopping the server of a cluster.
//!
//! `postgres` is run directly, in a process group of its own: Ctrl-C at our terminal does not reach it,
//! and it survives us. What we wait for is its pid file saying "ready".

use super::{
    Cluster, ClusterError, ClusterRole, Durability, Started, port,
    postmaster::{Postmaster, clear_stale_file, has_orphans},
};
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Beside `postgresql.conf`, which includes it; written before each start.
pub(super) const SETTINGS_FILE: &str = "postgres-test-replay.conf";

/// Crash recovery of a large cluster takes its time.
const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// How long children of a server that was killed may take to notice.
const ORPHANS_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);
/// A port may be taken between choosing and using it, and children of a killed server take a moment to go.
const ATTEMPTS: usize = 5;

impl Cluster {
    /// Starts the server, or picks it up where it still runs, and waits until it accepts connections.
    ///
    /// # Errors
    /// [`ClusterError::NotStarted`] with the last lines of the log, [`ClusterError::PortInUse`].
    pub async fn start(&mut self) -> Result<Started, ClusterError> {
        let deadline = Instant::now() + START_LIMIT;
        for attempt in 1.. {
            if let Some(running) = Postmaster::of(&self.data_directory())
                && self.wait_until_ready(running.pid(), deadline).await?
            {
                return Ok(Started::PickedUp);
            }
            let patience = Instant::now() + ORPHANS_LIMIT;
            while has_orphans(&self.data_directory()) && Instant::now() < patience {
                tokio::time::sleep(POLL).await;
            }
            self.prepare()?;
            let log_start = fs::metadata(self.log_file()).map_or(0, |metadata| metadata.len());
            let child = self.spawn()?;
            let pid = child.id();
            self.child = Some(child);
            if self.wait_until_ready(pid, deadline).await? {
                return Ok(Started::New);
            }
            if attempt == ATTEMPTS {
                return Err(self.not_started(log_start));
            }
            tokio::time::sleep(POLL * 20).await;
        }
        unreachable!("the loop ends by returning")
    }

    /// Whether the server runs, started by whomever.
    pub fn is_running(&self) -> bool {
        Postmaster::of(&self.data_directory()).is_some()
    }

    /// The server's process, when it runs.
    pub fn pid(&self) -> Option<u32> {
        Postmaster::of(&self.data_directory()).map(|running| running.pid())
    }

    /// Shuts the server down: sessions are ended, everything is written. Nothing happens when it is down.
    ///
    /// # Errors
    /// [`ClusterError::NotStopped`].
    pub async fn stop(&mut self) -> Result<(), ClusterError> {
        self.end(Postmaster::shut_down).await
    }

    /// Stops the server at once, as a crash would; it recovers at the next start.
    ///
    /// # Errors
    /// [`ClusterError::NotStopped`].
    pub async fn crash(&mut self) -> Result<(), ClusterError> {
        self.end(Postmaster::abort).await
    }

    async fn end(&mut self, signal: impl Fn(&Postmaster)) -> Result<(), ClusterError> {
        let Some(running) = Postmaster::of(&self.data_directory()) else { return Ok(()) };
        signal(&running);
        let deadline = Instant::now() + STOP_LIMIT;
        while !self.has_ended(&running) {
            if Instant::now() > deadline {
                return Err(ClusterError::NotStopped {
                    directory: self.directory.clone(),
                    pid: running.pid(),
                    seconds: STOP_LIMIT.as_secs(),
                });
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    fn has_ended(&mut self, running: &Postmaster) -> bool {
        match &mut self.child {
            Some(child) if child.id() == running.pid() => matches!(child.try_wait(), Ok(Some(_))),
            _ => Postmaster::of(&self.data_directory()).is_none(),
        }
    }

    /// True when the server with this pid is ready, false when it has ended.
    async fn wait_until_ready(&mut self, pid: u32, deadline: Instant) -> Result<bool, ClusterError> {
        loop {
            let running = Postmaster::of(&self.data_directory()).filter(|running| running.pid() == pid);
            match (running, &mut self.child) {
                (Some(running), _) if running.is_ready => {
                    self.port = running.port;
                    return Ok(true);
                }
                (None, Some(child)) if child.id() == pid => {
                    if matches!(child.try_wait(), Ok(Some(_))) {
                        return Ok(false);
                    }
                }
                (None, _) => return Ok(false),
                (Some(_), _) => {}
            }
            if Instant::now() > deadline {
                return Err(self.not_started(0));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// A free port, the settings, and no pid file of somebody else's.
    fn prepare(&mut self) -> Result<(), ClusterError> {
        if !port::is_free(self.port) {
            if let Some(port) = self.options.port {
                return Err(ClusterError::PortInUse { directory: self.directory.clone(), port });
            }
            self.port = port::choose(&self.directory)?;
        }
        clear_stale_file(&self.data_directory());
        self.account.replace(&self.data_directory(), SETTINGS_FILE, self.settings().as_bytes())
    }

    fn spawn(&self) -> Result<Child, ClusterError> {
        let log = self.log_file();
        let open = || private_log(&log);
        let (out, err) = (open(), open());
        let out = out.map_err(ClusterError::file("write", &log))?;
        let err = err.map_err(ClusterError::file("write", &log))?;
        let program = self.options.installation.program("postgres");
        let mut command = Command::new(&program);
        command.arg("-D").arg(self.data_directory()).current_dir(self.data_directory());
        command.env("LC_ALL", "C").stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        self.account.run(&mut command).spawn().map_err(ClusterError::file("run", &program))
    }

    fn settings(&self) -> String {
        let role: &[(&str, &str)] = match self.options.role {
            ClusterRole::Primary => &[
                ("wal_level", "logical"),
                ("max_replication_slots", "20"),
                ("max_wal_senders", "20"),
                ("max_prepared_transactions", "20"),
            ],
            ClusterRole::Replica => &[("wal_level", "minimal"), ("max_wal_senders", "0")],
        };
        let durability: &[(&str, &str)] = match self.options.durability {
            Durability::Durable => &[],
            Durability::Volatile => &[("fsync", "off"), ("full_page_writes", "off")],
        };
        let port = self.port.to_string();
        let always = [
            ("listen_addresses", "127.0.0.1"),
            ("port", port.as_str()),
            ("unix_socket_directories", ""),
            ("shared_buffers", "128MB"),
            ("timezone", "UTC"),
            ("log_timezone", "UTC"),
            ("logging_collector", "off"),
        ];
        let own = self.options.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut text = String::from("# Written before each start; change settings with ALTER SYSTEM.\n");
        for (name, value) in
            always.into_iter().chain(role.iter().copied()).chain(durability.iter().copied()).chain(own)
        {
            let _ = writeln!(text, "{name} = '{}'", value.replace('\'', "''"));
        }
        text
    }

    fn not_started(&self, log_start: u64) -> ClusterError {
        let log = self.log_file();
        let log_tail = tail(&log, log_start);
        ClusterError::NotStarted { directory: self.directory.clone(), log, log_tail }
    }
}

/// The server's log, to be appended to. It has statements and rows in it, so only its owner may read it.
fn private_log(path: &Path) -> io::Result<fs::File> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

/// The last lines of what was logged from this offset on.
fn tail(log: &Path, start: u64) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let from = usize::try_from(start).unwrap_or(0).min(bytes.len());
    let text = String::from_utf8_lossy(&bytes[from..]).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
