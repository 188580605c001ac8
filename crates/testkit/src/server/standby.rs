//! A standby of a server, and one that is promoted beside it: the same cluster by its system identifier, on another
//! timeline.

use super::{TestServer, root_folder, watchdog};
use crate::{program, wait_until};
use ptr_postgres::cluster::{ClusterRole, Durability};
use ptr_postgres::{Cluster, ClusterOptions};
use std::path::Path;
use std::time::Duration;
use watchdog::Watchdog;

/// How long a standby may take to begin, to catch up and to be promoted.
const PATIENCE: Duration = Duration::from_secs(60);

impl TestServer {
    /// Makes a standby, and promotes it. This server goes on.
    ///
    /// # Panics
    /// When any of that fails.
    pub async fn promoted_standby(&self) -> Self {
        let standby = self.standby().await;
        standby.psql("postgres", "SELECT pg_promote()").await;
        standby
    }

    /// Makes a standby by `pg_basebackup`, and lets it catch up. It follows this server, by the
    /// `application_name` of all of testkit's programs.
    ///
    /// # Panics
    /// When any of that fails.
    pub async fn standby(&self) -> Self {
        let installation = self.cluster.installation().clone();
        let folder = watchdog::folder_in(&root_folder().join("servers"));
        let watchdog = Watchdog::over(&folder);
        let (original, copy) = (self.cluster.directory(), folder.join("cluster"));
        std::fs::create_dir_all(&copy).unwrap_or_else(|error| panic!("{}: {error}", copy.display()));
        let data = copy.join("data");
        let arguments =
            ["--pgdata", text(&data), "--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast"];
        program::run(&installation.program("pg_basebackup"), &self.dsn("postgres"), &arguments, "").await;
        let owner = text(&self.cluster.data_directory()).to_owned();
        let chown =
            std::process::Command::new("chown").args(["-R", "--reference", &owner, text(&data)]).status();
        assert!(chown.is_ok_and(|status| status.success()), "the owner of {} cannot be set", data.display());
        // The roles are the original's, with their passwords.
        std::fs::copy(original.join("password"), copy.join("password"))
            .unwrap_or_else(|error| panic!("{}: {error}", copy.display()));
        let mut wanted = ClusterOptions::new(copy, installation, ClusterRole::Primary);
        wanted.durability = Durability::Volatile;
        let mut cluster = Cluster::create_or_open(wanted).await.unwrap_or_else(|error| panic!("{error}"));
        let flushed = self.psql("postgres", "SELECT pg_current_wal_flush_lsn()").await;
        cluster.start().await.unwrap_or_else(|error| panic!("{error}"));
        let standby = Self { cluster, watchdog };
        let has_come = format!("SELECT pg_last_wal_replay_lsn() >= '{}'", flushed.trim());
        wait_until("the standby has caught up", PATIENCE, async || {
            standby.psql("postgres", &has_come).await.trim() == "t"
        })
        .await;
        standby
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a test's folder is UTF-8")
}
