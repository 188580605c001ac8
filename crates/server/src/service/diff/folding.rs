//! Folds a range of the log to its net difference, in bounded memory, on two threads.
//!
//! Each thread reads and folds a half of the range. What a table comes to in a half is a run of folds, because a TRUNCATE
//! of it and another shape of it end one: the last fold of the earlier half and the first of the later one are folded
//! together. Other tables go on: theirs is one fold, so that it is net.
//!
//! A difference that needs too much memory is folded in several passes over the range, each of a share of the rows.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use ptr_log::{Item, Log};
use ptr_model::{Change, Oid, Position, Relation};
use ptr_replay::fold::{Fold, Membership, Pushed, RowIdentity, Share, TableEffect};

use super::{Difference, Wanted, name};
use crate::{
    resource::diff::DiffAnswer,
    service::{ServiceError, search::Keys},
};

/// The memory that a fold may take before the rows are divided. Two halves of a range are two folds: most of the rows that
/// change in one often change in the other, and half of this for each would divide them, and read the range twice.
const LARGE_FOLD: usize = 48 << 20;

/// The memory that they may take where there are few rows or no more shares.
const LARGEST_FOLD: usize = 512 << 20;

/// So many rows are too few to be divided: each is large.
const FEW_ROWS: usize = 64;

/// Into how many shares the rows are divided at most.
const MOST_SHARES: u64 = 64;

/// Entries that are worth a second thread.
const MANY_ENTRIES: u64 = 20_000;

/// Why a pass over the range came to nothing.
enum Halt {
    /// The fold needs more memory than it may take: so many transactions were too many, of so many.
    TooLarge {
        folded: u64,
        of: u64,
    },
    /// The keys do not hold for the range.
    OtherKeys,
    Failed(ServiceError),
}

impl<E: Into<ServiceError>> From<E> for Halt {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// What lies between two positions.
pub(super) fn net_difference(
    log: &Log,
    from: Position,
    to: Position,
    wanted: &Wanted,
    keys: &Keys,
) -> Result<DiffAnswer, ServiceError> {
    let no_keys = Keys::new();
    let (mut keys, mut shares) = (keys, 1);
    loop {
        let range = from.min(to)..from.max(to);
        let all = Pass {
            log,
            backward: to < from,
            wanted,
            keys,
            share: Share::default(),
            last: shares >= MOST_SHARES,
        };
        match all.in_shares(shares, &range) {
            Ok(difference) => match difference.in_several_folds().filter(|_| wanted.as_statements) {
                Some(table) => return Err(several_folds(table)),
                None => return Ok(difference.answer(from, to)),
            },
            Err(Halt::TooLarge { folded, of }) if shares < MOST_SHARES => {
                shares = more_shares(shares, folded, of);
            }
            Err(Halt::TooLarge { .. }) => return Err(too_large()),
            // A key of today was none then. All values always are.
            Err(Halt::OtherKeys) if !keys.is_empty() => keys = &no_keys,
            Err(Halt::OtherKeys) => return Err(too_little()),
            Err(Halt::Failed(error)) => return Err(error),
        }
    }
}

/// Into how many shares to divide the rows where a share was too large after `folded` of `all` transactions: as if the
/// others were of new rows too, for a pass that is broken off is for nothing. At least twice as many.
fn more_shares(shares: u64, folded: u64, all: u64) -> u64 {
    let expected = shares.saturating_mul(all).div_ceil(folded.max(1));
    expected.max(shares * 2).min(MOST_SHARES)
}

fn too_large() -> ServiceError {
    ServiceError::precondition(
        format!("the difference is larger than {} GB", (MOST_SHARES * LARGE_FOLD as u64) >> 30),
        "ask for one table with table=, or for two positions that are nearer",
    )
}

fn too_little() -> ServiceError {
    ServiceError::precondition(
        "the log holds too little of some rows to tell what became of them",
        "ask for one table with table=, or for detail=stat",
    )
}

/// A row may be in each of the folds, and statements tell rows apart by what they are before all of them or after.
fn several_folds(table: &str) -> ServiceError {
    ServiceError::precondition(
        format!("{table} was defined anew between, so no statements lead from the one to the other"),
        "take positions on one side of the change (`log --op ddl` shows where it is), or navigate",
    )
}

/// One pass over a range, for one share of its rows.
#[derive(Clone, Copy)]
struct Pass<'a> {
    log: &'a Log,
    backward: bool,
    wanted: &'a Wanted,
    keys: &'a Keys,
    share: Share,
    /// Whether there are no smaller shares.
    last: bool,
}

