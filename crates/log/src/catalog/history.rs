//! What the catalog knows of a whole history, taken to another name.

use rusqlite::params;

use super::{Catalog, CatalogError, checkpoint::CheckpointKind};

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
    }
}
