//! The login itself, by tokio-postgres on a stream that is already negotiated.
//!
//! tokio-postgres would negotiate TLS itself and knows only three of libpq's six modes. So it is told
//! that TLS starts at once ("direct"), and its TLS connector hands over the stream as it is, with the
//! channel binding data.

use super::proof::Proof;
use super::watch::{self, Backend, Traffic};
use crate::dsn::{ChannelBindingMode, Dsn};
use crate::stream::{OpenedStream, PgStream};
use std::convert::Infallible;
use std::future::{Ready, poll_fn, ready};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_postgres::config::{ChannelBinding as Wanted, Config, SslMode, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::{AsyncMessage, Client, Connection, Error};

/// Logs in and starts the task that drives the connection.
pub(super) async fn log_in(
    dsn: &Dsn,
    application_name: &str,
    opened: OpenedStream,
) -> Result<(Client, Watch, JoinHandle<()>), Error> {
    let mut config = config(dsn, application_name);
    if let Some(password) = dsn.password_for(&opened.host) {
        config.password(password.reveal());
    }
    if opened.is_encrypted() {
        config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
    }
    let binding = opened.channel_binding;
    let traffic = Arc::<Traffic>::default();
    let proof = dsn.scram_only.then(Proof::default);
    let stream = Noted { stream: opened.stream, traffic: Arc::clone(&traffic), proof };
    let (client, connection) = config.connect_raw(stream, Negotiated { binding }).await?;
    let (begin, begun) = oneshot::channel();
    let watch = Watch { begin, announced: traffic.announced() };
    Ok((client, watch, tokio::spawn(drive(connection, traffic, begun))))
}

/// By which the driver is told what session it is to have an eye on.
pub(super) struct Watch {
    begin: oneshot::Sender<(Dsn, Backend)>,
    /// The process id that the login gave.
    pub(super) announced: Option<i32>,
}

impl Watch {
    /// Without knowing the session nothing can be asked of it.
    pub(super) fn begin(self, dsn: &Dsn, backend: Option<Backend>) {
        if let Some(backend) = backend {
            // A connection that has ended has no driver.
            let _ = self.begin.send((dsn.clone(), backend));
        }
    }
}

/// Sends a cancel request over a stream of its own.
pub(super) async fn cancel(client: &Client, opened: OpenedStream) -> Result<(), Error> {
    // The session's own settings say "direct" when it is encrypted, and so is this stream then.
    let binding = opened.channel_binding;
    let stream = Noted { stream: opened.stream, traffic: Arc::default(), proof: None };
    client.cancel_token().cancel_query_raw(stream, Negotiated { binding }).await
}

fn config(dsn: &Dsn, application_name: &str) -> Config {
    let mut config = Config::new();
    config
        .user(dsn.user())
        .dbname(dsn.database())
        .application_name(dsn.application_name().unwrap_or(application_name))
        .ssl_mode(SslMode::Disable)
        .channel_binding(match dsn.channel_binding() {
            ChannelBindingMode::Disable => Wanted::Disable,
            ChannelBindingMode::Prefer => Wanted::Prefer,
            ChannelBindingMode::Require => Wanted::Require,
        });
    if let Some(options) = dsn.options() {
        config.options(options);
    }
    config
}

/// Moves bytes until the session ends. A lost connection is reported to whoever waits for an
/// answer, so it is not logged here again.
async fn drive(
    mut connection: Connection<Noted, BoundStream>,
    traffic: Arc<Traffic>,
    begun: oneshot::Receiver<(Dsn, Backend)>,
) {
    let driving = async {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notice(notice) = message {
                tracing::debug!(
                    sqlstate = notice.code().code(),
                    "{}: {}",
                    notice.severity(),
                    notice.message()
                );
            }
        }
    };
    let watching = async {
        match begun.await {
            Ok((dsn, backend)) => watch::until_lost(dsn, backend, traffic).await,
            // Nobody looks after it.
            Err(_) => std::future::pending().await,
        }
    };
    // Whoever waits for an answer is told that the connection was closed when this returns.
    let (driving, watching) = (pin!(driving), pin!(watching));
    tokio::select! {
        () = driving => {}
        lost = watching => tracing::warn!("a connection was given up: {lost}"),
    }
}

/// Stands where tokio-postgres expects a TLS implementation; the handshake is already done.
struct Negotiated {
    binding: Option<Vec<u8>>,
}

impl TlsConnect<Noted> for Negotiated {
    type Stream = BoundStream;
    type Error = Infallible;
    type Future = Ready<Result<BoundStream, Infallible>>;

    fn connect(self, stream: Noted) -> Self::Future {
        ready(Ok(BoundStream { stream, binding: self.binding }))
    }
}

/// A stream with its channel binding data.
struct BoundStream {
    stream: Noted,
    binding: Option<Vec<u8>>,
}

impl TlsStream for BoundStream {
    fn channel_binding(&self) -> ChannelBinding {
        self.binding.clone().map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

impl AsyncRead for BoundStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for BoundStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// A stream that notes what passes.
pub(super) struct Noted {
    stream: PgStream,
    traffic: Arc<Traffic>,
    /// Where the server is to show that it knows the password.
    proof: Option<Proof>,
}

impl AsyncRead for Noted {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, traffic, proof } = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(stream).poll_read(cx, buf);
        match &read {
            Poll::Pending => traffic.awaits(),
            Poll::Ready(_) => traffic.came(&buf.filled()[before..]),
        }
        if let Some(proof) = proof {
            proof.came(&buf.filled()[before..])?;
        }
        read
    }
}

impl AsyncWrite for Noted {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, traffic, .. } = self.get_mut();
        let written = Pin::new(stream).poll_write(cx, buf);
        match &written {
            Poll::Pending => traffic.is_blocked(),
            Poll::Ready(written) => {
                traffic.went(&buf[..written.as_ref().map_or(0, |written| (*written).min(buf.len()))]);
            }
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
