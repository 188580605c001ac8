//! PostgreSQL's own programs on this machine: `initdb` and `postgres` for embedded servers, `pg_dump`
//! and `pg_restore` for base images.
//!
//! Looked for in `PG_BIN` (then nowhere else), `PATH`, `pg_config --bindir`, and the places where
//! distributions put them. Invariant: an [`Installation`] was asked for its version, so it runs here.

mod version;
mod watch;

pub use version::ServerVersion;
pub use watch::{name_sessions, session_name, until_lost};

use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder of PostgreSQL programs of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// The folder with the programs.
    pub bin_dir: PathBuf,
    /// Their version.
    pub version: ServerVersion,
}

/// All that was found, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installations {
    found: Vec<Installation>,
    /// `PG_BIN`: the user's choice, besides which nothing else is used.
    chosen: Option<PathBuf>,
}

/// Why there is no program to run.
#[derive(Debug, thiserror::Error)]
pub enum ProgramsError {
    /// The folder has no PostgreSQL programs, or they do not run.
    #[error("{} has no PostgreSQL programs that run here; set PG_BIN to a folder that has pg_dump and initdb", bin_dir.display())]
    NotAnInstallation {
        /// The folder.
        bin_dir: PathBuf,
    },
    /// No server programs anywhere.
    #[error(
        "no PostgreSQL server programs were found (found: {found}); install the package postgresql, or set PG_BIN to the folder that has initdb"
    )]
    NoServer {
        /// What was found instead.
        found: String,
    },
    /// The program is not there, or only older than the server.
    #[error(
        "the server is PostgreSQL {server_major}, and no {program} of version {server_major} or newer was found (found: {found}); install postgresql-client-{server_major}, or set PG_BIN to a folder that has it{elsewhere}"
    )]
    TooOld {
        /// The program.
        program: &'static str,
        /// The server's major version.
        server_major: u32,
        /// What was found instead.
        found: String,
        /// Newer ones that `PG_BIN` excludes.
        elsewhere: String,
    },
}

impl Installation {
    /// The installation in this folder.
    ///
    /// # Errors
    /// [`ProgramsError::NotAnInstallation`] when neither `postgres` nor `pg_dump` runs there.
    pub fn at(bin_dir: &Path) -> Result<Self, ProgramsError> {
        let version = ["postgres", "pg_dump"].iter().find_map(|program| version_of(&bin_dir.join(program)));
        match version {
            Some(version) => Ok(Self { bin_dir: bin_dir.to_owned(), version }),
            None => Err(ProgramsError::NotAnInstallation { bin_dir: bin_dir.to_owned() }),
        }
    }

    /// The path of one of its programs, whether or not it is there.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin_dir.join(name)
    }

    /// Whether servers can be made with it, or only clients run.
    pub fn has_server(&self) -> bool {
        ["initdb", "postgres"].iter().all(|name| self.program(name).is_file())
    }
}

impl Installations {
    /// Looks for installations. `lookup` gives environment variables (`PG_BIN`, `PATH`).
    ///
    /// # Errors
    /// [`ProgramsError::NotAnInstallation`] when `PG_BIN` is set to a folder without programs.
    pub fn find(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, ProgramsError> {
        let chosen = lookup("PG_BIN").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        let mut found: Vec<Installation> = Vec::new();
        if let Some(dir) = &chosen {
            found.push(Installation::at(dir)?);
        }
        for dir in candidates(&lookup("PATH").unwrap_or_default()) {
            if !found.iter().any(|known| known.bin_dir == dir) {
                found.extend(Installation::at(&dir));
            }
        }
        found.sort_by_key(|installation| std::cmp::Reverse(installation.version));
        Ok(Self { found, chosen })
    }

    /// [`Installations::find`] with this process's environment.
    ///
    /// # Errors
    /// As [`Installations::find`].
    pub fn from_environment() -> Result<Self, ProgramsError> {
        Self::find(&|name| std::env::var(name).ok())
    }

    /// All of them, newest first.
    pub fn all(&self) -> &[Installation] {
        &self.found
    }

    /// The newest installation that can make servers.
    ///
    /// # Errors
    /// [`ProgramsError::NoServer`].
    pub fn newest_server(&self) -> Result<&Installation, ProgramsError> {
        self.usable()
            .find(|installation| installation.has_server())
            .ok_or_else(|| ProgramsError::NoServer { found: self.describe() })
    }

    /// A client program that a server of this major version accepts: the same major where there is
    /// one (its output can be restored there), else the oldest of the newer ones.
    ///
    /// # Errors
    /// [`ProgramsError::TooOld`], naming what was found.
    pub fn client_program(&self, program: &'static str, server_major: u32) -> Result<PathBuf, ProgramsError> {
        let fits = |installation: &&Installation| {
            installation.version.major >= server_major && installation.program(program).is_file()
        };
        // Newest first, so the last fitting major is the closest; of one major the newest minor.
        let closest = self.usable().filter(fits).min_by_key(|installation| installation.version.major);
        closest.map(|installation| installation.program(program)).ok_or_else(|| {
            let newer = self.found.iter().find(fits).map(|i| format!("; {} has it", i.bin_dir.display()));
            let elsewhere = newer.unwrap_or_default();
            ProgramsError::TooOld { program, server_major, found: self.describe(), elsewhere }
        })
    }

    fn usable(&self) -> impl Iterator<Item = &Installation> {
        self.found
            .iter()
            .filter(|installation| self.chosen.as_ref().is_none_or(|dir| *dir == installation.bin_dir))
    }

    fn describe(&self) -> String {
        let all = self.usable().map(|i| format!("{} in {}", i.version, i.bin_dir.display()));
        let all: Vec<String> = all.collect();
        if all.is_empty() { "none".to_owned() } else { all.join(", ") }
    }
}

/// A command whose files only their owner can read. `pg_dump` makes them as the process's mask allows, most often for
/// everybody; changing our own mask would change that of every thread. The shell becomes the program.
pub fn private_command(program: &Path) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg("umask 077 && exec \"$0\" \"$@\"").arg(program);
    command
}

