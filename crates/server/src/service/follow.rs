//! What goes on by itself: heads are told as logs grow, and followers are kept at them.
//!
//! A follower that fails for what may go away by itself (a server that is gone for a while, a lock, too many connections) is
//! tried again, with growing pauses, and the status says so while it lasts. What cannot go away by itself ends following.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use ptr_log::{Log, Session};
use ptr_model::{Position, SessionId};

use super::{Captured, Service, ServiceError, blocking, decisions::of_session, lock};
use crate::resource::event::Event;

/// How often heads are looked at. Asking for one costs microseconds.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a session is left alone after following failed once.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// How long at most, however often it failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What keeps followers from head.
#[derive(Debug, Default)]
pub(super) struct Followers(Mutex<HashMap<SessionId, Trouble>>);

#[derive(Debug, Clone)]
enum Trouble {
    /// It is tried again.
    Passing { database: String, error: String, pause: Duration, again: Instant },
    /// The session follows no more. Its database made anew may get past.
    Lasting { error: String, is_to_be_made_anew: bool },
}

impl Followers {
    /// Following failed, and is tried again after a pause that doubles.
    fn hold_up(&self, session: SessionId, database: &str, error: String) -> Duration {
        let mut troubles = lock(&self.0);
        let pause = match troubles.get(&session) {
            Some(Trouble::Passing { pause, .. }) => (*pause * 2).min(LONGEST_PAUSE),
            Some(Trouble::Lasting { .. }) | None => FIRST_PAUSE,
        };
        let (database, again) = (database.to_owned(), Instant::now() + pause);
        troubles.insert(session, Trouble::Passing { database, error, pause, again });
        pause
    }

    fn end(&self, session: SessionId, error: &ServiceError) {
        let is_to_be_made_anew = matches!(error, ServiceError::Stopped { answer, .. }
                                                 if answer.choices.iter().any(|choice| choice.choice == "rebuild"));
        lock(&self.0).insert(session, Trouble::Lasting { error: error.to_string(), is_to_be_made_anew });
    }

    /// A session arrived somewhere, by following or by a move: what was the matter before is over.
    pub(super) fn forget(&self, session: SessionId) {
        lock(&self.0).remove(&session);
    }

    /// Forgets what held up sessions of a database that do not follow any more.
    fn keep_only(&self, database: &str, followers: &[SessionId]) {
        lock(&self.0).retain(|session, trouble| match trouble {
            Trouble::Passing { database: of, .. } => of != database || followers.contains(session),
            Trouble::Lasting { .. } => !followers.contains(session),
        });
    }

    /// Whether it is time to try one of a database's again.
    fn any_is_due(&self, of: &str) -> bool {
        let now = Instant::now();
        lock(&self.0).values().any(
            |trouble| matches!(trouble, Trouble::Passing { database, again, .. } if database == of && *again <= now),
        )
    }

    /// Whether a session is to be taken to head: one that was held up when it is time, others when head is new.
    fn is_to_go(&self, session: SessionId, is_new: bool) -> bool {
        match lock(&self.0).get(&session) {
            Some(Trouble::Passing { again, .. }) => *again <= Instant::now(),
            Some(Trouble::Lasting { .. }) | None => is_new,
        }
    }

    /// What there is to say of a session.
    fn told(&self, session: &Session) -> Option<String> {
        let (name, of_session) = (&session.name, of_session(session));
        match lock(&self.0).get(&session.id)? {
            Trouble::Passing { error, .. } if session.follow => Some(format!(
                "session {name:?} is not kept at head for now: {error}; it is tried again by itself, every {} s at least",
                LONGEST_PAUSE.as_secs()
            )),
            Trouble::Lasting { error, is_to_be_made_anew } if !session.follow => Some(format!(
                "session {name:?} no longer follows head: {error}; once that is mended, postgres-test-replay navigate head \
                 --follow{of_session} has it follow again{}",
                if *is_to_be_made_anew {
                    ", or at once with --rebuild, which makes its database anew"
                } else {
                    ""
                }
            )),
            Trouble::Passing { .. } | Trouble::Lasting { .. } => None,
        }
    }
}

