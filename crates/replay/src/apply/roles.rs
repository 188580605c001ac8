//! Roles of the primary's cluster that statements run as and name.
//!
//! Roles belong to the whole output server, so they are only ever added, without login, and reported.

use ptr_model::{RoleDefinition, SchemaChange};
use ptr_postgres::quote_identifier;
use tokio_postgres::Client;

use crate::database::{DatabaseError, Doing};

/// Creates the roles that are missing; returns their names.
pub(crate) async fn create_missing(
    client: &Client,
    roles: &[RoleDefinition],
) -> Result<Vec<String>, DatabaseError> {
    let names: Vec<&str> = roles.iter().map(|role| role.name.as_str()).collect();
    let sql = "SELECT wanted.name FROM pg_catalog.unnest($1::text[]) AS wanted(name)
               WHERE wanted.name <> '' AND NOT EXISTS (
                   SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = wanted.name)";
    let rows = client.query(sql, &[&names]).await.doing("look for the primary's roles")?;
    let missing: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    for name in &missing {
        let sql = format!("CREATE ROLE {} NOLOGIN", quote_identifier(name));
        client.batch_execute(&sql).await.doing_with(|| format!("create role {name} of the primary"))?;
    }
    for role in roles.iter().filter(|role| missing.contains(&role.name)) {
        for group in &role.member_of {
            let sql = format!("GRANT {} TO {}", quote_identifier(group), quote_identifier(&role.name));
            client
                .batch_execute(&sql)
                .await
                .doing_with(|| format!("make {} a member of {group}", role.name))?;
        }
    }
    Ok(missing)
}

/// A role of which nothing but the name is known.
pub(super) fn named(name: &str) -> RoleDefinition {
    RoleDefinition {
        name: name.to_owned(),
        superuser: false,
        inherit: true,
        create_role: false,
        create_db: false,
        bypass_rls: false,
        member_of: Vec::new(),
    }
}

/// Whether the role of a statement was a superuser on the primary then. What earlier versions captured does not say.
pub(super) fn was_superuser(change: &SchemaChange) -> bool {
    change.details.get("superuser").is_some_and(|value| value == true)
}

/// Whether a statement does something else for a superuser, where others are not refused: a superuser grants as the
/// object's owner, and others what they may, with no more than a warning; a superuser owns what the script of a trusted
/// extension makes, which else the server's first superuser does.
pub(super) fn differs_for_superusers(tag: &str) -> bool {
    matches!(tag, "GRANT" | "REVOKE" | "CREATE EXTENSION" | "ALTER EXTENSION")
}

/// Whether the role is no superuser here, and we are one, who can make it one.
pub(super) async fn can_be_lent(client: &Client, role: &str) -> Result<bool, tokio_postgres::Error> {
    let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1 AND NOT rolsuper)
                  AND EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = session_user AND rolsuper)";
    Ok(client.query_one(sql, &[&role]).await?.get(0))
}
