//! The net effect of a range of changes, per table and row.
//!
//! Changes go in in log order; what comes out says for each row only what it was first and what it is last.
//! Pure: the way rows are told apart ([`RowIdentity`]) is decided outside, from the catalog.
//!
//! Invariants: applying the effects of consecutive folds one after the other gives the same contents as
//! applying each change; the effects of one fold are independent of each other between tables; a row that
//! comes and goes within the range is in no effect.

mod bag;
mod keyed;
mod share;

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;
use ptr_model::{Change, Datum, Oid, OldTuple, Relation, Tuple};
use ptr_postgres::QualifiedName;

use bag::Bag;
use keyed::Keyed;
pub use share::Share;

/// How rows of a table are told apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RowIdentity {
    /// By the values of these columns of the relation (indexes into `Relation::columns`): those of a unique
    /// index that is checked at once and holds no NULL, so that two rows never share them, not even within a
    /// statement.
    Key {
        /// The columns.
        columns: Vec<usize>,
        /// Whether other columns are under a unique or exclusion constraint too. Then a row that is known in
        /// part cannot be folded, because the order of such changes matters.
        others_unique: bool,
    },
    /// By all their values: rows are counted, as text.
    WholeRow,
}

/// The net effect on one table.
#[derive(Clone, PartialEq, Debug)]
pub struct TableEffect {
    /// The table, as it was in the range.
    pub relation: Arc<Relation>,
    /// The net effect on its rows.
    pub rows: RowsEffect,
}

/// The net effect on rows.
#[derive(Clone, PartialEq, Debug)]
pub enum RowsEffect {
    /// Rows told apart by a key.
    Keyed {
        /// The key's columns, as in [`RowIdentity::Key`].
        key: Vec<usize>,
        /// One for each key that is not as it was, in order of first appearance.
        rows: Vec<NetRow>,
    },
    /// Rows told apart by all their values.
    Counted {
        /// Rows that went away, and how many copies of each.
        removed: Vec<(Tuple, u64)>,
        /// Rows that came to be, and how many copies of each.
        added: Vec<(Tuple, u64)>,
    },
}

/// What became of the row of one key.
#[derive(Clone, PartialEq, Debug)]
pub enum NetRow {
    /// There was none, now there is this.
    Insert(Tuple),
    /// It went away.
    Delete(OldRow),
    /// It changed; `new` has the key of `old`. Columns that read `UnchangedToast` are as they were.
    Update {
        /// What it was.
        old: OldRow,
        /// What it is.
        new: Tuple,
    },
}

/// What is known of a row before the range.
#[derive(Clone, PartialEq, Debug)]
pub enum OldRow {
    /// All of it.
    Full(Tuple),
    /// The columns of its key; the others mean nothing.
    Key(Tuple),
}

impl OldRow {
    /// The image, of which only the key is sure to hold.
    #[must_use]
    pub fn tuple(&self) -> &Tuple {
        match self {
            Self::Full(tuple) | Self::Key(tuple) => tuple,
        }
    }
}

/// What became of a change given to [`Fold::push`].
#[derive(Clone, PartialEq, Debug)]
pub enum Pushed {
    /// It is part of the net effect.
    Folded,
    /// It cannot be folded: what was folded so far must be applied first, then this change by itself, as an
    /// update of the columns that `new` holds.
    Alone(LoneUpdate),
}

/// An update of a row known in part, whose key or other unique columns may change.
#[derive(Clone, PartialEq, Debug)]
pub struct LoneUpdate {
    /// The table.
    pub relation: Arc<Relation>,
    /// The key's columns.
    pub key: Vec<usize>,
    /// The key before, other columns mean nothing.
    pub old: Tuple,
    /// The row after; columns that read `UnchangedToast` stay.
    pub new: Tuple,
}

