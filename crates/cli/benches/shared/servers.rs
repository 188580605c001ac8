//! What the benches begin with: a number of the environment's, and two servers that are not busy with checkpoints.
#![allow(dead_code, reason = "each bench uses its own part")]

use ptr_testkit::{ClusterRole, ServerVersion, TestServer, TestServerOptions};

pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A primary and a replica.
pub async fn pair(max_wal_size: &str) -> (TestServer, TestServer) {
    let tuned = |role| {
        let options = TestServerOptions { role, ..TestServerOptions::default() };
        options
            .with("max_wal_size", max_wal_size)
            .with("shared_buffers", "512MB")
            .with("checkpoint_timeout", "1h")
    };
    let primary = TestServer::start(ServerVersion::Debian15, tuned(ClusterRole::Primary)).await;
    let replica = TestServer::start(ServerVersion::Debian15, tuned(ClusterRole::Replica)).await;
    (primary, replica)
}
