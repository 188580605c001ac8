//! `manifest.json`: what a base image is of, and what `pg_dump` does not carry.

use std::path::Path;

use ptr_model::{Lsn, Position, RoleDefinition, SequenceState, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Beginning;
use crate::source::{NotedIdentity, ServerFacts, SourceError, SourceRecord, Table};

/// What a base image is of.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this file's form: 1.
    pub version: u32,
    /// The history that begins here.
    pub log_id: Uuid,
    /// Where: the slot's consistent point.
    pub lsn: Lsn,
    /// The position that the image is at, where the oldest part of the history was removed since; else it is at `lsn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// The snapshot that it was read in.
    pub snapshot: String,
    /// The primary's cluster.
    pub system_identifier: u64,
    /// Its WAL's timeline.
    pub timeline: u32,
    /// The server's major version.
    pub server_major: u32,
    /// The server's version as it prints it.
    pub server_version: String,
    /// When, by the primary's clock.
    pub created_at: Timestamp,
    /// The database itself, which `pg_dump` without `--create` leaves out.
    pub database: DatabaseDescription,
    /// The cluster's roles, without passwords.
    pub roles: Vec<RoleDefinition>,
    /// The cluster's tablespaces beside the two that each has.
    pub tablespaces: Vec<String>,
    /// The sequences near that point; never behind it.
    pub sequences: Vec<SequenceState>,
    /// The permanent tables.
    pub tables: Vec<Relation>,
    /// Materialised views that hold rows, each with the file of its rows.
    pub materialized_views: Vec<MaterializedView>,
    /// Bytes of all tables on the primary.
    pub bytes: u64,
    /// The folder of `pg_dump`, relative to the manifest.
    pub dump: String,
    /// What of it is to be restored, for `pg_restore -L`, relative to the manifest.
    pub restore_list: String,
    /// Identities as they were before set-up, as far as we changed them.
    pub identities: Vec<NotedIdentity>,
}

/// A database's own properties.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DatabaseDescription {
    /// Its name.
    pub name: String,
    /// Its owner.
    pub owner: String,
    /// Its encoding, as `pg_encoding_to_char` names it.
    pub encoding: String,
    /// `LC_COLLATE`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
    /// `c` (libc), `i` (ICU) or `b` (builtin); `c` before 15.
    pub locale_provider: String,
    /// The locale of ICU and of the builtin provider.
    pub locale: Option<String>,
    /// ICU rules (16).
    pub icu_rules: Option<String>,
    /// Its comment.
    pub comment: Option<String>,
    /// Its connection limit; -1 is none.
    pub connection_limit: i32,
    /// Its default tablespace.
    pub tablespace: String,
    /// Rights on it; `None` means the defaults.
    pub privileges: Option<Vec<DatabasePrivilege>>,
    /// ALTER DATABASE ... SET, and ALTER ROLE ... IN DATABASE ... SET.
    pub settings: Vec<DatabaseSetting>,
}

/// A right on the database.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DatabasePrivilege {
    /// To whom; `None` is PUBLIC.
    pub grantee: Option<String>,
    /// `CONNECT`, `CREATE` or `TEMPORARY`.
    pub privilege: String,
    /// WITH GRANT OPTION.
    pub grantable: bool,
}

/// A setting of the database.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DatabaseSetting {
    /// For whom; `None` is everybody.
    pub role: Option<String>,
    /// The setting.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A table of the base image.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Relation {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Bytes on the primary's disk.
    pub bytes: u64,
}

/// A materialised view that holds rows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MaterializedView {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its columns, in the order of the file.
    pub columns: Vec<String>,
    /// Its rows in COPY's text format, relative to the manifest.
    pub file: String,
}

impl Manifest {
    /// Reads the manifest of a base image.
    ///
    /// # Errors
    /// [`SourceError::File`], also where the folder is no complete base image.
    pub fn load(base_directory: &Path) -> Result<Self, SourceError> {
        let path = base_directory.join("manifest.json");
        let bytes = std::fs::read(&path).map_err(SourceError::file(&path))?;
        serde_json::from_slice(&bytes).map_err(|error| {
            SourceError::file(&path)(std::io::Error::new(std::io::ErrorKind::InvalidData, error))
        })
    }

    pub(super) fn new(
        facts: &ServerFacts,
        record: &SourceRecord,
        beginning: &Beginning,
        (database, roles, tablespaces): (DatabaseDescription, Vec<RoleDefinition>, Vec<String>),
        sequences: Vec<SequenceState>,
        tables: &[Table],
        materialized_views: Vec<MaterializedView>,
    ) -> Self {
        Self {
            version: 1,
            log_id: record.log_id,
            lsn: beginning.lsn,
            position: None,
            snapshot: beginning.snapshot.clone(),
            system_identifier: facts.system_identifier,
            timeline: facts.timeline,
            server_major: facts.version.major,
            server_version: facts.version_text.clone(),
            created_at: record.created_at,
            database,
            roles,
            tablespaces,
            sequences,
            tables: tables.iter().map(Relation::of).collect(),
            materialized_views,
            bytes: tables.iter().map(|table| table.bytes).sum(),
            dump: super::dump::FOLDER.to_owned(),
            restore_list: super::restore_list::FILE.to_owned(),
            identities: record.identities.iter().filter(|noted| noted.identity != 'd').cloned().collect(),
        }
    }
}

impl Relation {
    pub(super) fn of(table: &Table) -> Self {
        Self { schema: table.name.schema.clone(), name: table.name.name.clone(), bytes: table.bytes }
    }
}
