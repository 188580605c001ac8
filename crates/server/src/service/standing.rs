//! Where sessions stand, as far as that is known without asking their databases: after a move of this process, or since
//! somebody asked, as long as no move of the session began after it.
//!
//! What is done for every session, each time the log grew or a checkpoint was made, goes by this, so that it costs no
//! connection a session. Whoever moves a session or shows where it is asks its database.

use std::{collections::HashMap, sync::Mutex};

use ptr_log::{MoveId, Session};
use ptr_model::{Position, SessionId};

use super::{Service, ServiceError, blocking, lock};

/// What is known of sessions.
#[derive(Debug, Default)]
pub(super) struct Standings(Mutex<HashMap<SessionId, Standing>>);

#[derive(Debug, Clone, Copy)]
struct Standing {
    /// The last move of the session's history that this is after.
    after: Option<MoveId>,
    position: Position,
}

impl Standings {
    /// Notes where a move took a session.
    pub(super) fn arrived(&self, session: SessionId, by: MoveId, position: Position) {
        self.note(session, Standing { after: Some(by), position });
    }

    fn note(&self, session: SessionId, standing: Standing) {
        lock(&self.0).insert(session, standing);
    }

    /// Nothing is known of a session any more: something other than a move may do anything with its database.
    pub(super) fn forget(&self, session: SessionId) {
        lock(&self.0).remove(&session);
    }

    fn known(&self, session: SessionId, last: Option<MoveId>) -> Option<Position> {
        lock(&self.0)
            .get(&session)
            .filter(|standing| standing.after == last)
            .map(|standing| standing.position)
    }
}

impl Service {
    /// Where a session stands; `None` where its database does not say.
    pub(super) async fn standing(&self, session: &Session) -> Result<Option<Position>, ServiceError> {
        let taken = self.moves.taken();
        if let Some(position) = self.known_standing(session).await? {
            return Ok(Some(position));
        }
        let after = self.settled_after(session).await?;
        let position = self.cursor_of(session).await?.map(|cursor| cursor.position);
        let undisturbed = !self.moves.is_moving(session.id) && self.moves.taken() == taken;
        if let Some((position, after)) = position.zip(after).filter(|_| undisturbed) {
            self.moves.standings.note(session.id, Standing { after, position });
        }
        Ok(position)
    }

    /// The same, as far as it is known without asking.
    pub(super) async fn known_standing(&self, session: &Session) -> Result<Option<Position>, ServiceError> {
        let after = self.settled_after(session).await?;
        Ok(after.and_then(|after| self.moves.standings.known(session.id, after)))
    }

    /// Notes where a session stands, for who holds its lock and asked its database.
    pub(super) async fn note_standing(
        &self,
        session: &Session,
        position: Position,
    ) -> Result<(), ServiceError> {
        if let Some(after) = self.settled_after(session).await? {
            self.moves.standings.note(session.id, Standing { after, position });
        }
        Ok(())
    }

    /// The last move of a session, which has ended, if there was one; `None` while it moves or follows, which is no
    /// move of the history.
    async fn settled_after(&self, session: &Session) -> Result<Option<Option<MoveId>>, ServiceError> {
        if session.follow {
            return Ok(None);
        }
        let (catalog, id) = (self.catalog.clone(), session.id);
        let last = blocking(move || catalog.moves(id, 1)).await??.pop();
        let settled = last.as_ref().is_none_or(|last| last.finished_at.is_some());
        Ok(settled.then(|| last.map(|last| last.id)))
    }
}

#[cfg(test)]
mod tests {
    use ptr_model::Lsn;

    use super::*;

    #[test]
    fn what_is_known_holds_until_another_move_or_until_it_is_forgotten() {
        let session = SessionId("01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap());
        let at = Position { ordinal: 3, lsn: Lsn(30), entry_index: 5 };
        let standings = Standings::default();
        assert_eq!(standings.known(session, None), None);
        standings.arrived(session, MoveId(7), at);
        assert_eq!(standings.known(session, Some(MoveId(7))), Some(at));
        assert_eq!(standings.known(session, Some(MoveId(8))), None, "a move began since");
        standings.forget(session);
        assert_eq!(standings.known(session, Some(MoveId(7))), None);
    }
}
