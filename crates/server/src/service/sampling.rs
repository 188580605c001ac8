//! Samples of the primary's sequences, for positions that a name is given to.
//!
//! A sequence moves without a transaction (`nextval` that is rolled back, `setval` alone), and then one position would
//! have two states. So a message goes into the log between the two, and each has a position of its own.

use std::{collections::HashMap, sync::Arc};

use ptr_capture::source::emit_sequences_moved;
use ptr_log::{SequenceSample, Session};
use ptr_model::{Position, SequenceState};
use ptr_replay::navigate::{NavigateProgress, navigate};
use tokio::sync::watch;

use super::{Captured, Service, ServiceError, blocking, moves::SessionLock};

impl Service {
    /// The position of this moment, exactly: every transaction whose commit returned before is in, none that
    /// starts afterwards. Keeps a sample of the sequences for it.
    pub(crate) async fn marker_position(&self, captured: &Arc<Captured>) -> Result<Position, ServiceError> {
        let (mut position, mut states) = self.marker_and_sequences(captured).await?;
        if self.moved_since_sampled(captured, position, &states).await? {
            let connection = self.connect_for_marker(captured).await?;
            emit_sequences_moved(&connection).await?;
            connection.close().await;
            (position, states) = self.marker_and_sequences(captured).await?;
        }
        self.keep_sequences(&captured.database, SequenceSample { position, states }).await?;
        Ok(position)
    }

    /// Whether a sample of this very position says otherwise of a sequence.
    async fn moved_since_sampled(
        &self,
        captured: &Captured,
        position: Position,
        states: &[SequenceState],
    ) -> Result<bool, ServiceError> {
        let (catalog, database) = (self.catalog.clone(), captured.database.clone());
        let sample = blocking(move || catalog.sequences_at(&database, position)).await??;
        let Some(sample) = sample.filter(|sample| sample.position.ordinal == position.ordinal) else {
            return Ok(false);
        };
        let before: HashMap<_, _> =
            sample.states.iter().map(|state| ((&state.schema, &state.name), state)).collect();
        let moved = |state: &SequenceState| {
            before.get(&(&state.schema, &state.name)).is_some_and(|before| *before != state)
        };
        Ok(states.iter().any(moved))
    }

    /// Sessions that stand at a position already get the sequences that were sampled for it just now. One that moves
    /// is not waited for: where it arrives there by a sample from before, it gets them once it has arrived.
    pub(super) async fn renew_sequences(self: &Arc<Self>, captured: &Arc<Captured>, position: Position) {
        let catalog = self.catalog.clone();
        let sessions = match blocking(move || catalog.sessions()).await {
            Ok(Ok(sessions)) => sessions,
            _ => return,
        };
        for session in sessions.into_iter().filter(|session| session.database == captured.database) {
            // In this order: a move that ends in between is known about.
            if !self.moves.is_moving(session.id)
                && let Ok(Some(standing)) = self.known_standing(&session).await
                && standing.ordinal != position.ordinal
            {
                continue;
            }
            match self.moves.take_if_free(session.id, &self.configuration.data.run()) {
                Ok(Some(lock)) => {
                    let renewed = self.renew_sequences_of(&session, captured, position, lock).await;
                    warn_unless_renewed(&session, position, renewed);
                }
                Ok(None) => self.renew_sequences_later(session, Arc::clone(captured), position),
                Err(error) => warn_unless_renewed(&session, position, Err(error)),
            }
        }
    }

    /// When the move that is under way has ended.
    fn renew_sequences_later(
        self: &Arc<Self>,
        session: Session,
        captured: Arc<Captured>,
        position: Position,
    ) {
        let service = Arc::clone(self);
        self.tasks.spawn(async move {
            let renew = async {
                let lock = service.moves.take_to_move(session.id, &service.configuration.data.run()).await?;
                // It may have been deleted, or opened for writes, while this waited.
                let (catalog, id) = (service.catalog.clone(), session.id);
                let sessions = blocking(move || catalog.sessions()).await??;
                match sessions.iter().find(|session| session.id == id) {
                    Some(session) => service.renew_sequences_of(session, &captured, position, lock).await,
                    None => Ok(()),
                }
            };
            if let Some(renewed) = service.shutdown.clone().run_until_cancelled(renew).await {
                warn_unless_renewed(&session, position, renewed);
            }
        });
    }

    async fn renew_sequences_of(
        &self,
        session: &Session,
        captured: &Arc<Captured>,
        position: Position,
        mut lock: SessionLock,
    ) -> Result<(), ServiceError> {
        let is_there = |at: Position| at.ordinal == position.ordinal;
        let cursor = self.cursor_of(session).await?;
        if let Some(cursor) = &cursor {
            self.note_standing(session, cursor.position).await?;
        }
        if session.open || !cursor.is_some_and(|cursor| is_there(cursor.position)) {
            return Ok(());
        }
        let request = self.request_to(session, captured, position).await?;
        if request.outdated {
            return Ok(());
        }
        lock.keep(None);
        let (progress, _) = watch::channel(NavigateProgress::default());
        let cancel = self.shutdown.child_token();
        navigate(&request, &progress, &cancel)
            .await
            .map(drop)
            .map_err(|error| super::decisions::refused(error, session))
    }
}

fn warn_unless_renewed(session: &Session, position: Position, renewed: Result<(), ServiceError>) {
    if let Err(error) = renewed {
        tracing::warn!(session = session.name, "its sequences are not as at {position}: {error}");
    }
}
