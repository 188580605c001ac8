//! The base image becomes a template database: the keyframe at CREATION.
//!
//! `manifest.json` and the dump -> roles -> empty database with the primary's encoding and collation ->
//! `pg_restore` with a filtered list -> the user's replica identities -> cursor at CREATION -> closed to
//! connections, so that it can always be cloned.
//!
//! Invariant: a template that exists without its mark (a comment on the database) is a leftover of an
//! installation that did not finish, and is made again.

mod install;
mod manifest;
mod restore;
pub(crate) mod views;

use std::path::PathBuf;

use ptr_postgres::{ConnectError, Dsn, Installation};
use serde::Serialize;

pub(crate) use install::{close, make};
pub use install::{install_base, preflight};
pub use manifest::{
    CapturedView, DatabasePrivilege, DatabaseProperties, DatabaseSetting, Manifest, OriginalIdentity,
};

use crate::database::DatabaseError;

/// What to install and where.
#[derive(Clone, Debug)]
pub struct BaseOptions {
    /// The output server; any database on it that one can connect to.
    pub output: Dsn,
    /// The folder with `manifest.json` and the dump.
    pub directory: PathBuf,
    /// Whose `pg_restore` to use.
    pub installation: Installation,
    /// Jobs of `pg_restore`.
    pub jobs: usize,
}

/// How far an installation is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum BaseProgress {
    /// Restoring the dump.
    Restoring {
        /// Items of the dump done.
        done: u64,
        /// Items of the dump.
        total: u64,
    },
    /// Gathering the planner's statistics, which clones inherit.
    Analyzing,
    /// Done.
    Finished,
}

/// A base image as a database.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct InstalledBase {
    /// The template's name.
    pub template: String,
    /// Roles that were missing on the output server and were created, without login.
    pub roles_created: Vec<String>,
    /// Whether it was there already.
    pub was_there: bool,
}

/// Why a base image could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// A file of the base image cannot be read.
    #[error("cannot read {}: {source}; set the source up again to take a new base image", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// `manifest.json` is not what set-up writes.
    #[error("{} is no manifest of a base image: {source}; set the source up again", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        source: serde_json::Error,
    },
    /// The output server cannot take this base image.
    #[error("{problem}; {remedy}")]
    Precondition {
        /// What does not hold.
        problem: String,
        /// What to do.
        remedy: String,
        /// The server's SQLSTATE, where it refused.
        sqlstate: Option<String>,
    },
    /// `pg_restore` failed.
    #[error("{program} failed ({status}): {last_words}")]
    Restore {
        /// The program.
        program: String,
        /// Its exit status.
        status: String,
        /// The end of what it said.
        last_words: String,
    },
    /// The output server cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The output server refused something.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}
