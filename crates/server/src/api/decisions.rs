//! What sessions leave out.

use axum::{Json, extract::Path, extract::State, http::StatusCode};

use super::{Answer, Shared, body::Body, query::Query};
use crate::{
    problem::Problem,
    resource::decision::{Decide, DecisionAnswer, DecisionQuery},
};

/// Leaves out what a session stopped at, an entry, or a table from there on; durable, and each time it passes.
#[utoipa::path(post, path = "/api/decisions", request_body = Decide,
    responses((status = 201, body = DecisionAnswer), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn decide(
    State(service): Shared,
    Body(request): Body<Decide>,
) -> Result<(StatusCode, Json<DecisionAnswer>), Problem> {
    Ok((StatusCode::CREATED, Json(service.decide(request).await?)))
}

/// What a session leaves out, as it was decided.
#[utoipa::path(get, path = "/api/decisions", params(DecisionQuery),
    responses((status = 200, body = [DecisionAnswer]), (status = 404, body = Problem)))]
pub(super) async fn list(
    State(service): Shared,
    Query(query): Query<DecisionQuery>,
) -> Answer<Vec<DecisionAnswer>> {
    Ok(Json(service.decisions(query).await?))
}

/// Takes a decision back.
#[utoipa::path(delete, path = "/api/decisions/{id}", params(("id" = i64, Path)),
    responses((status = 200, body = DecisionAnswer), (status = 404, body = Problem)))]
pub(super) async fn undecide(State(service): Shared, Path(id): Path<i64>) -> Answer<DecisionAnswer> {
    Ok(Json(service.undecide(id).await?))
}
