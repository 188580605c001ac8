//! As whom the server runs. PostgreSQL refuses root, so root hands over to `postgres`, else `nobody`.

use super::ClusterError;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The system account a server runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    /// The one this process runs as.
    Own,
    /// Another, because this process is root.
    Other {
        /// Its name in `/etc/passwd`.
        name: String,
        /// Its user id.
        uid: u32,
        /// Its group id.
        gid: u32,
    },
}

impl Account {
    /// The account for servers started by this process.
    pub(super) fn for_servers() -> Result<Self, ClusterError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Own);
        }
        let passwd = Path::new("/etc/passwd");
        let text = std::fs::read_to_string(passwd).map_err(ClusterError::file("read", passwd))?;
        ["postgres", "nobody"].iter().find_map(|name| entry(&text, name)).ok_or(ClusterError::NoAccount)
    }

    /// Makes a child run as this account.
    pub(super) fn run<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        match self {
            Self::Own => command,
            Self::Other { uid, gid, .. } => command.uid(*uid).gid(*gid),
        }
    }

    /// Gives it a file or folder.
    pub(super) fn own(&self, path: &Path) -> Result<(), ClusterError> {
        match self {
            Self::Own => Ok(()),
            Self::Other { uid, gid, .. } => {
                chown(path, Some(*uid), Some(*gid)).map_err(ClusterError::file("change the owner of", path))
            }
        }
    }

    /// Makes a folder, and those above it, that nobody else may list, nor enter unless it is this account. One that
    /// is there already is closed to others too.
    pub(super) fn private_folder(&self, path: &Path) -> Result<(), ClusterError> {
        let mode = if *self == Self::Own { 0o700 } else { 0o711 };
        std::fs::create_dir_all(path).map_err(ClusterError::file("create", path))?;
        std::fs::set_permissions(path, Permissions::from_mode(mode))
            .map_err(ClusterError::file("close", path))
    }

    /// Whether it may enter the folder and all above it. Folders that do not exist yet will be ours
    /// to make, so they count as enterable.
    pub(super) fn can_enter(&self, directory: &Path) -> bool {
        let Self::Other { uid, gid, .. } = self else { return true };
        directory.ancestors().all(|folder| match std::fs::metadata(folder) {
            Err(_) => true,
            Ok(metadata) => {
                let bit = if metadata.uid() == *uid {
                    0o100
                } else if metadata.gid() == *gid {
                    0o010
                } else {
                    0o001
                };
                metadata.permissions().mode() & bit != 0
            }
        })
    }

    /// For messages.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Own => "own",
            Self::Other { name, .. } => name,
        }
    }
}

/// `name:password:uid:gid:...`
fn entry(passwd: &str, wanted: &str) -> Option<Account> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(wanted))?;
    let mut ids = line.split(':').skip(2).map(|id| id.parse().ok());
    Some(Account::Other { name: wanted.to_owned(), uid: ids.next()??, gid: ids.next()?? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let passwd = "postgresql:x:1:1::/:/bin/sh\npostgres:x:101:104:x:/var:/bin/sh\n";
        let expected = Account::Other { name: "postgres".to_owned(), uid: 101, gid: 104 };
        assert_eq!(entry(passwd, "postgres"), Some(expected));
        assert_eq!(entry(passwd, "nobody"), None);
    }

    #[test]
    fn a_private_folder_cannot_be_entered_by_another_account() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let other = Account::Other { name: "x".to_owned(), uid: 4_000_000, gid: 4_000_000 };
        assert!(!other.can_enter(&dir.path().join("not/yet/made")));
        assert!(Account::Own.can_enter(dir.path()));
    }
}
