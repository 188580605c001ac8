//! `TupleData`: the row images inside Insert, Update and Delete.

use ptr_model::{Datum, OldTuple, Tuple};

use super::{DecodeError, cursor::Cursor};

/// Int16 number of columns; for each Byte1 kind, and for `t` and `b` Int32 length and bytes.
pub(super) fn tuple(cursor: &mut Cursor) -> Result<Tuple, DecodeError> {
    let count = cursor.count16("number of columns")?;
    let mut columns = Vec::with_capacity(cursor.at_most(count, 1));
    for _ in 0..count {
        columns.push(datum(cursor)?);
    }
    Ok(Tuple(columns))
}

fn datum(cursor: &mut Cursor) -> Result<Datum, DecodeError> {
    let kind = cursor.u8()?;
    match kind {
        b'n' => Ok(Datum::Null),
        b'u' => Ok(Datum::UnchangedToast),
        b't' => value(cursor).map(Datum::Text),
        b'b' => value(cursor).map(Datum::Binary),
        other => Err(cursor.invalid("column kind", other.into())),
    }
}

fn value(cursor: &mut Cursor) -> Result<bytes::Bytes, DecodeError> {
    let length = cursor.count32("value length")?;
    cursor.bytes(length)
}

/// The old row of an UPDATE, up to and with the `N` that the new row begins with. `O` is sent under REPLICA
/// IDENTITY FULL, `K` where a column of the identity changed, neither where none did.
pub(super) fn old_tuple_of_update(cursor: &mut Cursor) -> Result<OldTuple, DecodeError> {
    let old = match cursor.u8()? {
        b'N' => return Ok(OldTuple::Unchanged),
        b'K' => OldTuple::Key(tuple(cursor)?),
        b'O' => OldTuple::Full(tuple(cursor)?),
        other => return Err(cursor.invalid("tuple kind", other.into())),
    };
    cursor.expect_byte(b'N', "tuple kind")?;
    Ok(old)
}

/// The row of a DELETE: `O` under REPLICA IDENTITY FULL, else `K`.
pub(super) fn old_tuple_of_delete(cursor: &mut Cursor) -> Result<OldTuple, DecodeError> {
    match cursor.u8()? {
        b'K' => tuple(cursor).map(OldTuple::Key),
        b'O' => tuple(cursor).map(OldTuple::Full),
        other => Err(cursor.invalid("tuple kind", other.into())),
    }
}
