//! A byte stream to one server with TLS negotiated, before the first protocol message.
//!
//! [`mod@crate::connect`] logs in on it with tokio-postgres; the replication transport, which tokio-postgres
//! does not speak, writes its own startup message on it. Hosts are tried in order until one takes
//! the connection.

use crate::connect::ConnectError;
use crate::dsn::{Dsn, Host, HostAddress, SslMode, SslNegotiation};
use crate::tls::{self, TlsError};
use rustix::net::sockopt::{set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl};
use rustls::pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// `SSLRequest`: length 8, code 80877103 (PostgreSQL manual, "Message Formats").
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// How long nothing may come before the other end is asked whether it is there, six times in as long again.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A stream to a server.
#[derive(Debug)]
pub enum PgStream {
    /// TCP in clear text.
    Tcp(TcpStream),
    /// A Unix-domain socket, where libpq never uses TLS.
    Unix(UnixStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

/// What [`open_stream`] found.
#[derive(Debug)]
pub struct OpenedStream {
    /// The stream, ready for the startup message.
    pub stream: PgStream,
    /// The host that took the connection; [`Dsn::with_host`] leads to the same one again.
    pub host: Host,
    /// `tls-server-end-point` data for SCRAM-SHA-256-PLUS, where TLS is on and the certificate allows it.
    pub channel_binding: Option<Vec<u8>>,
}

impl OpenedStream {
    /// Whether the stream is encrypted.
    pub fn is_encrypted(&self) -> bool {
        matches!(self.stream, PgStream::Tls(_))
    }
}

/// Opens a stream to the first host that takes one.
///
/// # Errors
/// [`ConnectError::Unreachable`], [`ConnectError::Timeout`] or [`ConnectError::Tls`], of the only
/// host or, with several, all of them in [`ConnectError::NoHost`].
pub async fn open_stream(dsn: &Dsn) -> Result<OpenedStream, ConnectError> {
    let mut attempts = Vec::new();
    for host in dsn.hosts() {
        let opened = within(dsn.connect_timeout(), host, open_host(dsn, host)).await;
        match opened {
            Ok(opened) => return Ok(opened),
            Err(error) => attempts.push(error),
        }
    }
    Err(ConnectError::of_attempts(attempts))
}

/// Runs one host's attempt under its time limit.
pub(crate) async fn within<T>(
    limit: Option<Duration>,
    host: &Host,
    attempt: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    match limit {
        None => attempt.await,
        Some(limit) => tokio::time::timeout(limit, attempt)
            .await
            .unwrap_or_else(|_| Err(ConnectError::Timeout { host: host.to_string(), after: limit })),
    }
}

/// Opens a stream to this host, TLS as the DSN asks.
pub(crate) async fn open_host(dsn: &Dsn, host: &Host) -> Result<OpenedStream, ConnectError> {
    let unreachable = |source| ConnectError::unreachable(host, source);
    let (name, address) = match &host.address {
        HostAddress::Unix(directory) => {
            let path = directory.join(format!(".s.PGSQL.{}", host.port));
            let stream = UnixStream::connect(path).await.map_err(unreachable)?;
            return Ok(opened(PgStream::Unix(stream), host));
        }
        HostAddress::Tcp { name, address } => (name, *address),
    };
    let dial = || async {
        match address {
            Some(address) => dial(&[SocketAddr::new(address, host.port)]).await,
            None => {
                let found: Vec<_> = tokio::net::lookup_host((name.as_str(), host.port)).await?.collect();
                dial(&found).await
            }
        }
    };
    let stream = dial().await.map_err(unreachable)?;
    let may_fall_back = dsn.ssl().mode < SslMode::Require;
    match encrypt(dsn, name, stream).await {
        Ok(stream) => Ok(opened(stream, host)),
        // The stream is spent after a failed handshake; clear text needs another.
        Err(TlsError::Handshake(error) | TlsError::Ended(error)) if may_fall_back => {
            tracing::debug!(%host, %error, "TLS failed, going on without as sslmode allows");
            dial().await.map(|stream| opened(PgStream::Tcp(stream), host)).map_err(unreachable)
        }
        Err(TlsError::Ended(error)) => Err(unreachable(error)),
        Err(source) => Err(ConnectError::Tls { host: host.to_string(), source }),
    }
}

fn opened(stream: PgStream, host: &Host) -> OpenedStream {
    let channel_binding = stream.channel_binding();
    OpenedStream { stream, host: host.clone(), channel_binding }
}

async fn dial(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match dial_one(*address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn dial_one(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_keepalive(true)?;
    // The system's own patience is two hours. What waits for an answer waits for ever on a connection that a firewall
    // has forgotten; so it is noticed after two minutes.
    set_tcp_keepidle(&socket, KEEPALIVE)?;
    set_tcp_keepintvl(&socket, KEEPALIVE / 6)?;
    set_tcp_keepcnt(&socket, 6)?;
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

async fn encrypt(dsn: &Dsn, name: &str, mut stream: TcpStream) -> Result<PgStream, TlsError> {
    let ssl = dsn.ssl();
    if ssl.mode == SslMode::Disable {
        return Ok(PgStream::Tcp(stream));
    }
    if ssl.negotiation == SslNegotiation::Postgres && !is_offered(&mut stream).await? {
        return if ssl.mode < SslMode::Require {
            Ok(PgStream::Tcp(stream))
        } else {
            Err(TlsError::NotOffered)
        };
    }
    let config = tls::client_config(ssl)?;
    // Without a name to check (`verify-ca` and weaker) any name does for the handshake.
    let server = match ServerName::try_from(name.to_owned()) {
        Ok(server) => server,
        Err(_) if ssl.mode < SslMode::VerifyFull => ServerName::try_from("localhost").expect("a valid name"),
        Err(error) => return Err(TlsError::Handshake(io::Error::new(io::ErrorKind::InvalidInput, error))),
    };
    let stream = TlsConnector::from(config).connect(server, stream).await.map_err(handshake)?;
    Ok(PgStream::Tls(Box::new(stream)))
}

/// Asks the server whether it does TLS. Exactly one byte is read: reading on would let somebody in
/// the middle put clear text in front of the handshake (CVE-2021-23222).
async fn is_offered(stream: &mut TcpStream) -> Result<bool, TlsError> {
    stream.write_all(&SSL_REQUEST).await.map_err(TlsError::Ended)?;
    let answer = stream.read_u8().await.map_err(TlsError::Ended)?;
    Ok(answer == b'S')
}

/// What the TLS library refuses is told by its own error inside; anything else happened to the connection.
fn handshake(error: io::Error) -> TlsError {
    match error.get_ref() {
        Some(inner) if inner.is::<rustls::Error>() => TlsError::Handshake(error),
        _ => TlsError::Ended(error),
    }
}

impl PgStream {
    fn channel_binding(&self) -> Option<Vec<u8>> {
        let PgStream::Tls(stream) = self else { return None };
        let (_, session) = stream.get_ref();
        session.peer_certificates()?.first().and_then(|certificate| tls::tls_server_end_point(certificate))
    }
}

impl AsyncRead for PgStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            PgStream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            PgStream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            PgStream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for PgStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            PgStream::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            PgStream::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            PgStream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            PgStream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            PgStream::Unix(stream) => Pin::new(stream).poll_flush(cx),
            PgStream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            PgStream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            PgStream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            PgStream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_that_died_in_silence_is_noticed_within_minutes() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = dial(&[server.local_addr().unwrap()]).await.unwrap();
        let idle = rustix::net::sockopt::tcp_keepidle(&stream).unwrap();
        let between = rustix::net::sockopt::tcp_keepintvl(&stream).unwrap();
        let times = rustix::net::sockopt::tcp_keepcnt(&stream).unwrap();
        assert!(rustix::net::sockopt::socket_keepalive(&stream).unwrap());
        assert_eq!(idle + between * times, Duration::from_secs(120));
    }
}
