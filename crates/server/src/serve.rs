//! The API on a socket, until the service ends.

use std::{future::IntoFuture, sync::Arc, time::Duration};

use axum::serve::ListenerExt;
use tokio::net::TcpListener;

use crate::{
    api::router,
    configuration::Address,
    service::{Service, ServiceError},
};

/// How long requests that are under way may take once the service is to end.
const GRACE: Duration = Duration::from_secs(10);

/// A socket where the configuration says. Requests wait in it until [`serve`] answers them.
pub(crate) async fn bind(address: &Address) -> Result<TcpListener, ServiceError> {
    TcpListener::bind((address.host.as_str(), address.port)).await.map_err(in_use(address))
}

fn in_use(address: &Address) -> impl Fn(std::io::Error) -> ServiceError {
    move |error| {
        ServiceError::precondition(
            format!("cannot listen on {address}: {error}"),
            "stop what listens there, or choose another port with --addr or SERVER_PORT",
        )
    }
}

/// Answers on the socket that was bound when the service was opened, publishes its address in
/// `run/service.json`, and serves until the service is shut down. Requests that are under way are finished.
///
/// # Errors
/// The address cannot be used.
pub async fn serve(service: Arc<Service>) -> Result<(), ServiceError> {
    let address = service.configuration().address.clone();
    let in_use = in_use(&address);
    let listener = match service.take_socket() {
        Some(listener) => listener,
        None => bind(&address).await?,
    };
    let bound = listener.local_addr().map_err(&in_use)?;
    service.publish(bound.to_string())?;
    tracing::info!(address = %bound, "the API answers");
    let ended = service.shutdown_token().clone();
    let shutdown = ended.clone().cancelled_owned();
    // An answer of several parts must not wait until the client has acknowledged the first.
    let listener = listener.tap_io(|socket| drop(socket.set_nodelay(true)));
    let serving =
        axum::serve(listener, router(Arc::clone(&service))).with_graceful_shutdown(shutdown).into_future();
    let late = async {
        ended.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = serving => served.map_err(in_use),
        // A client that keeps its request open does not keep the service.
        () = late => Ok(()),
    }
}
