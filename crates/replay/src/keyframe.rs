//! Keyframes: whole images of the captured database at positions, as databases of the output server.
//!
//! One is always there, CREATION's ([`crate::base`]). Others are made from a private builder database: a copy of the
//! nearest one before, moved by redo, closed, marked ([`make`]). A spare is a copy of a keyframe that waits to become a
//! session's database, so that a move only renames it. Which ones to have is decided in [`policy`].
//!
//! Invariants: the comments on the databases ([`Mark`]) are the only record; a finished mark is written last; nobody
//! connects to a keyframe; one process at a time makes them (an advisory lock of the server, which ends with its
//! connection). What a crash leaves is recognised and removed by [`Keyframes::sweep`].

mod make;
mod mark;
pub mod policy;
mod standing;

use ptr_log::LogError;
use ptr_model::Position;
use ptr_postgres::{Connection, Dsn, quote_identifier, quote_literal};
use tokio_postgres::Client;
use uuid::Uuid;

pub use make::Quiet;
pub use mark::{Kind, Mark, Reason};
pub use standing::Standing;

use crate::{
    apply::Notice,
    base::DatabaseProperties,
    database::{self, DatabaseError, Doing},
    navigate::NavigateError,
    session::{self, SessionError, TargetState, image_number, keyframe_prefix, maintenance},
};

/// The keyframes of one log on one output server.
#[derive(Clone, Debug)]
pub struct Keyframes {
    /// The output server.
    pub output: Dsn,
    /// Whose history.
    pub log_id: Uuid,
    /// The captured database's properties, which spares get.
    pub properties: DatabaseProperties,
}

/// A keyframe, or a spare of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keyframe {
    /// Its database.
    pub database: String,
    /// Where it is.
    pub position: Position,
    /// Why it is there.
    pub reason: Reason,
    /// Its bytes on disk, as it was made.
    pub bytes: u64,
    /// What was told on the way there.
    pub notices: Vec<Notice>,
}

/// What there is on the output server.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Images {
    /// The keyframes, in log order.
    pub keyframes: Vec<Keyframe>,
    /// The spares, in log order.
    pub spares: Vec<Keyframe>,
    /// Databases to be dropped, whoever looks.
    pub discarded: Vec<String>,
    /// Databases in the making, or what a crash left of them.
    pub unfinished: Vec<String>,
}

impl Images {
    /// The last keyframe at or before a position.
    #[must_use]
    pub fn before(&self, position: Position) -> Option<&Keyframe> {
        self.keyframes.iter().rev().find(|keyframe| keyframe.position <= position)
    }

    /// Bytes of all that counts in the budget: everything but CREATION's image.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let counted = self.keyframes.iter().filter(|keyframe| keyframe.reason != Reason::Creation);
        counted.chain(&self.spares).map(|image| image.bytes).sum()
    }
}

/// Why a keyframe could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum KeyframeError {
    /// None is at or before the position.
    #[error(
        "no keyframe is at or before {at}; navigate --rebuild restores the first one from the base image"
    )]
    NoBase {
        /// The position.
        at: Position,
    },
    /// The one at CREATION is what all others are made from.
    #[error("the keyframe at CREATION is what the others are made from, and stays")]
    Creation,
    /// There is none of that name.
    #[error("there is no keyframe {name:?} of this log")]
    NotFound {
        /// What was looked for.
        name: String,
    },
    /// The way there cannot be replayed.
    #[error(transparent)]
    Navigate(#[from] NavigateError),
    /// A database could not be made, renamed or dropped.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The caller asked to stop; nothing is left over.
    #[error("interrupted")]
    Cancelled,
}

impl From<DatabaseError> for KeyframeError {
    fn from(error: DatabaseError) -> Self {
        Self::Session(error.into())
    }
}

impl From<ptr_postgres::ConnectError> for KeyframeError {
    fn from(error: ptr_postgres::ConnectError) -> Self {
        Self::Session(error.into())
    }
}

impl Keyframes {
    async fn server(&self) -> Result<Connection, ptr_postgres::ConnectError> {
        // Always the same one: advisory locks are a database's.
        database::open(&maintenance(&self.output, "")).await
    }

