//! HTTP over one connection: request after request, until the client goes, says nothing for too long, or has to make room.

use std::{convert::Infallible, future::Future, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::connections::Place;
use crate::{
    held::held,
    problem::{Code, Problem},
};

/// How long a client may take until the headers of its request are there, from when it could begin. A TLS handshake has as
/// long, and so a connection between two requests.
const HEADER_TIME: Duration = Duration::from_secs(20);

/// How long a connection that has to make room may take to send what is left of its last answer.
const SENDING_TIME: Duration = Duration::from_secs(1);

/// What is said over a connection, and when it ends.
pub(super) struct Conversation {
    answers: Answers,
    place: Arc<Place>,
    ended: CancellationToken,
}

#[derive(Clone)]
enum Answers {
    /// What the API has to say.
    Api(Router),
    /// That TLS is spoken here.
    TlsOnly,
}

impl Conversation {
    /// The client is there, and has said nothing yet.
    pub(super) fn new(router: Router, place: Place, ended: CancellationToken) -> Self {
        place.waits();
        Self { answers: Answers::Api(router), place: Arc::new(place), ended }
    }

    /// The same, where all that is said is that TLS is spoken here.
    pub(super) fn refused_without_tls(self) -> Self {
        Self { answers: Answers::TlsOnly, ..self }
    }

    /// What comes before HTTP; `None` where that takes too long, or the connection has to go.
    pub(super) async fn within_patience<T>(&self, before: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = tokio::time::timeout(HEADER_TIME, before) => done.ok(),
            () = self.place.ended() => None,
            () = self.ended.cancelled() => None,
        }
    }

    /// Answers until it ends.
    pub(super) async fn over(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let (answers, place) = (self.answers, Arc::clone(&self.place));
        let service = service_fn(move |request: Request<Incoming>| {
            place.works();
            let (answers, working) = (answers.clone(), Working(Arc::clone(&place)));
            async move { Ok::<_, Infallible>(answers.to(request).await.map(|body| held(body, working))) }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME);
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        let has_to_go = tokio::select! {
            served = &mut connection => return told(served),
            () = self.ended.cancelled() => false,
            () = self.place.ended() => !self.place.is_working(),
        };
        // What is being answered is finished, and an answer is sent to its end; a request of which a part came is none.
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            served = &mut connection => told(served),
            () = tokio::time::sleep(SENDING_TIME), if has_to_go => {}
        }
    }
}

fn told(served: hyper::Result<()>) {
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended");
    }
}

impl Answers {
    async fn to(self, request: Request<Incoming>) -> Response {
        match self {
            Self::Api(router) => match router.oneshot(request.map(Body::new)).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
            Self::TlsOnly => {
                let problem =
                    Problem::new(Code::Usage, "the service speaks TLS here, and this request came without")
                        .with_hint("ask the same with https:// in place of http://");
                let mut response = problem.into_response();
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                response
            }
        }
    }
}

/// While it is there a request is being answered.
struct Working(Arc<Place>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.waits();
    }
}
