//! The login itself, by tokio-postgres on a stream that is already negotiated.
//!
//! tokio-postgres would negotiate TLS itself and knows only three of libpq's six modes. So it is told
//! that TLS starts at once ("direct"), and its TLS connector hands over the stream as it is, with the
//! channel binding data.

use crate::dsn::{ChannelBindingMode, Dsn};
use crate::stream::{OpenedStream, PgStream};
use std::convert::Infallible;
use std::future::{Ready, poll_fn, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;
use tokio_postgres::config::{ChannelBinding as Wanted, Config, SslMode, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::{AsyncMessage, Client, Connection, Error};

/// Logs in and starts the task that drives the connection.
pub(super) async fn log_in(
    dsn: &Dsn,
    application_name: &str,
    opened: OpenedStream,
) -> Result<(Client, JoinHandle<()>), Error> {
    let mut config = config(dsn, application_name);
    if let Some(password) = dsn.password_for(&opened.host) {
        config.password(password.reveal());
    }
    if opened.is_encrypted() {
        config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
    }
    let binding = opened.channel_binding;
    let (client, connection) = config.connect_raw(opened.stream, Negotiated { binding }).await?;
    Ok((client, tokio::spawn(drive(connection))))
}

/// Sends a cancel request over a stream of its own.
pub(super) async fn cancel(client: &Client, opened: OpenedStream) -> Result<(), Error> {
    // The session's own settings say "direct" when it is encrypted, and so is this stream then.
    let binding = opened.channel_binding;
    client.cancel_token().cancel_query_raw(opened.stream, Negotiated { binding }).await
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
async fn drive(mut connection: Connection<PgStream, BoundStream>) {
    while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
        if let AsyncMessage::Notice(notice) = message {
            tracing::debug!(sqlstate = notice.code().code(), "{}: {}", notice.severity(), notice.message());
        }
    }
}

/// Stands where tokio-postgres expects a TLS implementation; the handshake is already done.
struct Negotiated {
    binding: Option<Vec<u8>>,
}

impl TlsConnect<PgStream> for Negotiated {
    type Stream = BoundStream;
    type Error = Infallible;
    type Future = Ready<Result<BoundStream, Infallible>>;

    fn connect(self, stream: PgStream) -> Self::Future {
        ready(Ok(BoundStream { stream, binding: self.binding }))
    }
}

/// A stream with its channel binding data.
struct BoundStream {
    stream: PgStream,
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
