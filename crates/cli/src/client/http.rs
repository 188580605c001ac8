//! To a running service, over HTTP on this machine.

use std::time::Duration;

use http_body_util::Full;
use hyper::{
    Request,
    body::Bytes,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use hyper_util::{
    client::legacy::{Client as Connections, connect::HttpConnector},
    rt::TokioExecutor,
};

use super::{Call, whole};
use crate::failure::{Failure, Kind};

/// How long a service may take to say that it lives.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(3);

/// Where a service listens and what opens it.
pub struct HttpClient {
    base: String,
    token: Option<String>,
    connections: Connections<HttpConnector, Full<Bytes>>,
}

impl HttpClient {
    /// For `base` such as `http://127.0.0.1:8080`.
    pub fn new(base: &str, token: Option<String>) -> Self {
        let connections = Connections::builder(TokioExecutor::new()).build(HttpConnector::new());
        Self { base: base.trim_end_matches('/').to_owned(), token, connections }
    }

    pub(super) async fn send(&self, call: &Call) -> Result<(u16, Bytes), Failure> {
        let url = format!("{}{}", self.base, call.target());
        let mut request = Request::builder().method(call.method.clone()).uri(&url);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(call.body())))
            .map_err(|error| Failure::new(Kind::Failed, format!("{url} is no address: {error}")))?;
        let answer = self.connections.request(request).await.map_err(|error| {
            Failure::new(Kind::Unreachable, format!("the service at {} does not answer: {error}", self.base))
                .hint("see `postgres-test-replay status`, and run/up.log in the data directory")
        })?;
        let status = answer.status().as_u16();
        Ok((status, whole(answer.into_body()).await?))
    }
}

/// Whether somebody answers `/health` there.
pub async fn is_alive(client: &HttpClient) -> bool {
    let answer = tokio::time::timeout(HEALTH_TIMEOUT, client.send(&Call::get("/health"))).await;
    matches!(answer, Ok(Ok((200, _))))
}
