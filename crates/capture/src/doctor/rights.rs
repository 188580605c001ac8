//! Who may do what with that which set-up installed.

use ptr_model::OUR_SCHEMA;
use ptr_postgres::{Connection, quote_identifier};

use super::{Finding, finding::list};
use crate::source::{Doing, ServerFacts, SourceError};

pub(super) async fn check(connection: &Connection, facts: &ServerFacts) -> Result<Vec<Finding>, SourceError> {
    let mut findings = Vec::new();
    findings.extend(owner(connection).await?);
    findings.extend(readers(connection).await?);
    findings.extend(dump(connection, facts).await?);
    Ok(findings)
}

/// What the event triggers do only a superuser may, and they do it as their owner.
async fn owner(connection: &Connection) -> Result<Option<Finding>, SourceError> {
    let query = format!(
        "SELECT r.rolname::text FROM pg_catalog.pg_namespace n, pg_catalog.pg_proc p, pg_catalog.pg_roles r
          WHERE n.nspname = '{OUR_SCHEMA}' AND p.pronamespace = n.oid AND p.proname = 'capture'
            AND r.oid = p.proowner AND NOT r.rolsuper"
    );
    let row =
        connection.query_opt(&query, &[]).await.doing(|| "looking for our functions' owner".to_owned())?;
    Ok(row.map(|row| {
        let role = quote_identifier(row.get(0));
        Finding::error(
            "functions_owner",
            format!("role {role} owns the functions of the event triggers, and is no superuser any more"),
        )
        .means(
            "schema changes are not captured, and UPDATE and DELETE on a new table without a primary key fail, because it is \
             published and has no replica identity",
        )
        .fix(format!("ALTER ROLE {role} SUPERUSER; or teardown, then up, with a superuser in INPUT_DSN"))
    }))
}

/// Roles that can read the secret, though nobody was granted that by us.
async fn readers(connection: &Connection) -> Result<Option<Finding>, SourceError> {
    let query = format!(
        "SELECT r.rolname::text
           FROM pg_catalog.pg_roles r, pg_catalog.pg_class c, pg_catalog.pg_namespace n
          WHERE n.nspname = '{OUR_SCHEMA}' AND c.relnamespace = n.oid AND c.relname = 'configuration'
            AND NOT r.rolsuper AND r.rolname !~ '^pg_' AND r.oid <> c.relowner
            AND pg_catalog.has_table_privilege(r.oid, c.oid, 'SELECT')
          ORDER BY r.rolname"
    );
    let rows = connection.query(&query, &[]).await.doing(|| "asking who can read our secret".to_owned())?;
    let readers: Vec<String> = rows.iter().map(|row| quote_identifier(row.get(0))).collect();
    let first = readers.first().cloned();
    Ok(first.map(|first| {
        let title = format!("{} roles can read the secret that signs schema changes", readers.len());
        Finding::info("secret_readers", title)
            .means(format!(
                "with it a message can be made up that replay runs as any role on the output server: {}",
                list(&readers)
            ))
            .fix(format!(
                "nothing, where they may do anything on the output server; else REVOKE pg_read_all_data FROM {first}, or \
                 REVOKE ALL ON {OUR_SCHEMA}.configuration FROM {first}"
            ))
    }))
}

/// `pg_dump` by the database's owner, which locks every table, ours too. Whether it leaves them out cannot be seen, so what is a
/// warning before set-up is no more than good to know after it.
async fn dump(connection: &Connection, facts: &ServerFacts) -> Result<Option<Finding>, SourceError> {
    let query = format!(
        "SELECT r.rolname::text, c.oid IS NOT NULL
           FROM pg_catalog.pg_database d
           JOIN pg_catalog.pg_roles r ON r.oid = d.datdba
           LEFT JOIN (pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace)
             ON n.nspname = '{OUR_SCHEMA}' AND c.relname = 'configuration'
          WHERE d.datname = pg_catalog.current_database() AND NOT r.rolsuper
            AND (c.oid IS NULL OR NOT pg_catalog.has_table_privilege(r.oid, c.oid, 'SELECT'))"
    );
    let row = connection.query_opt(&query, &[]).await.doing(|| "asking who owns the database".to_owned())?;
    let Some((owner, is_there)) = row.map(|row| (row.get::<_, String>(0), row.get::<_, bool>(1))) else {
        return Ok(None);
    };
    let new = match (is_there, facts.is_superuser) {
        (true, _) => Finding::info,
        (false, true) => Finding::warning,
        (false, false) => return Ok(None),
    };
    let owner = quote_identifier(&owner);
    Ok(Some(
        new("owner_dump", format!("pg_dump as {owner}, which owns the database, needs another option"))
            .means(format!(
                "it locks every table, and those of schema {OUR_SCHEMA} only a superuser may read, because one holds the \
                 secret that signs schema changes: without the option such a dump fails (42501) from set-up to teardown"
            ))
            .fix(format!("pg_dump --exclude-schema={OUR_SCHEMA}; or dump as a superuser")),
    ))
}
