//! A statement of the log as a role that cannot leave itself.
//!
//! Our session is logged in as the output role, which is most often a superuser. SET SESSION AUTHORIZATION alone
//! limits nobody: a function that the statement evaluates (a default, a partition's bound) may reset it, and anybody who
//! may connect to the primary may make such a function, in `pg_temp`. In a SECURITY DEFINER function PostgreSQL refuses
//! each way back (`GUC_NOT_WHILE_SEC_REST` in `guc.c`), however deep: so the statement runs in one that belongs to
//! the role. It lives only that long. What the statement's functions set in our session is taken back.
//!
//! Superusers of the output server run as before: they need no way back.

use ptr_model::OUR_SCHEMA;
use ptr_postgres::quote_identifier;
use tokio_postgres::Client;

use super::environment;

/// Whether a statement with this tag can run so. The function's own language cannot be dropped under it; these
/// evaluate nothing.
pub(super) fn fits(tag: &str) -> bool {
    !matches!(tag, "DROP EXTENSION" | "DROP LANGUAGE")
}

/// Whether the role could do everything anyway. One that is not there cannot do anything.
pub(super) async fn is_superuser(client: &Client, role: &str) -> Result<bool, tokio_postgres::Error> {
    let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1 AND rolsuper)";
    Ok(client.query_one(sql, &[&role]).await?.get(0))
}

/// Runs a statement as the role. After an error the transaction, or its savepoint, has to be rolled back.
pub(super) async fn run(client: &Client, role: &str, sql: &str) -> Result<(), tokio_postgres::Error> {
    let role = quote_identifier(role);
    client
        .batch_execute(&format!(
            "CREATE FUNCTION {OUR_SCHEMA}.run_confined(statement pg_catalog.text) RETURNS pg_catalog.void
                 LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN EXECUTE statement; END';
             ALTER FUNCTION {OUR_SCHEMA}.run_confined(pg_catalog.text) OWNER TO {role};
             GRANT USAGE ON SCHEMA {OUR_SCHEMA} TO {role};
             SET LOCAL SESSION AUTHORIZATION {role}"
        ))
        .await?;
    client.execute(&format!("SELECT {OUR_SCHEMA}.run_confined($1)"), &[&sql]).await?;
    client
        .batch_execute(&format!(
            "SET LOCAL SESSION AUTHORIZATION DEFAULT; RESET ALL;
             DROP FUNCTION IF EXISTS {OUR_SCHEMA}.run_confined(pg_catalog.text);
             REVOKE USAGE ON SCHEMA {OUR_SCHEMA} FROM {role}"
        ))
        .await?;
    environment::put_session_settings(client).await
}

/// Whether the server refused the statement itself, and not something inside a function that it evaluated: only then
/// may more rights be lent, else a function could ask for them. What is inside comes first in the error's context.
pub(super) fn refused_itself(error: &tokio_postgres::Error) -> bool {
    let context = error.as_db_error().and_then(|error| error.where_());
    context.is_none_or(|context| context.starts_with("SQL statement \""))
}
