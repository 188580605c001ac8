//! Proving that a backup restores to what was dumped.

use std::time::Instant;

use ptr_postgres::{SessionSettings, connect, quote_identifier};

use super::{
    contents,
    scratch::{Purpose, take_name},
};
use crate::{
    resource::backup::BackupVerified,
    service::{APPLICATION_NAME, Service, ServiceError},
};

impl Service {
    /// `POST /api/backups/{id}/verify`.
    ///
    /// # Errors
    /// The output server does not answer. A dump that does not restore is a finding.
    pub async fn verify_backup(&self, id: &str) -> Result<BackupVerified, ServiceError> {
        let started = Instant::now();
        let record = self.complete_backup(id)?;
        let maintenance = self.output_maintenance().await?;
        let scratch = take_name(&maintenance, Purpose::Verify).await?;
        let found = match self.restore_into_new(&maintenance, &record, &scratch).await {
            Ok(()) => {
                let dsn = self.output()?.with_database(&scratch);
                let inside = connect(&dsn, &SessionSettings::canonical(APPLICATION_NAME)).await?;
                let found = contents::read(&*inside).await;
                inside.close().await;
                Ok(found?)
            }
            Err(ServiceError::Program { output, .. }) => Err(output),
            Err(error) => return Err(error),
        };
        let scratch = quote_identifier(&scratch);
        maintenance.batch_execute(&format!("DROP DATABASE IF EXISTS {scratch} WITH (FORCE)")).await?;
        maintenance.close().await;
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
}
