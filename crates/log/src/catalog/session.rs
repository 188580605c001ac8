//! Sessions: replay databases, each with a position of its own, which is kept in that database. Exactly one is
//! active.

use ptr_model::{SessionId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Catalog, CatalogError, error::is_taken, now, uuid_of};

/// The session that is always there: the database of `OUTPUT_DSN`.
pub const DEFAULT_SESSION: &str = "default";

/// A replay database.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Session {
    /// Names it for ever.
    pub id: SessionId,
    /// Unique.
    pub name: String,
    /// What people wrote about it; may be empty.
    pub description: String,
    /// The captured database whose history it replays.
    pub database: String,
    /// Its database on the output server.
    pub target_database: String,
    /// When it was made, by this machine's clock.
    pub created_at: Timestamp,
    /// Whether it is kept at head.
    pub follow: bool,
    /// Whether local writes are allowed.
    pub open: bool,
    /// Whether it is the one that is meant where none is named.
    pub active: bool,
}

/// A session to be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewSession {
    /// Not empty, at most 200 characters, none of them a control character.
    pub name: String,
    /// For people; may be empty.
    pub description: String,
    /// The captured database.
    pub database: String,
    /// A database on the output server that no other session has.
    pub target_database: String,
}

const COLUMNS: &str = "id, name, description, database, target_database, created_at, follow, open, active";

impl Catalog {
    /// Makes sure that the default session is there, and that a session is active. One that is there already
    /// stays as it is.
    ///
    /// # Errors
    /// [`CatalogError::TargetTaken`] where another session has that database.
    pub fn ensure_default_session(
        &self,
        database: &str,
        target_database: &str,
    ) -> Result<Session, CatalogError> {
        self.change(|transaction| {
            if let Some(session) = self.named(transaction, DEFAULT_SESSION)? {
                return Ok(session);
            }
            let new = NewSession {
                name: DEFAULT_SESSION.to_owned(),
                description: String::new(),
                database: database.to_owned(),
                target_database: target_database.to_owned(),
            };
            self.insert_session(transaction, &new)
        })
    }

    /// Makes a session. The first one is active, later ones are not.
    ///
    /// # Errors
    /// [`CatalogError::NameTaken`], [`CatalogError::TargetTaken`], [`CatalogError::SessionName`].
    pub fn create_session(&self, new: &NewSession) -> Result<Session, CatalogError> {
        check_session_name(&new.name)?;
        self.change(|transaction| self.insert_session(transaction, new))
    }

    fn insert_session(
        &self,
        transaction: &Transaction<'_>,
        new: &NewSession,
    ) -> Result<Session, CatalogError> {
        if self.named(transaction, &new.name)?.is_some() {
            return Err(CatalogError::NameTaken { what: "session", name: new.name.clone() });
        }
        self.refuse_taken_target(transaction, &new.target_database, None)?;
        let id = SessionId(Uuid::now_v7());
        transaction
            .execute(
                "INSERT INTO session (id, name, description, database, target_database, created_at, active)
                 VALUES (?, ?, ?, ?, ?, ?, NOT EXISTS (SELECT 1 FROM session WHERE active))",
                params![
                    id.to_string(),
                    new.name,
                    new.description,
                    new.database,
                    new.target_database,
                    now().0
                ],
            )
            .map_err(self.failed())?;
        self.session_in(transaction, id)
    }

    /// All sessions, as they were made.
    ///
    /// # Errors
    /// Where the catalog cannot be read.
    pub fn sessions(&self) -> Result<Vec<Session>, CatalogError> {
        self.ask(|connection| {
            let sql = format!("SELECT {COLUMNS} FROM session ORDER BY number");
            let mut statement = connection.prepare_cached(&sql).map_err(self.failed())?;
            let rows = statement.query_map([], session_of).map_err(self.failed())?;
            rows.collect::<Result<_, _>>().map_err(self.failed())
        })
    }

    /// The session of that id.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`].
    pub fn session(&self, id: SessionId) -> Result<Session, CatalogError> {
        self.ask(|connection| self.session_in(connection, id))
    }

    /// The session with that name or id.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`].
    pub fn find_session(&self, name_or_id: &str) -> Result<Session, CatalogError> {
        let id = Uuid::parse_str(name_or_id).map(SessionId).ok();
        self.ask(|connection| match (self.named(connection, name_or_id)?, id) {
            (Some(session), _) => Ok(session),
            (None, Some(id)) => self.session_in(connection, id),
            (None, None) => Err(CatalogError::not_found("session", name_or_id)),
        })
    }

    /// The active session; `None` as long as there is none at all.
    ///
    /// # Errors
    /// Where the catalog cannot be read.
    pub fn active_session(&self) -> Result<Option<Session>, CatalogError> {
        self.ask(|connection| {
            let sql = format!("SELECT {COLUMNS} FROM session WHERE active");
            connection.query_row(&sql, [], session_of).optional().map_err(self.failed())
        })
    }

    /// Makes a session the active one.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`].
    pub fn switch_session(&self, id: SessionId) -> Result<Session, CatalogError> {
        self.change(|transaction| {
            self.session_in(transaction, id)?;
            transaction.execute("UPDATE session SET active = 0 WHERE active", []).map_err(self.failed())?;
            transaction
                .execute("UPDATE session SET active = 1 WHERE id = ?", [id.to_string()])
                .map_err(self.failed())?;
            self.session_in(transaction, id)
        })
    }

