//! A base image at a later position than the first one, so that the history can begin there.
//!
//! It is taken of a database of the output server that holds what the primary held at that position, and has the same
//! form. Its files are in a folder of its own inside the base image's, and its manifest takes the place of the other one
//! at once: `manifest.json` names the files that count. Whatever else is there was left by a crash, or is of the image
//! before, and is removed by [`remove_superseded`].

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use ptr_model::Position;
use ptr_postgres::{Connection, Dsn, SessionSettings, connect, programs::Installations};

use super::{
    super::{Doing, Progress, ServerFacts, SourceError, SourceOptions, catalog::tables, record::replace},
    Manifest, describe, dump,
    manifest::Relation,
    materialized, remove, restore_list, sync,
};
use crate::sequences::sample_sequences;

/// What the folder of a later image begins with; the transactions before it follow.
const FOLDER: &str = "from-";

/// What a later base image is taken of.
#[derive(Clone, Debug)]
pub struct LaterImage {
    /// The database: nobody changes it.
    pub database: Dsn,
    /// The position that it is at.
    pub position: Position,
    /// Where `pg_dump` is looked for.
    pub programs: Installations,
    /// The base image's folder.
    pub base_directory: PathBuf,
    /// Our publication, which a replica does not have.
    pub publication: String,
}

impl LaterImage {
    fn folder_name(&self) -> String {
        format!("{FOLDER}{}", self.position.ordinal)
    }

    /// Its folder, which is a base image by itself.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.base_directory.join(self.folder_name())
    }

    /// Takes it; durable when this returns. The history still begins where it did.
    ///
    /// # Errors
    /// [`SourceError`]: the database cannot be read, or the folder not be written.
    pub async fn take(&self, progress: &dyn Progress) -> Result<Manifest, SourceError> {
        let folder = self.folder();
        remove(&folder)?;
        ptr_log::create_private_folder(&folder).map_err(SourceError::file(&folder))?;
        let mut options = SourceOptions::new(
            self.database.clone(),
            self.programs.clone(),
            folder.clone(),
            folder.join("record.json"),
        );
        options.publication.clone_from(&self.publication);
        let (connection, snapshot) = self.in_snapshot().await?;
        let facts = ServerFacts::ask(&connection).await?;
        let tables = tables(&connection, facts.version).await?;
        let (roles, tablespaces) = describe::used(&connection).await?;
        let sequences = sample_sequences(&connection).await.doing(|| "reading the sequences".to_owned())?;
        let views = materialized::list(&connection).await?;
        let views = materialized::copy(&connection, views, &folder).await?;
        dump::run(&options, &facts, &tables, &snapshot, &folder, progress).await?;
        connection.close().await;
        restore_list::write(&options, &facts, &self.publication, &folder).await?;
        let mut manifest = Manifest {
            position: Some(self.position),
            snapshot,
            sequences,
            tables: tables.iter().map(Relation::of).collect(),
            materialized_views: views,
            bytes: tables.iter().map(|table| table.bytes).sum(),
            dump: dump::FOLDER.to_owned(),
            restore_list: restore_list::FILE.to_owned(),
            // A replica's are the user's own.
            identities: Vec::new(),
            ..Manifest::load(&self.base_directory)?
        };
        // What a newer server wrote an older one may not read.
        if facts.version.major > manifest.server_major {
            (manifest.server_major, manifest.server_version) = (facts.version.major, facts.version_text);
        }
        let known = |name: &str| manifest.roles.iter().any(|role| role.name == name);
        let more: Vec<_> = roles.into_iter().filter(|role| !known(&role.name)).collect();
        manifest.roles.extend(more);
        let more: Vec<_> =
            tablespaces.into_iter().filter(|name| !manifest.tablespaces.contains(name)).collect();
        manifest.tablespaces.extend(more);
        if !manifest.materialized_views.is_empty() {
            sync(&folder.join(materialized::FOLDER))?;
        }
        write(&folder, &manifest)?;
        sync(&self.base_directory)?;
        Ok(manifest)
    }

    /// A session that sees what `pg_dump` will see, and the name of its snapshot.
    async fn in_snapshot(&self) -> Result<(Connection, String), SourceError> {
        let settings = SessionSettings::canonical("postgres-test-replay base image");
        let connection = connect(&self.database, &settings).await?;
        let doing = || "exporting a snapshot".to_owned();
        connection.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.doing(doing)?;
        let row = connection.query_one("SELECT pg_catalog.pg_export_snapshot()", &[]).await.doing(doing)?;
        let snapshot = row.get(0);
        Ok((connection, snapshot))
    }

    /// Makes it the base image: from now on the history begins here.
    ///
    /// # Errors
    /// [`SourceError::File`]; then the base image is the one or the other. Somebody removed it.
    pub fn commit(&self, manifest: &Manifest) -> Result<(), SourceError> {
        for file in [&manifest.dump, &manifest.restore_list] {
            let path = self.folder().join(file);
            fs::metadata(&path).map_err(SourceError::file(&path))?;
        }
        let inside = |path: &str| format!("{}/{path}", self.folder_name());
        let mut manifest = manifest.clone();
        (manifest.dump, manifest.restore_list) = (inside(&manifest.dump), inside(&manifest.restore_list));
        for view in &mut manifest.materialized_views {
            view.file = inside(&view.file);
        }
        write(&self.base_directory, &manifest)
    }

    /// Removes it, where it did not become the base image.
    ///
    /// # Errors
    /// [`SourceError::File`].
    pub fn discard(&self) -> Result<(), SourceError> {
        remove(&self.folder()).map(drop)
    }
}

/// What of a base image's folder does not count any more, or never did.
///
/// # Errors
/// [`SourceError::File`].
pub fn superseded(base_directory: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let manifest = Manifest::load(base_directory)?;
    let current = manifest.position.map(|position| format!("{FOLDER}{}", position.ordinal));
    let mut found = Vec::new();
    let listed = fs::read_dir(base_directory).map_err(SourceError::file(base_directory))?;
    for entry in listed {
        let path = entry.map_err(SourceError::file(base_directory))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_later = name.starts_with(FOLDER);
        let is_first = [dump::FOLDER, restore_list::FILE, materialized::FOLDER].contains(&name);
        if is_later && current.as_deref() != Some(name) || is_first && current.is_some() {
            found.push(path);
        }
    }
    Ok(found)
}

/// Removes that; the history does not begin there any more.
///
/// # Errors
/// [`SourceError::File`].
pub fn remove_superseded(base_directory: &Path) -> Result<(), SourceError> {
    for path in superseded(base_directory)? {
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(SourceError::file(&path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn write(folder: &Path, manifest: &Manifest) -> Result<(), SourceError> {
    let path = folder.join("manifest.json");
    let json = serde_json::to_vec_pretty(manifest).expect("a manifest has only string keys");
    replace(&path, &json).map_err(SourceError::file(&path))
}
