//! Transactions that somebody waits for: a new slot for all that have written, ALTER TABLE for its table's users.

use std::time::Duration;

use ptr_postgres::{Connection, QualifiedName};
use tokio_postgres::Row;

use super::{Doing, OpenTransaction, Progress, SetupEvent, SourceError};

/// Transactions that have written: they hold their own id locked. Unlike `pg_stat_activity.backend_xid`,
/// `pg_locks` shows that to every role.
const WRITERS: &str = "SELECT DISTINCT a.pid, coalesce(a.datname::text, ''), coalesce(a.usename::text, ''),
        coalesce(a.xact_start::text, 'unknown'), coalesce(pg_catalog.left(a.query, 200), '')
    FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted
      AND a.pid <> pg_catalog.pg_backend_pid()";

const PREPARED: &str =
    "SELECT gid, database::text, owner::text, prepared::text FROM pg_catalog.pg_prepared_xacts";

/// Sessions that hold any lock on a table. The table is `$1`.
const HOLDERS: &str = "SELECT DISTINCT a.pid, coalesce(a.datname::text, ''), coalesce(a.usename::text, ''),
        coalesce(a.xact_start::text, 'unknown'), coalesce(pg_catalog.left(a.query, 200), '')
    FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
    WHERE l.granted AND l.pid <> pg_catalog.pg_backend_pid()
      AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
      AND l.relation = pg_catalog.to_regclass($1)";

/// Prepared transactions that hold any lock on a table: their locks have no process, but the same virtual
/// transaction as the lock on their own id.
const PREPARED_HOLDERS: &str = "SELECT DISTINCT p.gid, p.database::text, p.owner::text, p.prepared::text
    FROM pg_catalog.pg_locks l
    JOIN pg_catalog.pg_locks own ON own.virtualtransaction = l.virtualtransaction
     AND own.pid IS NULL AND own.locktype = 'transactionid' AND own.mode = 'ExclusiveLock'
    JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = own.transactionid
    WHERE l.granted AND l.pid IS NULL
      AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
      AND l.relation = pg_catalog.to_regclass($1)";

/// What a slot made now would wait for, in any database of the server.
pub(crate) async fn writers(connection: &Connection) -> Result<Vec<OpenTransaction>, SourceError> {
    let doing = || "asking for open transactions".to_owned();
    let writers = connection.query(WRITERS, &[]).await.doing(doing)?;
    let prepared = connection.query(PREPARED, &[]).await.doing(doing)?;
    Ok(writers.iter().map(session).chain(prepared.iter().map(prepared_transaction)).collect())
}

/// How often it is asked whether they have ended.
const PAUSE: Duration = Duration::from_millis(100);

/// Waits for every transaction that has written by now, in any database, and says for which; the slot would wait for
/// them too.
pub(super) async fn until_older_ones_end(
    connection: &Connection,
    progress: &dyn Progress,
) -> Result<(), SourceError> {
    let doing = || "waiting for older transactions".to_owned();
    let next = "SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text";
    let next: String = connection.query_one(next, &[]).await.doing(doing)?.get(0);
    let have_ended = format!(
        "SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot()) OPERATOR(pg_catalog.>=) '{next}'::pg_catalog.xid8"
    );
    let mut told = Vec::new();
    while !connection.query_one(&have_ended, &[]).await.doing(doing)?.get::<_, bool>(0) {
        let waits = writers(connection).await?;
        if waits != told && !waits.is_empty() {
            progress.report(SetupEvent::WaitingForSlot { waits: waits.clone() });
        }
        told = waits;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Who keeps a table locked.
pub(super) async fn holders(
    connection: &Connection,
    table: &QualifiedName,
) -> Result<Vec<OpenTransaction>, SourceError> {
    let doing = || format!("asking who holds {table}");
    let name = table.to_string();
    let sessions = connection.query(HOLDERS, &[&name]).await.doing(doing)?;
    let prepared = connection.query(PREPARED_HOLDERS, &[&name]).await.doing(doing)?;
    Ok(sessions.iter().map(session).chain(prepared.iter().map(prepared_transaction)).collect())
}

fn session(row: &Row) -> OpenTransaction {
    OpenTransaction::Session {
        pid: row.get(0),
        database: row.get(1),
        user: row.get(2),
        since: row.get(3),
        query: ptr_model::redacted(row.get(4)),
    }
}

fn prepared_transaction(row: &Row) -> OpenTransaction {
    OpenTransaction::Prepared { gid: row.get(0), database: row.get(1), user: row.get(2), since: row.get(3) }
}
