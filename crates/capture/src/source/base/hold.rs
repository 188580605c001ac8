//! Tables held still from the slot's snapshot until the base image has been read.
//!
//! TRUNCATE, and ALTER TABLE and REFRESH where they write a table anew, put another file in the place of the
//! table's, and what was in it is gone for older snapshots too (PostgreSQL manual, "Caveats" of concurrency
//! control). Committed between the slot's snapshot and the locks of `pg_dump`, they would leave the table empty in
//! the base image, or newer than it. So everything that will be read is locked first, and then its file is compared
//! with the one that the snapshot knows.

use std::{collections::HashMap, time::Instant};

use ptr_postgres::{Connection, QualifiedName, sqlstate::SqlState};

use super::super::{
    Doing, OpenTransaction, Progress, SetupEvent, SourceError, SourceOptions, catalog::letter,
    open_transactions::holders,
};

/// What holds rows or owns what does. Materialised views without rows are not read.
const RELATIONS: &str = "SELECT c.oid, c.relfilenode, n.nspname::text, c.relname::text, c.relkind
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE (c.relkind IN ('r', 'p') OR c.relkind = 'm' AND c.relispopulated)
      AND c.relpersistence <> 't' AND c.oid >= 16384
      AND n.nspname <> 'postgres_test_replay' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
    ORDER BY c.oid";

/// Sessions that wait for one of our locks (`$1`) to end.
const WAITING: &str = "SELECT DISTINCT l.relation FROM pg_catalog.pg_locks l
    WHERE NOT l.granted AND l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.relation = ANY ($1)
      AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())";

/// How long one attempt waits for a lock, before it is said who holds it.
const ATTEMPT: &str = "500ms";

#[derive(Clone, PartialEq, Eq, Debug)]
struct Relation {
    oid: u32,
    /// `pg_class.relfilenode`: another one after TRUNCATE and each rewrite.
    file: u32,
    name: QualifiedName,
    is_view: bool,
}

/// What is locked.
#[derive(Debug)]
pub(super) struct Held(Vec<Relation>);

/// Whether the tables are as the snapshot knows them.
pub(super) enum Holding {
    /// All of them, and they stay so until the transaction of the snapshot ends.
    Still(Held),
    /// These are not.
    Overtaken(Vec<String>),
}

/// Locks everything that the snapshot's transaction will read, and compares. `observer` is another session, which
/// sees what was committed last.
pub(super) async fn hold(
    snapshot: &Connection,
    observer: &Connection,
    options: &SourceOptions,
    progress: &dyn Progress,
) -> Result<Holding, SourceError> {
    let known = relations(snapshot).await?;
    let mut overtaken = Vec::new();
    for relation in &known {
        if !lock(snapshot, observer, relation, options, progress).await? {
            overtaken.push(relation.name.to_string());
        }
    }
    let doing = || "waiting for locks as long as it takes again".to_owned();
    snapshot.batch_execute("SET LOCAL lock_timeout = 0").await.doing(doing)?;
    let latest: HashMap<u32, Relation> =
        relations(observer).await?.into_iter().map(|relation| (relation.oid, relation)).collect();
    for relation in &known {
        let name = relation.name.to_string();
        if latest.get(&relation.oid) != Some(relation) && !overtaken.contains(&name) {
            overtaken.push(name);
        }
    }
    Ok(if overtaken.is_empty() { Holding::Still(Held(known)) } else { Holding::Overtaken(overtaken) })
}

impl Held {
    /// The tables for which somebody waits behind our lock. `pg_dump` then waits behind them, and we for it; or one
    /// of its processes, which do not wait, fails.
    pub(super) async fn wanted_by_others(&self, observer: &Connection) -> Result<Vec<String>, SourceError> {
        let oids: Vec<u32> = self.0.iter().map(|relation| relation.oid).collect();
        let rows = observer
            .query(WAITING, &[&oids])
            .await
            .doing(|| "asking who waits for the tables of the base image".to_owned())?;
        let wanted: Vec<u32> = rows.iter().map(|row| row.get(0)).collect();
        let wanted = self.0.iter().filter(|relation| wanted.contains(&relation.oid));
        Ok(wanted.map(|relation| relation.name.to_string()).collect())
    }
}

async fn relations(connection: &Connection) -> Result<Vec<Relation>, SourceError> {
    let rows =
        connection.query(RELATIONS, &[]).await.doing(|| "listing the tables of the base image".to_owned())?;
    let relations = rows.iter().map(|row| Relation {
        oid: row.get(0),
        file: row.get(1),
        name: QualifiedName::new(row.get::<_, String>(2), row.get::<_, String>(3)),
        is_view: letter(row.get(4)) == 'm',
    });
    Ok(relations.collect())
}

/// Locks one relation, in short attempts. False if there is none of this name and kind any more.
async fn lock(
    snapshot: &Connection,
    observer: &Connection,
    relation: &Relation,
    options: &SourceOptions,
    progress: &dyn Progress,
) -> Result<bool, SourceError> {
    let name = &relation.name;
    // LOCK TABLE refuses materialised views, but whatever is named in a query stays locked until the transaction ends.
    let statement = if relation.is_view {
        format!("SELECT FROM {name} LIMIT 0")
    } else {
        format!("LOCK TABLE ONLY {name} IN ACCESS SHARE MODE")
    };
    let begun = Instant::now();
    while let Err(error) = attempt(snapshot, &statement).await? {
        match error.code() {
            Some(&SqlState::LOCK_NOT_AVAILABLE) => {}
            Some(
                &SqlState::UNDEFINED_TABLE
                | &SqlState::INVALID_SCHEMA_NAME
                | &SqlState::WRONG_OBJECT_TYPE
                // A view that lost its rows.
                | &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            ) => return Ok(false),
            _ => return Err(error).doing(|| statement),
        }
        let holders = holders(observer, name).await?;
        if begun.elapsed() > options.lock_patience {
            let holders = holders.iter().map(OpenTransaction::to_string).collect::<Vec<_>>().join(", ");
            let seconds = options.lock_patience.as_secs();
            return Err(SourceError::Locked { table: name.to_string(), seconds, holders });
        }
        progress.report(SetupEvent::WaitingForTable { table: name.to_string(), holders });
    }
    Ok(true)
}

/// Runs a statement that takes a lock, without waiting for long and without losing the snapshot. The outer error is
/// that the connection is of no use any more.
async fn attempt(
    snapshot: &Connection,
    statement: &str,
) -> Result<Result<(), tokio_postgres::Error>, SourceError> {
    let script =
        format!("SAVEPOINT hold; SET LOCAL lock_timeout = '{ATTEMPT}'; {statement}; RELEASE SAVEPOINT hold");
    let outcome = snapshot.batch_execute(&script).await;
    if outcome.is_err() {
        let back = "ROLLBACK TO SAVEPOINT hold; RELEASE SAVEPOINT hold";
        snapshot.batch_execute(back).await.doing(|| "rolling back".to_owned())?;
    }
    Ok(outcome)
}
