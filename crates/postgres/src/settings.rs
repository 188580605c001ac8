//! Session settings both ends must agree on.
//!
//! Values cross from the primary to the replica as text. Database-level settings change that text
//! (`0.1 + 0.2` arrives as `0.3`, a time zone changes the key of a row), so every session that reads
//! or writes values uses [`CANONICAL_SETTINGS`].

/// Settings under which one value has one text, on the primary and on the replica.
///
/// They can be sent as startup parameters (`START_REPLICATION` sessions) or with
/// [`SessionSettings::canonical`].
pub const CANONICAL_SETTINGS: &[(&str, &str)] = &[
    ("DateStyle", "ISO"),
    ("IntervalStyle", "postgres"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("TimeZone", "UTC"),
    ("lc_monetary", "C"),
    ("search_path", "pg_catalog"),
    ("quote_all_identifiers", "off"),
];

/// Limits of time that a database, a role or a server may have for its users, those of later versions among them
/// (`transaction_timeout` is 17's). A move, a base image or the decoding of a transaction takes what it takes.
const TIME_LIMITS: [&str; 5] = [
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "transaction_timeout",
];

/// SQL that gives a session what each of ours has, whatever the database, the role or the server has for its users: no
/// limit of time, and the isolation level that our statements are written for.
#[must_use]
pub fn own_settings_sql() -> String {
    let mut calls: Vec<String> = TIME_LIMITS
        .iter()
        .map(|name| {
            format!(
                "CASE WHEN pg_catalog.current_setting('{name}', true) IS NOT NULL \
                 THEN pg_catalog.set_config('{name}', '0', false) END"
            )
        })
        .collect();
    calls.push(call("default_transaction_isolation", "read committed"));
    format!("SELECT {}", calls.join(", "))
}

fn call(name: &str, value: &str) -> String {
    format!("pg_catalog.set_config({}, {}, false)", crate::quote_literal(name), crate::quote_literal(value))
}

/// What a session is called and which settings it gets right after the login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSettings {
    /// `application_name` as `pg_stat_activity` shows it, when the DSN names none.
    pub application_name: String,
    /// Settings in the order in which they are set.
    pub settings: Vec<(String, String)>,
}

impl SessionSettings {
    /// A session with a name and the server's own settings.
    pub fn named(application_name: impl Into<String>) -> Self {
        Self { application_name: application_name.into(), settings: Vec::new() }
    }

    /// A session with a name and [`CANONICAL_SETTINGS`].
    pub fn canonical(application_name: impl Into<String>) -> Self {
        CANONICAL_SETTINGS
            .iter()
            .fold(Self::named(application_name), |all, (name, value)| all.with(name, value))
    }

    /// A session that may write where transactions are read-only unless they ask for more.
    #[must_use]
    pub fn that_writes(self) -> Self {
        self.with("default_transaction_read_only", "off")
    }

    /// Adds a setting; a later one of the same name wins.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// One SQL statement that sets them all, after [`own_settings_sql`].
    ///
    /// `set_config` takes lists (`search_path`) as one string, so a value is never split by us.
    pub fn to_sql(&self) -> String {
        let calls = self.settings.iter().map(|(name, value)| format!(", {}", call(name, value)));
        own_settings_sql() + &calls.collect::<String>()
    }
}

/// Applies [`CANONICAL_SETTINGS`] to a session that is already open.
///
/// # Errors
/// What the server answers, as [`tokio_postgres::Error`].
pub async fn apply_canonical_settings(client: &tokio_postgres::Client) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(&SessionSettings::canonical("").to_sql()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_become_one_statement_with_quoted_values() {
        let session = SessionSettings::named("x").with("search_path", "a, b").with("TimeZone", "O'Clock");
        let own = SessionSettings::named("x").to_sql();
        assert_eq!(
            session.to_sql().strip_prefix(&own),
            Some(
                ", pg_catalog.set_config('search_path', 'a, b', false), \
                 pg_catalog.set_config('TimeZone', 'O''Clock', false)"
            )
        );
    }
}
