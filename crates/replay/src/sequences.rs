//! Sequences of the replica: never behind the rows that were replayed, exact where a sample says what they held.
//!
//! The stream carries no sequence values. What is known are samples, taken at checkpoints, and the rows whose
//! columns a sequence fills. `setval` is not transactional: what goes forward is set before the rows' commit, so
//! that a crash leaves a sequence ahead at worst; what may go back is set after it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use ptr_log::SequenceSample;
use ptr_model::{Change, Datum, Oid, Relation, Tuple};
use tokio_postgres::Client;

use crate::{
    apply::Statements,
    catalog::{Direction, TableFacts},
    database::{DatabaseError, Doing},
};

/// How far the rows that were seen have taken the sequences that fill their columns.
#[derive(Debug, Default)]
pub(crate) struct SequenceWatch {
    filled: HashMap<Oid, Vec<Filled>>,
    furthest: BTreeMap<u32, i64>,
}

/// A column, by its place in the relation, that a sequence fills.
#[derive(Clone, Copy, Debug)]
struct Filled {
    column: usize,
    sequence: u32,
    direction: Direction,
}

impl SequenceWatch {
    /// Learns which columns of a relation sequences fill, in the place of what was known of it.
    pub(crate) fn learn(&mut self, relation: &Arc<Relation>, facts: &TableFacts) {
        let filled = facts.sequences.iter().filter_map(|filling| {
            let column = relation.columns.iter().position(|column| column.name == filling.column)?;
            Some(Filled { column, sequence: filling.sequence, direction: filling.direction })
        });
        self.filled.insert(relation.oid, filled.collect());
    }

    /// Sees a row that came or changed.
    pub(crate) fn see(&mut self, change: &Change) {
        let (Change::Insert { relation, new } | Change::Update { relation, new, .. }) = change else {
            return;
        };
        for filled in self.filled.get(&relation.oid).map_or(&[][..], Vec::as_slice) {
            let Some(value) = integer(new, filled.column) else { continue };
            reach(&mut self.furthest, filled.sequence, filled.direction, value);
        }
    }

    /// A sequence filled a column with this.
    pub(crate) fn reach(&mut self, sequence: u32, direction: Direction, value: i64) {
        reach(&mut self.furthest, sequence, direction, value);
    }

    /// Takes the sequences as far as the rows that were seen; never back.
    pub(crate) async fn advance(
        &mut self,
        client: &Client,
        statements: &mut Statements,
    ) -> Result<(), DatabaseError> {
        if self.furthest.is_empty() {
            return Ok(());
        }
        let doing = "advance sequences";
        let statement = statements.get(client, ADVANCE).await.doing(doing)?;
        let (sequences, values): (Vec<u32>, Vec<i64>) =
            std::mem::take(&mut self.furthest).into_iter().unzip();
        client.execute(&statement, &[&sequences, &values]).await.doing(doing).map(drop)
    }

    /// Forgets rows that were taken back.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

fn reach(furthest: &mut BTreeMap<u32, i64>, sequence: u32, direction: Direction, value: i64) {
    let furthest = furthest.entry(sequence).or_insert(value);
    *furthest = match direction {
        Direction::Ascending => value.max(*furthest),
        Direction::Descending => value.min(*furthest),
    };
}

fn integer(tuple: &Tuple, column: usize) -> Option<i64> {
    match tuple.0.get(column)? {
        Datum::Text(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        Datum::Null | Datum::UnchangedToast | Datum::Binary(_) => None,
    }
}

/// A sequence that was never called starts at its start value, which a row may well be short of.
const ADVANCE: &str = "
    SELECT pg_catalog.setval(q.seqrelid::regclass, s.value)
    FROM unnest($1::oid[], $2::bigint[]) AS s (sequence, value)
    JOIN pg_catalog.pg_sequence q ON q.seqrelid = s.sequence
    WHERE s.value BETWEEN q.seqmin AND q.seqmax
      AND CASE WHEN pg_catalog.pg_sequence_last_value(q.seqrelid::regclass) IS NULL
            THEN (s.value - q.seqstart)::numeric * sign(q.seqincrement) >= 0
            ELSE (s.value - pg_catalog.pg_sequence_last_value(q.seqrelid::regclass))::numeric * sign(q.seqincrement) > 0
          END";

/// `$5`: whether the sample is of this very position. One of an earlier position only takes sequences forward.
const RESTORE: &str = "
    SELECT pg_catalog.setval(q.seqrelid::regclass, s.last_value, s.is_called)
    FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bool[]) AS s (schema, name, last_value, is_called)
    JOIN pg_catalog.pg_namespace n ON n.nspname = s.schema
    JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = s.name
    JOIN pg_catalog.pg_sequence q ON q.seqrelid = c.oid
    WHERE s.last_value BETWEEN q.seqmin AND q.seqmax
      AND ($5 OR s.is_called AND CASE WHEN pg_catalog.pg_sequence_last_value(q.seqrelid::regclass) IS NULL
            THEN (s.last_value - q.seqstart)::numeric * sign(q.seqincrement) >= 0
            ELSE (s.last_value - pg_catalog.pg_sequence_last_value(q.seqrelid::regclass))::numeric * sign(q.seqincrement) > 0
          END)";

/// Sequences that one statement locks, of which the server has room for so many.
const AT_ONCE: usize = 500;

/// Gives the sequences that are still there what a sample says. Where `exact`, also back.
pub(crate) async fn restore(
    client: &Client,
    statements: &mut Statements,
    sample: &SequenceSample,
    exact: bool,
) -> Result<(), DatabaseError> {
    let doing = "restore sequences";
    for states in sample.states.chunks(AT_ONCE) {
        let schemas: Vec<&str> = states.iter().map(|state| state.schema.as_str()).collect();
        let names: Vec<&str> = states.iter().map(|state| state.name.as_str()).collect();
        let values: Vec<i64> = states.iter().map(|state| state.last_value).collect();
        let called: Vec<bool> = states.iter().map(|state| state.is_called).collect();
        let statement = statements.get(client, RESTORE).await.doing(doing)?;
        client.execute(&statement, &[&schemas, &names, &values, &called, &exact]).await.doing(doing)?;
    }
    Ok(())
}
