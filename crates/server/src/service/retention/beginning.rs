//! A history begins later: its base image is made anew there, and what lies before goes.
//!
//! a database at the position -> a base image of it, on disk -> that as a database, compared with the first one -> the
//! manifest names the new image -> the log begins there -> the catalog, the old images, the old files.
//!
//! Invariants: the manifest is the one step that decides: before it everything is as it was, and what was made is removed;
//! from it on the history begins later, and whatever is interrupted is gone on with when the log is opened next
//! ([`Service::go_on_beginning`]). At that step nobody moves a session, and nobody names a position that goes.

use std::{sync::Arc, time::Duration};

use ptr_capture::{
    sequences::sample_sequences,
    source::{
        Manifest,
        base::later::{LaterImage, remove_superseded},
    },
};
use ptr_log::{Log, crash_point};
use ptr_model::{Position, SequenceState};
use ptr_postgres::{Dsn, Installation, programs::session_name};
use ptr_replay::{
    SessionError,
    base::BaseOptions,
    keyframe::Standing,
    snapshot::Exported,
    verify::{VerifyOptions, VerifyProgress, verify},
};
use tokio::sync::watch;

use crate::service::{
    APPLICATION_NAME, Announcer, Captured, Running, Service, ServiceError, blocking, file_lock::FileLock,
    keyframes::failed, moves::SessionLock, now,
};

/// How long a session that is being moved is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Jobs and connections with which an image is made and compared.
const JOBS: usize = 2;

impl Service {
    /// Has the history begin at a position where a segment of its log does. Goes on when whoever asked goes away.
    pub(super) async fn begin_later(
        self: &Arc<Self>,
        captured: &Arc<Captured>,
        at: Position,
    ) -> Result<(), ServiceError> {
        let (service, captured) = (Arc::clone(self), Arc::clone(captured));
        let task = self.spawn(async move { service.make_beginning(&captured, at).await });
        task.await.map_err(|error| ServiceError::Broken { detail: format!("the task ended: {error}") })?
    }

    async fn make_beginning(&self, captured: &Arc<Captured>, at: Position) -> Result<(), ServiceError> {
        self.refuse_beside_others(captured)?;
        let _one_at_a_time = self.beginning_made.lock().await;
        let _nor_elsewhere = self.lock_beginnings()?.ok_or_else(|| {
            ServiceError::precondition(
                "another process makes a base image, or looks for what is left of one",
                "wait until it is done, then run gc again",
            )
        })?;
        // What the new image is made from.
        self.install_base(&captured.database, &Announcer::silent()).await?;
        let keyframes = self.keyframes_of(captured)?;
        let mut quiet = self.moves.quiet();
        tracing::info!(database = captured.database, "making a base image at {at}");
        let standing =
            keyframes.stand_at(&captured.log, at, &mut quiet, &self.shutdown).await.map_err(failed)?;
        let image = LaterImage {
            database: standing.dsn(),
            position: at,
            programs: self.programs()?,
            base_directory: self.configuration.data.base_of(&captured.database),
            publication: self.on_primary(&captured.database)?.publication,
        };
        let mut template = None;
        let making = self.make_image(&standing, &image, &mut template);
        let made = self.shutdown.run_until_cancelled(making).await.unwrap_or_else(|| Err(stopped()));
        let begun = match made {
            Ok(manifest) => self.move_beginning(captured, &image, manifest).await,
            Err(error) => Err(error),
        };
        let is_committed =
            Manifest::load(&image.base_directory).is_ok_and(|manifest| manifest.position == Some(at));
        if is_committed {
            template = None;
        } else if let Err(error) = image.discard() {
            tracing::warn!("{} is left for the next gc: {error}", image.folder().display());
        }
        if begun.is_ok() {
            for gone in keyframes.drop_before(at).await? {
                tracing::info!(
                    database = captured.database,
                    dropped = gone,
                    "it is from before the beginning"
                );
            }
        }
        let left = standing.leave(template.as_ref()).await.map_err(SessionError::from);
        begun?;
        left?;
        self.remove_old_image(&captured.database).await
    }

    /// So that no two processes that share the data directory make base images, or remove what looks like a part of one.
    pub(super) fn lock_beginnings(&self) -> Result<Option<FileLock>, ServiceError> {
        FileLock::of_folder(&self.configuration.data.root().join("base"))
    }

    /// A service of another process would go on with what it knows of the old beginning.
    fn refuse_beside_others(&self, captured: &Captured) -> Result<(), ServiceError> {
        let data = &self.configuration.data;
        let found = Running::find(data).map_err(ServiceError::file("read", data.service_file()))?;
        let Some(other) = found.filter(|other| other.pid != std::process::id()) else { return Ok(()) };
        Err(ServiceError::precondition(
            format!("`{}` (process {}) has {} open", other.role, other.pid, captured.database),
            "ask that service, or end it with postgres-test-replay down",
        ))
    }

