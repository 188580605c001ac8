//! Databases of ours on the output server that nobody has: what processes of ours left when they were killed.
//!
//! Invariants: one goes only where it says itself that it holds a history of this data directory, and where the lock
//! is taken under which alone such a one is made and used: the session's for what a move builds, the comparison's for
//! what a comparison makes, the server's lock of a log's keyframes for images. Locks end with their process. What a
//! database says goes into every copy that somebody makes of it, so beyond that only what is made under a name that no
//! session and no user's database has goes by itself; the rest is told, and goes by request.

use std::collections::HashMap;

use ptr_log::Session;
use ptr_model::SessionId;
use ptr_replay::{
    inventory::{Found, Role},
    session::{TargetState, inspect, next_name, verification_name},
};
use uuid::Uuid;

use super::{Collected, comparison_of, thing};
use crate::service::{Service, ServiceError, blocking, moves::SessionLock};

/// What a database is called that is made for a session beside its own, and under which lock.
enum Private {
    /// What a move builds.
    Next(SessionId),
    /// What a comparison makes.
    Verification(SessionId),
}

impl Service {
    /// `found` are those that no session of ours has.
    pub(super) async fn collect_databases(
        &self,
        foreign: bool,
        found: Vec<Found>,
        done: &mut Collected,
    ) -> Result<(), ServiceError> {
        let logs = self.logs();
        // What was done before may have taken long.
        let sessions = &self.all_in_catalog().await?;
        let mut images = HashMap::new();
        for found in found {
            let reason = match found.role {
                _ if !logs.contains_key(&found.log_id) && foreign => {
                    Ok(format!("this data directory has no history {}", found.log_id))
                }
                _ if !logs.contains_key(&found.log_id) => Err(format!(
                    "another data directory has its history {}, or one that is gone; --foreign drops it",
                    found.log_id
                )),
                // Which of them pay is the keeper's business.
                Role::Image => continue,
                Role::Leftover => {
                    let of = images.entry(found.log_id).or_insert_with(Vec::new);
                    of.push(found);
                    continue;
                }
                Role::Unowned | Role::Session(_) => match private(sessions, &found.name) {
                    Some(private) => {
                        self.collect_private(&private, found, done).await?;
                        continue;
                    }
                    None => match nobodys(sessions, &found, foreign) {
                        Ok(reason) => {
                            self.drop_nobodys(found, reason, done).await?;
                            continue;
                        }
                        kept => kept,
                    },
                },
            };
            match reason {
                Ok(reason) => self.drop_found(&found, reason, done).await?,
                Err(reason) => done.kept.push(thing("database", &found.name, found.bytes, reason)),
            }
        }
        for (log_id, left) in images {
            self.collect_images(&logs[&log_id], left, done).await?;
        }
        Ok(())
    }

    async fn all_in_catalog(&self) -> Result<Vec<Session>, ServiceError> {
        let catalog = self.catalog.clone();
        Ok(blocking(move || catalog.sessions()).await??)
    }

    /// A database whose session is gone, if no session has taken it over meanwhile; none is made while this goes on.
    async fn drop_nobodys(
        &self,
        found: Found,
        reason: String,
        done: &mut Collected,
    ) -> Result<(), ServiceError> {
        let _none_is_made = self.beginning.write().await;
        let sessions = self.all_in_catalog().await?;
        if sessions.iter().any(|session| session.target_database == found.name) {
            return Ok(());
        }
        match inspect(self.output()?, &found.name).await? {
            TargetState::Ours(cursor)
                if cursor.log_id == found.log_id && cursor.session_id == session_of(found.role) =>
            {
                self.drop_found(&found, reason, done).await
            }
            _ => Ok(()),
        }
    }

    /// The histories of this data directory, by the name of the database.
    fn logs(&self) -> HashMap<Uuid, String> {
        let present = self.all_captured();
        let present =
            present.iter().map(|captured| (captured.log.identity().log_id, captured.database.clone()));
        present.chain(self.earlier().into_iter().map(|(name, log_id)| (log_id, name))).collect()
    }

