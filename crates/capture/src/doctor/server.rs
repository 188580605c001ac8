//! Settings of the server, rights of the role, and our own programs.

use ptr_postgres::{Connection, quote_identifier};

use super::Finding;
use crate::source::{Doing, ServerFacts, SourceError, SourceOptions};

pub(super) async fn check(
    connection: &Connection,
    facts: &ServerFacts,
    options: &SourceOptions,
) -> Result<Vec<Finding>, SourceError> {
    let mut findings = Vec::new();
    findings.extend(wal_level(connection, facts).await?);
    findings.extend(recovery(connection).await?);
    findings.extend(superuser(facts));
    findings.extend(pg_dump(facts, options));
    Ok(findings)
}

async fn wal_level(connection: &Connection, facts: &ServerFacts) -> Result<Option<Finding>, SourceError> {
    let query = "SELECT setting, pending_restart FROM pg_catalog.pg_settings WHERE name = 'wal_level'";
    let row = connection.query_one(query, &[]).await.doing(|| "reading wal_level".to_owned())?;
    let (level, is_pending): (String, bool) = (row.get(0), row.get(1));
    if level == "logical" {
        return Ok(None);
    }
    let finding = Finding::error("wal_level", format!("wal_level is {level}, not logical"))
        .means("the server writes no WAL that changes can be read from");
    if is_pending {
        return Ok(Some(finding.fix("the setting is made already: restart the server")));
    }
    let fix = "ALTER SYSTEM SET wal_level = 'logical'; then restart the server. Managed servers have a switch of \
               their own: rds.logical_replication = 1 (RDS, Aurora), cloudsql.logical_decoding = on (Cloud SQL), \
               wal_level = LOGICAL in the portal (Azure)";
    Ok(Some(finding.fix(fix).fixable(facts.is_superuser)))
}

async fn recovery(connection: &Connection) -> Result<Option<Finding>, SourceError> {
    let row = connection
        .query_one("SELECT pg_catalog.pg_is_in_recovery()", &[])
        .await
        .doing(|| "asking whether the server is a standby".to_owned())?;
    let finding = || {
        Finding::error("standby", "the server is a standby")
            .means("neither a publication nor event triggers can be made on it")
            .fix("set INPUT_DSN to its primary")
    };
    Ok(row.get::<_, bool>(0).then(finding))
}

fn superuser(facts: &ServerFacts) -> Vec<Finding> {
    if facts.is_superuser {
        return Vec::new();
    }
    let role = quote_identifier(&facts.user);
    let scope = Finding::warning(
        "all_tables",
        format!("role {role} is no superuser, so it cannot publish all tables"),
    )
    .means("only the tables that it owns are captured, and none that is made later")
    .fix(format!("ask an administrator for a superuser's DSN, or for: ALTER ROLE {role} SUPERUSER"));
    let triggers = Finding::warning(
        "event_triggers",
        format!("role {role} is no superuser, so it cannot make event triggers"),
    )
    .means("schema changes are not captured: replay stops at the first change that needs one")
    .fix(format!("ask an administrator for a superuser's DSN, or for: ALTER ROLE {role} SUPERUSER"));
    vec![scope, triggers]
}

fn pg_dump(facts: &ServerFacts, options: &SourceOptions) -> Option<Finding> {
    let error = options.programs.client_program("pg_dump", facts.version.major).err()?;
    Some(
        Finding::error("pg_dump", format!("no pg_dump for PostgreSQL {}", facts.version.major))
            .means("the base image cannot be taken: pg_dump refuses a server newer than itself")
            .fix(error.to_string()),
    )
}
