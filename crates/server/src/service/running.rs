//! `run/service.json`: how other processes of the same user find the running service.
//!
//! Its presence promises nothing, because a killed service leaves it behind; [`Running::find`] looks whether its
//! process still lives. It names the Unix socket over which they ask, which holds no secret: that nobody else may enter
//! its folder stands for the user.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::net::UnixListener;

use crate::configuration::DataDirectory;

/// What the file says.
#[derive(Clone, Serialize, Deserialize)]
pub struct Running {
    /// Where its API listens for everybody, `host:port`.
    pub address: String,
    /// Where it listens for its own user; a service of an earlier version has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// Its process.
    pub pid: u32,
    /// When that began, since process ids are used again; absent where the system does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub born: Option<u64>,
    /// `up`, `listener` or `ipc`.
    pub role: String,
    /// Its version.
    pub version: String,
}

impl Running {
    /// The running service of a data directory, `None` where none lives.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn find(data: &DataDirectory) -> io::Result<Option<Self>> {
        let text = match fs::read(data.service_file()) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // A file that was cut off by a crash names no service.
        let running: Option<Self> = serde_json::from_slice(&text).ok();
        Ok(running.filter(|running| process_lives(running.pid, running.born)))
    }
}

/// The file and the socket of this process's service; removed when dropped.
pub(super) struct RunningFile {
    path: PathBuf,
    socket: PathBuf,
    /// The socket's folder where it could not be in `run/`.
    _elsewhere: Option<TempDir>,
}

impl RunningFile {
    pub(super) fn write(
        data: &DataDirectory,
        address: String,
        role: &str,
    ) -> io::Result<(Self, UnixListener)> {
        ptr_log::create_private_folder(&data.run())?;
        let (listener, socket, elsewhere) = own_socket(&data.service_socket())?;
        let running = Running {
            address,
            pid: std::process::id(),
            born: born(std::process::id()),
            socket: Some(socket.clone()),
            role: role.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let path = data.service_file();
        write_private(&path, &serde_json::to_vec_pretty(&running)?)?;
        Ok((Self { path, socket, _elsewhere: elsewhere }, listener))
    }
}

/// A socket that only its owner can use. Its path has about a hundred bytes, and not every file system has sockets: where
/// it cannot be at its place it is in a private folder for temporary files.
fn own_socket(place: &Path) -> io::Result<(UnixListener, PathBuf, Option<TempDir>)> {
    match bind_private(place) {
        Ok(listener) => Ok((listener, place.to_owned(), None)),
        Err(error) => {
            tracing::debug!(%error, path = %place.display(), "the socket is elsewhere");
            let private = fs::Permissions::from_mode(0o700);
            let folder =
                tempfile::Builder::new().prefix("postgres-test-replay-").permissions(private).tempdir()?;
            let path = folder.path().join("service.sock");
            Ok((bind_private(&path)?, path, Some(folder)))
        }
    }
}

fn bind_private(path: &Path) -> io::Result<UnixListener> {
    // What a killed service left.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

impl Drop for RunningFile {
    fn drop(&mut self) {
        // Left behind it names a dead process, which every reader checks.
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(&self.socket);
    }
}

/// Writes a file that only its owner can read, whole or not at all.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        ptr_log::create_private_folder(folder)?;
    }
    let unfinished = unfinished(path);
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}

/// What a file is called while this process writes it: `NAME.PID-BORN.new`, by which a later one sees whether it was
/// left over.
pub(super) fn unfinished(path: &Path) -> PathBuf {
    let pid = std::process::id();
    let born = born(pid).map(|born| format!("-{born}")).unwrap_or_default();
    path.with_extension(format!("{pid}{born}.new"))
}

/// Which process began to write a file of such a name, and when that began, if the name says it.
pub(super) fn unfinished_by(path: &Path) -> Option<(u32, Option<u64>)> {
    let by = path.file_name()?.to_str()?.strip_suffix(".new")?.rsplit('.').next()?;
    match by.split_once('-') {
        Some((pid, born)) => Some((pid.parse().ok()?, Some(born.parse().ok()?))),
        None => Some((by.parse().ok()?, None)),
    }
}

/// Whether the process that had this id, and that began then, lives. One that is not ours to signal lives; one that ended
/// and that nobody waited for does not.
pub(crate) fn process_lives(number: u32, began: Option<u64>) -> bool {
    let pid = i32::try_from(number).ok().and_then(rustix::process::Pid::from_raw);
    let is_there =
        pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH));
    is_there && !has_ended(number) && began.zip(born(number)).is_none_or(|(began, born)| began == born)
}

/// Whether a process is only still listed (state `Z` or `X` of proc_pid_stat(5)).
fn has_ended(pid: u32) -> bool {
    matches!(stat(pid, 3).as_deref(), Some("Z" | "X"))
}

/// When a process began, in ticks since the machine did (`starttime` of proc_pid_stat(5)): after a crash, and in every new
/// container, ids are soon another process's. `None` where there is no such file.
pub(crate) fn born(pid: u32) -> Option<u64> {
    stat(pid, 22)?.parse().ok()
}

/// A field of `/proc/PID/stat`, from the third on.
fn stat(pid: u32, field: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program, in parentheses, may hold anything; what follows is the third field.
    stat.rsplit_once(')')?.1.split_whitespace().nth(field - 3).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn file_and_socket_are_private_and_go_away_with_the_service() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("d".repeat(90));
        for root in [folder.path(), &deep] {
            let data = DataDirectory::at(root);
            let (file, _listener) = RunningFile::write(&data, "127.0.0.1:1".into(), "up").unwrap();
            let running = Running::find(&data).unwrap().unwrap();
            assert_eq!(running.pid, std::process::id());
            let socket = running.socket.unwrap();
            assert_eq!(socket.starts_with(root), root != deep, "{}", socket.display());
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&data.service_file()), mode(&socket)), (0o600, 0o600));
            assert_eq!(mode(socket.parent().unwrap()), 0o700);
            drop(file);
            assert!(Running::find(&data).unwrap().is_none() && !socket.exists());
        }
    }

    #[tokio::test]
    async fn a_socket_that_a_killed_service_left_is_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDirectory::at(folder.path());
        fs::create_dir(data.run()).unwrap();
        drop(UnixListener::bind(data.service_socket()).unwrap());
        RunningFile::write(&data, "127.0.0.1:1".into(), "up").unwrap();
    }

    #[test]
    fn a_file_left_by_a_dead_process_names_no_service() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDirectory::at(folder.path());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let text =
            format!(r#"{{"address": "127.0.0.1:1", "pid": {}, "role": "up", "version": "0"}}"#, child.id());
        write_private(&data.service_file(), text.as_bytes()).unwrap();
        assert!(Running::find(&data).unwrap().is_none());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_id_that_is_another_processs_by_now_names_no_service() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDirectory::at(folder.path());
        let ours = std::process::id();
        let file = |born: u64| {
            format!(
                r#"{{"address": "127.0.0.1:1", "pid": {ours}, "born": {born}, "role": "up", "version": "0"}}"#
            )
        };
        let born = born(ours).expect("Linux says when a process began");
        write_private(&data.service_file(), file(born).as_bytes()).unwrap();
        assert!(Running::find(&data).unwrap().is_some());
        write_private(&data.service_file(), file(born - 1).as_bytes()).unwrap();
        assert!(Running::find(&data).unwrap().is_none());
    }
}