    /// What there is.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn list(&self) -> Result<Images, SessionError> {
        let server = self.server().await?;
        let images = list(&server, self.log_id).await?;
        server.close().await;
        Ok(images)
    }

    /// Drops a keyframe, and the spares of it.
    ///
    /// # Errors
    /// [`KeyframeError::NotFound`], [`KeyframeError::Creation`].
    pub async fn remove(&self, name: &str) -> Result<Keyframe, KeyframeError> {
        let server = self.server().await?;
        let images = list(&server, self.log_id).await?;
        let known = images.keyframes.iter().chain(&images.spares);
        let found = known.into_iter().find(|keyframe| keyframe.database == name);
        let found = found.ok_or_else(|| KeyframeError::NotFound { name: name.to_owned() })?;
        let is_spare = images.spares.contains(found);
        if found.reason == Reason::Creation && !is_spare {
            return Err(KeyframeError::Creation);
        }
        let spares = images.spares.iter().filter(|spare| !is_spare && spare.position == found.position);
        for image in spares.chain([found]) {
            session::drop_database(&server, &image.database).await?;
        }
        server.close().await;
        Ok(found.clone())
    }

    /// Drops all images from before a position, CREATION's too: the log begins there now. Returns their names.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn drop_before(&self, position: Position) -> Result<Vec<String>, SessionError> {
        let server = self.server().await?;
        let Images { keyframes, spares, .. } = list(&server, self.log_id).await?;
        let mut gone = Vec::new();
        for image in spares.into_iter().chain(keyframes).filter(|image| image.position < position) {
            session::drop_database(&server, &image.database).await?;
            gone.push(image.database);
        }
        server.close().await;
        Ok(gone)
    }

    /// Drops what was replaced, and what crashes left. Databases that somebody is making at the moment stay.
    /// Returns the names of what is gone.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn sweep(&self) -> Result<Vec<String>, SessionError> {
        let server = self.server().await?;
        let images = list(&server, self.log_id).await?;
        let mut gone = Vec::new();
        for name in images.discarded {
            session::drop_database(&server, &name).await?;
            gone.push(name);
        }
        if try_lock(&server, self.log_id).await? {
            // What was made meanwhile is finished now, or is not made any more.
            let unfinished = list(&server, self.log_id).await?.unfinished;
            for name in unfinished.into_iter().chain(self.unmarked(&server).await?) {
                session::drop_database(&server, &name).await?;
                gone.push(name);
            }
            unlock(&server, self.log_id).await?;
        }
        server.close().await;
        Ok(gone)
    }

    /// What [`Keyframes::sweep`] would drop now.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn leftovers(&self) -> Result<Vec<String>, SessionError> {
        let server = self.server().await?;
        let mut left = list(&server, self.log_id).await?.discarded;
        if try_lock(&server, self.log_id).await? {
            left.extend(list(&server, self.log_id).await?.unfinished);
            left.extend(self.unmarked(&server).await?);
            unlock(&server, self.log_id).await?;
        }
        server.close().await;
        Ok(left)
    }

    /// Databases with a keyframe's name and without any mark, that say themselves that they hold this log: what a
    /// crash leaves between making a database and marking it.
    async fn unmarked(&self, server: &Client) -> Result<Vec<String>, SessionError> {
        let prefix = keyframe_prefix(&self.properties.name, self.log_id);
        let sql = "SELECT d.datname::text FROM pg_catalog.pg_database d
                   LEFT JOIN pg_catalog.pg_shdescription s
                     ON s.objoid = d.oid AND s.classoid = 'pg_catalog.pg_database'::regclass
                   WHERE pg_catalog.starts_with(d.datname::text, $1)
                     AND NOT pg_catalog.starts_with(coalesce(s.description, ''), $2)";
        let rows = server.query(sql, &[&prefix, &Mark::beginning()]).await;
        let mut found = Vec::new();
        for row in rows.doing("look for databases that were left over")? {
            let name: String = row.get(0);
            if name.strip_prefix(&prefix).and_then(image_number).is_none() {
                continue;
            }
            match session::inspect(&self.output, &name).await? {
                TargetState::Ours(cursor) if cursor.log_id == self.log_id && cursor.session_id.is_none() => {
                    found.push(name);
                }
                _ => tracing::warn!(database = name, "it has the name of a keyframe and is none of ours"),
            }
        }
        Ok(found)
    }
}

