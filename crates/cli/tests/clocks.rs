//! Clocks that are set back while everything runs: the primary's alone, and all of the machine's. Order is the log's, times
//! stay answerable, and nothing goes that is not old by every clock.
//!
//! `libfaketime` gives servers and service a clock that a file moves; what happens to it is what is tried. Without it the
//! test is skipped with a notice, and fails in CI.
#![allow(missing_docs)]

mod support;

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use ptr_postgres::Dsn;
use ptr_testkit::{DatabaseState, assert_equal_states};
use serde_json::Value;
use support::{Product, Running, both, path, wait_until};

/// The library that stands between a program and the clock.
fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    let found = folders.map(|folder| folder.join("faketime/libfaketime.so.1")).find(|path| path.exists());
    assert!(found.is_some() || std::env::var_os("CI").is_none(), "libfaketime is not installed");
    found
}

struct World {
    product: Product,
    up: Running,
    library: PathBuf,
    clock: tempfile::NamedTempFile,
}

impl World {
    fn begin(library: PathBuf, offset: &str) -> Self {
        let clock = tempfile::Builder::new().prefix("ptr-clock-").tempfile_in("/var/tmp").expect("a file");
        // The embedded servers may be another user's.
        std::fs::set_permissions(clock.path(), std::fs::Permissions::from_mode(0o644)).expect("our own file");
        std::fs::write(clock.path(), offset).expect("our own file");
        let product = Product::new(None, None).with("PTR_SEGMENT_BYTES", "3000").with("KEYFRAME_BUDGET", "0");
        let up = Self::spawn(&product, &library, clock.path(), true);
        Self { product, up, library, clock }
    }

