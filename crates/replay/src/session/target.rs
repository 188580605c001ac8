//! What stands under a database's name: nothing, an empty database, one of ours, or somebody else's.

use ptr_model::OUR_SCHEMA;
use ptr_postgres::{ConnectError, Dsn};
use tokio_postgres::Client;

use super::{SessionError, maintenance};
use crate::{
    cursor::{self, Cursor},
    database::{self, DatabaseError, Doing},
};

/// What stands under a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TargetState {
    /// Nothing.
    Absent,
    /// A database without anything of a user's.
    Empty,
    /// A session's database, with its position.
    Ours(Cursor),
    /// A database with something in it.
    Foreign {
        /// What it holds, for the user.
        holds: String,
    },
}

/// Looks what stands under a database's name.
///
/// # Errors
/// [`SessionError`] where the server cannot be asked.
pub async fn inspect(output: &Dsn, name: &str) -> Result<TargetState, SessionError> {
    let server = database::open(&maintenance(output, name)).await?;
    let sql = "SELECT datallowconn FROM pg_database WHERE datname = $1";
    let row = server.query_opt(sql, &[&name]).await.doing_with(|| format!("look for database {name}"))?;
    match row.map(|row| row.get::<_, bool>(0)) {
        None => return Ok(TargetState::Absent),
        Some(false) => return Ok(TargetState::Foreign { holds: "it accepts no connections".to_owned() }),
        Some(true) => {}
    }
    let client = match database::open(&output.with_database(name)).await {
        Ok(client) => client,
        Err(ConnectError::LoginRefused { error, .. }) => {
            return Ok(TargetState::Foreign { holds: format!("it cannot be looked into: {error}") });
        }
        Err(error) => return Err(error.into()),
    };
    let state = look_into(&client).await;
    client.close().await;
    state
}

async fn look_into(client: &Client) -> Result<TargetState, SessionError> {
    if let Some(cursor) = cursor::read(client).await? {
        return Ok(TargetState::Ours(cursor));
    }
    let objects = objects(client).await?;
    if objects.is_empty() {
        Ok(TargetState::Empty)
    } else {
        Ok(TargetState::Foreign { holds: objects.join(", ") })
    }
}

/// Objects made since `initdb` (OIDs from 16384 on), some of them by name. An extension's parts are the
/// extension's; a type of a table is the table's.
async fn objects(client: &Client) -> Result<Vec<String>, DatabaseError> {
    let sql = format!(
        "SELECT what FROM (
             SELECT format('table or view %I.%I', n.nspname, c.relname) AS what, c.oid, 'pg_class'::regclass AS class
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND n.nspname !~ '^pg_(toast|temp)'
             UNION ALL SELECT format('schema %I', nspname), oid, 'pg_namespace'::regclass FROM pg_namespace
             WHERE nspname !~ '^pg_(toast_)?temp_'
             UNION ALL SELECT format('function %s', oid::regprocedure), oid, 'pg_proc'::regclass FROM pg_proc
             UNION ALL SELECT format('type %s', format_type(oid, -1)), oid, 'pg_type'::regclass FROM pg_type
             WHERE typrelid = 0 AND typelem = 0
             UNION ALL SELECT format('extension %I', extname), oid, 'pg_extension'::regclass FROM pg_extension
             UNION ALL SELECT 'a large object', oid, 'pg_largeobject'::regclass FROM pg_largeobject_metadata
         ) AS made
         WHERE oid >= 16384 AND what <> 'schema {OUR_SCHEMA}' AND NOT EXISTS (
             SELECT FROM pg_depend d WHERE d.classid = made.class AND d.objid = made.oid AND d.deptype = 'e')
         LIMIT 5"
    );
    let rows = client.query(&sql, &[]).await.doing("look what the database holds")?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
