//! Our schema and event triggers on the primary; their SQL is in `sql/`.

use ptr_model::OUR_SCHEMA;
use ptr_postgres::{Connection, OWNERS, QualifiedName, ServerVersion, quote_identifier, quote_literal};
use sha2::{Digest, Sha256};

use super::{
    Doing, NotedIdentity, Progress, ServerFacts, SetupEvent, SourceError, SourceOptions, SourceRecord, Step,
    identity::exceptions_sql,
};
use crate::ddl::Secret;

const SCHEMA: &str = include_str!("../../sql/schema.sql");
const FUNCTIONS: &[&str] = &[
    include_str!("../../sql/seal.sql"),
    include_str!("../../sql/describe.sql"),
    include_str!("../../sql/message.sql"),
    include_str!("../../sql/rows.sql"),
    include_str!("../../sql/identity.sql"),
    include_str!("../../sql/publication.sql"),
    include_str!("../../sql/capture.sql"),
    include_str!("../../sql/rights.sql"),
];
const TRIGGERS: &str = include_str!("../../sql/event_triggers.sql");

/// Functions that earlier versions made and this one does not have.
const GONE: &[&str] = &["before_unlogged()", "remember_identity(oid[])"];

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

/// Tells the event triggers of further tables what identity the user wants for them.
pub(super) async fn want_identities(
    connection: &Connection,
    noted: &[NotedIdentity],
) -> Result<(), SourceError> {
    let doing = || "noting what identities tables had".to_owned();
    connection.batch_execute(&wanted_sql(noted)).await.doing(doing)
}

fn wanted_sql(noted: &[NotedIdentity]) -> String {
    let mut sql = String::new();
    for noted in noted.iter().filter(|noted| noted.identity != 'd') {
        let index = noted.index.as_deref().map_or_else(|| "NULL".to_owned(), quote_literal);
        sql.push_str(&format!(
            "INSERT INTO {OUR_SCHEMA}.wanted_identity VALUES ({}, '{}', {index})
             ON CONFLICT (relation) DO UPDATE SET identity = excluded.identity, index_name = excluded.index_name;\n",
            noted.oid, noted.identity
        ));
    }
    sql
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
         INSERT INTO {OUR_SCHEMA}.configuration (secret, replica_identity, excluded, publication)
         SELECT encode(sha256(convert_to(concat(gen_random_uuid(), gen_random_uuid(), gen_random_uuid()), 'UTF8')), 'hex'),
                {replica_identity}, ARRAY[{excluded}]::text[], {publication};\n"
    );
    script.push_str(&wanted_sql(noted));
    let functions = functions();
    script.push_str(&functions);
    script.push_str(&marked(&functions));
    script.push_str(TRIGGERS);
    script
}

/// The functions and who may run them, wherever our schema is.
fn functions() -> String {
    // Says who owns what after a DROP OWNED: REASSIGN OWNED, which mostly comes before it, fires no event.
    let mut script = format!(
        "CREATE OR REPLACE FUNCTION {OUR_SCHEMA}.describe_owners() RETURNS json LANGUAGE sql STABLE AS $$
             SELECT json_agg(json_build_array(type, identity, owner)) FROM ({OWNERS}) owners $$;\n"
    );
    FUNCTIONS
        .iter()
        .for_each(|part| script.push_str(&part.replace("\n:canonical_settings\n", CANONICAL_SETTINGS)));
    script
}

/// Notes on the server which functions these are.
fn marked(functions: &str) -> String {
    format!("COMMENT ON FUNCTION {OUR_SCHEMA}.on_event() IS '{}';\n", mark(functions))
}