    fn spawn(product: &Product, library: &Path, clock: &Path, is_moved: bool) -> Running {
        drop(std::fs::remove_file(product.folder.path().join("up.log")));
        let variables = [
            ("LD_PRELOAD", path(library)),
            ("FAKETIME_TIMESTAMP_FILE", path(clock)),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        let variables = if is_moved { &variables[..] } else { &[] };
        let mut up = product.spawn_where("up", &["up", "--addr", "127.0.0.1:0"], variables);
        up.wait_for_text("capturing");
        up
    }

    /// Sets the clock of whoever has it moved.
    fn set(&self, offset: &str) {
        std::fs::write(self.clock.path(), offset).expect("our own file");
    }

    /// The service anew, with its clock moved or not. The servers run on as they are.
    fn service_again(&mut self, is_moved: bool) {
        self.up.kill();
        self.up = Self::spawn(&self.product, &self.library, self.clock.path(), is_moved);
    }

    fn dsn(&self, which: &str) -> String {
        self.product.run(&["dsn", which]).trim().to_owned()
    }

    #[track_caller]
    fn psql(&self, sql: &str) -> String {
        let dsn = self.dsn("input");
        let output = Command::new("psql")
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", &dsn, "-c", sql])
            .output()
            .expect("psql starts");
        assert!(output.status.success(), "{sql}: {}", both(&output));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// So many transactions, of which some fill a segment.
    fn write(&self, transactions: usize) {
        for _ in 0..transactions {
            self.psql("INSERT INTO t (v) SELECT md5(random()::text) FROM generate_series(1, 30)");
        }
    }

    async fn state(&self, which: &str) -> DatabaseState {
        let dsn = Dsn::parse(&self.dsn(which), &|_| None).expect("a DSN");
        DatabaseState::capture(&dsn).await
    }

    /// A checkpoint, and what the primary is then.
    async fn keep(&self, name: &str) -> (String, DatabaseState) {
        self.product.run(&["checkpoint", "create", name]);
        (name.to_owned(), self.state("input").await)
    }

    async fn assert_comes_back(&self, kept: &(String, DatabaseState)) {
        self.product.run(&["navigate", &kept.0]);
        assert_equal_states(&kept.1, &self.state("output").await);
    }

    fn transaction(&self, position: &str) -> u64 {
        self.product.json(&["checkpoint", "show", position])["transaction"].as_u64().expect("a number")
    }

    fn session_at(&self) -> u64 {
        self.product.json(&["status"])["session"]["position"]["transaction"].as_u64().expect("a number")
    }

    fn recent(&self) -> u64 {
        let status = self.product.json(&["status"]);
        status["databases"][0]["log"]["recent"]["transactions"].as_u64().expect("a number")
    }

    fn gc(&self, arguments: &[&str]) -> Value {
        self.product.json(&[&["gc", "--yes"], arguments].concat())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let said = self.product.output(&["down"]);
        if !said.status.success() {
            eprintln!("down failed: {}", both(&said));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_are_set_back_move_nothing_and_let_nothing_go_that_is_young() {
    let Some(library) = library() else {
        return eprintln!("skipped: libfaketime is not installed (script/test installs it)");
    };
    // All of the machine is two hours back; what is written now is old later on, by every clock.
    let mut world = World::begin(library, "-7200");
    world.psql("CREATE TABLE t (id serial PRIMARY KEY, v text)");
    world.write(8);
    let old = world.keep("old").await;

    // From here on the service's clock is right: to it, the primary's was set back.
    world.service_again(false);
    world.write(12);
    world.product.run(&["checkpoint", "create", "young"]);
    assert_eq!(world.recent(), 0, "two hours ago, as the primary says");
    world.product.run(&["navigate", "1m ago"]);
    assert_eq!(world.session_at(), world.transaction("young"), "all of it committed before, by its clock");
    world.assert_comes_back(&old).await;
    world.product.run(&["navigate", "head"]);
    world.product.run(&["checkpoint", "delete", "old", "--yes"]);
    let last_old = old_transactions(&world);
    world.product.run(&["checkpoint", "delete", "young", "--yes"]);
    let would = world.gc(&["--older-than", "3h", "--dry-run"]);
    assert_eq!(would["removed"], serde_json::json!([]), "nothing is as old as that: {would:#}");
    let done = world.gc(&["--older-than", "1h"]);
    let begins = world.transaction("CREATION");
    assert!(begins > 0, "what is old by both clocks goes: {done:#}");
    assert!(begins <= last_old, "{begins} of {last_old}: what came a moment ago is let go: {done:#}");

    // The primary's is right again, and once more set back.
    world.set("+0");
    world.write(3);
    let right = world.keep("right").await;
    assert!(world.recent() >= 3);
    world.set("-5400");
    world.write(3);
    let back = world.keep("back").await;
    assert!(world.recent() <= 3, "those after it was set back, or none");
    for kept in [&right, &back] {
        world.assert_comes_back(kept).await;
    }
    // The last that committed by then, in log order.
    world.product.run(&["navigate", "30m ago"]);
    assert_eq!(world.session_at(), world.transaction("back"));

    // The clock of the whole machine goes back while all runs.
    world.set("+0");
    world.service_again(true);
    world.write(2);
    let before = world.keep("before").await;
    world.set("-10800");
    world.write(2);
    let after = world.keep("after").await;
    assert!(world.recent() <= 2, "{}", world.recent());
    for time in ["5m ago", "now"] {
        let output = world.product.output(&["navigate", time]);
        assert!([Some(0), Some(2), Some(3)].contains(&output.status.code()), "{time}: {}", both(&output));
    }
    for kept in [&before, &after, &right, &before] {
        world.assert_comes_back(kept).await;
    }
    world.product.run(&["undo"]);
    assert_eq!(
        world.session_at(),
        world.transaction("right"),
        "moves are in the order in which they were made"
    );
    world.product.run(&["redo"]);
    world.product.run(&["navigate", "head"]);
    let begins = world.transaction("CREATION");
    for age in ["0m", "1h"] {
        world.gc(&["--older-than", age]);
        assert!(world.transaction("CREATION") <= world.transaction("right"));
    }
    assert!(world.transaction("CREATION") >= begins);
    for kept in [&right, &back, &before, &after] {
        world.assert_comes_back(kept).await;
    }
    for command in [&["status"][..], &["doctor"], &["log", "--histogram", "time"], &["log", "--limit", "5"]] {
        world.product.run(command);
    }
    world.product.run(&["navigate", "head"]);
    world.product.run(&["verify"]);
    // Times are shown as they are: nothing is taken for damage.
    wait_until("it still captures", || {
        world.product.json(&["status"])["databases"][0]["listener"]["state"] == "streaming"
    });
}

/// Transactions that came while the service's clock was back: the first twelve before `young` came later.
fn old_transactions(world: &World) -> u64 {
    world.transaction("young") - 12
}
