//! Where history begins: the slot, and the base image in its snapshot.
//!
//! They belong together: a slot without its image is of no use. Where a table was overtaken in between, so that the
//! image would not be what the slot's changes build on, both are made anew.

use super::{
    Manifest, Progress, ServerFacts, SetupEvent, SourceError, SourceOptions, SourceRecord, Step,
    base::{self, Beginning, Taken},
    exclusive, slot,
};
use crate::transport::ReplicationConnection;
use ptr_postgres::Connection;

/// How often slot and image are made before set-up gives up.
const ATTEMPTS: u32 = 5;

/// Makes the slot and takes the base image.
pub(super) async fn begin(
    connection: &Connection,
    facts: &ServerFacts,
    options: &SourceOptions,
    record: &mut SourceRecord,
    progress: &dyn Progress,
) -> Result<Manifest, SourceError> {
    record.begin(Step::Slot, &options.record_path)?;
    let mut overtaken = Vec::new();
    for _ in 0..ATTEMPTS {
        match attempt(connection, facts, options, record, progress).await {
            Ok(Taken::Image(manifest)) => return Ok(*manifest),
            Ok(Taken::Overtaken { tables }) => overtaken = tables,
            Err(error) => {
                if record.creation.is_some() {
                    withdraw(connection, options, progress).await;
                }
                return Err(error);
            }
        }
        progress.report(SetupEvent::Warning {
            text: format!(
                "{} changed its files just when the base image was begun; beginning again",
                overtaken.join(", ")
            ),
        });
        slot::drop(connection, &options.slot).await?;
    }
    Err(SourceError::Overtaken { tables: overtaken.join(", "), attempts: ATTEMPTS })
}

/// A slot keeps WAL on the primary from its first moment on, and half an image fills the disk. Everything else that was
/// made harms nobody, and goes when set-up is begun again.
async fn withdraw(connection: &Connection, options: &SourceOptions, progress: &dyn Progress) {
    // What cannot be removed is removed then too.
    let _ = base::remove(&base::partial(&options.base_directory));
    if let Err(error) = slot::drop(connection, &options.slot).await {
        progress.report(SetupEvent::Warning {
            text: format!(
                "the slot {} stays, and keeps WAL on the primary until set-up is begun again, or teardown: {error}",
                options.slot
            ),
        });
    }
}

async fn attempt(
    connection: &Connection,
    facts: &ServerFacts,
    options: &SourceOptions,
    record: &mut SourceRecord,
    progress: &dyn Progress,
) -> Result<Taken, SourceError> {
    let mut replication =
        ReplicationConnection::connect(&options.dsn).await.map_err(|source| SourceError::Replication {
            doing: "opening a replication connection".to_owned(),
            source: Box::new(source),
        })?;
    exclusive::mark_slot_maker(&mut replication).await?;
    progress.report(SetupEvent::CreatingSlot { name: options.slot.clone() });
    let created =
        slot::create(connection, &mut replication, &options.slot, facts.version.major, progress).await?;
    record.creation = Some(created.consistent_point);
    record.begin(Step::Base, &options.record_path)?;
    progress.report(SetupEvent::SlotCreated { lsn: created.consistent_point });
    let beginning = Beginning { lsn: created.consistent_point, snapshot: created.snapshot };
    let taken = base::take(connection, options, facts, record, &beginning, progress).await;
    // The snapshot lives as long as this connection.
    drop(replication);
    taken
}
