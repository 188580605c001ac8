//! What the user wants of us: every setting from every place, understood once.
//!
//! flags, environment, `.env`, JSON ([`Sources`], read at the edge) -> one text and origin for each
//! [`Setting`] -> [`Configuration`], typed and checked. Nothing else in the product reads the environment.
//!
//! Invariants: what was found and not named is of this user or of root ([`owner`]); an empty value counts as unset; a password or token is shown by no value, error or report here;
//! an address that others can reach has a token.

mod address;
mod error;
mod json;
mod layers;
mod layout;
mod owner;
mod report;
mod setting;
mod sources;
mod tls;
mod token;

use std::path::PathBuf;

use ptr_postgres::Dsn;

pub use address::Address;
pub use error::ConfigurationError;
pub use layers::Origin;
pub(crate) use layout::database_of;
pub use layout::{DATA_DIRECTORY_NAME, DataDirectory, find_data_directory};
pub use report::{ConfigurationReport, SettingReport};
pub use setting::Setting;
pub use sources::{FileText, Flags, Sources};
pub use tls::TlsFiles;
pub use token::ApiToken;

use layers::Layers;

/// The database of embedded servers, the one that the quick start's examples name.
pub const EMBEDDED_DATABASE: &str = "testdb";

/// The slot and the publication when none is named.
pub const DEFAULT_SLOT: &str = "postgres_test_replay";

/// What keyframes may take when nothing is said.
const DEFAULT_KEYFRAME_BUDGET: &str = "2GB";

/// Everything that can be set, typed and checked. What could not be understood never gets this far.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// The captured server; `None` means an embedded one.
    pub input: Option<Dsn>,
    /// The server that replays; `None` means an embedded one.
    pub output: Option<Dsn>,
    /// The captured databases of the input server; the first is the default. Never empty.
    pub databases: Vec<String>,
    /// Where the API listens.
    pub address: Address,
    /// What requests must carry; always there when the address is not loopback.
    pub token: Option<ApiToken>,
    /// Certificate and key of the API; `None` speaks HTTP without TLS.
    pub tls: Option<TlsFiles>,
    /// The slot of the first database; others have their name behind it.
    pub slot: String,
    /// The publication, one for each captured database by the same name.
    pub publication: String,
    /// Where `pg_dump`, `initdb` and the others are, when the user says so.
    pub program_directory: Option<PathBuf>,
    /// Whether set-up may give tables REPLICA IDENTITY FULL.
    pub replica_identity: ReplicaIdentityPolicy,
    /// Tables, as `schema.table`, that keep their replica identity whatever the policy.
    pub excluded_tables: Vec<String>,
    /// Bytes that the keyframes and spares of one captured database may have on the output server, CREATION's aside.
    pub keyframe_budget: u64,
    /// Bytes of WAL that a slot may keep on the primary before it is dropped; none drops it never.
    pub slot_limit: Option<u64>,
    /// How old what is captured may become before a running service lets it go, as it is written; none keeps it.
    pub retain_age: Option<String>,
    /// How large the log of a captured database may become before its oldest part goes; none keeps it.
    pub retain_bytes: Option<u64>,
    /// Where everything is kept.
    pub data: DataDirectory,
    /// Whether the user agreed to lose what OUTPUT_DSN's database holds (`--yes`). Given on the command line only.
    pub consent: bool,
    /// Each setting with its origin, redacted, for `config show`.
    pub settings: Vec<SettingReport>,
    /// What was found and not used, for the user to read.
    pub warnings: Vec<String>,
}

/// What set-up does to the replica identities of tables on the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplicaIdentityPolicy {
    /// FULL, wherever it cannot make a statement fail: going back needs old images.
    #[default]
    Full,
    /// As the user left them.
    Leave,
}

