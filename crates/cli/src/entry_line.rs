//! Entries and rows for people: a sign, a word, and the row on one line. Pure.

use ptr_server::resource::{entry::EntryAnswer, position::PositionAnswer};
use serde_json::{Map, Value};

use crate::output::Paint;

/// Sign and colour of an operation.
pub fn sign(operation: &str) -> (&'static str, Paint) {
    match operation.to_ascii_uppercase().as_str() {
        "INSERT" => ("+", Paint::Green),
        "UPDATE" => ("~", Paint::Yellow),
        "DELETE" => ("-", Paint::Red),
        "TRUNCATE" => ("x", Paint::Magenta),
        "DDL" => ("#", Paint::Blue),
        _ => ("*", Paint::Dim),
    }
}

/// The entry's table as `schema.table`; empty where it names none.
pub fn relation(entry: &EntryAnswer) -> String {
    match (entry.schema.as_str(), entry.table.as_str()) {
        ("", table) => table.to_owned(),
        (schema, table) => format!("{schema}.{table}"),
    }
}

/// What the entry did, on one line.
pub fn summary(entry: &EntryAnswer) -> String {
    match &entry.sql {
        Some(sql) => one_line(sql),
        None => row_change(entry.old_data.as_ref(), Some(&entry.data)),
    }
}

/// A row before and after as one line, changed columns as `before -> after`.
pub fn row_change(before: Option<&Value>, after: Option<&Value>) -> String {
    match (row(before), row(after)) {
        (Some(old), Some(new)) => changed(old, new),
        (Some(only), None) | (None, Some(only)) => only
            .iter()
            .map(|(name, value)| format!("{name}: {}", shown(value)))
            .collect::<Vec<_>>()
            .join(", "),
        (None, None) => after.filter(|value| !value.is_null()).map(shown).unwrap_or_default(),
    }
}

fn row(data: Option<&Value>) -> Option<&Map<String, Value>> {
    data.and_then(Value::as_object).filter(|row| !row.is_empty())
}

fn changed(old: &Map<String, Value>, new: &Map<String, Value>) -> String {
    let column = |(name, value): (&String, &Value)| match old.get(name) {
        Some(before) if before != value => format!("{name}: {} -> {}", shown(before), shown(value)),
        _ => format!("{name}: {}", shown(value)),
    };
    new.iter().map(column).collect::<Vec<_>>().join(", ")
}

/// A value, quoted and cut so that a row stays a line.
fn shown(value: &Value) -> String {
    const LONGEST: usize = 80;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// Line breaks and runs of blanks as one blank.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `1 transaction`, `2 transactions`; `noun` takes an s for many.
pub fn counted(count: u64, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

/// A position for people.
pub fn place(position: &PositionAnswer) -> String {
    format!("{} (entry {})", position.lsn, position.entry_index)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_update_shows_before_and_after_of_what_changed() {
        let line = row_change(Some(&json!({"id": 1, "v": "a"})), Some(&json!({"id": 1, "v": "b"})));
        assert_eq!(line, r#"id: 1, v: "a" -> "b""#);
    }

    #[test]
    fn a_long_value_keeps_its_row_on_a_line() {
        assert_eq!(shown(&Value::from("ü".repeat(500))).chars().count(), 83);
    }
}