    /// What a move or a comparison of a session made, if neither is under way in any process.
    async fn collect_private(
        &self,
        private: &Private,
        found: Found,
        done: &mut Collected,
    ) -> Result<(), ServiceError> {
        let (lock, who) = match private {
            Private::Next(session) => (*session, "a move"),
            Private::Verification(session) => (comparison_of(*session), "a comparison"),
        };
        let Some(_lock) = self.lock_if_free(lock)? else {
            done.kept.push(thing("database", &found.name, found.bytes, format!("{who} is using it")));
            return Ok(());
        };
        // Before the lock was taken another database may have come under the name.
        match inspect(self.output()?, &found.name).await? {
            TargetState::Ours(cursor) if cursor.log_id == found.log_id => {
                self.drop_found(&found, format!("{who} that was killed left it"), done).await
            }
            // A swap that was broken off may have closed it: the session's next move opens it again, and drops it.
            _ => Ok(()),
        }
    }

    fn lock_if_free(&self, lock: SessionId) -> Result<Option<SessionLock>, ServiceError> {
        match self.moves.take_if_free(lock, &self.configuration.data.run()) {
            Err(ServiceError::MovedElsewhere) => Ok(None),
            other => other,
        }
    }

    /// Images in the making, and what is about to be dropped, if nobody makes images of that log.
    async fn collect_images(
        &self,
        database: &str,
        left: Vec<Found>,
        done: &mut Collected,
    ) -> Result<(), ServiceError> {
        let captured = self.captured(Some(database))?;
        let keyframes = self.keyframes_of(&captured)?;
        let gone = match done.dry_run {
            true => keyframes.leftovers().await?,
            false => keyframes.sweep().await?,
        };
        for Found { name, bytes, .. } in left {
            if gone.contains(&name) {
                let reason = "a process that was killed left it, or a move replaced it".to_owned();
                done.removed.push(thing("database", &name, bytes, reason));
            } else if keyframes.list().await?.unfinished.contains(&name) {
                done.kept.push(thing("database", &name, bytes, "it is being made".to_owned()));
            }
        }
        Ok(())
    }
}

/// Whether a name is one that is given to what is made for a session beside its own database.
fn private(sessions: &[Session], name: &str) -> Option<Private> {
    sessions.iter().find_map(|session| match &session.target_database {
        target if next_name(target) == name => Some(Private::Next(session.id)),
        target if verification_name(target) == name => Some(Private::Verification(session.id)),
        _ => None,
    })
}

fn session_of(role: Role) -> Option<SessionId> {
    match role {
        Role::Session(id) => Some(id),
        _ => None,
    }
}

/// Whether a database is one of those that we alone make, by its mark or by its name. Of others nobody knows whether they
/// are a session's or a copy that somebody made of it.
pub(super) fn is_made_by_us(found: &Found) -> bool {
    match found.role {
        Role::Image | Role::Leftover => true,
        Role::Session(_) | Role::Unowned => {
            let short = &found.log_id.simple().to_string()[24..];
            let is_a_keyframes = found.name.starts_with("ptr_") && found.name.contains(&format!("_{short}_"));
            is_a_keyframes || ENDINGS.iter().any(|ending| found.name.ends_with(ending))
        }
    }
}

/// Of [`next_name`] and [`verification_name`].
const ENDINGS: [&str; 2] = ["__next", "__verify"];

/// Whether a database that no session has by its name is one that nobody has.
fn nobodys(sessions: &[Session], found: &Found, foreign: bool) -> Result<String, String> {
    let Role::Session(id) = found.role else {
        return Err("it says of no session that it is its own; drop it by hand if nobody uses it".to_owned());
    };
    match sessions.iter().find(|session| session.id == id) {
        None if foreign || is_made_by_us(found) => Ok("its session is gone".to_owned()),
        None => Err(
            "its session is gone, which left it, or somebody made a copy of that one's; --foreign drops it"
                .to_owned(),
        ),
        Some(session) => Err(format!(
            "it says that it is of session {:?}, whose database has another name: a copy of it, or one being made",
            session.name
        )),
    }
}

#[cfg(test)]
mod tests {
    use ptr_replay::session::standing_name;

    use super::*;

    #[test]
    fn what_is_made_beside_a_sessions_database_is_known_by_its_name() {
        let found = |name: String, role| Found { log_id: Uuid::nil(), name, bytes: 0, role };
        let session = Role::Session(SessionId(Uuid::nil()));
        for target in ["shop_s1".to_owned(), "x".repeat(63)] {
            assert!(is_made_by_us(&found(next_name(&target), session)));
            assert!(is_made_by_us(&found(verification_name(&target), Role::Unowned)));
            assert!(!is_made_by_us(&found(target.clone(), session)));
            let standing = standing_name(&target, Uuid::nil(), 7);
            assert!(is_made_by_us(&found(standing, Role::Unowned)));
        }
    }
}
