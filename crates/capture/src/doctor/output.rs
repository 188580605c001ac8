//! The output server: where sessions' databases live.

use ptr_model::OUR_SCHEMA;
use ptr_postgres::{Connection, Dsn, SessionSettings, connect, quote_identifier, sqlstate::SqlState};

use super::{Finding, finding::list, replication::unreachable};
use crate::source::{Doing, SourceError};

/// What the output is checked for.
#[derive(Clone, Debug)]
pub struct OutputOptions {
    /// The replica, with the default session's database.
    pub output: Dsn,
    /// The primary, to see that the two are not one database.
    pub input: Option<Dsn>,
}

/// Everything there is to say about the output.
///
/// Never fails: what cannot be asked is a finding too.
pub async fn check_output(options: &OutputOptions) -> Vec<Finding> {
    let session = SessionSettings::canonical("postgres-test-replay doctor");
    let output = match connect(&options.output, &session).await {
        Ok(output) => output,
        // The database is made when it is needed.
        Err(ptr_postgres::ConnectError::LoginRefused { error, .. })
            if error.sqlstate == SqlState::UNDEFINED_DATABASE =>
        {
            return Vec::new();
        }
        Err(error) => return vec![unreachable("output_connection", "OUTPUT_DSN", &error)],
    };
    if output.is_pooled() && !takes_settings(&options.output, &session).await {
        // What else would be found is the pooler's, not the server's.
        return vec![pooler()];
    }
    let checked = async {
        let mut findings = Vec::new();
        findings.extend(replication_role(&output).await?);
        findings.extend(contents(&output).await?);
        findings.extend(in_use(&output).await?);
        if let Some(input) = &options.input {
            findings.extend(same_database(input, &output).await?);
        }
        Ok::<_, SourceError>(findings)
    };
    checked.await.unwrap_or_else(|error| vec![super::unanswered(&error)])
}

/// Whether settings arrive that are given at the login, as `pg_restore` gets them. A proxy that passes everything on and
/// answers only the login itself, as that of Neon, is none that stands in the way.
async fn takes_settings(output: &Dsn, session: &SessionSettings) -> bool {
    let uri = output.to_uri_with_password();
    let (joint, name) = (if uri.contains('?') { '&' } else { '?' }, "postgres_test_replay.probe");
    // With options of the user's own it cannot be tried.
    let Some(tried) = Dsn::parse(&format!("{uri}{joint}options=-c%20{name}%3Darrived"), &|_| None)
        .ok()
        .filter(|_| output.options().is_none())
    else {
        return false;
    };
    let Ok(connection) = connect(&tried, session).await else { return false };
    let asked = connection.query_one("SELECT pg_catalog.current_setting($1, true)", &[&name]).await;
    asked.is_ok_and(|row| row.get::<_, Option<&str>>(0) == Some("arrived"))
}

/// Sessions of ours are renamed databases, temporary tables, settings and locks that last as long as a connection, and
/// databases that the pooler has never heard of.
fn pooler() -> Finding {
    Finding::error("pooler", "OUTPUT_DSN leads to a pooler, not to the server itself")
        .means(
            "replay makes, renames and drops databases, and keeps settings, temporary tables and locks in its connections: \
             a pooler knows only the databases of its configuration, and shares or keeps the connections",
        )
        .fix("set OUTPUT_DSN to the server's own port (5432), not the pooler's (6432 or 6543)")
}

/// Settings that keep what is on the replica from acting a second time, with the version that has them.
const SILENCING: [(&str, &str, i32); 2] =
    [("session_replication_role", "replica", 0), ("event_triggers", "off", 170_000)];

