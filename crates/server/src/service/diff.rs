//! The net difference between two positions, folded from the log: neither server is needed for it.
//!
//! A primary that answers is asked for primary keys, so that a row that changed shows as one update. Without it,
//! or where the keys do not hold for the whole range, rows are told apart by all their values, and a row that
//! changed shows as a deletion and an insertion.

use std::{collections::BTreeMap, sync::Arc};

use ptr_log::{Item, Log};
use ptr_model::{Change, Position, Relation, Tuple};
use ptr_postgres::{SessionSettings, connect};
use ptr_replay::fold::{Fold, Membership, NetRow, OldRow, Pushed, RowIdentity, RowsEffect, TableEffect};

use super::{
    APPLICATION_NAME, Captured, Service, ServiceError, blocking, entries::page_length, search::Keys, values,
};
use crate::resource::diff::{DiffAnswer, DiffQuery, RowDiff, TableDiff};

/// The memory that a fold may take.
const LARGEST_FOLD: usize = 512 << 20;

impl Service {
    /// `GET /api/diff`.
    ///
    /// # Errors
    /// A position that means nothing, a difference that is too large to hold.
    pub async fn diff(&self, query: DiffQuery) -> Result<DiffAnswer, ServiceError> {
        let with_rows = match query.detail.as_deref() {
            None | Some("rows") => true,
            Some("stat") => false,
            Some(other) => {
                return Err(ServiceError::usage(format!("{other:?} is no detail"), "it is stat or rows"));
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
        let wanted =
            Wanted { table: query.table, limit: if with_rows { page_length(query.limit)? } else { 0 } };
        let log = captured.log.clone();
        blocking(move || compare(&log, from, to, &wanted, &keys)).await?
    }

    /// Best effort: without an answer, rows are told apart by all their values.
    pub(super) async fn primary_keys(&self, captured: &Arc<Captured>) -> Keys {
        let Ok(input) = self.input() else { return Keys::new() };
        let dsn = input.with_database(&captured.database);
        let Ok(connection) = connect(&dsn, &SessionSettings::canonical(APPLICATION_NAME)).await else {
            return Keys::new();
        };
        let sql = "SELECT n.nspname || '.' || c.relname,
                          array_agg(a.attname::text ORDER BY a.attnum)
                   FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
                   JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
                   WHERE i.indisprimary AND i.indimmediate GROUP BY 1";
        let rows = connection.query(sql, &[]).await.unwrap_or_default();
        connection.close().await;
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }
}

struct Wanted {
    table: Option<String>,
    limit: usize,
}

/// What the range comes to.
#[derive(Default)]
struct Folded {
    effects: Vec<TableEffect>,
    emptied: Vec<String>,
    schema_changes: Vec<String>,
}

fn compare(
    log: &Log,
    from: Position,
    to: Position,
    wanted: &Wanted,
    keys: &Keys,
) -> Result<DiffAnswer, ServiceError> {
    let (earlier, later) = if from <= to { (from, to) } else { (to, from) };
    let folded = match fold(log, earlier, later, wanted, keys)? {
        Some(folded) => folded,
        // A key of today was none then. All values always are.
        None => fold(log, earlier, later, wanted, &Keys::new())?.ok_or_else(|| {
            ServiceError::precondition(
                "the log holds too little of some rows to tell what became of them",
                "ask for one table with table=, or for detail=stat",
            )
        })?,
    };
    Ok(show(folded, from, to, wanted.limit))
}

/// Folds a range; `None` where the keys do not hold for it.
fn fold(
    log: &Log,
    from: Position,
    to: Position,
    wanted: &Wanted,
    keys: &Keys,
) -> Result<Option<Folded>, ServiceError> {
    let mut folded = Folded::default();
    let mut fold = Fold::default();
    for item in log.read(from.ordinal, to.ordinal)? {
        let Item::Change(change) = item? else { continue };
        match &change {
            Change::Schema(schema) if schema.is_entry => folded.schema_changes.push(schema.statement.shown()),
            Change::Truncate { relations, .. } => {
                folded.effects.extend(fold.take());
                folded.emptied.extend(relations.iter().filter(|r| wanted.takes(r)).map(|r| name(r)));
            }
            Change::Insert { relation, .. }
            | Change::Update { relation, .. }
            | Change::Delete { relation, .. } => {
                if !wanted.takes(relation) {
                    continue;
                }
                if fold.membership(relation) == Membership::Outdated {
                    folded.effects.extend(fold.take());
                }
                if fold.membership(relation) == Membership::New {
                    fold.add_table(Arc::clone(relation), identity(relation, keys));
                }
                if !matches!(fold.push(change), Ok(Pushed::Folded)) {
                    return Ok(None);
                }
                refuse_too_large(&fold)?;
            }
            Change::Schema(_) | Change::Rows(_) | Change::Gap(_) | Change::Message(_) => {}
        }
    }
    folded.effects.extend(fold.take());
    Ok(Some(folded))
}

fn refuse_too_large(fold: &Fold) -> Result<(), ServiceError> {
    if fold.bytes() <= LARGEST_FOLD {
        return Ok(());
    }
    Err(ServiceError::precondition(
        format!("the difference is larger than {} MB", LARGEST_FOLD >> 20),
        "ask for one table with table=, or for two positions that are nearer",
    ))
}

impl Wanted {
    fn takes(&self, relation: &Relation) -> bool {
        self.table.as_ref().is_none_or(|table| *table == relation.name || *table == name(relation))
    }
}

fn name(relation: &Relation) -> String {
    format!("{}.{}", relation.schema, relation.name)
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

fn show(folded: Folded, from: Position, to: Position, limit: usize) -> DiffAnswer {
    let backward = to < from;
    let mut tables: BTreeMap<String, TableDiff> = BTreeMap::new();
    for table in folded.emptied {
        table_diff(&mut tables, table).truncated = true;
    }
    let mut left = limit;
    let mut truncated = false;
    for effect in &folded.effects {
        let diff = table_diff(&mut tables, name(&effect.relation));
        let [inserted, updated, deleted] = counts(effect, backward);
        diff.inserted += inserted;
        diff.updated += updated;
        diff.deleted += deleted;
        let shown = diff.rows.len();
        diff.rows.extend(rows(effect).take(left).map(|row| if backward { turned(row) } else { row }));
        left -= diff.rows.len() - shown;
        truncated |= limit > 0 && (diff.rows.len() - shown) as u64 != inserted + updated + deleted;
    }
    let differs = |table: &TableDiff| table.inserted + table.updated + table.deleted > 0 || table.truncated;
    DiffAnswer {
        from: from.into(),
        to: to.into(),
        tables: tables.into_values().filter(differs).collect(),
        schema_changes: folded.schema_changes,
        truncated,
    }
}

fn table_diff(tables: &mut BTreeMap<String, TableDiff>, name: String) -> &mut TableDiff {
    let empty =
        |table| TableDiff { table, inserted: 0, updated: 0, deleted: 0, truncated: false, rows: Vec::new() };
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
