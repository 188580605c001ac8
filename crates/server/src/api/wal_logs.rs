//! Entries of the log.

use axum::{Json, extract::State};

use super::{Answer, Shared, query::Query};
use crate::{
    problem::Problem,
    resource::entry::{EntryPage, EntryQuery},
};

/// Entries of the log, a page at a time, newest last.
#[utoipa::path(get, path = "/api/wal-logs", params(EntryQuery),
    responses((status = 200, body = EntryPage), (status = 400, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn list(State(service): Shared, Query(query): Query<EntryQuery>) -> Answer<EntryPage> {
    Ok(Json(service.entries(query).await?))
}
