//! A database at a position from which a base image is taken, so that the history can begin there.
//!
//! It is a copy of the nearest keyframe before, moved by redo as a keyframe is, and stays open. The base image that is
//! taken of it becomes a database beside it, which the caller compares with it before anything depends on it. As long as
//! this is there it has the lock under which images are made; both databases say that they are unfinished, so what a
//! crash leaves goes with [`Keyframes::sweep`].

use ptr_log::Log;
use ptr_model::Position;
use ptr_postgres::{Connection, Dsn};
use tokio_util::sync::CancellationToken;

use super::{KeyframeError, Keyframes, Quiet, list, make::Build, unlock};
use crate::{
    base::{self, BaseError, BaseOptions, BaseProgress, Manifest},
    database::DatabaseError,
    session::{self, standing_name},
};

/// A database at a position, and the right to make images of its log.
pub struct Standing {
    server: Connection,
    output: Dsn,
    name: String,
    log_id: uuid::Uuid,
}

impl Keyframes {
    /// Makes a database at a position. Waits while somebody moves, and while somebody else makes images.
    ///
    /// # Errors
    /// [`KeyframeError`]; then nothing is left over, but where the server cannot be asked any more.
    pub async fn stand_at(
        &self,
        log: &Log,
        at: Position,
        quiet: &mut Quiet,
        cancel: &CancellationToken,
    ) -> Result<Standing, KeyframeError> {
        let server = self.server().await?;
        self.lock(&server, cancel).await?;
        let images = list(&server, self.log_id).await?;
        let source = images.before(at).ok_or(KeyframeError::NoBase { at })?;
        let name = standing_name(&self.properties.name, self.log_id, at.ordinal);
        let build = Build { keyframes: self, server: &server, log, name: &name, cancel };
        let stands = build.stand(source, at, quiet).await;
        if let Err(error) = stands {
            self.tidy(&server, &name).await;
            return Err(error);
        }
        Ok(Standing { server, output: self.output.clone(), name, log_id: self.log_id })
    }
}

impl Standing {
    /// The database.
    #[must_use]
    pub fn dsn(&self) -> Dsn {
        self.output.with_database(&self.name)
    }

    /// Makes the database of the base image that was taken of this one; it stays open until [`Standing::accept`].
    ///
    /// # Errors
    /// [`BaseError`].
    pub async fn install(
        &self,
        options: &BaseOptions,
        progress: &(dyn Fn(BaseProgress) + Send + Sync),
    ) -> Result<Dsn, BaseError> {
        let manifest = Manifest::read(&options.directory)?;
        base::preflight(&self.server, &manifest).await?;
        base::make(&self.server, options, &manifest, progress).await?;
        Ok(self.output.with_database(&manifest.template()))
    }

    /// Closes it: from now on it is a keyframe.
    ///
    /// # Errors
    /// [`BaseError`].
    pub async fn accept(&self, options: &BaseOptions) -> Result<(), BaseError> {
        let manifest = Manifest::read(&options.directory)?;
        session::end_connections(&self.server, &manifest.template()).await?;
        Ok(base::close(&self.server, &manifest.template(), &manifest).await?)
    }

    /// Drops what is not needed any more: the database, and with `image` the one of a base image that is not accepted.
    /// Others may make images again.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn leave(self, image: Option<&Dsn>) -> Result<(), DatabaseError> {
        if let Some(image) = image {
            session::drop_database(&self.server, image.database()).await?;
        }
        session::drop_database(&self.server, &self.name).await?;
        unlock(&self.server, self.log_id).await?;
        self.server.close().await;
        Ok(())
    }
}
