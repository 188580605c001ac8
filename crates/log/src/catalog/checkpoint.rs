//! Checkpoints: names for positions. CREATION and MIGRATION are rows like the others, but nobody can take them
//! away.

use ptr_model::{CheckpointId, Position, SessionId, Timestamp, check_checkpoint_name};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Catalog, CatalogError, error::is_taken, now, parse_uuid, position_columns, position_of, uuid_of,
};

/// Where a checkpoint comes from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckpointKind {
    /// Where the history begins. One for each captured database, fixed.
    Creation,
    /// The end of the first schema migration. One for each captured database, fixed, but it moves until it is
    /// found or pinned.
    Migration,
    /// Made by somebody.
    Manual,
}

impl CheckpointKind {
    const ALL: [Self; 3] = [Self::Creation, Self::Migration, Self::Manual];

    /// Those that are there always.
    pub const FIXED: [Self; 2] = [Self::Creation, Self::Migration];

    /// Its name: that of the checkpoint itself for the fixed two.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Creation => "CREATION",
            Self::Migration => "MIGRATION",
            Self::Manual => "MANUAL",
        }
    }
}

/// A name for a position in the history of one database.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Names it for ever.
    pub id: CheckpointId,
    /// Unique among the checkpoints of its database.
    pub name: String,
    /// Where it comes from.
    pub kind: CheckpointKind,
    /// The captured database.
    pub database: String,
    /// What people wrote about it; may be empty.
    pub description: String,
    /// Where it is.
    pub position: Position,
    /// The session in which it was made.
    pub session_id: Option<SessionId>,
    /// When it was made, by this machine's clock.
    pub created_at: Timestamp,
    /// Whether MIGRATION was put where it is by hand.
    pub pinned: bool,
    /// A hash of the database's content there, where one was taken.
    pub hash: Option<String>,
}

/// A checkpoint to be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewCheckpoint {
    /// Must not read like another form of a position.
    pub name: String,
    /// The captured database.
    pub database: String,
    /// For people; may be empty.
    pub description: String,
    /// Where it is.
    pub position: Position,
    /// The session in which it is made.
    pub session_id: Option<SessionId>,
    /// A hash of the database's content there, where one was taken.
    pub hash: Option<String>,
}

const COLUMNS: &str =
    "id, name, kind, database, description, ordinal, lsn, entry_index, session_id, created_at, pinned, hash";

