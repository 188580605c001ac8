//! Making a backup.

use std::{future::Future, sync::Arc, time::Instant};

use ptr_log::Session;
use ptr_model::{OUR_SCHEMA, Position};
use ptr_postgres::{Connection, Dsn, ServerVersion, SessionSettings, connect, programs::found_no_room};
use ptr_replay::{
    SessionError,
    cursor::{self, Cursor, CursorState},
    snapshot::Exported,
};

use super::{contents, program, store};
use crate::{
    resource::{
        backup::{BackupAnswer, BackupFormat, BackupPosition, BackupState, CreateBackup},
        event::Event,
        session::Deleted,
    },
    service::{APPLICATION_NAME, Captured, Service, ServiceError, TiedSnapshot, blocking, born, now},
};

/// Connections with which `pg_dump` reads in directory format.
const JOBS: u32 = 2;

/// What is dumped.
struct Origin {
    dsn: Dsn,
    /// Whose database it is; none for the primary's.
    session: Option<Session>,
    /// The log whose position the dump shows.
    captured: Option<Arc<Captured>>,
}

impl Service {
    /// `POST /api/backups`.
    ///
    /// # Errors
    /// A server that does not answer, no fitting `pg_dump`, a full disk.
    pub async fn create_backup(
        self: &Arc<Self>,
        request: CreateBackup,
    ) -> Result<BackupAnswer, ServiceError> {
        let origin = self.backup_origin(&request).await?;
        let turn = self.turn_to_copy()?;
        let record = self.begin_backup(&request, &origin)?;
        let answer = record.answer.clone();
        let service = Arc::clone(self);
        // Its own task, so that it goes on when whoever asked goes away.
        let task = self.spawn(async move { service.run_backup(record, origin, turn).await });
        if request.background {
            return Ok(answer);
        }
        task.await
            .map_err(|error| ServiceError::Broken { detail: format!("the backup's task ended: {error}") })?
    }

    async fn backup_origin(&self, request: &CreateBackup) -> Result<Origin, ServiceError> {
        if let Some(session) = &request.session_id {
            let session = self.session_named(Some(session)).await?;
            return Ok(Origin {
                dsn: self.output()?.with_database(&session.target_database),
                captured: self.captured(Some(&session.database)).ok(),
                session: Some(session),
            });
        }
        let database = request.database.as_deref().unwrap_or(self.configuration().default_database());
        Ok(Origin {
            dsn: self.input()?.with_database(database),
            session: None,
            // Without a log the dump is as good; only its position is not known.
            captured: self.captured(Some(database)).ok(),
        })
    }

    fn begin_backup(&self, request: &CreateBackup, origin: &Origin) -> Result<store::Record, ServiceError> {
        let created_at = now().to_string();
        let name = request.name.clone().unwrap_or_else(|| usual_name(origin.dsn.database(), &created_at));
        store::check_name(&name)?;
        let record = store::Record {
            answer: BackupAnswer {
                id: name.clone(),
                path: self.backups.dump(&name).display().to_string(),
                name,
                database: origin.dsn.database().to_owned(),
                session_id: origin.session.as_ref().map(|session| session.id.to_string()),
                format: request.format.unwrap_or_default(),
                bytes: 0,
                server_version: String::new(),
                position: None,
                state: BackupState::Running,
                error: None,
                created_at,
                elapsed_ms: 0,
            },
            contents: contents::Contents::new(),
            pid: std::process::id(),
            born: born(std::process::id()),
        };
        self.backups.reserve(&record)?;
        self.tell(Event::Backup { backup: record.answer.clone() });
        Ok(record)
    }

    async fn run_backup(
        &self,
        mut record: store::Record,
        origin: Origin,
        turn: impl Future<Output: Send> + Send,
    ) -> Result<BackupAnswer, ServiceError> {
        let started = Instant::now();
        let dumping = async {
            let _turn = turn.await;
            self.dump(&mut record, &origin).await
        };
        let outcome = self.unless_it_ends(dumping, "make the backup again").await;
        let dump = self.backups.dump(&record.answer.id);
        record.answer.elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        match &outcome {
            Ok(()) => record.answer.state = BackupState::Complete,
            Err(error) => {
                store::remove_dump(&dump)?;
                record.answer.state = BackupState::Failed;
                record.answer.error = Some(error.to_string());
            }
        }
        record.answer.bytes = blocking(move || store::size(&dump)).await?;
        self.backups.save(&record)?;
        self.tell(Event::Backup { backup: record.answer.clone() });
        outcome.map(|()| record.answer)
    }

    async fn dump(&self, record: &mut store::Record, origin: &Origin) -> Result<(), ServiceError> {
        let connection = connect(&origin.dsn, &SessionSettings::named(APPLICATION_NAME)).await?;
        let version = server_version(&connection).await?;
        connection.close().await;
        record.answer.server_version = version.to_string();
        let pg_dump = self.programs()?.client_program("pg_dump", version.major)?;
        let (snapshot, position) = self.snapshot(origin).await?;
        record.answer.position = position;
        record.contents = contents::read(&**snapshot.connection()).await?;
        let arguments = arguments(record.answer.format, &record.answer.path, snapshot.id());
        let dumped = program::run("pg_dump", &pg_dump, snapshot.dsn(), &arguments).await;
        dumped.map_err(|error| no_room(error, &record.answer.path))?;
        snapshot.close().await;
        Ok(())
    }

