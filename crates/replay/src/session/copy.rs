//! Copying a database on its server, in the way that is cheapest for its size.

use ptr_postgres::quote_identifier;
use tokio_postgres::{Client, error::SqlState};

use super::SessionError;
use crate::{
    database::{self, DatabaseError},
    keyframe,
};

/// From this size on the files are copied, which forces two PostgreSQL checkpoints; below, the pages go through the
/// WAL.
const FILES_FROM: u64 = 200 << 20;

/// Makes database `name` a copy of `template`, to which nobody is connected, and says how large that is.
///
/// From PostgreSQL 18 on large ones share their blocks (reflink), where the file system can.
pub(crate) async fn copy_database(client: &Client, template: &str, name: &str) -> Result<u64, SessionError> {
    let missing = || SessionError::NoTemplate { template: template.to_owned() };
    let bytes = match keyframe::size(client, template).await {
        Err(error) if is_missing(&error.source) => return Err(missing()),
        bytes => bytes?,
    };
    let version = database::server_version(client).await?;
    let failed = |error: tokio_postgres::Error| match is_missing(&error) {
        true => missing(),
        false => DatabaseError::new(format!("make database {name} from {template}"), error).into(),
    };
    let plain = format!("CREATE DATABASE {} TEMPLATE {}", quote_identifier(name), quote_identifier(template));
    if version < 150_000 || bytes < FILES_FROM {
        client.batch_execute(&plain).await.map_err(failed)?;
        return Ok(bytes);
    }
    let files = format!("{plain} STRATEGY FILE_COPY");
    if version >= 180_000 && shares_blocks(client, &files).await {
        return Ok(bytes);
    }
    client.batch_execute(&files).await.map_err(failed)?;
    Ok(bytes)
}

/// Whether the copy was made by sharing blocks. A file system that cannot, or a server built without, refuses and
/// leaves nothing.
async fn shares_blocks(client: &Client, files: &str) -> bool {
    let made = match client.batch_execute("SET file_copy_method = clone").await {
        Ok(()) => client.batch_execute(files).await,
        refused => refused,
    };
    if let Err(error) = &made {
        tracing::debug!(%error, "blocks are not shared; the files are copied");
    }
    // A session that cannot reset a setting cannot copy either, and says so then.
    let _ = client.batch_execute("RESET file_copy_method").await;
    made.is_ok()
}

fn is_missing(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::UNDEFINED_DATABASE)
}
