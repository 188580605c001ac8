//! Why listening ended or was interrupted, and which of the two.

use std::time::{Duration, Instant};

use ptr_log::LogError;
use ptr_model::Lsn;
use ptr_postgres::{ConnectError, SqlState};

use super::patience::{LOGIN_PAUSE, MEMORY_PAUSE, Patience};
use crate::{
    assemble::AssembleError, decode::DecodeError, transport::TransportError, undescribed::LookUpError,
};

/// Why capture ended, or was interrupted.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The log cannot be written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The server, or the way to it, failed.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The marker could not be sent.
    #[error("the marker that proves the stream could not be sent: {0}")]
    Marker(#[source] MarkerError),
    /// The primary could not be asked about a table that no event told of.
    #[error("the primary could not be asked about table {table}, which no event told of: {error}")]
    LookUp {
        /// The table.
        table: String,
        /// Why.
        #[source]
        error: LookUpError,
    },
    /// The slot or publication is not what set-up made.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// Another process reads the slot.
    #[error(
        "the replication slot {slot:?} is being read by server process {}; stop the other listener, or end that \
         process with pg_terminate_backend",
        pid.map_or("?".to_owned(), |pid| pid.to_string())
    )]
    SlotInUse {
        /// The slot.
        slot: String,
        /// Who reads it, where it is known.
        pid: Option<i32>,
    },
    /// The server cannot decode a row that is too large.
    #[error(
        "the server cannot stream a change shortly after {after}: {error}. The images of one change must stay below \
         1 GB together. Capture cannot get past it. Run `teardown`, then `up` with EXCLUDE_TABLES=SCHEMA.TABLE, which \
         keeps REPLICA IDENTITY FULL from the table, so that the old image is not sent: another history begins, and \
         this one stays readable beside it"
    )]
    TooLarge {
        /// The end of the last transaction before it.
        after: Lsn,
        /// The server's words.
        error: Box<ptr_postgres::ServerError>,
    },
    /// The server has too little memory for a change. Another moment it may have more.
    #[error(
        "the server ran out of memory at a change shortly after {after}: {error}. Give it more, or lower its \
         logical_decoding_work_mem; capture then goes on where it stopped, and was given up only if it stayed so for minutes"
    )]
    OutOfMemory {
        /// The end of the last transaction before it.
        after: Lsn,
        /// The server's words.
        error: Box<ptr_postgres::ServerError>,
    },
    /// A message cannot be decoded.
    #[error("the stream cannot be understood after {after}: {error}")]
    Decode {
        /// The end of the last transaction before it.
        after: Lsn,
        /// What is wrong with it.
        #[source]
        error: DecodeError,
    },
    /// A message is out of place.
    #[error("the stream makes no sense after {after}: {error}")]
    Assemble {
        /// The end of the last transaction before it.
        after: Lsn,
        /// What is wrong with it.
        #[source]
        error: AssembleError,
    },
}

/// The second connection, over which markers go.
#[derive(Debug, thiserror::Error)]
pub enum MarkerError {
    /// It could not be opened.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server refused the marker.
    #[error(transparent)]
    Refused(#[from] tokio_postgres::Error),
}

/// What set-up made is not there any more, or not as it was.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SetupError {
    /// Another cluster answers.
    #[error(
        "this server is another one: its system identifier is {found}, the log was begun on {expected}; check the DSN"
    )]
    OtherCluster {
        /// The log's.
        expected: u64,
        /// The server's.
        found: u64,
    },
    /// A standby answers. It may be one of several hosts while the primary is away, or become the primary.
    #[error(
        "this server is a standby; capture waits for its primary. Where the DSN names several hosts, \
         target_session_attrs=primary passes it by"
    )]
    InRecovery,
    /// The server went on from another point of its WAL.
    #[error(
        "the server is on timeline {found}, the log was begun on {expected}: a standby was promoted or the server \
         was restored, and its history may not continue the log's. Run teardown, then up: another history begins, and this \
         one stays readable beside it"
    )]
    OtherTimeline {
        /// The log's.
        expected: u32,
        /// The server's.
        found: u32,
    },
    /// The database was dropped and made again.
    #[error(
        "the database {database:?} is not the one the log was begun on (it was made again). Run \
         teardown, then up: another history begins, and this one stays readable beside it"
    )]
    OtherDatabase {
        /// Its name.
        database: String,
    },
    /// The server is too old.
    #[error("the server has version {found}; capture needs 14 or newer")]
    Version {
        /// `server_version_num`.
        found: String,
    },
    /// There is no slot of that name.
    #[error(
        "the replication slot {slot:?} does not exist: it was dropped, or this is another server. What happened since \
         cannot be captured. Run teardown, then up: another history begins, and this one stays readable beside it"
    )]
    SlotMissing {
        /// Its name.
        slot: String,
    },
    /// The slot was invalidated.
    #[error(
        "the replication slot {slot:?} is lost: the server removed WAL that it still needed ({reason}). Run \
         teardown, then up: another history begins, and this one stays readable beside it; and raise \
         max_slot_wal_keep_size"
    )]
    SlotLost {
        /// Its name.
        slot: String,
        /// What the server says.
        reason: String,
    },
    /// There is no publication of that name, or there was none when the slot's WAL was written.
    #[error(
        "the publication {publication:?} does not exist, or did not when the changes were made; changes without it \
         cannot be streamed. Run teardown, then up: another history begins, and this one stays readable beside it"
    )]
    PublicationMissing {
        /// Its name.
        publication: String,
    },
    /// The marker was decoded and not sent.
    #[error(
        "a marker that was put into the WAL did not come round: the stream of slot {slot:?} carries nothing; \
         run doctor, then teardown and up: another history begins, and this one stays readable beside it"
    )]
    MarkerLost {
        /// The slot.
        slot: String,
    },
    /// The role may not read the slot.
    #[error("the role {user:?} may not replicate: grant it with ALTER ROLE {user} REPLICATION")]
    NoRight {
        /// The role.
        user: String,
    },
}

