//! How many tables a transaction of the replica may touch: each is locked until it ends, with its indexes, and the server
//! has room for so many locks of everybody together.
//!
//! A transaction of the log that touches more is one of the replica's where somebody may look: if the server has no room for
//! it, which shows when it refuses, a new database takes the session's place. In one that nobody can be in, its rows are
//! committed in parts. One that changes the schema is not: the primary had room for it, and the output server needs as
//! much.

use std::collections::HashSet;

use tokio_postgres::Client;

use super::Applier;
use crate::{
    cursor::{self, Cursor, CursorState},
    database::{DatabaseError, Doing},
    error::ReplayError,
};

/// Tables for which nobody asks what the server has room for: every server has it for as many.
const FEW: usize = 64;

/// Of the server's locks we take an eighth of tables: each is locked with its indexes, and others need some too.
const PART: usize = 8;

/// The locks of the open transaction.
#[derive(Debug, Default)]
pub(super) struct Locks {
    tables: HashSet<u32>,
    /// What the server lets us have, once somebody asked.
    limit: Option<usize>,
}

impl Locks {
    /// A table of that `pg_class.oid` is about to be locked.
    pub(super) fn take(&mut self, table: u32) {
        self.tables.insert(table);
    }

    /// The transaction has ended.
    pub(super) fn release(&mut self) {
        self.tables.clear();
    }

    /// Whether these tables, and so many more, are as many as a transaction of ours should lock.
    pub(super) async fn are_many(&mut self, client: &Client, more: usize) -> Result<bool, DatabaseError> {
        let tables = self.tables.len() + more;
        if tables < FEW {
            return Ok(false);
        }
        if self.limit.is_none() {
            self.limit = Some(ask(client).await?);
        }
        Ok(self.were_many(more))
    }

    /// The same, where nobody can be asked.
    fn were_many(&self, more: usize) -> bool {
        self.limit.is_some_and(|limit| self.tables.len() + more >= limit)
    }
}

/// Whether a transaction of the log is committed in parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Parts {
    /// It never is.
    #[default]
    Forbidden,
    /// It would be.
    Allowed,
    /// A part is, and the database is at no position.
    Committed,
}

impl Parts {
    /// Whole transactions are committed.
    pub(super) fn settle(&mut self) {
        if *self == Self::Committed {
            *self = Self::Allowed;
        }
    }
}

impl Applier {
    /// Lets a transaction of more tables than one of ours should lock be committed in parts: the database is at no position
    /// meanwhile, and its cursor says `moving`. Only where nobody else can be in the database, and where it is thrown
    /// away if anything fails then ([`Applier::is_unsettled`]).
    pub(crate) fn may_be_unsettled(&mut self) {
        self.parts = Parts::Allowed;
    }

    /// Whether the database may be at no position: what failed cannot be taken back.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.parts == Parts::Committed || self.has_shared()
    }

    /// Whether what goes in has so many tables that it would be committed in parts in a database that nobody can be in.
    pub(crate) fn could_go_in_parts(&self) -> bool {
        self.parts == Parts::Forbidden && !self.alone && self.locks.were_many(self.fold.tables())
    }

    /// Before so many more tables are locked: commits what went in of a transaction, where that may be done and locks are
    /// many.
    pub(super) async fn make_room(&mut self, more: usize) -> Result<(), ReplayError> {
        let folded = self.fold.tables();
        if self.alone || !self.locks.are_many(&self.client, folded + more).await? {
            return Ok(());
        }
        if self.parts == Parts::Forbidden || (folded == 0 && self.locks.tables.is_empty()) {
            return Ok(());
        }
        self.flush().await?;
        self.open_transaction().await?;
        self.sequences.advance(&self.client, &mut self.statements).await?;
        self.guard.release(&self.client).await?;
        cursor::commit(&self.client, &Cursor { state: CursorState::Moving, ..self.committed }).await?;
        self.open = false;
        self.parts = Parts::Committed;
        self.locks.release();
        self.rejoin();
        Ok(())
    }
}

async fn ask(client: &Client) -> Result<usize, DatabaseError> {
    let sql = "SELECT pg_catalog.current_setting('max_locks_per_transaction')::bigint
                 * (pg_catalog.current_setting('max_connections')::bigint
                    + pg_catalog.current_setting('max_prepared_transactions')::bigint)";
    let row = client.query_one(sql, &[]).await.doing("ask how many locks the server has room for")?;
    let room = usize::try_from(row.get::<_, i64>(0)).unwrap_or(0);
    Ok((room / PART).max(FEW))
}
