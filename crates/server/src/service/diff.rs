//! The net difference between two positions, folded from the log: neither server is needed for it.
//!
//! A primary that answers is asked for primary keys, so that a row that changed shows as one update. Without it,
//! or where the keys do not hold for the whole range, rows are told apart by all their values, and a row that
//! changed shows as a deletion and an insertion.

mod folding;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ptr_model::{Oid, Position, Relation, Tuple};
use ptr_postgres::{SessionSettings, connect};
use ptr_replay::fold::{NetRow, OldRow, RowsEffect, TableEffect};

use self::folding::net_difference;

use super::{
    APPLICATION_NAME, Captured, Service, ServiceError, blocking, entries::page_length, search::Keys, values,
};
use crate::resource::diff::{DiffAnswer, DiffQuery, RowDiff, TableDiff};

impl Service {
    /// `GET /api/diff`.
    ///
    /// # Errors
    /// A position that means nothing, a difference that is too large to hold or, with `detail=sql`, that no statements
    /// make.
    pub async fn diff(&self, query: DiffQuery) -> Result<DiffAnswer, ServiceError> {
        let (with_rows, as_statements) = match query.detail.as_deref() {
            None | Some("rows") => (true, false),
            Some("stat") => (false, false),
            Some("sql") => (true, true),
            Some(other) => {
                return Err(ServiceError::usage(
                    format!("{other:?} is no detail"),
                    "it is stat, rows or sql",
                ));
            }
        };
        let captured = self.captured_or_active(query.database.as_deref()).await?;
        let relative = query.from.starts_with('@') || query.to.starts_with('@');
        let ordinal = match relative {
            true => self.ordinal_of(&self.session_named(query.session_id.as_deref()).await?).await?,
            false => None,
        };
        let from = self.resolve(&captured, &query.from, ordinal).await?;
        let to = self.resolve(&captured, &query.to, ordinal).await?;
        let keys = self.primary_keys(&captured).await;
        let limit = if with_rows { page_length(query.limit)? } else { 0 };
        let wanted = Wanted { table: query.table, limit, as_statements };
        let log = captured.log.clone();
        let computed = if with_rows { self.computed_columns(&captured).await } else { Keys::new() };
        // One after the other, because each may take as much memory as one may.
        let _alone = self.comparing.lock().await;
        let mut answer = blocking(move || net_difference(&log, from, to, &wanted, &keys)).await??;
        for table in &mut answer.tables {
            table.computed = computed.get(&table.table).cloned().unwrap_or_default();
        }
        Ok(answer)
    }

    /// Best effort: without an answer, rows are told apart by all their values.
    pub(super) async fn primary_keys(&self, captured: &Arc<Captured>) -> Keys {
        let sql = "SELECT n.nspname || '.' || c.relname,
                          array_agg(a.attname::text ORDER BY a.attnum)
                   FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
                   JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
                   WHERE i.indisprimary AND i.indimmediate GROUP BY 1";
        self.columns_of_primary(captured, sql).await
    }

    /// Generated columns, some of which PostgreSQL 18 sends. Best effort, too.
    async fn computed_columns(&self, captured: &Arc<Captured>) -> Keys {
        let sql = "SELECT n.nspname || '.' || c.relname, array_agg(a.attname::text ORDER BY a.attnum)
                   FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
                   WHERE a.attgenerated <> '' AND NOT a.attisdropped GROUP BY 1";
        self.columns_of_primary(captured, sql).await
    }

    /// Columns by table, from a query that answers `schema.table` and names.
    async fn columns_of_primary(&self, captured: &Arc<Captured>, sql: &str) -> Keys {
        let Ok(input) = self.input() else { return Keys::new() };
        let dsn = input.with_database(&captured.database);
        let _turn = self.lanes.turn().await;
        let Ok(connection) = connect(&dsn, &SessionSettings::canonical(APPLICATION_NAME)).await else {
            return Keys::new();
        };
        let rows = connection.query(sql, &[]).await.unwrap_or_default();
        connection.close().await;
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }
}

