//! What is noted when a move is over, in one transaction: how it ended, and what follows for its session.

use ptr_model::Position;
use rusqlite::params;

use super::{Catalog, CatalogError, Condition, Move, MoveId, MoveOutcome};

/// How a move ended and what follows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conclusion {
    /// How it ended.
    pub outcome: MoveOutcome,
    /// Where the session is.
    pub reached: Position,
    /// The way that was taken after all, where it may be another than the one that was planned.
    pub strategy: Option<String>,
    /// Whether the session is to be kept at head.
    pub follow: bool,
    /// Whether its database holds what the log says again, whatever was written into it before.
    pub closed: bool,
}

impl Catalog {
    /// Notes the end of a move. `set` changes what there is to say about its session.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`].
    pub fn conclude_move(
        &self,
        id: MoveId,
        conclusion: &Conclusion,
        set: impl FnOnce(&mut Condition),
    ) -> Result<Move, CatalogError> {
        let Conclusion { outcome, reached, strategy, follow, closed } = conclusion;
        self.note(|transaction| {
            let session = self.move_in(transaction, id)?.session_id;
            self.set_condition_in(transaction, session, set)?;
            let sql = "UPDATE session SET follow = ?1, open = open AND NOT ?2
                       WHERE id = ?3 AND (follow <> ?1 OR open AND ?2)";
            transaction.execute(sql, params![follow, closed, session.to_string()]).map_err(self.failed())?;
            if let Some(strategy) = strategy {
                let sql = "UPDATE move SET strategy = ?1 WHERE id = ?2 AND strategy <> ?1";
                transaction.execute(sql, params![strategy, id.0]).map_err(self.failed())?;
            }
            self.finish_in(transaction, id, outcome, *reached)
        })
    }
}
