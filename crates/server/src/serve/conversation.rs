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
    api::BodyTime,
    held::held,
    problem::{Code, Problem},
};

/// How long a client may take, however busy it looks: one byte now and then is no request.
#[derive(Clone, Copy)]
struct Patience {
    /// Until the headers of its request are there, from when it could begin. A TLS handshake has as long, and so a
    /// connection between two requests.
    headers: Duration,
    /// Until the body is there, where somebody reads it.
    body: BodyTime,
}

impl Default for Patience {
    fn default() -> Self {
        Self { headers: Duration::from_secs(20), body: BodyTime::default() }
    }
}

/// How long a connection that has to make room may take to send what is left of its last answer.
const SENDING_TIME: Duration = Duration::from_secs(1);

/// What is said over a connection, and when it ends.
pub(super) struct Conversation {
    answers: Answers,
    place: Arc<Place>,
    ended: CancellationToken,
    patience: Patience,
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
        let patience = Patience::default();
        Self { answers: Answers::Api(router), place: Arc::new(place), ended, patience }
    }

    /// The same, where all that is said is that TLS is spoken here.
    pub(super) fn refused_without_tls(self) -> Self {
        Self { answers: Answers::TlsOnly, ..self }
    }

    /// What comes before HTTP; `None` where that takes too long, or the connection has to go.
    pub(super) async fn within_patience<T>(&self, before: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = tokio::time::timeout(self.patience.headers, before) => done.ok(),
            () = self.place.ended() => None,
            () = self.ended.cancelled() => None,
        }
    }

    /// Answers until it ends.
    pub(super) async fn over(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let (answers, place, patience) = (self.answers, Arc::clone(&self.place), self.patience);
        let service = service_fn(move |mut request: Request<Incoming>| {
            place.works();
            request.extensions_mut().insert(patience.body);
            let (answers, working) = (answers.clone(), Working(Arc::clone(&place)));
            async move { Ok::<_, Infallible>(answers.to(request).await.map(|body| held(body, working))) }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(patience.headers);
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

#[cfg(test)]
mod tests {
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::{super::connections::Connections, *};
    use crate::api;

    /// Sends the beginning of a request, then a byte again and again until the connection ends. Gives what was answered.
    async fn drip(beginning: &str) -> String {
        let router = Router::new()
            .route("/read", post(|_: api::Body<serde_json::Value>| async { "it was read" }))
            .route("/unread", get(|| async { "nobody read it" }));
        let limit = Duration::from_millis(50);
        let patience = Patience { headers: limit, body: BodyTime(limit) };
        let place = Connections::new().place().await;
        let conversation =
            Conversation { patience, ..Conversation::new(router, place, CancellationToken::new()) };
        let (client, server) = tokio::io::duplex(1 << 16);
        let (mut reading, mut writing) = tokio::io::split(client);
        let sending = async {
            writing.write_all(beginning.as_bytes()).await.unwrap();
            while writing.write_all(b"a").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let mut said = String::new();
        let all =
            async { tokio::join!(sending, reading.read_to_string(&mut said), conversation.over(server)) };
        let all = tokio::time::timeout(Duration::from_secs(60), all).await;
        let ((), read, ()) = all.expect("it is given up");
        read.expect("an answer, or none");
        said
    }

    #[tokio::test]
    async fn a_client_that_sends_a_byte_now_and_then_is_given_up() {
        let said = drip("GET /unread HTTP/1.1\r\nHost: ").await;
        assert!(!said.contains("200"), "{said}");
        let body = "HTTP/1.1\r\nHost: own\r\nContent-Length: 1000000\r\n\r\n";
        let said = drip(&format!("POST /read {body}")).await;
        assert!(
            said.starts_with("HTTP/1.1 408") && said.contains("the body did not arrive within"),
            "{said}"
        );
        let said = drip(&format!("GET /unread {body}")).await;
        assert!(said.starts_with("HTTP/1.1 200") && said.ends_with("nobody read it"), "{said}");
    }
}