impl Service {
    /// Starts the task that looks after heads and listeners.
    pub(super) fn start_watching(self: &Arc<Self>) {
        let service = Arc::clone(self);
        self.tasks.spawn(async move {
            let ended = service.shutdown.clone();
            ended.run_until_cancelled(service.watch()).await;
        });
    }

    /// Starts the task that looks after followers: heads are told also while a server lets one wait.
    pub(super) fn start_following(self: &Arc<Self>) {
        let service = Arc::clone(self);
        self.tasks.spawn(async move {
            let ended = service.shutdown.clone();
            ended.run_until_cancelled(service.follow_heads()).await;
        });
    }

    async fn watch(&self) {
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

    async fn follow_heads(&self) {
        let mut followed: HashMap<String, Position> = HashMap::new();
        loop {
            for captured in self.all_captured() {
                let Ok(head) = captured.read(Log::head).await else { continue };
                let is_new = followed.get(&captured.database) != Some(&head);
                if !is_new && !self.followers.any_is_due(&captured.database) {
                    continue;
                }
                match self.keep_at_head(&captured, head, is_new).await {
                    Ok(()) => drop(followed.insert(captured.database.clone(), head)),
                    Err(error) => tracing::warn!("followers cannot be listed: {error}"),
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn keep_at_head(
        &self,
        captured: &Captured,
        head: Position,
        is_new: bool,
    ) -> Result<(), ServiceError> {
        let database = &captured.database;
        let followers = self.followers(database).await?;
        self.followers.keep_only(database, &followers);
        for id in followers.into_iter().filter(|id| self.followers.is_to_go(*id, is_new)) {
            match self.follow_one(id, head).await {
                Ok(()) => self.followers.forget(id),
                Err(error) if error.is_transient() => {
                    let pause = self.followers.hold_up(id, database, error.to_string());
                    tracing::warn!(?pause, "session {id} is not kept at head for now: {error}");
                }
                Err(error) => self.stop_following(id, &error).await,
            }
        }
        Ok(())
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
        tracing::warn!("session {id} no longer follows head: {error}");
        self.followers.end(id, error);
        let catalog = self.catalog.clone();
        match blocking(move || catalog.set_session_follow(id, false)).await {
            Ok(Ok(session)) => drop(self.told_session(&session).await),
            Ok(Err(error)) => tracing::warn!("cannot note that session {id} stopped following: {error}"),
            Err(error) => tracing::warn!("cannot note that session {id} stopped following: {error}"),
        }
    }

    /// What is to be said of sessions that follow, or did until they could not.
    pub(super) async fn followers_told(&self) -> Vec<String> {
        if lock(&self.followers.0).is_empty() {
            return Vec::new();
        }
        let catalog = self.catalog.clone();
        // A catalog that cannot be read is told by whatever else asks it.
        let Ok(Ok(sessions)) = blocking(move || catalog.sessions()).await else { return Vec::new() };
        sessions.iter().filter_map(|session| self.followers.told(session)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_after_a_success() {
        let session = SessionId("01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap());
        let followers = Followers::default();
        let pauses: Vec<_> = (0..10).map(|_| followers.hold_up(session, "shop", "gone".into())).collect();
        assert!(pauses.windows(2).all(|two| two[1] == (two[0] * 2).min(LONGEST_PAUSE)), "{pauses:?}");
        assert_eq!((pauses[0], pauses[9]), (FIRST_PAUSE, LONGEST_PAUSE));
        assert!(!followers.is_to_go(session, true), "a new head does not shorten the pause");
        assert!(!followers.any_is_due("shop"));
        followers.forget(session);
        assert!(followers.is_to_go(session, true) && !followers.is_to_go(session, false));
        assert_eq!(followers.hold_up(session, "shop", "gone".into()), FIRST_PAUSE);
        followers.keep_only("other", &[]);
        assert!(!followers.is_to_go(session, true));
        followers.keep_only("shop", &[]);
        assert!(followers.is_to_go(session, true), "it does not follow any more");
    }
}
