//! What set-up and teardown say while they work.

use std::fmt;

use ptr_model::Lsn;
use serde::Serialize;
use tokio::sync::mpsc::UnboundedSender;

/// One thing to tell the user. Whoever shows it decides how.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum SetupEvent {
    /// The checks that change nothing begin.
    Checking,
    /// Something is not as it could be, but capture goes on.
    Warning {
        /// What, and what it means.
        text: String,
    },
    /// An earlier set-up broke off; what it made is removed first.
    UndoingUnfinished,
    /// Our schema and event triggers are about to be made.
    InstallingTriggers,
    /// These tables are about to get REPLICA IDENTITY FULL.
    SettingIdentities {
        /// Qualified and quoted.
        tables: Vec<String>,
    },
    /// A table is locked; trying again.
    WaitingForTable {
        /// Qualified and quoted.
        table: String,
        /// Who holds it.
        holders: Vec<OpenTransaction>,
    },
    /// The publication is about to be made.
    Publishing {
        /// Its name.
        name: String,
        /// How many tables it lists; `None` is all tables, now and later.
        tables: Option<usize>,
    },
    /// The slot is about to be made.
    CreatingSlot {
        /// Its name.
        name: String,
    },
    /// The slot waits for these to end, or set-up does before it, so that it sees what they made.
    WaitingForSlot {
        /// Whom it waits for.
        waits: Vec<OpenTransaction>,
    },
    /// The slot is there: from here on every change is kept.
    SlotCreated {
        /// Where history begins.
        lsn: Lsn,
    },
    /// The base image is being read.
    Dumping {
        /// Tables begun.
        tables_done: usize,
        /// All tables.
        tables: usize,
        /// Size of the tables begun before the last, in bytes on the primary's disk.
        bytes_done: u64,
        /// Size of all tables.
        bytes: u64,
    },
    /// Everything is there.
    Prepared {
        /// Where history begins.
        lsn: Lsn,
    },
}

/// A transaction that others wait for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum OpenTransaction {
    /// Of a session.
    Session {
        /// Its process id on the server.
        pid: i32,
        /// Its database.
        database: String,
        /// Its role.
        user: String,
        /// When the transaction began.
        since: String,
        /// What it runs, or ran last.
        query: String,
    },
    /// Prepared, and waiting for COMMIT PREPARED or ROLLBACK PREPARED.
    Prepared {
        /// Its name for those.
        gid: String,
        /// Its database.
        database: String,
        /// Its owner.
        user: String,
        /// When it was prepared.
        since: String,
    },
}

impl fmt::Display for OpenTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session { pid, database, user, since, query } => {
                write!(f, "process {pid} of {user} in {database}, open since {since}: {query}")
            }
            Self::Prepared { gid, database, user, since } => {
                write!(f, "prepared transaction {gid:?} of {user} in {database}, since {since}")
            }
        }
    }
}

/// Whoever wants to hear.
pub trait Progress: Send + Sync {
    /// Something happened.
    fn report(&self, event: SetupEvent);
}

/// Nobody listens.
impl Progress for () {
    fn report(&self, _event: SetupEvent) {}
}

impl Progress for UnboundedSender<SetupEvent> {
    fn report(&self, event: SetupEvent) {
        // Who stopped listening does not stop the work.
        let _ = self.send(event);
    }
}
