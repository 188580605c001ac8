//! What a listener is doing, for `status`, the API and the page.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ptr_model::{Lsn, Timestamp};
use serde::{Deserialize, Serialize};

use super::ListenError;

/// State and progress of a listener; published as it changes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// What it is doing.
    #[serde(flatten)]
    pub state: ListenerState,
    /// How far it is.
    pub progress: ListenerProgress,
}

/// What a listener is doing.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ListenerState {
    /// It opens the log and connects.
    #[default]
    Starting,
    /// It receives what happened while it was away; its marker has not come round yet.
    CatchingUp {
        /// Where it began.
        from: Lsn,
        /// How far the server was then.
        target: Lsn,
    },
    /// It is capturing: its marker came round.
    Streaming,
    /// The connection was lost; it tries again.
    Reconnecting {
        /// Why.
        error: String,
        /// How many attempts failed.
        attempt: u32,
        /// When it tries next.
        next_try: Timestamp,
    },
    /// It ended because it was asked to.
    Stopped,
    /// It ended because it could not go on.
    Failed {
        /// Why, and what to do.
        error: String,
        /// Whether it is tried again by itself.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        again: bool,
    },
}

impl ListenerState {
    pub(super) fn reconnecting(error: &ListenError, attempt: u32, delay: Duration) -> Self {
        let delay = i64::try_from(delay.as_micros()).unwrap_or(i64::MAX);
        let next_try = Timestamp(now().0.saturating_add(delay));
        Self::Reconnecting { error: error.to_string(), attempt, next_try }
    }
}

/// How far a listener is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ListenerProgress {
    /// The end of the last transaction that was received.
    pub received_lsn: Lsn,
    /// Everything that committed before is in the log and on disk.
    pub durable_lsn: Lsn,
    /// What the server was last told: it may forget WAL before.
    pub confirmed_lsn: Lsn,
    /// How far the server had decoded when it last said so.
    pub server_wal_end: Lsn,
    /// When the last durable transaction committed, by the primary's clock.
    pub last_commit_time: Option<Timestamp>,
    /// Transactions written since the start.
    pub transactions: u64,
    /// Entries written since the start.
    pub entries: u64,
    /// Messages with our prefix that were not believed, since the start.
    pub ignored_messages: u64,
    /// Connections lost since the start.
    pub reconnects: u64,
    /// Where the slot was found beyond everything that this log was given: what committed before was taken by somebody
    /// else, or the log is an old copy. The log keeps it, unless it is in doubt; the latest counts.
    #[serde(default)]
    pub slot_ahead: Option<Lsn>,
}

/// This machine's clock.
pub(super) fn now() -> Timestamp {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX))
}
