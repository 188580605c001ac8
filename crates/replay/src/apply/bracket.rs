//! What is open within a transaction: the start of a statement whose end comes later, rows still awaited.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use ptr_model::{Change, Gap, Relation, SchemaChange};
use ptr_postgres::QualifiedName;

use super::{Applier, captured_table};
use crate::error::ReplayError;

#[derive(Debug, Default)]
pub(super) struct Bracket {
    /// Open CREATE TABLE AS and SELECT INTO.
    table_as: u32,
    /// Open CREATE and ALTER EXTENSION.
    extensions: u32,
    /// What the rest of the transaction holds; `None` where not looked for yet.
    ahead: Option<Ahead>,
    /// Ends of CREATE TABLE AS that came before that.
    passed: usize,
    /// Tables that were rewritten and views that were filled, whose rows have to come next.
    awaited: BTreeSet<String>,
    /// Tables whose rows are not in the log, unless they come before the transaction ends.
    missed: BTreeMap<String, Gap>,
}

/// What a transaction still holds of statements whose rows come before their end.
#[derive(Debug)]
struct Ahead {
    /// Ends of CREATE TABLE AS, in order; an element `None` where it was run ahead, or is left out.
    tables: VecDeque<Option<SchemaChange>>,
    /// Whether the CREATE and ALTER EXTENSION that begin have an end, in order.
    extensions: VecDeque<bool>,
}

/// Where a statement begins or ends whose rows come in between, for [`super::Applier::foresee`].
#[derive(Clone, PartialEq, Debug)]
pub struct Boundary {
    /// Its event.
    pub change: SchemaChange,
    /// Whether it is left out, by a decision of the user's.
    pub is_left_out: bool,
}

pub(super) fn is_table_as(tag: &str) -> bool {
    matches!(tag, "CREATE TABLE AS" | "SELECT INTO")
}

pub(super) fn is_extension(tag: &str) -> bool {
    matches!(tag, "CREATE EXTENSION" | "ALTER EXTENSION")
}

fn is_start(change: &SchemaChange) -> bool {
    change.event == "ddl_command_start" && (is_table_as(&change.tag) || is_extension(&change.tag))
}

/// The event of a change, if a statement begins or ends there whose rows come in between.
pub(super) fn boundary(change: Change) -> Option<SchemaChange> {
    let Change::Schema(change) = change else { return None };
    let is_end = change.event == "ddl_command_end"
        && (change.is_entry && is_table_as(&change.tag) || is_extension(&change.tag));
    (is_end || is_start(&change)).then_some(*change)
}

/// Whether each CREATE and ALTER EXTENSION that begins has an end. One that found nothing to do (`IF NOT EXISTS`, an
/// UPDATE to the version that it has) tells only that it began. An end is that of the last one before it with the same
/// words; what began in between ran within its script, or found nothing to do there.
fn have_ends(boundaries: &[Boundary]) -> VecDeque<bool> {
    let mut have: VecDeque<bool> = VecDeque::new();
    let mut open: Vec<(usize, &SchemaChange)> = Vec::new();
    for change in
        boundaries.iter().map(|boundary| &boundary.change).filter(|change| is_extension(&change.tag))
    {
        if is_start(change) {
            open.push((have.len(), change));
            have.push_back(false);
            continue;
        }
        let same_tag = |(_, start): &(usize, &SchemaChange)| start.tag == change.tag;
        let same_words = |(_, start): &(usize, &SchemaChange)| start.statement == change.statement;
        let begun = open.iter().rposition(|start| same_tag(start) && same_words(start));
        if let Some(at) = begun.or_else(|| open.iter().rposition(same_tag)) {
            have[open[at].0] = true;
            open.truncate(at);
        }
    }
    have
}

impl Bracket {
    /// A statement begins whose end comes later, if it comes.
    pub(super) fn open(&mut self, tag: &str) {
        if is_extension(tag) {
            let has_end = self.ahead.as_mut().and_then(|ahead| ahead.extensions.pop_front());
            self.extensions += u32::from(has_end.unwrap_or_default());
        } else if is_table_as(tag) && self.extensions == 0 {
            self.table_as += 1;
        }
    }

