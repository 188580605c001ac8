//! `run/service.json`: how other processes of the same user find the running service.
//!
//! Its presence promises nothing, because a killed service leaves it behind; [`Running::find`] looks whether its
//! process still lives. It is 0600: the token in it stands for the user.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::configuration::{ApiToken, DataDirectory};

/// What the file says.
#[derive(Clone, Serialize, Deserialize)]
pub struct Running {
    /// Where its API listens, `host:port`.
    pub address: String,
    /// Its process.
    pub pid: u32,
    /// Opens everything, passwords too.
    pub token: String,
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
        Ok(running.filter(|running| process_lives(running.pid)))
    }

    /// The address to ask: a service on all addresses is asked on loopback.
    #[must_use]
    pub fn url(&self) -> String {
        let address = self.address.replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:");
        format!("http://{address}")
    }
}

/// The file of this process's service; removed when dropped.
pub(super) struct RunningFile {
    path: PathBuf,
}

impl RunningFile {
    pub(super) fn write(
        data: &DataDirectory,
        address: String,
        role: &str,
        token: &ApiToken,
    ) -> io::Result<Self> {
        let running = Running {
            address,
            pid: std::process::id(),
            token: token.reveal().to_owned(),
            role: role.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let path = data.service_file();
        write_private(&path, &serde_json::to_vec_pretty(&running)?)?;
        Ok(Self { path })
    }
}

impl Drop for RunningFile {
    fn drop(&mut self) {
        // Left behind it names a dead process, which every reader checks.
        let _ = fs::remove_file(&self.path);
    }
}

/// Writes a file that only its owner can read, whole or not at all.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        ptr_log::create_private_folder(folder)?;
    }
    let unfinished = path.with_extension(format!("{}.new", std::process::id()));
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}

/// Whether a process lives. One that is not ours to signal lives.
pub(crate) fn process_lives(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_file_is_private_and_goes_away_with_the_service() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDirectory::at(folder.path());
        let file = RunningFile::write(&data, "127.0.0.1:1".into(), "up", &ApiToken::random()).unwrap();
        let mode = fs::metadata(data.service_file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(Running::find(&data).unwrap().unwrap().pid, std::process::id());
        drop(file);
        assert!(Running::find(&data).unwrap().is_none());
    }

    #[test]
    fn a_file_left_by_a_dead_process_names_no_service() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDirectory::at(folder.path());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let text = format!(
            r#"{{"address": "127.0.0.1:1", "pid": {}, "token": "t", "role": "up", "version": "0"}}"#,
            child.id()
        );
        write_private(&data.service_file(), text.as_bytes()).unwrap();
        assert!(Running::find(&data).unwrap().is_none());
    }
}
