//! Statements for tables whose rows are told apart by all their values.
//!
//! Rows are compared as the text of a record made of their columns: every type has an output function, while
//! `json`, `point` and `xml` have no equality. Both sides go through the same functions on the server.

use ptr_model::Tuple;
use ptr_postgres::quote_identifier;

use super::{
    Action, Command, Parameter, Step, Target, copy,
    parameter::{of_rows, typed, unnested},
};
use crate::catalog::ColumnFacts;

pub(super) fn steps(target: &Target<'_>, removed: &[(Tuple, u64)], added: &[(Tuple, u64)]) -> Vec<Step> {
    // One statement: each reads the whole table. What a fold holds bounds its parameters.
    let mut steps: Vec<Step> = Vec::new();
    if !removed.is_empty() {
        steps.push(delete(target, removed));
    }
    if !added.is_empty() {
        let copies = added.iter().flat_map(|(row, copies)| (0..*copies).map(move |_| row));
        steps.extend(copy::of_tuples(target, copies));
    }
    steps
}

/// Deletes as many copies of each row as asked, whichever of the equal ones they are.
fn delete(target: &Target<'_>, rows: &[(Tuple, u64)]) -> Step {
    let columns: Vec<(usize, &ColumnFacts)> = target.writable().collect();
    let here: Vec<String> =
        columns.iter().map(|(_, column)| format!("t.{}", quote_identifier(&column.name))).collect();
    let arrays: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(at, (_, column))| format!(", pg_catalog.unnest({})", unnested(column, at + 2)))
        .collect();
    let names: Vec<String> = columns.iter().map(|(index, _)| format!(", c{index}")).collect();
    let wanted: Vec<String> =
        columns.iter().map(|(index, column)| typed(column, &format!("v.c{index}"))).collect();
    let only = target.only();
    let sql = format!(
        "WITH wanted AS MATERIALIZED (
             SELECT ROW({wanted})::text AS image, v.copies
             FROM ROWS FROM (pg_catalog.unnest($1::bigint[]){arrays}) AS v(copies{names})),
         here AS (
             SELECT t.ctid AS place, ROW({here})::text AS image FROM {only} AS t),
         found AS (
             SELECT here.place, wanted.copies,
                    pg_catalog.row_number() OVER (PARTITION BY here.image ORDER BY here.place DESC) AS copy
             FROM here JOIN wanted ON here.image OPERATOR(pg_catalog.=) wanted.image)
         DELETE FROM {only} AS t USING found WHERE t.ctid = found.place AND found.copy <= found.copies",
        wanted = wanted.join(", "),
        here = here.join(", "),
        arrays = arrays.concat(),
        names = names.concat(),
    );
    let copies = rows.iter().map(|(_, copies)| i64::try_from(*copies).unwrap_or(i64::MAX)).collect();
    let images: Vec<&Tuple> = rows.iter().map(|(row, _)| row).collect();
    let mut parameters = vec![Parameter::Numbers(copies)];
    parameters.extend(of_rows(&columns, &images));
    Step {
        action: Action::Delete,
        rows: rows.iter().map(|(_, copies)| copies).sum(),
        command: Command::Execute { sql, parameters },
    }
}
