//! From a configured database to one that is captured, and from a captured one to a default session.

use std::{path::Path, sync::Arc};

use ptr_capture::source::{PreparedSource, SchemaCapture, SetupEvent, SourceOptions, prepare};
use ptr_log::{Log, LogIdentity};
use ptr_postgres::QualifiedName;
use tokio::sync::mpsc;

use super::{Announcement, Announcer, Service, ServiceError, blocking, capturing::OnPrimary};
use crate::{configuration::ReplicaIdentityPolicy, resource::navigation::Progress};

impl Service {
    /// Sets up the primary for a database and makes its log; does nothing that was done before, and tells no
    /// warning a second time that the checks before told.
    pub(super) async fn set_up(
        &self,
        database: &str,
        announcer: &Announcer,
        told: &[String],
    ) -> Result<(), ServiceError> {
        let options = self.source_options(database)?;
        let (events, mut happened) = mpsc::unbounded_channel();
        let forward = {
            let (announcer, already) = (announcer.clone(), told.to_owned());
            tokio::spawn(async move {
                while let Some(event) = happened.recv().await {
                    if !matches!(&event, SetupEvent::Warning { text } if already.contains(text)) {
                        announce(&announcer, &event);
                    }
                }
            })
        };
        let prepared = prepare(&options, &events).await;
        drop(events);
        // It ends with its channel.
        let _ = forward.await;
        let prepared = prepared?;
        self.note_warnings(database, &prepared);
        let directory = self.configuration.data.log_of(database);
        let identity = prepared.identity;
        blocking(move || log_of(&directory, &identity)).await?
    }

    /// What set-up and teardown are told.
    pub(super) fn source_options(&self, database: &str) -> Result<SourceOptions, ServiceError> {
        let data = &self.configuration.data;
        let dsn = self.input()?.with_database(database);
        let mut options =
            SourceOptions::new(dsn, self.programs()?, data.base_of(database), data.source_record(database));
        let OnPrimary { slot, publication } = self.on_primary(database)?;
        (options.slot, options.publication) = (slot, publication);
        options.replica_identity = self.configuration.replica_identity == ReplicaIdentityPolicy::Full;
        let tables = self.configuration.excluded_tables.iter();
        options.exclude_tables = tables.map(|name| table(name)).collect();
        Ok(options)
    }

    fn note_warnings(&self, database: &str, prepared: &PreparedSource) {
        if let SchemaCapture::Off { reason } = &prepared.schema_capture {
            self.warn(format!("schema changes of {database} are not captured: {reason}"));
        }
        for finding in &prepared.warnings {
            self.warn(format!("{database}: {}", finding.title));
        }
    }

    /// Runs a task that the service waits for when it ends.
    pub(crate) fn spawn<F>(self: &Arc<Self>, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.tasks.spawn(task)
    }
}

/// Makes the log that the set-up asks for; one that is there must be it.
fn log_of(directory: &Path, identity: &LogIdentity) -> Result<(), ServiceError> {
    if !directory.join("log.json").exists() {
        return Ok(ptr_log::create(directory, identity)?);
    }
    if Log::open(directory)?.identity().log_id == identity.log_id {
        return Ok(());
    }
    Err(ServiceError::precondition(
        format!("{} holds the log of another set-up of {:?}", directory.display(), identity.database),
        format!("move {} out of the data directory and start again", directory.display()),
    ))
}

/// `schema.table`, or a table of `public`.
fn table(name: &str) -> QualifiedName {
    let (schema, table) = name.split_once('.').unwrap_or(("public", name));
    QualifiedName::new(schema, table)
}

fn announce(announcer: &Announcer, event: &SetupEvent) {
    match event {
        SetupEvent::Checking => announcer.step("checking the primary"),
        SetupEvent::Warning { text } => announcer.warn(text),
        SetupEvent::UndoingUnfinished => {
            announcer.step("removing what an interrupted set-up left on the primary")
        }
        SetupEvent::InstallingTriggers => {
            announcer.step("making schema postgres_test_replay and its event triggers")
        }
        SetupEvent::SettingIdentities { tables } => {
            announcer.step(format!("setting REPLICA IDENTITY FULL on {} tables", tables.len()));
        }
        SetupEvent::WaitingForTable { table, holders } => {
            let holders: Vec<String> = holders.iter().map(ToString::to_string).collect();
            announcer.warn(format!("table {table} is locked by {}; trying again", holders.join(", ")));
        }
        SetupEvent::Publishing { name, tables } => {
            let tables = tables.map_or("all tables".to_owned(), |tables| format!("{tables} tables"));
            announcer.step(format!("making publication {name} for {tables}"));
        }
        SetupEvent::CreatingSlot { name } => announcer.step(format!("making replication slot {name}")),
        SetupEvent::WaitingForSlot { waits } => {
            waits.iter().for_each(|wait| announcer.warn(format!("the slot waits for {wait}")));
        }
        SetupEvent::SlotCreated { lsn } => {
            announcer.step(format!("history begins at {lsn}; reading the base image"))
        }
        SetupEvent::Dumping { bytes_done, bytes, .. } => {
            announcer.announce(Announcement::Progress(Progress {
                step: "reading the base image".into(),
                done: *bytes_done,
                total: Some(*bytes),
                unit: "bytes".into(),
            }))
        }
        SetupEvent::Prepared { lsn } => announcer.step(format!("the primary is ready, from {lsn} on")),
    }
}
