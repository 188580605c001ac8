//! What a session's last moves left to say: where replay stopped, what was done otherwise than on the primary,
//! whether its database still is what its decisions make of the log.

use ptr_model::SessionId;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{Catalog, CatalogError};

/// Notices that are kept of a session, the newest; a follower may go on for weeks.
const NOTICES: usize = 100;

/// What there is to say about a session.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Condition {
    /// Where replay stopped and why, as JSON of whoever replays; until a move gets past it, or a decision about
    /// it is made.
    pub stop: Option<String>,
    /// What its last move, and what followed it, did otherwise than the primary, each once.
    pub notices: Vec<String>,
    /// Whether its database was made under other decisions than it has now.
    pub outdated: bool,
}

impl Catalog {
    /// What there is to say about a session.
    ///
    /// # Errors
    /// Where the catalog cannot be read.
    pub fn condition(&self, session_id: SessionId) -> Result<Condition, CatalogError> {
        self.ask(|connection| self.condition_in(connection, session_id))
    }

    /// Changes it, all or nothing.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`] where the session is gone.
    pub fn set_condition(
        &self,
        session_id: SessionId,
        set: impl FnOnce(&mut Condition),
    ) -> Result<Condition, CatalogError> {
        self.change(|transaction| self.set_condition_in(transaction, session_id, set))
    }

    pub(super) fn set_condition_in(
        &self,
        transaction: &Transaction<'_>,
        session_id: SessionId,
        set: impl FnOnce(&mut Condition),
    ) -> Result<Condition, CatalogError> {
        self.session_in(transaction, session_id)?;
        let mut condition = self.condition_in(transaction, session_id)?;
        let before = condition.clone();
        set(&mut condition);
        condition.tidy();
        if condition == before {
            return Ok(condition);
        }
        let notices = serde_json::to_string(&condition.notices).expect("texts are JSON");
        let sql = "INSERT OR REPLACE INTO condition (session_id, stop, notices, outdated)
                   VALUES (?, ?, ?, ?)";
        transaction
            .execute(sql, params![session_id.to_string(), condition.stop, notices, condition.outdated])
            .map_err(self.failed())?;
        Ok(condition)
    }

    fn condition_in(
        &self,
        connection: &Connection,
        session_id: SessionId,
    ) -> Result<Condition, CatalogError> {
        let sql = "SELECT stop, notices, outdated FROM condition WHERE session_id = ?";
        let found = connection.query_row(sql, [session_id.to_string()], |row| {
            let notices: String = row.get(1)?;
            let notices = serde_json::from_str(&notices).map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, error.into())
            })?;
            Ok(Condition { stop: row.get(0)?, notices, outdated: row.get(2)? })
        });
        Ok(found.optional().map_err(self.failed())?.unwrap_or_default())
    }
}

impl Condition {
    fn tidy(&mut self) {
        let mut kept = Vec::with_capacity(self.notices.len());
        for notice in self.notices.drain(..).rev() {
            if kept.len() < NOTICES && !kept.contains(&notice) {
                kept.push(notice);
            }
        }
        kept.reverse();
        self.notices = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_are_kept_once_and_not_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&folder.path().join("catalog.sqlite")).unwrap();
        let session = catalog.ensure_default_session("shop", "replica").unwrap().id;
        assert_eq!(catalog.condition(session).unwrap(), Condition::default());
        let condition = catalog
            .set_condition(session, |condition| {
                condition.outdated = true;
                condition.notices = (0..150).map(|number| (number % 120).to_string()).collect();
            })
            .unwrap();
        assert_eq!(catalog.condition(session).unwrap(), condition);
        assert_eq!(condition.notices.len(), 100);
        assert_eq!(condition.notices.last().unwrap(), "29");
    }
}
