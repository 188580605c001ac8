//! Statements for tables whose rows are told apart by a key.

use std::{cmp::Ordering, collections::BTreeMap};

use ptr_model::{Datum, Tuple};
use ptr_postgres::quote_identifier;

use super::{
    Action, BATCH, Command, SqlError, Step, Target, copy,
    parameter::{of_rows, typed, unnested},
};
use crate::{
    catalog::{ColumnFacts, KeyColumn},
    fold::{LoneUpdate, NetRow, OldRow},
};

/// Above this many different sets of changed columns, rows are updated in all columns: a statement for each
/// set costs more than writing values that did not change.
const COLUMN_SETS: usize = 8;

/// From this share of a table's rows on, deleting and copying is cheaper than updating: measured, 443,000
/// deletes and 380,000-670,000 copied rows a second against 114,000-157,000 updates; below it updates win by
/// leaving the table's other pages and indexes alone.
const DENSE: f64 = 0.2;

/// What is done with each row.
#[derive(Default)]
struct Sorted<'a> {
    gone: Vec<&'a Tuple>,
    /// By the columns to set.
    updated: BTreeMap<Vec<usize>, Vec<&'a Tuple>>,
    come: Vec<&'a Tuple>,
}

pub(super) fn steps(target: &Target<'_>, key: &[usize], rows: &[NetRow]) -> Result<Vec<Step>, SqlError> {
    let mut sorted = sort(target, key, rows)?;
    let key: Vec<(usize, &ColumnFacts)> = columns(target, key);
    for rows in sorted.updated.values_mut().chain(std::iter::once(&mut sorted.gone)) {
        near_each_other(&key, rows);
    }
    let mut steps: Vec<Step> = sorted.gone.chunks(BATCH).map(|rows| delete(target, &key, rows)).collect();
    for (set, rows) in &sorted.updated {
        let set = columns(target, set);
        steps.extend(rows.chunks(BATCH).map(|rows| update(target, &key, &set, rows)));
    }
    if !sorted.come.is_empty() {
        steps.extend(copy::of_tuples(target, sorted.come.into_iter()));
    }
    Ok(steps)
}

/// Puts rows in about the order in which the key's index has them, so that the server finds the next row where the last
/// one was. Only the time depends on it.
fn near_each_other(key: &[(usize, &ColumnFacts)], rows: &mut [&Tuple]) {
    // Of two whole numbers the one with more digits is the greater.
    let is_number = |column: &ColumnFacts| ["smallint", "integer", "bigint"].contains(&&*column.type_name);
    let places: Vec<(usize, bool)> = key.iter().map(|(index, column)| (*index, is_number(column))).collect();
    rows.sort_by(|one, other| {
        let by_column = places.iter().map(|(index, is_number)| {
            let (one, other) = (text_of(&one.0[*index]), text_of(&other.0[*index]));
            let by_length = if *is_number { one.len().cmp(&other.len()) } else { Ordering::Equal };
            by_length.then_with(|| one.cmp(other))
        });
        by_column.fold(Ordering::Equal, Ordering::then)
    });
}

fn text_of(datum: &Datum) -> &[u8] {
    match datum {
        Datum::Text(text) => text,
        Datum::Binary(_) | Datum::Null | Datum::UnchangedToast => b"",
    }
}

fn columns<'a>(target: &Target<'a>, indexes: &[usize]) -> Vec<(usize, &'a ColumnFacts)> {
    indexes.iter().map(|index| (*index, target.columns[*index])).collect()
}

