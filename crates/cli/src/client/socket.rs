//! To a running service, over its own socket in the data directory: nobody else can use that, so no token, certificate or
//! address is needed.

use std::{path::PathBuf, time::Duration};

use http_body_util::Full;
use hyper::{
    Request,
    body::Bytes,
    client::conn::http1,
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use ptr_server::Running;
use tokio::net::UnixStream;

use super::{Call, whole};
use crate::failure::{Failure, Kind};

/// How long a service may take to say that it lives before that is worth a word.
pub const HEALTH_TIMEOUT: Duration = Duration::from_secs(3);

/// Where a service answers its own user.
pub struct SocketClient {
    path: PathBuf,
}

impl SocketClient {
    /// To that service; `None` where it is of a version that had no such socket.
    pub fn of(running: &Running) -> Option<Self> {
        Some(Self { path: running.socket.clone()? })
    }

    pub(super) async fn send(&self, call: &Call) -> Result<(u16, Bytes), Failure> {
        let request = Request::builder()
            .method(call.method.clone())
            .uri(call.target())
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(call.body())))
            .map_err(|error| {
                Failure::new(Kind::Usage, format!("{} cannot be asked for: {error}", call.path))
            })?;
        let unanswered = |error: &dyn std::fmt::Display| {
            let what = format!("the service at {} does not answer: {error}", self.path.display());
            Failure::new(Kind::Unreachable, what)
                .hint("see `postgres-test-replay status`, and run/up.log in the data directory")
        };
        let stream = UnixStream::connect(&self.path).await.map_err(|error| unanswered(&error))?;
        let shaken = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.map_err(|error| unanswered(&error))?;
        let driving = tokio::spawn(connection);
        let answered = async {
            let answer = sender.send_request(request).await.map_err(|error| unanswered(&error))?;
            let status = answer.status().as_u16();
            Ok((status, whole(answer.into_body()).await?))
        };
        let answer = answered.await;
        driving.abort();
        answer
    }

    /// Whether it answers `/health` within that time.
    pub async fn is_alive(&self, limit: Duration) -> bool {
        let answer = tokio::time::timeout(limit, self.send(&Call::get("/health"))).await;
        matches!(answer, Ok(Ok((200, _))))
    }
}
