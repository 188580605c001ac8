//! The API's certificate: read when the service starts, and again when its files change.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    ServerConfig,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use ptr_model::Timestamp;

use super::expiry::not_after;
use crate::configuration::TlsFiles;

/// Why certificate and key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsFileError {
    /// A file that cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file without what is to be in it.
    #[error("{} holds no {what} in PEM form", path.display())]
    Empty {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// `certificate` or `private key`.
        what: &'static str,
    },
    /// A key that everybody on this machine can read.
    #[error("everybody on this machine can read the private key {}", path.display())]
    OpenKey {
        /// The file.
        path: PathBuf,
    },
    /// Two files that are not of one pair.
    #[error("the private key {} is not that of the certificate {}", key.display(), certificate.display())]
    Mismatch {
        /// SERVER_TLS_CERT.
        certificate: PathBuf,
        /// SERVER_TLS_KEY.
        key: PathBuf,
    },
    /// A certificate or key of a kind that cannot be used.
    #[error("{} cannot be used with {}: {source}", certificate.display(), key.display())]
    Refused {
        /// SERVER_TLS_CERT.
        certificate: PathBuf,
        /// SERVER_TLS_KEY.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

impl TlsFileError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Unreadable { setting, .. } => {
                format!("set {setting} to a file that this user can read, or unset SERVER_TLS_CERT and SERVER_TLS_KEY")
            }
            Self::Empty { setting, what: "certificate", .. } => {
                format!("set {setting} to a file that begins its certificates with -----BEGIN CERTIFICATE-----")
            }
            Self::Empty { setting, what, .. } => {
                format!("set {setting} to a PEM file with a {what} that is not encrypted (openssl pkey decrypts one)")
            }
            Self::OpenKey { path } => format!("run: chmod o= {}", path.display()),
            Self::Mismatch { .. } => {
                "set SERVER_TLS_CERT and SERVER_TLS_KEY to two files of one pair; the service's own certificate is the first in \
                 its file"
                    .to_owned()
            }
            Self::Refused { .. } => {
                "make a pair that TLS takes, such as RSA with 2048 bits or more, or P-256".to_owned()
            }
        }
    }
}

/// The certificate and its key, as their files are now.
pub(super) struct Certificate {
    files: TlsFiles,
    last: Mutex<Read>,
}

struct Read {
    /// Of the files when they were read, well or not.
    stamps: [Option<Stamp>; 2],
    config: Arc<ServerConfig>,
}

/// What changes when a file does: time of change, size, and which file it is.
type Stamp = (i64, i64, u64, u64);

impl Certificate {
    pub(super) fn read(files: TlsFiles) -> Result<Self, TlsFileError> {
        let stamps = stamps(&files);
        let last = Mutex::new(Read { stamps, config: read(&files)? });
        Ok(Self { files, last })
    }

    /// What the next handshake is to use. Files that changed and cannot be used are told once, and change nothing: a pair
    /// is renewed one file after the other.
    fn now(&self) -> Arc<ServerConfig> {
        let stamps = stamps(&self.files);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.stamps != stamps {
            last.stamps = stamps;
            match read(&self.files) {
                Ok(config) => {
                    tracing::info!(certificate = %self.files.certificate.display(), "the certificate was read again");
                    last.config = config;
                }
                Err(error) => {
                    tracing::warn!(%error, "the certificate changed, and the one from before stays in use");
                }
            }
        }
        Arc::clone(&last.config)
    }
}

fn stamps(files: &TlsFiles) -> [Option<Stamp>; 2] {
    [&files.certificate, &files.key].map(|path| {
        let found = fs::metadata(path).ok()?;
        Some((found.mtime(), found.mtime_nsec(), found.size(), found.ino()))
    })
}

fn read(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsFileError> {
    let TlsFiles { certificate, key } = files;
    let chain = items(certificate, "SERVER_TLS_CERT", "certificate", |bytes| {
        CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>()
    })?;
    let secret = items(key, "SERVER_TLS_KEY", "private key", |bytes| {
        PrivateKeyDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>()
    })?;
    let mode = fs::metadata(key).map_err(unreadable(key, "SERVER_TLS_KEY"))?.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(TlsFileError::OpenKey { path: key.clone() });
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let secret = secret.into_iter().next().expect("an empty list is an error");
    let made = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret));
    let mut config = made.map_err(|source| match source {
        rustls::Error::InconsistentKeys(_) => {
            TlsFileError::Mismatch { certificate: certificate.clone(), key: key.clone() }
        }
        source => TlsFileError::Refused { certificate: certificate.clone(), key: key.clone(), source },
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn items<T>(
    path: &Path,
    setting: &'static str,
    what: &'static str,
    parse: impl FnOnce(&[u8]) -> Result<Vec<T>, pem::Error>,
) -> Result<Vec<T>, TlsFileError> {
    let bytes = fs::read(path).map_err(unreadable(path, setting))?;
    // Half an item is none.
    let found = parse(&bytes).unwrap_or_default();
    if found.is_empty() {
        return Err(TlsFileError::Empty { setting, path: path.to_owned(), what });
    }
    Ok(found)
}

fn unreadable(path: &Path, setting: &'static str) -> impl FnOnce(io::Error) -> TlsFileError {
    let path = path.to_owned();
    move |source| TlsFileError::Unreadable { setting, path, source }
}

/// Whether one of the certificates ends by then, which one does first, and when. Files that cannot be read are told
/// elsewhere.
pub(crate) fn expires_by(files: &TlsFiles, time: Timestamp) -> Option<Timestamp> {
    let bytes = fs::read(&files.certificate).ok()?;
    let ends = CertificateDer::pem_slice_iter(&bytes).flatten().filter_map(|one| not_after(&one));
    ends.min().filter(|end| *end <= time)
}

/// What a client turned out to speak.
pub(super) enum Accepted {
    Tls(Box<TlsStream<TcpStream>>),
    /// Something else, nothing of which was read.
    Plain(TcpStream),
}

/// The first byte of a TLS record that begins a handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;

/// Agrees on TLS with a client that begins with it.
pub(super) async fn accept(stream: TcpStream, certificate: &Certificate) -> io::Result<Accepted> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 1 && first[0] != HANDSHAKE {
        return Ok(Accepted::Plain(stream));
    }
    let stream = TlsAcceptor::from(certificate.now()).accept(stream).await?;
    Ok(Accepted::Tls(Box::new(stream)))
}
