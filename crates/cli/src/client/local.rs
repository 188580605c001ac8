//! To the same API in this process, where no service runs on the data directory.

use std::sync::Arc;

use http_body_util::Full;
use hyper::{Request, body::Bytes, header::CONTENT_TYPE};
use ptr_server::{Announcer, Configuration, Problem, Role, Service, router_of_owner};
use tower::ServiceExt;

use super::{Call, whole};
use crate::failure::{Failure, Kind};

/// A service that was opened for one command, and captures nothing.
pub struct LocalClient {
    service: Arc<Service>,
}

impl LocalClient {
    /// Opens the data directory as it is: no server is started, nothing on the primary is changed.
    pub async fn open(configuration: Configuration) -> Result<Self, Failure> {
        let opened = Service::open(configuration, Role::Offline, &Announcer::silent()).await;
        Ok(Self { service: opened.map_err(Problem::from)? })
    }

    /// To a service that runs in this process.
    pub fn of(service: Arc<Service>) -> Self {
        Self { service }
    }

    pub(super) async fn send(&self, call: &Call) -> Result<(u16, Bytes), Failure> {
        // Whoever can open the data directory may see what is in it, passwords too.
        let request = Request::builder()
            .method(call.method.clone())
            .uri(call.target())
            .header(CONTENT_TYPE, "application/json")
            .body(axum::body::Body::new(Full::new(Bytes::from(call.body()))))
            .map_err(|error| {
                Failure::new(Kind::Usage, format!("{} cannot be asked for: {error}", call.path))
            })?;
        let answer = match router_of_owner(Arc::clone(&self.service)).oneshot(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        };
        let status = answer.status().as_u16();
        Ok((status, whole(answer.into_body()).await?))
    }

    pub(super) async fn close(self) {
        // The command has its answer; what it leaves behind is only worth a note.
        if let Err(error) = self.service.close().await {
            tracing::warn!(%error, "closing");
        }
    }
}
