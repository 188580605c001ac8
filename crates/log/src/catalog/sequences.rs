//! Samples of the primary's sequences, which the stream does not carry: one for a position, the first.

use ptr_model::{Position, SequenceState};
use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::{Catalog, CatalogError, position_columns, position_of};

/// What the sequences of a database held at a position, or soon after it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SequenceSample {
    /// The position. Where nobody wrote, the sample is exact there; else it may be ahead, never behind.
    pub position: Position,
    /// The sequences.
    pub states: Vec<SequenceState>,
}

impl Catalog {
    /// Keeps a sample, unless there is one of the same position: that is nearer to it. What was sampled later holds
    /// what happened since, such as a `nextval` that was rolled back.
    ///
    /// # Errors
    /// [`CatalogError::Database`].
    pub fn save_sequences(&self, database: &str, sample: &SequenceSample) -> Result<(), CatalogError> {
        let states = serde_json::to_string(&sample.states).expect("names and numbers are JSON");
        let [ordinal, lsn, entry_index] = position_columns(sample.position);
        self.change(|transaction| {
            let sql = "INSERT OR IGNORE INTO sequence_sample (database, ordinal, lsn, entry_index, states)
                 VALUES (?1, ?2, ?3, ?4, ?5)";
            transaction
                .execute(sql, params![database, ordinal, lsn, entry_index, states])
                .map_err(self.failed())
                .map(drop)
        })
    }

    /// The sample of the last position that is not after `position`.
    ///
    /// # Errors
    /// [`CatalogError::Database`].
    pub fn sequences_at(
        &self,
        database: &str,
        position: Position,
    ) -> Result<Option<SequenceSample>, CatalogError> {
        let [ordinal, ..] = position_columns(position);
        self.ask(|connection| {
            let sql = "SELECT ordinal, lsn, entry_index, states FROM sequence_sample
                 WHERE database = ?1 AND ordinal <= ?2 ORDER BY ordinal DESC LIMIT 1";
            connection
                .query_row(sql, params![database, ordinal], |row| {
                    let text: String = row.get(3)?;
                    let states = serde_json::from_str(&text).map_err(|error| {
                        rusqlite::Error::FromSqlConversionFailure(
                            3,
                            rusqlite::types::Type::Text,
                            error.into(),
                        )
                    })?;
                    Ok(SequenceSample { position: position_of(row, 0)?, states })
                })
                .optional()
                .map_err(self.failed())
        })
    }
}

#[cfg(test)]
mod tests {
    use ptr_model::Lsn;

    use super::*;

    #[test]
    fn the_last_sample_not_after_a_position_is_found_and_the_first_of_a_position_stays() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&folder.path().join("catalog.sqlite")).unwrap();
        let sample = |ordinal, last_value| SequenceSample {
            position: Position { ordinal, lsn: Lsn(ordinal * 10), entry_index: ordinal },
            states: vec![SequenceState { schema: "s".into(), name: "n".into(), last_value, is_called: true }],
        };
        let at = |ordinal| catalog.sequences_at("a", sample(ordinal, 0).position).unwrap();
        for one in [sample(2, 20), sample(5, 50), sample(5, 51)] {
            catalog.save_sequences("a", &one).unwrap();
        }
        catalog.save_sequences("b", &sample(1, 10)).unwrap();
        assert_eq!(at(1), None);
        assert_eq!(at(4), Some(sample(2, 20)));
        assert_eq!(at(5), Some(sample(5, 50)));
    }
}
