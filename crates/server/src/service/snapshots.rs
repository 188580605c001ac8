//! Snapshots of the primary whose position in the log is known.

use std::sync::Arc;

use ptr_model::Position;
use ptr_postgres::Connection;
use ptr_replay::snapshot::{ATTEMPTS, Exported};

use super::{Captured, Service, ServiceError};

/// A snapshot that sees exactly the transactions before a position.
pub(crate) struct TiedSnapshot {
    pub(crate) exported: Exported,
    pub(crate) position: Position,
}

impl Service {
    /// Takes snapshots of a captured database until one matches a position of the log.
    ///
    /// # Errors
    /// Nobody captures, so there is no telling; none of [`ATTEMPTS`] matched.
    pub(crate) async fn tied_snapshot(&self, captured: &Arc<Captured>) -> Result<TiedSnapshot, ServiceError> {
        let markers = self.connect_for_marker(captured).await?;
        let found = self.try_snapshots(&markers, captured).await;
        markers.close().await;
        found?.ok_or_else(|| {
            ServiceError::precondition(
                format!(
                    "none of {ATTEMPTS} snapshots of {:?} matches a position of the log: too many transactions end at once",
                    captured.database
                ),
                "try again when fewer writers are busy",
            )
        })
    }

    async fn try_snapshots(
        &self,
        markers: &Connection,
        captured: &Arc<Captured>,
    ) -> Result<Option<TiedSnapshot>, ServiceError> {
        let dsn = self.input()?.with_database(&captured.database);
        let mut before = self.marker_by(markers, captured).await?;
        for _ in 0..ATTEMPTS {
            let exported = Exported::open(&dsn).await?;
            let after = self.marker_by(markers, captured).await?;
            let visibility = exported.visibility().clone();
            let found = captured.read(move |log| visibility.position_in(log, before, after)).await?;
            if let Some(position) = found {
                return Ok(Some(TiedSnapshot { exported, position }));
            }
            exported.close().await;
            before = after;
        }
        Ok(None)
    }
}
