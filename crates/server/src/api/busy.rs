//! How much is done at a time: so many requests, and so many streams of events. What is more is refused at once, so that
//! whoever asks too much does not take the service away from everybody else.
//!
//! A request counts until its answer is sent, or until it is done where nobody waits for the answer any more. Moves and
//! dumps take as long as they take; what they do at the same time is limited where they are made.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::sync::Semaphore;

use crate::{
    held::held,
    problem::{Code, Problem},
};

/// Requests that are answered at a time, but for streams.
pub(super) const MOST_REQUESTS: usize = 512;

/// Streams of events at a time: one each client.
pub(super) const MOST_STREAMS: usize = 512;

/// What is left of both.
#[derive(Clone)]
pub(super) struct Capacity {
    requests: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl Capacity {
    pub(super) fn new() -> Self {
        Self {
            requests: Arc::new(Semaphore::new(MOST_REQUESTS)),
            streams: Arc::new(Semaphore::new(MOST_STREAMS)),
        }
    }
}

/// The limits as a layer of the router.
pub(super) async fn limit(State(capacity): State<Capacity>, request: Request, next: Next) -> Response {
    let (of, most, what) = match request.uri().path() {
        // Whether it lives is what one asks when it seems not to.
        "/health" => return next.run(request).await,
        "/api/events" => (capacity.streams, MOST_STREAMS, "streams of events are open"),
        _ => (capacity.requests, MOST_REQUESTS, "requests are being answered"),
    };
    match of.try_acquire_owned() {
        Ok(permit) => next.run(request).await.map(|body| held(body, permit)),
        Err(_) => refused(most, what),
    }
}

fn refused(most: usize, what: &str) -> Response {
    let problem = Problem::new(Code::Unreachable, format!("{most} {what}, and that is the most"));
    let mut response = problem.with_hint("ask again in a second").into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}
