//! Histories from before the present set-up: set aside whole, and readable under names of their own.
//!
//! A primary that was torn down, or that lost our slot, can be set up again. What is captured then is another
//! history, with a log, a base image and checkpoints of its own. The earlier one takes the name
//! `DATABASE@TIME`, the time at which it began, and can be named so wherever a captured database can.
//!
//! Invariants: two histories are never mixed: a set-up begins only when nothing of an earlier history is left
//! under the database's name; each step can be made again after a crash, and the log goes last, because it is
//! what makes the next start go on.

use std::{
    fs::{self, File},
    path::Path,
};

use ptr_capture::source::{Manifest, SourceRecord};
use ptr_log::{Log, Writer, WriterOptions};
use ptr_model::Timestamp;
use uuid::Uuid;

use super::{Announcer, Service, ServiceError, blocking, running::Running};
use crate::configuration::{DataDirectory, database_of};

/// What is left under a database's name from before the present set-up.
struct Earlier {
    log: Option<Beginning>,
    base: Option<Beginning>,
}

/// Which history, and since when.
#[derive(Clone, Copy)]
struct Beginning {
    log_id: Uuid,
    at: Timestamp,
}

impl Service {
    /// Sets the history of a database aside where it does not belong to the present set-up, or where there is
    /// none. What is set up then begins anew.
    pub(super) async fn set_earlier_aside(
        &self,
        database: &str,
        announcer: &Announcer,
    ) -> Result<(), ServiceError> {
        let (data, name) = (self.configuration.data.clone(), database.to_owned());
        let earlier = blocking(move || Earlier::find(&data, &name)).await??;
        let Some(earlier) = earlier else { return Ok(()) };
        self.refuse_while_read(database)?;
        let data = self.configuration.data.clone();
        let (log, base) = (data.log_of(database), data.base_of(database));
        let log_name = earlier.log.map(|log| free_name(&data, database, log)).transpose()?;
        let base_name = earlier.base.map(|base| free_name(&data, database, base)).transpose()?;
        let Some(aside) = log_name.clone().or(base_name.clone()) else { return Ok(()) };
        announcer.step(format!(
            "setting the earlier history of {database} aside: it stays whole and readable as {aside}"
        ));
        let (catalog, from) = (self.catalog.clone(), database.to_owned());
        blocking(move || {
            if log_name.is_some() {
                settle(&log)?;
            }
            catalog.set_history_aside(&from, &aside)?;
            if let Some(name) = base_name {
                take(&base, &data.base_of(&name))?;
            }
            if let Some(name) = log_name {
                take(&log, &data.log_of(&name))?;
            }
            Ok(())
        })
        .await?
    }

    /// Another service on this data directory has the log open, and would read the new one with what it knows of
    /// the old one.
    fn refuse_while_read(&self, database: &str) -> Result<(), ServiceError> {
        let data = &self.configuration.data;
        let found = Running::find(data).map_err(ServiceError::file("read", data.service_file()))?;
        let Some(other) = found.filter(|other| other.pid != std::process::id()) else { return Ok(()) };
        Err(ServiceError::precondition(
            format!(
                "{database} is to be set up anew, and `{}` (process {}) still shows its earlier history",
                other.role, other.pid
            ),
            "end it with postgres-test-replay down, then start again",
        ))
    }

