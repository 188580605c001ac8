//! Calls of the log and the catalog from async code: both block on the disk, so both run on threads for that.

use ptr_log::{Log, LogError};

use super::{Captured, Service, ServiceError};
use std::sync::Arc;

/// Runs blocking work on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ServiceError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ServiceError::Broken {
        detail: format!("a task of the service ended early: {error}"),
    })
}

impl Captured {
    /// Asks the log something.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Log) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, ServiceError> {
        let log = self.log.clone();
        Ok(blocking(move || question(&log)).await??)
    }
}

impl Service {
    /// The captured database of that name, else the first one.
    pub(crate) fn captured(&self, database: Option<&str>) -> Result<Arc<Captured>, ServiceError> {
        let name = database.unwrap_or(self.configuration.default_database());
        let known = self.captured.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(captured) = known.get(name) {
            return Ok(Arc::clone(captured));
        }
        if self.configuration.databases.iter().any(|database| database == name) {
            return Err(ServiceError::precondition(
                format!("the database {name:?} is not captured yet: there is no log of it"),
                "run postgres-test-replay up, or listener, which set up capture",
            ));
        }
        let earlier = known.keys().filter(|known| !self.is_configured(known)).map(String::as_str);
        let configured = self.configuration.databases.iter().map(String::as_str);
        let databases: Vec<&str> = configured.chain(earlier).collect();
        let databases = databases.join(", ");
        Err(ServiceError::not_found(
            "captured database",
            name,
            format!("captured are: {databases}; INPUT_DATABASES names the databases to capture"),
        ))
    }

    /// All databases to be captured that have a log; histories that were set aside must be named.
    pub(super) fn all_captured(&self) -> Vec<Arc<Captured>> {
        let known = self.captured.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        known.values().filter(|captured| self.is_configured(&captured.database)).cloned().collect()
    }
}
