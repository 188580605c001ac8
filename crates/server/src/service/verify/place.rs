//! The database that is compared: the session's own where it is at the position, else one made for it.
//!
//! A session is never moved for a comparison. The scratch database is made as a session's is, from a keyframe
//! and the log, and dropped afterwards; what a crash leaves of it goes with the next comparison or the session.

use std::sync::Arc;

use ptr_log::Session;
use ptr_model::Position;
use ptr_postgres::Dsn;
use ptr_replay::{
    CursorState, SessionDatabase,
    navigate::{NavigateError, NavigateProgress, navigate},
    session::verification_name,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Job;
use crate::{
    resource::navigation::Progress,
    service::{
        Announcer, Captured, Service, ServiceError,
        moves::{SessionLock, comparison_of},
    },
};

/// A database at the position, as long as this is there.
pub(super) struct Place {
    pub(super) dsn: Dsn,
    /// To be dropped afterwards.
    scratch: Option<SessionDatabase>,
    _lock: SessionLock,
}

impl Place {
    pub(super) fn is_scratch(&self) -> bool {
        self.scratch.is_some()
    }

    /// Drops what was made for it.
    pub(super) async fn leave(self) -> Result<(), ServiceError> {
        if let Some(scratch) = self.scratch {
            scratch.delete().await?;
        }
        Ok(())
    }
}

impl Service {
    /// Takes the session's lock: it moves no more until the place is left.
    pub(super) async fn hold_session(&self, session: &Session) -> Result<SessionLock, ServiceError> {
        self.moves.take(session.id, &self.configuration.data.run()).await
    }

    /// A database of the session's history at a position.
    pub(super) async fn place_at(
        &self,
        session: &Session,
        captured: &Arc<Captured>,
        position: Position,
        lock: SessionLock,
        job: &Job,
    ) -> Result<Place, ServiceError> {
        let cursor = self.cursor_of(session).await?;
        let is_there = |position| {
            cursor.is_some_and(|cursor| cursor.position == position && cursor.state == CursorState::Settled)
        };
        if is_there(position) {
            let dsn = self.output()?.with_database(&session.target_database);
            return Ok(Place { dsn, scratch: None, _lock: lock });
        }
        drop(lock);
        let lock = self.moves.take(comparison_of(session.id), &self.configuration.data.run()).await?;
        let mut request = self.request_to(session, captured, position).await?;
        request.session.name = verification_name(&session.target_database);
        request.locally_written = false;
        let scratch = request.session.clone();
        scratch.delete().await?;
        let (progress, watched) = watch::channel(NavigateProgress::default());
        let make = async {
            match navigate(&request, &progress, &job.cancel).await {
                // Somebody dropped them all.
                Err(NavigateError::NoWay(_)) => {
                    self.install_base(&session.database, &Announcer::silent()).await?;
                    Ok(navigate(&request, &progress, &job.cancel).await?)
                }
                made => Ok::<_, ServiceError>(made?),
            }
        };
        let made = tokio::select! {
            made = make => made,
            () = told(job, watched) => unreachable!("it is told until the database is made"),
        };
        let place = Place { dsn: scratch.dsn(), scratch: Some(scratch), _lock: lock };
        match made {
            Ok(_) => Ok(place),
            Err(error) => {
                place.leave().await?;
                Err(error)
            }
        }
    }
}

/// Tells how far the making is, until it is dropped.
async fn told(job: &Job, mut watched: watch::Receiver<NavigateProgress>) {
    let cancel: &CancellationToken = &job.cancel;
    while !cancel.is_cancelled() && watched.changed().await.is_ok() {
        let NavigateProgress { done, total, .. } = *watched.borrow_and_update();
        let step = "making a database at that position".to_owned();
        job.tell(Progress { step, done, total: Some(total), unit: "transactions".into() });
    }
    std::future::pending().await
}
