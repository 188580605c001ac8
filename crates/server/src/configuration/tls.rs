//! Whether the API speaks TLS, and with which files.

use std::path::PathBuf;

use super::{ConfigurationError, Setting, layers::Layers};

/// Certificate and private key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The service's own certificate first, then those that lead to its authority.
    pub certificate: PathBuf,
    /// Not encrypted.
    pub key: PathBuf,
}

pub(super) fn resolve(layers: &Layers) -> Result<Option<TlsFiles>, ConfigurationError> {
    let (certificate, key) = (Setting::ServerTlsCert, Setting::ServerTlsKey);
    match (layers.path(certificate), layers.path(key)) {
        (Some(certificate), Some(key)) => Ok(Some(TlsFiles { certificate, key })),
        (None, None) => Ok(None),
        (Some(_), None) => {
            Err(ConfigurationError::HalfOfTls { set: certificate.variable(), missing: key.variable() })
        }
        (None, Some(_)) => {
            Err(ConfigurationError::HalfOfTls { set: key.variable(), missing: certificate.variable() })
        }
    }
}
