//! How everything stands, and what changes it as a whole.

use axum::{Extension, Json, extract::Path, extract::State, http::StatusCode};

use super::{Answer, Shared, body::Body, guard::Caller, query::Query};
use crate::{
    configuration::ConfigurationReport,
    problem::{Code, Problem},
    resource::retention::{Collect, Collected},
    resource::status::{Doctor, DsnAnswer, DsnQuery, Health, Mend, Status, Teardown, TornDown},
    service::End,
};

/// How everything stands.
#[utoipa::path(get, path = "/api/status", responses((status = 200, body = Status)))]
pub(super) async fn status(State(service): Shared) -> Json<Status> {
    Json(service.status().await)
}

/// Each setting with its origin, redacted.
#[utoipa::path(get, path = "/api/config", responses((status = 200, body = ConfigurationReport)))]
pub(super) async fn config(State(service): Shared) -> Json<ConfigurationReport> {
    Json(service.configuration().report())
}

/// Where a database is: `input`, `output` or `session`. The password is given only to the user who started the
/// service.
#[utoipa::path(get, path = "/api/dsn/{end}", params(("end" = String, Path), DsnQuery),
    responses((status = 200, body = DsnAnswer), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn dsn(
    State(service): Shared,
    Extension(caller): Extension<Caller>,
    Path(end): Path<String>,
    Query(query): Query<DsnQuery>,
) -> Answer<DsnAnswer> {
    let end = match end.as_str() {
        "input" => End::Input,
        "output" => End::Output,
        "session" => End::Session,
        _ => {
            return Err(Problem::new(Code::NotFound, format!("there is no DSN called {end:?}"))
                .with_hint("it is input, output or session"));
        }
    };
    let dsn = service.dsn(end, query).await?;
    service.refuse_where_nothing_runs(end).await?;
    let uri = (caller == Caller::Owner).then(|| dsn.to_uri_with_password());
    Ok(Json(DsnAnswer { dsn: dsn.to_string(), uri }))
}

/// What is wrong, or will be, and what to do about it.
#[utoipa::path(get, path = "/api/doctor", responses((status = 200, body = Doctor)))]
pub(super) async fn doctor(State(service): Shared) -> Answer<Doctor> {
    Ok(Json(service.doctor().await?))
}

/// Mends what can be mended and looks again.
#[utoipa::path(post, path = "/api/doctor/fix", request_body = Mend, responses((status = 200, body = Doctor)))]
pub(super) async fn doctor_fix(State(service): Shared, Body(request): Body<Mend>) -> Answer<Doctor> {
    Ok(Json(service.doctor_fix(request).await?))
}

/// Removes everything that we put on the primary.
#[utoipa::path(post, path = "/api/teardown", request_body = Teardown, responses((status = 200, body = TornDown)))]
pub(super) async fn teardown(State(service): Shared, Body(request): Body<Teardown>) -> Answer<TornDown> {
    Ok(Json(service.teardown(request).await?))
}

/// Removes what is no longer needed: earlier histories by age and size, databases and files that nobody has.
#[utoipa::path(post, path = "/api/gc", request_body = Collect, responses((status = 200, body = Collected)))]
pub(super) async fn collect(State(service): Shared, Body(request): Body<Collect>) -> Answer<Collected> {
    Ok(Json(service.collect(request).await?))
}

/// Ends the service; only for the user who started it.
#[utoipa::path(post, path = "/api/shutdown", responses((status = 202, body = Health), (status = 403, body = Problem)))]
pub(super) async fn shutdown(
    State(service): Shared,
    Extension(caller): Extension<Caller>,
) -> Result<(StatusCode, Json<Health>), Problem> {
    if caller != Caller::Owner {
        return Err(Problem::new(Code::Forbidden, "only the user who started the service may end it")
            .with_hint("run postgres-test-replay down in the folder where it was started"));
    }
    service.shutdown_token().cancel();
    let health = Health { status: "stopping".into(), version: env!("CARGO_PKG_VERSION").into() };
    Ok((StatusCode::ACCEPTED, Json(health)))
}
