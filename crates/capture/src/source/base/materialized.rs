//! Rows of materialised views: `pg_restore` would compute them anew, with other results (random(), now(), other
//! rows since). `hold` keeps REFRESH away, whose rows an older snapshot would see.

use std::path::Path;

use futures_util::{StreamExt, pin_mut};
use ptr_postgres::{Connection, QualifiedName, quote_identifier};
use tokio::{
    fs::File,
    io::{AsyncWriteExt, BufWriter},
};

use super::{
    super::{Doing, SourceError},
    manifest::MaterializedView,
};

pub(super) const FOLDER: &str = "materialized";

/// Bytes written at a time.
const BUFFER: usize = 1 << 20;

const LIST: &str = "SELECT n.nspname::text, c.relname::text,
        ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
               WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'm' AND c.relispopulated ORDER BY c.oid";

/// The materialised views that hold rows.
pub(super) async fn list(connection: &Connection) -> Result<Vec<MaterializedView>, SourceError> {
    let rows = connection.query(LIST, &[]).await.doing(|| "listing the materialised views".to_owned())?;
    let views = rows.iter().enumerate().map(|(number, row)| MaterializedView {
        schema: row.get(0),
        name: row.get(1),
        columns: row.get(2),
        file: format!("{FOLDER}/{number}.copy"),
    });
    Ok(views.collect())
}

/// Writes their rows, in COPY's text format.
pub(super) async fn copy(
    connection: &Connection,
    views: Vec<MaterializedView>,
    folder: &Path,
) -> Result<Vec<MaterializedView>, SourceError> {
    if !views.is_empty() {
        let path = folder.join(FOLDER);
        ptr_log::create_private_folder(&path).map_err(SourceError::file(&path))?;
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
    // The server sends row by row, and each write of a file is handed to another thread.
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .await
        .map_err(SourceError::file(path))?;
    let mut file = BufWriter::with_capacity(BUFFER, file);
    while let Some(chunk) = rows.next().await {
        let chunk = chunk.doing(|| statement.clone())?;
        file.write_all(&chunk).await.map_err(SourceError::file(path))?;
    }
    file.flush().await.map_err(SourceError::file(path))?;
    file.get_ref().sync_all().await.map_err(SourceError::file(path))
}

fn name(view: &MaterializedView) -> QualifiedName {
    QualifiedName::new(view.schema.clone(), view.name.clone())
}
