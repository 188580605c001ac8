//! The net difference between two positions.

use axum::{Json, extract::State};

use super::{Answer, Shared, query::Query};
use crate::{
    problem::Problem,
    resource::diff::{DiffAnswer, DiffQuery},
};

/// The net difference between two positions, table by table.
#[utoipa::path(get, path = "/api/diff", params(DiffQuery),
    responses((status = 200, body = DiffAnswer), (status = 422, body = Problem)))]
pub(super) async fn diff(State(service): Shared, Query(query): Query<DiffQuery>) -> Answer<DiffAnswer> {
    Ok(Json(service.diff(query).await?))
}
