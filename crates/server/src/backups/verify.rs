//! Proving that a backup restores to what was dumped.

use std::{future::Future, sync::Arc, time::Instant};

use ptr_postgres::{SessionSettings, connect, programs::found_no_room};

use super::{
    contents::{self, Contents},
    scratch::{Purpose, Scratch},
    store,
};
use crate::{
    resource::backup::BackupVerified,
    service::{APPLICATION_NAME, Service, ServiceError},
};

impl Service {
    /// `POST /api/backups/{id}/verify`. Goes on when whoever asked goes away.
    ///
    /// # Errors
    /// The output server does not answer, the service ends. A dump that does not restore is a finding.
    pub async fn verify_backup(self: &Arc<Self>, id: &str) -> Result<BackupVerified, ServiceError> {
        let (service, id, turn) = (Arc::clone(self), id.to_owned(), self.turn_to_copy()?);
        let task = self.spawn(async move { service.compare_backup(&id, turn).await });
        task.await.map_err(|error| ServiceError::Broken {
            detail: format!("the comparison's task ended: {error}"),
        })?
    }

    async fn compare_backup(
        &self,
        id: &str,
        turn: impl Future<Output: Send> + Send,
    ) -> Result<BackupVerified, ServiceError> {
        let started = Instant::now();
        let record = self.complete_backup(id)?;
        let _turn = self.unless_it_ends(async { Ok(turn.await) }, "verify the backup again").await?;
        let scratch = Scratch::begin(self.output_maintenance().await?, Purpose::Verify).await?;
        let found =
            self.unless_it_ends(self.restored_contents(&scratch, &record), "verify the backup again").await;
        let is_there = scratch.maintenance().simple_query("SELECT 1").await.is_ok();
        scratch.end().await;
        let found = match found {
            Ok(found) => Ok(found),
            // A server that is away or full says nothing about the dump.
            Err(ServiceError::Program { output, .. }) if is_there && !found_no_room(&output) => Err(output),
            Err(error) => return Err(error),
        };
        let (tables, rows, findings) = match found {
            Ok(found) => {
                let rows: i64 = found.values().map(|table| table.rows).sum();
                (found.len(), rows, contents::differences(&record.contents, &found))
            }
            Err(output) => (0, 0, vec![format!("it does not restore: {output}")]),
        };
        Ok(BackupVerified {
            backup_id: id.to_owned(),
            sound: findings.is_empty(),
            tables: u64::try_from(tables).unwrap_or(u64::MAX),
            rows: u64::try_from(rows).unwrap_or_default(),
            findings,
            elapsed_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }

    async fn restored_contents(
        &self,
        scratch: &Scratch,
        record: &store::Record,
    ) -> Result<Contents, ServiceError> {
        self.restore_into(scratch, record).await?;
        let dsn = self.output()?.with_database(scratch.name());
        let inside = connect(&dsn, &SessionSettings::canonical(APPLICATION_NAME)).await?;
        let found = contents::read(&*inside).await;
        inside.close().await;
        Ok(found?)
    }
}