/// Changes that contradict each other or say too little.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FoldError {
    /// An INSERT of a row that is there.
    #[error("a row of table {table} is inserted whose key {key} exists already")]
    Exists {
        /// The table.
        table: QualifiedName,
        /// The key.
        key: String,
    },
    /// An UPDATE or DELETE of a row that is not there.
    #[error("a row of table {table} is changed whose key {key} does not exist")]
    Missing {
        /// The table.
        table: QualifiedName,
        /// The key.
        key: String,
    },
    /// An UPDATE or DELETE of another row than the one that has its key.
    #[error("a row of table {table} is changed that is not the one that has its key {key}")]
    Other {
        /// The table.
        table: QualifiedName,
        /// The key.
        key: String,
    },
    /// The log holds too little of a row.
    #[error("a change of table {table} was captured without {what}, which replay needs")]
    Incomplete {
        /// The table.
        table: QualifiedName,
        /// What is missing.
        what: &'static str,
    },
    /// A tuple of another shape than its relation.
    #[error("a row of table {table} was captured with {found} values for {expected} columns")]
    Shape {
        /// The table.
        table: QualifiedName,
        /// The relation's columns.
        expected: usize,
        /// The tuple's values.
        found: usize,
    },
}

/// Effects that cannot be turned round.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not all old rows of table {table} are fully known, so its changes cannot be undone, only redone")]
pub struct NotReversible {
    /// The table.
    pub table: QualifiedName,
}

/// The name of a relation.
#[must_use]
pub fn table_name(relation: &Relation) -> QualifiedName {
    QualifiedName::new(relation.schema.clone(), relation.name.clone())
}

/// Changes of rows, folded.
#[derive(Debug, Default)]
pub struct Fold {
    tables: Vec<Table>,
    by_oid: HashMap<Oid, usize, RandomState>,
    bytes: usize,
    rows: usize,
    share: Share,
    compares: bool,
    /// Whether old rows of what is added now count as known by their key only.
    by_key: bool,
}

#[derive(Debug)]
struct Table {
    relation: Arc<Relation>,
    rows: Rows,
}

#[derive(Debug)]
enum Rows {
    Keyed(Keyed),
    Bag(Bag),
}

/// What a kept row image costs in memory: its values, and as much again for the other image of its change, whose
/// buffer it shares; one [`Datum`] a value; its share of slots and maps.
fn weight(tuple: &Tuple) -> usize {
    const SLOT: usize = 96;
    2 * tuple.size() + tuple.0.len() * size_of::<Datum>() + SLOT
}

impl Fold {
    /// A fold of the rows of one share alone; it needs so much less memory, and the others' a pass each.
    #[must_use]
    pub fn of(share: Share) -> Self {
        Self { share, ..Self::default() }
    }

    /// Empty, and otherwise as this one.
    #[must_use]
    pub fn anew(&self) -> Self {
        Self { share: self.share, compares: self.compares, ..Self::default() }
    }

    /// From now on takes a row of a key that it has met for that row only if it is the one that it knows: then a key that
    /// does not hold is noticed ([`FoldError::Other`]). Where changes were left out, rows may be others and be right.
    pub fn compare_images(&mut self) {
        self.compares = true;
    }

    /// Whether the old rows of changes that are added from now on count as known by their key only. Behind a change that
    /// was left out a row may be another than the log says; then each change sets all of it, and what it holds does not
    /// depend on which changes are folded together.
    pub fn know_old_rows_by_key(&mut self, by_key: bool) {
        self.by_key = by_key;
    }

    /// Whether the table of this relation is in the fold already, with the same columns and identity. A table
    /// that is in it with others has to be applied first: [`Membership::Outdated`].
    #[must_use]
    pub fn membership(&self, relation: &Arc<Relation>) -> Membership {
        match self.by_oid.get(&relation.oid).map(|index| &self.tables[*index].relation) {
            None => Membership::New,
            Some(known) if Arc::ptr_eq(known, relation) || known == relation => Membership::Known,
            Some(_) => Membership::Outdated,
        }
    }

