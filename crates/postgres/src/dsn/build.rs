//! From parameters to a [`Dsn`]: defaults, and each value checked where it gets its type.

use super::error::DsnError;
use super::parameters::Parameters;
use super::{
    ChannelBindingMode, DEFAULT_CONNECT_TIMEOUT, Dsn, Host, HostAddress, RootCertificates, SslMode,
    SslNegotiation, SslSettings, TargetSession, keyword, passfile, service, uri,
};
use crate::Password;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DEFAULT_PORT: u16 = 5432;

/// Where servers put their sockets: Debian's and Red Hat's place, and PostgreSQL's own default.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

impl Dsn {
    /// Understands a connection string. `lookup` gives the `PG*` environment variables, which are
    /// the defaults, and `USER`. No file is read: a `service` is an error here, password files and
    /// default certificates are not looked for.
    ///
    /// # Errors
    /// [`DsnError`]; none of its variants shows a password.
    pub fn parse(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, DsnError> {
        let mut parameters = parse_text(text)?;
        parameters.or("service", lookup("PGSERVICE"));
        if let Some(service) = parameters.get("service") {
            return Err(DsnError::UnknownService { service: service.to_owned(), files: Vec::new() });
        }
        parameters.or_environment(lookup)?;
        build(&parameters, None, lookup)
    }

    /// [`Dsn::parse`] with everything libpq would read besides: the name of this process's account, which says more than
    /// `USER`, the service file, the password file and, where they exist, the certificates in `~/.postgresql`.
    ///
    /// # Errors
    /// [`DsnError`], also for a service that no file defines.
    pub fn resolve(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, DsnError> {
        let mut parameters = parse_text(text)?;
        parameters.or("service", lookup("PGSERVICE"));
        if let Some(name) = parameters.get("service") {
            let defined = service::look_up(name, lookup)?;
            parameters.or_all(defined);
        }
        parameters.or_environment(lookup)?;
        let mut dsn = build(&parameters, account_name(), lookup)?;
        let home = lookup("HOME").map(PathBuf::from);
        dsn.default_certificates(home.as_deref());
        dsn.refuse_default_revocations(home.as_deref())?;
        let given = parameters.get("passfile").map(PathBuf::from);
        dsn.passfile.clone_from(&given);
        if let Some(path) = given.or_else(|| home.map(|home| home.join(".pgpass"))) {
            passfile::fill(&mut dsn, &path);
        }
        Ok(dsn)
    }

    /// [`Dsn::resolve`] with the environment of this process.
    ///
    /// # Errors
    /// As [`Dsn::resolve`].
    pub fn from_environment(text: &str) -> Result<Self, DsnError> {
        Self::resolve(text, &|name| std::env::var(name).ok())
    }

    /// libpq would read them where it checks the server's certificate by a file of authorities.
    fn refuse_default_revocations(&self, home: Option<&Path>) -> Result<(), DsnError> {
        let checks = self.ssl.mode != SslMode::Disable
            && matches!(self.ssl.root, Some(RootCertificates::File(_)))
            && self.hosts.iter().any(|host| matches!(host.address, HostAddress::Tcp { .. }));
        if checks && home.is_some_and(|home| home.join(".postgresql").join("root.crl").exists()) {
            return Err(DsnError::Unsupported {
                option: "~/.postgresql/root.crl",
                reason: "revocation lists are not checked; move the file away, or trust another root certificate instead",
            });
        }
        Ok(())
    }

    fn default_certificates(&mut self, home: Option<&Path>) {
        let existing = |name: &str| {
            let file = home?.join(".postgresql").join(name);
            file.exists().then_some(file)
        };
        let ssl = &mut self.ssl;
        ssl.root = ssl.root.take().or_else(|| existing("root.crt").map(RootCertificates::File));
        if ssl.certificate.is_none() && ssl.key.is_none() {
            ssl.certificate = existing("postgresql.crt");
            ssl.key = ssl.certificate.as_ref().and_then(|_| existing("postgresql.key"));
        }
    }
}

/// The name of the account this process runs as, which is whom libpq logs in as. Accounts that are elsewhere than in
/// `/etc/passwd` have none here.
fn account_name() -> Option<String> {
    let uid = rustix::process::geteuid().as_raw().to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(uid.as_str()))?;
    line.split(':').next().map(str::to_owned)
}

fn parse_text(text: &str) -> Result<Parameters, DsnError> {
    // It would end a value in the protocol, and what stands behind it would be another.
    if let Some(at) = text.chars().position(|c| c == '\0') {
        let (problem, hint) = ("a zero byte is not allowed", "leave it out");
        return Err(DsnError::Malformed { at: at + 1, problem, hint });
    }
    let scheme = ["postgresql://", "postgres://"].into_iter().find(|scheme| text.starts_with(scheme));
    match scheme {
        Some(scheme) => uri::parse(text, scheme.len()),
        None => keyword::parse(text),
    }
}

fn build(
    parameters: &Parameters,
    account: Option<String>,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Dsn, DsnError> {
    let given = parameters.get("user").map(str::to_owned);
    let said = || lookup("USER").or_else(|| lookup("LOGNAME"));
    let user = given.or(account).or_else(said).ok_or(DsnError::NoUser)?;
    refuse_gss(parameters)?;
    let own = |name: &str| parameters.get(name).map(str::to_owned);
    Ok(Dsn {
        hosts: hosts(parameters)?,
        password: own("password").map(Password::new),
        passfile: None,
        database: own("dbname").unwrap_or_else(|| user.clone()),
        ssl: ssl(parameters)?,
        connect_timeout: connect_timeout(parameters)?,
        application_name: own("application_name").or_else(|| own("fallback_application_name")),
        options: own("options"),
        target: choice(parameters, "target_session_attrs", TARGETS)?,
        channel_binding: choice(parameters, "channel_binding", CHANNEL_BINDINGS)?,
        scram_only: false,
        user,
    })
}

fn refuse_gss(parameters: &Parameters) -> Result<(), DsnError> {
    match parameters.get("gssencmode") {
        Some("require") => Err(DsnError::Unsupported {
            option: "gssencmode",
            reason: "GSSAPI encryption is not implemented; use sslmode=verify-full",
        }),
        _ => Ok(()),
    }
}

fn hosts(parameters: &Parameters) -> Result<Vec<Host>, DsnError> {
    let names = list(parameters, "host");
    let addresses = list(parameters, "hostaddr");
    let ports = list(parameters, "port");
    let count = names.len().max(addresses.len());
    if !addresses.is_empty() && !names.is_empty() && addresses.len() != names.len() {
        return Err(DsnError::UnequalLists {
            hosts: names.len(),
            others: addresses.len(),
            option: "hostaddr",
        });
    }
    if ports.len() > 1 && ports.len() != count.max(1) {
        return Err(DsnError::UnequalLists { hosts: count.max(1), others: ports.len(), option: "port" });
    }
    let mut hosts = Vec::new();
    for i in 0..count.max(1) {
        let port = port(ports.get(i).or(ports.first()).copied().unwrap_or_default())?;
        let name = names.get(i).copied().unwrap_or_default();
        let address = addresses.get(i).copied().unwrap_or_default();
        hosts.extend(ways(name, address)?.into_iter().map(|address| Host { address, port, password: None }));
    }
    Ok(hosts)
}

fn ways(name: &str, address: &str) -> Result<Vec<HostAddress>, DsnError> {
    let address = match address {
        "" => None,
        text => Some(text.parse::<IpAddr>().map_err(|_| DsnError::InvalidValue {
            option: "hostaddr",
            value: text.to_owned(),
            expected: "an IPv4 or IPv6 address",
        })?),
    };
    Ok(match (name, address) {
        ("", None) => SOCKET_DIRECTORIES.iter().map(|dir| HostAddress::Unix(PathBuf::from(dir))).collect(),
        ("", Some(address)) => vec![HostAddress::Tcp { name: address.to_string(), address: Some(address) }],
        (path, None) if path.starts_with('/') => vec![HostAddress::Unix(PathBuf::from(path))],
        (name, address) => vec![HostAddress::Tcp { name: name.to_owned(), address }],
    })
}

fn list<'a>(parameters: &'a Parameters, option: &str) -> Vec<&'a str> {
    parameters.get(option).map(|text| text.split(',').map(str::trim).collect()).unwrap_or_default()
}

