//! The comment by which a database of ours is known on the output server. Pure.
//!
//! It is the only record of keyframes and spares: what the server does not say about itself is not there. A finished
//! mark is written last, so a database without one was left by a crash.

use ptr_model::{Lsn, OUR_SCHEMA, Position};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::apply::Notice;

/// What a database is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An image that databases are copied from; nobody can connect to it.
    Keyframe,
    /// A copy of a keyframe that waits to become a session's database.
    Spare,
    /// One of these in the making, or what a crash left of it.
    Unfinished,
    /// A session's database that was replaced and is to be dropped.
    Discarded,
}

/// Why a keyframe is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The base image.
    Creation,
    /// Schema changes follow, which cannot be taken back.
    SchemaChange,
    /// The next one before is far.
    Distance,
    /// Somebody asked for it; it stays until somebody deletes it.
    Manual,
}

impl Reason {
    /// As users see it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Creation => "creation",
            Self::SchemaChange => "schema_change",
            Self::Distance => "distance",
            Self::Manual => "manual",
        }
    }
}

/// What a comment says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mark {
    /// What it is for.
    pub kind: Kind,
    /// Whose history it holds.
    pub log_id: Uuid,
    /// Where it is.
    pub position: Position,
    /// Why it is there.
    pub reason: Reason,
    /// Its bytes on disk.
    pub bytes: u64,
    /// What moves over the same way told their users; a move that begins here tells it too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<Notice>,
}

impl Mark {
    /// Of a database that is to be dropped, wherever it is.
    #[must_use]
    pub fn discarded(log_id: Uuid) -> Self {
        let position = Position::creation(Lsn(0));
        let (kind, reason) = (Kind::Discarded, Reason::Manual);
        Self { kind, log_id, position, reason, bytes: 0, notices: Vec::new() }
    }

    /// The comment.
    #[must_use]
    pub fn comment(&self) -> String {
        let json = serde_json::to_string(self).expect("a mark has no maps and no floats");
        format!("{}{json}", Self::beginning())
    }

    /// What all comments begin with.
    pub(super) fn beginning() -> String {
        format!("{OUR_SCHEMA} ")
    }

    /// Reads a comment; `None` where it is none of ours.
    #[must_use]
    pub fn parse(comment: &str) -> Option<Self> {
        serde_json::from_str(comment.strip_prefix(&Self::beginning())?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written_and_other_comments_are_none() {
        let mark = Mark {
            kind: Kind::Keyframe,
            log_id: Uuid::from_u128(7),
            position: Position { ordinal: 3, lsn: Lsn(0x16B_3748), entry_index: 9 },
            reason: Reason::SchemaChange,
            bytes: 8_000_000,
            notices: vec![Notice::RoleCreated { role: "it's".into() }],
        };
        assert_eq!(Mark::parse(&mark.comment()), Some(mark));
        for other in ["", "of the shop", "postgres_test_replay {", "postgres_test_replay {\"kind\":\"new\"}"]
        {
            assert_eq!(Mark::parse(other), None, "{other}");
        }
    }
}
