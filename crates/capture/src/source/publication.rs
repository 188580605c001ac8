//! The publication: what the slot streams.

use ptr_postgres::{Connection, QualifiedName, ServerVersion, quote_identifier, quote_literal};
use uuid::Uuid;

use super::{Doing, SourceError};

/// How our publication's comment begins; the log's id follows.
const COMMENT: &str = "postgres-test-replay ";

/// What a publication streams.
pub(super) enum Scope {
    /// All tables, also those made later. Needs a superuser.
    AllTables,
    /// These only.
    Tables(Vec<QualifiedName>),
}

/// What is known of a publication that is there.
pub(super) struct Publication {
    pub(super) is_ours: bool,
    pub(super) owner: String,
}

pub(super) async fn find(connection: &Connection, name: &str) -> Result<Option<Publication>, SourceError> {
    let query = "SELECT coalesce(pg_catalog.obj_description(oid, 'pg_publication'), ''), pg_catalog.pg_get_userbyid(pubowner)::text
        FROM pg_catalog.pg_publication WHERE pubname = $1";
    let row = connection
        .query_opt(query, &[&name])
        .await
        .doing(|| format!("looking for the publication {name:?}"))?;
    Ok(row
        .map(|row| Publication { is_ours: row.get::<_, String>(0).starts_with(COMMENT), owner: row.get(1) }))
}

/// Whether a publication of this name is there.
pub(crate) async fn exists(connection: &Connection, name: &str) -> Result<bool, SourceError> {
    Ok(find(connection, name).await?.is_some())
}

/// Makes it, marked as ours by its comment.
pub(super) async fn create(
    connection: &Connection,
    name: &str,
    scope: &Scope,
    version: ServerVersion,
    log_id: Uuid,
) -> Result<(), SourceError> {
    let target = match scope {
        Scope::AllTables => "FOR ALL TABLES".to_owned(),
        Scope::Tables(tables) if tables.is_empty() => String::new(),
        Scope::Tables(tables) => {
            let tables: Vec<String> = tables.iter().map(QualifiedName::to_string).collect();
            format!("FOR TABLE {}", tables.join(", "))
        }
    };
    // Leaves are streamed as themselves, because they are what replay writes to. From 18 on FULL, and so undo,
    // needs stored generated columns in the publication; replay leaves them out again.
    let generated = if version.major >= 18 { ", publish_generated_columns = stored" } else { "" };
    let quoted = quote_identifier(name);
    let comment = quote_literal(&format!("{COMMENT}{log_id}"));
    let statement = format!(
        "BEGIN;
         CREATE PUBLICATION {quoted} {target}
             WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = false{generated});
         COMMENT ON PUBLICATION {quoted} IS {comment};
         COMMIT"
    );
    let made = connection.batch_execute(&statement).await;
    if made.is_err() {
        connection.batch_execute("ROLLBACK").await.doing(|| "rolling back".to_owned())?;
    }
    made.doing(|| format!("CREATE PUBLICATION {quoted} {target}"))
}

pub(super) async fn drop(connection: &Connection, name: &str) -> Result<(), SourceError> {
    let statement = format!("DROP PUBLICATION IF EXISTS {}", quote_identifier(name));
    connection.batch_execute(&statement).await.doing(|| statement.clone())
}
