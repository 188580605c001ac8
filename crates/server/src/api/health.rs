//! Whether the API answers, and whether what it is for works.

use axum::{Json, extract::State, http::StatusCode};

use super::Shared;
use crate::resource::status::{Health, Readiness};

/// Whether the API answers. Needs no token.
#[utoipa::path(get, path = "/health", responses((status = 200, body = Health)))]
pub(super) async fn health() -> Json<Health> {
    Json(Health { status: "ok".into(), version: env!("CARGO_PKG_VERSION").into() })
}

/// Whether everything works that the service is for: both servers answer, and what is to be captured is. Needs no token,
/// and names no server.
#[utoipa::path(get, path = "/ready",
    responses((status = 200, body = Readiness), (status = 503, body = Readiness, description = "something does not work")))]
pub(super) async fn ready(State(service): Shared) -> (StatusCode, Json<Readiness>) {
    let readiness = service.readiness().await;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}
