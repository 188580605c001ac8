//! Doing what a fixable finding says.

use ptr_postgres::{SessionSettings, connect};

use super::{Finding, slots};
use crate::source::{
    Doing, Progress, ServerFacts, SourceError, SourceOptions, SourceRecord, Step, drop_slot, due,
    mark_as_ours, set_full, tables,
};

/// Why a finding was not fixed.
#[derive(Debug, thiserror::Error)]
pub enum FixError {
    /// There is nothing that we may do by ourselves.
    #[error("{code} is not for --fix; do this: {fix}")]
    ByHand {
        /// The finding.
        code: &'static str,
        /// What to do.
        fix: String,
    },
    /// It has changed since it was found.
    #[error("{code} is no longer what it was when it was found; run doctor again")]
    Changed {
        /// The finding.
        code: &'static str,
    },
    /// Trying failed.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// Fixes what a finding of [`super::check_primary`] says, and answers what was done and what is left to the user.
///
/// # Errors
/// [`FixError`].
pub async fn fix(
    options: &SourceOptions,
    finding: &Finding,
    progress: &dyn Progress,
) -> Result<String, FixError> {
    if !finding.fixable {
        return Err(FixError::ByHand { code: finding.code, fix: finding.fix.clone() });
    }
    match finding.code {
        "wal_level" => wal_level(options).await,
        "leftover_slot" => leftover_slot(options).await,
        "replica_identity" => replica_identity(options, progress).await,
        _ => Err(FixError::ByHand { code: finding.code, fix: finding.fix.clone() }),
    }
}

async fn session(options: &SourceOptions) -> Result<ptr_postgres::Connection, FixError> {
    let session = SessionSettings::canonical("postgres-test-replay doctor").that_writes();
    Ok(connect(&options.dsn, &session).await.map_err(SourceError::from)?)
}

async fn wal_level(options: &SourceOptions) -> Result<String, FixError> {
    let statement = "ALTER SYSTEM SET wal_level = 'logical'";
    session(options).await?.batch_execute(statement).await.doing(|| statement.to_owned())?;
    Ok("wal_level is set to logical; restart the server to make it so".to_owned())
}

async fn leftover_slot(options: &SourceOptions) -> Result<String, FixError> {
    let connection = session(options).await?;
    if !slots::droppable(&connection, options).await? {
        return Err(FixError::Changed { code: "leftover_slot" });
    }
    drop_slot(&connection, &options.slot).await?;
    Ok(format!("the slot {:?} is dropped", options.slot))
}

async fn replica_identity(options: &SourceOptions, progress: &dyn Progress) -> Result<String, FixError> {
    let connection = session(options).await?;
    let facts = ServerFacts::ask(&connection).await?;
    let record = SourceRecord::load(&options.record_path)?;
    if facts.is_superuser && record.is_some_and(|record| record.began(Step::Triggers)) {
        mark_as_ours(&connection).await?;
    }
    let tables = tables(&connection, facts.version).await?;
    let due = due(&tables, options);
    set_full(&connection, &due, options.lock_patience, progress).await?;
    Ok(format!("{} tables have REPLICA IDENTITY FULL now", due.len()))
}