    /// Takes the base image, and makes sure that it becomes what it was taken of.
    async fn make_image(
        &self,
        standing: &Standing,
        image: &LaterImage,
        template: &mut Option<Dsn>,
    ) -> Result<Manifest, ServiceError> {
        let manifest = image.take(&()).await?;
        crash_point("base-taken");
        let program = self.programs()?.client_program("pg_restore", manifest.server_major)?;
        let folder = program.parent().map(std::path::Path::to_owned).unwrap_or_default();
        let options = BaseOptions {
            output: self.output()?.clone(),
            directory: image.folder(),
            installation: Installation::at(&folder)?,
            jobs: JOBS,
        };
        let made = standing.install(&options, &|_| {}).await?;
        *template = Some(made.clone());
        self.compare_images(&standing.dsn(), &made, &image.publication).await?;
        standing.accept(&options).await?;
        crash_point("base-accepted");
        Ok(manifest)
    }

    /// Schema, rows and sequences of the two, which must be the same.
    async fn compare_images(
        &self,
        standing: &Dsn,
        made: &Dsn,
        publication: &str,
    ) -> Result<(), ServiceError> {
        let options = VerifyOptions {
            installation: self.installation_for("pg_dump", &[standing]).await?,
            publication: publication.to_owned(),
            jobs: JOBS,
            application_name: session_name(APPLICATION_NAME),
        };
        let (left, right) = (Exported::open(standing).await?, Exported::open(made).await?);
        let (progress, _) = watch::channel(VerifyProgress::default());
        let report = verify(&left, &right, &options, &progress).await?;
        let sequences = [sequences(&left).await?, sequences(&right).await?];
        left.close().await;
        right.close().await;
        let tables = report.tables.iter().filter(|table| !table.is_equal()).map(|table| table.table.clone());
        let mut differ: Vec<String> =
            report.schema.iter().map(|one| one.entry.clone()).chain(tables).collect();
        if sequences[0] != sequences[1] {
            differ.push("sequences".to_owned());
        }
        if differ.is_empty() {
            return Ok(());
        }
        Err(ServiceError::precondition(
            format!("a base image there would not be what the log says: {} differ", differ.join(", ")),
            "nothing was removed; this is an error of ours, please report it",
        ))
    }

    /// The step that decides, and what follows from it here.
    async fn move_beginning(
        &self,
        captured: &Arc<Captured>,
        image: &LaterImage,
        manifest: Manifest,
    ) -> Result<(), ServiceError> {
        let at = image.position;
        let _alone = self.beginning.write().await;
        // It may have been started while the image was made.
        self.refuse_beside_others(captured)?;
        let _still = self.hold_sessions(captured).await?;
        if let Some(need) = self.needs(captured).await?.into_iter().find(|need| need.at < at) {
            return Err(ServiceError::precondition(need.reason, "gc --dry-run shows what can go now"));
        }
        let commit = image.clone();
        blocking(move || commit.commit(&manifest)).await??;
        crash_point("base-begun");
        self.go_on_beginning(&captured.database, &captured.log).await
    }

    /// Nobody moves a session of the history meanwhile.
    async fn hold_sessions(&self, captured: &Captured) -> Result<Vec<SessionLock>, ServiceError> {
        let catalog = self.catalog.clone();
        let sessions = blocking(move || catalog.sessions()).await??;
        let mut locks = Vec::new();
        for session in sessions.iter().filter(|session| session.database == captured.database) {
            let run = self.configuration.data.run();
            let lock = tokio::time::timeout(PATIENCE, self.moves.take(session.id, &run)).await;
            locks.push(lock.unwrap_or_else(|_| {
                Err(ServiceError::precondition(
                    format!("session {:?} is being moved", session.name),
                    "try again when it is there",
                ))
            })?);
        }
        Ok(locks)
    }

    /// Has the log and the catalog begin where the base image is; does nothing where they do.
    pub(crate) async fn go_on_beginning(&self, database: &str, log: &Log) -> Result<(), ServiceError> {
        let base = self.configuration.data.base_of(database);
        if !base.join("manifest.json").exists() {
            return Ok(());
        }
        let (catalog, name, log) = (self.catalog.clone(), database.to_owned(), log.clone());
        blocking(move || {
            let manifest = Manifest::load(&base)?;
            // One of another history is told by whoever needs it.
            let at = manifest.position.filter(|_| manifest.log_id == log.identity().log_id);
            let Some(at) = at.filter(|at| *at > log.creation() || is_unfinished(&base)) else {
                return Ok(());
            };
            log.begin_at(at, now())?;
            catalog.begin_history_at(&name, at)?;
            Ok(())
        })
        .await?
    }

    /// Removes the files of base images that do not count any more.
    pub(super) async fn remove_old_image(&self, database: &str) -> Result<(), ServiceError> {
        let base = self.configuration.data.base_of(database);
        Ok(blocking(move || remove_superseded(&base)).await??)
    }
}

/// Whether the files of the image before are still there: they go last.
fn is_unfinished(base: &std::path::Path) -> bool {
    ptr_capture::source::base::later::superseded(base).is_ok_and(|left| !left.is_empty())
}

async fn sequences(database: &Exported) -> Result<Vec<SequenceState>, ServiceError> {
    let mut states = sample_sequences(database.connection()).await?;
    states.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
    Ok(states)
}

fn stopped() -> ServiceError {
    ServiceError::precondition("the service was stopped", "nothing was removed; run gc again")
}
