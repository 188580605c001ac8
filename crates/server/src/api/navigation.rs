//! Moves of sessions, and looks between two positions.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::{Answer, Shared, body::Body, query::Query};
use crate::{
    problem::Problem,
    resource::{
        navigation::{Between, MoveAnswer, Navigate, Navigated, Replay, Step},
        position::{PositionAnswer, PositionQuery},
    },
    service::{Direction, Moved},
};

impl IntoResponse for Moved {
    fn into_response(self) -> Response {
        match self {
            Self::Arrived(navigated) => Json(*navigated).into_response(),
            Self::UnderWay(moving) => (StatusCode::ACCEPTED, Json(*moving)).into_response(),
            Self::Looked(between) => Json(*between).into_response(),
        }
    }
}

/// Takes a session to a position; with `start_id` and `end_id`, only answers the entries between. The move goes
/// on when the client goes away.
#[utoipa::path(post, path = "/api/navigate", request_body = Navigate,
    responses((status = 200, body = Navigated), (status = 202, body = MoveAnswer, description = "with `background`"),
        (status = "2XX", body = Between, description = "200 with `start_id` and `end_id`"),
        (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn navigate(
    State(service): Shared,
    Body(request): Body<Navigate>,
) -> Result<Moved, Problem> {
    Ok(service.navigate(request).await?)
}

/// Takes a session to a checkpoint.
#[utoipa::path(post, path = "/api/replay", request_body = Replay,
    responses((status = 200, body = Navigated), (status = 404, body = Problem)))]
pub(super) async fn replay(State(service): Shared, Body(request): Body<Replay>) -> Result<Moved, Problem> {
    Ok(service.replay(request).await?)
}

/// Takes a session to where it was before its last move.
#[utoipa::path(post, path = "/api/undo", request_body = Step,
    responses((status = 200, body = Navigated), (status = 409, body = Problem)))]
pub(super) async fn undo(State(service): Shared, Body(request): Body<Step>) -> Result<Moved, Problem> {
    Ok(service.step(Direction::Undo, request).await?)
}

/// Takes back an undo.
#[utoipa::path(post, path = "/api/redo", request_body = Step,
    responses((status = 200, body = Navigated), (status = 409, body = Problem)))]
pub(super) async fn redo(State(service): Shared, Body(request): Body<Step>) -> Result<Moved, Problem> {
    Ok(service.step(Direction::Redo, request).await?)
}

/// What a position expression means now.
#[utoipa::path(get, path = "/api/position", params(PositionQuery),
    responses((status = 200, body = PositionAnswer), (status = 422, body = Problem)))]
pub(super) async fn position(
    State(service): Shared,
    Query(query): Query<PositionQuery>,
) -> Answer<PositionAnswer> {
    Ok(Json(service.position(query).await?))
}
