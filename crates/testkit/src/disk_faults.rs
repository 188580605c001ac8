//! A disk under SQLite's files that fails at a chosen operation, and forgets what was not made durable.
//!
//! A library in C, compiled by the test that uses it, stands between a program and its file operations (`LD_PRELOAD`); a
//! file says which operations fail. It goes under the program, or under a test itself, which runs once more then.

use std::{
    fs,
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
};

use tempfile::TempDir;

/// The library; what it is told is described there.
const SOURCE: &str = include_str!("disk_faults/faults.c");

/// Names the file with the orders, to the library and to a test that runs above it.
const ORDERS: &str = "PTR_DISK_ORDERS";

/// Names the folder of what is durable.
const DURABLE: &str = "PTR_DISK_DURABLE";

/// `errno` of a disk that fails.
pub const EIO: i32 = 5;

/// `errno` of a full disk.
pub const ENOSPC: i32 = 28;

/// An operation on a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileOperation {
    /// Opening or making it.
    Open,
    /// Reading.
    Read,
    /// Writing; the first half is written.
    Write,
    /// Cutting or growing it.
    Truncate,
    /// Making it durable; what should have become durable is lost with the next power failure.
    Sync,
}

/// What is to fail.
#[derive(Clone, Debug)]
pub struct DiskFault<'f> {
    /// A part of the paths of the files, which end with `.sqlite`, `.sqlite-wal` or `.sqlite-shm`.
    pub part: &'f str,
    /// Which operations.
    pub operations: &'f [FileOperation],
    /// The first to fail, counted from 1 and from now on.
    pub nth: u64,
    /// How often; for good without.
    pub times: Option<u64>,
    /// The operating system's number of the error.
    pub errno: i32,
}

/// A disk that fails when told to.
#[derive(Debug)]
pub struct DiskFaults {
    folder: PathBuf,
    /// Whoever made the folder removes it.
    _owned: Option<TempDir>,
    generation: AtomicU64,
}

impl DiskFaults {
    /// For programs that are started with [`DiskFaults::environment`]. `None` where no library can be made, with a notice.
    ///
    /// # Panics
    /// In CI, where no library can be made.
    pub fn prepare() -> Option<Self> {
        let owned = tempfile::Builder::new().prefix("ptr-disk-").tempdir_in("/var/tmp").expect("a folder");
        let folder = owned.path().to_owned();
        fs::write(folder.join("faults.c"), SOURCE).expect("our own folder");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o", "faults.so", "faults.c", "-ldl", "-lpthread"])
            .current_dir(&folder)
            .output();
        let said = compiled
            .as_ref()
            .map_or_else(ToString::to_string, |output| String::from_utf8_lossy(&output.stderr).into_owned());
        if !compiled.is_ok_and(|output| output.status.success()) {
            assert!(
                std::env::var_os("CI").is_none(),
                "a disk that fails needs Linux and a C compiler: {said}"
            );
            eprintln!("SKIPPED: a disk that fails needs Linux and a C compiler: {said}");
            return None;
        }
        fs::create_dir(folder.join("durable")).expect("our own folder");
        // Programs above it may be another user's.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("our own folder");
        let faults = Self::at(folder, Some(owned));
        faults.heal();
        Some(faults)
    }

    /// For a test that runs above the disk itself: gives it there, and before that runs the test once more, there.
    ///
    /// # Panics
    /// When the test fails there, with what it said.
    pub fn under(test: &str) -> Option<Self> {
        if let Some(orders) = std::env::var_os(ORDERS) {
            return Some(Self::at(Path::new(&orders).parent().expect("a file in a folder").to_owned(), None));
        }
        let faults = Self::prepare()?;
        let program = std::env::current_exe().expect("a test is a program");
        let mut command = Command::new(program);
        command.args(["--exact", test, "--nocapture"]).envs(faults.environment());
        let output = command.output().expect("a test can be run again");
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        println!("{said}");
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{test} above a disk that fails: {said}"
        );
        None
    }

    fn at(folder: PathBuf, owned: Option<TempDir>) -> Self {
        Self { folder, _owned: owned, generation: AtomicU64::new(0) }
    }

    /// What a program is started with that is to run above it.
    pub fn environment(&self) -> [(&'static str, String); 3] {
        let path = |name: &str| {
            self.folder.join(name).to_str().expect("a temporary folder's name is text").to_owned()
        };
        [("LD_PRELOAD", path("faults.so")), (ORDERS, path("orders")), (DURABLE, path("durable"))]
    }

    /// From now on this fails, and nothing else.
    pub fn fail(&self, fault: &DiskFault<'_>) {
        let operations: String = fault.operations.iter().map(|operation| operation.letter()).collect();
        let times = fault.times.unwrap_or(0);
        self.order(&format!("{} {operations} {} {} {times}", fault.part, fault.nth, fault.errno));
        drop(fs::remove_file(self.folder.join("orders.made")));
    }

    /// Nothing fails any more.
    pub fn heal(&self) {
        self.order("nothing - 1 0 1");
    }

    fn order(&self, text: &str) {
        let generation = self.generation.fetch_add(1, Ordering::SeqCst);
        let path = self.folder.join("orders");
        // In one write, and over all of what was there: the library keeps the file open.
        let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let written =
            file.and_then(|file| file.write_all_at(format!("{generation} {text:<400}\n").as_bytes(), 0));
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// What was made to fail since it was told to: operation, error and path of each.
    pub fn made(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join("orders.made")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Puts into `to` what a power failure would leave now of the SQLite files directly in `folder`.
    pub fn after_power_failure(&self, folder: &Path, to: &Path) {
        let folder = folder.canonicalize().expect("a folder that is there");
        let flat = |path: &Path| path.to_string_lossy().replace('/', "%") + "%";
        let prefix = flat(&folder);
        for entry in fs::read_dir(self.folder.join("durable")).expect("our own folder") {
            let entry = entry.expect("our own folder");
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(name) = name.strip_prefix(&prefix).filter(|name| !name.contains('%')) {
                fs::copy(entry.path(), to.join(name)).expect("our own folder");
            }
        }
    }
}

impl FileOperation {
    fn letter(self) -> char {
        match self {
            Self::Open => 'o',
            Self::Read => 'r',
            Self::Write => 'w',
            Self::Truncate => 't',
            Self::Sync => 's',
        }
    }
}