    /// Opens the histories that were set aside. One that cannot be read is told, and does not stand in the way.
    pub(super) async fn open_earlier(&self) -> Result<(), ServiceError> {
        let folder = self.configuration.data.log_folder();
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(ServiceError::file("read", folder)(error)),
        };
        for entry in entries {
            let entry = entry.map_err(ServiceError::file("read", folder))?;
            let name = entry.file_name().to_str().and_then(database_of);
            let Some(name) = name.filter(|name| name.contains('@') && !self.is_configured(name)) else {
                continue;
            };
            if let Err(error) = self.open_log(&name).await {
                self.warn(format!("the earlier history {name} cannot be read: {error}"));
            }
        }
        Ok(())
    }

    /// The histories that were set aside, by name and log.
    pub(super) fn earlier(&self) -> Vec<(String, Uuid)> {
        let known = self.captured.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let earlier = known.values().filter(|captured| !self.is_configured(&captured.database));
        earlier.map(|captured| (captured.database.clone(), captured.log.identity().log_id)).collect()
    }

    pub(super) fn is_configured(&self, database: &str) -> bool {
        self.configuration.databases.iter().any(|configured| configured == database)
    }
}

impl Earlier {
    fn find(data: &DataDirectory, database: &str) -> Result<Option<Self>, ServiceError> {
        let record = SourceRecord::load(&data.source_record(database))?;
        let (directory, base) = (data.log_of(database), data.base_of(database));
        let log = match directory.join("log.json").exists() {
            true => Some(beginning_of(&directory)?),
            false => None,
        };
        let log = log.filter(|log| record.as_ref().is_none_or(|record| record.log_id != log.log_id));
        // A set-up that has a record knows its base image, whole or not.
        let base = match base.exists() && record.is_none() {
            true => {
                let manifest = Manifest::load(&base)?;
                Some(Beginning { log_id: manifest.log_id, at: manifest.created_at })
            }
            false => None,
        };
        // A log and its image stay together, also by name.
        let base = base.map(|base| log.filter(|log| log.log_id == base.log_id).unwrap_or(base));
        Ok((log.is_some() || base.is_some()).then_some(Self { log, base }))
    }
}

fn beginning_of(log: &Path) -> Result<Beginning, ServiceError> {
    let log = Log::open(log)?;
    let identity = log.identity();
    Ok(Beginning { log_id: identity.log_id, at: identity.created_at })
}

/// The name of an earlier history: one that nothing has but what is left of the same history by a crash.
fn free_name(data: &DataDirectory, database: &str, beginning: Beginning) -> Result<String, ServiceError> {
    let [to_the_second, exact] = names(database, beginning.at);
    for name in [&to_the_second, &exact] {
        let base = data.base_of(name);
        let is_same = || Manifest::load(&base).is_ok_and(|manifest| manifest.log_id == beginning.log_id);
        if !data.log_of(name).exists() && (!base.exists() || is_same()) {
            return Ok(name.clone());
        }
    }
    let (log, base) = (data.log_of(database), data.base_of(database));
    Err(ServiceError::precondition(
        format!("the earlier history of {database} cannot be set aside: its name {exact} is taken"),
        format!(
            "move {} and {} out of the data directory, or choose another data directory",
            log.display(),
            base.display()
        ),
    ))
}

/// `shop@20260501T123000Z`, and the same with microseconds.
fn names(database: &str, at: Timestamp) -> [String; 2] {
    let compact: String = at.to_string().chars().filter(|c| !matches!(c, '-' | ':' | 'Z')).collect();
    let seconds = compact.split('.').next().unwrap_or(&compact);
    [format!("{database}@{seconds}Z"), format!("{database}@{compact}Z")]
}

/// Makes sure that nobody writes the log, and that it is whole: opening recovers it.
fn settle(log: &Path) -> Result<(), ServiceError> {
    Writer::open(log, WriterOptions::default())?.close()?;
    Ok(())
}

/// Renames a folder, durably.
fn take(from: &Path, to: &Path) -> Result<(), ServiceError> {
    fs::rename(from, to).map_err(ServiceError::file("rename", from))?;
    let folder = to.parent().unwrap_or(Path::new("."));
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(ServiceError::file("make durable", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_named_by_the_time_at_which_it_began() {
        let at = "2026-05-01T12:30:00.25Z".parse().unwrap();
        assert_eq!(names("shop", at), ["shop@20260501T123000Z", "shop@20260501T123000.250000Z"]);
    }
}
