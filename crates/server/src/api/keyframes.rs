//! Keyframes.

use axum::{Json, extract::Path, extract::State, http::StatusCode};

use super::{Answer, Shared, body::Body, query::Query};
use crate::{
    problem::Problem,
    resource::{
        keyframe::{CreateKeyframe, KeyframeAnswer, KeyframeList, KeyframeQuery},
        session::Deleted,
    },
};

/// The keyframes and spares of a captured database.
#[utoipa::path(get, path = "/api/keyframes", params(KeyframeQuery),
    responses((status = 200, body = KeyframeList), (status = 404, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn list(State(service): Shared, Query(query): Query<KeyframeQuery>) -> Answer<KeyframeList> {
    Ok(Json(service.list_keyframes(query).await?))
}

/// Makes a keyframe, and answers once it is made. It stays until it is deleted, and counts in the budget.
#[utoipa::path(post, path = "/api/keyframes", request_body = CreateKeyframe,
    responses((status = 201, body = KeyframeAnswer), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn create(
    State(service): Shared,
    Body(request): Body<CreateKeyframe>,
) -> Result<(StatusCode, Json<KeyframeAnswer>), Problem> {
    Ok((StatusCode::CREATED, Json(service.create_keyframe(request).await?)))
}

/// Drops a keyframe and its spares. One that was made by itself may be made again.
#[utoipa::path(delete, path = "/api/keyframes/{name}", params(("name" = String, Path), KeyframeQuery),
    responses((status = 200, body = Deleted), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn delete(
    State(service): Shared,
    Path(name): Path<String>,
    Query(query): Query<KeyframeQuery>,
) -> Answer<Deleted> {
    Ok(Json(service.delete_keyframe(&name, query).await?))
}
