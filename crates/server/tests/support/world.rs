//! A service that captures a real primary into a real replica.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use ptr_server::Role;
use ptr_testkit::{ClusterRole, ServerVersion, TestServer, TestServerOptions, wait_until};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Api, configuration};

/// The captured database.
pub const DATABASE: &str = "shop";
/// The default session's, on the other server.
pub const REPLICA: &str = "replica";

/// Both servers, and the service between them.
pub struct World {
    pub primary: TestServer,
    pub replica: TestServer,
    pub api: Api,
    /// Where the service's data is.
    pub folder: TempDir,
}

impl World {
    pub async fn start(version: ServerVersion, schema: &str) -> Self {
        Self::between(version, version, schema).await
    }

    /// With servers of two versions; `pg_dump` is the primary's.
    pub async fn between(primary: ServerVersion, replica: ServerVersion, schema: &str) -> Self {
        Self::over(primary, replica, async |primary| {
            primary.psql(DATABASE, schema).await;
        })
        .await
    }

    /// With what `fill` puts into the database before it is captured.
    pub async fn over(
        primary: ServerVersion,
        replica: ServerVersion,
        fill: impl AsyncFnOnce(&TestServer),
    ) -> Self {
        let programs = primary.installation().bin_dir.display().to_string();
        Self::beside(primary, replica, &[], fill, programs).await
    }

    /// With an output server of these settings.
    pub async fn tuned(version: ServerVersion, settings: &[(&str, &str)], schema: &str) -> Self {
        let programs = version.installation().bin_dir.display().to_string();
        let fill = async |primary: &TestServer| drop(primary.psql(DATABASE, schema).await);
        Self::beside(version, version, settings, fill, programs).await
    }

    async fn beside(
        primary: ServerVersion,
        replica: ServerVersion,
        settings: &[(&str, &str)],
        fill: impl AsyncFnOnce(&TestServer),
        programs: String,
    ) -> Self {
        let primary = TestServer::start(primary, TestServerOptions::default()).await;
        let options = TestServerOptions { role: ClusterRole::Replica, ..TestServerOptions::default() };
        let options = settings.iter().fold(options, |options, (name, value)| options.with(name, value));
        let replica = TestServer::start(replica, options).await;
        primary.database(DATABASE).await;
        fill(&primary).await;
        let folder = tempfile::tempdir().unwrap();
        let input = primary.dsn(DATABASE).to_uri_with_password();
        let output = replica.dsn(REPLICA).to_uri_with_password();
        let variables =
            [("INPUT_DSN", input.as_str()), ("OUTPUT_DSN", output.as_str()), ("PG_BIN", programs.as_str())];
        let api = Api::open(configuration(folder.path(), &variables), Role::Up).await;
        wait_until("the listener streams", Duration::from_secs(60), async || {
            api.get("/api/status").await["databases"][0]["listener"]["state"] == "streaming"
        })
        .await;
        Self { primary, replica, api, folder }
    }

    pub async fn checkpoint(&self, name: &str) -> Value {
        self.api.post("/api/checkpoints", &json!({"name": name}).to_string()).await
    }

    pub async fn try_go(&self, position: &str) -> (StatusCode, Value) {
        self.api.send(Method::POST, "/api/navigate", &json!({"position": position}).to_string()).await
    }

    pub async fn go(&self, position: &str) -> Value {
        let (status, answer) = self.try_go(position).await;
        assert!(status.is_success(), "to {position}: {answer:#}");
        answer
    }

    /// Somebody writes to the session's database.
    pub async fn tamper(&self, sql: &str) {
        self.replica.psql(REPLICA, &format!("SET default_transaction_read_only = off; {sql}")).await;
    }

    pub async fn close(self) {
        self.api.service.close().await.unwrap();
    }
}
