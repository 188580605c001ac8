//! Where a cluster is put: where it was asked for, unless the server's account cannot get there.
//!
//! Root's home is 0700, so a data directory below it is out of reach for the account a server has to
//! run as. Then the cluster goes under a folder named after a hash of the path asked for, which is
//! the same in every run.

use super::{Account, ClusterError};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

const ELSEWHERE: [&str; 2] = ["/var/lib/postgres-test-replay", "/var/tmp/postgres-test-replay"];

/// The folder to use for the folder asked for; both absolute.
pub(super) fn place(asked: &Path, account: &Account) -> Result<PathBuf, ClusterError> {
    let asked = std::path::absolute(asked).map_err(ClusterError::file("find", asked))?;
    if account.can_enter(&asked) {
        return Ok(asked);
    }
    let name = stable_name(&asked);
    let reachable = ELSEWHERE.iter().map(|parent| Path::new(parent).join(&name));
    reachable
        .into_iter()
        .find(|place| account.can_enter(place) && std::fs::create_dir_all(place).is_ok())
        .ok_or(ClusterError::NotEnterable { account: account.name().to_owned(), path: asked })
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
}
