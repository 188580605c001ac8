//! What goes on by itself: heads are told as logs grow, and followers are kept at them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use ptr_log::Log;
use ptr_model::{Position, SessionId};

use super::{Captured, Service, ServiceError, blocking};
use crate::resource::event::Event;

/// How often heads are looked at. Asking for one costs microseconds.
const PAUSE: Duration = Duration::from_millis(100);

impl Service {
    /// Starts the task that looks after heads and followers.
    pub(super) fn start_watching(self: &Arc<Self>) {
        let service = Arc::clone(self);
        self.tasks.spawn(async move {
            let ended = service.shutdown.clone();
            ended.run_until_cancelled(service.watch()).await;
        });
    }

    async fn watch(self: &Arc<Self>) {
        let mut heads: HashMap<String, Position> = HashMap::new();
        let mut listeners: HashMap<String, String> = HashMap::new();
        loop {
            for database in &self.configuration.databases {
                if self.captured(Some(database)).is_err()
                    && let Err(error) = self.open_log(database).await
                {
                    tracing::debug!(database, "the log cannot be opened yet: {error}");
                }
            }
            for captured in self.all_captured() {
                self.tell_listener(&captured, &mut listeners);
                if let Ok(head) = captured.read(Log::head).await
                    && heads.insert(captured.database.clone(), head) != Some(head)
                {
                    self.tell(Event::Head { database: captured.database.clone(), head: head.into() });
                    self.keep_at_head(&captured, head).await;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Tells what a listener of another process does, as it changes.
    fn tell_listener(&self, captured: &Captured, known: &mut HashMap<String, String>) {
        if captured.is_listened_here() {
            return;
        }
        let listener = captured.listener();
        if known.insert(captured.database.clone(), listener.state.clone()).as_deref() != Some(&listener.state)
        {
            self.tell(Event::Listener { database: captured.database.clone(), listener });
        }
    }

    async fn keep_at_head(&self, captured: &Captured, head: Position) {
        let followers = match self.followers(&captured.database).await {
            Ok(followers) => followers,
            Err(error) => return tracing::warn!("followers cannot be listed: {error}"),
        };
        for id in followers {
            if let Err(error) = self.follow_one(id, head).await {
                self.stop_following(id, &error).await;
            }
        }
    }

    async fn followers(&self, database: &str) -> Result<Vec<SessionId>, ServiceError> {
        let catalog = self.catalog.clone();
        let sessions = blocking(move || catalog.sessions()).await??;
        let followers = sessions.into_iter().filter(|session| session.follow && session.database == database);
        Ok(followers.map(|session| session.id).collect())
    }

    async fn follow_one(&self, id: SessionId, head: Position) -> Result<(), ServiceError> {
        let session = self.session_named(Some(&id.to_string())).await?;
        self.advance(&session, head).await?;
        self.told_session(&session).await?;
        Ok(())
    }

    /// A session that cannot follow any more says so and stays where it is; trying at every transaction would
    /// only fail again.
    async fn stop_following(&self, id: SessionId, error: &ServiceError) {
        self.warn(format!("session {id} no longer follows head: {error}"));
        let catalog = self.catalog.clone();
        let stopped = blocking(move || catalog.set_session_follow(id, false)).await;
        if let Ok(Err(error)) = stopped {
            tracing::warn!("cannot note that session {id} stopped following: {error}");
        }
    }
}
