//! Waiting for a condition instead of sleeping for a time that is too short or too long.

use std::time::{Duration, Instant};

/// Waits until the condition holds, looking again every few milliseconds.
///
/// # Panics
/// When it does not hold within `limit`, naming what was waited for.
pub async fn wait_until(description: &str, limit: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition().await {
        assert!(Instant::now() < deadline, "waited {limit:?} in vain until {description}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