/// Whether a program says that it could not write for want of room: a full disk, a quota, a limit on the size of files. Its
/// messages must not be translated (`LC_ALL=C`).
pub fn found_no_room(said: &str) -> bool {
    ["No space left on device", "Disk quota exceeded", "File too large"]
        .iter()
        .any(|text| said.contains(text))
}

fn version_of(program: &Path) -> Option<ServerVersion> {
    let output = Command::new(program).arg("--version").output().ok()?;
    ServerVersion::of_program(&String::from_utf8(output.stdout).ok()?)
}

/// Folders that may have programs, each once, links followed.
fn candidates(path: &str) -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = std::env::split_paths(path).filter_map(|dir| behind_links(&dir)).collect();
    dirs.extend(pg_config_bin_dir());
    dirs.extend(FAMILIES.iter().flat_map(|(parent, prefix, below)| family(parent, prefix, below)));
    let mut seen = Vec::new();
    for dir in dirs {
        if !seen.contains(&dir) {
            seen.push(dir);
        }
    }
    seen
}

/// Parent folder, start of the names in it, and where the programs are below.
const FAMILIES: &[(&str, &str, &str)] = &[
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/usr/local", "pgsql", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
];

fn family(parent: &str, prefix: &str, below: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(parent) else { return Vec::new() };
    let names = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    names.filter_map(|entry| behind_links(&entry.path().join(below))).collect()
}

/// The real folder of the programs that `dir` has or links to. Debian's `/usr/bin/pg_dump` links to a
/// script that picks a version by itself, so that folder is left out.
fn behind_links(dir: &Path) -> Option<PathBuf> {
    ["postgres", "pg_dump"].iter().find_map(|name| {
        let real = dir.join(name).canonicalize().ok()?;
        (real.file_name()? == *name).then(|| real.parent().map(Path::to_owned))?
    })
}

fn pg_config_bin_dir() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    behind_links(Path::new(String::from_utf8(output.stdout).ok()?.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installation(dir: &Path, major: u32, minor: u32, programs: &[&str]) -> Installation {
        let bin_dir = dir.join(format!("{major}.{minor}"));
        std::fs::create_dir_all(&bin_dir).unwrap();
        programs.iter().for_each(|name| std::fs::write(bin_dir.join(name), "").unwrap());
        Installation { bin_dir, version: ServerVersion { major, minor } }
    }

    #[test]
    fn a_client_program_is_never_older_than_the_server_and_as_close_as_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let found = [(18, 1), (17, 5), (17, 2), (15, 8)];
        let found = found.map(|(major, minor)| installation(dir.path(), major, minor, &["pg_dump"])).to_vec();
        let all = Installations { found, chosen: None };
        let dump = |major| all.client_program("pg_dump", major);
        assert!(dump(16).unwrap().ends_with("17.5/pg_dump"));
        assert!(dump(15).unwrap().ends_with("15.8/pg_dump"));
        let error = dump(19).unwrap_err().to_string();
        assert!(error.contains("18.1 in ") && error.contains("postgresql-client-19"), "{error}");
    }

    #[test]
    fn pg_bin_excludes_the_others_and_the_error_names_them() {
        let dir = tempfile::tempdir().unwrap();
        let newer = installation(dir.path(), 18, 0, &["pg_dump"]);
        let chosen = installation(dir.path(), 15, 0, &["pg_dump"]);
        let bin_dir = chosen.bin_dir.clone();
        let all = Installations { found: vec![newer.clone(), chosen], chosen: Some(bin_dir) };
        let error = all.client_program("pg_dump", 16).unwrap_err().to_string();
        assert!(error.contains(&format!("{} has it", newer.bin_dir.display())), "{error}");
    }

    #[test]
    fn without_server_programs_the_error_names_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let all = Installations { found: vec![installation(dir.path(), 16, 3, &["pg_dump"])], chosen: None };
        assert!(all.newest_server().unwrap_err().to_string().contains("16.3 in "));
    }
}
