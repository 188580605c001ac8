//! A difference as statements. Pure.
//!
//! They are one transaction, in which triggers and foreign keys are still: what they did on the primary is among the
//! rows. What goes away goes first, so that its unique values are free. Values are untyped literals, so that the column
//! decides what they are. A row is found by its key; without one it is one of those that read the same as text, because
//! json, point and xml have no equality, and equal rows are there as often as they are.

use ptr_postgres::{quote_identifier, quote_literal};
use ptr_server::resource::diff::{RowDiff, TableDiff};
use serde_json::{Map, Value};

/// The settings under which values were captured, and read as the same text.
const BEGIN: [&str; 7] = [
    "BEGIN;",
    "SET LOCAL session_replication_role = replica;",
    "SET LOCAL DateStyle = 'ISO, MDY';",
    "SET LOCAL IntervalStyle = postgres;",
    "SET LOCAL TimeZone = 'UTC';",
    "SET LOCAL bytea_output = hex;",
    "SET LOCAL extra_float_digits = 3;",
];

/// The rows' statements, in order; nothing where nothing differs.
///
/// # Errors
/// The table of which the log does not know enough of a row.
pub fn rows(tables: &[TableDiff]) -> Result<Vec<String>, &str> {
    let mut statements = Vec::new();
    for kind in ["delete", "update", "insert"] {
        for table in tables {
            for row in table.rows.iter().filter(|row| row.change == kind) {
                statements.push(statement(table, row).ok_or(table.table.as_str())?);
            }
        }
    }
    if statements.is_empty() {
        return Ok(statements);
    }
    let begin = BEGIN.map(str::to_owned).into_iter();
    Ok(begin.chain(statements).chain(["COMMIT;".to_owned()]).collect())
}

/// The statement; `None` where the log does not know enough of the row.
fn statement(table: &TableDiff, row: &RowDiff) -> Option<String> {
    let name = qualified(&table.table);
    let before = row.before.as_ref().and_then(Value::as_object);
    let after = row.after.as_ref().and_then(Value::as_object);
    match (before, after) {
        (None, Some(after)) => insert(&name, table, after),
        (Some(before), Some(after)) => {
            let set = assignments(table, before, after)?;
            Some(format!("UPDATE ONLY {name} SET {set} WHERE {};", place(&name, table, before)?))
        }
        (Some(before), None) => {
            Some(format!("DELETE FROM ONLY {name} WHERE {};", place(&name, table, before)?))
        }
        (None, None) => None,
    }
}

/// `schema.table` as the API names it. A dot inside a name cannot be told from the one between.
fn qualified(table: &str) -> String {
    match table.split_once('.') {
        Some((schema, name)) => format!("{}.{}", quote_identifier(schema), quote_identifier(name)),
        None => quote_identifier(table),
    }
}

fn insert(name: &str, table: &TableDiff, row: &Map<String, Value>) -> Option<String> {
    let written: Vec<_> = row.iter().filter(|(column, _)| !table.computed.contains(column)).collect();
    if written.is_empty() {
        return Some(format!("INSERT INTO {name} DEFAULT VALUES;"));
    }
    let columns: Vec<_> = written.iter().map(|(column, _)| quote_identifier(column)).collect();
    let values: Option<Vec<_>> = written.iter().map(|(_, value)| literal(value)).collect();
    let (columns, values) = (columns.join(", "), values?.join(", "));
    // Where no column is GENERATED ALWAYS AS IDENTITY it says nothing.
    Some(format!("INSERT INTO {name} ({columns}) OVERRIDING SYSTEM VALUE VALUES ({values});"))
}

fn assignments(table: &TableDiff, before: &Map<String, Value>, after: &Map<String, Value>) -> Option<String> {
    let changed = after.iter().filter(|(name, value)| {
        before.get(*name) != Some(value) && !is_unsent(value) && !table.computed.contains(name)
    });
    let parts: Option<Vec<_>> = changed
        .map(|(name, value)| Some(format!("{} = {}", quote_identifier(name), literal(value)?)))
        .collect();
    parts.filter(|parts| !parts.is_empty()).map(|parts| parts.join(", "))
}

/// Where the row is.
fn place(name: &str, table: &TableDiff, row: &Map<String, Value>) -> Option<String> {
    if table.key.is_empty() {
        let alike =
            row.iter().filter(|(_, value)| !is_unsent(value)).map(|(column, value)| reads(column, value));
        let alike = alike.collect::<Option<Vec<_>>>().filter(|alike| !alike.is_empty())?.join(" AND ");
        return Some(format!("ctid = (SELECT ctid FROM ONLY {name} WHERE {alike} LIMIT 1)"));
    }
    let is = |column: &String| Some(format!("{} = {}", quote_identifier(column), literal(row.get(column)?)?));
    Some(table.key.iter().map(is).collect::<Option<Vec<_>>>()?.join(" AND "))
}

/// `format` gives what the type's output function gives, where a cast to text would not, as of `char(n)`.
fn reads(column: &str, value: &Value) -> Option<String> {
    let column = quote_identifier(column);
    match value {
        Value::Null => Some(format!("{column} IS NULL")),
        Value::String(_) => {
            Some(format!("{column} IS NOT NULL AND pg_catalog.format('%s', {column}) = {}", literal(value)?))
        }
        _ => Some(format!("{column} = {}", literal(value)?)),
    }
}

/// `{"unchanged": true}`: a value that the server did not send.
fn is_unsent(value: &Value) -> bool {
    value.is_object()
}

fn literal(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some("NULL".to_owned()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::String(text) => Some(quote_literal(text)),
        Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table(key: &[&str]) -> TableDiff {
        let key = key.iter().map(|&name| name.to_owned()).collect();
        TableDiff { table: "public.t".into(), key, computed: vec!["twice".into()], ..TableDiff::default() }
    }

    fn of(key: &[&str], before: &Value, after: &Value) -> Option<String> {
        let known = |value: &Value| (!value.is_null()).then(|| value.clone());
        let row = RowDiff { change: String::new(), before: known(before), after: known(after) };
        statement(&table(key), &row)
    }

    #[test]
    fn each_kind_of_difference_is_its_statement() {
        let (old, new) = (json!({"id": 1, "v": "it's", "twice": 2}), json!({"id": 1, "v": null, "twice": 3}));
        assert_eq!(
            of(&["id"], &Value::Null, &new).unwrap(),
            r#"INSERT INTO "public"."t" ("id", "v") OVERRIDING SYSTEM VALUE VALUES (1, NULL);"#
        );
        assert_eq!(
            of(&["id"], &old, &new).unwrap(),
            r#"UPDATE ONLY "public"."t" SET "v" = NULL WHERE "id" = 1;"#
        );
        assert_eq!(
            of(&["id"], &new, &Value::Null).unwrap(),
            r#"DELETE FROM ONLY "public"."t" WHERE "id" = 1;"#
        );
        let gone = json!({"v": "it's", "w": null});
        assert_eq!(
            of(&[], &gone, &Value::Null).unwrap(),
            r#"DELETE FROM ONLY "public"."t" WHERE ctid = (SELECT ctid FROM ONLY "public"."t" WHERE "v" IS NOT NULL AND pg_catalog.format('%s', "v") = 'it''s' AND "w" IS NULL LIMIT 1);"#
        );
    }

    #[test]
    fn a_value_that_was_not_sent_is_never_made_up() {
        let whole = json!({"id": 1, "blob": {"unchanged": true}});
        assert_eq!(of(&["id"], &Value::Null, &whole), None);
    }
}
