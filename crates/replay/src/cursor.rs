//! Where a session's database is in the log, kept in that database.
//!
//! Invariant: the cursor is written in the transaction that changes the data, so that after any crash the
//! database and its position agree.

use ptr_log::crash_point;
use ptr_model::{Lsn, OUR_SCHEMA, Position, SessionId};
use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, SimpleQueryMessage, Statement};
use uuid::Uuid;

use crate::database::{DatabaseError, Doing};

/// Whether the data and the position agree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CursorState {
    /// The database is exactly at the position.
    Settled,
    /// The database is on its way and only to be used once it has arrived.
    Moving,
}

/// What a session's database says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cursor {
    /// Whose history it holds.
    pub log_id: Uuid,
    /// Which session it belongs to; none in a template.
    pub session_id: Option<SessionId>,
    /// Where it is.
    pub position: Position,
    /// Whether data and position agree.
    pub state: CursorState,
}

/// A cursor table that holds what no version of ours writes.
#[derive(Debug, thiserror::Error)]
pub enum CursorError {
    /// The server refused.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Values that make no sense.
    #[error(
        "table {OUR_SCHEMA}.cursor of database {database} holds {value:?} as {column}; the database was \
         changed by hand: delete the session and create it again"
    )]
    Damaged {
        /// The database.
        database: String,
        /// The column.
        column: &'static str,
        /// What it holds.
        value: String,
    },
}

/// Makes our schema and its cursor table, empty.
pub(crate) async fn install(client: &Client) -> Result<(), DatabaseError> {
    let sql = format!(
        "CREATE SCHEMA IF NOT EXISTS {OUR_SCHEMA};
         CREATE TABLE IF NOT EXISTS {OUR_SCHEMA}.cursor (
             only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
             log_id uuid NOT NULL,
             session_id uuid,
             ordinal bigint NOT NULL,
             lsn pg_catalog.pg_lsn NOT NULL,
             entry_index bigint NOT NULL,
             state text NOT NULL CHECK (state IN ('settled', 'moving')));
         GRANT USAGE ON SCHEMA {OUR_SCHEMA} TO PUBLIC;
         GRANT SELECT ON {OUR_SCHEMA}.cursor TO PUBLIC"
    );
    client.batch_execute(&sql).await.doing("create the table of the position")
}

/// Writes the cursor, in the transaction that is open.
pub(crate) async fn write(client: &Client, cursor: &Cursor) -> Result<(), DatabaseError> {
    client.batch_execute(&write_sql(cursor)).await.doing("write the position")
}

/// Writes the cursor and commits the transaction that is open; returns what tells the next writer of it.
pub(crate) async fn commit(client: &Client, cursor: &Cursor) -> Result<Option<String>, DatabaseError> {
    let sql = format!("{} RETURNING c.xmin::text; COMMIT", write_sql(cursor));
    crash_point("apply");
    let answers = client.simple_query(&sql).await.doing("write the position and commit")?;
    crash_point("applied");
    Ok(answers.iter().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}

/// Which transaction wrote the cursor last, and in which database: as long as both are the same, nobody else has moved
/// this database or put another in its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    pub(crate) database: u32,
    pub(crate) writer: Option<String>,
}

/// Reads the stamp, in one statement that is prepared once.
pub(crate) async fn stamp(client: &Client, statement: &Statement) -> Result<Stamp, DatabaseError> {
    let row = client.query_opt(statement, &[]).await.doing("look who wrote the position")?;
    let absent = Stamp { database: 0, writer: None };
    Ok(row.map_or(absent, |row| Stamp { database: row.get(0), writer: Some(row.get(1)) }))
}

/// What [`stamp`] asks.
pub(crate) fn stamp_sql() -> String {
    format!(
        "SELECT d.oid, c.xmin::text FROM {OUR_SCHEMA}.cursor c, pg_catalog.pg_database d
         WHERE d.datname = pg_catalog.current_database()"
    )
}

/// The statement that writes a cursor. All its values are numbers and UUIDs, so none needs quoting.
fn write_sql(cursor: &Cursor) -> String {
    let Cursor { log_id, session_id, position, state } = cursor;
    let session = session_id.map_or_else(|| "NULL".to_owned(), |id| format!("'{id}'"));
    let state = match state {
        CursorState::Settled => "settled",
        CursorState::Moving => "moving",
    };
    let Position { ordinal, lsn, entry_index } = position;
    format!(
        "INSERT INTO {OUR_SCHEMA}.cursor AS c (log_id, session_id, ordinal, lsn, entry_index, state)
         VALUES ('{log_id}', {session}, {ordinal}, '{lsn}', {entry_index}, '{state}')
         ON CONFLICT (only_row) DO UPDATE SET log_id = excluded.log_id, session_id = excluded.session_id,
           ordinal = excluded.ordinal, lsn = excluded.lsn, entry_index = excluded.entry_index,
           state = excluded.state"
    )
}

/// The cursor of the database that `client` is connected to; `None` where it is no database of ours.
pub async fn read(client: &Client) -> Result<Option<Cursor>, CursorError> {
    let present = client
        .query_one("SELECT pg_catalog.to_regclass($1) IS NOT NULL", &[&format!("{OUR_SCHEMA}.cursor")])
        .await
        .doing("look for the table of the position")?;
    if !present.get::<_, bool>(0) {
        return Ok(None);
    }
    let sql = format!(
        "SELECT log_id::text, session_id::text, ordinal, lsn::text, entry_index, state,
                pg_catalog.current_database()::text
         FROM {OUR_SCHEMA}.cursor"
    );
    let row = client.query_opt(&sql, &[]).await.doing("read the position")?;
    row.map(|row| decode(&row)).transpose()
}

fn decode(row: &tokio_postgres::Row) -> Result<Cursor, CursorError> {
    let text = |index: usize| row.try_get::<_, String>(index).doing("read the position");
    let number = |index: usize| row.try_get::<_, i64>(index).doing("read the position");
    let database = text(6)?;
    let damaged = |column, value: String| CursorError::Damaged { database: database.clone(), column, value };
    let log_id = text(0)?;
    let session_id = row.try_get::<_, Option<String>>(1).doing("read the position")?;
    let (ordinal, lsn, entry_index, state) = (number(2)?, text(3)?, number(4)?, text(5)?);
    Ok(Cursor {
        log_id: log_id.parse().map_err(|_| damaged("log_id", log_id.clone()))?,
        session_id: session_id
            .map(|id| id.parse().map(SessionId).map_err(|_| damaged("session_id", id.clone())))
            .transpose()?,
        position: Position {
            ordinal: ordinal.try_into().map_err(|_| damaged("ordinal", ordinal.to_string()))?,
            lsn: lsn.parse::<Lsn>().map_err(|_| damaged("lsn", lsn.clone()))?,
            entry_index: entry_index
                .try_into()
                .map_err(|_| damaged("entry_index", entry_index.to_string()))?,
        },
        state: match state.as_str() {
            "settled" => CursorState::Settled,
            "moving" => CursorState::Moving,
            _ => return Err(damaged("state", state)),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_written_as_one_row_that_replaces_the_one_before() {
        let cursor = Cursor {
            log_id: Uuid::nil(),
            session_id: None,
            position: Position { ordinal: 3, lsn: Lsn(0x16B_3748), entry_index: 9 },
            state: CursorState::Settled,
        };
        let sql = write_sql(&cursor);
        assert!(sql.contains("NULL, 3, '0/16B3748', 9, 'settled')"), "{sql}");
        assert!(sql.contains("ON CONFLICT (only_row) DO UPDATE"), "{sql}");
    }
}