/// Tells the functions of one version of this program from those of another.
fn mark(functions: &str) -> String {
    let digest = Sha256::digest(functions.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Replaces the functions that an earlier version made, while the user's DDL goes on: each statement runs the earlier ones or
/// these, and is captured. They keep their OIDs, because sessions have plans that call them, and so their signatures: one
/// that needs another is made beside it. What cannot be replaced is said, and capture goes on with what is there.
pub(super) async fn bring_up_to_date(
    connection: &Connection,
    facts: &ServerFacts,
    record: &SourceRecord,
    progress: &dyn Progress,
) {
    if !record.began(Step::Triggers) || !facts.is_superuser {
        return;
    }
    if let Err(error) = replace_functions(connection, progress).await {
        let text = format!(
            "the functions of the event triggers are an earlier version's, and were not replaced: {error}; run up again, or \
             teardown, then up"
        );
        progress.report(SetupEvent::Warning { text });
    }
}

async fn replace_functions(connection: &Connection, progress: &dyn Progress) -> Result<(), SourceError> {
    if let OurSchema::Others { owner } = installed(connection).await?.schema {
        return Err(not_ours(&owner));
    }
    let functions = functions();
    let query = format!(
        "SELECT pg_catalog.obj_description(pg_catalog.to_regprocedure('{OUR_SCHEMA}.on_event()'), 'pg_proc')"
    );
    let row = connection.query_one(&query, &[]).await.doing(|| "looking for our functions".to_owned())?;
    if row.get::<_, Option<String>>(0).is_some_and(|there| there == mark(&functions)) {
        return Ok(());
    }
    progress.report(SetupEvent::InstallingTriggers);
    unnoticed(connection, &format!("{functions}{}", marked(&functions))).await?;
    let gone: String =
        GONE.iter().map(|name| format!("DROP FUNCTION IF EXISTS {OUR_SCHEMA}.{name};\n")).collect();
    unnoticed(connection, &gone).await
}

/// Runs a script in one transaction, in which our event triggers are off: halfway, the functions do not fit together.
/// Other sessions see them on all the time.
async fn unnoticed(connection: &Connection, script: &str) -> Result<(), SourceError> {
    let alter = |action: &str| -> String {
        let names = EVENT_TRIGGERS.into_iter().map(quote_identifier);
        names.map(|name| format!("ALTER EVENT TRIGGER {name} {action};\n")).collect()
    };
    let script = format!("BEGIN; {}{script}{}COMMIT", alter("DISABLE"), alter("ENABLE ALWAYS"));
    let made = connection.batch_execute(&script).await;
    if made.is_err() {
        connection.batch_execute("ROLLBACK").await.doing(|| "rolling back".to_owned())?;
    }
    made.doing(|| "replacing the functions of the event triggers".to_owned())
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
///
/// # Errors
/// [`SourceError::NotOurs`] where the schema is somebody else's: reading it would run what they put there, with our rights.
pub(crate) async fn mark_as_ours(connection: &Connection) -> Result<(), SourceError> {
    if let OurSchema::Others { owner } = installed(connection).await?.schema {
        return Err(not_ours(&owner));
    }
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
    pub(super) schema: OurSchema,
    pub(super) missing_triggers: Vec<&'static str>,
}

/// Whether a schema of our name is there, whoever made it.
pub(crate) async fn is_there(connection: &Connection) -> Result<bool, SourceError> {
    installed(connection).await.map(|installed| installed.schema != OurSchema::Missing)
}

/// Whose the schema of our name is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum OurSchema {
    /// There is none.
    Missing,
    /// Set-up made it, of this data directory or another.
    Ours,
    /// Whoever may make schemas may call one so. Nothing in it is read or run.
    Others {
        /// Its owner.
        owner: String,
    },
}

/// Set-up makes it as a superuser, and its tables are tables: what a view or a function of somebody else's does, it
/// would do with our rights. Nobody can give a superuser a schema, so that its owner says who made it; and only a
/// superuser can make an event trigger, so that its owner was one when it did, whatever it is by now.
const SCHEMA_OWNER: &str = "SELECT o.rolname::text,
        (o.rolsuper OR o.rolname = current_user OR EXISTS (
            SELECT FROM pg_catalog.pg_event_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.evtfoid
             WHERE t.evtname = ANY ($2::text[]) AND t.evtowner = n.nspowner AND p.pronamespace = n.oid)) AND 2 = (
            SELECT count(*) FROM pg_catalog.pg_class c
             WHERE c.relnamespace = n.oid AND c.relname IN ('configuration', 'wanted_identity')
               AND c.relkind = 'r' AND c.relowner = n.nspowner)
    FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles o ON o.oid = n.nspowner WHERE n.nspname = $1";

/// That the schema of our name is somebody else's.
pub(super) fn not_ours(owner: &str) -> SourceError {
    SourceError::NotOurs {
        what: "schema",
        name: OUR_SCHEMA.to_owned(),
        detail: format!(": {owner:?} made it"),
        hint: format!(
            "if nothing needs it, drop it or give it another name: ALTER SCHEMA {OUR_SCHEMA} RENAME TO ..."
        ),
    }
}

pub(super) async fn installed(connection: &Connection) -> Result<Installed, SourceError> {
    let doing = || "looking for our event triggers".to_owned();
    let found =
        connection.query_opt(SCHEMA_OWNER, &[&OUR_SCHEMA, &EVENT_TRIGGERS.as_slice()]).await.doing(doing)?;
    let schema = match found {
        None => OurSchema::Missing,
        Some(row) if row.get(1) => OurSchema::Ours,
        Some(row) => OurSchema::Others { owner: row.get(0) },
    };
    let rows = connection
        .query(
            "SELECT evtname::text FROM pg_catalog.pg_event_trigger WHERE evtenabled = 'A' AND evtname = ANY ($1::text[])",
            &[&EVENT_TRIGGERS.as_slice()],
        )
        .await
        .doing(doing)?;
    let there: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let missing = EVENT_TRIGGERS.into_iter().filter(|name| !there.iter().any(|t| t == name));
    Ok(Installed { schema, missing_triggers: missing.collect() })
}
