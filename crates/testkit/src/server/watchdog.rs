//! What ends a test's server when the test ends, however that happens.
//!
//! A small shell holds the reading end of a pipe whose writing end only the test process has. When that
//! process ends, also by SIGKILL, the kernel closes the pipe, the shell wakes, kills the server and
//! removes the folder. It has a process group of its own, so that a signal to the test's group passes it.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// `$1` is the folder. The pid file goes away when the server has; a server that was killed leaves it, and its pid may be
/// another process's by now: that is one whose call does not name the folder, and it is left alone.
const SCRIPT: &str = r#"
while read -r _; do :; done
file=$1/cluster/data/postmaster.pid
is_ours() { [ ! -r /proc/self/cmdline ] || grep -aqF -- "$1/cluster/data" "/proc/$pid/cmdline" 2>/dev/null; }
read -r pid 2>/dev/null <"$file" && is_ours "$1" && kill -QUIT "$pid" 2>/dev/null
rounds=0
while [ -e "$file" ] && is_ours "$1" && kill -0 "$pid" 2>/dev/null && [ $rounds -lt 500 ]; do
    sleep 0.01
    rounds=$((rounds + 1))
done
rm -rf "$1"
"#;

/// Ends the server in its folder and removes the folder when dropped, or when this process dies.
#[derive(Debug)]
pub(super) struct Watchdog {
    shell: Child,
    folder: PathBuf,
}

impl Watchdog {
    pub(super) fn over(folder: &Path) -> Self {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SCRIPT, "watchdog"]).arg(folder).current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let shell = command.spawn().expect("every Unix has /bin/sh");
        Self { shell, folder: folder.to_owned() }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// A new folder that every account may enter: as root the server runs as another one.
pub(super) fn folder_in(parent: &Path) -> PathBuf {
    let folder = tempfile::Builder::new().prefix("server-").tempdir_in(parent);
    let folder =
        folder.unwrap_or_else(|error| panic!("cannot create a folder in {}: {error}", parent.display()));
    let folder = folder.keep();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755))
        .unwrap_or_else(|error| panic!("cannot open {}: {error}", folder.display()));
    folder
}