struct Wanted {
    table: Option<String>,
    limit: usize,
    /// Whether the rows become statements, so that a table is to be in one fold.
    as_statements: bool,
}

/// What the range comes to, as far as it was folded.
struct Difference {
    backward: bool,
    tables: BTreeMap<String, TableDiff>,
    /// The tables that came to something, and what they were called last.
    folded: BTreeMap<Oid, String>,
    /// Those of which several folds did, one after the other, perhaps under other names: their rows are not net.
    several: BTreeSet<String>,
    schema_changes: Vec<String>,
    /// How many rows are wanted in all, and how many more.
    limit: usize,
    left: usize,
    truncated: bool,
}

impl Difference {
    fn new(backward: bool, limit: usize) -> Self {
        Self {
            backward,
            tables: BTreeMap::new(),
            folded: BTreeMap::new(),
            several: BTreeSet::new(),
            schema_changes: Vec::new(),
            limit,
            left: limit,
            truncated: false,
        }
    }

    /// Counts what a fold came to, and shows as many rows of it as are still wanted.
    fn add(&mut self, effects: &[TableEffect]) {
        for effect in effects {
            let name = name(&effect.relation);
            self.note_fold(effect.relation.oid, &name);
            let diff = table_diff(&mut self.tables, name);
            diff.tell_apart_by(key(effect));
            let [inserted, updated, deleted] = counts(effect, self.backward);
            diff.inserted += inserted;
            diff.updated += updated;
            diff.deleted += deleted;
            let shown = diff.rows.len();
            let backward = self.backward;
            diff.rows
                .extend(rows(effect).take(self.left).map(|row| if backward { turned(row) } else { row }));
            let shown = diff.rows.len() - shown;
            self.left -= shown;
            self.truncated |= self.limit > 0 && shown as u64 != inserted + updated + deleted;
        }
    }

    /// A table was emptied by TRUNCATE: what went is not in the log.
    fn add_emptied(&mut self, relation: &Relation) {
        table_diff(&mut self.tables, name(relation)).truncated = true;
    }

    /// A fold of a table came to something, after those that were noted before.
    fn note_fold(&mut self, table: Oid, name: &str) {
        let is_known = self.folded.insert(table, name.to_owned()).is_some();
        if is_known || self.tables.get(name).is_some_and(TableDiff::has_rows) {
            self.several.insert(name.to_owned());
        }
    }

    /// Adds what later changes came to.
    fn append_later(&mut self, later: Self) {
        for (table, name) in &later.folded {
            self.note_fold(*table, name);
        }
        self.append(later);
    }

    /// A table that came to several folds, for another reason than that it was emptied, which is told of each.
    fn in_several_folds(&self) -> Option<&str> {
        let is_told = |name: &String| self.tables.get(name).is_some_and(|table| table.truncated);
        self.several.iter().find(|name| !is_told(name)).map(String::as_str)
    }

    /// Adds what another came to: of later changes, or of other rows.
    fn append(&mut self, other: Self) {
        for (name, more) in other.tables {
            let diff = table_diff(&mut self.tables, name);
            diff.tell_apart_by(more.key);
            diff.inserted += more.inserted;
            diff.updated += more.updated;
            diff.deleted += more.deleted;
            diff.truncated |= more.truncated;
            let (all, before) = (more.rows.len(), diff.rows.len());
            diff.rows.extend(more.rows.into_iter().take(self.left));
            let shown = diff.rows.len() - before;
            self.left -= shown;
            self.truncated |= shown < all;
        }
        self.truncated |= other.truncated;
        self.folded.extend(other.folded);
        self.several.extend(other.several);
        self.schema_changes.extend(other.schema_changes);
    }

    fn answer(self, from: Position, to: Position) -> DiffAnswer {
        let differs = |table: &TableDiff| table.has_rows() || table.truncated;
        DiffAnswer {
            from: from.into(),
            to: to.into(),
            tables: self.tables.into_values().filter(differs).collect(),
            schema_changes: self.schema_changes,
            truncated: self.truncated,
        }
    }
}

