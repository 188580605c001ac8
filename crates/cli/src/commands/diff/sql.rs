//! A row's difference as a statement. Pure.
//!
//! Values are untyped literals, so that the column decides what they are. Rows are found by all their known
//! columns, because a difference does not say which of them are the key.

use ptr_postgres::{quote_identifier, quote_literal};
use ptr_server::resource::diff::RowDiff;
use serde_json::{Map, Value};

/// The statement; `None` where the log does not know enough of the row.
pub fn statement(table: &str, row: &RowDiff) -> Option<String> {
    let table = qualified(table);
    let before = row.before.as_ref().and_then(Value::as_object);
    let after = row.after.as_ref().and_then(Value::as_object);
    match (before, after) {
        (None, Some(after)) => Some(format!(
            "INSERT INTO {table} ({}) VALUES ({});",
            names(after),
            after.values().map(literal).collect::<Option<Vec<_>>>()?.join(", ")
        )),
        (Some(before), Some(after)) => {
            let set = assignments(before, after)?;
            Some(format!("UPDATE {table} SET {set} WHERE {};", condition(before)?))
        }
        (Some(before), None) => Some(format!("DELETE FROM {table} WHERE {};", condition(before)?)),
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

fn names(row: &Map<String, Value>) -> String {
    row.keys().map(|name| quote_identifier(name)).collect::<Vec<_>>().join(", ")
}

fn assignments(before: &Map<String, Value>, after: &Map<String, Value>) -> Option<String> {
    let changed = after.iter().filter(|(name, value)| before.get(*name) != Some(value) && !is_unsent(value));
    let parts: Option<Vec<_>> = changed
        .map(|(name, value)| Some(format!("{} = {}", quote_identifier(name), literal(value)?)))
        .collect();
    parts.filter(|parts| !parts.is_empty()).map(|parts| parts.join(", "))
}

fn condition(row: &Map<String, Value>) -> Option<String> {
    let known = row.iter().filter(|(_, value)| !is_unsent(value));
    let parts: Option<Vec<_>> = known
        .map(|(name, value)| {
            let name = quote_identifier(name);
            match value {
                Value::Null => Some(format!("{name} IS NULL")),
                _ => Some(format!("{name} = {}", literal(value)?)),
            }
        })
        .collect();
    parts.filter(|parts| !parts.is_empty()).map(|parts| parts.join(" AND "))
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

    fn row(before: Value, after: Value) -> RowDiff {
        let known = |value: Value| (!value.is_null()).then_some(value);
        RowDiff { change: String::new(), before: known(before), after: known(after) }
    }

    #[test]
    fn each_kind_of_difference_is_its_statement() {
        let (old, new) = (json!({"id": 1, "v": "it's"}), json!({"id": 1, "v": null}));
        let of = |before: &Value, after: &Value| statement("public.t", &row(before.clone(), after.clone()));
        assert_eq!(
            of(&Value::Null, &new).unwrap(),
            r#"INSERT INTO "public"."t" ("id", "v") VALUES (1, NULL);"#
        );
        assert_eq!(
            of(&old, &new).unwrap(),
            r#"UPDATE "public"."t" SET "v" = NULL WHERE "id" = 1 AND "v" = 'it''s';"#
        );
        assert_eq!(
            of(&new, &Value::Null).unwrap(),
            r#"DELETE FROM "public"."t" WHERE "id" = 1 AND "v" IS NULL;"#
        );
    }

    #[test]
    fn a_value_that_was_not_sent_is_never_made_up() {
        let whole = json!({"id": 1, "blob": {"unchanged": true}});
        assert_eq!(statement("t", &row(Value::Null, whole)), None);
    }
}
