//! Rows that a unique index refuses because the primary was about to drop it.
//!
//! DROP INDEX CONCURRENTLY tells of itself when it is done. Before that it waits for those who may still use the index,
//! into which new rows do not go any more then: rows that it would refuse may be committed, and logged, before it.

use ptr_log::{Item, Log, LogError};
use ptr_model::{Change, SchemaChange};
use ptr_postgres::SqlState;

use crate::error::{Mismatch, ReplayError};

/// How many transactions with schema changes are looked at: it waits for transactions, not for days.
const LOOKED_AT: usize = 100;

/// What to add to the reason of a stop that `error` is, of the transaction number `ordinal`.
pub(super) async fn explained(log: &Log, error: &ReplayError, ordinal: u64) -> Option<String> {
    let ReplayError::Mismatch(mismatch) = error else { return None };
    let Mismatch::Refused { constraint: Some(index), sqlstate, .. } = mismatch.as_ref() else { return None };
    if sqlstate != SqlState::UNIQUE_VIOLATION.code() {
        return None;
    }
    let (log, index) = (log.clone(), index.clone());
    let look = move || drop_that_follows(&log, &index, ordinal);
    let found = tokio::task::spawn_blocking(look).await.expect("reading the log does not panic");
    match found {
        Ok(drop) => drop.map(|statement| {
            format!(
                "; or, rather, the primary did not look into that index any more, for {statement:?} follows, which says \
                 so only when it is done"
            )
        }),
        Err(error) => {
            tracing::debug!(%error, "whether the index is dropped later is not known");
            None
        }
    }
}

fn drop_that_follows(log: &Log, index: &str, ordinal: u64) -> Result<Option<String>, LogError> {
    let changing = log.schema_changing()?;
    let following = changing.iter().map(|(following, _)| *following).filter(|following| *following > ordinal);
    for following in following.take(LOOKED_AT) {
        for item in log.read(following, following + 1)? {
            if let Item::Change(Change::Schema(change)) = item?
                && drops_concurrently(&change, index)
            {
                return Ok(Some(change.statement.shown()));
            }
        }
    }
    Ok(None)
}

/// `index` as it is; identities are as SQL writes them.
fn drops_concurrently(change: &SchemaChange, index: &str) -> bool {
    let is_it =
        |identity: &str| identity.parse::<ptr_log::TableName>().is_ok_and(|dropped| dropped.name == index);
    change.tag == "DROP INDEX"
        && change.statement.text().to_uppercase().contains("CONCURRENTLY")
        && change.dropped.iter().any(|object| is_it(&object.identity))
}
