//! The history of moves, and those under way.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::{Answer, Shared, query::Query};
use crate::{
    problem::Problem,
    resource::navigation::{MoveAnswer, MoveQuery},
};

/// A session's moves, newest first.
#[utoipa::path(get, path = "/api/moves", params(MoveQuery), responses((status = 200, body = [MoveAnswer])))]
pub(super) async fn list(State(service): Shared, Query(query): Query<MoveQuery>) -> Answer<Vec<MoveAnswer>> {
    Ok(Json(service.moves(query).await?))
}

/// One move, under way or over.
#[utoipa::path(get, path = "/api/moves/{id}",
    params(("id" = String, Path, description = "the move's, or while it goes on the one that its client gave it")),
    responses((status = 200, body = MoveAnswer), (status = 404, body = Problem)))]
pub(super) async fn show(State(service): Shared, Path(id): Path<String>) -> Answer<MoveAnswer> {
    Ok(Json(service.moved(&id).await?))
}

/// Ends a move that is under way; the session stays where its database then is. One that has not begun moves nothing.
#[utoipa::path(delete, path = "/api/moves/{id}",
    params(("id" = String, Path, description = "the move's, or the one that its client gave it")),
    responses((status = 200, body = MoveAnswer), (status = 204, description = "it had not begun"),
        (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn cancel(State(service): Shared, Path(id): Path<String>) -> Result<Response, Problem> {
    Ok(match service.cancel_move(&id).await? {
        Some(ended) => Json(ended).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}
