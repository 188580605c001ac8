//! Restoring a backup: into a new database, which takes the old one's place when it is whole.

use std::{path::Path, process::Stdio, time::Instant};

use ptr_log::Session;
use ptr_model::{OUR_SCHEMA, Position};
use ptr_postgres::{Connection, Dsn, SessionSettings, connect, quote_identifier};
use ptr_replay::session::refuse_source;

use super::{
    create::server_version,
    program,
    scratch::{Purpose, replaced_by, take_name},
    store,
};
use crate::{
    resource::backup::{BackupState, RestoreBackup, Restored},
    service::{APPLICATION_NAME, Service, ServiceError},
};

impl Service {
    /// `POST /api/backups/{id}/restore`.
    ///
    /// # Errors
    /// A database that is there and not empty without consent, a dump that does not restore.
    pub async fn restore_backup(&self, id: &str, request: RestoreBackup) -> Result<Restored, ServiceError> {
        let started = Instant::now();
        let record = self.complete_backup(id)?;
        let session = match (&request.session_id, &request.database) {
            (Some(session), None) => Some(self.session_named(Some(session)).await?),
            (None, Some(_)) => None,
            _ => {
                return Err(ServiceError::usage(
                    "say where to restore to: either a session or a database",
                    "give session_id or database, not both",
                ));
            }
        };
        let database = match (&session, request.database) {
            (Some(session), _) => session.target_database.clone(),
            (None, database) => database.unwrap_or_default(),
        };
        let maintenance = self.output_maintenance().await?;
        if session.is_none() {
            self.refuse_without_consent(&maintenance, &database, request.replace).await?;
        }
        // Nobody moves the session meanwhile, and what a move kept of its database is let go.
        let lock = match &session {
            Some(session) => Some(self.take_session(session).await?),
            None => None,
        };
        let fresh = take_name(&maintenance, Purpose::Restore).await?;
        self.restore_into_new(&maintenance, &record, &fresh).await?;
        if let Some(session) = &session {
            let near = self.near(&record, session).await?;
            self.session_database(session)?.adopt(&fresh, near).await?;
            // What it holds is no position of the log, so replay must not build on it; from before it is there.
            self.mark_open(session).await?;
        }
        take_place(&maintenance, &fresh, &database).await?;
        drop(lock);
        if let Some(session) = &session {
            self.told_session(session).await?;
        }
        maintenance.close().await;
        let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Restored { status: "restored".into(), backup_id: id.to_owned(), database, elapsed_ms })
    }

    /// Where the backup says that it is, if that is a position of the session's log; else where the log begins.
    async fn near(&self, record: &store::Record, session: &Session) -> Result<Position, ServiceError> {
        let captured = self.captured(Some(&session.database))?;
        let Some(known) = record.answer.position.as_ref().map(|position| position.at.clone()) else {
            return Ok(captured.log.creation());
        };
        let found = captured.read(move |log| {
            let (first, head) = (log.creation(), log.head()?);
            (first.ordinal <= known.transaction && known.transaction <= head.ordinal)
                .then(|| log.position_at(known.transaction))
                .transpose()
        });
        let found = found.await?.filter(|found| {
            record.answer.position.as_ref().is_some_and(|position| position.at == (*found).into())
        });
        Ok(found.unwrap_or(captured.log.creation()))
    }

    pub(super) fn complete_backup(&self, id: &str) -> Result<store::Record, ServiceError> {
        let record = self.backups.find(id)?;
        match record.answer.state {
            BackupState::Complete => Ok(record),
            BackupState::Running => Err(ServiceError::precondition(
                format!("the backup {id:?} is being made"),
                "wait until it is done",
            )),
            BackupState::Failed => Err(ServiceError::precondition(
                format!("the backup {id:?} failed and holds nothing"),
                "delete it and make another",
            )),
        }
    }

    /// Makes `database` on the output server from the dump; drops it again where that fails.
    pub(super) async fn restore_into_new(
        &self,
        maintenance: &Connection,
        record: &store::Record,
        database: &str,
    ) -> Result<(), ServiceError> {
        let quoted = quote_identifier(database);
        maintenance.batch_execute(&format!("DROP DATABASE IF EXISTS {quoted} WITH (FORCE)")).await?;
        maintenance.batch_execute(&format!("CREATE DATABASE {quoted} TEMPLATE template0")).await?;
        let dsn = self.output()?.with_database(database);
        let restored = self.run_restore(maintenance, record, &dsn).await;
        if restored.is_err() {
            maintenance.batch_execute(&format!("DROP DATABASE IF EXISTS {quoted} WITH (FORCE)")).await?;
        }
        restored
    }

    async fn run_restore(
        &self,
        maintenance: &Connection,
        record: &store::Record,
        dsn: &Dsn,
    ) -> Result<(), ServiceError> {
        let major = server_version(maintenance).await?.major.max(dumped_major(record));
        let pg_restore = self.programs()?.client_program("pg_restore", major)?;
        let dump = Path::new(&record.answer.path);
        let list =
            tempfile::NamedTempFile::new().map_err(ServiceError::file("create", std::env::temp_dir()))?;
        let wanted = wanted(&pg_restore, dump).await?;
        std::fs::write(list.path(), wanted).map_err(ServiceError::file("write", list.path()))?;
        let arguments = [
            "--exit-on-error".to_owned(),
            "--no-password".into(),
            // Roles of the primary need not exist here.
            "--no-owner".into(),
            "--no-privileges".into(),
            "--no-publications".into(),
            "--no-subscriptions".into(),
            format!("--use-list={}", list.path().display()),
            format!("--dbname={}", dsn.database()),
            dump.display().to_string(),
        ];
        program::run("pg_restore", &pg_restore, dsn, &arguments).await
    }

    async fn refuse_without_consent(
        &self,
        maintenance: &Connection,
        database: &str,
        consent: bool,
    ) -> Result<(), ServiceError> {
        refuse_source(maintenance, database).await?;
        if consent || !exists(maintenance, database).await? {
            return Ok(());
        }
        let dsn = self.output()?.with_database(database);
        let inside = connect(&dsn, &SessionSettings::canonical(APPLICATION_NAME)).await?;
        let sql = "SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                   WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";
        let objects: i64 = inside.query_one(sql, &[]).await?.get(0);
        inside.close().await;
        if objects == 0 {
            return Ok(());
        }
        Err(ServiceError::precondition(
            format!(
                "the database {database:?} on the output server is not empty: it holds {objects} tables, indexes and the like"
            ),
            "restore into another database, or give consent with \"replace\": true (--yes)",
        ))
    }
}

