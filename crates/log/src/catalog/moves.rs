//! The moves of a session, each kept for ever, and the undo and redo that follow from them as in an editor:
//! undo takes back the last move that stands, redo makes the one again that was taken back last, and a new move
//! forgets what could have been made again.

use ptr_model::{Position, SessionId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};

use super::{Catalog, CatalogError, now, position_columns, position_of, uuid_of};

/// Names a move. Later moves have higher ids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MoveId(pub i64);

/// What kind of step a move was.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MoveStep {
    /// To a position that was named.
    Navigate,
    /// Back to where a move came from.
    Undo,
    /// Again to where a move went.
    Redo,
}

/// How a move ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MoveOutcome {
    /// It arrived.
    Done,
    /// It stopped, with this error.
    Failed(String),
    /// Its process ended first, or somebody stopped it.
    Interrupted,
}

/// A move of a session from one position to another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Move {
    /// Names it.
    pub id: MoveId,
    /// Whose move.
    pub session_id: SessionId,
    /// What kind of step.
    pub step: MoveStep,
    /// Where the session was; `None` where it had no position yet.
    pub from: Option<Position>,
    /// Where it went: where it got to once it has ended.
    pub to: Position,
    /// In which way, such as `redo` or `keyframe`.
    pub strategy: String,
    /// When it began, by this machine's clock.
    pub started_at: Timestamp,
    /// When it ended; `None` while it runs, or after a crash until the next move.
    pub finished_at: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<MoveOutcome>,
}

/// A move that begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewMove {
    /// Whose move.
    pub session_id: SessionId,
    /// What kind of step.
    pub step: MoveStep,
    /// Where the session is.
    pub from: Option<Position>,
    /// Where it goes.
    pub to: Position,
    /// In which way.
    pub strategy: String,
}

const COLUMNS: &str = "id, session_id, step, strategy, from_ordinal, from_lsn, from_entry, to_ordinal, to_lsn, to_entry, \
                       started_at, finished_at, outcome, error";

/// A move that stands, and can be taken back.
pub(super) const STANDING: &str = "standing";
/// A move that was taken back, and can be made again.
const UNDONE: &str = "undone";

