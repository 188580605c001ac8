//! The base image: the database at the slot's consistent point, where history begins.
//!
//! A folder: `dump/` (pg_dump's directory format), `restore.list` (what of it belongs on a replica, for
//! `pg_restore -L`), `materialized/` (rows of materialised views, which pg_restore would compute anew) and
//! `manifest.json`. Invariant: the folder has its name only when it is complete; until then it ends in
//! `.partial`.

mod describe;
mod dump;
mod hold;
pub mod later;
pub(super) mod manifest;
mod materialized;
mod restore_list;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use ptr_model::Lsn;
use ptr_postgres::{Connection, SessionSettings, connect};

use super::{
    Doing, Progress, ServerFacts, SourceError, SourceOptions, SourceRecord, catalog::tables, record::replace,
};
use crate::sequences::sample_sequences;
use hold::{Holding, hold};
pub use manifest::Manifest;

/// Where history begins, as the slot gave it.
pub(super) struct Beginning {
    pub(super) lsn: Lsn,
    /// The name of the exported snapshot, good as long as the connection that made the slot stays as it is.
    pub(super) snapshot: String,
}

/// What came of taking the base image.
pub(super) enum Taken {
    /// It is there.
    Image(Box<Manifest>),
    /// These tables are not what the snapshot saw, so that it would not be the slot's beginning.
    Overtaken {
        /// Qualified and quoted.
        tables: Vec<String>,
    },
}

/// The folder while it is being written.
pub(super) fn partial(directory: &Path) -> PathBuf {
    let mut name = directory.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    directory.with_file_name(name)
}

/// Takes the base image. `observer` is a session outside the snapshot.
pub(super) async fn take(
    observer: &Connection,
    options: &SourceOptions,
    facts: &ServerFacts,
    record: &SourceRecord,
    beginning: &Beginning,
    progress: &dyn Progress,
) -> Result<Taken, SourceError> {
    let folder = partial(&options.base_directory);
    remove(&folder)?;
    for folder in folder.parent().into_iter().chain([&*folder]) {
        ptr_log::create_private_folder(folder).map_err(SourceError::file(folder))?;
    }

    let connection = in_snapshot(options, &beginning.snapshot).await?;
    let held = match hold(&connection, observer, options, progress).await? {
        Holding::Still(held) => held,
        Holding::Overtaken(tables) => {
            connection.close().await;
            return Ok(Taken::Overtaken { tables });
        }
    };
    let tables = tables(&connection, facts.version).await?;
    let described = describe::database(&connection).await?;
    let sequences = sample_sequences(&connection).await.doing(|| "reading the sequences".to_owned())?;
    let views = materialized::list(&connection).await?;
    let views = materialized::copy(&connection, views, &folder).await?;
    let dumped = dump::run(options, facts, &tables, &beginning.snapshot, &folder, progress).await;
    if let Err(error) = dumped {
        // A server that cannot be asked is told by what failed before.
        let wanted = held.wanted_by_others(observer).await.unwrap_or_default();
        connection.close().await;
        return if wanted.is_empty() { Err(error) } else { Ok(Taken::Overtaken { tables: wanted }) };
    }
    connection.batch_execute("COMMIT").await.doing(|| "leaving the slot's snapshot".to_owned())?;
    connection.close().await;
    restore_list::write(options, facts, &record.publication, &folder).await?;
    if !views.is_empty() {
        sync(&folder.join(materialized::FOLDER))?;
    }

    let manifest = Manifest::new(facts, record, beginning, described, sequences, &tables, views);
    let path = folder.join("manifest.json");
    let json = serde_json::to_vec_pretty(&manifest).expect("a manifest has only string keys");
    replace(&path, &json).map_err(SourceError::file(&path))?;
    // The record says complete once this returns, and then nothing makes the image again.
    let image = &options.base_directory;
    fs::rename(&folder, image)
        .and_then(|()| ptr_log::sync_way_to(image))
        .map_err(SourceError::file(image))?;
    Ok(Taken::Image(Box::new(manifest)))
}

/// A session that sees what the slot saw.
async fn in_snapshot(options: &SourceOptions, snapshot: &str) -> Result<Connection, SourceError> {
    let connection =
        connect(&options.dsn, &SessionSettings::canonical("postgres-test-replay base image")).await?;
    // The name comes from the server: hexadecimal digits and hyphens.
    let snapshot = ptr_postgres::quote_literal(snapshot);
    connection
        .batch_execute(&format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {snapshot}"
        ))
        .await
        .doing(|| "entering the slot's snapshot".to_owned())?;
    Ok(connection)
}

/// Makes the names in a folder durable.
fn sync(folder: &Path) -> Result<(), SourceError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(SourceError::file(folder))
}

/// Removes a folder of ours, if it is there.
pub(super) fn remove(folder: &Path) -> Result<bool, SourceError> {
    match fs::remove_dir_all(folder) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(SourceError::file(folder)(error)),
    }
}
