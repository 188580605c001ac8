//! The REST API: one file a resource, each handler one call of the service.
//!
//! request -> [`guard`] (host, origin, token) -> [`busy`] (how many at a time) -> extractors ([`body`], [`query`]) -> a method of
//! [`Service`] -> JSON, or a [`crate::problem::Problem`].

mod backups;
mod body;
mod busy;
mod checkpoints;
mod decisions;
mod diff;
mod events;
mod guard;
mod health;
mod histogram;
mod keyframes;
mod metrics;
mod moves;
mod navigation;
mod page;
mod query;
mod sessions;
mod status;
mod transactions;
mod verifications;
mod wal_logs;

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    extract::{Request, State},
    http::{StatusCode, Uri},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use tower_http::compression::CompressionLayer;
use utoipa::{
    OpenApi,
    openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder},
};
use utoipa_axum::{router::OpenApiRouter, routes};

#[cfg(test)]
pub(crate) use body::Body;
pub(crate) use body::BodyTime;
pub use guard::Guard;

use crate::{
    problem::{Code, Problem},
    service::Service,
};

/// What the handlers share.
type Shared = axum::extract::State<Arc<Service>>;

/// A handler's answer.
type Answer<T> = Result<Json<T>, Problem>;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "postgres-test-replay",
        description = "A time machine for a PostgreSQL database. Every error is an RFC 9457 problem."
    ),
    components(schemas(Problem, crate::resource::event::Event))
)]
struct Description;

/// The whole API and the page, guarded.
pub fn router(service: Arc<Service>) -> Router {
    let (router, mut description) = routes().split_for_parts();
    describe_problems(&mut description);
    let description = Arc::new(description);
    let openapi = move || async move { Json(description.as_ref().clone()) };
    router
        .route("/api/openapi.json", get(openapi))
        .merge(page::routes())
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        // Inside of the task that carries it through: what goes on when the client went away still counts.
        .layer(middleware::from_fn_with_state(busy::Capacity::new(), busy::limit))
        .layer(middleware::from_fn_with_state(Arc::clone(&service), carry_through))
        .layer(middleware::from_fn_with_state(Arc::new(Guard::of(&service)), guard::check))
        // All but events, which are a stream of small messages.
        .layer(CompressionLayer::new())
        .with_state(service)
}

/// Says of every call that what is no success is a problem, and of which content type.
fn describe_problems(description: &mut utoipa::openapi::OpenApi) {
    let schema = Ref::from_schema_name("Problem");
    let problem = ContentBuilder::new().schema(Some(schema)).build();
    let described = |text: &str| {
        ResponseBuilder::new().description(text).content("application/problem+json", problem.clone()).build()
    };
    for path in description.paths.paths.values_mut() {
        let calls = [&mut path.get, &mut path.post, &mut path.patch, &mut path.delete];
        for call in calls.into_iter().filter_map(Option::as_mut) {
            let answers = &mut call.responses.responses;
            for (_, answer) in answers.iter_mut().filter(|(status, _)| status.starts_with(['4', '5'])) {
                let RefOr::T(said) = answer else { continue };
                // `GET /ready` answers 503 with what is not ready.
                if !said.content.is_empty() && !is_problem(said) {
                    continue;
                }
                *answer = RefOr::T(described(&said.description));
            }
            answers.insert(
                "default".into(),
                RefOr::T(described("A problem: RFC 9457, with code, detail and hint")),
            );
        }
    }
}

fn is_problem(answer: &utoipa::openapi::Response) -> bool {
    answer.content.values().all(|content| {
        matches!(&content.schema, Some(RefOr::Ref(schema)) if schema.ref_location.ends_with("/Problem"))
    })
}

/// The same for the user who started the service, or could: for ways that nobody else has.
pub fn router_of_owner(service: Arc<Service>) -> Router {
    router(service).layer(Extension(guard::Caller::Owner))
}

fn routes() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(health::health))
        .routes(routes!(health::ready))
        .routes(routes!(metrics::metrics))
        .routes(routes!(status::status))
        .routes(routes!(status::config))
        .routes(routes!(status::dsn))
        .routes(routes!(status::doctor))
        .routes(routes!(status::doctor_fix))
        .routes(routes!(verifications::verify))
        .routes(routes!(verifications::list))
        .routes(routes!(verifications::show, verifications::cancel))
        .routes(routes!(status::teardown))
        .routes(routes!(status::collect))
        .routes(routes!(status::shutdown))
        .routes(routes!(sessions::create, sessions::list))
        .routes(routes!(sessions::switch))
        .routes(routes!(sessions::show, sessions::delete))
        .routes(routes!(sessions::open))
        .routes(routes!(checkpoints::create, checkpoints::list))
        .routes(routes!(checkpoints::pin_migration))
        .routes(routes!(checkpoints::show, checkpoints::rename, checkpoints::delete))
        .routes(routes!(decisions::decide, decisions::list))
        .routes(routes!(decisions::undecide))
        .routes(routes!(navigation::navigate))
        .routes(routes!(navigation::replay))
        .routes(routes!(navigation::undo))
        .routes(routes!(navigation::redo))
        .routes(routes!(navigation::position))
        .routes(routes!(moves::list))
        .routes(routes!(moves::show, moves::cancel))
        .routes(routes!(wal_logs::list))
        .routes(routes!(transactions::list))
        .routes(routes!(transactions::show))
        .routes(routes!(histogram::histogram))
        .routes(routes!(diff::diff))
        .routes(routes!(keyframes::create, keyframes::list))
        .routes(routes!(keyframes::delete))
        .routes(routes!(backups::create, backups::list))
        .routes(routes!(backups::show, backups::delete))
        .routes(routes!(backups::restore))
        .routes(routes!(backups::verify))
        .routes(routes!(events::events))
}

/// Handles a request in a task of its own, so that what was begun is ended in good order when the client goes
/// away; half a restore is worse than one that nobody waited for.
async fn carry_through(State(service): Shared, request: Request, next: Next) -> Response {
    match service.spawn(next.run(request)).await {
        Ok(response) => response,
        Err(error) => Problem::new(Code::Failed, format!("the request's task ended: {error}"))
            .with_hint("this is an error of ours; please report it")
            .into_response(),
    }
}

async fn unknown_path(uri: Uri) -> Problem {
    Problem::new(Code::NotFound, format!("there is nothing at {}", uri.path()))
        .with_hint("GET /api/openapi.json lists everything that there is")
}

async fn wrong_method(method: axum::http::Method, uri: Uri) -> Problem {
    Problem::new(Code::Usage, format!("{} does not take {method}", uri.path()))
        .with_status(StatusCode::METHOD_NOT_ALLOWED)
        .with_hint("GET /api/openapi.json lists the methods of each path")
}
