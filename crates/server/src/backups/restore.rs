//! Restoring a backup: into a new database, which takes the old one's place when it is whole.

use std::{future::Future, path::Path, process::Stdio, sync::Arc, time::Instant};

use ptr_log::Session;
use ptr_model::{OUR_SCHEMA, Position};
use ptr_postgres::quote_identifier;

use super::{
    create::server_version,
    place::Target,
    program,
    scratch::{Purpose, Scratch},
    store,
};
use crate::{
    resource::backup::{BackupState, RestoreBackup, Restored},
    service::{Service, ServiceError, check_target},
};

/// What to do when the service has ended meanwhile.
const AGAIN: &str = "restore the backup again; nothing was replaced";

impl Service {
    /// `POST /api/backups/{id}/restore`. Goes on when whoever asked goes away.
    ///
    /// # Errors
    /// A database that is there and not empty without consent, a dump that does not restore, a database that is not left by
    /// those who use it, the end of the service.
    pub async fn restore_backup(
        self: &Arc<Self>,
        id: &str,
        request: RestoreBackup,
    ) -> Result<Restored, ServiceError> {
        let (service, id, turn) = (Arc::clone(self), id.to_owned(), self.turn_to_copy()?);
        let task = self.spawn(async move { service.restore(&id, request, turn).await });
        task.await
            .map_err(|error| ServiceError::Broken { detail: format!("the restore's task ended: {error}") })?
    }

    async fn restore(
        &self,
        id: &str,
        request: RestoreBackup,
        turn: impl Future<Output: Send> + Send,
    ) -> Result<Restored, ServiceError> {
        let started = Instant::now();
        let record = self.complete_backup(id)?;
        let mut target = self.target(&request).await?;
        // What is refused does not wait, and who waits has no connection; nor the session's lock, which moves need.
        let maintenance = self.output_maintenance().await?;
        self.refuse_without_consent(&maintenance, &target, request.replace).await?;
        maintenance.close().await;
        if target.session.is_none() {
            check_target(&target.database)?;
        }
        let _turn = self.unless_it_ends(async { Ok(turn.await) }, AGAIN).await?;
        let maintenance = self.output_maintenance().await?;
        self.refuse_without_consent(&maintenance, &target, request.replace).await?;
        // Nobody moves the session meanwhile, and what a move kept of its database is let go.
        let lock = match &mut target.session {
            Some(session) => {
                // It may have been opened or closed while this waited.
                let lock;
                (*session, lock) = self.take_session(session.id).await?;
                target.database.clone_from(&session.target_database);
                Some(lock)
            }
            None => None,
        };
        let scratch = Scratch::begin(maintenance, Purpose::Restore).await?;
        let restored = self.restore_over(&scratch, &record, &target, request.replace).await;
        scratch.end().await;
        drop(lock);
        restored?;
        if let Some(session) = &target.session {
            self.told_session(session).await?;
        }
        let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let status = "restored".into();
        Ok(Restored { status, backup_id: id.to_owned(), database: target.database, elapsed_ms })
    }

    async fn target(&self, request: &RestoreBackup) -> Result<Target, ServiceError> {
        match (&request.session_id, &request.database) {
            (Some(session), None) => {
                let session = self.session_named(Some(session)).await?;
                Ok(Target { database: session.target_database.clone(), session: Some(session) })
            }
            (None, Some(database)) => Ok(Target { session: None, database: database.clone() }),
            _ => Err(ServiceError::usage(
                "say where to restore to: either a session or a database",
                "give session_id or database, not both",
            )),
        }
    }

    /// Restores into the scratch database, and has that take the target's place.
    async fn restore_over(
        &self,
        scratch: &Scratch,
        record: &store::Record,
        target: &Target,
        consent: bool,
    ) -> Result<(), ServiceError> {
        let building = async {
            self.restore_into(scratch, record).await?;
            if let Some(session) = &target.session {
                let near = self.near(record, session).await?;
                self.session_database(session)?.adopt(scratch.name(), near).await?;
            }
            // Restoring may take hours, and somebody may have made something under that name meanwhile.
            self.refuse_without_consent(scratch.maintenance(), target, consent).await
        };
        self.unless_it_ends(building, AGAIN).await?;
        match &target.session {
            Some(session) => self.take_place_of(scratch, session).await,
            None => self.take_place(scratch, &target.database).await,
        }
    }

    /// What the session's database holds then is no position of the log, and replay must not build on it. So the session is
    /// marked as open from just before, and as it was again where the old database is known to have stayed.
    async fn take_place_of(&self, scratch: &Scratch, session: &Session) -> Result<(), ServiceError> {
        self.mark_open(session, true).await?;
        let taken = self.take_place(scratch, &session.target_database).await;
        let stayed = match &taken {
            Ok(()) => false,
            // Where the server went away, nobody knows.
            Err(ServiceError::Server(error)) => error.code().is_some(),
            Err(_) => true,
        };
        if stayed {
            self.mark_open(session, session.open).await?;
        }
        taken
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

    /// Makes the scratch database from the dump.
    pub(super) async fn restore_into(
        &self,
        scratch: &Scratch,
        record: &store::Record,
    ) -> Result<(), ServiceError> {
        let maintenance = scratch.maintenance();
        let sql = format!("CREATE DATABASE {} TEMPLATE template0", quote_identifier(scratch.name()));
        maintenance.batch_execute(&sql).await?;
        let dsn = self.output()?.with_database(scratch.name());
        let major = server_version(maintenance).await?.major.max(dumped_major(record));
        let pg_restore = self.programs()?.client_program("pg_restore", major)?;
        let dump = self.backups.dump(&record.answer.id);
        let list =
            tempfile::NamedTempFile::new().map_err(ServiceError::file("create", std::env::temp_dir()))?;
        let wanted = wanted(&pg_restore, &dump).await?;
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
        program::run("pg_restore", &pg_restore, &dsn, &arguments).await
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
