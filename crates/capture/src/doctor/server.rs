//! Settings of the server, rights of the role, and our own programs.

use ptr_model::OUR_SCHEMA;
use ptr_postgres::{Connection, quote_identifier, quote_literal};

use super::{Finding, finding::list, standbys::StandbyList};
use crate::source::{Doing, ServerFacts, SourceError, SourceOptions};

pub(super) async fn check(
    connection: &Connection,
    facts: &ServerFacts,
    options: &SourceOptions,
) -> Result<Vec<Finding>, SourceError> {
    let mut findings = Vec::new();
    findings.extend(wal_level(connection, facts).await?);
    findings.extend(recovery(connection).await?);
    findings.extend(synchronous_standby(connection, options).await?);
    findings.extend(superuser(facts));
    findings.extend(event_triggers_off(connection).await?);
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

/// A list of standbys that matches our name: then commits wait for us, who are no standby.
async fn synchronous_standby(
    connection: &Connection,
    options: &SourceOptions,
) -> Result<Option<Finding>, SourceError> {
    let ours = options.dsn.application_name().unwrap_or(OUR_SCHEMA);
    // Walsenders that read a slot by logical decoding are no standbys either.
    let query = "SELECT pg_catalog.current_setting('synchronous_standby_names'),
        ARRAY(SELECT DISTINCT r.application_name FROM pg_catalog.pg_stat_replication r
               WHERE r.application_name <> $1 AND r.pid NOT IN (
                     SELECT s.active_pid FROM pg_catalog.pg_replication_slots s
                      WHERE s.slot_type = 'logical' AND s.active_pid IS NOT NULL)
               ORDER BY 1)";
    let row = connection
        .query_one(query, &[&ours])
        .await
        .doing(|| "asking which standbys commits wait for".to_owned())?;
    let (setting, standbys): (String, Vec<String>) = (row.get(0), row.get(1));
    let Some(mended) = StandbyList::read(&setting).without(ours, &standbys) else { return Ok(None) };
    let finding = Finding::error("synchronous_standby", format!("synchronous_standby_names counts us among the standbys: {setting}"))
        .means(
            "commits would wait for our copy of the log in place of a standby's, and hang while it cannot be written",
        )
        .fix(format!(
            "list the standbys by their names: ALTER SYSTEM SET synchronous_standby_names = {}; SELECT pg_reload_conf()",
            quote_literal(&mended)
        ));
    Ok(Some(finding))
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

/// Where `event_triggers` is off (17 and newer): then those that are ENABLE ALWAYS do not fire either.
async fn event_triggers_off(connection: &Connection) -> Result<Option<Finding>, SourceError> {
    let query = "SELECT 'the server', 'ALTER SYSTEM SET event_triggers = on; SELECT pg_reload_conf()'
           FROM pg_catalog.pg_settings
          WHERE name = 'event_triggers' AND setting = 'off' AND source NOT IN ('global', 'database', 'user', 'database user', 'client', 'session')
         UNION ALL
         SELECT whom.name, pg_catalog.format('ALTER %s RESET event_triggers', whom.altered)
           FROM pg_catalog.pg_db_role_setting s
           LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
           LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole,
                LATERAL (SELECT CASE WHEN r.oid IS NULL AND d.oid IS NULL THEN 'every role'
                                     WHEN r.oid IS NULL THEN pg_catalog.format('database %I', d.datname)
                                     WHEN d.oid IS NULL THEN pg_catalog.format('role %I', r.rolname)
                                     ELSE pg_catalog.format('role %I in database %I', r.rolname, d.datname) END,
                                CASE WHEN r.oid IS NULL AND d.oid IS NULL THEN 'ROLE ALL'
                                     WHEN r.oid IS NULL THEN pg_catalog.format('DATABASE %I', d.datname)
                                     WHEN d.oid IS NULL THEN pg_catalog.format('ROLE %I', r.rolname)
                                     ELSE pg_catalog.format('ROLE %I IN DATABASE %I', r.rolname, d.datname) END
                        ) AS whom(name, altered)
          WHERE (d.oid IS NULL OR d.datname = pg_catalog.current_database())
            AND EXISTS (SELECT FROM pg_catalog.unnest(s.setconfig) AS one(setting)
                         WHERE one.setting ~* '^event_triggers=' AND NOT pg_catalog.split_part(one.setting, '=', 2)::bool)
          ORDER BY 1";
    let rows = connection
        .query(query, &[])
        .await
        .doing(|| "asking where event triggers are switched off".to_owned())?;
    if rows.is_empty() {
        return Ok(None);
    }
    let whom: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let fixes: Vec<String> = rows.iter().map(|row| row.get(1)).collect();
    Ok(Some(
        Finding::warning("event_triggers_off", format!("event_triggers is off for {}", list(&whom)))
            .means(
                "schema changes of such sessions are not captured, and nothing in the log tells of them: replay stops at the \
                 first row that does not fit, or the replica differs",
            )
            .fix(format!("{}; then let those sessions connect again", fixes.join("; "))),
    ))
}

fn pg_dump(facts: &ServerFacts, options: &SourceOptions) -> Option<Finding> {
    let error = options.programs.client_program("pg_dump", facts.version.major).err()?;
    Some(
        Finding::error("pg_dump", format!("no pg_dump for PostgreSQL {}", facts.version.major))
            .means("the base image cannot be taken: pg_dump refuses a server newer than itself")
            .fix(error.to_string()),
    )
}
