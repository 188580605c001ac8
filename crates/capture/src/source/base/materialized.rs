//! Rows of materialised views: `pg_restore` would compute them anew, with other results (random(), now(), other
//! rows since).

use std::path::Path;

use futures_util::{StreamExt, pin_mut};
use ptr_postgres::{Connection, QualifiedName, quote_identifier};
use tokio::{fs::File, io::AsyncWriteExt};

use super::{
    super::{Doing, SourceError},
    manifest::MaterializedView,
};

const FOLDER: &str = "materialized";

const LIST: &str = "SELECT n.nspname::text, c.relname::text,
        ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
               WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'm' AND c.relispopulated ORDER BY c.oid";

/// The materialised views that hold rows, each locked against REFRESH, whose rows an older snapshot would see.
pub(super) async fn list(connection: &Connection) -> Result<Vec<MaterializedView>, SourceError> {
    let rows = connection.query(LIST, &[]).await.doing(|| "listing the materialised views".to_owned())?;
    let views: Vec<MaterializedView> = rows
        .iter()
        .enumerate()
        .map(|(number, row)| MaterializedView {
            schema: row.get(0),
            name: row.get(1),
            columns: row.get(2),
            file: format!("{FOLDER}/{number}.copy"),
        })
        .collect();
    for view in &views {
        let name = name(view);
        // The first statement on a relation locks it until the transaction ends; LOCK TABLE refuses views.
        connection
            .batch_execute(&format!("SELECT FROM {name} LIMIT 0"))
            .await
            .doing(|| format!("locking the materialised view {name}"))?;
    }
    Ok(views)
}

/// Writes their rows, in COPY's text format.
pub(super) async fn copy(
    connection: &Connection,
    views: Vec<MaterializedView>,
    folder: &Path,
) -> Result<Vec<MaterializedView>, SourceError> {
    if !views.is_empty() {
        let path = folder.join(FOLDER);
        std::fs::create_dir_all(&path).map_err(SourceError::file(&path))?;
    }
    for view in &views {
        copy_one(connection, view, &folder.join(&view.file)).await?;
    }
    Ok(views)
}

async fn copy_one(connection: &Connection, view: &MaterializedView, path: &Path) -> Result<(), SourceError> {
    let columns: Vec<String> = view.columns.iter().map(|column| quote_identifier(column)).collect();
    let statement = format!("COPY (SELECT {} FROM {}) TO STDOUT", columns.join(", "), name(view));
    let rows = connection.copy_out(&statement).await.doing(|| statement.clone())?;
    pin_mut!(rows);
    let mut file = File::create(path).await.map_err(SourceError::file(path))?;
    while let Some(chunk) = rows.next().await {
        let chunk = chunk.doing(|| statement.clone())?;
        file.write_all(&chunk).await.map_err(SourceError::file(path))?;
    }
    file.sync_all().await.map_err(SourceError::file(path))
}

fn name(view: &MaterializedView) -> QualifiedName {
    QualifiedName::new(view.schema.clone(), view.name.clone())
}