/// The major version of the dumped server, which wrote the dump's contents.
fn dumped_major(record: &store::Record) -> u32 {
    let version = &record.answer.server_version;
    version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or_default()
}

/// The dump's table of contents without what belongs to capture: our event triggers are in every dump of the
/// primary, and would fire on the replica.
async fn wanted(pg_restore: &Path, dump: &Path) -> Result<String, ServiceError> {
    let output = tokio::process::Command::new(pg_restore)
        .arg("--list")
        .arg(dump)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(ServiceError::file("run", pg_restore))?;
    if !output.status.success() {
        let output = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(ServiceError::Program { program: "pg_restore", output });
    }
    let list = String::from_utf8_lossy(&output.stdout).into_owned();
    let ours = |line: &&str| line.contains(" EVENT TRIGGER ") && line.contains(OUR_SCHEMA);
    Ok(list.lines().filter(|line| !ours(line)).map(|line| format!("{line}\n")).collect())
}

async fn exists(maintenance: &Connection, database: &str) -> Result<bool, tokio_postgres::Error> {
    let sql = "SELECT FROM pg_catalog.pg_database WHERE datname = $1";
    Ok(maintenance.query_opt(sql, &[&database]).await?.is_some())
}

/// Gives `fresh` the name `database`; what had it before is dropped. Both or neither.
async fn take_place(maintenance: &Connection, fresh: &str, database: &str) -> Result<(), ServiceError> {
    let (fresh_name, name) = (quote_identifier(fresh), quote_identifier(database));
    let old = quote_identifier(&replaced_by(fresh));
    if exists(maintenance, database).await? {
        let ended =
            "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE datname = $1";
        maintenance.query(ended, &[&database]).await?;
        // Both renames in one transaction: there is no moment without a database of that name.
        let swap = format!(
            "BEGIN; ALTER DATABASE {name} RENAME TO {old}; ALTER DATABASE {fresh_name} RENAME TO {name}; COMMIT"
        );
        maintenance.batch_execute(&swap).await?;
        maintenance.batch_execute(&format!("DROP DATABASE IF EXISTS {old} WITH (FORCE)")).await?;
    } else {
        maintenance.batch_execute(&format!("ALTER DATABASE {fresh_name} RENAME TO {name}")).await?;
    }
    Ok(())
}
