//! Making keyframes and spares.
//!
//! keyframe: copy of the nearest one before -> marked unfinished -> redo in portions -> closed -> marked. Spare: copy ->
//! marked unfinished -> the captured database's properties -> closed -> marked. Whatever fails or is interrupted on
//! the way, what was begun is dropped; what a crash leaves, [`Keyframes::sweep`] finds.

use ptr_log::{Log, crash_point};
use ptr_model::{Position, SessionId};
use ptr_postgres::Connection;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Images, Keyframe, KeyframeError, Keyframes, Kind, Mark, Reason, list, mark_statement, size, wait_for_lock,
};
use crate::{
    apply::{Applier, Limits, Notice},
    base::DatabaseProperties,
    database::Doing,
    decisions::Decisions,
    error::ReplayError,
    navigate::{NavigateRequest, redo_by},
    session::{self, Access, SessionDatabase, SessionError, keyframe_name, spare_name},
};

/// How many moves are under way: whoever makes keyframes waits while there are any.
pub type Quiet = watch::Receiver<usize>;

/// Entries after which a builder commits and looks whether somebody wants to move.
const PORTION: u64 = 50_000;

/// The memory of a builder's windows; it works beside everything else.
const WINDOW_BYTES: usize = 8 << 20;

/// Entries after which a builder is vacuumed and analyzed, which all copies of it gain by.
const WORTH_A_VACUUM: u64 = 10_000;

impl Keyframes {
    /// Makes the keyframe at a position, or finds it made. Waits while somebody moves, and while somebody else makes
    /// one.
    ///
    /// # Errors
    /// [`KeyframeError`]; then nothing is left over, but where the server cannot be asked any more.
    pub async fn make(
        &self,
        log: &Log,
        at: Position,
        reason: Reason,
        quiet: &mut Quiet,
        cancel: &CancellationToken,
    ) -> Result<Keyframe, KeyframeError> {
        let server = self.server().await?;
        self.lock(&server, cancel).await?;
        let images = list(&server, self.log_id).await?;
        if let Some(made) = images.keyframes.iter().find(|keyframe| keyframe.position == at) {
            return Ok(self.keep_for(&server, made.clone(), reason).await?);
        }
        let source = images.before(at).ok_or(KeyframeError::NoBase { at })?;
        let name = keyframe_name(&self.properties.name, self.log_id, at.ordinal);
        wait_until(quiet, cancel).await?;
        let build = Build { keyframes: self, server: &server, log, name: &name, cancel };
        let made = build.run(source, at, reason, quiet).await;
        if made.is_err() {
            self.tidy(&server, &name).await;
        }
        server.close().await;
        made
    }

    /// One that was made by itself stays from now on, where somebody asks for it.
    async fn keep_for(
        &self,
        server: &Connection,
        mut made: Keyframe,
        reason: Reason,
    ) -> Result<Keyframe, SessionError> {
        if reason == Reason::Manual && matches!(made.reason, Reason::SchemaChange | Reason::Distance) {
            made.reason = reason;
            self.finish(server, &made, Kind::Keyframe).await?;
        }
        Ok(made)
    }

    /// Makes a spare of a keyframe, or finds it made.
    ///
    /// # Errors
    /// [`KeyframeError`], as [`Keyframes::make`].
    pub async fn make_spare(
        &self,
        keyframe: &Keyframe,
        quiet: &mut Quiet,
        cancel: &CancellationToken,
    ) -> Result<Keyframe, KeyframeError> {
        let server = self.server().await?;
        self.lock(&server, cancel).await?;
        let Images { spares, .. } = list(&server, self.log_id).await?;
        if let Some(made) = spares.into_iter().find(|spare| spare.position == keyframe.position) {
            return Ok(made);
        }
        let name = spare_name(&self.properties.name, self.log_id, keyframe.position.ordinal);
        wait_until(quiet, cancel).await?;
        let made = self.copy_as_spare(&server, keyframe, &name).await;
        if made.is_err() {
            self.tidy(&server, &name).await;
        }
        server.close().await;
        Ok(made?)
    }

    /// Waits until nobody else makes images of this log.
    pub(super) async fn lock(
        &self,
        server: &Connection,
        cancel: &CancellationToken,
    ) -> Result<(), KeyframeError> {
        tokio::select! {
            locked = wait_for_lock(server, self.log_id) => Ok(locked?),
            () = cancel.cancelled() => Err(KeyframeError::Cancelled),
        }
    }

    async fn copy_as_spare(
        &self,
        server: &Connection,
        keyframe: &Keyframe,
        name: &str,
    ) -> Result<Keyframe, SessionError> {
        let spare = Keyframe { database: name.to_owned(), ..keyframe.clone() };
        let bytes = self.begin(server, keyframe, name).await?;
        // The comment of a spare is its mark; the primary's comes when it is used.
        let properties = DatabaseProperties { comment: None, ..self.properties.clone() };
        session::put_back(server, name, &properties).await?;
        session::set_access(server, name, Access::ReadOnly).await?;
        session::close_door(server, name, false).await?;
        session::end_connections(server, name).await?;
        let spare = Keyframe { bytes, ..spare };
        self.finish(server, &spare, Kind::Spare).await?;
        crash_point("spare-made");
        Ok(spare)
    }