impl Catalog {
    /// Notes that a move begins. The caller makes sure that a session makes one move at a time, so an earlier
    /// one without an end was interrupted, and is marked so.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`] where the session is gone, or nothing is there to undo or redo.
    pub fn begin_move(&self, new: &NewMove) -> Result<Move, CatalogError> {
        self.note(|transaction| {
            self.session_in(transaction, new.session_id)?;
            self.mark_interrupted(transaction, new.session_id)?;
            if let Some(from) = new.from {
                self.settle(transaction, new.session_id, from)?;
            }
            let repeats = match new.step {
                MoveStep::Navigate => None,
                MoveStep::Undo => Some(self.top(transaction, new.session_id, MoveStep::Undo)?),
                MoveStep::Redo => Some(self.top(transaction, new.session_id, MoveStep::Redo)?),
            };
            let nothing = || CatalogError::not_found("move", new.step.name());
            let repeats = repeats.map(|found| found.ok_or_else(nothing)).transpose()?;
            let [to_ordinal, to_lsn, to_entry] = position_columns(new.to);
            let from = new.from.map(position_columns);
            let from = |column: usize| from.map(|columns| columns[column]);
            transaction
                .execute(
                    "INSERT INTO move (session_id, step, strategy, from_ordinal, from_lsn, from_entry,
                     to_ordinal, to_lsn, to_entry, started_at, repeats) VALUES (?,?,?,?,?,?,?,?,?,?,?)",
                    params![
                        new.session_id.to_string(),
                        new.step.name(),
                        new.strategy,
                        from(0),
                        from(1),
                        from(2),
                        to_ordinal,
                        to_lsn,
                        to_entry,
                        now().0,
                        repeats.map(|repeated| repeated.id.0)
                    ],
                )
                .map_err(self.failed())?;
            self.move_in(transaction, MoveId(transaction.last_insert_rowid()))
        })
    }

    /// Notes how a move ended, and where the session is. A move that stopped half way can be taken back like
    /// one that arrived.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`].
    pub fn finish_move(
        &self,
        id: MoveId,
        outcome: &MoveOutcome,
        reached: Position,
    ) -> Result<Move, CatalogError> {
        self.note(|transaction| self.finish_in(transaction, id, outcome, reached))
    }

    pub(super) fn finish_in(
        &self,
        transaction: &Transaction<'_>,
        id: MoveId,
        outcome: &MoveOutcome,
        reached: Position,
    ) -> Result<Move, CatalogError> {
        let begun = self.move_in(transaction, id)?;
        let [ordinal, lsn, entry] = position_columns(reached);
        let (word, error) = outcome.columns();
        transaction
            .execute(
                "UPDATE move SET to_ordinal = ?, to_lsn = ?, to_entry = ?, finished_at = ?, outcome = ?, error = ?
                 WHERE id = ?",
                params![ordinal, lsn, entry, now().0, word, error, id.0],
            )
            .map_err(self.failed())?;
        // A move to where the session is takes nothing that could be taken back; an undo or redo that was cut off after
        // it had arrived ends here the next time.
        let steps = *outcome == MoveOutcome::Done && begun.step != MoveStep::Navigate;
        if steps || begun.from != Some(reached) {
            self.restack(transaction, &begun, outcome)?;
        }
        self.move_in(transaction, id)
    }

    /// Notes moves of a session that have no end as interrupted: called where its process is known to be gone.
    ///
    /// # Errors
    /// Where the catalog cannot be written.
    pub fn interrupt_moves(&self, session_id: SessionId) -> Result<(), CatalogError> {
        self.change(|transaction| self.mark_interrupted(transaction, session_id))
    }

    /// Notes where a session is whose last move did not arrive: nobody may have known how far that came. If it went
    /// somewhere it can be taken back. Not to be called while a move is under way.
    ///
    /// # Errors
    /// Where the catalog cannot be written.
    pub fn found_at(&self, session_id: SessionId, at: Position) -> Result<(), CatalogError> {
        self.note(|transaction| {
            self.mark_interrupted(transaction, session_id)?;
            self.settle(transaction, session_id, at)
        })
    }

    /// The move that undo would take back: the session goes to its `from`.
    ///
    /// # Errors
    /// Where the catalog cannot be read.
    pub fn move_to_undo(&self, session_id: SessionId) -> Result<Option<Move>, CatalogError> {
        self.ask(|connection| self.top(connection, session_id, MoveStep::Undo))
    }

    /// The move that redo would make again: the session goes to its `to`.
    ///
    /// # Errors
    /// Where the catalog cannot be read.
    pub fn move_to_redo(&self, session_id: SessionId) -> Result<Option<Move>, CatalogError> {
        self.ask(|connection| self.top(connection, session_id, MoveStep::Redo))
    }

    /// The latest moves of a session, the newest first.
    ///
    /// # Errors
    /// Where the catalog cannot be read.
    pub fn moves(&self, session_id: SessionId, limit: usize) -> Result<Vec<Move>, CatalogError> {
        self.ask(|connection| {
            let sql = format!("SELECT {COLUMNS} FROM move WHERE session_id = ? ORDER BY id DESC LIMIT ?");
            let mut statement = connection.prepare_cached(&sql).map_err(self.failed())?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = statement
                .query_map(params![session_id.to_string(), limit], move_of)
                .map_err(self.failed())?;
            rows.collect::<Result<_, _>>().map_err(self.failed())
        })
    }

    /// The move of that id.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`].
    pub fn moved(&self, id: MoveId) -> Result<Move, CatalogError> {
        self.ask(|connection| self.move_in(connection, id))
    }

    /// What is on top for that step: the latest move that stands, or the earliest that was taken back. One that
    /// came from nowhere cannot be taken back.
    fn top(
        &self,
        connection: &Connection,
        session_id: SessionId,
        step: MoveStep,
    ) -> Result<Option<Move>, CatalogError> {
        let (stack, order, condition) = match step {
            MoveStep::Redo => (UNDONE, "ASC", ""),
            MoveStep::Undo | MoveStep::Navigate => (STANDING, "DESC", " AND from_ordinal IS NOT NULL"),
        };
        let sql = format!(
            "SELECT {COLUMNS} FROM move WHERE session_id = ? AND stack = ?{condition} ORDER BY id {order} LIMIT 1"
        );
        connection
            .query_row(&sql, params![session_id.to_string(), stack], move_of)
            .optional()
            .map_err(self.failed())
    }

    /// What a move does to what can be undone and redone.
    fn restack(
        &self,
        transaction: &Transaction<'_>,
        ended: &Move,
        outcome: &MoveOutcome,
    ) -> Result<(), CatalogError> {
        let whole = *outcome == MoveOutcome::Done;
        let (session, id) = (ended.session_id.to_string(), ended.id.0);
        let changed = match ended.step {
            MoveStep::Navigate => transaction
                .execute(
                    "UPDATE move SET stack = NULL WHERE session_id = ? AND stack = ?",
                    params![session, UNDONE],
                )
                .and_then(|_| {
                    transaction.execute("UPDATE move SET stack = ? WHERE id = ?", params![STANDING, id])
                }),
            MoveStep::Undo | MoveStep::Redo if whole => {
                let stack = if ended.step == MoveStep::Undo { UNDONE } else { STANDING };
                let sql = "UPDATE move SET stack = ? WHERE id = (SELECT repeats FROM move WHERE id = ?)";
                transaction.execute(sql, params![stack, id])
            }
            // Half way back is neither: the move is still there to be undone, or redone, again.
            MoveStep::Undo | MoveStep::Redo => Ok(0),
        };
        changed.map(|_| ()).map_err(self.failed())
    }

    fn settle(
        &self,
        transaction: &Transaction<'_>,
        session_id: SessionId,
        at: Position,
    ) -> Result<(), CatalogError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM move WHERE session_id = ? AND stack IS NULL AND outcome <> 'done'
               AND id = (SELECT max(id) FROM move WHERE session_id = ?1)"
        );
        let last = transaction.query_row(&sql, [session_id.to_string()], move_of).optional();
        let Some(last) = last.map_err(self.failed())? else { return Ok(()) };
        if last.from == Some(at) || last.step != MoveStep::Navigate {
            return Ok(());
        }
        let [ordinal, lsn, entry] = position_columns(at);
        let sql = "UPDATE move SET to_ordinal = ?, to_lsn = ?, to_entry = ? WHERE id = ?";
        transaction.execute(sql, params![ordinal, lsn, entry, last.id.0]).map_err(self.failed())?;
        self.restack(transaction, &last, &MoveOutcome::Interrupted)
    }

    fn mark_interrupted(
        &self,
        transaction: &Transaction<'_>,
        session_id: SessionId,
    ) -> Result<(), CatalogError> {
        let (word, _) = MoveOutcome::Interrupted.columns();
        let sql = "UPDATE move SET finished_at = ?, outcome = ? WHERE session_id = ? AND finished_at IS NULL";
        let values = params![now().0, word, session_id.to_string()];
        transaction.execute(sql, values).map(|_| ()).map_err(self.failed())
    }

    pub(super) fn move_in(&self, connection: &Connection, id: MoveId) -> Result<Move, CatalogError> {
        let sql = format!("SELECT {COLUMNS} FROM move WHERE id = ?");
        let found = connection.query_row(&sql, [id.0], move_of).optional().map_err(self.failed())?;
        found.ok_or_else(|| CatalogError::not_found("move", id.0))
    }
}

