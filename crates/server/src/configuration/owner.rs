//! Whose a file or folder is that was found and not named.
//!
//! Files are looked for in the current folder and above it, where on a machine of several users others may put theirs:
//! `PG_BIN` of a stranger's `.env` would run a stranger's programs. So what is found is taken only from who could do all
//! that we can do anyway; what is named is taken from anybody.

use std::{collections::BTreeMap, io, os::unix::fs::MetadataExt, path::Path};

/// The user ids whose files are taken where they are found.
#[derive(Debug, Clone)]
pub(super) struct Trusted(pub(super) Vec<u32>);

impl Trusted {
    /// Those of this process: its own and root; for root also the one that became root by `sudo`, as git does it.
    pub(super) fn of_this_process(environment: &BTreeMap<String, String>) -> Self {
        let own = rustix::process::geteuid().as_raw();
        Self::by(own, environment.get("SUDO_UID").map(String::as_str))
    }

    fn by(own: u32, sudo: Option<&str>) -> Self {
        let before_sudo = sudo.filter(|_| own == ROOT).and_then(|uid| uid.parse().ok());
        Self([Some(own), Some(ROOT), before_sudo].into_iter().flatten().collect())
    }

    /// Who has it, where that is a stranger. A link counts, and so does what it leads to.
    pub(super) fn stranger(&self, path: &Path) -> io::Result<Option<String>> {
        let owners = [std::fs::symlink_metadata(path)?.uid(), std::fs::metadata(path)?.uid()];
        Ok(owners.into_iter().find_map(|uid| self.stranger_of(uid)))
    }

    /// Who that is, where it is a stranger: `mallory (user id 1001)`.
    pub(super) fn stranger_of(&self, uid: u32) -> Option<String> {
        if self.0.contains(&uid) {
            return None;
        }
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        Some(match name_of(&passwd, uid) {
            Some(name) => format!("{name} (user id {uid})"),
            None => format!("user id {uid}"),
        })
    }
}

const ROOT: u32 = 0;

/// `name:password:uid:...`
fn name_of(passwd: &str, uid: u32) -> Option<&str> {
    let uid = uid.to_string();
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(uid.as_str()))?;
    line.split(':').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_is_what_one_has_oneself_or_root_and_for_root_what_the_one_before_sudo_has() {
        let taken = |own, sudo, uid| Trusted::by(own, sudo).stranger_of(uid).is_none();
        assert!(taken(1000, None, 1000) && taken(1000, None, 0) && taken(0, None, 0));
        assert!(!taken(1000, None, 4_000_001) && !taken(0, None, 4_000_001));
        assert!(taken(0, Some("4000001"), 4_000_001));
        // Anybody can set it who is not root.
        assert!(!taken(1000, Some("4000001"), 4_000_001) && !taken(0, Some("x"), 4_000_001));
    }

    #[test]
    fn a_stranger_is_told_by_name_where_there_is_one() {
        assert_eq!(name_of("root:x:0:0::/:/bin/sh\nmallory:x:1001:1:::\n", 1001), Some("mallory"));
        assert_eq!(Trusted(vec![1]).stranger_of(4_000_001).as_deref(), Some("user id 4000001"));
    }

    #[test]
    fn a_link_is_judged_by_both_its_ends() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(Trusted(vec![own]).stranger(&link).unwrap(), None);
        if own == ROOT {
            std::os::unix::fs::lchown(&link, Some(4_000_001), None).unwrap();
            assert!(Trusted(vec![own]).stranger(&link).unwrap().is_some());
            assert_eq!(Trusted(vec![own]).stranger(&file).unwrap(), None);
        }
    }
}
