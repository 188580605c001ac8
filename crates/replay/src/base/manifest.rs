//! `manifest.json` of a base image, as source set-up writes it. Unknown fields are ignored.

use std::path::Path;

use ptr_model::{Lsn, Position, RoleDefinition};
use serde::Deserialize;
use uuid::Uuid;

use super::BaseError;
use crate::session::{base_name, template_name};

/// What a base image is of.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct Manifest {
    /// The history that begins here.
    pub log_id: Uuid,
    /// Where: the slot's consistent point.
    pub lsn: Lsn,
    /// The position that it is at, where the oldest part of the history was removed since; else it is at `lsn`.
    #[serde(default)]
    pub position: Option<Position>,
    /// The primary's major version.
    pub server_major: u32,
    /// The captured database and its properties.
    pub database: DatabaseProperties,
    /// Roles of the primary's cluster.
    #[serde(default)]
    pub roles: Vec<RoleDefinition>,
    /// The primary's tablespaces, beside the two that every cluster has.
    #[serde(default)]
    pub tablespaces: Vec<String>,
    /// Materialised views that held rows, which are loaded and not computed again.
    #[serde(default)]
    pub materialized_views: Vec<CapturedView>,
    /// The folder of the dump, relative to the manifest.
    pub dump: String,
    /// What of it is to be restored, for `pg_restore -L`, relative to the manifest.
    pub restore_list: String,
    /// Replica identities that tables had before capture set them to FULL.
    #[serde(default)]
    pub identities: Vec<OriginalIdentity>,
}

/// Properties of a database, which a dump of its contents and a clone of it both leave out.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default)]
pub struct DatabaseProperties {
    /// Its name on the primary.
    pub name: String,
    /// Its encoding, such as `UTF8`.
    pub encoding: String,
    /// `LC_COLLATE`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
    /// `c` for libc, `i` for ICU, `b` for built in; as `pg_database.datlocprovider`.
    pub locale_provider: String,
    /// The ICU or built-in locale.
    pub locale: Option<String>,
    /// ICU rules (from 16).
    pub icu_rules: Option<String>,
    /// Its owner.
    pub owner: String,
    /// Its comment.
    pub comment: Option<String>,
    /// Its privileges; `None` where they are the default.
    pub privileges: Option<Vec<DatabasePrivilege>>,
    /// Its settings.
    pub settings: Vec<DatabaseSetting>,
}

/// A privilege on the database.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct DatabasePrivilege {
    /// To whom; `None` is PUBLIC.
    pub grantee: Option<String>,
    /// `CONNECT`, `CREATE` or `TEMPORARY`.
    pub privilege: String,
    /// WITH GRANT OPTION.
    pub grantable: bool,
}

/// A setting of a database (`pg_db_role_setting`).
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct DatabaseSetting {
    /// Only for this role.
    pub role: Option<String>,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A materialised view that held rows.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct CapturedView {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its columns, in the order of the file.
    pub columns: Vec<String>,
    /// Its rows in COPY's text format, relative to the manifest.
    pub file: String,
}

/// What a table's replica identity was before capture changed it.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct OriginalIdentity {
    /// The table's schema.
    pub schema: String,
    /// The table's name.
    pub table: String,
    /// `d`, `n`, `f` or `i`, as `pg_class.relreplident`.
    pub identity: char,
    /// The index, unquoted, for `i`.
    pub index: Option<String>,
}

impl Manifest {
    /// The position that the base image is at.
    #[must_use]
    pub fn beginning(&self) -> Position {
        self.position.unwrap_or_else(|| Position::creation(self.lsn))
    }

    /// The database that it becomes on the output server.
    #[must_use]
    pub fn template(&self) -> String {
        match self.position {
            None => template_name(&self.database.name, self.log_id),
            Some(position) => base_name(&self.database.name, self.log_id, position.ordinal),
        }
    }

    /// Reads `manifest.json` of a base image's folder.
    ///
    /// # Errors
    /// [`BaseError::File`] and [`BaseError::Manifest`], with the path.
    pub fn read(directory: &Path) -> Result<Self, BaseError> {
        let path = directory.join("manifest.json");
        let text = std::fs::read(&path).map_err(|source| BaseError::File { path: path.clone(), source })?;
        serde_json::from_slice(&text).map_err(|source| BaseError::Manifest { path, source })
    }
}
