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

use super::{Captured, Service, ServiceError, blocking};

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

    /// Sessions that stand at a position already get the sequences that were sampled for it just now.
    pub(super) async fn renew_sequences(&self, captured: &Arc<Captured>, position: Position) {
        let catalog = self.catalog.clone();
        let sessions = match blocking(move || catalog.sessions()).await {
            Ok(Ok(sessions)) => sessions,
            _ => return,
        };
        for session in sessions.into_iter().filter(|session| session.database == captured.database) {
            let name = session.name.clone();
            if let Err(error) = self.renew_sequences_of(session, captured, position).await {
                tracing::warn!(session = name, "its sequences are not as at {position}: {error}");
            }
        }
    }

    async fn renew_sequences_of(
        &self,
        session: Session,
        captured: &Arc<Captured>,
        position: Position,
    ) -> Result<(), ServiceError> {
        let _lock = self.moves.take(session.id, &self.configuration.data.run()).await?;
        let is_there = |at: Position| at.ordinal == position.ordinal;
        if session.open || !self.cursor_of(&session).await?.is_some_and(|cursor| is_there(cursor.position)) {
            return Ok(());
        }
        let request = self.request_to(&session, captured, position).await?;
        if request.outdated {
            return Ok(());
        }
        let (progress, _) = watch::channel(NavigateProgress::default());
        let cancel = self.shutdown.child_token();
        navigate(&request, &progress, &cancel)
            .await
            .map(drop)
            .map_err(|error| super::decisions::refused(error, &session))
    }
}
