//! How many tables a transaction of the replica may touch: each is locked until it ends, with its indexes, and the server
//! has room for so many locks of everybody together.
//!
//! A transaction of the log that touches more is applied all the same: the primary had room for it, and the output server
//! needs as much.

use std::collections::HashSet;

use tokio_postgres::Client;

use crate::database::{DatabaseError, Doing};

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
        let limit = match self.limit {
            Some(limit) => limit,
            None => *self.limit.insert(ask(client).await?),
        };
        Ok(tables >= limit)
    }

    /// What the server lets us have.
    pub(super) fn limit(&self) -> usize {
        self.limit.unwrap_or(FEW)
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