fn port(text: &str) -> Result<u16, DsnError> {
    match text {
        "" => Ok(DEFAULT_PORT),
        text => text.parse().ok().filter(|port| *port > 0).ok_or_else(|| DsnError::InvalidValue {
            option: "port",
            value: text.to_owned(),
            expected: "a number from 1 to 65535",
        }),
    }
}

fn ssl(parameters: &Parameters) -> Result<SslSettings, DsnError> {
    let root = parameters.get("sslrootcert").map(|value| match value {
        "system" => RootCertificates::System,
        file => RootCertificates::File(PathBuf::from(file)),
    });
    let mut mode = choice(parameters, "sslmode", SSL_MODES)?;
    if root == Some(RootCertificates::System) {
        // As libpq: trusting every public authority makes sense only with the name checked.
        match parameters.get("sslmode") {
            None | Some("verify-full") => mode = SslMode::VerifyFull,
            Some(weak) => {
                return Err(DsnError::InvalidValue {
                    option: "sslmode",
                    value: weak.to_owned(),
                    expected: "only verify-full together with sslrootcert=system",
                });
            }
        }
    }
    let negotiation = choice(parameters, "sslnegotiation", NEGOTIATIONS)?;
    if negotiation == SslNegotiation::Direct && mode < SslMode::Require {
        return Err(DsnError::Unsupported {
            option: "sslnegotiation",
            reason: "direct needs sslmode=require or stronger",
        });
    }
    let file = |name: &str| parameters.get(name).map(PathBuf::from);
    Ok(SslSettings { mode, root, certificate: file("sslcert"), key: file("sslkey"), negotiation })
}

