//! Sessions: their databases, and which one is meant.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use ptr_capture::sequences::sample_sequences;
use ptr_log::{CatalogError, DEFAULT_SESSION, NewSession, SequenceSample, Session};
use ptr_model::{Position, SessionId};
use ptr_postgres::{Installation, SessionSettings, connect};
use ptr_replay::{
    SessionError,
    base::{BaseOptions, BaseProgress, Manifest, install_base},
    cursor::{Cursor, CursorState},
    session::{Access, Consent, SessionDatabase, TargetState, inspect, unfit},
};

use super::{
    APPLICATION_NAME, Announcement, Announcer, Captured, Role, Service, ServiceError, blocking,
    moves::SessionLock,
};
use crate::resource::{
    event::Event,
    navigation::{Navigate, Progress},
    session::{CreateSession, DeleteSession, Deleted, SessionAnswer, SessionQuery, SessionState},
};

/// Jobs with which the base image is restored.
const JOBS: usize = 2;

/// Databases that are asked at a time where they are for all sessions.
const AT_ONCE: usize = 8;

impl Service {
    /// `POST /api/sessions`.
    ///
    /// # Errors
    /// A name or target database that is taken, a position outside the log, a server that does not answer.
    pub async fn create_session(
        self: &Arc<Self>,
        request: CreateSession,
    ) -> Result<SessionAnswer, ServiceError> {
        // Until the session is there, no beginning moves and no history goes.
        let still = self.beginning.read().await;
        let captured = self.captured(request.database.as_deref())?;
        if let Some(at) = &request.at {
            // Before anything is made.
            self.resolve(&captured, at, None).await?;
        }
        if let Some(target) = &request.target_database {
            check_target(target)?;
        }
        let target =
            request.target_database.unwrap_or_else(|| target_database(&captured.database, &request.name));
        let consent = if request.replace { Consent::Given } else { Consent::Missing };
        let new = NewSession {
            name: request.name,
            description: request.description.unwrap_or_default(),
            database: captured.database.clone(),
            target_database: target,
        };
        let catalog = self.catalog.clone();
        let session = blocking(move || catalog.create_session(&new)).await??;
        // Whoever sees the session already waits with a move of it until it has a database.
        let lock = self.moves.take(session.id, &self.configuration.data.run()).await?;
        drop(still);
        let made = match self.refuse_a_copy(&session, consent).await {
            Ok(()) => self.make_database(&session, consent, &Announcer::silent()).await,
            Err(error) => Err(error),
        };
        drop(lock);
        if let Err(error) = made {
            let (catalog, id) = (self.catalog.clone(), session.id);
            blocking(move || catalog.delete_session(id)).await??;
            return Err(error);
        }
        if request.at.is_some() {
            let request = Navigate {
                position: request.at,
                session_id: Some(session.id.to_string()),
                ..Navigate::default()
            };
            self.navigate(request).await?;
        }
        self.told_session(&session).await
    }