fn sort<'a>(target: &Target<'_>, key: &[usize], rows: &'a [NetRow]) -> Result<Sorted<'a>, SqlError> {
    let mut sorted = Sorted::default();
    let changes = rows.iter().filter(|row| matches!(row, NetRow::Update { .. })).count();
    let replaces = is_dense(changes, target.table.estimated_rows) && target.is_whole();
    let delicate = delicate_columns(target, key);
    for row in rows {
        match row {
            NetRow::Insert(new) => sorted.come.push(new),
            NetRow::Delete(old) => sorted.gone.push(old.tuple()),
            NetRow::Update { old, new } => {
                let set = changed(target, key, old, new);
                let partial = new.0.contains(&Datum::UnchangedToast);
                let delicate = set.iter().any(|index| delicate[*index]);
                if partial {
                    refuse_identity(target, &set)?;
                }
                if !partial && (replaces || delicate) {
                    sorted.gone.push(old.tuple());
                    sorted.come.push(new);
                } else if !set.is_empty() {
                    sorted.updated.entry(set).or_default().push(new);
                }
            }
        }
    }
    merge_sets(&mut sorted.updated);
    Ok(sorted)
}

#[allow(clippy::cast_precision_loss, reason = "a share of rows needs no more than 52 bits")]
fn is_dense(changes: usize, estimated_rows: u64) -> bool {
    estimated_rows > 0 && changes as f64 > DENSE * estimated_rows as f64
}

/// Columns whose change is done by deleting and inserting: those of other unique or exclusion constraints
/// (a set-based UPDATE meets rows that still hold the value) and identity columns, which no UPDATE may set. A
/// generated column may be computed from any other.
fn delicate_columns(target: &Target<'_>, key: &[usize]) -> Vec<bool> {
    let in_key = |name: &str| key.iter().any(|index| target.columns[*index].name == name);
    let is_generated = |name: &str| target.table.column(name).is_some_and(|column| column.generated);
    // What holds of the key holds of a row that keeps it.
    let is_kept = |columns: &Vec<KeyColumn>| columns.iter().all(|column| in_key(&column.name));
    let concerns = |columns: &Vec<KeyColumn>, name: &str| {
        columns.iter().any(|column| column.name == name || is_generated(&column.name))
    };
    let constrained = |name: &str| {
        let mut constraints = target.table.constraints.iter().map(|constraint| constraint.columns.as_ref());
        constraints.any(|columns| columns.is_none_or(|columns| !is_kept(columns) && concerns(columns, name)))
    };
    let delicate = |(index, column): (usize, &&ColumnFacts)| {
        !key.contains(&index) && (column.always_identity || constrained(&column.name))
    };
    target.columns.iter().enumerate().map(delicate).collect()
}

/// The columns to set: those that differ, as far as the old row is known. Key columns are equal.
fn changed(target: &Target<'_>, key: &[usize], old: &OldRow, new: &Tuple) -> Vec<usize> {
    let differs = |index: usize| match old {
        OldRow::Full(old) => old.0[index] != new.0[index],
        OldRow::Key(_) => !key.contains(&index),
    };
    let sent = |index: usize| new.0[index] != Datum::UnchangedToast;
    target.writable().map(|(index, _)| index).filter(|index| sent(*index) && differs(*index)).collect()
}

fn refuse_identity(target: &Target<'_>, set: &[usize]) -> Result<(), SqlError> {
    let identity = columns(target, set).into_iter().find(|(_, column)| column.always_identity);
    identity.map_or(Ok(()), |(_, column)| {
        let (table, column) = (target.table.name.clone(), column.name.clone());
        Err(SqlError::IdentityInPart { table, column })
    })
}

/// Makes one set of many, where the rows have a value for all of its columns.
fn merge_sets(updated: &mut BTreeMap<Vec<usize>, Vec<&Tuple>>) {
    if updated.len() <= COLUMN_SETS {
        return;
    }
    let mut all: Vec<usize> = updated.keys().flatten().copied().collect();
    all.sort_unstable();
    all.dedup();
    let mut merged = Vec::new();
    for rows in updated.values_mut() {
        let holds = |row: &&Tuple| all.iter().all(|index| row.0[*index] != Datum::UnchangedToast);
        let (whole, partial): (Vec<&Tuple>, Vec<&Tuple>) = rows.drain(..).partition(holds);
        merged.extend(whole);
        *rows = partial;
    }
    updated.retain(|_, rows| !rows.is_empty());
    updated.entry(all).or_default().extend(merged);
}

