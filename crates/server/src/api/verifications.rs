//! Comparisons with the primary, or with what was kept of it.

use axum::{
    Json,
    extract::Path,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::{Answer, Shared, body::Body};
use crate::{
    problem::Problem,
    resource::verification::{VerificationAnswer, Verified, Verify},
    service::Verification,
};

/// Compares a session's history with the primary as it is now, busy or not, or with what was kept at a checkpoint.
/// Different is an answer too: `equal` is false.
#[utoipa::path(post, path = "/api/verify", request_body = Verify,
    responses((status = 200, body = Verified), (status = 202, body = VerificationAnswer, description = "with `background`"),
        (status = 404, body = Problem), (status = 409, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn verify(State(service): Shared, Body(request): Body<Verify>) -> Result<Response, Problem> {
    Ok(match service.verify(request).await? {
        Verification::Done(verified) => Json(*verified).into_response(),
        Verification::UnderWay(answer) => (StatusCode::ACCEPTED, Json(*answer)).into_response(),
    })
}

/// The verifications of this service, under way and the last that ended, newest first.
#[utoipa::path(get, path = "/api/verifications", responses((status = 200, body = [VerificationAnswer])))]
pub(super) async fn list(State(service): Shared) -> Json<Vec<VerificationAnswer>> {
    Json(service.verifications())
}

/// One verification: how far it is, or what it found.
#[utoipa::path(get, path = "/api/verifications/{id}", params(("id" = String, Path)),
    responses((status = 200, body = VerificationAnswer), (status = 404, body = Problem)))]
pub(super) async fn show(State(service): Shared, Path(id): Path<String>) -> Answer<VerificationAnswer> {
    Ok(Json(service.verification(&id)?))
}

/// Asks a verification to end.
#[utoipa::path(delete, path = "/api/verifications/{id}", params(("id" = String, Path)),
    responses((status = 200, body = VerificationAnswer), (status = 404, body = Problem)))]
pub(super) async fn cancel(State(service): Shared, Path(id): Path<String>) -> Answer<VerificationAnswer> {
    Ok(Json(service.cancel_verification(&id)?))
}