impl Pass<'_> {
    fn in_shares(self, shares: u64, range: &Range<Position>) -> Result<Difference, Halt> {
        let mut whole = Difference::new(self.backward, self.wanted.limit);
        for share in Share::all(shares) {
            // Each pass meets them all.
            whole.schema_changes.clear();
            whole.append(Self { share, ..self }.run(range)?);
        }
        Ok(whole)
    }

    fn run(self, range: &Range<Position>) -> Result<Difference, Halt> {
        let (from, to) = (range.start.ordinal, range.end.ordinal);
        let halted = AtomicBool::new(false);
        let Some(middle) = self.middle(range)? else {
            let mut only = Stretch::new(self, LARGE_FOLD, false);
            only.read(from..to, &halted)?;
            return Ok(only.end());
        };
        let half = |range: Range<u64>, is_later: bool| {
            let mut stretch = Stretch::new(self, LARGE_FOLD, is_later);
            let outcome = stretch.read(range, &halted);
            // What the other does is for nothing then.
            halted.fetch_or(outcome.is_err(), Ordering::Relaxed);
            outcome.map(|()| stretch)
        };
        let (earlier, later) = std::thread::scope(|scope| {
            let later = scope.spawn(|| half(middle..to, true));
            (half(from..middle, false), later.join().expect("folding does not panic"))
        });
        earlier?.followed_by(later?)
    }

    /// The transaction with which the second half of the entries begins.
    fn middle(self, range: &Range<Position>) -> Result<Option<u64>, ServiceError> {
        let (first, end) = (range.start.entry_index, range.end.entry_index);
        if end.saturating_sub(first) < MANY_ENTRIES {
            return Ok(None);
        }
        let found = self.log.transaction_of_entry(first + (end - first) / 2)?;
        let within = range.start.ordinal + 1..range.end.ordinal;
        Ok(found.map(|transaction| transaction.ordinal).filter(|ordinal| within.contains(ordinal)))
    }
}

/// A stretch of the range, as far as it was read.
struct Stretch<'a> {
    pass: Pass<'a>,
    /// The memory that its folds may take.
    most: usize,
    /// Each table that was met, in order of first appearance.
    tables: Vec<TableFold>,
    by_oid: HashMap<Oid, usize>,
    /// Bytes and rows that the tables hold.
    bytes: usize,
    rows: usize,
    /// What the folds before came to.
    done: Difference,
    /// Whether another stretch comes before it.
    is_later: bool,
    /// Transactions that were begun.
    begun: u64,
}

/// The folds of one table.
struct TableFold {
    /// The one that goes on.
    fold: Fold,
    /// What its first fold came to, which goes together with what came before. Of an earlier half it is done.
    first: First,
}

/// What became of the first fold of a table.
enum First {
    /// Nothing comes before it: it is done like the others.
    Done,
    /// It goes on.
    Open,
    /// It has ended.
    Ended(Vec<TableEffect>),
}

impl<'a> Stretch<'a> {
    fn new(pass: Pass<'a>, most: usize, is_later: bool) -> Self {
        Self {
            pass,
            most,
            tables: Vec::new(),
            by_oid: HashMap::new(),
            bytes: 0,
            rows: 0,
            done: Difference::new(pass.backward, pass.wanted.limit),
            is_later,
            begun: 0,
        }
    }

    fn read(&mut self, range: Range<u64>, halted: &AtomicBool) -> Result<(), Halt> {
        let of = range.end - range.start;
        for item in self.pass.log.read(range.start, range.end)? {
            match item? {
                Item::Change(change) => self.add(change)?,
                Item::Begin(_) if halted.load(Ordering::Relaxed) => return Ok(()),
                Item::Begin(_) => self.begun += 1,
                Item::Commit => {}
            }
            if self.is_too_large() {
                return Err(Halt::TooLarge { folded: self.begun, of });
            }
        }
        Ok(())
    }

