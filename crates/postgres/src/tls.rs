//! TLS as libpq understands `sslmode`, made of rustls.
//!
//! | sslmode | certificate | name |
//! |---|---|---|
//! | prefer, allow, require without a root certificate | not checked | not checked |
//! | prefer, allow, require with one; verify-ca | chain | not checked |
//! | verify-full | chain | checked |
//!
//! Invariant: only the `ring` provider is used, named explicitly, so no process-wide default is needed.

mod end_point;
mod verify;

pub use end_point::tls_server_end_point;

use crate::dsn::{RootCertificates, SslMode, SslNegotiation, SslSettings};
use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why no TLS session could be prepared or opened.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate or key file that cannot be read or holds nothing of the kind.
    #[error("{}: cannot be read as PEM ({source})", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// A private key that others may read.
    #[error("{}: others can read this private key; run chmod 0600 on it", path.display())]
    OpenKey {
        /// The key file.
        path: PathBuf,
    },
    /// Verification asked for, and nobody to trust.
    #[error(
        "sslmode={mode} needs a root certificate; add sslrootcert=FILE, or sslrootcert=system for public authorities"
    )]
    NoRoot {
        /// The mode as written in the DSN.
        mode: &'static str,
    },
    /// The operating system's authorities could not be loaded.
    #[error("the system's root certificates cannot be loaded: {problem}; add sslrootcert=FILE")]
    NoSystemRoots {
        /// What the loader says.
        problem: String,
    },
    /// `sslcert` without `sslkey`, or the other way round.
    #[error("sslcert and sslkey belong together; the connection string has only one of them")]
    HalfClientCertificate,
    /// The server does not do TLS.
    #[error(
        "the server does not support TLS, and sslmode asks for it; turn ssl on there or use sslmode=prefer"
    )]
    NotOffered,
    /// What rustls refuses, in the files or in the handshake.
    #[error("{0}")]
    Refused(#[from] rustls::Error),
    /// A certificate that was not accepted, or something else that one of both ends does not do.
    #[error("the TLS handshake failed: {0}")]
    Handshake(#[source] std::io::Error),
    /// The connection ended before or during the handshake, about which that says nothing.
    #[error("the connection ended in the TLS handshake: {0}")]
    Ended(#[source] std::io::Error),
}

/// The rustls configuration for these settings.
///
/// # Errors
/// [`TlsError`] for files that cannot be used and modes without somebody to trust.
pub fn client_config(ssl: &SslSettings) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier(ssl, provider)?);
    let mut config = match (&ssl.certificate, &ssl.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => {
            builder.with_client_auth_cert(certificates(certificate)?, private_key(key)?)?
        }
        _ => return Err(TlsError::HalfClientCertificate),
    };
    if ssl.negotiation == SslNegotiation::Direct {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(Arc::new(config))
}

fn verifier(
    ssl: &SslSettings,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::client::danger::ServerCertVerifier>, TlsError> {
    let roots = match (&ssl.root, ssl.mode) {
        (Some(root), _) => roots(root)?,
        (None, SslMode::VerifyCa) => return Err(TlsError::NoRoot { mode: "verify-ca" }),
        (None, SslMode::VerifyFull) => return Err(TlsError::NoRoot { mode: "verify-full" }),
        (None, _) => return Ok(Arc::new(verify::AnyServer::new(provider))),
    };
    verify::TrustedServer::verifier(roots, provider, ssl.mode == SslMode::VerifyFull)
}

fn roots(root: &RootCertificates) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    match root {
        RootCertificates::File(path) => certificates(path),
        RootCertificates::System => {
            let found = rustls_native_certs::load_native_certs();
            if found.certs.is_empty() {
                let problem = found.errors.first().map_or("none found".to_owned(), ToString::to_string);
                return Err(TlsError::NoSystemRoots { problem });
            }
            Ok(found.certs)
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::File { path: path.to_owned(), source };
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    if certificates.is_empty() { Err(failed(pem::Error::NoItemsFound)) } else { Ok(certificates) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        // libpq's rule: 0600, or 0640 when it belongs to root.
        let open = std::fs::metadata(path).is_ok_and(|metadata| {
            let mask = if metadata.uid() == 0 { 0o037 } else { 0o077 };
            metadata.permissions().mode() & mask != 0
        });
        if open {
            return Err(TlsError::OpenKey { path: path.to_owned() });
        }
    }
    PrivateKeyDer::from_pem_file(path).map_err(|source| TlsError::File { path: path.to_owned(), source })
}
