//! One set-up or teardown of a database at a time, also after a crash.
//!
//! A client that dies leaves its last statement running: the server notices the closed connection only when it
//! answers. A session's advisory lock lives exactly as long as the session, so who holds it knows that nobody of ours
//! is still at work. The walsender that makes the slot, which may wait for hours, holds a lock of its own, so that it
//! can be told apart and ended.

use std::time::{Duration, Instant};

use ptr_postgres::Connection;

use super::{Doing, SourceError};
use crate::transport::ReplicationConnection;

/// Advisory locks are the database's; these keys are our name in ASCII (`ptr-setu`, `ptr-slot`).
const SET_UP: i64 = 0x7074_722d_7365_7475;
const SLOT: i64 = 0x7074_722d_736c_6f74;

/// How long the last statement of an earlier set-up may go on.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

/// Waits until no other set-up or teardown is at work, and keeps others out as long as the session lives.
pub(super) async fn keep_others_out(connection: &Connection) -> Result<(), SourceError> {
    if take(connection, SET_UP).await? {
        return Ok(());
    }
    Err(SourceError::NotOurs {
        what: "set-up or teardown",
        name: connection.dsn().database().to_owned(),
        detail: format!(" (process {} on the server)", pids(connection, SET_UP).await?),
        hint: "wait until it is done, or end it".to_owned(),
    })
}

/// Ends a walsender that still makes the slot of a set-up that died.
pub(super) async fn end_slot_makers(connection: &Connection) -> Result<(), SourceError> {
    let end = "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_locks
        WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND pid <> pg_catalog.pg_backend_pid()
          AND ((classid::int8 << 32) | objid::int8) = $1
          AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())";
    connection.query(end, &[&SLOT]).await.doing(|| "ending an earlier set-up".to_owned())?;
    take(connection, SLOT).await?;
    connection
        .query("SELECT pg_catalog.pg_advisory_unlock($1)", &[&SLOT])
        .await
        .doing(|| "ending an earlier set-up".to_owned())
        .map(drop)
}

/// Marks the connection that makes the slot.
pub(super) async fn mark_slot_maker(replication: &mut ReplicationConnection) -> Result<(), SourceError> {
    let statement = format!("SELECT pg_catalog.pg_advisory_lock_shared({SLOT})");
    let marked = replication.query(&statement).await;
    marked.map(drop).map_err(|source| SourceError::Replication {
        doing: "preparing the replication connection".to_owned(),
        source: Box::new(source),
    })
}

async fn take(connection: &Connection, key: i64) -> Result<bool, SourceError> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let row = connection
            .query_one("SELECT pg_catalog.pg_try_advisory_lock($1)", &[&key])
            .await
            .doing(|| "looking for another set-up".to_owned())?;
        if row.get(0) {
            return Ok(true);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(false)
}

async fn pids(connection: &Connection, key: i64) -> Result<String, SourceError> {
    let query = "SELECT coalesce(pg_catalog.string_agg(pid::text, ', '), 'unknown') FROM pg_catalog.pg_locks
        WHERE locktype = 'advisory' AND granted AND objsubid = 1
          AND ((classid::int8 << 32) | objid::int8) = $1
          AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())";
    let row = connection.query_one(query, &[&key]).await.doing(|| "looking for another set-up".to_owned())?;
    Ok(row.get(0))
}
