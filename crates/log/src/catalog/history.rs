//! What the catalog knows of a whole history, taken to another name.

use ptr_model::Position;
use rusqlite::params;

use super::{Catalog, CatalogError, checkpoint::CheckpointKind, moves::STANDING, position_columns};

impl Catalog {
    /// Gives all that belongs to the history of a captured database, checkpoints with their names and samples of
    /// sequences, to `aside`; the name is free for another history then. Sessions stay with the name, and their
    /// moves can no longer be taken back, nor do their decisions hold: both are about the history that goes. May be called again
    /// after a crash.
    ///
    /// # Errors
    /// [`CatalogError::NameTaken`] where both histories have a checkpoint of one name.
    pub fn set_history_aside(&self, database: &str, aside: &str) -> Result<(), CatalogError> {
        let manual = CheckpointKind::Manual.name();
        let theirs = "session_id IN (SELECT id FROM session WHERE database = ?1)";
        self.change(|transaction| {
            if database != aside {
                for table in ["decision", "condition"] {
                    let sql = format!("DELETE FROM {table} WHERE {theirs}");
                    transaction.execute(&sql, params![database]).map_err(self.failed())?;
                }
            }
            // Whoever looked at the log since an interrupted try made the fixed two anew.
            let made_anew = "DELETE FROM checkpoint WHERE database = ?1 AND kind <> ?3 AND EXISTS (
                SELECT 1 FROM checkpoint other WHERE other.database = ?2 AND other.kind = checkpoint.kind)";
            transaction.execute(made_anew, params![database, aside, manual]).map_err(self.failed())?;
            transaction
                .execute("UPDATE checkpoint SET database = ?2 WHERE database = ?1", params![database, aside])
                .map_err(|error| self.name_taken(error, aside))?;
            for change in [
                "UPDATE OR REPLACE sequence_sample SET database = ?2 WHERE database = ?1",
                "UPDATE move SET stack = NULL WHERE ?2 <> ?1
                   AND session_id IN (SELECT id FROM session WHERE database = ?1)",
            ] {
                transaction.execute(change, params![database, aside]).map_err(self.failed())?;
            }
            Ok(())
        })
    }

    /// Forgets a history: its fixed checkpoints and its samples of sequences. Does nothing, and says so, where a session
    /// replays it or somebody made a checkpoint in it.
    ///
    /// # Errors
    /// [`CatalogError::Database`].
    pub fn forget_history(&self, database: &str) -> Result<bool, CatalogError> {
        self.change(|transaction| {
            let needed = "SELECT EXISTS (SELECT 1 FROM session WHERE database = ?1)
                              OR EXISTS (SELECT 1 FROM checkpoint WHERE database = ?1 AND kind = ?2)";
            let manual = CheckpointKind::Manual.name();
            let is_needed: bool = transaction
                .query_row(needed, params![database, manual], |row| row.get(0))
                .map_err(self.failed())?;
            if is_needed {
                return Ok(false);
            }
            for table in ["checkpoint", "sequence_sample"] {
                let sql = format!("DELETE FROM {table} WHERE database = ?1");
                transaction.execute(&sql, params![database]).map_err(self.failed())?;
            }
            Ok(true)
        })
    }

    /// Lets go of what is about positions before the beginning of a history: moves that lead there, and those before
    /// them, can no longer be taken back or made again, and samples of sequences go that are in force nowhere any more.
    /// Says how many moves that are.
    ///
    /// # Errors
    /// Where the catalog cannot be written.
    pub fn begin_history_at(&self, database: &str, beginning: Position) -> Result<usize, CatalogError> {
        let [first, ..] = position_columns(beginning);
        let theirs = "session_id IN (SELECT id FROM session WHERE database = ?1)";
        let before = "coalesce(min(from_ordinal, to_ordinal), to_ordinal) < ?2";
        self.change(|transaction| {
            let bounds = format!(
                "SELECT session_id, stack, max(id) FROM move WHERE {theirs} AND stack IS NOT NULL AND {before}
                 GROUP BY session_id, stack"
            );
            let mut statement = transaction.prepare(&bounds).map_err(self.failed())?;
            let found = statement.query_map(params![database, first], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?))
            });
            let found: Vec<_> = found.and_then(Iterator::collect).map_err(self.failed())?;
            let mut gone = 0;
            for (session, stack, last) in found {
                // What was taken back is made again in order, so none of it where one leads there.
                let last = if stack == STANDING { last } else { i64::MAX };
                let sql = "UPDATE move SET stack = NULL WHERE session_id = ?1 AND stack = ?2 AND id <= ?3";
                gone += transaction.execute(sql, params![session, stack, last]).map_err(self.failed())?;
            }
            let samples = "DELETE FROM sequence_sample WHERE database = ?1 AND ordinal < (
                 SELECT max(ordinal) FROM sequence_sample WHERE database = ?1 AND ordinal <= ?2)";
            transaction.execute(samples, params![database, first]).map_err(self.failed())?;
            Ok(gone)
        })
    }
}

