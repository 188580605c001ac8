//! Proving that a session's database equals the primary.

use std::time::Instant;

use ptr_postgres::{Dsn, Installation, SessionSettings, connect};
use ptr_replay::verify::{Side, TableReport, VerifyReport, verify};

use super::{APPLICATION_NAME, Service, ServiceError};
use crate::{
    backups::server_version,
    resource::status::{Verified, Verify},
};

impl Service {
    /// `POST /api/verify`.
    ///
    /// # Errors
    /// The session is not where the primary is, or the primary changed while it was read.
    pub async fn verify(&self, request: Verify) -> Result<Verified, ServiceError> {
        let started = Instant::now();
        let session = self.session_named(request.session_id.as_deref()).await?;
        let captured = self.captured(Some(&session.database))?;
        let _lock = self.moves.take(session.id, &self.configuration.data.run()).await?;
        let before = self.marker_position(&captured).await?;
        let cursor = self.cursor_of(&session).await?;
        if cursor.is_none_or(|cursor| cursor.position != before) {
            let at = cursor.map_or("nowhere".to_owned(), |cursor| cursor.position.to_string());
            return Err(ServiceError::precondition(
                format!(
                    "session {:?} is at {at}, the primary at {before}: they differ by what lies between",
                    session.name
                ),
                "navigate head, then verify",
            ));
        }
        let primary = self.input()?.with_database(&session.database);
        let replica = self.output()?.with_database(&session.target_database);
        let installation = self.installation_for("pg_dump", &[&primary, &replica]).await?;
        let report = verify(&primary, &replica, &installation, &self.configuration.publication).await?;
        let after = self.marker_position(&captured).await?;
        if !report.is_equal() && after != before {
            return Err(ServiceError::precondition(
                format!("the primary went on from {before} to {after} while it was compared"),
                "pause the writers, navigate head, then verify",
            ));
        }
        Ok(Verified {
            equal: report.is_equal(),
            session_id: session.id.to_string(),
            position: before.into(),
            tables: u64::try_from(report.tables.len()).unwrap_or(u64::MAX),
            rows: report.tables.iter().filter_map(|table| table.primary_rows).sum(),
            differences: differences(&report),
            elapsed_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// The programs that all of these servers accept.
    pub(super) async fn installation_for(
        &self,
        program: &'static str,
        servers: &[&Dsn],
    ) -> Result<Installation, ServiceError> {
        let mut major = 0;
        for dsn in servers {
            let connection = connect(dsn, &SessionSettings::named(APPLICATION_NAME)).await?;
            major = major.max(server_version(&connection).await?.major);
            connection.close().await;
        }
        let path = self.programs()?.client_program(program, major)?;
        let folder = path.parent().map(std::path::Path::to_owned).unwrap_or_default();
        Ok(Installation::at(&folder)?)
    }
}

/// Each difference as one line.
fn differences(report: &VerifyReport) -> Vec<String> {
    let side = |side: Side| match side {
        Side::Primary => "the primary",
        Side::Replica => "the replica",
    };
    let schema = report.schema.iter().map(|one| format!("only {} has {}", side(one.only_on), one.entry));
    let tables = report.tables.iter().filter(|table| !table.is_equal()).flat_map(|table| {
        let rows = table.first_differences.iter();
        let rows = rows.map(|row| format!("{}: only {} has {}", table.table, side(row.only_on), row.row));
        std::iter::once(counted(table)).chain(rows)
    });
    schema.chain(tables).collect()
}

fn counted(table: &TableReport) -> String {
    match (table.primary_rows, table.replica_rows) {
        (Some(primary), Some(replica)) => {
            format!("table {} has {primary} rows on the primary, {replica} on the replica", table.table)
        }
        (Some(_), None) => format!("table {} is missing on the replica", table.table),
        (None, _) => format!("table {} is missing on the primary", table.table),
    }
}