    /// Copies a keyframe and says at once that the copy is unfinished.
    async fn begin(&self, server: &Connection, source: &Keyframe, name: &str) -> Result<u64, SessionError> {
        session::drop_database(server, name).await?;
        let bytes = session::copy_database(server, &source.database, name).await?;
        let begun = Keyframe { database: name.to_owned(), bytes, ..source.clone() };
        self.finish(server, &begun, Kind::Unfinished).await?;
        Ok(bytes)
    }

    async fn finish(&self, server: &Connection, image: &Keyframe, kind: Kind) -> Result<(), SessionError> {
        let Keyframe { database, position, reason, bytes, notices } = image.clone();
        let mark = Mark { kind, log_id: self.log_id, position, reason, bytes, notices };
        let sql = mark_statement(&database, &mark);
        Ok(server.batch_execute(&sql).await.doing_with(|| format!("mark database {database}"))?)
    }

    /// After an error that matters more than what this may say.
    pub(super) async fn tidy(&self, server: &Connection, name: &str) {
        if let Err(error) = session::drop_database(server, name).await {
            tracing::warn!(database = name, "an unfinished database is left for later: {error}");
        }
    }
}

/// A keyframe in the making.
pub(super) struct Build<'a> {
    pub(super) keyframes: &'a Keyframes,
    pub(super) server: &'a Connection,
    pub(super) log: &'a Log,
    pub(super) name: &'a str,
    pub(super) cancel: &'a CancellationToken,
}

impl Build<'_> {
    /// Makes the database at a position and leaves it open and unfinished.
    pub(super) async fn stand(
        &self,
        source: &Keyframe,
        at: Position,
        quiet: &mut Quiet,
    ) -> Result<(), KeyframeError> {
        wait_until(quiet, self.cancel).await?;
        self.keyframes.begin(self.server, source, self.name).await?;
        self.redo(at, quiet).await.map(drop)
    }

    async fn run(
        &self,
        source: &Keyframe,
        at: Position,
        reason: Reason,
        quiet: &mut Quiet,
    ) -> Result<Keyframe, KeyframeError> {
        self.keyframes.begin(self.server, source, self.name).await?;
        crash_point("keyframe-begun");
        let mut notices = source.notices.clone();
        for notice in self.redo(at, quiet).await? {
            if !notices.contains(&notice) {
                notices.push(notice);
            }
        }
        wait_until(quiet, self.cancel).await?;
        crash_point("keyframe-built");
        session::close_door(self.server, self.name, false).await?;
        session::end_connections(self.server, self.name).await?;
        let bytes = size(self.server, self.name).await?;
        let made = Keyframe { database: self.name.to_owned(), position: at, reason, bytes, notices };
        crash_point("keyframe-closed");
        self.keyframes.finish(self.server, &made, Kind::Keyframe).await?;
        crash_point("keyframe-made");
        Ok(made)
    }

    /// Takes the builder forward, a portion at a time.
    async fn redo(&self, at: Position, quiet: &mut Quiet) -> Result<Vec<Notice>, KeyframeError> {
        let request = self.request(at);
        let dsn = self.keyframes.output.with_database(self.name);
        let replay = |error: ReplayError| KeyframeError::Navigate(error.into());
        let mut applier = Applier::open(&dsn, self.keyframes.log_id, request.limits).await.map_err(replay)?;
        applier.may_be_unsettled();
        let begun = applier.position();
        while applier.position() < at {
            wait_until(quiet, self.cancel).await?;
            let to = self.next(applier.position(), at).await?;
            redo_by(&request, &mut applier, to, self.cancel).await?;
        }
        let notices = applier.applied().notices.clone();
        if at.entry_index - begun.entry_index >= WORTH_A_VACUUM {
            applier.vacuum().await.map_err(replay)?;
        }
        applier.close().await;
        Ok(notices)
    }

    /// The end of the transaction with the portion's last entry.
    async fn next(&self, from: Position, at: Position) -> Result<Position, KeyframeError> {
        let (log, entry) = (self.log.clone(), from.entry_index + PORTION);
        let found = tokio::task::spawn_blocking(move || log.transaction_of_entry(entry));
        let found = found.await.expect("reading the index does not panic")?;
        Ok(found.map_or(at, |transaction| transaction.after().min(at)))
    }

    /// What replay needs to know. Nothing is left out, and no sample of sequences is used: both are a session's.
    fn request(&self, to: Position) -> NavigateRequest {
        NavigateRequest {
            log: self.log.clone(),
            session: SessionDatabase {
                output: self.keyframes.output.clone(),
                name: self.name.to_owned(),
                session_id: SessionId(Uuid::nil()),
                log_id: self.keyframes.log_id,
                properties: self.keyframes.properties.clone(),
            },
            to,
            locally_written: false,
            outdated: false,
            decisions: Decisions::default(),
            sequences: None,
            limits: Limits { window_bytes: WINDOW_BYTES, ..Limits::default() },
            rates: crate::plan::Rates::default(),
        }
    }
}

/// Waits until nobody moves.
async fn wait_until(quiet: &mut Quiet, cancel: &CancellationToken) -> Result<(), KeyframeError> {
    tokio::select! {
        // An error means that nobody can move any more.
        _ = quiet.wait_for(|moves| *moves == 0) => {}
        () = cancel.cancelled() => {}
    }
    if cancel.is_cancelled() { Err(KeyframeError::Cancelled) } else { Ok(()) }
}
