//! Files as an administrator gets them for a TLS server.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// An authority, and the certificate that it gave to a server of these names.
#[derive(Debug)]
pub struct Certificates {
    /// The authority's certificate, for clients to trust.
    pub authority: PathBuf,
    /// The server's certificate.
    pub certificate: PathBuf,
    /// Its private key, 0600.
    pub key: PathBuf,
}

impl Certificates {
    /// Makes the files in a folder; those that are there are replaced.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn make(folder: &Path, names: &[&str]) -> Self {
        Self::make_until(folder, names, SystemTime::now() + Duration::from_secs(365 * 24 * 60 * 60))
    }

    /// The same; the server's certificate ends then.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn make_until(folder: &Path, names: &[&str], end: SystemTime) -> Self {
        let authority_key = KeyPair::generate().expect("a key");
        let mut authority = CertificateParams::new(Vec::new()).expect("no names");
        // Else it would have the server's name, which then would look like one that signed itself.
        authority.distinguished_name.push(DnType::CommonName, "an authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_certificate = authority.self_signed(&authority_key).expect("a certificate");
        let issuer = Issuer::new(authority, authority_key);
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut server = CertificateParams::new(names).expect("names");
        server.not_after = end.into();
        let server = server.signed_by(&key, &issuer).expect("a certificate");
        Self {
            authority: write(folder, "authority.pem", &authority_certificate.pem()),
            certificate: write(folder, "server.pem", &server.pem()),
            key: write(folder, "server.key", &key.serialize_pem()),
        }
    }
}

/// As certbot and others do: the new file takes the old one's place.
fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let (path, unfinished) = (folder.join(name), folder.join(format!("{name}.new")));
    let written = fs::write(&unfinished, text)
        .and_then(|()| fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o600)))
        .and_then(|()| fs::rename(&unfinished, &path));
    written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}
