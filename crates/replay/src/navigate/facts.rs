//! What the plan has to know, read from the log's index and the output server.

use ptr_model::{Position, TransactionSummary};
use ptr_postgres::Connection;

use super::{NavigateError, NavigateRequest};
use crate::{
    database::Doing,
    error::ReplayError,
    plan::{Irreversible, KeyframeFacts, PlanFacts, RangeFacts},
    session::SessionError,
};

pub(super) async fn gather(
    request: &NavigateRequest,
    from: Option<Position>,
) -> Result<PlanFacts, NavigateError> {
    let between = match from {
        Some(from) => between(request, from).await?,
        None => RangeFacts::default(),
    };
    let creation = request.log.creation();
    let range = RangeFacts {
        entries: request.to.entry_index.saturating_sub(creation.entry_index),
        ..RangeFacts::default()
    };
    let server = request.session.server().await.map_err(SessionError::from)?;
    let bytes = template_bytes(&server, &request.template).await?;
    let untouched = |at: Position| request.decisions.first_ordinal().is_none_or(|first| at.ordinal <= first);
    let bytes = bytes.filter(|_| untouched(creation));
    let keyframe = bytes.map(|bytes| KeyframeFacts {
        database: request.template.clone(),
        position: creation,
        bytes,
        range: Some(range),
    });
    Ok(PlanFacts { between, keyframes: keyframe.into_iter().collect() })
}

/// The log between `from` and where the move goes.
pub(super) async fn between(request: &NavigateRequest, from: Position) -> Result<RangeFacts, NavigateError> {
    if from > request.to {
        return backwards(request, from).await;
    }
    let entries = request.to.entry_index.saturating_sub(from.entry_index);
    Ok(RangeFacts { entries, ..RangeFacts::default() })
}

async fn template_bytes(server: &Connection, template: &str) -> Result<Option<u64>, NavigateError> {
    let sql = "SELECT pg_database_size(oid) FROM pg_database WHERE datname = $1";
    let row = server
        .query_opt(sql, &[&template])
        .await
        .doing("look for the keyframe")
        .map_err(ReplayError::from)?;
    Ok(row.map(|row| u64::try_from(row.get::<_, i64>(0)).unwrap_or(0)))
}

/// Summaries read at once.
const PAGE: usize = 1_000;

/// Looks at the transactions on the way back until one is found that bars it.
async fn backwards(request: &NavigateRequest, from: Position) -> Result<RangeFacts, NavigateError> {
    let (log, to, largest) = (request.log.clone(), request.to, request.limits.window_bytes as u64);
    let resync = request.decisions.resync_between(to, from).then_some(Irreversible::Resync);
    let read = tokio::task::spawn_blocking(move || {
        let mut facts =
            RangeFacts { entries: from.entry_index.saturating_sub(to.entry_index), ..RangeFacts::default() };
        let mut next = to.ordinal;
        while next < from.ordinal {
            let page = super::transactions(&log, next, from.ordinal, PAGE)?;
            let Some(last) = page.last() else { break };
            next = last.ordinal + 1;
            facts.bytes += page.iter().map(|one| one.bytes).sum::<u64>();
            facts.irreversible = resync.or_else(|| page.iter().find_map(|one| obstacle(one, largest)));
            if facts.irreversible.is_some() {
                break;
            }
        }
        Ok(facts)
    });
    let facts: Result<RangeFacts, ReplayError> = read.await.expect("reading the index does not panic");
    Ok(facts?)
}

fn obstacle(transaction: &TransactionSummary, largest: u64) -> Option<Irreversible> {
    if transaction.has_gap {
        Some(Irreversible::Gap)
    } else if transaction.counts.ddl > 0 {
        Some(Irreversible::SchemaChange)
    } else if transaction.counts.truncates > 0 {
        Some(Irreversible::Truncate)
    } else {
        (transaction.bytes > largest).then_some(Irreversible::TooLarge)
    }
}
