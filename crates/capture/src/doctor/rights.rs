//! Who may do what with that which set-up installed.

use ptr_model::OUR_SCHEMA;
use ptr_postgres::{Connection, quote_identifier};

use super::{Finding, finding::list};
use crate::source::{Doing, SourceError};

/// Nothing where our schema is not there.
pub(super) async fn check(connection: &Connection) -> Result<Vec<Finding>, SourceError> {
    let mut findings = Vec::new();
    findings.extend(owner(connection).await?);
    findings.extend(readers(connection).await?);
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
