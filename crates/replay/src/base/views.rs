//! Rows of materialised views, as the primary had them.
//!
//! A refresh would run the query again, with other results (`random()`, `now()`, rows that came since). No
//! statement writes rows to a materialised view, so for the time of a COPY it is an ordinary table in the
//! catalog; the change is never seen outside the transaction.

use std::path::Path;

use futures_util::SinkExt;
use ptr_postgres::{QualifiedName, quote_identifier, quote_literal};
use tokio::io::AsyncReadExt;
use tokio_postgres::Client;

use super::{BaseError, CapturedView};
use crate::database::Doing;

/// Bytes read and sent at once.
const PART: usize = 256 << 10;

/// Loads the captured rows of one view.
pub(super) async fn load(client: &Client, view: &CapturedView, directory: &Path) -> Result<(), BaseError> {
    let name = QualifiedName::new(&view.schema, &view.name);
    let doing = || format!("load the rows of materialised view {name}");
    client.batch_execute(&format!("BEGIN; {}", as_table(&name))).await.doing_with(doing)?;
    if !view.columns.is_empty() {
        let columns: Vec<String> = view.columns.iter().map(|column| quote_identifier(column)).collect();
        let sql = format!("COPY {name} ({}) FROM STDIN", columns.join(", "));
        copy_file(client, &sql, &directory.join(&view.file), &doing).await?;
    }
    client.batch_execute(&format!("{}; COMMIT", as_view(&name))).await.doing_with(doing)?;
    Ok(())
}

/// Makes a materialised view a table for the rest of the transaction, or until [`as_view`].
pub(crate) fn as_table(view: &QualifiedName) -> String {
    become_kind(view, "r")
}

/// Makes it a materialised view again, one that holds rows.
pub(crate) fn as_view(view: &QualifiedName) -> String {
    become_kind(view, "m")
}

fn become_kind(view: &QualifiedName, kind: &str) -> String {
    format!(
        "UPDATE pg_catalog.pg_class SET relkind = '{kind}', relispopulated = true WHERE oid = {}::regclass",
        quote_literal(&view.to_string())
    )
}

async fn copy_file(
    client: &Client,
    sql: &str,
    path: &Path,
    doing: &(dyn Fn() -> String + Sync),
) -> Result<(), BaseError> {
    let file_error = |source| BaseError::File { path: path.to_owned(), source };
    let mut file = tokio::fs::File::open(path).await.map_err(file_error)?;
    let mut sink = std::pin::pin!(client.copy_in::<_, bytes::Bytes>(sql).await.doing_with(doing)?);
    loop {
        let mut part = bytes::BytesMut::with_capacity(PART);
        if file.read_buf(&mut part).await.map_err(file_error)? == 0 {
            break;
        }
        sink.send(part.freeze()).await.doing_with(doing)?;
    }
    sink.finish().await.doing_with(doing)?;
    Ok(())
}
