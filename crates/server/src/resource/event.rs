//! Live events, as `GET /api/events` streams them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    backup::BackupAnswer, checkpoint::CheckpointAnswer, navigation::MoveAnswer, position::PositionAnswer,
    session::SessionAnswer, status::ListenerStatus, verification::VerificationAnswer,
};

/// Something happened. The `event` field of the stream is `kind`, its `data` is the whole as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// The log grew.
    Head {
        /// The captured database.
        database: String,
        /// Where its log ends.
        head: PositionAnswer,
    },
    /// A listener does something else than before.
    Listener {
        /// The captured database.
        database: String,
        /// What it does.
        listener: ListenerStatus,
    },
    /// A move began, went on or ended.
    Move {
        /// The move.
        r#move: MoveAnswer,
    },
    /// A session was made or is other than it was.
    Session {
        /// The session.
        session: SessionAnswer,
    },
    /// A checkpoint was made or is other than it was.
    Checkpoint {
        /// The checkpoint.
        checkpoint: CheckpointAnswer,
    },
    /// A backup began or ended.
    Backup {
        /// The backup.
        backup: BackupAnswer,
    },
    /// A verification ended.
    Verification {
        /// The verification.
        verification: VerificationAnswer,
    },
    /// Something was deleted; lists should be fetched again.
    Deleted {
        /// `session`, `checkpoint`, `backup` or `keyframe`.
        resource: String,
        /// Its id.
        id: String,
    },
    /// The client was too slow and missed events: fetch everything again.
    Missed {
        /// How many.
        events: u64,
    },
}

impl Event {
    /// Its `kind`, for the stream's `event` field.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Head { .. } => "head",
            Self::Listener { .. } => "listener",
            Self::Move { .. } => "move",
            Self::Session { .. } => "session",
            Self::Checkpoint { .. } => "checkpoint",
            Self::Backup { .. } => "backup",
            Self::Verification { .. } => "verification",
            Self::Deleted { .. } => "deleted",
            Self::Missed { .. } => "missed",
        }
    }
}
