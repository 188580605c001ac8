//! As whom the server runs. PostgreSQL refuses root, so root hands over to `postgres`, else `nobody`.

use super::ClusterError;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, fchown, open, openat, renameat, unlinkat};
use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
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

    /// Gives it a file or folder; of a link, the link.
    pub(super) fn own(&self, path: &Path) -> Result<(), ClusterError> {
        match self {
            Self::Own => Ok(()),
            Self::Other { uid, gid, .. } => {
                lchown(path, Some(*uid), Some(*gid)).map_err(ClusterError::file("change the owner of", path))
            }
        }
    }

    /// Writes a file for it, for nobody else to read, below a folder that it may write. `file` is a name, or one in a
    /// folder of that folder.
    ///
    /// What is there under that name goes, and is not written to: as root we would write to wherever a link leads that
    /// this account, or who got hold of it, has put there.
    pub(super) fn replace(&self, folder: &Path, file: &str, contents: &[u8]) -> Result<(), ClusterError> {
        self.replace_in(folder, file, contents).map_err(ClusterError::file("write", &folder.join(file)))
    }

    fn replace_in(&self, folder: &Path, file: &str, contents: &[u8]) -> io::Result<()> {
        let (folder, name) = folder_of(folder, file)?;
        let building = format!("{name}.new");
        match unlinkat(&folder, &building, AtFlags::empty()) {
            // Left over, or put in the way.
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mut made = File::from(openat(&folder, &building, flags, Mode::RUSR | Mode::WUSR)?);
        made.write_all(contents)?;
        if let Self::Other { uid, gid, .. } = self {
            fchown(&made, Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)))?;
        }
        Ok(renameat(&folder, &building, &folder, name)?)
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

/// Reads a file below a folder that the server's account may write; a link that leads elsewhere is not followed.
pub(super) fn read(folder: &Path, file: &str) -> Result<Vec<u8>, ClusterError> {
    let read = || -> io::Result<Vec<u8>> {
        let (folder, name) = folder_of(folder, file)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut contents = Vec::new();
        File::from(openat(&folder, name, flags, Mode::empty())?).read_to_end(&mut contents)?;
        Ok(contents)
    };
    read().map_err(ClusterError::file("read", &folder.join(file)))
}

/// The folder that the file is in, and its name there. `folder` is ours and may be a link; what is in it is not.
fn folder_of<'a>(folder: &Path, file: &'a str) -> io::Result<(OwnedFd, &'a str)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = open(folder, flags, Mode::empty())?;
    match file.split_once('/') {
        None => Ok((folder, file)),
        Some((below, name)) => Ok((openat(&folder, below, flags | OFlags::NOFOLLOW, Mode::empty())?, name)),
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

    #[test]
    fn no_link_in_the_way_is_written_to_or_given_away() {
        let dir = tempfile::tempdir().unwrap();
        let (data, precious) = (dir.path().join("data"), dir.path().join("precious"));
        std::fs::create_dir_all(data.join("global")).unwrap();
        std::fs::write(&precious, "kept").unwrap();
        let before = std::fs::metadata(&precious).unwrap();
        let account = match rustix::process::geteuid().is_root() {
            true => Account::Other { name: "x".to_owned(), uid: 4_000_000, gid: 4_000_000 },
            false => Account::Own,
        };
        for file in ["settings.conf", "global/control"] {
            for link in [file.to_owned(), format!("{file}.new")] {
                std::os::unix::fs::symlink(&precious, data.join(link)).unwrap();
            }
            assert!(read(&data, file).is_err());
            account.replace(&data, file, b"written").unwrap();
            assert_eq!(read(&data, file).unwrap(), b"written");
            let made = std::fs::symlink_metadata(data.join(file)).unwrap();
            assert!(made.is_file() && made.permissions().mode() & 0o777 == 0o600);
            assert!(account == Account::Own || made.uid() == 4_000_000);
        }
        let link = data.join("link");
        std::os::unix::fs::symlink(&precious, &link).unwrap();
        account.own(&link).unwrap();
        let elsewhere = dir.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, data.join("away")).unwrap();
        let error = account.replace(&data, "away/control", b"written").unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot write {}/away/control", data.display())), "{error}");
        assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "kept");
        assert_eq!(std::fs::metadata(&precious).unwrap().uid(), before.uid());
    }
}