    /// Says whether a session is kept at head.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`].
    pub fn set_session_follow(&self, id: SessionId, follow: bool) -> Result<Session, CatalogError> {
        self.set_session(id, "follow", follow)
    }

    /// Says whether local writes are allowed in a session.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`].
    pub fn set_session_open(&self, id: SessionId, open: bool) -> Result<Session, CatalogError> {
        self.set_session(id, "open", open)
    }

    /// Gives a session another database on the output server.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], [`CatalogError::TargetTaken`].
    pub fn set_session_target(&self, id: SessionId, target_database: &str) -> Result<Session, CatalogError> {
        self.change(|transaction| {
            self.session_in(transaction, id)?;
            self.refuse_taken_target(transaction, target_database, Some(id))?;
            let sql = "UPDATE session SET target_database = ? WHERE id = ?";
            transaction.execute(sql, params![target_database, id.to_string()]).map_err(self.failed())?;
            self.session_in(transaction, id)
        })
    }

    /// Gives a session another name. The default session keeps its own.
    ///
    /// # Errors
    /// [`CatalogError::Fixed`], [`CatalogError::NameTaken`], [`CatalogError::NotFound`].
    pub fn rename_session(&self, id: SessionId, name: &str) -> Result<Session, CatalogError> {
        check_session_name(name)?;
        self.change(|transaction| {
            self.own_session(transaction, id)?;
            let sql = "UPDATE session SET name = ? WHERE id = ?";
            transaction.execute(sql, params![name, id.to_string()]).map_err(|error| {
                if is_taken(&error) {
                    CatalogError::NameTaken { what: "session", name: name.to_owned() }
                } else {
                    self.failed()(error)
                }
            })?;
            self.session_in(transaction, id)
        })
    }

    /// Forgets a session and its moves. Its database is the caller's business.
    ///
    /// # Errors
    /// [`CatalogError::Fixed`] for the default session, [`CatalogError::Active`], [`CatalogError::NotFound`].
    pub fn delete_session(&self, id: SessionId) -> Result<Session, CatalogError> {
        self.change(|transaction| {
            let session = self.own_session(transaction, id)?;
            if session.active {
                return Err(CatalogError::Active { name: session.name });
            }
            transaction
                .execute("DELETE FROM session WHERE id = ?", [id.to_string()])
                .map_err(self.failed())?;
            Ok(session)
        })
    }

    fn set_session(&self, id: SessionId, column: &str, value: bool) -> Result<Session, CatalogError> {
        self.change(|transaction| {
            transaction
                .execute(
                    &format!("UPDATE session SET {column} = ? WHERE id = ?"),
                    params![value, id.to_string()],
                )
                .map_err(self.failed())?;
            self.session_in(transaction, id)
        })
    }

    pub(super) fn session_in(&self, connection: &Connection, id: SessionId) -> Result<Session, CatalogError> {
        let sql = format!("SELECT {COLUMNS} FROM session WHERE id = ?");
        let found =
            connection.query_row(&sql, [id.to_string()], session_of).optional().map_err(self.failed())?;
        found.ok_or_else(|| CatalogError::not_found("session", id))
    }

    fn named(&self, connection: &Connection, name: &str) -> Result<Option<Session>, CatalogError> {
        let sql = format!("SELECT {COLUMNS} FROM session WHERE name = ?");
        connection.query_row(&sql, [name], session_of).optional().map_err(self.failed())
    }

    /// One that may be deleted or renamed.
    fn own_session(&self, connection: &Connection, id: SessionId) -> Result<Session, CatalogError> {
        let session = self.session_in(connection, id)?;
        if session.name == DEFAULT_SESSION {
            return Err(CatalogError::Fixed { what: "session", name: session.name });
        }
        Ok(session)
    }

    fn refuse_taken_target(
        &self,
        connection: &Connection,
        target: &str,
        but: Option<SessionId>,
    ) -> Result<(), CatalogError> {
        let sql = "SELECT name FROM session WHERE target_database = ? AND id IS NOT ?";
        let values = params![target, but.map(|id| id.to_string())];
        match connection.query_row(sql, values, |row| row.get(0)).optional().map_err(self.failed())? {
            Some(session) => Err(CatalogError::TargetTaken { database: target.to_owned(), session }),
            None => Ok(()),
        }
    }
}

/// A session's name must be something that can be typed and told apart from an id.
fn check_session_name(name: &str) -> Result<(), CatalogError> {
    let reason = match name {
        _ if name.is_empty() || name.trim() != name => "it is empty, or begins or ends with a space",
        _ if name.chars().count() > 200 => "it is longer than 200 characters",
        _ if name.chars().any(char::is_control) => "it holds a control character",
        _ if Uuid::parse_str(name).is_ok() => "it reads like the id of a session",
        _ => return Ok(()),
    };
    Err(CatalogError::SessionName { name: name.to_owned(), reason })
}

fn session_of(row: &Row<'_>) -> rusqlite::Result<Session> {
    Ok(Session {
        id: SessionId(uuid_of(row, 0)?),
        name: row.get(1)?,
        description: row.get(2)?,
        database: row.get(3)?,
        target_database: row.get(4)?,
        created_at: Timestamp(row.get(5)?),
        follow: row.get(6)?,
        open: row.get(7)?,
        active: row.get(8)?,
    })
}
