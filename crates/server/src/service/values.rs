//! Values of rows as JSON, so that none loses precision in a browser.
//!
//! Whole numbers of at most 32 bits and booleans are themselves. Everything else (also `bigint`, `numeric`,
//! `double precision`, `json`) is the text that the server wrote, which is exact.

use std::borrow::Cow;

use ptr_model::{Column, Datum, Oid, OldTuple, Relation, Tuple};
use serde_json::{Map, Value, json};

/// `pg_type.oid` of built-in types, fixed for ever by PostgreSQL's catalog.
mod type_oid {
    pub(super) const BOOL: u32 = 16;
    pub(super) const INT2: u32 = 21;
    pub(super) const INT4: u32 = 23;
    pub(super) const OID: u32 = 26;
}

/// A row by column. A column that was not sent because it is stored apart and did not change is
/// `{"unchanged": true}`.
pub(crate) fn row(relation: &Relation, tuple: &Tuple) -> Value {
    let columns = relation.columns.iter().zip(&tuple.0);
    Value::Object(columns.map(|(column, datum)| (column.name.clone(), value(column, datum))).collect())
}

/// Only some of a row's columns.
pub(crate) fn part(relation: &Relation, tuple: &Tuple, columns: &[usize]) -> Value {
    let columns =
        columns.iter().filter_map(|index| Some((relation.columns.get(*index)?, tuple.0.get(*index)?)));
    Value::Object(columns.map(|(column, datum)| (column.name.clone(), value(column, datum))).collect())
}

/// The row before, as far as it was sent: of a key only its columns.
pub(crate) fn old_row(relation: &Relation, old: &OldTuple) -> Option<Value> {
    match old {
        OldTuple::Full(tuple) => Some(row(relation, tuple)),
        OldTuple::Key(tuple) => {
            let columns = relation.columns.iter().zip(&tuple.0).filter(|(column, _)| column.in_identity);
            let values: Map<String, Value> =
                columns.map(|(column, datum)| (column.name.clone(), value(column, datum))).collect();
            Some(Value::Object(values))
        }
        OldTuple::Unchanged => None,
    }
}

fn value(column: &Column, datum: &Datum) -> Value {
    match datum {
        Datum::Null => Value::Null,
        Datum::UnchangedToast => json!({"unchanged": true}),
        Datum::Text(bytes) => text(column.type_oid, &String::from_utf8_lossy(bytes)),
        Datum::Binary(bytes) => Value::String(hexadecimal(bytes)),
    }
}

fn text(type_oid: Oid, text: &str) -> Value {
    let exact = match type_oid.0 {
        type_oid::BOOL => match text {
            "t" => Some(Value::Bool(true)),
            "f" => Some(Value::Bool(false)),
            _ => None,
        },
        type_oid::INT2 | type_oid::INT4 | type_oid::OID => text.parse::<i64>().ok().map(Value::from),
        _ => None,
    };
    exact.unwrap_or_else(|| Value::String(text.to_owned()))
}

/// The server's text as it is shown: that of a boolean is a word.
pub(crate) fn as_shown(type_oid: Oid, text: Cow<'_, str>) -> Cow<'_, str> {
    match (type_oid.0, text.as_ref()) {
        (type_oid::BOOL, "t") => Cow::Borrowed("true"),
        (type_oid::BOOL, "f") => Cow::Borrowed("false"),
        _ => text,
    }
}

/// As PostgreSQL writes `bytea`.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold("\\x".to_owned(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_browser_holds_exactly_is_a_number() {
        assert_eq!(text(Oid(23), "-2147483648"), json!(-2_147_483_648_i64));
        assert_eq!(text(Oid(20), "9007199254740993"), json!("9007199254740993"));
        assert_eq!(text(Oid(1700), "0.10"), json!("0.10"));
        assert_eq!(text(Oid(701), "0.1"), json!("0.1"));
        assert_eq!(text(Oid(16), "t"), json!(true));
        assert_eq!(text(Oid(3802), "{\"a\": 12345678901234567890}"), json!("{\"a\": 12345678901234567890}"));
    }
}
