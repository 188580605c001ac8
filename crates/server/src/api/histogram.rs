//! The log in buckets.

use axum::{Json, extract::State};

use super::{Answer, Shared, query::Query};
use crate::{
    problem::Problem,
    resource::histogram::{HistogramAnswer, HistogramQuery},
};

/// How much of what happened when: the log, or a part of it, in buckets.
#[utoipa::path(get, path = "/api/histogram", params(HistogramQuery),
    responses((status = 200, body = HistogramAnswer), (status = 422, body = Problem)))]
pub(super) async fn histogram(
    State(service): Shared,
    Query(query): Query<HistogramQuery>,
) -> Answer<HistogramAnswer> {
    Ok(Json(service.histogram(query).await?))
}
