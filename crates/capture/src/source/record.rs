//! What set-up did to the primary, on disk.
//!
//! Invariants: a step is in the file before it is done, so a crash leaves nothing that the file does not name;
//! the file is replaced whole; only its owner can read it, because it holds the secret of the event triggers.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use ptr_model::{Lsn, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{NotedIdentity, SourceError};
use crate::ddl::Secret;

/// What set-up did to one database.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SourceRecord {
    /// Names the history that begins with this set-up.
    pub log_id: Uuid,
    /// The cluster, `pg_control_system()`.
    pub system_identifier: u64,
    /// Its WAL's timeline when set up.
    pub timeline: u32,
    /// The database's name.
    pub database: String,
    /// Its `pg_database.oid`.
    pub database_oid: u32,
    /// The slot's name.
    pub slot: String,
    /// The publication's name.
    pub publication: String,
    /// Whether tables get REPLICA IDENTITY FULL.
    pub replica_identity: bool,
    /// Whether schema changes are captured.
    pub schema_capture: SchemaCapture,
    /// Signs the messages of the event triggers.
    pub secret: Option<String>,
    /// Every table's identity before we changed any.
    pub identities: Vec<NotedIdentity>,
    /// What was begun, in order. The last one may not have been finished.
    pub steps: Vec<Step>,
    /// Where history begins: the slot's consistent point.
    pub creation: Option<Lsn>,
    /// When set-up began, by the primary's clock.
    pub created_at: Timestamp,
}

/// A step of set-up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Our schema and event triggers.
    Triggers,
    /// REPLICA IDENTITY FULL.
    Identities,
    /// The publication.
    Publication,
    /// The slot.
    Slot,
    /// The base image.
    Base,
    /// All of it.
    Complete,
}

/// Whether schema changes are captured.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum SchemaCapture {
    /// By event triggers.
    On,
    /// Not; after the first one, replay may stop.
    Off {
        /// Why.
        reason: String,
    },
}

impl SourceRecord {
    /// The record at `path`, `None` where there is none.
    ///
    /// # Errors
    /// [`SourceError::File`] when it cannot be read or is no record.
    pub fn load(path: &Path) -> Result<Option<Self>, SourceError> {
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| SourceError::file(path)(io::Error::new(io::ErrorKind::InvalidData, error))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(SourceError::file(path)(error)),
        }
    }

    /// Writes it, durably.
    ///
    /// # Errors
    /// [`SourceError::File`].
    pub fn save(&self, path: &Path) -> Result<(), SourceError> {
        let json = serde_json::to_vec_pretty(self).expect("a record has only string keys");
        replace(path, &json).map_err(SourceError::file(path))
    }

    /// Notes that a step begins.
    ///
    /// # Errors
    /// [`SourceError::File`].
    pub fn begin(&mut self, step: Step, path: &Path) -> Result<(), SourceError> {
        if !self.began(step) {
            self.steps.push(step);
        }
        self.save(path)
    }

    /// Whether a step was begun.
    #[must_use]
    pub fn began(&self, step: Step) -> bool {
        self.steps.contains(&step)
    }

    /// The secret that the event triggers sign with.
    #[must_use]
    pub fn secret(&self) -> Option<Secret> {
        self.secret.as_ref().and_then(|text| text.parse().ok())
    }
}

/// Replaces a file so that after a crash it is the old one or the new one, readable by its owner only.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    ptr_log::create_private_folder(folder)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn record() -> SourceRecord {
        SourceRecord {
            log_id: Uuid::from_u128(7),
            system_identifier: 7,
            timeline: 1,
            database: "shop".into(),
            database_oid: 5,
            slot: "s".into(),
            publication: "p".into(),
            replica_identity: true,
            schema_capture: SchemaCapture::Off { reason: "no superuser".into() },
            secret: None,
            identities: Vec::new(),
            steps: Vec::new(),
            creation: None,
            created_at: Timestamp(0),
        }
    }

    #[test]
    fn a_step_is_on_disk_when_it_begins_and_only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("source/shop.json");
        let mut record = record();
        record.begin(Step::Triggers, &path).unwrap();
        record.begin(Step::Slot, &path).unwrap();
        assert_eq!(SourceRecord::load(&path).unwrap(), Some(record));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_missing_record_is_none_and_a_broken_one_names_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.json");
        assert_eq!(SourceRecord::load(&path).unwrap(), None);
        fs::write(&path, "{").unwrap();
        assert!(SourceRecord::load(&path).unwrap_err().to_string().contains("shop.json"));
    }
}
