//! Servers that the suite's files run on: one alone, one with capture and its replica.

use std::{os::unix::fs::PermissionsExt as _, path::PathBuf};

use ptr_testkit::{ClusterRole, DatabaseState, ServerVersion, TestServer, TestServerOptions};

use crate::{
    outcome::Outcome,
    suite::Suite,
    support::{self, Product, Running},
};

const DATABASE: &str = "regression";

fn options(role: ClusterRole) -> TestServerOptions {
    TestServerOptions { role, ..TestServerOptions::default() }
        .with("max_prepared_transactions", "8")
        // A build with the test's library reads it from where the suite is.
        .with("max_connections", "40")
}

/// A folder that the files' COPY commands write to, on the server.
fn build_folder(server: &TestServer) -> PathBuf {
    let folder = server.folder().join("build");
    std::fs::create_dir_all(folder.join("results")).expect("a folder");
    for folder in [folder.clone(), folder.join("results")] {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).expect("its permissions");
    }
    folder
}

async fn primary(version: ServerVersion) -> TestServer {
    let server = TestServer::start(version, options(ClusterRole::Primary)).await;
    server.database(DATABASE).await;
    server.psql("postgres", &Suite::database_settings()).await;
    build_folder(&server);
    server
}

/// A server without capture: what a file prints there is what it should print.
pub struct Plain {
    server: TestServer,
    suite: Suite,
}

impl Plain {
    pub async fn start(version: ServerVersion, suite: Suite) -> Self {
        Self { server: primary(version).await, suite }
    }

    pub async fn run_file(&mut self, file: &str) -> String {
        self.suite.run(file, &self.server.dsn(DATABASE), &build_folder(&self.server)).await
    }
}

/// A captured primary and its replica.
pub struct Stage {
    version: ServerVersion,
    suite: Suite,
    primary: TestServer,
    replica: TestServer,
    product: Product,
    up: Running,
    set_ups: u32,
    /// How the base image differs from the primary; empty at first, when the primary is empty.
    pub base_differs: Vec<String>,
}

impl Stage {
    /// Files of `before` have run when capture begins.
    pub async fn capturing(version: ServerVersion, suite: Suite, before: &[String]) -> Self {
        let primary = primary(version).await;
        for file in before {
            suite.run(file, &primary.dsn(DATABASE), &build_folder(&primary)).await;
        }
        let replica = TestServer::start(version, options(ClusterRole::Replica)).await;
        let (product, up) = set_up(version, &primary, &replica, 0);
        let mut stage =
            Self { version, suite, primary, replica, product, up, set_ups: 0, base_differs: Vec::new() };
        stage.base_differs = stage.base_differences().await;
        stage
    }

    pub async fn run_file(&self, file: &str) -> String {
        self.suite.run(file, &self.primary.dsn(DATABASE), &build_folder(&self.primary)).await
    }

    /// A checkpoint at the primary's present state.
    pub fn checkpoint(&self, file: &str) -> String {
        let name = format!("after-{file}");
        self.product.run(&["checkpoint", "create", &name]);
        name
    }

    /// Takes the replica to a checkpoint.
    pub fn navigate(&self, checkpoint: &str) -> Result<(), String> {
        let output = self.product.output(&["navigate", checkpoint, "--yes"]);
        if output.status.success() { Ok(()) } else { Err(support::both(&output)) }
    }

    pub async fn state_of_primary(&self) -> DatabaseState {
        DatabaseState::capture(&self.primary.dsn(DATABASE)).await
    }

    pub async fn state_of_replica(&self) -> DatabaseState {
        DatabaseState::capture(&self.replica.dsn(&self.session_database())).await
    }

    fn session_database(&self) -> String {
        session_database(self.set_ups)
    }

    /// A new base image of the primary as it is, and a session that has never seen the earlier one.
    pub async fn set_up_again(mut self) -> Self {
        self.up.kill();
        self.product.run(&["teardown", "--yes"]);
        self.replica
            .psql("postgres", &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.session_database()))
            .await;
        self.set_ups += 1;
        let (product, up) = set_up(self.version, &self.primary, &self.replica, self.set_ups);
        let mut stage = Self { product, up, ..self };
        stage.base_differs = stage.base_differences().await;
        stage
    }

    /// How the replica compares with a state of the primary, but for what the base image did not bring over.
    pub async fn outcome(&self, kept: &DatabaseState) -> Outcome {
        let found = kept.differences(&self.state_of_replica().await);
        Outcome::of(found.into_iter().filter(|difference| !self.base_differs.contains(difference)).collect())
    }

    async fn base_differences(&self) -> Vec<String> {
        self.state_of_primary().await.differences(&self.state_of_replica().await)
    }
}

fn session_database(set_ups: u32) -> String {
    format!("replayed_{set_ups}")
}

fn set_up(
    version: ServerVersion,
    primary: &TestServer,
    replica: &TestServer,
    set_ups: u32,
) -> (Product, Running) {
    let input = primary.dsn(DATABASE).to_uri_with_password();
    let output = replica.dsn(&session_database(set_ups)).to_uri_with_password();
    let programs = version.installation().bin_dir;
    let product = Product::new(Some(&input), Some(&output)).with("PG_BIN", support::path(&programs));
    let mut up = product.spawn("up", &["up", "--addr", "127.0.0.1:0"]);
    up.wait_for_text("capturing");
    (product, up)
}
