//! The API on its two sockets, until the service ends: TCP for everybody whom [`crate::api::Guard`] lets in, with TLS
//! where a certificate is set ([`tls`]), and the Unix socket in `run/` for whoever may read the data directory.
//!
//! accept -> a place among the open connections ([`connections`]) -> TLS -> HTTP -> the router.

mod connections;
mod conversation;
mod expiry;
mod tls;

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use tls::TlsFileError;
pub(crate) use tls::expires_by;

use crate::{
    api::{router, router_of_owner},
    configuration::{Address, Configuration},
    service::{Service, ServiceError},
};
use connections::{Connections, Place};
use conversation::Conversation;
use tls::Certificate;

/// How long requests that are under way may take once the service is to end.
const GRACE: Duration = Duration::from_secs(10);

/// How long nothing is accepted after it failed: without a file descriptor to spare it fails again and again.
const PAUSE: Duration = Duration::from_millis(100);

/// Where the API answers everybody. Requests wait in it until [`serve`] answers them.
pub(crate) struct Entrance {
    listener: TcpListener,
    certificate: Option<Arc<Certificate>>,
}

impl Entrance {
    /// Listens where the configuration says, with the certificate that it names.
    pub(crate) async fn open(configuration: &Configuration) -> Result<Self, ServiceError> {
        let certificate = configuration.tls.clone().map(Certificate::read).transpose()?.map(Arc::new);
        let address = &configuration.address;
        let listener = TcpListener::bind((address.host.as_str(), address.port)).await;
        Ok(Self { listener: listener.map_err(in_use(address))?, certificate })
    }
}

fn in_use(address: &Address) -> impl Fn(io::Error) -> ServiceError {
    move |error| {
        ServiceError::precondition(
            format!("cannot listen on {address}: {error}"),
            "stop what listens there, or choose another port with --addr or SERVER_PORT",
        )
    }
}

/// Answers at the entrance that was opened with the service and on the user's own socket, publishes both in
/// `run/service.json`, and serves until the service is shut down. Requests that are under way are finished.
///
/// # Errors
/// The address, or the folder `run/`, cannot be used.
pub async fn serve(service: Arc<Service>) -> Result<(), ServiceError> {
    let entrance = match service.take_entrance() {
        Some(entrance) => entrance,
        None => Entrance::open(service.configuration()).await?,
    };
    let bound = entrance.listener.local_addr().map_err(in_use(&service.configuration().address))?;
    let own = service.publish(bound.to_string())?;
    tracing::info!(address = %bound, tls = entrance.certificate.is_some(), "the API answers");
    let ended = service.shutdown_token().clone();
    let everybody = Serving::of(router(Arc::clone(&service)), ended.clone());
    let owner = Serving::of(router_of_owner(service), ended.clone());
    tokio::select! {
        () = everybody.at(&entrance) => {}
        () = owner.at_own(&own) => {}
        () = ended.cancelled() => {}
    }
    // A client that keeps its request open does not keep the service.
    let finished = async {
        everybody.finish().await;
        owner.finish().await;
    };
    let _ = tokio::time::timeout(GRACE, finished).await;
    Ok(())
}

/// What answers on one socket.
struct Serving {
    router: Router,
    connections: Connections,
    tasks: TaskTracker,
    ended: CancellationToken,
}

impl Serving {
    fn of(router: Router, ended: CancellationToken) -> Self {
        Self { router, connections: Connections::new(), tasks: TaskTracker::new(), ended }
    }

    async fn at(&self, entrance: &Entrance) {
        loop {
            let place = self.connections.place().await;
            let Some(stream) = self.accepted(entrance.listener.accept().await) else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            // An answer of several parts must not wait until the client has acknowledged the first.
            let _ = stream.set_nodelay(true);
            let conversation = self.conversation(place);
            match &entrance.certificate {
                Some(certificate) => {
                    let certificate = Arc::clone(certificate);
                    self.tasks.spawn(in_tls(stream, certificate, conversation));
                }
                None => drop(self.tasks.spawn(conversation.over(stream))),
            }
        }
    }

    async fn at_own(&self, socket: &UnixListener) {
        loop {
            let place = self.connections.place().await;
            let Some(stream) = self.accepted(socket.accept().await) else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            self.tasks.spawn(self.conversation(place).over(stream));
        }
    }

    fn accepted<S, A>(&self, accepted: io::Result<(S, A)>) -> Option<S> {
        let accepted = accepted.map(|(stream, _)| stream);
        // Mostly a client that went away, else no file descriptor to spare, which whoever waits for nothing gives back.
        if let Err(error) = &accepted {
            tracing::debug!(%error, "accepting a connection");
            self.connections.end_the_longest_waiting();
        }
        accepted.ok()
    }

    fn conversation(&self, place: Place) -> Conversation {
        Conversation::new(self.router.clone(), place, self.ended.clone())
    }

    async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Whoever speaks HTTP where TLS is spoken is told so.
async fn in_tls(stream: TcpStream, certificate: Arc<Certificate>, conversation: Conversation) {
    match conversation.within_patience(tls::accept(stream, &certificate)).await {
        Some(Ok(tls::Accepted::Tls(stream))) => conversation.over(stream).await,
        Some(Ok(tls::Accepted::Plain(stream))) => conversation.refused_without_tls().over(stream).await,
        Some(Err(error)) => tracing::debug!(%error, "no TLS session"),
        None => {}
    }
}