    /// A snapshot, and which position it shows.
    async fn snapshot(&self, origin: &Origin) -> Result<(Exported, Option<BackupPosition>), ServiceError> {
        let at = |at: Position, exact| Some(BackupPosition { at: at.into(), exact });
        if let Some(session) = &origin.session {
            let exported = Exported::open(&origin.dsn).await?;
            let shown = self.position_shown(&exported, session, origin.captured.as_deref()).await?;
            return Ok((exported, shown.and_then(|(position, exact)| at(position, exact))));
        }
        let Some(captured) = &origin.captured else {
            return Ok((Exported::open(&origin.dsn).await?, None));
        };
        let Ok(before) = self.marker_position(captured).await else {
            // Nobody captures, so there is no telling where in the log this is.
            return Ok((Exported::open(&origin.dsn).await?, None));
        };
        match self.tied_snapshot(captured).await {
            Ok(TiedSnapshot { exported, position }) => Ok((exported, at(position, true))),
            // As good a dump; only its position is that of a moment before.
            Err(ServiceError::Precondition { .. }) => {
                Ok((Exported::open(&origin.dsn).await?, at(before, false)))
            }
            Err(error) => Err(error),
        }
    }

    /// Which position a snapshot of a session's database shows, as the database said then, and whether it holds exactly
    /// that; `None` where it is of another history.
    async fn position_shown(
        &self,
        exported: &Exported,
        session: &Session,
        captured: Option<&Captured>,
    ) -> Result<Option<(Position, bool)>, ServiceError> {
        let cursor = cursor::read(exported.connection()).await.map_err(SessionError::from)?;
        let is_present =
            |cursor: &Cursor| captured.is_none_or(|captured| captured.log.identity().log_id == cursor.log_id);
        let Some(cursor) = cursor.filter(is_present) else { return Ok(None) };
        // Asked after the snapshot was taken: a session is marked before it takes writes, and closing it replaces its
        // database, which ends the snapshot.
        let is_open = self.session_named(Some(&session.id.to_string())).await?.open;
        Ok(Some((cursor.position, cursor.state == CursorState::Settled && !is_open)))
    }

    /// `GET /api/backups`.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub async fn backups(&self) -> Result<Vec<BackupAnswer>, ServiceError> {
        let backups = self.backups.clone();
        blocking(move || backups.all()).await?
    }

    /// `GET /api/backups/{id}`.
    ///
    /// # Errors
    /// There is none of that id.
    pub async fn backup(&self, id: &str) -> Result<BackupAnswer, ServiceError> {
        Ok(self.backups.find(id)?.answer)
    }

    /// `DELETE /api/backups/{id}`.
    ///
    /// # Errors
    /// There is none of that id, or it is being made.
    pub async fn delete_backup(&self, id: &str) -> Result<Deleted, ServiceError> {
        let answer = self.backups.find(id)?.answer;
        if answer.state == BackupState::Running {
            return Err(ServiceError::precondition(
                format!("the backup {id:?} is being made"),
                "wait until it is done",
            ));
        }
        self.backups.remove(id)?;
        self.tell(Event::Deleted { resource: "backup".into(), id: id.to_owned() });
        Ok(Deleted { status: "deleted".into(), id: answer.id, name: answer.name })
    }
}

/// The version of the server behind a connection.
pub(crate) async fn server_version(connection: &Connection) -> Result<ServerVersion, ServiceError> {
    let row = connection.query_one("SELECT current_setting('server_version_num')::int", &[]).await?;
    Ok(ServerVersion::of_number(u32::try_from(row.get::<_, i32>(0)).unwrap_or_default()))
}

fn arguments(format: BackupFormat, path: &str, snapshot: &str) -> Vec<String> {
    let mut arguments = vec![
        format!("--file={path}"),
        format!("--snapshot={snapshot}"),
        format!("--exclude-schema={OUR_SCHEMA}"),
        "--no-password".into(),
        "--no-publications".into(),
        "--no-subscriptions".into(),
    ];
    match format {
        BackupFormat::Custom => arguments.push("--format=custom".into()),
        BackupFormat::Directory => arguments.extend(["--format=directory".into(), format!("--jobs={JOBS}")]),
    }
    arguments
}

/// `shop-20260501T123000Z`.
fn usual_name(database: &str, created_at: &str) -> String {
    let time: String = created_at.chars().take(19).filter(|c| !matches!(c, '-' | ':')).collect();
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    let database: String = database.chars().map(plain).take(60).collect();
    format!("{database}-{time}Z")
}

/// A full disk is told with the path, and what to do about it.
fn no_room(error: ServiceError, path: &str) -> ServiceError {
    match error {
        ServiceError::Program { output, .. } if found_no_room(&output) => {
            ServiceError::file("write", path)(std::io::Error::new(std::io::ErrorKind::StorageFull, output))
        }
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_name_is_always_a_sound_one() {
        let name = usual_name("../Sh op", "2026-05-01T12:30:00.123456Z");
        assert_eq!(name, "___Sh_op-20260501T123000Z");
        assert!(store::check_name(&name).is_ok());
    }
}