impl MoveStep {
    const ALL: [Self; 3] = [Self::Navigate, Self::Undo, Self::Redo];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Navigate => "navigate",
            Self::Undo => "undo",
            Self::Redo => "redo",
        }
    }
}

impl MoveOutcome {
    /// The columns `outcome` and `error`.
    fn columns(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::Done => ("done", None),
            Self::Failed(error) => ("failed", Some(error)),
            Self::Interrupted => ("interrupted", None),
        }
    }
}

fn move_of(row: &Row<'_>) -> rusqlite::Result<Move> {
    let step: String = row.get(2)?;
    let outcome: Option<String> = row.get(12)?;
    let error: Option<String> = row.get(13)?;
    let from: Option<i64> = row.get(4)?;
    let unknown =
        |column, text| rusqlite::Error::InvalidColumnType(column, text, rusqlite::types::Type::Text);
    let outcome = match outcome.as_deref() {
        None => None,
        Some("done") => Some(MoveOutcome::Done),
        Some("failed") => Some(MoveOutcome::Failed(error.unwrap_or_default())),
        Some("interrupted") => Some(MoveOutcome::Interrupted),
        Some(other) => return Err(unknown(12, other.to_owned())),
    };
    Ok(Move {
        id: MoveId(row.get(0)?),
        session_id: SessionId(uuid_of(row, 1)?),
        step: MoveStep::ALL.into_iter().find(|known| known.name() == step).ok_or_else(|| unknown(2, step))?,
        strategy: row.get(3)?,
        from: from.map(|_| position_of(row, 4)).transpose()?,
        to: position_of(row, 7)?,
        started_at: Timestamp(row.get(10)?),
        finished_at: row.get::<_, Option<i64>>(11)?.map(Timestamp),
        outcome,
    })
}
