//! A [`Dsn`] back as text: redacted for people, with the password for `psql`, as environment for
//! child processes (where the process list cannot show the password).

use super::build::{CHANNEL_BINDINGS, NEGOTIATIONS, SSL_MODES, TARGETS};
use super::parameters::{HONOURED, REQUIRE_SSL};
use super::{DEFAULT_CONNECT_TIMEOUT, Dsn, Host, HostAddress, RootCertificates};
use std::fmt;
use std::fmt::Write as _;
use std::process::Command;

impl Dsn {
    /// The whole DSN as a URI, password included. Only for the user who asked for it.
    ///
    /// A password that came from the password file stays there.
    pub fn to_uri_with_password(&self) -> String {
        let password = self.password.as_ref().map(|password| format!(":{}", encode(password.reveal())));
        self.uri(&password.unwrap_or_default())
    }

    fn uri(&self, password: &str) -> String {
        let hosts: Vec<String> = self.hosts.iter().map(Host::to_string).collect();
        let mut uri = format!(
            "postgresql://{}{password}@{}/{}",
            encode(&self.user),
            hosts.join(","),
            encode(&self.database)
        );
        let mut separator = '?';
        for (name, value) in self.options_beyond_the_path() {
            let _ = write!(uri, "{separator}{name}={}", encode(&value));
            separator = '&';
        }
        uri
    }

    /// Options that differ from their defaults, by libpq's names.
    fn options_beyond_the_path(&self) -> Vec<(&'static str, String)> {
        let mut options = Vec::new();
        let mut push = |name, value: Option<String>| options.extend(value.map(|value| (name, value)));
        let path = |path: &std::path::PathBuf| path.display().to_string();
        if self.hosts.iter().any(|host| host.hostaddr().is_some()) {
            push("hostaddr", Some(join(&self.hosts, |host| host.hostaddr().unwrap_or_default())));
        }
        push("sslmode", Some(SSL_MODES.word(self.ssl.mode).to_owned()).filter(|word| word != "prefer"));
        push(
            "sslrootcert",
            self.ssl.root.as_ref().map(|root| match root {
                RootCertificates::System => "system".to_owned(),
                RootCertificates::File(file) => path(file),
            }),
        );
        push("sslcert", self.ssl.certificate.as_ref().map(path));
        push("sslkey", self.ssl.key.as_ref().map(path));
        push("sslnegotiation", word(NEGOTIATIONS.word(self.ssl.negotiation), "postgres"));
        push("channel_binding", word(CHANNEL_BINDINGS.word(self.channel_binding), "prefer"));
        push("target_session_attrs", word(TARGETS.word(self.target), "any"));
        if self.connect_timeout != Some(DEFAULT_CONNECT_TIMEOUT) {
            push("connect_timeout", Some(self.connect_timeout.map_or(0, |t| t.as_secs()).to_string()));
        }
        push("application_name", self.application_name.clone());
        push("options", self.options.clone());
        options
    }

    /// Environment variables with which `pg_dump`, `pg_restore`, `psql` and `pgbench` reach the same
    /// database. Contains the password; see [`Dsn::apply_to`] for the usual way to use it.
    pub fn libpq_environment(&self) -> Vec<(String, String)> {
        let mut variables = vec![
            ("PGHOST".to_owned(), join(&self.hosts, |host| host.name())),
            ("PGPORT".to_owned(), join(&self.hosts, |host| host.port.to_string())),
            ("PGUSER".to_owned(), self.user.clone()),
            ("PGDATABASE".to_owned(), self.database.clone()),
        ];
        variables.extend(self.password_variable());
        if self.scram_only {
            // libpq from 16 on; older ones do not know it.
            variables.push(("PGREQUIREAUTH".to_owned(), "scram-sha-256".to_owned()));
        }
        let beyond = self.options_beyond_the_path();
        for (name, value) in beyond {
            let known =
                HONOURED.iter().find(|(option, _)| *option == name).and_then(|(_, variable)| *variable);
            variables.extend(known.map(|variable| (variable.to_owned(), value)));
        }
        variables
    }

    /// One password goes by the environment. Hosts that have each their own in the password file leave them there for the
    /// child to find: which of the hosts it will reach is not known here.
    fn password_variable(&self) -> Option<(String, String)> {
        let of_hosts = || self.hosts.iter().map(|host| host.password.as_ref());
        let first = of_hosts().next().flatten();
        if self.password.is_none() && of_hosts().any(|password| password != first) {
            let passfile = self.passfile.as_ref();
            return passfile.map(|path| ("PGPASSFILE".to_owned(), path.display().to_string()));
        }
        let password = self.password.as_ref().or(first);
        password.map(|password| ("PGPASSWORD".to_owned(), password.reveal().to_owned()))
    }

    /// Gives a child process [`Dsn::libpq_environment`], and takes away what this process inherited
    /// from its own environment: a stray `PGSERVICE` would lead the child elsewhere.
    pub fn apply_to(&self, command: &mut Command) {
        let inherited = HONOURED.iter().filter_map(|(_, variable)| *variable);
        let others = [REQUIRE_SSL, "PGREQUIREAUTH", "PGSSLCRL", "PGCLIENTENCODING", "PGSYSCONFDIR"];
        inherited.chain(others).for_each(|variable| {
            command.env_remove(variable);
        });
        command.envs(self.libpq_environment());
    }
}

fn word(word: &str, default: &str) -> Option<String> {
    (word != default).then(|| word.to_owned())
}

fn join(hosts: &[Host], part: impl Fn(&Host) -> String) -> String {
    hosts.iter().map(part).collect::<Vec<_>>().join(",")
}

impl Host {
    /// Name, address or socket directory, without the port.
    pub fn name(&self) -> String {
        match &self.address {
            HostAddress::Tcp { name, .. } => name.clone(),
            HostAddress::Unix(path) => path.display().to_string(),
        }
    }

    fn hostaddr(&self) -> Option<String> {
        match &self.address {
            HostAddress::Tcp { address, .. } => address.map(|address| address.to_string()),
            HostAddress::Unix(_) => None,
        }
    }
}

/// `name:port` as in a URI.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            // Brackets are for addresses alone; whatever else has a colon in it is written by its code.
            HostAddress::Tcp { name, .. } if name.parse::<std::net::Ipv6Addr>().is_ok() => {
                write!(f, "[{name}]:{}", self.port)
            }
            HostAddress::Tcp { name, .. } => write!(f, "{}:{}", encode(name), self.port),
            HostAddress::Unix(path) => write!(f, "{}:{}", encode(&path.display().to_string()), self.port),
        }
    }
}

impl fmt::Display for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri(""))
    }
}

impl serde::Serialize for Dsn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Percent-encodes all but RFC 3986's unreserved characters.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte))
            }
            byte => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}
