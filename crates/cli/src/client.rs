//! The one way to the API: over its socket where a service runs on the data directory, else the same router in this
//! process. Commands cannot tell which.

mod local;
mod request;
mod socket;

use http_body_util::BodyExt;
use hyper::body::Bytes;
use serde::de::DeserializeOwned;

use crate::failure::{Failure, Kind};

pub use local::LocalClient;
pub use request::{Call, encode};
pub use socket::{HEALTH_TIMEOUT, SocketClient};

/// A way to the API.
pub enum Client {
    /// To the service that runs on the data directory.
    Service(SocketClient),
    /// To a service opened in this process, for this command. Nothing is captured meanwhile.
    Local(Box<LocalClient>),
}

impl Client {
    /// Asks, and gives the answer.
    pub async fn ask<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Failure> {
        let (status, body) = match self {
            Self::Service(client) => client.send(call).await?,
            Self::Local(client) => client.send(call).await?,
        };
        if !(200..300).contains(&status) {
            return Err(Failure::from_answer(status, &body));
        }
        // An answer without a body reads as null.
        let body = if body.is_empty() { Bytes::from_static(b"null") } else { body };
        serde_json::from_slice(&body).map_err(|error| {
            Failure::new(
                Kind::Failed,
                format!("{} answered something else than expected: {error}", call.path),
            )
            .hint("the service may be of another version; `down` and `up` start this one")
        })
    }

    /// Ends it in good order.
    pub async fn close(self) {
        if let Self::Local(client) = self {
            client.close().await;
        }
    }
}

/// All of a body.
async fn whole<B>(body: B) -> Result<Bytes, Failure>
where
    B: hyper::body::Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    let collected = body.collect().await;
    collected
        .map(http_body_util::Collected::to_bytes)
        .map_err(|error| Failure::new(Kind::Unreachable, format!("the API's answer ended early: {error}")))
}