    /// Whether the rows that it holds are to be divided.
    fn is_too_large(&self) -> bool {
        let is_indivisible = self.pass.last || self.rows <= FEW_ROWS;
        self.bytes > if is_indivisible { LARGEST_FOLD } else { self.most }
    }

    fn add(&mut self, change: Change) -> Result<(), Halt> {
        match &change {
            Change::Schema(schema) if schema.is_entry => {
                self.done.schema_changes.push(schema.statement.shown());
            }
            Change::Truncate { relations, .. } => {
                for emptied in relations.iter().filter(|relation| self.pass.wanted.takes(relation)) {
                    let table = self.table(emptied);
                    self.end_fold(table);
                    self.done.add_emptied(emptied);
                }
            }
            Change::Insert { relation, .. }
            | Change::Update { relation, .. }
            | Change::Delete { relation, .. } => {
                if self.pass.wanted.takes(relation) {
                    let relation = Arc::clone(relation);
                    self.fold(&relation, change)?;
                }
            }
            Change::Schema(_) | Change::Rows(_) | Change::Gap(_) | Change::Message(_) => {}
        }
        Ok(())
    }

    fn fold(&mut self, relation: &Arc<Relation>, change: Change) -> Result<(), Halt> {
        let index = self.table(relation);
        let mut membership = self.tables[index].fold.membership(relation);
        if membership == Membership::Outdated {
            self.end_fold(index);
            membership = Membership::New;
        }
        let fold = &mut self.tables[index].fold;
        if membership == Membership::New {
            fold.add_table(Arc::clone(relation), identity(relation, self.pass.keys));
        }
        let (bytes, rows) = (fold.bytes(), fold.rows());
        if !matches!(fold.push(change), Ok(Pushed::Folded)) {
            return Err(Halt::OtherKeys);
        }
        self.bytes = self.bytes + fold.bytes() - bytes;
        self.rows = self.rows + fold.rows() - rows;
        Ok(())
    }

    /// Where the table of this relation is among those that were met.
    fn table(&mut self, relation: &Relation) -> usize {
        *self.by_oid.entry(relation.oid).or_insert_with(|| {
            let mut fold = Fold::of(self.pass.share);
            // Nothing is left out of a difference, and a key of today may have been none then.
            fold.compare_images();
            let first = if self.is_later { First::Open } else { First::Done };
            self.tables.push(TableFold { fold, first });
            self.tables.len() - 1
        })
    }

    /// Ends the fold of one table.
    fn end_fold(&mut self, index: usize) {
        let TableFold { fold, first } = &mut self.tables[index];
        let (bytes, rows) = (fold.bytes(), fold.rows());
        let effects = fold.take();
        match first {
            // It is held further on.
            First::Open => *first = First::Ended(effects),
            First::Done | First::Ended(_) => {
                self.done.add(&effects);
                self.bytes -= bytes;
                self.rows -= rows;
            }
        }
    }

    /// What it comes to together with the stretch after it.
    fn followed_by(mut self, mut later: Self) -> Result<Difference, Halt> {
        for table in &mut later.tables {
            let joined = match std::mem::replace(&mut table.first, First::Done) {
                First::Ended(effects) => effects,
                First::Open | First::Done => table.fold.take(),
            };
            for change in joined.into_iter().flat_map(TableEffect::into_changes) {
                self.add(change)?;
            }
        }
        let mut whole = self.end();
        whole.append_later(later.end());
        Ok(whole)
    }

    fn end(mut self) -> Difference {
        for TableFold { fold, .. } in &mut self.tables {
            self.done.add(&fold.take());
        }
        self.done
    }
}

fn identity(relation: &Relation, keys: &Keys) -> RowIdentity {
    let index_of = |column: &String| relation.columns.iter().position(|known| known.name == *column);
    let key =
        keys.get(&name(relation)).map(|columns| columns.iter().map(index_of).collect::<Option<Vec<_>>>());
    match key.flatten() {
        Some(columns) if !columns.is_empty() => RowIdentity::Key { columns, others_unique: false },
        _ => RowIdentity::WholeRow,
    }
}

#[cfg(test)]
mod tests;
