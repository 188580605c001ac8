//! Our schema and event triggers on the primary; their SQL is in `sql/`.

use ptr_model::OUR_SCHEMA;
use ptr_postgres::{Connection, OWNERS, QualifiedName, ServerVersion, quote_literal};

use super::{Doing, NotedIdentity, SourceError, SourceOptions, identity::exceptions_sql};
use crate::ddl::Secret;

const SCHEMA: &str = include_str!("../../sql/schema.sql");
const PARTS: &[&str] = &[
    include_str!("../../sql/seal.sql"),
    include_str!("../../sql/describe.sql"),
    include_str!("../../sql/message.sql"),
    include_str!("../../sql/rows.sql"),
    include_str!("../../sql/identity.sql"),
    include_str!("../../sql/publication.sql"),
    include_str!("../../sql/capture.sql"),
    include_str!("../../sql/event_triggers.sql"),
];

/// Under what our functions put values and expressions into words, whatever the user's settings are: what a line
/// `:canonical_settings` stands for.
const CANONICAL_SETTINGS: &str = "
SET DateStyle = 'ISO' SET IntervalStyle = 'postgres' SET TimeZone = 'UTC' SET extra_float_digits = '3'
SET bytea_output = 'hex' SET lc_monetary = 'C' SET xmloption = 'content'
";

/// Our event triggers.
const EVENT_TRIGGERS: [&str; 5] = [
    "!postgres_test_replay_alter",
    "!postgres_test_replay_start",
    "!postgres_test_replay_rewrite",
    "!postgres_test_replay_drop",
    "!postgres_test_replay_end",
];

/// The names of our event triggers, for whoever copies a database and must leave them out.
#[must_use]
pub fn event_trigger_names() -> &'static [&'static str] {
    &EVENT_TRIGGERS
}

/// Makes our schema and event triggers, in one transaction.
pub(super) async fn install(
    connection: &Connection,
    version: ServerVersion,
    options: &SourceOptions,
    noted: &[NotedIdentity],
) -> Result<Secret, SourceError> {
    let script = script(version, options, noted);
    let made = connection.batch_execute(&format!("BEGIN; {script} COMMIT")).await;
    if made.is_err() {
        connection.batch_execute("ROLLBACK").await.doing(|| "rolling back".to_owned())?;
    }
    made.doing(|| "making the event triggers".to_owned())?;
    secret(connection).await
}

/// Everything but BEGIN and COMMIT. The secret is made by the server, where no log of statements shows it.
fn script(version: ServerVersion, options: &SourceOptions, noted: &[NotedIdentity]) -> String {
    let exceptions = exceptions_sql(version);
    let excluded: Vec<String> =
        options.exclude_tables.iter().map(plain).map(|name| quote_literal(&name)).collect();
    let excluded = excluded.join(", ");
    let replica_identity = options.replica_identity;
    let publication = quote_literal(&options.publication);
    let mut script = format!(
        "{SCHEMA}
         CREATE VIEW {OUR_SCHEMA}.identity_exceptions AS {exceptions};
         REVOKE ALL ON {OUR_SCHEMA}.identity_exceptions FROM PUBLIC;
         INSERT INTO {OUR_SCHEMA}.configuration (secret, replica_identity, excluded, publication)
         SELECT encode(sha256(convert_to(concat(gen_random_uuid(), gen_random_uuid(), gen_random_uuid()), 'UTF8')), 'hex'),
                {replica_identity}, ARRAY[{excluded}]::text[], {publication};\n"
    );
    for noted in noted.iter().filter(|noted| noted.identity != 'd') {
        let index = noted.index.as_deref().map_or_else(|| "NULL".to_owned(), quote_literal);
        script.push_str(&format!(
            "INSERT INTO {OUR_SCHEMA}.wanted_identity VALUES ({}, '{}', {index});\n",
            noted.oid, noted.identity
        ));
    }
    // Says who owns what after a DROP OWNED: REASSIGN OWNED, which mostly comes before it, fires no event.
    script.push_str(&format!(
        "CREATE FUNCTION {OUR_SCHEMA}.describe_owners() RETURNS json LANGUAGE sql STABLE AS $$
             SELECT json_agg(json_build_array(type, identity, owner)) FROM ({OWNERS}) owners $$;
         REVOKE ALL ON FUNCTION {OUR_SCHEMA}.describe_owners() FROM PUBLIC;\n"
    ));
    PARTS
        .iter()
        .for_each(|part| script.push_str(&part.replace("\n:canonical_settings\n", CANONICAL_SETTINGS)));
    script
}

/// As `sql/identity.sql` compares it: unquoted, with a dot.
fn plain(name: &QualifiedName) -> String {
    format!("{}.{}", name.schema, name.name)
}

/// The secret that the event triggers sign with.
pub(super) async fn secret(connection: &Connection) -> Result<Secret, SourceError> {
    let doing = || "reading the secret of the event triggers".to_owned();
    let row = connection
        .query_one(&format!("SELECT secret FROM {OUR_SCHEMA}.configuration"), &[])
        .await
        .doing(doing)?;
    row.get::<_, String>(0).parse().map_err(|_| SourceError::Broken {
        what: "the secret of the event triggers is not the one that set-up made".to_owned(),
        hint: "run teardown, and set up again".to_owned(),
    })
}

/// Makes the event triggers look away from what this session does; nobody without the secret can.
pub(crate) async fn mark_as_ours(connection: &Connection) -> Result<(), SourceError> {
    let statement = format!(
        "SELECT pg_catalog.set_config('{OUR_SCHEMA}.ours', pg_catalog.encode(pg_catalog.sha256(
            pg_catalog.convert_to(pg_catalog.concat(secret, ':ours:', pg_catalog.pg_backend_pid()), 'UTF8')), 'hex'), false)
         FROM {OUR_SCHEMA}.configuration"
    );
    connection
        .query(&statement, &[])
        .await
        .doing(|| "telling the event triggers who we are".to_owned())
        .map(drop)
}

/// What of ours is there: the schema, and the event triggers that are enabled.
pub(super) struct Installed {
    pub(super) schema: bool,
    pub(super) missing_triggers: Vec<&'static str>,
}

pub(super) async fn installed(connection: &Connection) -> Result<Installed, SourceError> {
    let doing = || "looking for our event triggers".to_owned();
    let schema = connection
        .query_one("SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)", &[&OUR_SCHEMA])
        .await
        .doing(doing)?;
    let rows = connection
        .query(
            "SELECT evtname::text FROM pg_catalog.pg_event_trigger WHERE evtenabled = 'A' AND evtname = ANY ($1::text[])",
            &[&EVENT_TRIGGERS.as_slice()],
        )
        .await
        .doing(doing)?;
    let there: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let missing = EVENT_TRIGGERS.into_iter().filter(|name| !there.iter().any(|t| t == name));
    Ok(Installed { schema: schema.get(0), missing_triggers: missing.collect() })
}
