//! Everything of ours on the output server, by what each database says about itself: its comment, or its cursor.

use ptr_model::SessionId;
use ptr_postgres::{ConnectError, Dsn};
use uuid::Uuid;

use crate::{
    cursor,
    database::{self, Doing},
    keyframe::{Kind, Mark},
    session::{self, SessionError, maintenance},
};

/// A database of ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Whose history it holds.
    pub log_id: Uuid,
    /// What it is.
    pub role: Role,
    /// Its bytes on disk.
    pub bytes: u64,
}

/// What a database of ours is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// A keyframe or a spare.
    Image,
    /// In the making, or left by a crash, or about to be dropped.
    Leftover,
    /// A session's.
    Session(SessionId),
    /// Nobody's yet, or that of a comparison.
    Unowned,
}

/// All databases of ours. Each that takes connections and has no comment of ours is looked into.
///
/// # Errors
/// The server cannot be asked.
pub async fn inventory(output: &Dsn) -> Result<Vec<Found>, SessionError> {
    let server = database::open(&maintenance(output, "")).await?;
    // A database that goes meanwhile has no size and no rights; of one that does not let us in no size is told.
    let sql = "SELECT d.datname::text, coalesce(s.description, ''),
                      CASE WHEN pg_catalog.has_database_privilege(d.oid, 'CONNECT')
                           THEN pg_catalog.pg_database_size(d.oid) END,
                      d.datallowconn AND coalesce(pg_catalog.has_database_privilege(d.oid, 'CONNECT'), false)
               FROM pg_catalog.pg_database d LEFT JOIN pg_catalog.pg_shdescription s
                 ON s.objoid = d.oid AND s.classoid = 'pg_catalog.pg_database'::regclass
               WHERE d.datname NOT IN ('postgres', 'template0', 'template1') ORDER BY 1";
    let rows = server.query(sql, &[]).await.doing("look which databases there are")?;
    server.close().await;
    let mut all = Vec::new();
    for row in rows {
        let (name, comment): (String, String) = (row.get(0), row.get(1));
        let bytes =
            row.get::<_, Option<i64>>(2).and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default();
        let said = match Mark::parse(&comment) {
            Some(mark) => Some((mark.log_id, role_of(mark.kind))),
            None if row.get(3) => of_cursor(output, &name).await?,
            None => None,
        };
        all.extend(said.map(|(log_id, role)| Found { name, log_id, role, bytes }));
    }
    Ok(all)
}

fn role_of(kind: Kind) -> Role {
    match kind {
        Kind::Keyframe | Kind::Spare => Role::Image,
        Kind::Unfinished | Kind::Discarded => Role::Leftover,
    }
}

async fn of_cursor(output: &Dsn, name: &str) -> Result<Option<(Uuid, Role)>, SessionError> {
    let client = match database::open(&output.with_database(name)).await {
        Ok(client) => client,
        // It went meanwhile, or does not let us in: then it is not for us to judge.
        Err(ConnectError::LoginRefused { .. } | ConnectError::Server { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let found = cursor::read(&client).await;
    client.close().await;
    // A table of that name with something else in it is nobody's that we know.
    let found = found.ok().flatten();
    Ok(found.map(|cursor| (cursor.log_id, cursor.session_id.map_or(Role::Unowned, Role::Session))))
}

/// Drops a database, ending its connections.
///
/// # Errors
/// The server refuses.
pub async fn drop_database(output: &Dsn, name: &str) -> Result<(), SessionError> {
    let server = database::open(&maintenance(output, name)).await?;
    let dropped = session::drop_database(&server, name).await;
    server.close().await;
    Ok(dropped?)
}