    /// What a session of this history holds has the marks of one, and so has a copy that somebody made of it.
    async fn refuse_a_copy(&self, session: &Session, consent: Consent) -> Result<(), ServiceError> {
        let Consent::Missing = consent else { return Ok(()) };
        let database = &session.target_database;
        let TargetState::Ours(cursor) = inspect(self.output()?, database).await? else { return Ok(()) };
        let Some(of) = cursor.session_id.filter(|of| *of != session.id) else { return Ok(()) };
        match self.session_named(Some(&of.to_string())).await {
            Ok(of) => {
                let holds = format!("a copy of session {:?}", of.name);
                Err(SessionError::Foreign { database: database.clone(), holds }.into())
            }
            // It was left by a session that is gone.
            Err(ServiceError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes a session's database at CREATION.
    pub(super) async fn make_database(
        &self,
        session: &Session,
        consent: Consent,
        announcer: &Announcer,
    ) -> Result<(), ServiceError> {
        let template = self.install_base(&session.database, announcer).await?;
        self.session_database(session)?.create(&template, consent).await?;
        self.sample_at_creation(session).await
    }

    /// A session just made is at CREATION and has the base image's sequences: what going back there by undo needs.
    async fn sample_at_creation(&self, session: &Session) -> Result<(), ServiceError> {
        let position = self.captured(Some(&session.database))?.log.creation();
        let dsn = self.output()?.with_database(&session.target_database);
        let connection = connect(&dsn, &SessionSettings::named(APPLICATION_NAME)).await?;
        let states = sample_sequences(&connection).await;
        connection.close().await;
        self.keep_sequences(&session.database, SequenceSample { position, states: states? }).await
    }

    pub(super) async fn keep_sequences(
        &self,
        database: &str,
        sample: SequenceSample,
    ) -> Result<(), ServiceError> {
        let (catalog, database) = (self.catalog.clone(), database.to_owned());
        Ok(blocking(move || catalog.save_sequences(&database, &sample)).await??)
    }

    /// Makes sure that the default session is there, and its database too.
    pub(super) async fn ensure_default_session(&self, announcer: &Announcer) -> Result<(), ServiceError> {
        // Without a log there is nothing to replay yet.
        let Ok(captured) = self.captured(None) else { return Ok(()) };
        let (catalog, database) = (self.catalog.clone(), captured.database.clone());
        let target = self.output()?.database().to_owned();
        let session = blocking(move || catalog.ensure_default_session(&database, &target)).await??;
        match self.heal(&session, announcer).await {
            Err(error) if self.role == Role::Ipc => {
                self.warn(format!("the default session has no database: {error}"));
                Ok(())
            }
            healed => healed,
        }
    }

    /// Makes a session's database where it is not there. One that the user opened is the user's.
    pub(super) async fn heal(&self, session: &Session, announcer: &Announcer) -> Result<(), ServiceError> {
        if session.open
            || self.cursor_of(session).await?.is_some()
            || self.held_earlier(session).await?.is_some()
        {
            return Ok(());
        }
        // Whoever collects or moves waits, here and in other processes.
        let _lock = self.moves.take(session.id, &self.configuration.data.run()).await?;
        if self.cursor_of(session).await?.is_some() {
            return Ok(());
        }
        announcer.step(format!("making the replica in database {}", session.target_database));
        let consent = if self.configuration.consent { Consent::Given } else { Consent::Missing };
        self.make_database(session, consent, announcer).await
    }

    /// Makes sure that the base image is a template on the output server.
    pub(super) async fn install_base(
        &self,
        database: &str,
        announcer: &Announcer,
    ) -> Result<String, ServiceError> {
        let directory = self.configuration.data.base_of(database);
        let manifest = Manifest::read(&directory)?;
        let major = manifest.server_major;
        let program = self.programs()?.client_program("pg_restore", major)?;
        let bin_dir = program.parent().map(std::path::Path::to_owned).unwrap_or_default();
        let options = BaseOptions {
            output: self.output()?.clone(),
            directory,
            installation: Installation::at(&bin_dir)?,
            jobs: JOBS,
        };
        let announcer = announcer.clone();
        let progress = move |progress: BaseProgress| match progress {
            BaseProgress::Restoring { done, total } => announcer.announce(Announcement::Progress(Progress {
                step: "restoring the base image".into(),
                done,
                total: Some(total),
                unit: "items".into(),
            })),
            BaseProgress::Analyzing => announcer.step("gathering statistics"),
            BaseProgress::Finished => {}
        };
        Ok(install_base(&options, &progress).await?.template)
    }

    /// A session's database, as replay needs to know it.
    pub(crate) fn session_database(&self, session: &Session) -> Result<SessionDatabase, ServiceError> {
        let manifest = self.manifest_of(session)?;
        Ok(SessionDatabase {
            output: self.output()?.clone(),
            name: session.target_database.clone(),
            session_id: session.id,
            log_id: manifest.log_id,
            properties: manifest.database,
        })
    }

    /// The base image of the session's history, which must be the log's.
    fn manifest_of(&self, session: &Session) -> Result<Manifest, ServiceError> {
        let directory = self.configuration.data.base_of(&session.database);
        let manifest = Manifest::read(&directory)?;
        match self.captured(Some(&session.database)) {
            Ok(captured) if captured.log.identity().log_id != manifest.log_id => {
                Err(ServiceError::precondition(
                    format!(
                        "{} is the base image of another history than the log of {}",
                        directory.display(),
                        session.database
                    ),
                    "put the folder back that belongs to this log, or choose another data directory",
                ))
            }
            _ => Ok(manifest),
        }
    }

    /// The session of that id or name; the active one where none is given.
    pub(crate) async fn session_named(&self, name: Option<&str>) -> Result<Session, ServiceError> {
        let catalog = self.catalog.clone();
        let sessions = blocking(move || catalog.sessions()).await??;
        let Some(name) = name else {
            return sessions.into_iter().find(|session| session.active).ok_or_else(|| {
                ServiceError::precondition(
                    "there is no session yet",
                    "run postgres-test-replay up, which makes the default one, or session create",
                )
            });
        };
        let id = name.parse().ok().map(SessionId);
        let found = sessions.iter().find(|session| Some(session.id) == id || session.name == name).cloned();
        found.ok_or_else(|| {
            let names: Vec<&str> = sessions.iter().map(|session| session.name.as_str()).collect();
            ServiceError::not_found("session", name, format!("sessions are: {}", names.join(", ")))
        })
    }

    /// The captured database that is named, else that of the active session, else the first.
    pub(super) async fn captured_or_active(
        &self,
        database: Option<&str>,
    ) -> Result<Arc<Captured>, ServiceError> {
        match database {
            Some(_) => self.captured(database),
            None => match self.session_named(None).await {
                Ok(session) => self.captured(Some(&session.database)),
                Err(_) => self.captured(None),
            },
        }
    }

    /// What the session's database says about itself; `None` where it is not there, or is of another history.
    pub(crate) async fn cursor_of(&self, session: &Session) -> Result<Option<Cursor>, ServiceError> {
        let _turn = self.lanes.turn().await;
        match inspect(self.output()?, &session.target_database).await? {
            TargetState::Ours(cursor) => Ok(self.is_present(session, &cursor).then_some(cursor)),
            TargetState::Absent | TargetState::Empty | TargetState::Foreign { .. } => Ok(None),
        }
    }

    /// Whether a position is one of the log that the session replays.
    pub(super) fn is_present(&self, session: &Session, cursor: &Cursor) -> bool {
        // Without a log there is nothing that it could be mixed with.
        self.captured(Some(&session.database))
            .map_or(true, |captured| captured.log.identity().log_id == cursor.log_id)
    }

    /// What steps from a session are counted from. Where it is known, its database is not asked: that takes a connection of
    /// its own, which takes longer than a step.
    pub(super) async fn ordinal_of(&self, session: &Session) -> Result<Option<u64>, ServiceError> {
        Ok(self.standing(session).await?.map(|position| position.ordinal))
    }

    /// `GET /api/sessions`.
    ///
    /// # Errors
    /// The catalog cannot be read.
    pub async fn sessions(&self, query: SessionQuery) -> Result<Vec<SessionAnswer>, ServiceError> {
        let mut answers = self.latest_sessions.get(self.all_sessions()).await?;
        answers.retain(|answer| query.database.as_ref().is_none_or(|database| *database == answer.database));
        Ok(answers)
    }

    /// Their databases are asked several at a time.
    async fn all_sessions(&self) -> Result<Vec<SessionAnswer>, ServiceError> {
        let catalog = self.catalog.clone();
        let sessions = blocking(move || catalog.sessions()).await??;
        let ask = |session: Session| async move { self.session_answer(&session).await };
        Ok(stream::iter(sessions).map(ask).buffered(AT_ONCE).collect().await)
    }

    /// `GET /api/sessions/{id}`.
    ///
    /// # Errors
    /// There is none of that id or name.
    pub async fn session(&self, name: &str) -> Result<SessionAnswer, ServiceError> {
        Ok(self.session_answer(&self.session_named(Some(name)).await?).await)
    }

    /// A session as it is shown; a server that does not answer is part of the answer.
    pub(super) async fn session_answer(&self, session: &Session) -> SessionAnswer {
        let cursor = self.cursor_of(session).await;
        self.session_answer_with(
            session,
            cursor.map(|cursor| cursor.map(|found| (found.position, found.state))),
        )
        .await
    }

    async fn session_answer_with(
        &self,
        session: &Session,
        found: Result<Option<(Position, CursorState)>, ServiceError>,
    ) -> SessionAnswer {
        let (position, state) = match found {
            Ok(Some((position, CursorState::Moving))) => (Some(position), SessionState::Moving),
            Ok(Some((position, CursorState::Settled))) => (Some(position), SessionState::Settled),
            Ok(None) => (None, SessionState::Missing),
            Err(_) => (None, SessionState::Unreachable),
        };
        // A catalog that cannot be read is told by whatever else asks it.
        let remarks = self.remarks(session, position).await.unwrap_or_default();
        SessionAnswer {
            stop: remarks.stop,
            decisions: remarks.decisions,
            differs: remarks.differs,
            notices: remarks.notices,
            id: session.id.to_string(),
            name: session.name.clone(),
            description: session.description.clone(),
            database: session.database.clone(),
            target_database: session.target_database.clone(),
            position: position.map(Into::into),
            state,
            follow: session.follow,
            open: session.open,
            active: session.active,
            created_at: session.created_at.to_string(),
        }
    }

    /// Tells everybody how a session is now.
    pub(crate) async fn told_session(&self, session: &Session) -> Result<SessionAnswer, ServiceError> {
        let session = self.session_named(Some(&session.id.to_string())).await?;
        let answer = self.session_answer(&session).await;
        self.tell(Event::Session { session: answer.clone() });
        Ok(answer)
    }

    /// [`Service::told_session`] after a move that arrived, which need not ask the database where it is.
    pub(super) async fn told_session_at(
        &self,
        session: &Session,
        position: Position,
    ) -> Result<(), ServiceError> {
        if self.events.receiver_count() == 0 {
            return Ok(());
        }
        let session = self.session_named(Some(&session.id.to_string())).await?;
        let session = self.session_answer_with(&session, Ok(Some((position, CursorState::Settled)))).await;
        self.tell(Event::Session { session });
        Ok(())
    }

    /// `POST /api/sessions/switch`.
    ///
    /// # Errors
    /// There is none of that id or name.
    pub async fn switch_session(&self, name: &str) -> Result<SessionAnswer, ServiceError> {
        let session = self.session_named(Some(name)).await?;
        let (catalog, id) = (self.catalog.clone(), session.id);
        blocking(move || catalog.switch_session(id)).await??;
        self.told_session(&session).await
    }

    /// `POST /api/sessions/{id}/open`. Closing takes the database back to its position: what was written locally
    /// is gone.
    ///
    /// # Errors
    /// There is none of that id or name; the output server does not answer.
    pub async fn open_session(
        self: &Arc<Self>,
        name: &str,
        open: bool,
    ) -> Result<SessionAnswer, ServiceError> {
        let session = self.session_named(Some(name)).await?;
        if open {
            let (session, _lock) = self.take_session(session.id).await?;
            self.mark_open(&session, true).await?;
            self.session_database(&session)?.set_access(Access::Open).await?;
        } else if session.open {
            let request = Navigate {
                position: Some("@".into()),
                session_id: Some(session.id.to_string()),
                ..Navigate::default()
            };
            self.navigate(request).await?;
        }
        self.told_session(&session).await
    }

    /// The right to change a session's database, for who does more than a move does, and the session as it is then.
    pub(crate) async fn take_session(&self, id: SessionId) -> Result<(Session, SessionLock), ServiceError> {
        let lock = self.moves.take(id, &self.configuration.data.run()).await?;
        Ok((self.session_named(Some(&id.to_string())).await?, lock))
    }

    /// Notes that a session's database may hold what no position has, or that it does not after all.
    pub(crate) async fn mark_open(&self, session: &Session, open: bool) -> Result<(), ServiceError> {
        let (catalog, id) = (self.catalog.clone(), session.id);
        blocking(move || catalog.set_session_open(id, open)).await??;
        Ok(())
    }

    /// Before its database is gone; the catalog would refuse too, but only after.
    fn refuse_to_delete(&self, session: &Session) -> Result<(), ServiceError> {
        if session.name == DEFAULT_SESSION {
            return Err(CatalogError::Fixed { what: "session", name: session.name.clone() }.into());
        }
        if session.active {
            return Err(CatalogError::Active { name: session.name.clone() }.into());
        }
        Ok(())
    }

    /// `DELETE /api/sessions/{id}`.
    ///
    /// # Errors
    /// There is none of that id or name; it is the active one and not the last.
    pub async fn delete_session(&self, name: &str, query: DeleteSession) -> Result<Deleted, ServiceError> {
        let session = self.session_named(Some(name)).await?;
        // Nobody waits for what is refused.
        self.refuse_to_delete(&session)?;
        let (session, _lock) = self.take_session(session.id).await?;
        self.refuse_to_delete(&session)?;
        let its = self.session_database(&session)?;
        if query.keep_database {
            its.let_go().await?;
        } else {
            its.delete().await?;
        }
        let (catalog, id) = (self.catalog.clone(), session.id);
        blocking(move || catalog.delete_session(id)).await??;
        self.remove_unnamed_contents(&session).await?;
        self.tell(Event::Deleted { resource: "session".into(), id: id.to_string() });
        Ok(Deleted { status: "deleted".into(), id: id.to_string(), name: session.name })
    }
}

/// Refuses names that a database of ours on the output server cannot have.
///
/// # Errors
/// What is wrong with the name.
pub(crate) fn check_target(name: &str) -> Result<(), ServiceError> {
    match unfit(name) {
        None => Ok(()),
        Some(reason) => Err(ServiceError::usage(
            format!("{name:?} cannot name a database of ours on the output server: {reason}"),
            "name another one; it is made where it is not there",
        )),
    }
}

/// `shop_my_session`, of at most 63 bytes.
fn target_database(database: &str, name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let name: String = name.chars().map(plain).collect();
    let mut target = format!("{database}_{name}");
    while target.len() > 63 {
        target.pop();
    }
    if unfit(&target).is_some() {
        // Such as of a session `a--next`.
        target.pop();
    }
    target
}
