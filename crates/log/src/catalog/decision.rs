//! What people decided where a replay could not go on: changes that a session leaves out, each time it passes
//! there, and tables that it took from the primary instead.
//!
//! Invariant: what a session's database holds at a position follows from the log and its decisions alone. A
//! decision that is made or taken back about what lies behind the session makes its database *outdated*: the next
//! move builds it anew.

use ptr_model::{Oid, Position, SessionId, Timestamp};
use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::{Catalog, CatalogError, now, position_columns, position_of, uuid_of};
use crate::TableName;

/// Names a decision. Never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DecisionId(pub i64);

/// What was decided.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DecisionKind {
    /// One change of a transaction is left out.
    Skip {
        /// Which of the transaction's changes, from 0. Not all of them are entries.
        change: u64,
        /// Its entry, if it is one.
        entry: Option<u64>,
    },
    /// All changes of a table are left out from there on.
    LeaveOut {
        /// The table, as it was called then.
        table: TableName,
        /// Its `pg_class.oid` on the primary, where it is known: then the table is told by it, whatever it is
        /// renamed to.
        oid: Option<Oid>,
    },
    /// All changes of a table are left out from there up to a position, where it gets the rows that the primary
    /// had there.
    Resync {
        /// The table, as it was called at that position.
        table: TableName,
        /// Its `pg_class.oid` on the primary.
        oid: Option<Oid>,
        /// Where it is the same again. What it holds before that is not known.
        until: Position,
        /// Names the folder in the data directory that holds the rows.
        contents: String,
    },
}

/// What was decided for a session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Decision {
    /// Names it.
    pub id: DecisionId,
    /// Whose.
    pub session_id: SessionId,
    /// The position before the first transaction that it is about.
    pub from: Position,
    /// What.
    pub kind: DecisionKind,
    /// What is left out, for people.
    pub what: String,
    /// When, by this machine's clock.
    pub decided_at: Timestamp,
}

const COLUMNS: &str = "id, session_id, ordinal, lsn, entry_index, kind, what, decided_at";

impl Catalog {
    /// Keeps a decision, in the place of others. The same one again is the one that is there.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`] where the session is gone.
    pub fn decide(
        &self,
        session_id: SessionId,
        from: Position,
        kind: &DecisionKind,
        what: &str,
        instead_of: &[DecisionId],
    ) -> Result<Decision, CatalogError> {
        let [ordinal, lsn, entry] = position_columns(from);
        let text = serde_json::to_string(kind).expect("names and numbers are JSON");
        let (session, failed) = (session_id.to_string(), self.failed());
        self.change(|transaction| {
            self.session_in(transaction, session_id)?;
            let known = "SELECT id FROM decision WHERE session_id = ? AND ordinal = ? AND kind = ?";
            let known: Option<i64> = transaction
                .query_row(known, params![session, ordinal, text], |row| row.get(0))
                .optional()
                .map_err(&failed)?;
            let insert =
                "INSERT INTO decision (session_id, ordinal, lsn, entry_index, kind, what, decided_at)
                          VALUES (?, ?, ?, ?, ?, ?, ?)";
            let id = match known {
                Some(id) => id,
                None => {
                    transaction
                        .execute(insert, params![session, ordinal, lsn, entry, text, what, now().0])
                        .map_err(&failed)?;
                    transaction.last_insert_rowid()
                }
            };
            for other in instead_of.iter().filter(|other| other.0 != id) {
                let gone = "DELETE FROM decision WHERE id = ? AND session_id = ?";
                transaction.execute(gone, params![other.0, session]).map_err(&failed)?;
            }
            let sql = format!("SELECT {COLUMNS} FROM decision WHERE id = ?");
            transaction.query_row(&sql, [id], decision_of).map_err(&failed)
        })
    }

    /// A session's decisions, as they were made.
    ///
    /// # Errors
    /// Where the catalog cannot be read.
    pub fn decisions(&self, session_id: SessionId) -> Result<Vec<Decision>, CatalogError> {
        self.ask(|connection| {
            let sql = format!("SELECT {COLUMNS} FROM decision WHERE session_id = ? ORDER BY id");
            let mut statement = connection.prepare_cached(&sql).map_err(self.failed())?;
            let rows = statement.query_map([session_id.to_string()], decision_of).map_err(self.failed())?;
            rows.collect::<Result<_, _>>().map_err(self.failed())
        })
    }

    /// Takes a decision back.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`] where the session has none of that id.
    pub fn undecide(&self, session_id: SessionId, id: DecisionId) -> Result<Decision, CatalogError> {
        self.change(|transaction| {
            let sql = format!("DELETE FROM decision WHERE id = ? AND session_id = ? RETURNING {COLUMNS}");
            let found = transaction
                .query_row(&sql, params![id.0, session_id.to_string()], decision_of)
                .optional()
                .map_err(self.failed())?;
            found.ok_or_else(|| CatalogError::not_found("decision", id.0))
        })
    }
}

fn decision_of(row: &Row<'_>) -> rusqlite::Result<Decision> {
    let text: String = row.get(5)?;
    let kind = serde_json::from_str(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(5, rusqlite::types::Type::Text, error.into())
    })?;
    Ok(Decision {
        id: DecisionId(row.get(0)?),
        session_id: SessionId(uuid_of(row, 1)?),
        from: position_of(row, 2)?,
        kind,
        what: row.get(6)?,
        decided_at: Timestamp(row.get(7)?),
    })
}

#[cfg(test)]
mod tests {
    use ptr_model::Lsn;

    use super::*;

    #[test]
    fn a_decision_is_kept_once_and_taken_back_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.sqlite");
        let catalog = Catalog::open(&path).unwrap();
        let session = catalog.ensure_default_session("shop", "replica").unwrap().id;
        let from = Position { ordinal: 3, lsn: Lsn(0x30), entry_index: 7 };
        let skip = DecisionKind::Skip { change: 1, entry: Some(8) };
        let made = catalog.decide(session, from, &skip, "CREATE EXTENSION hstore", &[]).unwrap();
        assert_eq!(catalog.decide(session, from, &skip, "again", &[DecisionId(1)]).unwrap(), made);
        let table = TableName::new("public", "Odd name");
        let all = DecisionKind::LeaveOut { table, oid: Some(Oid(7)) };
        let second = catalog.decide(session, from, &all, "the table", &[]).unwrap();

        let again = Catalog::open(&path).unwrap();
        assert_eq!(again.decisions(session).unwrap(), [made.clone(), second.clone()]);
        assert_eq!(catalog.undecide(session, made.id).unwrap(), made);
        assert!(matches!(catalog.undecide(session, made.id), Err(CatalogError::NotFound { .. })));
        assert_eq!(catalog.decisions(session).unwrap(), std::slice::from_ref(&second));
        let third = catalog.decide(session, from, &skip, "instead", &[second.id]).unwrap();
        assert_eq!(catalog.decisions(session).unwrap(), [third]);
        catalog.set_history_aside("shop", "shop@1").unwrap();
        assert_eq!(catalog.decisions(session).unwrap(), [], "they were about another history");
    }
}