#[cfg(test)]
mod tests {
    use ptr_model::{Lsn, Position, Timestamp};

    use super::*;
    use crate::{MoveOutcome, MoveStep, NewCheckpoint, NewMove, SequenceSample};

    fn at(ordinal: u64) -> Position {
        Position { ordinal, lsn: Lsn(ordinal * 16), entry_index: ordinal }
    }

    #[test]
    fn a_history_goes_whole_and_leaves_its_name_and_its_sessions() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&folder.path().join("catalog.sqlite")).unwrap();
        let session = catalog.ensure_default_session("shop", "replica").unwrap();
        catalog.ensure_fixed_checkpoints("shop", at(0), Timestamp(0)).unwrap();
        let new = NewCheckpoint {
            name: "before".into(),
            database: "shop".into(),
            description: String::new(),
            position: at(3),
            session_id: Some(session.id),
            hash: None,
        };
        let made = catalog.create_checkpoint(&new).unwrap();
        catalog.save_sequences("shop", &SequenceSample { position: at(3), states: Vec::new() }).unwrap();
        let step = NewMove {
            session_id: session.id,
            step: MoveStep::Navigate,
            from: Some(at(0)),
            to: at(3),
            strategy: "redo".into(),
        };
        let moved = catalog.begin_move(&step).unwrap();
        catalog.finish_move(moved.id, &MoveOutcome::Done, at(3)).unwrap();

        catalog.set_history_aside("shop", "shop@1").unwrap();
        // As if it had been interrupted here, and somebody had looked at the log since.
        catalog.ensure_fixed_checkpoints("shop", at(0), Timestamp(0)).unwrap();
        catalog.set_history_aside("shop", "shop@1").unwrap();

        assert_eq!(catalog.checkpoints(Some("shop")).unwrap(), []);
        let names: Vec<String> =
            catalog.checkpoints(Some("shop@1")).unwrap().into_iter().map(|one| one.name).collect();
        assert_eq!(names, ["CREATION", "MIGRATION", "before"]);
        assert_eq!(catalog.checkpoint(made.id).unwrap().position, at(3));
        assert_eq!(catalog.sequences_at("shop", at(9)).unwrap(), None);
        assert!(catalog.sequences_at("shop@1", at(9)).unwrap().is_some());
        assert_eq!(catalog.move_to_undo(session.id).unwrap(), None);
        assert_eq!(catalog.sessions().unwrap()[0].database, "shop");

        // What somebody named, or replays, is not forgotten.
        assert!(!catalog.forget_history("shop").unwrap() && !catalog.forget_history("shop@1").unwrap());
        catalog.delete_checkpoint(made.id).unwrap();
        assert!(catalog.forget_history("shop@1").unwrap());
        assert_eq!(catalog.checkpoints(Some("shop@1")).unwrap(), []);
        assert_eq!(catalog.sequences_at("shop@1", at(9)).unwrap(), None);
    }

    #[test]
    fn moves_that_lead_before_the_beginning_and_those_before_them_cannot_be_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&folder.path().join("catalog.sqlite")).unwrap();
        let id = catalog.ensure_default_session("shop", "replica").unwrap().id;
        let go = |step, from: u64, to: u64| {
            let (from, to, strategy) = (Some(at(from)), at(to), "redo".to_owned());
            let moved = catalog.begin_move(&NewMove { session_id: id, step, from, to, strategy }).unwrap();
            catalog.finish_move(moved.id, &MoveOutcome::Done, at(to.ordinal)).unwrap();
        };
        for ordinal in [1, 4, 6, 9] {
            catalog
                .save_sequences("shop", &SequenceSample { position: at(ordinal), states: Vec::new() })
                .unwrap();
        }
        for (from, to) in [(0, 50), (50, 5), (5, 60), (60, 70), (70, 80)] {
            go(MoveStep::Navigate, from, to);
        }
        go(MoveStep::Undo, 80, 70);
        assert_eq!(catalog.begin_history_at("other", at(7)).unwrap(), 0);
        assert_eq!(catalog.begin_history_at("shop", at(7)).unwrap(), 3);
        assert_eq!(catalog.move_to_redo(id).unwrap().unwrap().to, at(80));
        assert_eq!(catalog.move_to_undo(id).unwrap().unwrap().from, Some(at(60)));
        go(MoveStep::Undo, 70, 60);
        assert_eq!(catalog.move_to_undo(id).unwrap(), None);
        assert_eq!(catalog.move_to_redo(id).unwrap().unwrap().to, at(70));
        // The sample that is in force at the beginning stays.
        let sampled =
            |ordinal| catalog.sequences_at("shop", at(ordinal)).unwrap().map(|found| found.position);
        assert_eq!((sampled(5), sampled(7), sampled(9)), (None, Some(at(6)), Some(at(9))));
        // One that can be made again leads there: then none of them can.
        assert_eq!(catalog.begin_history_at("shop", at(65)).unwrap(), 2);
        assert_eq!((catalog.move_to_redo(id).unwrap(), catalog.moves(id, 99).unwrap().len()), (None, 7));
    }
}
