//! Statement parameters: whole columns of values, sent as one array.

use bytes::{BufMut, Bytes, BytesMut};
use ptr_model::{Datum, Tuple};
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};

use crate::catalog::{ColumnFacts, InputPath};

/// One parameter of a statement.
#[derive(Debug)]
pub enum Parameter {
    /// `text[]`, in binary. Values are bytes, because a database in SQL_ASCII holds what is no UTF-8.
    Texts(Vec<Option<Bytes>>),
    /// An array of another type as a literal, whose elements the type's input function reads.
    Literal(Bytes),
    /// `bigint[]`.
    Numbers(Vec<i64>),
}

/// `OID` of `text`, fixed by `pg_type.dat`.
const TEXT_OID: u32 = 25;
/// `OID` of `bigint`.
const BIGINT_OID: u32 = 20;

impl Parameter {
    /// The values of one column, as a parameter of the right form.
    pub(super) fn column<'a>(column: &ColumnFacts, values: impl Iterator<Item = &'a Datum>) -> Self {
        match &column.input {
            InputPath::Cast | InputPath::NodeTree => Self::Texts(values.map(text).collect()),
            InputPath::Array { delimiter, .. } => Self::Literal(array_literal(values, *delimiter)),
        }
    }
}

/// How a column's parameter `$number` is unnested.
pub(super) fn unnested(column: &ColumnFacts, number: usize) -> String {
    match &column.input {
        InputPath::Cast | InputPath::NodeTree => format!("${number}::text[]"),
        InputPath::Array { array_type, .. } => format!("${number}::{array_type}"),
    }
}

/// How an unnested value `v.cN` becomes a value of the column.
pub(super) fn typed(column: &ColumnFacts, value: &str) -> String {
    match &column.input {
        InputPath::Cast | InputPath::NodeTree => format!("{value}::{}", column.type_name),
        InputPath::Array { .. } => value.to_owned(),
    }
}

/// `None` is NULL; what was not captured is never asked for.
fn text(datum: &Datum) -> Option<Bytes> {
    match datum {
        Datum::Text(bytes) | Datum::Binary(bytes) => Some(bytes.clone()),
        Datum::Null | Datum::UnchangedToast => None,
    }
}

fn array_literal<'a>(values: impl Iterator<Item = &'a Datum>, delimiter: char) -> Bytes {
    let mut literal = BytesMut::from(&b"{"[..]);
    for (index, value) in values.enumerate() {
        if index > 0 {
            let mut buffer = [0; 4];
            literal.put_slice(delimiter.encode_utf8(&mut buffer).as_bytes());
        }
        match text(value) {
            None => literal.put_slice(b"NULL"),
            Some(bytes) => put_quoted(&mut literal, &bytes),
        }
    }
    literal.put_u8(b'}');
    literal.freeze()
}

fn put_quoted(literal: &mut BytesMut, bytes: &[u8]) {
    literal.put_u8(b'"');
    for byte in bytes {
        if matches!(byte, b'"' | b'\\') {
            literal.put_u8(b'\\');
        }
        literal.put_u8(*byte);
    }
    literal.put_u8(b'"');
}

/// The values of some columns of many rows, one parameter a column.
pub(super) fn of_rows(columns: &[(usize, &ColumnFacts)], rows: &[&Tuple]) -> Vec<Parameter> {
    let parameter = |(index, column): &(usize, &ColumnFacts)| {
        Parameter::column(column, rows.iter().map(|row| &row.0[*index]))
    };
    columns.iter().map(parameter).collect()
}

type EncodeResult = Result<IsNull, Box<dyn std::error::Error + Sync + Send>>;

/// The binary form of a one-dimensional array: dimensions, whether there are NULLs, element type, length,
/// lower bound, then each element with its length (`array_recv` in PostgreSQL's source).
fn put_array<T>(
    out: &mut BytesMut,
    element: u32,
    values: &[T],
    mut put: impl FnMut(&mut BytesMut, &T) -> EncodeResult,
) -> EncodeResult {
    out.put_i32(i32::from(!values.is_empty()));
    out.put_i32(1);
    out.put_u32(element);
    if !values.is_empty() {
        out.put_i32(i32::try_from(values.len())?);
        out.put_i32(1);
    }
    for value in values {
        put(out, value)?;
    }
    Ok(IsNull::No)
}

fn put_element(out: &mut BytesMut, bytes: &[u8]) -> EncodeResult {
    out.put_i32(i32::try_from(bytes.len())?);
    out.put_slice(bytes);
    Ok(IsNull::No)
}

impl ToSql for Parameter {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> EncodeResult {
        match self {
            Self::Texts(values) => put_array(out, TEXT_OID, values, |out, value| match value {
                Some(bytes) => put_element(out, bytes),
                None => {
                    out.put_i32(-1);
                    Ok(IsNull::No)
                }
            }),
            Self::Numbers(values) => {
                put_array(out, BIGINT_OID, values, |out, value| put_element(out, &value.to_be_bytes()))
            }
            Self::Literal(bytes) => {
                out.put_slice(bytes);
                Ok(IsNull::No)
            }
        }
    }

    fn accepts(_: &Type) -> bool {
        // The statements that these are for name each parameter's type themselves.
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        match self {
            Self::Texts(_) | Self::Numbers(_) => Format::Binary,
            Self::Literal(_) => Format::Text,
        }
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_literal_quotes_every_value_and_not_null() {
        let values = [Datum::Text(Bytes::from_static(br#"a"\b"#)), Datum::Null];
        assert_eq!(array_literal(values.iter(), ';'), Bytes::from_static(br#"{"a\"\\b";NULL}"#));
        assert_eq!(array_literal([].iter(), ','), Bytes::from_static(b"{}"));
    }
}