    /// Adds a table. Only for relations whose [`Fold::membership`] is [`Membership::New`].
    pub fn add_table(&mut self, relation: Arc<Relation>, identity: RowIdentity) {
        self.by_oid.insert(relation.oid, self.tables.len());
        let rows = match identity {
            RowIdentity::Key { columns, others_unique } => {
                Rows::Keyed(Keyed::new(columns, others_unique, self.share, self.compares))
            }
            RowIdentity::WholeRow => Rows::Bag(Bag::new(self.share)),
        };
        self.tables.push(Table { relation, rows });
    }

    /// Adds a change of one row, of a table that was added. Other changes do not belong into a fold and are
    /// left alone.
    pub fn push(&mut self, change: Change) -> Result<Pushed, FoldError> {
        let (relation, change) = match change {
            Change::Insert { relation, new } => (relation, RowChange::Insert(new)),
            Change::Update { relation, old, new } => (relation, RowChange::Update(old, new)),
            Change::Delete { relation, old } => (relation, RowChange::Delete(old)),
            _ => return Ok(Pushed::Folded),
        };
        let index = *self.by_oid.get(&relation.oid).expect("the table was added before its changes");
        change.check(&relation)?;
        let table = &mut self.tables[index];
        // The reader announces a relation anew with each block; with the newest at hand the next change of the
        // table is recognised by its address.
        table.relation = relation;
        let (bytes, rows) = table.rows.held();
        let by_key = self.by_key;
        let pushed = match &mut table.rows {
            Rows::Keyed(keyed) => keyed.push(&table.relation, change, by_key),
            Rows::Bag(bag) => bag.push(&table.relation, change).map(|()| Pushed::Folded),
        };
        let (held, count) = table.rows.held();
        self.bytes = self.bytes + held - bytes;
        self.rows = self.rows + count - rows;
        pushed
    }

    /// Bytes of memory, roughly, that it holds. However often a row changes, it is held once before and once after.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Tables that it holds rows of.
    #[must_use]
    pub fn tables(&self) -> usize {
        self.tables.len()
    }

    /// Rows that it holds.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The net effect, in order of the tables' first appearance. The fold is empty afterwards. Tables that
    /// are in the end as they were are left out.
    pub fn take(&mut self) -> Vec<TableEffect> {
        self.by_oid.clear();
        self.bytes = 0;
        self.rows = 0;
        let effects = self.tables.drain(..).map(|table| TableEffect {
            relation: table.relation,
            rows: match table.rows {
                Rows::Keyed(keyed) => keyed.into_effect(),
                Rows::Bag(bag) => bag.into_effect(),
            },
        });
        effects.filter(|effect| !effect.is_empty()).collect()
    }
}

impl Rows {
    /// Bytes and rows.
    fn held(&self) -> (usize, usize) {
        match self {
            Self::Keyed(keyed) => keyed.held(),
            Self::Bag(bag) => bag.held(),
        }
    }
}

/// Whether a table is in a fold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Membership {
    /// It is not.
    New,
    /// It is.
    Known,
    /// It is, but was another then.
    Outdated,
}

impl TableEffect {
    /// The table's name.
    #[must_use]
    pub fn table(&self) -> QualifiedName {
        table_name(&self.relation)
    }