/// All images of a log, by their marks: one question.
pub(crate) async fn list(server: &Client, log_id: Uuid) -> Result<Images, DatabaseError> {
    // A DROP DATABASE that was interrupted leaves a connection limit of -2, and the comment.
    let sql = "SELECT d.datname::text, s.description, d.datallowconn, d.datconnlimit = -2
               FROM pg_catalog.pg_database d JOIN pg_catalog.pg_shdescription s
                 ON s.objoid = d.oid AND s.classoid = 'pg_catalog.pg_database'::regclass
               WHERE pg_catalog.starts_with(s.description, $1)";
    let rows = server.query(sql, &[&Mark::beginning()]).await.doing("look for keyframes")?;
    let mut images = Images::default();
    for row in rows {
        let (database, comment): (String, String) = (row.get(0), row.get(1));
        let Some(mark) = Mark::parse(&comment).filter(|mark| mark.log_id == log_id) else { continue };
        let (open, broken): (bool, bool) = (row.get(2), row.get(3));
        let Mark { kind, position, reason, bytes, notices, .. } = mark;
        let image = Keyframe { database, position, reason, bytes, notices };
        match kind {
            Kind::Discarded => images.discarded.push(image.database),
            _ if broken => images.discarded.push(image.database),
            Kind::Keyframe if !open => images.keyframes.push(image),
            Kind::Spare if !open => images.spares.push(image),
            // An image that takes connections may hold anything; we close it before we mark it.
            Kind::Keyframe | Kind::Spare | Kind::Unfinished => images.unfinished.push(image.database),
        }
    }
    images.keyframes.sort_by_key(|keyframe| keyframe.position);
    images.spares.sort_by_key(|spare| spare.position);
    Ok(images)
}

/// The statement that gives a database a mark.
pub(crate) fn mark_statement(database: &str, mark: &Mark) -> String {
    comment_statement(database, Some(&mark.comment()))
}

/// The statement that gives a database a comment, or takes it away.
pub(crate) fn comment_statement(database: &str, comment: Option<&str>) -> String {
    let comment = comment.map_or_else(|| "NULL".to_owned(), quote_literal);
    format!("COMMENT ON DATABASE {} IS {comment}", quote_identifier(database))
}

/// Names the lock under which the images of a log are made.
fn lock_name(log_id: Uuid) -> String {
    format!("postgres-test-replay keyframes of {log_id}")
}

async fn try_lock(server: &Client, log_id: Uuid) -> Result<bool, DatabaseError> {
    let sql = "SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended($1, 0))";
    let row = server.query_one(sql, &[&lock_name(log_id)]).await.doing("take the lock of keyframes")?;
    Ok(row.get(0))
}

pub(crate) async fn wait_for_lock(server: &Client, log_id: Uuid) -> Result<(), DatabaseError> {
    let sql = "SELECT pg_catalog.pg_advisory_lock(pg_catalog.hashtextextended($1, 0))";
    server.query_one(sql, &[&lock_name(log_id)]).await.doing("wait for the lock of keyframes").map(drop)
}

async fn unlock(server: &Client, log_id: Uuid) -> Result<(), DatabaseError> {
    let sql = "SELECT pg_catalog.pg_advisory_unlock(pg_catalog.hashtextextended($1, 0))";
    server.query_one(sql, &[&lock_name(log_id)]).await.doing("give the lock of keyframes back").map(drop)
}

/// Bytes of a database on disk.
pub(crate) async fn size(server: &Client, database: &str) -> Result<u64, DatabaseError> {
    let sql = "SELECT pg_catalog.pg_database_size($1::name)";
    let row = server.query_one(sql, &[&database]).await.doing_with(|| format!("measure {database}"))?;
    Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
}
