//! Statements for tables whose rows are told apart by all their values.
//!
//! Rows are compared as the text of a record made of their columns: every type has an output function, while
//! `json`, `point` and `xml` have no equality. Both sides go through the same functions on the server. Making texts of all
//! rows of a large table takes long, so only rows are looked at whose value in one column is among those that are
//! wanted, where there is a column that can tell: an index on it is used, and without one the values are compared as
//! numbers.

use std::collections::HashSet;

use ptr_model::{Datum, Tuple};
use ptr_postgres::quote_identifier;

use super::{
    Action, Command, Parameter, Step, Target, copy,
    parameter::{of_rows, typed, unnested},
};
use crate::catalog::{ColumnFacts, InputPath};

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
    let (mut key, mut among) = (String::new(), String::new());
    if let Some((index, column)) = telling(&columns, rows) {
        key = format!(", {} AS key", typed(column, &format!("v.c{index}")));
        among = format!(
            " WHERE t.{} OPERATOR(pg_catalog.=) ANY (SELECT wanted.key FROM wanted)",
            quote_identifier(&column.name)
        );
    }
    // Places are given as one list: what is to go is fetched by its place, and nothing else is read again.
    let sql = format!(
        "WITH wanted AS MATERIALIZED (
             SELECT ROW({wanted})::text AS image, v.copies{key}
             FROM ROWS FROM (pg_catalog.unnest($1::bigint[]){arrays}) AS v(copies{names})),
         here AS (
             SELECT t.ctid AS place, ROW({here})::text AS image FROM {only} AS t{among}),
         found AS (
             SELECT here.place, wanted.copies,
                    pg_catalog.row_number() OVER (PARTITION BY here.image ORDER BY here.place DESC) AS copy
             FROM here JOIN wanted ON here.image OPERATOR(pg_catalog.=) wanted.image)
         DELETE FROM {only} AS t WHERE t.ctid OPERATOR(pg_catalog.=)
             ANY (ARRAY(SELECT found.place FROM found WHERE found.copy <= found.copies))",
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

/// The column that tells most of the wanted rows apart, of those in which equal texts are equal values, all there: rows with
/// the same image have the same value in it.
fn telling<'a>(
    columns: &[(usize, &'a ColumnFacts)],
    rows: &[(Tuple, u64)],
) -> Option<(usize, &'a ColumnFacts)> {
    let values = |index: usize| {
        let text = |(row, _): &'_ (Tuple, u64)| match row.0.get(index) {
            Some(Datum::Text(text)) => Some(text.clone()),
            _ => None,
        };
        rows.iter().map(text).collect::<Option<HashSet<_>>>()
    };
    let able = columns.iter().filter(|(_, column)| is_plain(column));
    let counted = able.filter_map(|(index, column)| Some((values(*index)?.len(), *index, *column)));
    // The first of several: the statement stays the same where the rows are alike.
    let best = counted.max_by_key(|(count, index, _)| (*count, std::cmp::Reverse(*index)));
    best.map(|(_, index, column)| (index, column))
}

/// Whether a column is of a type of PostgreSQL's own whose values are equal where their texts are, and that is compared
/// without a collation.
fn is_plain(column: &ColumnFacts) -> bool {
    let plain = ["smallint", "integer", "bigint", "oid", "uuid", "date"];
    let name = column.type_name.as_str();
    let is_a_time = name.starts_with("timestamp") && !name.ends_with(']');
    column.input == InputPath::Cast && (plain.contains(&name) || is_a_time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(type_name: &str) -> ColumnFacts {
        ColumnFacts {
            name: type_name.to_owned(),
            type_name: type_name.to_owned(),
            input: InputPath::Cast,
            generated: false,
            always_identity: false,
        }
    }

    fn row(values: &[Option<&str>]) -> (Tuple, u64) {
        let datum = |value: &Option<&str>| {
            value.map_or(Datum::Null, |text| Datum::Text(text.to_owned().into_bytes().into()))
        };
        (Tuple(values.iter().map(datum).collect()), 1)
    }

    #[test]
    fn the_column_that_tells_most_is_one_whose_texts_are_its_values_and_all_there() {
        let types = ["text", "numeric", "timestamp without time zone[]", "integer", "bigint", "date"];
        let facts: Vec<ColumnFacts> = types.iter().map(|one| column(one)).collect();
        let columns: Vec<(usize, &ColumnFacts)> = facts.iter().enumerate().collect();
        let rows = [
            row(&[Some("a"), Some("1"), Some("{}"), Some("7"), Some("1"), Some("2026-01-01")]),
            row(&[Some("b"), Some("2"), None, Some("7"), Some("2"), None]),
            row(&[Some("c"), Some("3"), None, Some("8"), Some("3"), Some("2026-01-03")]),
        ];
        let told = |rows: &[(Tuple, u64)]| {
            telling(&columns, rows).map(|(index, column)| (index, column.type_name.clone()))
        };
        assert_eq!(told(&rows), Some((4, "bigint".to_owned())));
        assert_eq!(told(&rows[..1]), Some((3, "integer".to_owned())), "the first of those that tell as much");
        let without = row(&[Some("d"), Some("4"), None, None, None, None]);
        assert_eq!(told(&[without]), None);
        let ours = ColumnFacts {
            input: InputPath::Array { array_type: "integer[]".to_owned(), delimiter: ',' },
            ..column("integer")
        };
        assert_eq!(
            telling(&[(0, &ours)], &[row(&[Some("1")])]),
            None,
            "a cast of a user's may make anything of it"
        );
    }
}
