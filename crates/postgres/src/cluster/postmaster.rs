//! The running server, as `postmaster.pid` and the kernel know it.
//!
//! A pid file may be left over from a crash, and its pid may belong to somebody else by now. So a
//! process counts as our postmaster only if it is alive and its working directory, or an argument of its call,
//! is our data directory (where `/proc` can tell; elsewhere if the file is as the server writes it for this directory).

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A postmaster of this data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Postmaster {
    pid: Pid,
    /// The port it was started with.
    pub(super) port: u16,
    /// Whether it accepts connections.
    pub(super) is_ready: bool,
}

impl Postmaster {
    /// The one that runs on this data directory, if any.
    pub(super) fn of(data: &Path) -> Option<Self> {
        let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
        let found = parse(&text)?;
        (test_kill_process(found.pid) != Err(rustix::io::Errno::SRCH) && runs_in(found.pid, data))
            .then_some(found)
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Fast shutdown: sessions are ended, everything is written.
    pub(super) fn shut_down(&self) {
        self.signal(Signal::INT);
    }

    /// Immediate shutdown: as a crash, recovered at the next start.
    pub(super) fn abort(&self) {
        self.signal(Signal::QUIT);
    }

    fn signal(&self, signal: Signal) {
        // It may have ended by itself in between, which is what was wanted.
        let _ = kill_process(self.pid, signal);
    }
}

/// Removes a pid file whose pid is now another live process: the server would take that for a
/// running postmaster and refuse. One whose process is gone is the server's own affair, since it also
/// looks for left-over children by what the file says about shared memory.
pub(super) fn clear_stale_file(data: &Path) {
    let file = data.join("postmaster.pid");
    let Ok(text) = fs::read_to_string(&file) else { return };
    let Some(found) = parse(&text) else { return };
    let alive = test_kill_process(found.pid) != Err(rustix::io::Errno::SRCH);
    if alive && !runs_in(found.pid, data) {
        tracing::debug!(file = %file.display(), "removing the pid file of a server that is gone");
        let _ = fs::remove_file(file);
    }
}

/// Whether children of a server that was killed are still there: they keep its memory, and another server refuses to start
/// beside them. They notice within moments, on a busy machine within seconds. Where `/proc` does not tell, nobody is.
pub(super) fn has_orphans(data: &Path) -> bool {
    let Ok(data) = data.canonicalize() else { return false };
    let mut processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.any(|process| fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd == data))
}

/// Lines: pid, data directory, start time, port, socket directory, address, shared memory, status
/// (`src/include/utils/pidfile.h`). The later ones appear while the server starts.
fn parse(text: &str) -> Option<Postmaster> {
    let line = |number: usize| text.lines().nth(number - 1).map(str::trim);
    let pid = Pid::from_raw(line(1)?.parse().ok().filter(|pid| *pid > 0)?)?;
    let port = line(4).and_then(|port| port.parse().ok()).unwrap_or(0);
    Some(Postmaster { pid, port, is_ready: line(8) == Some("ready") })
}

fn runs_in(pid: Pid, data: &Path) -> bool {
    let process = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    let Ok(data) = data.canonicalize() else { return false };
    if !Path::new("/proc/self/cwd").exists() {
        return true;
    }
    match fs::read_link(process.join("cwd")) {
        Ok(cwd) => cwd == data,
        // Root in a container has no right to look at other accounts' processes (CAP_SYS_PTRACE),
        // but everybody may see how they were called.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => is_called_with(&process, &data),
        Err(_) => false,
    }
}

fn is_called_with(process: &Path, data: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let arguments = fs::read(process.join("cmdline")).unwrap_or_default();
    arguments
        .split(|byte| *byte == 0)
        .any(|argument| Path::new(OsStr::from_bytes(argument)).canonicalize().is_ok_and(|path| path == data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_ready_when_its_eighth_line_says_so() {
        let starting = "4711\n/data\n1700000000\n5433\n";
        assert!(!parse(starting).unwrap().is_ready);
        let ready = format!("{starting}\n127.0.0.1\n  123 456\nready   \n");
        let ready = parse(&ready).unwrap();
        assert_eq!((ready.pid(), ready.port, ready.is_ready), (4711, 5433, true));
        assert!(parse("").is_none() && parse("-1\n").is_none());
    }

    #[test]
    fn the_pid_of_another_program_is_not_our_server() {
        let data = tempfile::tempdir().unwrap();
        let file = data.path().join("postmaster.pid");
        fs::write(&file, format!("{}\n/data\n1\n5433\n", std::process::id())).unwrap();
        if Path::new("/proc/self/cwd").exists() {
            assert_eq!(Postmaster::of(data.path()), None);
            clear_stale_file(data.path());
            assert!(!file.exists());
        }
    }
}