/// libpq: zero or negative is forever, 1 is rounded up to 2 seconds.
fn connect_timeout(parameters: &Parameters) -> Result<Option<Duration>, DsnError> {
    let Some(text) = parameters.get("connect_timeout") else { return Ok(Some(DEFAULT_CONNECT_TIMEOUT)) };
    let seconds: i32 = text.trim().parse().map_err(|_| DsnError::InvalidValue {
        option: "connect_timeout",
        value: text.to_owned(),
        expected: "a whole number of seconds, 0 for no limit",
    })?;
    Ok(u64::try_from(seconds).ok().filter(|s| *s > 0).map(|s| Duration::from_secs(s.max(2))))
}

/// The words of an option, what they mean, and the list for the error message.
pub(super) struct Choice<T: 'static>(pub(super) &'static [(&'static str, T)], &'static str);

pub(super) const SSL_MODES: Choice<SslMode> = Choice(
    &[
        ("disable", SslMode::Disable),
        ("allow", SslMode::Allow),
        ("prefer", SslMode::Prefer),
        ("require", SslMode::Require),
        ("verify-ca", SslMode::VerifyCa),
        ("verify-full", SslMode::VerifyFull),
    ],
    "disable, allow, prefer, require, verify-ca or verify-full",
);

pub(super) const TARGETS: Choice<TargetSession> = Choice(
    &[
        ("any", TargetSession::Any),
        ("read-write", TargetSession::ReadWrite),
        ("read-only", TargetSession::ReadOnly),
        ("primary", TargetSession::Primary),
        ("standby", TargetSession::Standby),
        ("prefer-standby", TargetSession::PreferStandby),
    ],
    "any, read-write, read-only, primary, standby or prefer-standby",
);

pub(super) const CHANNEL_BINDINGS: Choice<ChannelBindingMode> = Choice(
    &[
        ("disable", ChannelBindingMode::Disable),
        ("prefer", ChannelBindingMode::Prefer),
        ("require", ChannelBindingMode::Require),
    ],
    "disable, prefer or require",
);

pub(super) const NEGOTIATIONS: Choice<SslNegotiation> = Choice(
    &[("postgres", SslNegotiation::Postgres), ("direct", SslNegotiation::Direct)],
    "postgres or direct",
);

impl<T: Copy + PartialEq> Choice<T> {
    /// The word for a value.
    pub(super) fn word(&self, value: T) -> &'static str {
        let found = self.0.iter().find(|(_, known)| *known == value);
        found.map(|(word, _)| *word).expect("every value of an option has its word in the list")
    }
}

fn choice<T: Copy + Default>(
    parameters: &Parameters,
    option: &'static str,
    choice: Choice<T>,
) -> Result<T, DsnError> {
    let Some(value) = parameters.get(option) else { return Ok(T::default()) };
    let found = choice.0.iter().find(|(word, _)| *word == value).map(|(_, meaning)| *meaning);
    found.ok_or_else(|| DsnError::InvalidValue { option, value: value.to_owned(), expected: choice.1 })
}