impl Wanted {
    fn takes(&self, relation: &Relation) -> bool {
        self.table.as_ref().is_none_or(|table| *table == relation.name || *table == name(relation))
    }
}

fn name(relation: &Relation) -> String {
    format!("{}.{}", relation.schema, relation.name)
}

/// The columns by which an effect tells rows apart.
fn key(effect: &TableEffect) -> Vec<String> {
    match &effect.rows {
        RowsEffect::Keyed { key, .. } => {
            key.iter().map(|column| effect.relation.columns[*column].name.clone()).collect()
        }
        RowsEffect::Counted { .. } => Vec::new(),
    }
}

impl TableDiff {
    fn has_rows(&self) -> bool {
        self.inserted + self.updated + self.deleted > 0
    }

    /// Rows of a table that had several keys are told apart by all their values.
    fn tell_apart_by(&mut self, key: Vec<String>) {
        if !self.has_rows() {
            self.key = key;
        } else if self.key != key {
            self.key.clear();
        }
    }
}

fn table_diff(tables: &mut BTreeMap<String, TableDiff>, name: String) -> &mut TableDiff {
    let empty = |table| TableDiff { table, ..TableDiff::default() };
    tables.entry(name.clone()).or_insert_with(|| empty(name))
}

/// Rows that came, changed and went, or, looked at from the other end, the other way round.
fn counts(effect: &TableEffect, backward: bool) -> [u64; 3] {
    let [mut inserted, mut updated, mut deleted] = [0; 3];
    match &effect.rows {
        RowsEffect::Keyed { rows, .. } => rows.iter().for_each(|net| match net {
            NetRow::Insert(_) => inserted += 1,
            NetRow::Update { .. } => updated += 1,
            NetRow::Delete(_) => deleted += 1,
        }),
        RowsEffect::Counted { removed, added } => {
            deleted = removed.iter().map(|(_, copies)| copies).sum();
            inserted = added.iter().map(|(_, copies)| copies).sum();
        }
    }
    if backward { [deleted, updated, inserted] } else { [inserted, updated, deleted] }
}

/// Each row, made only as it is asked for: a difference may have more of them than anybody wants to see.
fn rows(effect: &TableEffect) -> Box<dyn Iterator<Item = RowDiff> + '_> {
    let relation = &effect.relation;
    let image = |tuple| Some(values::row(relation, tuple));
    let row = |change: &str, before, after| RowDiff { change: change.to_owned(), before, after };
    match &effect.rows {
        RowsEffect::Keyed { key, rows } => {
            let old = |old: &OldRow| match old {
                OldRow::Full(tuple) => values::row(relation, tuple),
                OldRow::Key(tuple) => values::part(relation, tuple, key),
            };
            Box::new(rows.iter().map(move |net| match net {
                NetRow::Insert(new) => row("insert", None, image(new)),
                NetRow::Delete(gone) => row("delete", Some(old(gone)), None),
                NetRow::Update { old: before, new } => row("update", Some(old(before)), image(new)),
            }))
        }
        RowsEffect::Counted { removed, added } => {
            let gone = removed.iter().flat_map(copies).map(move |tuple| row("delete", image(tuple), None));
            let come = added.iter().flat_map(copies).map(move |tuple| row("insert", None, image(tuple)));
            Box::new(gone.chain(come))
        }
    }
}

fn copies((tuple, count): &(Tuple, u64)) -> impl Iterator<Item = &Tuple> {
    (0..*count).map(move |_| tuple)
}

/// The same difference the other way.
fn turned(row: RowDiff) -> RowDiff {
    let change = match row.change.as_str() {
        "insert" => "delete",
        "delete" => "insert",
        other => other,
    };
    RowDiff { change: change.to_owned(), before: row.after, after: row.before }
}