/// `unnest($1::text[], ...) AS v(c0, ...)` over these columns; parameters are counted from `first`.
fn unnest(columns: &[(usize, &ColumnFacts)], first: usize) -> String {
    let arrays: Vec<String> =
        columns.iter().enumerate().map(|(at, (_, column))| unnested(column, first + at)).collect();
    let names: Vec<String> = columns.iter().map(|(index, _)| format!("c{index}")).collect();
    format!(
        "ROWS FROM (pg_catalog.unnest({})) AS v({})",
        arrays.join("), pg_catalog.unnest("),
        names.join(", ")
    )
}

/// `t.key = v.key AND ...`
fn matches_key(target: &Target<'_>, key: &[(usize, &ColumnFacts)]) -> String {
    let conditions =
        key.iter().map(|(index, column)| target.equals(column, &typed(column, &format!("v.c{index}"))));
    conditions.collect::<Vec<_>>().join(" AND ")
}

fn delete(target: &Target<'_>, key: &[(usize, &ColumnFacts)], rows: &[&Tuple]) -> Step {
    let sql = format!(
        "DELETE FROM {} AS t USING {} WHERE {}",
        target.only(),
        unnest(key, 1),
        matches_key(target, key)
    );
    let command = Command::Execute { sql, parameters: of_rows(key, rows) };
    Step { action: Action::Delete, rows: rows.len() as u64, command }
}

fn update(
    target: &Target<'_>,
    key: &[(usize, &ColumnFacts)],
    set: &[(usize, &ColumnFacts)],
    rows: &[&Tuple],
) -> Step {
    let all: Vec<(usize, &ColumnFacts)> = key.iter().chain(set).copied().collect();
    let assignments: Vec<String> = set
        .iter()
        .map(|(index, column)| {
            format!("{} = {}", quote_identifier(&column.name), typed(column, &format!("v.c{index}")))
        })
        .collect();
    let sql = format!(
        "UPDATE {} AS t SET {} FROM {} WHERE {}",
        target.only(),
        assignments.join(", "),
        unnest(&all, 1),
        matches_key(target, key)
    );
    let command = Command::Execute { sql, parameters: of_rows(&all, rows) };
    Step { action: Action::Update, rows: rows.len() as u64, command }
}

/// An update of one row, found by its old key, that sets every column known of the new one.
pub(super) fn lone_update(target: &Target<'_>, lone: &LoneUpdate) -> Result<Step, SqlError> {
    let set: Vec<usize> = target
        .writable()
        .map(|(index, _)| index)
        .filter(|index| lone.new.0[*index] != Datum::UnchangedToast)
        .filter(|index| !lone.key.contains(index) || lone.old.0[*index] != lone.new.0[*index])
        .collect();
    refuse_identity(target, &set)?;
    let (key, set) = (columns(target, &lone.key), columns(target, &set));
    let value = |column: &ColumnFacts, number: usize| {
        typed(column, &format!("(pg_catalog.unnest({}))", unnested(column, number)))
    };
    let one = |column: &ColumnFacts, number: usize| format!("(SELECT {})", value(column, number));
    let assignments: Vec<String> = set
        .iter()
        .enumerate()
        .map(|(at, (_, column))| {
            format!("{} = {}", quote_identifier(&column.name), one(column, key.len() + at + 1))
        })
        .collect();
    let conditions =
        key.iter().enumerate().map(|(at, (_, column))| target.equals(column, &one(column, at + 1)));
    let (only, conditions) = (target.only(), conditions.collect::<Vec<_>>().join(" AND "));
    let sql = if assignments.is_empty() {
        // Nothing changed that is known, but the row has to be there.
        format!("SELECT FROM {only} AS t WHERE {conditions}")
    } else {
        format!("UPDATE {only} AS t SET {} WHERE {conditions}", assignments.join(", "))
    };
    let mut parameters = of_rows(&key, &[&lone.old]);
    parameters.extend(of_rows(&set, &[&lone.new]));
    Ok(Step { action: Action::Update, rows: 1, command: Command::Execute { sql, parameters } })
}
