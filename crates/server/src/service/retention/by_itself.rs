//! The policy that a running service applies by itself: `RETAIN_AGE` and `RETAIN_BYTES`.
//!
//! It does what `gc` does, so what that keeps it keeps. A history that begins later costs a base image, so by itself it
//! does so only when a good part of the log goes with it.

use std::{sync::Arc, time::Duration};

use super::Collect;
use crate::{
    resource::retention::{Collected, LastCollection, RetentionStatus},
    service::{Service, ServiceError, lock, now},
};

/// How often it is looked.
const PAUSE: Duration = Duration::from_secs(600);

impl Service {
    /// Starts the task, where a policy is set.
    pub(in crate::service) fn start_retaining(self: &Arc<Self>) {
        if self.retention_policy().is_none() {
            return;
        }
        let service = Arc::clone(self);
        self.tasks.spawn(async move {
            let ended = service.shutdown.clone();
            let policy = async {
                loop {
                    service.retain().await;
                    tokio::time::sleep(PAUSE).await;
                }
            };
            // A new beginning that is being made is a task of its own, and ends in good order or is gone on with.
            let _: Option<()> = ended.run_until_cancelled(policy).await;
        });
    }

    fn retention_policy(&self) -> Option<Collect> {
        let (older_than, keep_bytes) =
            (self.configuration.retain_age.clone(), self.configuration.retain_bytes);
        let is_set = older_than.is_some() || keep_bytes.is_some();
        let keep_bytes = keep_bytes.map(|bytes| bytes.to_string());
        is_set.then(|| Collect { older_than, keep_bytes, ..Collect::default() })
    }

    async fn retain(self: &Arc<Self>) {
        let Some(policy) = self.retention_policy() else { return };
        let collected = self.collect_worthwhile(policy).await;
        match &collected {
            Ok(done) if !done.removed.is_empty() => {
                tracing::info!(bytes = done.bytes, "removed what the policy lets go: {}", told(done));
            }
            Ok(_) => {}
            Err(error) => tracing::warn!("what the policy lets go stays for now: {error}"),
        }
        *lock(&self.retained) = Some(last(collected));
    }

    /// What `GET /api/status` tells of it; `None` without a policy.
    pub(in crate::service) fn retention_status(&self) -> Option<RetentionStatus> {
        let Collect { older_than, .. } = self.retention_policy()?;
        Some(RetentionStatus {
            age: older_than,
            bytes: self.configuration.retain_bytes,
            last: lock(&self.retained).clone(),
        })
    }
}

fn last(collected: Result<Collected, ServiceError>) -> LastCollection {
    let at = now().to_string();
    match collected {
        Ok(Collected { bytes, removed, kept, .. }) => {
            let kept = kept.into_iter().filter(|thing| thing.kind == "beginning").collect();
            LastCollection { at, bytes, removed, kept, problem: None }
        }
        Err(error) => LastCollection { at, problem: Some(error.to_string()), ..LastCollection::default() },
    }
}

fn told(done: &Collected) -> String {
    let things = done.removed.iter().map(|thing| format!("{} {}", thing.kind, thing.name));
    things.collect::<Vec<_>>().join(", ")
}
