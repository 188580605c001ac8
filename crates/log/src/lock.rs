//! The lock that makes a log's writer the only one.
//!
//! `flock` on the file `lock`, which ends with the process, however that ends. The file's text says who holds
//! it and what for; it is for people and for choosing whether to wait, never for deciding who may write.

use std::{
    fs,
    io::{self, Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, flock};

use crate::{LogError, identity::Layout};

/// How long somebody else's recovery is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a text that names a dead writer is doubted; with containers its process may only be out of sight.
const DOUBT: Duration = Duration::from_millis(200);
const PAUSE: Duration = Duration::from_millis(5);

/// What the lock is held for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// Until the process ends.
    Writing,
    /// For a moment.
    Recovering,
}

impl Purpose {
    fn word(self) -> &'static str {
        match self {
            Self::Writing => "writing",
            Self::Recovering => "recovering",
        }
    }
}

/// The held lock; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Lock {
    file: fs::File,
}

impl Drop for Lock {
    /// Nobody may take what is written for the next holder's purpose. Closing the file is not enough: a program that is
    /// being started has all our files until it runs, and the lock with them. Failing does no harm.
    fn drop(&mut self) {
        let _ = self.file.set_len(0);
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

/// What trying to lock came to.
pub(crate) enum Attempt {
    Held(Lock),
    /// Somebody has it, and keeps it for longer than was waited.
    Busy(Holder),
}

/// Who has the lock.
pub(crate) struct Holder {
    process: String,
    /// Whether it writes the log, which it does until it ends.
    writes: bool,
}

impl Holder {
    /// Why the log in `directory` cannot be had.
    pub(crate) fn refusal(self, directory: &Path) -> LogError {
        let Self { process, writes } = self;
        LogError::Locked { path: directory.to_owned(), holder: process, writes }
    }
}

/// Takes the lock, waiting only while somebody else recovers the log.
pub(crate) fn acquire(layout: &Layout, purpose: Purpose) -> Result<Attempt, LogError> {
    let path = layout.lock();
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(&path).map_err(LogError::file("open", &path))?;
    let started = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(error) => return Err(LogError::file("lock", &path)(error.into())),
        }
        let text = read_holder(&mut file).map_err(LogError::file("read", &path))?;
        if is_busy(&text, started.elapsed()) {
            let pid = text.split_whitespace().next().unwrap_or("of unknown id");
            let process = format!("process {pid}");
            return Ok(Attempt::Busy(Holder { process, writes: writer(&text).is_some() }));
        }
        std::thread::sleep(PAUSE);
    }
    write_holder(&mut file, purpose).map_err(LogError::write(&path, 32))?;
    Ok(Attempt::Held(Lock { file }))
}

/// Whether the lock's holder will keep it for long. A text that was left by a process that died says nothing
/// about who holds it now, nor does an empty one, so those are looked at again.
fn is_busy(text: &str, waited: Duration) -> bool {
    let alive = |pid: &str| {
        let pid = pid.parse().ok().and_then(rustix::process::Pid::from_raw);
        pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
    };
    match writer(text) {
        Some(pid) => alive(pid) || waited > DOUBT,
        None => waited > PATIENCE,
    }
}

/// The process that the text says writes the log.
fn writer(text: &str) -> Option<&str> {
    text.split_once(' ').and_then(|(pid, purpose)| (purpose == Purpose::Writing.word()).then_some(pid))
}

fn read_holder(file: &mut fs::File) -> io::Result<String> {
    let mut text = Vec::new();
    file.rewind()?;
    file.take(256).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
}

fn write_holder(file: &mut fs::File, purpose: Purpose) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(format!("{} {}\n", std::process::id(), purpose.word()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_given_back_though_a_program_that_is_being_started_has_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let Attempt::Held(held) = acquire(&layout, Purpose::Writing).unwrap() else {
            panic!("nobody has it")
        };
        let of_the_program = held.file.try_clone().unwrap();
        assert!(matches!(acquire(&layout, Purpose::Writing).unwrap(), Attempt::Busy(_)));
        drop(held);
        assert!(matches!(acquire(&layout, Purpose::Writing).unwrap(), Attempt::Held(_)));
        drop(of_the_program);
    }
}
