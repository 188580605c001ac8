//! What a backup is restored over: looked at before anything is done, and replaced in one step.
//!
//! The renames are one transaction, so that the name is at no time nobody's, and whatever ends the process leaves the old
//! database or the new one. While it waits for the old one to be left, the server lets nobody into it: who connects waits for
//! the lock of the database that is being renamed. So it is enough to end connections as long as the renames are under way,
//! and no door is closed that a crash would leave closed.

use std::{pin::pin, time::Duration};

use ptr_log::Session;
use ptr_postgres::{Connection, ServerError, quote_identifier};
use ptr_replay::session::{TargetState, inspect, refuse_source};
use tokio_postgres::error::SqlState;

use super::scratch::Scratch;
use crate::service::{Service, ServiceError};

/// How often the renames are tried. The server waits five seconds each time for those who are being ended.
const ATTEMPTS: u32 = 2;

/// How long after who is connected was ended it is done again.
const PAUSE: Duration = Duration::from_millis(20);

/// What a backup is restored over.
pub(super) struct Target {
    /// Whose database it is; none where it is no session's.
    pub(super) session: Option<Session>,
    /// Its name on the output server.
    pub(super) database: String,
}

impl Service {
    /// Refuses what holds something that is not ours, unless its loss was agreed to; and what no consent covers.
    pub(super) async fn refuse_without_consent(
        &self,
        maintenance: &Connection,
        target: &Target,
        consent: bool,
    ) -> Result<(), ServiceError> {
        let Target { session, database } = target;
        refuse_the_servers_own(maintenance, database).await?;
        refuse_source(maintenance, database).await?;
        let holds = match (inspect(self.output()?, database).await?, session) {
            (TargetState::Absent | TargetState::Empty, _) => return Ok(()),
            (TargetState::Ours(cursor), Some(session)) => {
                if cursor.log_id == self.session_database(session)?.log_id {
                    return Ok(());
                }
                format!("a session of log {}", cursor.log_id)
            }
            (TargetState::Ours(cursor), None) => {
                if let Some(id) = cursor.session_id {
                    self.refuse_a_sessions(database, &id.to_string()).await?;
                }
                format!("a session of log {}", cursor.log_id)
            }
            (TargetState::Foreign { holds }, _) => holds,
        };
        if consent {
            return Ok(());
        }
        Err(ServiceError::precondition(
            format!("the database {database:?} on the output server is not empty ({holds})"),
            "restore into another database, or give consent with \"replace\": true (--yes)",
        ))
    }

    /// A session's database is replaced as the session's, under its lock and with its mark.
    async fn refuse_a_sessions(&self, database: &str, id: &str) -> Result<(), ServiceError> {
        match self.session_named(Some(id)).await {
            Ok(session) if session.target_database == database => Err(ServiceError::precondition(
                format!("the database {database:?} is that of session {:?}", session.name),
                format!("restore into the session: session_id, or --session {}", session.name),
            )),
            Ok(_) | Err(ServiceError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Gives the scratch database the target's name. What had it before has the scratch's other name then, and nobody is in it.
    ///
    /// # Errors
    /// Somebody is connected whom the server does not end. The old database then has its name.
    pub(super) async fn take_place(&self, scratch: &Scratch, database: &str) -> Result<(), ServiceError> {
        let ending = self.output_maintenance().await?;
        let mut attempt = 1;
        let taken = loop {
            let taken = rename(scratch, database, &ending).await;
            let in_use = matches!(&taken, Err(error) if error.code() == Some(&SqlState::OBJECT_IN_USE));
            if !in_use || attempt == ATTEMPTS {
                break taken;
            }
            attempt += 1;
        };
        ending.close().await;
        taken.map_err(|error| match ServerError::of(&error) {
            Some(said) if error.code() == Some(&SqlState::OBJECT_IN_USE) => ServiceError::precondition(
                format!("the database {database:?} is still in use, so it was not replaced: {said}"),
                "end those connections, commit or roll back its prepared transactions (pg_prepared_xacts), and restore again",
            ),
            _ => error.into(),
        })
    }
}

/// Nobody can do without these, and the output server's administration is done from one of them.
async fn refuse_the_servers_own(maintenance: &Connection, database: &str) -> Result<(), ServiceError> {
    let sql = "SELECT FROM pg_catalog.pg_database
               WHERE datname = $1 AND (datistemplate OR datname = pg_catalog.current_database())";
    if maintenance.query_opt(sql, &[&database]).await?.is_none() {
        return Ok(());
    }
    Err(ServiceError::precondition(
        format!("the database {database:?} on the output server is the server's own"),
        "restore into another database",
    ))
}

/// Both renames or neither, while those who are connected to the old database are ended by another session.
async fn rename(scratch: &Scratch, database: &str, ending: &Connection) -> Result<(), tokio_postgres::Error> {
    let maintenance = scratch.maintenance();
    let (fresh, name) = (quote_identifier(scratch.name()), quote_identifier(database));
    let present = "SELECT oid FROM pg_catalog.pg_database WHERE datname = $1";
    let old: Option<u32> = maintenance.query_opt(present, &[&database]).await?.map(|row| row.get(0));
    let away = match old {
        Some(_) => format!("ALTER DATABASE {name} RENAME TO {};", quote_identifier(&scratch.replaced())),
        None => String::new(),
    };
    let sql = format!("BEGIN; {away} ALTER DATABASE {fresh} RENAME TO {name}; COMMIT");
    let mut renaming = pin!(maintenance.batch_execute(&sql));
    let mut not_ended = None;
    let renamed = loop {
        // What was begun is waited for, whatever comes of the ending: else nobody knows which of the two is there.
        tokio::select! {
            biased;
            renamed = &mut renaming => break renamed,
            ended = end_connections(ending, old), if not_ended.is_none() => not_ended = ended.err(),
        }
    };
    let Err(error) = renamed else { return Ok(()) };
    maintenance.batch_execute("ROLLBACK").await?;
    Err(not_ended.unwrap_or(error))
}

/// By the database's own number: the name may be the new one's when the server comes to it. Autovacuum, which only a superuser
/// may end, is ended by the renames themselves.
async fn end_connections(server: &Connection, database: Option<u32>) -> Result<(), tokio_postgres::Error> {
    let sql = "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
               WHERE datid = $1 AND backend_type <> 'autovacuum worker'";
    server.execute(sql, &[&database]).await?;
    tokio::time::sleep(PAUSE).await;
    Ok(())
}
