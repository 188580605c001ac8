//! Sessions that still hold a history that was set aside: made anew from the base image of the present one.
//!
//! Invariants: only a database is given up that says itself that it is this session's, and of a history that is
//! in this data directory, so that it holds nothing that cannot be had again; what a user wrote into an opened
//! session is given up with consent only.

use ptr_log::Session;
use ptr_replay::session::{Consent, TargetState, inspect};

use super::{Announcer, Role, Service, ServiceError, blocking};

impl Service {
    /// Makes the databases anew that hold an earlier history of what they replay.
    pub(super) async fn renew_sessions(&self, announcer: &Announcer) -> Result<(), ServiceError> {
        if self.earlier().is_empty() {
            return Ok(());
        }
        let catalog = self.catalog.clone();
        for session in blocking(move || catalog.sessions()).await?? {
            match self.renew(&session, announcer).await {
                Err(error) if self.role == Role::Ipc => {
                    self.warn(format!("session {} still holds an earlier history: {error}", session.name));
                }
                renewed => renewed?,
            }
        }
        Ok(())
    }

    async fn renew(&self, session: &Session, announcer: &Announcer) -> Result<(), ServiceError> {
        let Some(earlier) = self.held_earlier(session).await? else { return Ok(()) };
        let Session { name, target_database, .. } = session;
        if session.open && !self.configuration.consent {
            announcer.warn(format!(
                "session {name} was opened, so its database {target_database} stays as it is, with {earlier} and what was \
                 written into it; start with --yes to have it made anew"
            ));
            return Ok(());
        }
        announcer.step(format!(
            "making database {target_database} of session {name} anew: it held {earlier}, which stays in the log"
        ));
        let _lock = self.moves.take(session.id, &self.configuration.data.run()).await?;
        self.make_database(session, Consent::Given, announcer).await?;
        let (catalog, id) = (self.catalog.clone(), session.id);
        blocking(move || catalog.set_session_open(id, false)).await??;
        Ok(())
    }

    /// The earlier history, by name, that a session's own database holds in the present one's place.
    pub(super) async fn held_earlier(&self, session: &Session) -> Result<Option<String>, ServiceError> {
        if self.captured(Some(&session.database)).is_err() {
            return Ok(None);
        }
        match inspect(self.output()?, &session.target_database).await? {
            TargetState::Ours(cursor)
                if cursor.session_id == Some(session.id) && !self.is_present(session, &cursor) =>
            {
                let held = self.earlier().into_iter().find(|(_, log_id)| *log_id == cursor.log_id);
                Ok(held.map(|(name, _)| name))
            }
            _ => Ok(None),
        }
    }
}
