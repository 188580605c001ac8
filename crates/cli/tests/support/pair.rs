//! A primary, a replica and the product capturing between them; states that are kept at checkpoints.

use ptr_testkit::{
    ClusterRole, DatabaseState, ServerVersion, TestServer, TestServerOptions, assert_equal_states,
};

use super::{Chance, Product, Running, both, path};

/// The captured database.
pub const DATABASE: &str = "shop";

/// A primary with a loaded database, an empty replica, and the product capturing between them.
pub struct Pair {
    pub primary: TestServer,
    pub replica: TestServer,
    pub product: Product,
    up: Running,
}

/// What the primary was at a position.
pub struct Kept {
    pub position: String,
    pub state: DatabaseState,
}

impl Pair {
    pub async fn capturing(version: ServerVersion, tables: impl AsyncFnOnce(&TestServer)) -> Self {
        Self::capturing_with(version, TestServerOptions::default(), tables).await
    }

    /// As [`Pair::capturing`], with settings of the primary.
    pub async fn capturing_with(
        version: ServerVersion,
        options: TestServerOptions,
        tables: impl AsyncFnOnce(&TestServer),
    ) -> Self {
        Self::between(version, version, options, tables).await
    }

    /// As [`Pair::capturing`], with settings of the product.
    pub async fn capturing_where(
        version: ServerVersion,
        variables: &[(&str, &str)],
        tables: impl AsyncFnOnce(&TestServer),
    ) -> Self {
        Self::begin(version, version, TestServerOptions::default(), variables, tables).await
    }

    /// With a replica of another version.
    pub async fn between(
        version: ServerVersion,
        replica: ServerVersion,
        options: TestServerOptions,
        tables: impl AsyncFnOnce(&TestServer),
    ) -> Self {
        Self::begin(version, replica, options, &[], tables).await
    }

    async fn begin(
        version: ServerVersion,
        replica: ServerVersion,
        options: TestServerOptions,
        variables: &[(&str, &str)],
        tables: impl AsyncFnOnce(&TestServer),
    ) -> Self {
        let primary = TestServer::start(version, options.clone()).await;
        let replica =
            TestServer::start(replica, TestServerOptions { role: ClusterRole::Replica, ..options }).await;
        primary.database(DATABASE).await;
        tables(&primary).await;
        let input = primary.dsn(DATABASE).to_uri_with_password();
        let output = replica.dsn(DATABASE).to_uri_with_password();
        // pg_dump must not be older than the server.
        let programs = version.installation().bin_dir;
        let mut product = Product::new(Some(&input), Some(&output)).with("PG_BIN", path(&programs));
        for (name, value) in variables {
            product = product.with(name, value);
        }
        let mut up = product.spawn("up", &["up", "--addr", "127.0.0.1:0"]);
        up.wait_for_text("capturing");
        Self { primary, replica, product, up }
    }

    /// What the product that captures has said so far.
    pub fn printed(&self) -> String {
        self.up.printed()
    }

    /// Kills the product as a power cut would.
    pub fn kill(&mut self) {
        self.up.kill();
    }

    /// Starts it again.
    pub fn start_again(&mut self) {
        drop(std::fs::remove_file(&self.up.log));
        self.up = self.product.spawn("up", &["up", "--addr", "127.0.0.1:0"]);
        self.up.wait_for_text("capturing");
    }

    /// The same, with more in its environment, this time only.
    pub fn start_again_where(&mut self, variables: &[(&str, &str)]) {
        drop(std::fs::remove_file(&self.up.log));
        self.up = self.product.spawn_where("up", &["up", "--addr", "127.0.0.1:0"], variables);
        self.up.wait_for_text("capturing");
    }

    pub async fn state_of_primary(&self) -> DatabaseState {
        DatabaseState::capture(&self.primary.dsn(DATABASE)).await
    }

    /// Takes the replica to a position, and keeps what it is there.
    pub async fn state_of_replica_at(&self, position: &str) -> Kept {
        self.product.run(&["navigate", position]);
        let state = DatabaseState::capture(&self.replica.dsn(DATABASE)).await;
        Kept { position: position.to_owned(), state }
    }

    /// Makes a checkpoint and keeps what the primary is; nobody may be writing.
    pub async fn keep(&self, name: &str) -> Kept {
        self.product.run(&["checkpoint", "create", name]);
        Kept { position: name.to_owned(), state: self.state_of_primary().await }
    }

    /// What the primary is before anything was captured.
    pub async fn keep_creation(&self) -> Kept {
        Kept { position: "CREATION".to_owned(), state: self.state_of_primary().await }
    }

    /// Takes the replica there; what differs, or why it did not get there.
    pub async fn differences(&self, kept: &Kept) -> Vec<String> {
        println!("navigate {}", kept.position);
        let output = self.product.output(&["navigate", &kept.position]);
        if !output.status.success() {
            return vec![format!("navigate failed: {}\nup printed: {}", both(&output), self.up.printed())];
        }
        kept.state.differences(&DatabaseState::capture(&self.replica.dsn(DATABASE)).await)
    }

    /// Navigates to each kept state, in random order, and compares. Where one differs, goes through them in the
    /// order in which they were made, to name the first.
    pub async fn assert_all_come_back(&self, kept: &[Kept], chance: &mut Chance) {
        let mut order: Vec<usize> = (0..kept.len()).collect();
        chance.shuffle(&mut order);
        for place in order {
            let found = self.differences(&kept[place]).await;
            if found.is_empty() {
                continue;
            }
            eprintln!("{} differs:\n{}", kept[place].position, beginning(&found));
            for earlier in kept {
                let found = self.differences(earlier).await;
                assert!(
                    found.is_empty(),
                    "the first that differs is {}, in {} places:\n{}",
                    earlier.position,
                    found.len(),
                    beginning(&found)
                );
            }
            panic!("{} differs only when it is navigated to from elsewhere", kept[place].position);
        }
    }

    pub async fn assert_replica_is(&self, kept: &DatabaseState, position: &str) {
        println!("navigate {position}");
        self.product.run(&["navigate", position]);
        let reached = DatabaseState::capture(&self.replica.dsn(DATABASE)).await;
        assert_equal_states(kept, &reached);
    }
}

fn beginning(differences: &[String]) -> String {
    let shortened = differences.iter().take(20).map(|line| line.chars().take(2000).collect::<String>());
    shortened.collect::<Vec<_>>().join("\n")
}