impl Catalog {
    /// Makes sure that CREATION and MIGRATION of a database are there. Called whenever its log is opened.
    ///
    /// # Errors
    /// Where the catalog cannot be written.
    pub fn ensure_fixed_checkpoints(
        &self,
        database: &str,
        creation: Position,
        created_at: Timestamp,
    ) -> Result<(), CatalogError> {
        self.change(|transaction| {
            for kind in [CheckpointKind::Creation, CheckpointKind::Migration] {
                let [ordinal, lsn, entry_index] = position_columns(creation);
                transaction
                    .execute(
                        "INSERT INTO checkpoint (id, database, name, kind, description, ordinal, lsn, entry_index, created_at)
                         VALUES (?, ?, ?, ?, '', ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                        params![Uuid::now_v7().to_string(), database, kind.name(), kind.name(), ordinal, lsn, entry_index, created_at.0],
                    )
                    .map_err(self.failed())?;
            }
            Ok(())
        })
    }

    /// Makes a checkpoint.
    ///
    /// # Errors
    /// [`CatalogError::Name`] for a name that reads like another form of a position, [`CatalogError::NameTaken`].
    pub fn create_checkpoint(&self, new: &NewCheckpoint) -> Result<Checkpoint, CatalogError> {
        check_checkpoint_name(&new.name)?;
        let checkpoint = Checkpoint {
            id: CheckpointId(Uuid::now_v7()),
            name: new.name.clone(),
            kind: CheckpointKind::Manual,
            database: new.database.clone(),
            description: new.description.clone(),
            position: new.position,
            session_id: new.session_id,
            created_at: now(),
            pinned: false,
            hash: new.hash.clone(),
        };
        let [ordinal, lsn, entry_index] = position_columns(checkpoint.position);
        self.change(|transaction| {
            let inserted = transaction.execute(
                &format!("INSERT INTO checkpoint ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?)"),
                params![
                    checkpoint.id.to_string(),
                    checkpoint.name,
                    checkpoint.kind.name(),
                    checkpoint.database,
                    checkpoint.description,
                    ordinal,
                    lsn,
                    entry_index,
                    checkpoint.session_id.map(|id| id.to_string()),
                    checkpoint.created_at.0,
                    checkpoint.hash
                ],
            );
            inserted.map(|_| ()).map_err(|error| self.name_taken(error, &new.name))
        })?;
        Ok(checkpoint)
    }

    /// All checkpoints of a database, or of all, in the order of history, those of one position as they were made.
    ///
    /// # Errors
    /// Where the catalog cannot be read.
    pub fn checkpoints(&self, database: Option<&str>) -> Result<Vec<Checkpoint>, CatalogError> {
        self.ask(|connection| {
            let sql = format!(
                "SELECT {COLUMNS} FROM checkpoint WHERE ?1 IS NULL OR database = ?1 ORDER BY database, ordinal, number"
            );
            let mut statement = connection.prepare_cached(&sql).map_err(self.failed())?;
            let rows = statement.query_map([database], checkpoint_of).map_err(self.failed())?;
            rows.collect::<Result<_, _>>().map_err(self.failed())
        })
    }

    /// Where the checkpoints of a database are that somebody made, in the order of history.
    ///
    /// # Errors
    /// Where the catalog cannot be read.
    pub fn positions_by_hand(&self, database: &str) -> Result<Vec<Position>, CatalogError> {
        self.ask(|connection| {
            let sql = "SELECT ordinal, lsn, entry_index FROM checkpoint WHERE database = ? AND kind = ? ORDER BY ordinal";
            let mut statement = connection.prepare_cached(sql).map_err(self.failed())?;
            let values = [database, CheckpointKind::Manual.name()];
            let rows = statement.query_map(values, |row| position_of(row, 0)).map_err(self.failed())?;
            rows.collect::<Result<_, _>>().map_err(self.failed())
        })
    }

    /// The checkpoint of that id.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`].
    pub fn checkpoint(&self, id: CheckpointId) -> Result<Checkpoint, CatalogError> {
        self.ask(|connection| self.checkpoint_in(connection, id))
    }

    /// The checkpoint of a database with that name or id; the names of the fixed two in any case.
    ///
    /// # Errors
    /// Where the catalog cannot be read.
    pub fn find_checkpoint(
        &self,
        database: &str,
        name_or_id: &str,
    ) -> Result<Option<Checkpoint>, CatalogError> {
        let name = CheckpointKind::FIXED
            .map(CheckpointKind::name)
            .into_iter()
            .find(|name| name.eq_ignore_ascii_case(name_or_id));
        let id = Uuid::parse_str(name_or_id).map(|id| id.to_string()).ok();
        self.ask(|connection| {
            let sql = format!("SELECT {COLUMNS} FROM checkpoint WHERE database = ? AND (name = ? OR id = ?)");
            let values = params![database, name.unwrap_or(name_or_id), id];
            connection.query_row(&sql, values, checkpoint_of).optional().map_err(self.failed())
        })
    }

    /// Gives a checkpoint another name.
    ///
    /// # Errors
    /// [`CatalogError::Fixed`], [`CatalogError::NotFound`], and as [`Catalog::create_checkpoint`].
    pub fn rename_checkpoint(&self, id: CheckpointId, name: &str) -> Result<Checkpoint, CatalogError> {
        check_checkpoint_name(name)?;
        self.change(|transaction| {
            self.own_checkpoint(transaction, id)?;
            transaction
                .execute("UPDATE checkpoint SET name = ? WHERE id = ?", params![name, id.to_string()])
                .map_err(|error| self.name_taken(error, name))?;
            self.checkpoint_in(transaction, id)
        })
    }

    /// Changes what is written about a checkpoint.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`].
    pub fn describe_checkpoint(
        &self,
        id: CheckpointId,
        description: &str,
    ) -> Result<Checkpoint, CatalogError> {
        self.set_checkpoint(id, "description", description)
    }

    /// Keeps a hash of the database's content at a checkpoint.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`].
    pub fn set_checkpoint_hash(&self, id: CheckpointId, hash: &str) -> Result<Checkpoint, CatalogError> {
        self.set_checkpoint(id, "hash", hash)
    }

    /// Forgets a checkpoint; the history stays.
    ///
    /// # Errors
    /// [`CatalogError::Fixed`], [`CatalogError::NotFound`].
    pub fn delete_checkpoint(&self, id: CheckpointId) -> Result<Checkpoint, CatalogError> {
        self.change(|transaction| {
            let checkpoint = self.own_checkpoint(transaction, id)?;
            transaction
                .execute("DELETE FROM checkpoint WHERE id = ?", [id.to_string()])
                .map_err(self.failed())?;
            Ok(checkpoint)
        })
    }

    /// Puts MIGRATION somewhere by hand, where it stays.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`] where the database is not captured.
    pub fn pin_migration(&self, database: &str, position: Position) -> Result<Checkpoint, CatalogError> {
        self.place_migration(database, position, "pinned = 1", "")
    }

    /// Puts MIGRATION where it was found (`Log::migration_position`), unless it is pinned.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`] where the database is not captured.
    pub fn set_migration(&self, database: &str, position: Position) -> Result<Checkpoint, CatalogError> {
        self.place_migration(database, position, "pinned = 0", " AND NOT pinned")
    }

    /// Lets MIGRATION be found by itself again; `position` is where that is now.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`] where the database is not captured.
    pub fn unpin_migration(&self, database: &str, position: Position) -> Result<Checkpoint, CatalogError> {
        self.place_migration(database, position, "pinned = 0", "")
    }

    fn place_migration(
        &self,
        database: &str,
        position: Position,
        pin: &str,
        condition: &str,
    ) -> Result<Checkpoint, CatalogError> {
        let kind = CheckpointKind::Migration.name();
        let [ordinal, lsn, entry_index] = position_columns(position);
        self.change(|transaction| {
            let sql = format!(
                "UPDATE checkpoint SET ordinal = ?, lsn = ?, entry_index = ?, {pin} WHERE database = ? AND kind = ?{condition}"
            );
            transaction
                .execute(&sql, params![ordinal, lsn, entry_index, database, kind])
                .map_err(self.failed())?;
            let sql = format!("SELECT {COLUMNS} FROM checkpoint WHERE database = ? AND kind = ?");
            let found = transaction.query_row(&sql, [database, kind], checkpoint_of).optional().map_err(self.failed())?;
            found.ok_or_else(|| CatalogError::not_found("checkpoint", kind))
        })
    }

    fn set_checkpoint(
        &self,
        id: CheckpointId,
        column: &str,
        value: &str,
    ) -> Result<Checkpoint, CatalogError> {
        self.change(|transaction| {
            transaction
                .execute(
                    &format!("UPDATE checkpoint SET {column} = ? WHERE id = ?"),
                    params![value, id.to_string()],
                )
                .map_err(self.failed())?;
            self.checkpoint_in(transaction, id)
        })
    }

    fn checkpoint_in(&self, connection: &Connection, id: CheckpointId) -> Result<Checkpoint, CatalogError> {
        let sql = format!("SELECT {COLUMNS} FROM checkpoint WHERE id = ?");
        let found =
            connection.query_row(&sql, [id.to_string()], checkpoint_of).optional().map_err(self.failed())?;
        found.ok_or_else(|| CatalogError::not_found("checkpoint", id))
    }

    /// One that may be deleted or renamed.
    fn own_checkpoint(&self, connection: &Connection, id: CheckpointId) -> Result<Checkpoint, CatalogError> {
        let checkpoint = self.checkpoint_in(connection, id)?;
        match checkpoint.kind {
            CheckpointKind::Manual => Ok(checkpoint),
            CheckpointKind::Creation | CheckpointKind::Migration => {
                Err(CatalogError::Fixed { what: "checkpoint", name: checkpoint.name })
            }
        }
    }

    pub(super) fn name_taken(&self, error: rusqlite::Error, name: &str) -> CatalogError {
        if is_taken(&error) {
            return CatalogError::NameTaken { what: "checkpoint", name: name.to_owned() };
        }
        self.failed()(error)
    }
}

fn checkpoint_of(row: &Row<'_>) -> rusqlite::Result<Checkpoint> {
    let kind: String = row.get(2)?;
    let session: Option<String> = row.get(8)?;
    Ok(Checkpoint {
        id: CheckpointId(uuid_of(row, 0)?),
        name: row.get(1)?,
        kind: CheckpointKind::ALL
            .into_iter()
            .find(|known| known.name() == kind)
            .ok_or_else(|| rusqlite::Error::InvalidColumnType(2, kind, rusqlite::types::Type::Text))?,
        database: row.get(3)?,
        description: row.get(4)?,
        position: position_of(row, 5)?,
        session_id: session.map(|id| parse_uuid(&id, 8).map(SessionId)).transpose()?,
        created_at: Timestamp(row.get(9)?),
        pinned: row.get(10)?,
        hash: row.get(11)?,
    })
}
