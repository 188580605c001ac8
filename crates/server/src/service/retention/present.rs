//! Where the present history of a database may begin later, and what keeps it from that.
//!
//! A history goes by whole segments of its log. The position that it is to begin at is one where a segment does, before
//! which everything is as old, or as much, as the policy lets go, and nothing is needed: no checkpoint that somebody
//! made, no session or decision, no keyframe that was asked for, no temporary object. How it then begins there is
//! [`super::beginning`]'s.

use std::sync::Arc;

use ptr_log::{CheckpointKind, Decision, Log, LogError};
use ptr_model::{Position, Timestamp};
use ptr_replay::{
    Decisions,
    keyframe::Reason,
    session::{TargetState, inspect},
    temporary,
};

use super::{Collected, Policy, Worth, thing};
use crate::service::{Captured, Service, ServiceError, blocking};

/// The beginning of a history that can go.
pub(super) struct Cut {
    /// Where it begins then.
    pub(super) at: Position,
    /// Bytes of the segments before.
    bytes: u64,
    /// Transactions before.
    transactions: u64,
    /// When the last of them committed.
    last: Timestamp,
}

/// What must stay reachable, and why.
pub(super) struct Need {
    pub(super) at: Position,
    pub(super) reason: String,
}

/// What a policy and the needs come to.
enum Decided {
    /// Nothing is asked for.
    Spared,
    /// Nothing can go: for this.
    Held(String),
    /// This can go; what was asked for beyond it stays for the reason.
    Cut(Cut, Option<String>),
}

impl Service {
    /// Removes the beginnings of the present histories that the policy lets go.
    pub(super) async fn collect_beginnings(
        self: &Arc<Self>,
        policy: &Policy,
        done: &mut Collected,
    ) -> Result<(), ServiceError> {
        if policy.before.is_none() && policy.keep_bytes.is_none() {
            return Ok(());
        }
        for captured in self.all_captured() {
            if !done.dry_run {
                let _alone = self.beginning.write().await;
                self.go_on_beginning(&captured.database, &captured.log).await?;
            }
            let name = captured.database.clone();
            match self.decide_beginning(&captured, policy).await? {
                Decided::Spared => {}
                Decided::Held(reason) => done.kept.push(thing("beginning", &name, 0, reason)),
                Decided::Cut(cut, held) => {
                    let Cut { at, bytes, transactions, last } = cut;
                    if !done.dry_run
                        && let Err(error) = self.begin_later(&captured, at).await
                    {
                        let reason = format!("the history cannot begin at {at}: {error}");
                        done.kept.push(thing("beginning", &name, bytes, reason));
                        continue;
                    }
                    let reason = format!(
                        "{transactions} transactions, the last of {last}; the history begins at {at} then"
                    );
                    done.removed.push(thing("beginning", &name, bytes, reason));
                    done.kept.extend(held.map(|reason| thing("beginning", &name, 0, reason)));
                }
            }
        }
        Ok(())
    }

    async fn decide_beginning(
        &self,
        captured: &Arc<Captured>,
        policy: &Policy,
    ) -> Result<Decided, ServiceError> {
        let (before, keep_bytes) = (policy.before, policy.keep_bytes);
        let (mut starts, bytes) = captured.read(move |log| let_go_by(log, before, keep_bytes)).await?;
        let Some(wanted) = starts.last().copied() else { return Ok(Decided::Spared) };
        let needs = match self.needs(captured).await {
            Ok(needs) => needs,
            Err(error) => return Ok(Decided::Held(format!("what is needed of it cannot be told: {error}"))),
        };
        let first = needs.into_iter().min_by_key(|need| need.at);
        if let Some(need) = &first {
            starts.retain(|start| *start <= need.at);
        }
        let mut held = first.filter(|need| need.at < wanted).map(|need| need.reason);
        // From the latest on.
        while let Some(at) = starts.pop() {
            let needed = captured.read(move |log| temporary::needed_at(log, at)).await?;
            if let Some(process) = needed {
                held = Some(format!(
                    "what process {process} of the primary made temporary before {at} may still be needed after it"
                ));
                continue;
            }
            let sum: u64 = bytes.iter().filter(|(start, _)| *start < at).map(|(_, bytes)| bytes).sum();
            let all: u64 = bytes.iter().map(|(_, bytes)| bytes).sum();
            if policy.worth == Worth::AQuarter && sum < all / 4 {
                return Ok(held.map_or(Decided::Spared, Decided::Held));
            }
            let (begins, last) =
                captured.read(move |log| Ok((log.creation(), log.transaction(at.ordinal - 1)?))).await?;
            let last = last.map_or(captured.log.identity().created_at, |last| last.header.commit_time);
            let cut = Cut { at, bytes: sum, transactions: at.ordinal - begins.ordinal, last };
            return Ok(Decided::Cut(cut, held));
        }
        Ok(held.map_or(Decided::Spared, Decided::Held))
    }

