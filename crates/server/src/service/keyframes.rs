//! Keyframes as users see and make them. Which ones there are by themselves is the [`super::keeper`]'s.

use std::sync::Arc;

use ptr_replay::{Images, Keyframe, KeyframeError, Keyframes, base::Manifest, keyframe::Reason};

use super::{Captured, Service, ServiceError, lock};
use crate::resource::{
    event::Event,
    keyframe::{CreateKeyframe, KeyframeAnswer, KeyframeList, KeyframeQuery},
    session::Deleted,
};

impl Service {
    /// The keyframes of a captured database.
    pub(super) fn keyframes_of(&self, captured: &Captured) -> Result<Keyframes, ServiceError> {
        let manifest = Manifest::read(&self.configuration.data.base_of(&captured.database))?;
        Ok(Keyframes {
            output: self.output()?.clone(),
            log_id: captured.log.identity().log_id,
            properties: manifest.database,
        })
    }

    /// `GET /api/keyframes`.
    ///
    /// # Errors
    /// The database is not captured; the output server does not answer.
    pub async fn list_keyframes(&self, query: KeyframeQuery) -> Result<KeyframeList, ServiceError> {
        let captured = self.captured_or_active(query.database.as_deref()).await?;
        self.keyframe_list(&captured).await
    }

    /// What there is, and what the keeper does.
    pub(super) async fn keyframe_list(&self, captured: &Captured) -> Result<KeyframeList, ServiceError> {
        let turn = self.lanes.turn().await;
        let images = self.keyframes_of(captured)?.list().await?;
        drop(turn);
        let Images { keyframes, spares, .. } = &images;
        let keeping = self.keeping(&captured.database);
        Ok(KeyframeList {
            database: captured.database.clone(),
            budget_bytes: self.configuration.keyframe_budget,
            used_bytes: images.bytes(),
            keyframes: keyframes.iter().map(answer).collect(),
            spares: spares.iter().map(answer).collect(),
            doing: keeping.doing,
            problem: keeping.problem,
        })
    }

    /// `POST /api/keyframes`. Waits until it is made.
    ///
    /// # Errors
    /// A position outside the log; replay that stops on the way there.
    pub async fn create_keyframe(
        self: &Arc<Self>,
        request: CreateKeyframe,
    ) -> Result<KeyframeAnswer, ServiceError> {
        let CreateKeyframe { at, database } = request;
        let captured = self.captured_or_active(database.as_deref()).await?;
        let at = match at {
            Some(at) => {
                let ordinal = match at.trim().starts_with('@') {
                    true => self.ordinal_of(&self.session_named(None).await?).await?,
                    false => None,
                };
                self.resolve(&captured, &at, ordinal).await?
            }
            None => captured.read(ptr_log::Log::head).await?,
        };
        let keyframes = self.keyframes_of(&captured)?;
        let mut quiet = self.moves.quiet();
        let made = keyframes
            .make(&captured.log, at, Reason::Manual, &mut quiet, &self.shutdown)
            .await
            .map_err(failed)?;
        tracing::info!(
            database = captured.database,
            keyframe = made.database,
            "a keyframe was made by request"
        );
        Ok(answer(&made))
    }

    /// `DELETE /api/keyframes/{name}`.
    ///
    /// # Errors
    /// There is none of that name; it is the one at CREATION.
    pub async fn delete_keyframe(&self, name: &str, query: KeyframeQuery) -> Result<Deleted, ServiceError> {
        let captured = self.captured_or_active(query.database.as_deref()).await?;
        let gone = self.keyframes_of(&captured)?.remove(name).await.map_err(failed)?;
        self.tell(Event::Deleted { resource: "keyframe".into(), id: gone.database.clone() });
        Ok(Deleted { status: "deleted".into(), id: gone.database.clone(), name: gone.database })
    }

    /// What the keeper of a database does.
    fn keeping(&self, database: &str) -> super::keeper::Keeping {
        lock(&self.keeping).get(database).cloned().unwrap_or_default()
    }
}

pub(super) fn failed(error: KeyframeError) -> ServiceError {
    match error {
        KeyframeError::Navigate(error) => error.into(),
        KeyframeError::Session(error) => error.into(),
        KeyframeError::Log(error) => error.into(),
        KeyframeError::NotFound { name } => {
            ServiceError::not_found("keyframe", name, "postgres-test-replay keyframe list shows them")
        }
        error @ KeyframeError::Creation => {
            ServiceError::precondition(error.to_string(), "KEYFRAME_BUDGET=0 removes all others")
        }
        error @ KeyframeError::NoBase { .. } => {
            ServiceError::precondition(error.to_string(), "session create, or up, installs it")
        }
        error @ KeyframeError::Cancelled => {
            ServiceError::precondition(error.to_string(), "the service ends; ask again once it runs")
        }
    }
}

fn answer(keyframe: &Keyframe) -> KeyframeAnswer {
    KeyframeAnswer {
        name: keyframe.database.clone(),
        position: keyframe.position.into(),
        bytes: keyframe.bytes,
        reason: keyframe.reason.name().to_owned(),
    }
}