    /// It ended.
    pub(super) fn close(&mut self, tag: &str) {
        if is_extension(tag) {
            self.extensions = self.extensions.saturating_sub(1);
        } else if is_table_as(tag) {
            self.table_as = self.table_as.saturating_sub(1);
        }
    }

    /// Whether what comes is done by an extension's script, which the statement itself will run.
    pub(super) fn skips(&self) -> bool {
        self.extensions > 0
    }

    /// Whether the rest of the transaction has to be looked at before this: rows of a CREATE TABLE AS come before
    /// its end, which says what table they are in; and only an end says that an extension's script ran.
    pub(super) fn needs_ends(&self, change: &Change) -> bool {
        matches!(change, Change::Schema(change) if self.ahead.is_none() && is_start(change))
    }

    /// `boundaries`: those of the whole transaction.
    pub(super) fn foresee(&mut self, boundaries: Vec<Boundary>) {
        let extensions = have_ends(&boundaries);
        let is_end = |boundary: &Boundary| is_table_as(&boundary.change.tag) && !is_start(&boundary.change);
        let ends = boundaries.into_iter().filter(is_end).skip(self.passed);
        let tables = ends.map(|end| (!end.is_left_out).then_some(end.change)).collect();
        self.ahead = Some(Ahead { tables, extensions });
    }

    /// The end of the open CREATE TABLE AS that makes `table`, to be run now.
    pub(super) fn take_ahead(&mut self, table: &QualifiedName) -> Option<SchemaChange> {
        let ahead = self.ahead.as_mut().filter(|_| self.table_as > 0)?;
        let makes = |end: &SchemaChange| captured_table::captured(end).iter().any(|made| made.is(table));
        ahead.tables.iter_mut().find(|end| end.as_ref().is_some_and(makes))?.take()
    }

    /// Whether the CREATE TABLE AS that ends here was run ahead.
    pub(super) fn was_made_ahead(&mut self) -> bool {
        let Some(ahead) = &mut self.ahead else {
            self.passed += 1;
            return false;
        };
        ahead.tables.pop_front().is_some_and(|end| end.is_none())
    }

    pub(super) fn await_rows(&mut self, relation: String) {
        self.awaited.insert(relation);
    }

    pub(super) fn rows_arrived(&mut self, relation: &str) {
        self.awaited.remove(relation);
        self.missed.remove(relation);
    }

    /// The rows of this table are not in the log from here on.
    pub(super) fn miss_rows(&mut self, relation: String, gap: Gap) {
        self.awaited.remove(&relation);
        self.missed.insert(relation, gap);
    }

    /// A table went away, and what was missing of it.
    pub(super) fn dropped(&mut self, relation: &str) {
        self.missed.remove(relation);
    }

    /// A table whose rows were not mended.
    pub(super) fn take_missed(&mut self) -> Option<Gap> {
        std::mem::take(&mut self.missed).into_values().next()
    }

    /// A table whose rows have to come next.
    pub(super) fn awaited(&self) -> Option<&str> {
        self.awaited.first().map(String::as_str)
    }

    pub(super) fn await_none_of(&mut self, is_left_out: impl Fn(&str) -> bool) {
        self.awaited.retain(|relation| !is_left_out(relation));
        self.missed.retain(|relation, _| !is_left_out(relation));
    }

    /// The transaction ends.
    pub(super) fn close_all(&mut self) {
        (self.table_as, self.extensions) = (0, 0);
        (self.ahead, self.passed) = (None, 0);
    }
}

impl Applier {
    /// Those of the tables of a TRUNCATE that an extension's script, which will run, does not empty itself.
    pub(super) async fn not_of_scripts(
        &mut self,
        relations: Vec<Arc<Relation>>,
    ) -> Result<Vec<Arc<Relation>>, ReplayError> {
        let mut others = Vec::new();
        for relation in relations {
            if self.find_table(&relation).await?.is_some_and(|table| !table.of_extension) {
                others.push(relation);
            }
        }
        Ok(others)
    }
}
