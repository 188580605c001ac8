//! Where a cluster is put: where it was asked for, unless the server's account cannot get there.
//!
//! Root's home is 0700, so a data directory below it is out of reach for the account a server has to
//! run as. Then the cluster goes under a folder named after a hash of the path asked for, which is
//! the same in every run.

use super::{Account, ClusterError};
use sha2::{Digest, Sha256};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const ELSEWHERE: [&str; 2] = ["/var/lib/postgres-test-replay", "/var/tmp/postgres-test-replay"];

/// The folder to use for the folder asked for; both absolute.
pub(super) fn place(asked: &Path, account: &Account) -> Result<PathBuf, ClusterError> {
    let asked = std::path::absolute(asked).map_err(ClusterError::file("find", asked))?;
    if account.can_enter(&asked) {
        return Ok(asked);
    }
    let name = stable_name(&asked);
    let reachable =
        ELSEWHERE.iter().map(Path::new).find(|parent| account.can_enter(parent) && is_ours(parent));
    reachable
        .map(|parent| parent.join(&name))
        .ok_or(ClusterError::NotEnterable { account: account.name().to_owned(), path: asked })
}

/// Whether the folder, which is made where it is missing, is ours: `/var/tmp` is everybody's, who could have put a
/// folder or a link of that name there and would own what is under it.
fn is_ours(folder: &Path) -> bool {
    let made = std::fs::create_dir_all(folder).and_then(|()| std::fs::symlink_metadata(folder));
    made.is_ok_and(|found| found.is_dir() && found.uid() == rustix::process::geteuid().as_raw())
}

fn stable_name(path: &Path) -> String {
    let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_path_has_one_name_in_every_run() {
        assert_eq!(stable_name(Path::new("/root/a")), stable_name(Path::new("/root/a")));
        assert_ne!(stable_name(Path::new("/root/a")), stable_name(Path::new("/root/b")));
        assert_eq!(stable_name(Path::new("/root/a")).len(), 16);
    }

    #[test]
    fn a_link_or_somebody_elses_folder_is_not_ours() {
        let here = tempfile::tempdir().unwrap();
        let (folder, link) = (here.path().join("folder"), here.path().join("link"));
        assert!(is_ours(&folder) && is_ours(&folder));
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        assert!(!is_ours(&link));
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&folder, Some(65_534), None).unwrap();
            assert!(!is_ours(&folder));
        }
    }
}
