//! The fold of a table without a key: a multiset of rows as text.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use ptr_model::{Datum, OldTuple, Relation, Tuple};

use super::{FoldError, RowChange, RowsEffect, Share, fill, has_holes, table_name, weight};

/// How many copies of each row came (positive) or went (negative), in order of first appearance.
#[derive(Debug)]
pub(super) struct Bag {
    counts: Vec<i64>,
    by_row: HashMap<Tuple, usize, RandomState>,
    bytes: usize,
    share: Share,
}

impl Bag {
    pub(super) fn new(share: Share) -> Self {
        Self { counts: Vec::new(), by_row: HashMap::default(), bytes: 0, share }
    }

    pub(super) fn push(&mut self, relation: &Relation, change: RowChange) -> Result<(), FoldError> {
        match change {
            RowChange::Insert(new) => self.count(relation, new, 1),
            RowChange::Delete(old) => self.count(relation, full(relation, old)?, -1),
            RowChange::Update(old, mut new) => {
                let old = full(relation, old)?;
                fill(&mut new, |index| Some(old.0[index].clone()));
                self.count(relation, old, -1)?;
                self.count(relation, new, 1)
            }
        }
    }

    fn count(&mut self, relation: &Relation, row: Tuple, copies: i64) -> Result<(), FoldError> {
        let binary = row.0.iter().any(|datum| matches!(datum, Datum::Binary(_)));
        if has_holes(&row) || binary {
            let what = "all values as text";
            return Err(FoldError::Incomplete { table: table_name(relation), what });
        }
        if !self.share.has(&row) {
            return Ok(());
        }
        let index = *self.by_row.entry(row).or_insert_with_key(|row| {
            self.bytes += weight(row);
            self.counts.push(0);
            self.counts.len() - 1
        });
        self.counts[index] += copies;
        Ok(())
    }

    /// Bytes and rows.
    pub(super) fn held(&self) -> (usize, usize) {
        (self.bytes, self.counts.len())
    }

    pub(super) fn into_effect(self) -> RowsEffect {
        let mut rows: Vec<(usize, Tuple)> =
            self.by_row.into_iter().map(|(row, index)| (index, row)).collect();
        rows.sort_unstable_by_key(|(index, _)| *index);
        let (mut removed, mut added) = (Vec::new(), Vec::new());
        for (index, row) in rows {
            let copies = self.counts[index];
            match copies.signum() {
                1 => added.push((row, copies.unsigned_abs())),
                -1 => removed.push((row, copies.unsigned_abs())),
                _ => {}
            }
        }
        RowsEffect::Counted { removed, added }
    }
}

fn full(relation: &Relation, old: OldTuple) -> Result<Tuple, FoldError> {
    match old {
        OldTuple::Full(tuple) => Ok(tuple),
        OldTuple::Key(_) | OldTuple::Unchanged => Err(FoldError::Incomplete {
            table: table_name(relation),
            what: "the whole old row (the table had no REPLICA IDENTITY FULL, and no key that was sent whole; doctor names such tables)",
        }),
    }
}
