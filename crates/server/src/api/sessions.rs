//! Sessions.

use axum::{Json, extract::Path, extract::State, http::StatusCode};

use super::{Answer, Shared, body::Body, query::Query};
use crate::{
    problem::Problem,
    resource::session::{
        CreateSession, DeleteSession, Deleted, OpenSession, SessionAnswer, SessionQuery, SwitchSession,
    },
};

/// Makes a session and its database.
#[utoipa::path(post, path = "/api/sessions", request_body = CreateSession,
    responses((status = 201, body = SessionAnswer), (status = "4XX", body = Problem)))]
pub(super) async fn create(
    State(service): Shared,
    Body(request): Body<CreateSession>,
) -> Result<(StatusCode, Json<SessionAnswer>), Problem> {
    Ok((StatusCode::CREATED, Json(service.create_session(request).await?)))
}

/// All sessions, oldest first.
#[utoipa::path(get, path = "/api/sessions", params(SessionQuery), responses((status = 200, body = [SessionAnswer])))]
pub(super) async fn list(
    State(service): Shared,
    Query(query): Query<SessionQuery>,
) -> Answer<Vec<SessionAnswer>> {
    Ok(Json(service.sessions(query).await?))
}

/// One session, by id or name.
#[utoipa::path(get, path = "/api/sessions/{id}", params(("id" = String, Path)),
    responses((status = 200, body = SessionAnswer), (status = 404, body = Problem)))]
pub(super) async fn show(State(service): Shared, Path(id): Path<String>) -> Answer<SessionAnswer> {
    Ok(Json(service.session(&id).await?))
}

/// Deletes a session and its database.
#[utoipa::path(delete, path = "/api/sessions/{id}", params(("id" = String, Path), DeleteSession),
    responses((status = 200, body = Deleted), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn delete(
    State(service): Shared,
    Path(id): Path<String>,
    Query(query): Query<DeleteSession>,
) -> Answer<Deleted> {
    Ok(Json(service.delete_session(&id, query).await?))
}

/// Makes a session the active one.
#[utoipa::path(post, path = "/api/sessions/switch", request_body = SwitchSession,
    responses((status = 200, body = SessionAnswer), (status = 404, body = Problem)))]
pub(super) async fn switch(
    State(service): Shared,
    Body(request): Body<SwitchSession>,
) -> Answer<SessionAnswer> {
    Ok(Json(service.switch_session(&request.session_id).await?))
}

/// Allows or ends local writes in a session's database.
#[utoipa::path(post, path = "/api/sessions/{id}/open", params(("id" = String, Path)), request_body = OpenSession,
    responses((status = 200, body = SessionAnswer), (status = 404, body = Problem)))]
pub(super) async fn open(
    State(service): Shared,
    Path(id): Path<String>,
    Body(request): Body<OpenSession>,
) -> Answer<SessionAnswer> {
    Ok(Json(service.open_session(&id, request.open).await?))
}