    /// What of a history is needed from which position on.
    pub(super) async fn needs(&self, captured: &Arc<Captured>) -> Result<Vec<Need>, ServiceError> {
        let (catalog, name) = (self.catalog.clone(), captured.database.clone());
        let (checkpoints, sessions, decisions) = blocking(move || {
            let mut sessions = catalog.sessions()?;
            sessions.retain(|session| session.database == name);
            let mut decisions = Vec::new();
            for session in &sessions {
                decisions.extend(
                    catalog.decisions(session.id)?.into_iter().map(|one| (session.name.clone(), one)),
                );
            }
            Ok::<_, ServiceError>((catalog.checkpoints(Some(&name))?, sessions, decisions))
        })
        .await??;
        let mut needs = Vec::new();
        for one in checkpoints {
            let reason = match one.kind {
                CheckpointKind::Manual => {
                    format!("checkpoint {:?} is there; checkpoint delete lets it go", one.name)
                }
                CheckpointKind::Migration if one.pinned => "MIGRATION is pinned there".to_owned(),
                CheckpointKind::Migration | CheckpointKind::Creation => continue,
            };
            needs.push(Need { at: one.position, reason });
        }
        for (session, decision) in decisions {
            let reason = format!("session {session:?} leaves {} out from there on", decision.what);
            let at = captured.read(move |log| needed_by(log, &decision)).await?;
            needs.push(Need { at, reason });
        }
        for session in sessions {
            let reason = |what: &str| format!("session {:?} {what}", session.name);
            let need = match inspect(self.output()?, &session.target_database).await? {
                TargetState::Ours(cursor) if self.is_present(&session, &cursor) => {
                    let reason = reason("is there; it can be taken further on, or deleted");
                    Need { at: cursor.position, reason }
                }
                // It is made anew where the history begins.
                TargetState::Ours(_) | TargetState::Absent | TargetState::Empty => continue,
                TargetState::Foreign { holds } => {
                    let reason = reason(&format!("cannot be asked where it is: {holds}"));
                    Need { at: captured.log.creation(), reason }
                }
            };
            needs.push(need);
        }
        let images = self.keyframes_of(captured)?.list().await?;
        for keyframe in images.keyframes.iter().filter(|one| one.reason == Reason::Manual) {
            let reason = format!("keyframe {} was asked for; keyframe delete lets it go", keyframe.database);
            needs.push(Need { at: keyframe.position, reason });
        }
        Ok(needs)
    }
}

/// From which position on a decision needs the history: rows from the primary come with the transaction before the
/// position that they are of.
fn needed_by(log: &Log, decision: &Decision) -> Result<Position, LogError> {
    let first = Decisions::first_of(decision);
    if first == decision.from.ordinal {
        return Ok(decision.from);
    }
    log.position_at(first.max(log.creation().ordinal))
}

/// Positions at which segments begin, with their bytes.
type Segments = Vec<(Position, u64)>;

/// Where segments begin before which a policy lets everything go, in order; and all segments.
fn let_go_by(
    log: &Log,
    before: Option<Timestamp>,
    keep_bytes: Option<u64>,
) -> Result<(Vec<Position>, Segments), LogError> {
    let (segments, head) = (log.segments()?, log.head()?);
    let by_age = before.map(|before| log.first_since(before)).transpose()?;
    let by_age = by_age.map_or(0, |first| first.unwrap_or(head.ordinal));
    let mut by_bytes = 0;
    if let Some(most) = keep_bytes {
        let mut left: u64 = segments.iter().map(|(_, bytes)| bytes).sum();
        for (start, bytes) in &segments {
            by_bytes = start.ordinal;
            if left <= most {
                break;
            }
            left -= bytes;
        }
    }
    let mut starts = Vec::new();
    for (start, _) in segments.iter().skip(1) {
        // Old by the primary's clock, and received so long ago by ours: one of them may have been set back.
        let is_old = match before {
            Some(before) if start.ordinal <= by_age => log.segment_begun(start.ordinal)? <= before,
            _ => false,
        };
        if is_old || start.ordinal <= by_bytes {
            starts.push(*start);
        }
    }
    Ok((starts, segments))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ptr_log::{DecisionId, DecisionKind, TableName};
    use ptr_model::SessionId;
    use ptr_testkit::{HandwrittenLog, HandwrittenTable};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_transaction_that_brings_the_primarys_rows_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("log");
        let table = HandwrittenTable::new("t", &[("id", true, 23, "integer")]);
        let mut writing = HandwrittenLog::begin(&directory, Duration::from_secs(1));
        ["1", "2", "3"].into_iter().for_each(|row| writing.transaction([table.insert(&[row])]));
        writing.close();
        let log = Log::open(&directory).unwrap();
        let at = |ordinal| log.position_at(ordinal).unwrap();
        let needed = |from, kind| {
            let (id, session_id) = (DecisionId(1), SessionId(Uuid::nil()));
            let decision = Decision {
                id,
                session_id,
                from: at(from),
                kind,
                what: String::new(),
                decided_at: Timestamp(0),
            };
            needed_by(&log, &decision).unwrap()
        };
        let table = || TableName::new("public", "t");
        let resync = |until| DecisionKind::Resync {
            table: table(),
            oid: None,
            until: at(until),
            contents: "c".into(),
        };
        assert_eq!(needed(1, resync(3)), at(1));
        assert_eq!(needed(3, resync(3)), at(2), "no change is left out, and the rows come all the same");
        assert_eq!(needed(3, DecisionKind::LeaveOut { table: table(), oid: None }), at(3));
    }
}