    /// Whether the table is as it was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match &self.rows {
            RowsEffect::Keyed { rows, .. } => rows.is_empty(),
            RowsEffect::Counted { removed, added } => removed.is_empty() && added.is_empty(),
        }
    }

    /// The changes that, one after the other, have this effect: what a fold of what comes later adds to one of what
    /// comes before.
    pub fn into_changes(self) -> Box<dyn Iterator<Item = Change>> {
        let relation = self.relation;
        match self.rows {
            RowsEffect::Keyed { rows, .. } => {
                Box::new(rows.into_iter().map(move |row| row.into_change(Arc::clone(&relation))))
            }
            RowsEffect::Counted { removed, added } => {
                let gone =
                    removed.into_iter().map(|(tuple, copies)| (NetRow::Delete(OldRow::Full(tuple)), copies));
                let come = added.into_iter().map(|(tuple, copies)| (NetRow::Insert(tuple), copies));
                let all = gone.chain(come).flat_map(|(row, copies)| (0..copies).map(move |_| row.clone()));
                Box::new(all.map(move |row| row.into_change(Arc::clone(&relation))))
            }
        }
    }

    /// The effect that takes this one back.
    ///
    /// # Errors
    /// [`NotReversible`] where an old row is known by its key only.
    pub fn reversed(self) -> Result<Self, NotReversible> {
        let table = self.table();
        let rows = match self.rows {
            RowsEffect::Counted { removed, added } => RowsEffect::Counted { removed: added, added: removed },
            RowsEffect::Keyed { key, rows } => {
                let rows: Option<Vec<_>> = rows.into_iter().map(NetRow::reversed).collect();
                RowsEffect::Keyed { key, rows: rows.ok_or(NotReversible { table })? }
            }
        };
        Ok(Self { relation: self.relation, rows })
    }
}

impl NetRow {
    fn into_change(self, relation: Arc<Relation>) -> Change {
        let image = |old| match old {
            OldRow::Full(tuple) => OldTuple::Full(tuple),
            OldRow::Key(tuple) => OldTuple::Key(tuple),
        };
        match self {
            Self::Insert(new) => Change::Insert { relation, new },
            Self::Delete(old) => Change::Delete { relation, old: image(old) },
            Self::Update { old, new } => Change::Update { relation, old: image(old), new },
        }
    }

    fn reversed(self) -> Option<Self> {
        match self {
            Self::Insert(new) => Some(Self::Delete(OldRow::Full(new))),
            Self::Delete(OldRow::Full(old)) => Some(Self::Insert(old)),
            Self::Update { old: OldRow::Full(old), new } => {
                Some(Self::Update { old: OldRow::Full(new), new: old })
            }
            Self::Delete(OldRow::Key(_)) | Self::Update { old: OldRow::Key(_), .. } => None,
        }
    }
}

/// A change of one row.
enum RowChange {
    Insert(Tuple),
    Update(OldTuple, Tuple),
    Delete(OldTuple),
}

impl RowChange {
    /// Checks that each tuple has a value for each column.
    fn check(&self, relation: &Relation) -> Result<(), FoldError> {
        let image = |old: &OldTuple| match old {
            OldTuple::Full(tuple) | OldTuple::Key(tuple) => shaped(tuple, relation),
            OldTuple::Unchanged => Ok(()),
        };
        match self {
            Self::Insert(new) if new.0.contains(&Datum::UnchangedToast) => {
                Err(FoldError::Incomplete { table: table_name(relation), what: "all values of an INSERT" })
            }
            Self::Insert(new) => shaped(new, relation),
            Self::Update(old, new) => image(old).and_then(|()| shaped(new, relation)),
            Self::Delete(old) => image(old),
        }
    }
}

fn shaped(tuple: &Tuple, relation: &Relation) -> Result<(), FoldError> {
    let (expected, found) = (relation.columns.len(), tuple.0.len());
    if expected == found {
        Ok(())
    } else {
        Err(FoldError::Shape { table: table_name(relation), expected, found })
    }
}

/// Fills what `new` leaves out because it did not change, as far as `known` knows it.
fn fill(new: &mut Tuple, known: impl Fn(usize) -> Option<Datum>) {
    for (index, datum) in new.0.iter_mut().enumerate() {
        if *datum == Datum::UnchangedToast
            && let Some(value) = known(index)
        {
            *datum = value;
        }
    }
}

fn has_holes(tuple: &Tuple) -> bool {
    tuple.0.contains(&Datum::UnchangedToast)
}

#[cfg(test)]
mod tests;
