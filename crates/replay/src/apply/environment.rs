//! Under what our session and the primary's statements run.

mod session_words;

use std::collections::BTreeMap;

use ptr_model::Environment;
use ptr_postgres::quote_literal;
use tokio_postgres::Client;

use crate::database::{self, DatabaseError, Doing};
pub(super) use session_words::{unknown_current, with_session_user};

/// Settings that a statement must not bring along: they are about our session, or set otherwise.
const NOT_FROM_THE_LOG: [&str; 4] =
    ["session_replication_role", "role", "session_authorization", "search_path"];

/// Settings of a session that applies: nothing of the replica's own fires or checks twice, text means what it
/// meant on the primary, and a crash loses whole transactions at most, which the cursor knows.
pub(super) async fn prepare_session(client: &Client) -> Result<(), DatabaseError> {
    put_session_settings(client)
        .await
        .doing("prepare the session (session_replication_role needs a superuser, or GRANT SET ON PARAMETER)")
}

/// The same, and the settings of its login again, which a statement's functions may have changed.
pub(super) async fn put_session_settings(client: &Client) -> Result<(), tokio_postgres::Error> {
    let mut settings = database::settings()
        .with("session_replication_role", "replica")
        .with("row_security", "off")
        .with("synchronous_commit", "off")
        .with("xmloption", "content")
        .with("array_nulls", "on")
        .with("check_function_bodies", "off")
        .with("transform_null_equals", "off")
        // Statements are prepared once, for one row and for ten thousand.
        .with("plan_cache_mode", "force_custom_plan")
        .with("client_min_messages", "error");
    let row = client.query_one("SELECT current_setting('server_version_num')::int4", &[]).await?;
    if row.get::<_, i32>(0) >= 170_000 {
        settings = settings.with("event_triggers", "off");
    }
    client.batch_execute(&settings.to_sql()).await
}

/// Whether a statement runs under this setting as it was on the primary; the name in lower case.
fn is_as_it_was(environment: &Environment, setting: &str) -> bool {
    let captured = || environment.settings.keys().any(|name| name.eq_ignore_ascii_case(setting));
    setting == "search_path" || !NOT_FROM_THE_LOG.contains(&setting) && captured()
}

/// Settings as they were before a statement's own.
pub(super) struct Before(BTreeMap<String, String>);

/// Gives the open transaction the settings of a statement, and returns what they were.
pub(super) async fn enter(
    client: &Client,
    environment: &Environment,
) -> Result<Before, tokio_postgres::Error> {
    let mut wanted: BTreeMap<&str, &str> = environment
        .settings
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| !NOT_FROM_THE_LOG.contains(name))
        .collect();
    wanted.insert("search_path", &environment.search_path);
    let names: Vec<&str> = wanted.keys().copied().collect();
    let sql = "SELECT name, current_setting(name, true) FROM unnest($1::text[]) AS wanted(name)";
    let mut before = BTreeMap::new();
    for row in client.query(sql, &[&names]).await? {
        // A setting of another major version does not exist here.
        if let Some(value) = row.get::<_, Option<String>>(1) {
            before.insert(row.get::<_, String>(0), value);
        }
    }
    let known = wanted.into_iter().filter(|(name, _)| before.contains_key(*name));
    client.batch_execute(&set_locally(known)).await?;
    Ok(Before(before))
}

/// Puts back what [`enter`] changed.
pub(super) async fn leave(client: &Client, before: &Before) -> Result<(), tokio_postgres::Error> {
    client
        .batch_execute(&set_locally(before.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))))
        .await
}

fn set_locally<'a>(settings: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let calls: Vec<String> = settings
        .map(|(name, value)| {
            format!("pg_catalog.set_config({}, {}, true)", quote_literal(name), quote_literal(value))
        })
        .collect();
    format!("SELECT {}", calls.join(", "))
}