/// Whether to try again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Later, by itself.
    Retry,
    /// Not before somebody did something.
    Fatal,
}

impl ListenError {
    /// Whether trying again may help, given how long it was tried.
    pub(super) fn verdict(&self, patience: &mut Patience, now: Instant) -> Verdict {
        let patient = match self {
            Self::SlotInUse { .. } => patience.with_slot(now),
            Self::OutOfMemory { after, .. } => patience.with_memory(*after, now),
            Self::Transport(TransportError::Connect(ConnectError::LoginRefused { .. })) => {
                patience.with_login(now)
            }
            Self::Setup(SetupError::InRecovery) => true,
            Self::Transport(TransportError::Connect(ConnectError::Tls { .. })) => false,
            Self::Transport(TransportError::Login { .. } | TransportError::Protocol { .. }) => false,
            Self::Transport(_) | Self::Marker(_) | Self::LookUp { .. } => true,
            _ => false,
        };
        if patient { Verdict::Retry } else { Verdict::Fatal }
    }

    /// How long to wait at least before trying again: an attempt may cost somebody something.
    pub(super) fn shortest_pause(&self) -> Duration {
        match self {
            Self::Transport(TransportError::Connect(ConnectError::LoginRefused { .. })) => LOGIN_PAUSE,
            Self::OutOfMemory { .. } => MEMORY_PAUSE,
            _ => Duration::ZERO,
        }
    }
}

/// An error of a running stream, seen for what it means.
pub(super) fn while_streaming(error: TransportError, publication: &str, after: Lsn) -> ListenError {
    let Some(state) = error.server_error().map(|error| error.sqlstate.clone()) else { return error.into() };
    if state == SqlState::UNDEFINED_OBJECT {
        return SetupError::PublicationMissing { publication: publication.to_owned() }.into();
    }
    match error {
        TransportError::Server { error, .. } if state == SqlState::PROGRAM_LIMIT_EXCEEDED => {
            ListenError::TooLarge { after, error }
        }
        TransportError::Server { error, .. } if state == SqlState::OUT_OF_MEMORY => {
            ListenError::OutOfMemory { after, error }
        }
        error => error.into(),
    }
}

/// An error of START_REPLICATION, seen for what it means.
pub(super) fn at_start(error: TransportError, slot: &str, user: &str) -> ListenError {
    let Some(found) = error.server_error() else { return error.into() };
    let (state, reason) = (found.sqlstate.clone(), found.to_string());
    let slot = slot.to_owned();
    if state == SqlState::UNDEFINED_OBJECT {
        SetupError::SlotMissing { slot }.into()
    } else if state == SqlState::OBJECT_IN_USE {
        ListenError::SlotInUse { slot, pid: None }
    } else if state == SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE {
        SetupError::SlotLost { slot, reason }.into()
    } else if state == SqlState::INSUFFICIENT_PRIVILEGE {
        SetupError::NoRight { user: user.to_owned() }.into()
    } else {
        error.into()
    }
}