impl Configuration {
    /// Understands the sources. Reads no file but those that a DSN names (service and password file).
    ///
    /// # Errors
    /// [`ConfigurationError`], which names the setting and its origin.
    pub fn resolve(sources: &Sources) -> Result<Self, ConfigurationError> {
        let mut layers = Layers::of(sources)?;
        let lookup = |name: &str| sources.environment.get(name).cloned();
        let input = layers.parsed(Setting::InputDsn, |text| Dsn::resolve(text, &lookup))?;
        let output = layers.parsed(Setting::OutputDsn, |text| Dsn::resolve(text, &lookup))?;
        let address = address::resolve(&layers)?;
        let token = layers.parsed(Setting::ApiToken, ApiToken::parse)?;
        if token.is_none() && !address.is_loopback() {
            return Err(ConfigurationError::TokenMissing { address: address.to_string() });
        }
        let tls = tls::resolve(&layers)?;
        let databases = databases(&layers, input.as_ref());
        let data = layout::resolve(&layers, sources)?;
        layers.fill_defaults(&data, &databases);
        Ok(Self {
            address,
            token,
            tls,
            slot: layers.parsed(Setting::ReplicationSlot, slot_name)?.unwrap_or_else(|| DEFAULT_SLOT.into()),
            publication: layers.text(Setting::PublicationName).unwrap_or(DEFAULT_SLOT).to_owned(),
            program_directory: layers.path(Setting::PgBin),
            replica_identity: layers.parsed(Setting::ReplicaIdentity, policy)?.unwrap_or_default(),
            excluded_tables: layers.list(Setting::ExcludeTables),
            slot_limit: layers.parsed(Setting::SlotLimit, limit)?,
            retain_age: layers.parsed(Setting::RetainAge, |text| age(text).map(|_| text.to_owned()))?,
            retain_bytes: layers.parsed(Setting::RetainBytes, bytes)?,
            keyframe_budget: layers.parsed(Setting::KeyframeBudget, bytes)?.unwrap_or_default(),
            consent: false,
            settings: report::settings(&layers, input.as_ref(), output.as_ref()),
            warnings: layers.warnings,
            input,
            output,
            databases,
            data,
        })
    }

    /// Reads the sources from where they are and understands them.
    ///
    /// # Errors
    /// As [`Sources::read`] and [`Configuration::resolve`].
    pub fn load(flags: &Flags) -> Result<Self, ConfigurationError> {
        Self::resolve(&Sources::read(flags)?)
    }

    /// The database that is meant where none is named.
    #[must_use]
    pub fn default_database(&self) -> &str {
        self.databases.first().map_or(EMBEDDED_DATABASE, String::as_str)
    }

    /// What `config show` and `GET /api/config` answer.
    #[must_use]
    pub fn report(&self) -> ConfigurationReport {
        report::report(self)
    }
}

fn databases(layers: &Layers, input: Option<&Dsn>) -> Vec<String> {
    let mut named = layers.list(Setting::InputDatabases);
    if named.is_empty() {
        named.push(input.map_or(EMBEDDED_DATABASE, Dsn::database).to_owned());
    }
    let mut databases: Vec<String> = Vec::new();
    named.into_iter().for_each(|name| {
        if !databases.contains(&name) {
            databases.push(name);
        }
    });
    databases
}

fn slot_name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if text.chars().all(allowed) && text.len() <= 63 {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} cannot name a slot; use lower-case letters, digits and _, at most 63 of them"))
}

/// Microseconds of an age: a number and `d`, `h` or `m`.
pub(crate) fn age(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?} is no age; write a number and d, h or m: 30d, 12h, 45m");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds: i64 = match unit {
        'd' => 86_400,
        'h' => 3_600,
        'm' => 60,
        _ => return Err(wrong()),
    };
    let count: i64 = text[..text.len() - unit.len_utf8()].trim().parse().map_err(|_| wrong())?;
    let age = count.checked_mul(seconds).and_then(|age| age.checked_mul(1_000_000));
    age.filter(|age| *age >= 0).ok_or_else(wrong)
}

/// What a slot may keep at least: less than a WAL file would let go a slot that is in good order.
const SMALLEST_SLOT_LIMIT: u64 = 16 << 20;

/// A size at which a slot is given up. None at all is said by leaving it out.
fn limit(text: &str) -> Result<u64, String> {
    let limit = bytes(text)?;
    if limit < SMALLEST_SLOT_LIMIT {
        return Err(format!(
            "{text:?} would drop a slot that is in good order; write 16MB or more, or leave it out for no limit"
        ));
    }
    Ok(limit)
}

/// A number of bytes, written as PostgreSQL does: `500MB`, `2GB`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit: u64 = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1 << 10,
        "mb" => 1 << 20,
        "gb" => 1 << 30,
        "tb" => 1 << 40,
        _ => return Err(format!("{text:?} is no size; write 0, 500MB or 2GB")),
    };
    let number: Option<u64> = text[..digits].parse().ok();
    let bytes = number.and_then(|number| number.checked_mul(unit));
    bytes.ok_or_else(|| format!("{text:?} is no size; write 0, 500MB or 2GB"))
}

fn policy(text: &str) -> Result<ReplicaIdentityPolicy, String> {
    match text.to_ascii_lowercase().as_str() {
        "full" => Ok(ReplicaIdentityPolicy::Full),
        "leave" => Ok(ReplicaIdentityPolicy::Leave),
        _ => Err(format!("{text:?} is neither full nor leave")),
    }
}

#[cfg(test)]
mod tests;