async fn replication_role(output: &Connection) -> Result<Option<Finding>, SourceError> {
    let question = "SELECT current_user::text, pg_catalog.current_setting('server_version_num')::int4";
    let row = output.query_one(question, &[]).await.doing(|| "asking the output who we are".to_owned())?;
    let (role, version): (String, i32) = (row.get(0), row.get(1));
    let mut refused = Vec::new();
    for (name, value, _) in SILENCING.iter().filter(|(_, _, since)| version >= *since) {
        match output.batch_execute(&format!("SET {name} = {value}; RESET {name}")).await {
            Ok(()) => {}
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => refused.push(*name),
            Err(error) => return Err(error).doing(|| format!("trying to set {name} on the output")),
        }
    }
    if refused.is_empty() {
        return Ok(None);
    }
    let (role, names) = (quote_identifier(&role), refused.join(", "));
    let fix = if version >= 150_000 {
        format!("as a superuser of the output server: GRANT SET ON PARAMETER {names} TO {role}")
    } else {
        format!("as a superuser of the output server: ALTER ROLE {role} SUPERUSER")
    };
    Ok(Some(
        Finding::error("session_replication_role", format!("role {role} may not set {names}"))
            .means("replay could not keep triggers and foreign keys from acting a second time")
            .fix(fix),
    ))
}

async fn contents(output: &Connection) -> Result<Option<Finding>, SourceError> {
    let query = "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1),
            ARRAY(SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
                    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                   WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND c.oid >= 16384 AND n.nspname <> $1
                     AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
                   ORDER BY 1)";
    let row = output
        .query_one(query, &[&OUR_SCHEMA])
        .await
        .doing(|| "looking into the output database".to_owned())?;
    let (is_ours, names): (bool, Vec<String>) = (row.get(0), row.get(1));
    let database = output.dsn().database();
    Ok((!is_ours && !names.is_empty()).then(|| {
        Finding::error("output_not_empty", format!("the output database {database:?} is not empty, and not ours"))
            .means(format!("replay would replace what it holds: {}", list(&names)))
            .fix("set OUTPUT_DSN to a database that is empty or does not exist yet, or say --yes to give this one up")
    }))
}

/// Sessions of ours are named with hyphens or underscores; in LIKE an underscore stands for both.
async fn in_use(output: &Connection) -> Result<Option<Finding>, SourceError> {
    let query = "SELECT pg_catalog.format('process %s of %s (%s)', pid, usename, application_name)
        FROM pg_catalog.pg_stat_activity
        WHERE datname = pg_catalog.current_database() AND pid <> pg_catalog.pg_backend_pid()
          AND backend_type = 'client backend' AND application_name NOT LIKE 'postgres_test_replay%'
        ORDER BY pid";
    let rows = output.query(query, &[]).await.doing(|| "asking who uses the output database".to_owned())?;
    let users: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    Ok((!users.is_empty()).then(|| {
        Finding::info(
            "output_in_use",
            format!("others are connected to the output database: {}", list(&users)),
        )
        .means(
            "undo and redo leave them connected; a move by keyframe ends their sessions, and says so before",
        )
        .fix("nothing needs to be done; close them for the fastest moves")
    }))
}

/// Two DSNs can lead to one database by different ways; a lock taken on one side and seen on the other tells.
async fn same_database(input: &Dsn, output: &Connection) -> Result<Option<Finding>, SourceError> {
    let input = connect(input, &SessionSettings::canonical("postgres-test-replay doctor")).await?;
    let doing = || "comparing input and output".to_owned();
    let row = input
        .query_one(
            "SELECT key, pg_catalog.pg_advisory_lock(key)::text
               FROM (SELECT (pg_catalog.random() * 9007199254740992)::int8 AS key) k",
            &[],
        )
        .await
        .doing(doing)?;
    let key: i64 = row.get(0);
    let row = output
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks
              WHERE locktype = 'advisory' AND granted AND objsubid = 1
                AND ((classid::int8 << 32) | objid::int8) = $1
                AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))",
            &[&key],
        )
        .await
        .doing(doing)?;
    let is_same: bool = row.get(0);
    input.close().await;
    Ok(is_same.then(|| {
        Finding::error("same_database", "INPUT_DSN and OUTPUT_DSN are one database")
            .means("replay would change what is captured")
            .fix("set OUTPUT_DSN to another database, best on another server")
    }))
}
