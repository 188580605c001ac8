//! Rows added by COPY, in text format: the fastest way in, and the only one that neither rules nor identity
//! columns get in the way of.

use bytes::{BufMut, BytesMut};
use ptr_model::{Datum, Tuple};
use ptr_postgres::{QualifiedName, quote_identifier};

use super::{
    Action, BATCH, Command, Step, Target,
    parameter::{of_rows, typed, unnested},
};
use crate::catalog::ColumnFacts;

/// Steps that add these rows.
pub(super) fn of_tuples<'a>(target: &Target<'_>, rows: impl Iterator<Item = &'a Tuple>) -> Vec<Step> {
    if target.table.needs_cast() {
        let rows: Vec<&Tuple> = rows.collect();
        return rows.chunks(BATCH).map(|rows| by_insert(target, rows)).collect();
    }
    vec![by_copy(target, rows)]
}

/// For columns whose type COPY cannot read.
fn by_insert(target: &Target<'_>, rows: &[&Tuple]) -> Step {
    let columns: Vec<(usize, &ColumnFacts)> = target.writable().collect();
    let names: Vec<String> = columns.iter().map(|(_, column)| quote_identifier(&column.name)).collect();
    let arrays: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(at, (_, column))| format!("pg_catalog.unnest({})", unnested(column, at + 1)))
        .collect();
    let fields: Vec<String> = columns.iter().map(|(index, _)| format!("c{index}")).collect();
    let values: Vec<String> =
        columns.iter().map(|(index, column)| typed(column, &format!("v.c{index}"))).collect();
    let sql = format!(
        "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM ROWS FROM ({}) AS v({})",
        target.table.name,
        names.join(", "),
        values.join(", "),
        arrays.join(", "),
        fields.join(", ")
    );
    let command = Command::Execute { sql, parameters: of_rows(&columns, rows) };
    Step { action: Action::Insert, rows: rows.len() as u64, command }
}

fn by_copy<'a>(target: &Target<'_>, rows: impl Iterator<Item = &'a Tuple>) -> Step {
    let columns: Vec<(usize, &str)> =
        target.writable().map(|(index, column)| (index, column.name.as_str())).collect();
    let names: Vec<&str> = columns.iter().map(|(_, name)| *name).collect();
    let mut data = BytesMut::new();
    let mut count = 0_u64;
    for row in rows {
        put_row(&mut data, columns.iter().map(|(index, _)| value(&row.0[*index])));
        count += 1;
    }
    step(&target.table.name, &names, data, count)
}

/// A step that adds rows given as text.
pub(super) fn of_text(table: &QualifiedName, columns: &[&str], rows: &[Vec<Option<String>>]) -> Step {
    let mut data = BytesMut::new();
    for row in rows {
        put_row(&mut data, row.iter().map(|value| value.as_deref().map(str::as_bytes)));
    }
    step(table, columns, data, rows.len() as u64)
}

fn step(table: &QualifiedName, columns: &[&str], data: BytesMut, rows: u64) -> Step {
    let command = if columns.is_empty() {
        // COPY has no way to name no columns, and a table may have generated ones that it would expect.
        let sql = format!("INSERT INTO {table} SELECT FROM pg_catalog.generate_series(1, {rows})");
        Command::Execute { sql, parameters: Vec::new() }
    } else {
        let names: Vec<String> = columns.iter().map(|name| quote_identifier(name)).collect();
        Command::Copy { sql: format!("COPY {table} ({}) FROM STDIN", names.join(", ")), data: data.freeze() }
    };
    Step { action: Action::Insert, rows, command }
}

fn value(datum: &Datum) -> Option<&[u8]> {
    match datum {
        Datum::Text(bytes) | Datum::Binary(bytes) => Some(bytes),
        Datum::Null | Datum::UnchangedToast => None,
    }
}

fn put_row<'a>(data: &mut BytesMut, values: impl Iterator<Item = Option<&'a [u8]>>) {
    for (index, value) in values.enumerate() {
        if index > 0 {
            data.put_u8(b'\t');
        }
        match value {
            None => data.put_slice(b"\\N"),
            Some(bytes) => put_escaped(data, bytes),
        }
    }
    data.put_u8(b'\n');
}

/// Backslash, and what separates columns and lines, is escaped ("COPY", "Text Format").
fn put_escaped(data: &mut BytesMut, mut bytes: &[u8]) {
    while let Some(at) = bytes.iter().position(|byte| matches!(byte, b'\\' | b'\t' | b'\n' | b'\r')) {
        data.put_slice(&bytes[..at]);
        data.put_slice(match bytes[at] {
            b'\t' => b"\\t",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            _ => b"\\\\",
        });
        bytes = &bytes[at + 1..];
    }
    data.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_separates_is_escaped_and_null_is_not_text() {
        let mut data = BytesMut::new();
        put_row(&mut data, [Some(&b"a\tb\\N"[..]), None, Some(b""), Some(b"x\r\ny")].into_iter());
        assert_eq!(data, &b"a\\tb\\\\N\t\\N\t\tx\\r\\ny\n"[..]);
    }
}
