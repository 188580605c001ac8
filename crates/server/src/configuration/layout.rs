//! Where everything is kept: the folders and files of a data directory, by name.

use std::path::{Path, PathBuf};

use super::{ConfigurationError, Setting, Sources, layers::Layers};

/// The data directory's name when none is given; found upwards from the current folder, as git finds `.git`.
pub const DATA_DIRECTORY_NAME: &str = ".postgres-test-replay";

/// The folders and files of one data directory. Knows names only; makes and reads nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDirectory {
    root: PathBuf,
    log: PathBuf,
    catalog: PathBuf,
    backups: PathBuf,
}

impl DataDirectory {
    /// The usual layout under `root`.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            log: root.join("log"),
            catalog: root.to_owned(),
            backups: root.join("backups"),
        }
    }

    /// The data directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of all logs (`WAL_LOG_PATH`).
    #[must_use]
    pub fn log_folder(&self) -> &Path {
        &self.log
    }

    /// The log of one captured database.
    #[must_use]
    pub fn log_of(&self, database: &str) -> PathBuf {
        self.log.join(file_name(database))
    }

    /// The folder of the catalog (`SESSION_PATH` or `CHECKPOINT_PATH`): one file holds both.
    #[must_use]
    pub fn catalog_folder(&self) -> &Path {
        &self.catalog
    }

    /// Checkpoints, sessions and move history.
    #[must_use]
    pub fn catalog(&self) -> PathBuf {
        self.catalog.join("catalog.sqlite")
    }

    /// The folder of the backups (`BACKUP_PATH`).
    #[must_use]
    pub fn backups(&self) -> &Path {
        &self.backups
    }

    /// The base image of one captured database.
    #[must_use]
    pub fn base_of(&self, database: &str) -> PathBuf {
        self.root.join("base").join(file_name(database))
    }

    /// What was taken from the primary for a session's tables.
    #[must_use]
    pub fn contents_of(&self, session: &str) -> PathBuf {
        self.root.join("resync").join(file_name(session))
    }

    /// What set-up did to the primary for one database.
    #[must_use]
    pub fn source_record(&self, database: &str) -> PathBuf {
        self.root.join("source").join(format!("{}.json", file_name(database)))
    }

    /// The embedded cluster of that role, `primary` or `replica`.
    #[must_use]
    pub fn embedded(&self, role: &str) -> PathBuf {
        self.root.join("embedded").join(role)
    }

    /// The folder of what holds only while something runs.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// Where the running service answers its own user.
    #[must_use]
    pub fn service_socket(&self) -> PathBuf {
        self.run().join("service.sock")
    }

    /// Address, socket and pid of the running service.
    #[must_use]
    pub fn service_file(&self) -> PathBuf {
        self.run().join("service.json")
    }

    /// The state of one database's listener.
    #[must_use]
    pub fn listener_file(&self, database: &str) -> PathBuf {
        self.run().join(format!("listener-{}.json", file_name(database)))
    }
}

/// A database's name as one file name: what is not a letter, digit, `_`, `-` or `@` is written as `%XX`, so that
/// no name leaves its folder and no two names meet.
fn file_name(database: &str) -> String {
    let mut name = String::with_capacity(database.len());
    for byte in database.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'@') {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    name
}

/// The database of a file name that was made for one; `None` for any other.
#[must_use]
pub(crate) fn database_of(name: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(name.len()), name.bytes());
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            other => other,
        };
        bytes.push(byte);
    }
    let database = String::from_utf8(bytes).ok()?;
    (file_name(&database) == name).then_some(database)
}

/// The nearest data directory at or above `folder`.
#[must_use]
pub fn find_data_directory(folder: &Path) -> Option<PathBuf> {
    folder.ancestors().map(|folder| folder.join(DATA_DIRECTORY_NAME)).find(|candidate| candidate.is_dir())
}

/// The data directory that the settings ask for.
pub(super) fn resolve(layers: &Layers, sources: &Sources) -> Result<DataDirectory, ConfigurationError> {
    let root = match (layers.path(Setting::DataDirectory), &sources.found_data_directory) {
        (Some(named), _) => named,
        (None, Some(found)) => match &sources.found_data_directory_of {
            Some(stranger) => {
                let (path, owner) = (found.clone(), stranger.clone());
                return Err(ConfigurationError::Strange { path, owner, flag: "--data-dir" });
            }
            None => found.clone(),
        },
        (None, None) => sources.current_folder.join(DATA_DIRECTORY_NAME),
    };
    let mut data = DataDirectory::at(&root);
    if let Some(log) = layers.path(Setting::WalLogPath) {
        data.log = log;
    }
    if let Some(backups) = layers.path(Setting::BackupPath) {
        data.backups = backups;
    }
    let session = layers.path(Setting::SessionPath);
    if let Some(catalog) = layers.path(Setting::CheckpointPath).or(session) {
        data.catalog = catalog;
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_database_name_leaves_its_folder_or_meets_another() {
        let data = DataDirectory::at(Path::new("/data"));
        assert_eq!(data.log_of("../x"), Path::new("/data/log/%2E%2E%2Fx"));
        assert_ne!(data.log_of("a/b"), data.log_of("a%2Fb"));
        for name in ["shop", "../x", "a%2Fb", "shop@20260501T123000.5Z", "größe"] {
            assert_eq!(database_of(&file_name(name)).as_deref(), Some(name));
        }
        for foreign in ["a.b", "%2f", "%", "%C3"] {
            assert_eq!(database_of(foreign), None);
        }
    }
}
