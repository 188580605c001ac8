//! Tables that no event told of: what `EXPLAIN ANALYZE CREATE TABLE AS` makes fires no event trigger.
//!
//! Such a table shows up as an announcement before its first row, with the replica identity that PostgreSQL gives a
//! new table, where one that our event triggers saw has FULL. The assembler notices ([`Undescribed`]); [`look_up`]
//! asks the primary over a connection beside the stream, gives the table the identity that it needs before the user's
//! next UPDATE fails (55000), and describes it, so that the log can make it before its rows.
//!
//! Invariant: what is described is the announced table and nothing less. One that has another shape by now, or more
//! than a query leaves (an index, a constraint), is not, and replay stops at its rows.

use std::time::{Duration, Instant};

use ptr_model::{AffectedObject, Environment, Oid, SchemaChange, Statement, Xid};
use ptr_postgres::{ConnectError, Dsn, SessionSettings, connect};
use serde_json::Value;
use tokio_postgres::{Client, Row};

use crate::decode::RelationMessage;

/// How long the announced table's transaction may take to end on the server: its commit is in the WAL a moment
/// before others see it.
const VISIBLE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);
/// Nothing here waits for locks of users; a server that is this slow is not waited for.
const SETTINGS: &str = "SET statement_timeout = '5s'; SET lock_timeout = '1s'";

/// A table that was announced and that no event told of, as far as the stream shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Undescribed {
    /// As announced.
    pub relation: RelationMessage,
    /// The transaction whose rows come next.
    pub xid: Xid,
}

/// Why the primary did not say.
#[derive(Debug, thiserror::Error)]
pub enum LookUpError {
    /// It was not reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It refused.
    #[error(transparent)]
    Refused(#[from] tokio_postgres::Error),
}

/// Whether the transaction still holds the lock on its own id, which it gives up when others see what it did.
const IS_RUNNING: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks
    WHERE locktype = 'transactionid' AND granted AND transactionid = $1::text::pg_catalog.xid)";

/// The table, where it has FULL now and nothing that a query's table does not have, and is no extension's, whose
/// script makes it on the replica too.
const DESCRIBE: &str = "
    SELECT n.nspname::text, c.relname::text, pg_catalog.pg_get_userbyid(c.relowner)::text,
           ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
                  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
           ARRAY(SELECT a.atttypid FROM pg_catalog.pg_attribute a
                  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
           ARRAY(SELECT a.atttypmod FROM pg_catalog.pg_attribute a
                  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
           postgres_test_replay.describe_table_as(ARRAY[c.oid])::text
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = $1 AND c.relkind = 'r' AND c.relreplident = 'f' AND c.reloftype = 0
       AND NOT c.relhasindex AND NOT c.relhasrules AND NOT c.relhastriggers AND NOT c.relispartition
       AND NOT c.relhassubclass AND NOT c.relrowsecurity AND c.relchecks = 0
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0
                        AND (a.attisdropped OR a.attnotnull OR a.atthasdef OR a.attidentity <> ''))
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid)
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid)
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
                        WHERE e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND e.objid = c.oid
                          AND e.deptype = 'e')
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_description d
                        WHERE d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objoid = c.oid)";

/// Settles the table's replica identity and answers with the schema change that makes it; `None` where it is not to
/// be had any more as it was announced, or should keep the identity that it has.
///
/// # Errors
/// [`LookUpError`]; the table is then not described.
pub async fn look_up(dsn: &Dsn, asked: &Undescribed) -> Result<Option<SchemaChange>, LookUpError> {
    let client = connect(dsn, &SessionSettings::canonical(ptr_model::OUR_SCHEMA).that_writes()).await?;
    let found = ask(&client, asked).await;
    client.close().await;
    let Some(row) = found? else { return Ok(None) };
    Ok(is_as_announced(&row, &asked.relation).then(|| made(&row, asked.relation.oid)).flatten())
}

async fn ask(client: &Client, asked: &Undescribed) -> Result<Option<Row>, tokio_postgres::Error> {
    client.batch_execute(SETTINGS).await?;
    let (began, xid) = (Instant::now(), asked.xid.to_string());
    while client.query_one(IS_RUNNING, &[&xid]).await?.get(0) && began.elapsed() < VISIBLE {
        tokio::time::sleep(PAUSE).await;
    }
    let oid = asked.relation.oid.0;
    client.execute("SELECT postgres_test_replay.settle(ARRAY[$1::pg_catalog.oid])", &[&oid]).await?;
    client.query_opt(DESCRIBE, &[&oid]).await
}

fn is_as_announced(row: &Row, announced: &RelationMessage) -> bool {
    let (schema, name): (&str, &str) = (row.get(0), row.get(1));
    let (names, types, modifiers): (Vec<&str>, Vec<u32>, Vec<i32>) = (row.get(3), row.get(4), row.get(5));
    let found =
        names.into_iter().zip(types).zip(modifiers).map(|((name, oid), modifier)| (name, Oid(oid), modifier));
    let columns = announced.columns.iter();
    let columns = columns.map(|column| (column.name.as_str(), column.type_oid, column.type_modifier));
    (schema, name) == (announced.schema.as_str(), announced.name.as_str()) && found.eq(columns)
}

fn made(row: &Row, oid: Oid) -> Option<SchemaChange> {
    let (schema, owner): (String, String) = (row.get(0), row.get(2));
    let described: Value = serde_json::from_str(row.get::<_, Option<&str>>(6)?).ok()?;
    let identity = described[0]["relation"].as_str()?.to_owned();
    let statement =
        format!("CREATE TABLE {identity} AS /* a query that EXPLAIN ANALYZE ran; no event tells which */");
    let environment =
        Environment { session_user: owner.clone(), current_user: owner, ..Environment::default() };
    let object = AffectedObject {
        object_type: "table".to_owned(),
        schema: Some(schema),
        identity,
        oid: oid.0,
        in_extension: false,
    };
    Some(SchemaChange {
        tag: "CREATE TABLE AS".to_owned(),
        is_entry: true,
        event: "ddl_command_end".to_owned(),
        statement: Statement::Text(statement),
        environment,
        objects: vec![object],
        dropped: Vec::new(),
        rewrites: Vec::new(),
        missing_values: Vec::new(),
        roles: None,
        details: [("table_as".to_owned(), described), ("announced".to_owned(), Value::Bool(true))].into(),
    })
}
