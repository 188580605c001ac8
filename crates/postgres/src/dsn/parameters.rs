//! The options of a connection string before defaults: which exist, which we honour, ignore or refuse.
//!
//! An option is ignored only where ignoring it cannot make a connection weaker or reach another
//! server than libpq would reach; all others are refused by name.

use super::error::DsnError;
use std::collections::BTreeMap;

/// Options with the environment variable that is their default.
pub(super) const HONOURED: &[(&str, Option<&str>)] = &[
    ("application_name", Some("PGAPPNAME")),
    ("channel_binding", Some("PGCHANNELBINDING")),
    ("connect_timeout", Some("PGCONNECT_TIMEOUT")),
    ("dbname", Some("PGDATABASE")),
    ("fallback_application_name", None),
    ("gssencmode", Some("PGGSSENCMODE")),
    ("host", Some("PGHOST")),
    ("hostaddr", Some("PGHOSTADDR")),
    ("options", Some("PGOPTIONS")),
    ("passfile", Some("PGPASSFILE")),
    ("password", Some("PGPASSWORD")),
    ("port", Some("PGPORT")),
    ("service", Some("PGSERVICE")),
    ("sslcert", Some("PGSSLCERT")),
    ("sslkey", Some("PGSSLKEY")),
    ("sslmode", Some("PGSSLMODE")),
    ("sslnegotiation", Some("PGSSLNEGOTIATION")),
    ("sslrootcert", Some("PGSSLROOTCERT")),
    ("target_session_attrs", Some("PGTARGETSESSIONATTRS")),
    ("user", Some("PGUSER")),
];

/// What libpq still takes for `sslmode=require`.
pub(super) const REQUIRE_SSL: &str = "PGREQUIRESSL";

const IGNORED: &[&str] = &[
    "authtype",
    "client_encoding",
    "gssdelegation",
    "gsslib",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "max_protocol_version",
    "min_protocol_version",
    "replication",
    "sslcertmode",
    "sslcompression",
    "sslsni",
    "tcp_user_timeout",
    "tty",
];

/// Options that we cannot honour, with the environment variable that libpq takes as their default.
const REFUSED: &[(&str, Option<&str>, &str)] = &[
    ("oauth_client_id", None, "OAuth logins are not implemented"),
    ("oauth_client_secret", None, "OAuth logins are not implemented"),
    ("oauth_issuer", None, "OAuth logins are not implemented"),
    ("oauth_scope", None, "OAuth logins are not implemented"),
    ("require_auth", Some("PGREQUIREAUTH"), "leave it out; the server decides how to authenticate"),
    ("requirepeer", Some("PGREQUIREPEER"), "leave it out and protect the socket directory instead"),
    ("scram_client_key", None, "give the password instead"),
    ("scram_server_key", None, "give the password instead"),
    ("ssl_max_protocol_version", Some("PGSSLMAXPROTOCOLVERSION"), "leave it out; TLS 1.2 and 1.3 are used"),
    ("sslcrl", Some("PGSSLCRL"), NO_REVOCATION),
    ("sslcrldir", Some("PGSSLCRLDIR"), NO_REVOCATION),
    ("sslkeylogfile", None, "leave it out"),
    ("sslpassword", None, "decrypt the key first: openssl pkey -in KEY -out PLAIN-KEY"),
];

const NO_REVOCATION: &str = "revocation lists are not checked; trust another root certificate instead";

/// Options by name, before defaults.
#[derive(Debug, Default, Clone)]
pub(super) struct Parameters(BTreeMap<&'static str, String>);

impl Parameters {
    /// Notes an option, checking that we know what to do with it. A later value wins.
    pub(super) fn set(&mut self, name: &str, value: String) -> Result<(), DsnError> {
        if let Some((known, _)) = HONOURED.iter().find(|(known, _)| *known == name) {
            self.0.insert(known, value);
            return Ok(());
        }
        if IGNORED.contains(&name) {
            return Ok(());
        }
        if name == "ssl_min_protocol_version" {
            return minimal_tls("ssl_min_protocol_version", value);
        }
        if let Some((option, _, reason)) = REFUSED.iter().find(|(known, ..)| *known == name) {
            return Err(DsnError::Unsupported { option, reason });
        }
        Err(DsnError::UnknownOption { option: name.to_owned(), similar: similar(name) })
    }

    /// Fills what is not there yet.
    pub(super) fn or(&mut self, name: &'static str, value: Option<String>) {
        if let (false, Some(value)) = (self.0.contains_key(name), value) {
            self.0.insert(name, value);
        }
    }

    /// Fills what is not there yet from other parameters.
    pub(super) fn or_all(&mut self, others: Parameters) {
        others.0.into_iter().for_each(|(name, value)| self.or(name, Some(value)));
    }

    /// Fills what is not there yet from the environment. A variable by which libpq would be more careful than we can be is
    /// refused as its option is.
    pub(super) fn or_environment(&mut self, lookup: &dyn Fn(&str) -> Option<String>) -> Result<(), DsnError> {
        let given = |variable: &str| lookup(variable).filter(|value| !value.is_empty());
        for (name, variable) in HONOURED {
            if let Some(variable) = variable {
                self.or(name, lookup(variable));
            }
        }
        // The variable of old, by its first character, where nothing else says how much TLS is asked for.
        if self.get("sslmode").is_none() && given(REQUIRE_SSL).is_some_and(|value| value.starts_with('1')) {
            self.0.insert("sslmode", "require".to_owned());
        }
        for (_, variable, reason) in REFUSED {
            if let Some(option) = variable.filter(|variable| given(variable).is_some()) {
                return Err(DsnError::Unsupported { option, reason });
            }
        }
        let variable = "PGSSLMINPROTOCOLVERSION";
        given(variable).map_or(Ok(()), |value| minimal_tls(variable, value))
    }

    /// An option's value; an empty one counts as not given, as in libpq.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// TLS 1.2 is the oldest version we speak, so asking for it or less is granted already.
fn minimal_tls(option: &'static str, value: String) -> Result<(), DsnError> {
    match value.as_str() {
        "" | "TLSv1" | "TLSv1.1" | "TLSv1.2" => Ok(()),
        _ => Err(DsnError::InvalidValue { option, value, expected: "at most TLSv1.2" }),
    }
}

fn similar(name: &str) -> Option<&'static str> {
    let distance = |known: &str| edit_distance(&name.to_ascii_lowercase(), known);
    let known = HONOURED.iter().map(|(known, _)| *known);
    known.map(|known| (distance(known), known)).filter(|(d, _)| *d <= 2).min().map(|(_, known)| known)
}

/// Levenshtein's distance, a row at a time.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, r) in right.iter().enumerate() {
            let cost = (diagonal + usize::from(l != *r)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], cost);
        }
    }
    row[right.len()]
}
