//! What stands in a new user's way, met by the program as a process, and the way that it names, taken.
#![allow(missing_docs)]

mod support;

use std::process::{Command, Stdio};

use ptr_testkit::{DatabaseState, ServerVersion, TestServer, TestServerOptions, assert_equal_states};
use support::{Product, both, wait_until};

const DATABASE: &str = "shop";

async fn server() -> TestServer {
    let server = TestServer::start(ServerVersion::Debian15, TestServerOptions::default()).await;
    server.database(DATABASE).await;
    server.psql(DATABASE, "CREATE TABLE t (id int PRIMARY KEY)").await;
    server
}

/// The program between the server's database and another one of it.
fn product(server: &TestServer, output: &str) -> Product {
    let input = server.dsn(DATABASE).to_uri_with_password();
    let output = server.dsn(output).to_uri_with_password();
    let programs = ServerVersion::Debian15.installation().bin_dir;
    Product::new(Some(&input), Some(&output)).with("PG_BIN", support::path(&programs))
}

/// What stands behind these words, up to a space.
fn behind<'a>(text: &'a str, words: &str) -> &'a str {
    let (_, rest) = text.split_once(words).unwrap_or_else(|| panic!("no {words:?} in:\n{text}"));
    rest.split_whitespace().next().expect("a word")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_and_a_data_directory_in_use_name_the_process_and_the_way() {
    let server = server().await;
    let product = product(&server, "replica");
    let mut first = product.spawn("first", &["up", "--addr", "127.0.0.1:0"]);
    first.wait_for_text("capturing");
    let first_pid = first.child.id().to_string();

    // The same data directory: no second writer, and the process that has it is named.
    let refused = product.output(&["up", "--addr", "127.0.0.1:0"]);
    let said = both(&refused);
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert!(said.contains(&first_pid) && said.contains("down"), "{said}");

    // Another data directory and slot on the port that is taken.
    let address: String = product.json(&["status"])["address"].as_str().expect("an address").to_owned();
    let second = self::product(&server, "replica2").with("REPLICATION_SLOT", "postgres_test_replay_second");
    let refused = second.output(&["up", "--addr", &address]);
    let said = both(&refused);
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert!(said.contains(&format!("pid {first_pid}")), "{said}");
    let free = behind(&said, "--addr ").to_owned();
    drop(second);

    // As the first said: `down`, and then it is free; on the port that the second named.
    product.run(&["down"]);
    wait_until("the first to end", || first.child.try_wait().expect("its state").is_some());
    let mut again = product.spawn("again", &["up", "--addr", &free]);
    again.wait_for_text("capturing");
    assert_eq!(product.json(&["status"])["address"], free.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_holds_something_else_is_left_alone_until_another_is_named_or_it_is_given_up() {
    let server = server().await;
    server.database("precious").await;
    server.psql("precious", "CREATE TABLE theirs (x int); INSERT INTO theirs VALUES (7)").await;
    let refused = product(&server, "precious").output(&["up", "--addr", "127.0.0.1:0"]);
    let said = both(&refused);
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert!(said.contains("theirs") && said.contains("OUTPUT_DSN") && said.contains("--yes"), "{said}");
    assert_eq!(server.psql("precious", "SELECT x FROM theirs").await.trim(), "7");

    // Another database, as it says.
    let other = product(&server, "not_made_yet");
    let mut up = other.spawn("up", &["up", "--addr", "127.0.0.1:0"]);
    up.wait_for_text("capturing");
    other.run(&["navigate", "head"]);
    other.run(&["down"]);
    other.run(&["--yes", "teardown"]);

    // This one, given up.
    let product = product(&server, "precious");
    let mut up = product.spawn("up", &["--yes", "up", "--addr", "127.0.0.1:0"]);
    up.wait_for_text("capturing");
    product.run(&["navigate", "head"]);
    assert_eq!(server.psql("precious", "SELECT to_regclass('theirs') IS NULL").await.trim(), "t");
}

/// A program in the product's folder and environment, without its data directory.
fn environment_of(product: &Product, program: &str) -> Command {
    let mut command = Command::new(program);
    let of = product.command(&[]);
    command.envs(of.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(product.folder.path()).stdin(Stdio::null());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_written_is_named_and_another_one_does() {
    let server = server().await;
    let product = product(&server, "replica");
    // Where nobody can make a folder, not even root.
    let in_nowhere = |arguments: &[&str]| {
        let mut command = environment_of(&product, env!("CARGO_BIN_EXE_postgres-test-replay"));
        command.args(["--data-dir", "/proc/postgres-test-replay"]).args(arguments);
        command.output().expect("the program starts")
    };
    let said = both(&in_nowhere(&["doctor"]));
    assert!(
        said.contains("/proc/postgres-test-replay cannot be written") && said.contains("--data-dir"),
        "{said}"
    );
    let up = in_nowhere(&["up", "--addr", "127.0.0.1:0"]);
    assert!(!up.status.success() && both(&up).contains("/proc/postgres-test-replay"), "{}", both(&up));
    let ours = "SELECT count(*) FROM pg_replication_slots";
    assert_eq!(server.psql(DATABASE, ours).await.trim(), "0", "nothing was begun");
    product.run(&["doctor"]);
}

/// What gives a process file systems of its own; `None` where the system lets only others do so (root may; others may in a
/// user name space, unless that is forbidden, as it is within chroot).
fn own_file_systems() -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["--user", "--map-root-user", "--mount"], &["--mount"]];
    let works = |way: &&[&str]| {
        let tried = std::process::Command::new("unshare").args(*way).arg("true").output();
        tried.is_ok_and(|output| output.status.success())
    };
    let found = ways.into_iter().find(works);
    assert!(
        found.is_some() || std::env::var_os("CI").is_none(),
        "this user can have no file system of its own (unshare)"
    );
    if found.is_none() {
        eprintln!("skipped: this user can have no file system of its own here (unshare)");
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_nearly_full_is_told_with_path_and_bytes() {
    let Some(own_file_systems) = own_file_systems() else { return };
    let server = server().await;
    let product = product(&server, "replica");
    let small = product.folder.path().join("small");
    std::fs::create_dir(&small).expect("a folder");
    // A file system of its own, in a name space of its own, which ends with the process.
    let script = format!(
        "mount -t tmpfs -o size=32m none {0} && {1} --data-dir {0}/data doctor; {1} --data-dir {2}/data doctor >{2}/other 2>&1",
        small.display(),
        env!("CARGO_BIN_EXE_postgres-test-replay"),
        product.folder.path().display()
    );
    let mut command = environment_of(&product, "unshare");
    command.args(own_file_systems).args(["sh", "-c", &script]);
    let said = both(&command.output().expect("unshare starts"));
    assert!(said.contains("[disk]") && said.contains("MB left"), "{said}");
    let told = format!("{}/data has ", small.display());
    let left: u64 = behind(&said, &told).parse().expect("a number");
    assert!((25..=32).contains(&left) && said.contains("--data-dir"), "{said}");
    // Another data directory, as it says.
    let other = std::fs::read_to_string(product.folder.path().join("other")).expect("what doctor said");
    assert!(!other.is_empty() && !other.contains("[disk]"), "{other}");
}

/// Runs on a small file system of its own, in a name space of its own; `$P` is the program, `$D` the file system. A remount
/// that does not name its source takes over `uid=`, which a user name space refuses.
const ON_A_SMALL_DISK: &str = r#"
mount -t tmpfs -o size=16m none "$D" || exit 99
$P --data-dir $D/data up --addr 127.0.0.1:0; echo "first: $?"
echo "slots: $(psql -X -A -t -d "$INPUT_DSN" -c 'SELECT count(*) FROM pg_replication_slots')"
echo "left: $(du -sm $D/data/base | cut -f 1)"
mount -o remount,size=300m none "$D"
$P --data-dir $D/data up --detach --addr 127.0.0.1:0; echo "second: $?"
mount -o remount,size=$(($(df -k --output=used $D | tail -n 1) + 8192))k none "$D"
$P --data-dir $D/data backup create small; echo "full backup: $?"
echo "left of it: $(find $D/data/backups -name '*.dump*' | wc -l)"
mount -o remount,size=300m none "$D"
$P --data-dir $D/data backup create whole; echo "backup: $?"
$P --data-dir $D/data down
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_under_the_base_image_or_a_backup_is_told_and_doing_it_again_works() {
    let Some(own_file_systems) = own_file_systems() else { return };
    let server = server().await;
    // 24 MB that cannot be compressed.
    let sql = "CREATE TABLE large AS SELECT g AS id,
        (SELECT string_agg(decode(md5(random()::text || g || i), 'hex'), '') FROM generate_series(1, 65536) i) AS v
        FROM generate_series(1, 24) g";
    server.psql(DATABASE, sql).await;
    let product = product(&server, "replica");
    let small = product.folder.path().join("small");
    std::fs::create_dir(&small).expect("a folder");
    let mut command = environment_of(&product, "unshare");
    command.args(own_file_systems).args(["sh", "-c", ON_A_SMALL_DISK]);
    command.env("P", env!("CARGO_BIN_EXE_postgres-test-replay")).env("D", &small);
    let said = both(&command.output().expect("unshare starts"));
    println!("{said}");
    let base = format!("no room for the base image in {}/data/base/{DATABASE}.partial", small.display());
    assert!(said.contains(&base) && said.contains("free some space"), "{said}");
    // Nothing keeps WAL on the primary, or room on the disk.
    assert!(said.contains("first: 1\nslots: 0\nleft: 0\n"), "{said}");
    assert!(said.contains("second: 0\n"), "{said}");
    let backup = format!("cannot write {}/data/backups/", small.display());
    assert!(said.contains(&backup) && said.contains("its disk has space"), "{said}");
    assert!(said.contains("full backup: 1\nleft of it: 0\n") && said.contains("backup: 0\n"), "{said}");
    let states = [server.dsn(DATABASE), server.dsn("replica")]
        .map(|dsn| async move { DatabaseState::capture(&dsn).await });
    let [primary, replica] = states;
    assert_equal_states(&primary.await, &replica.await);
}

#[test]
fn what_a_name_holds_is_shown_on_a_terminal_and_not_obeyed() {
    let product = Product::new(None, None);
    let hostile = "evil\u{1b}]0;owned\u{7}\u{1b}[2Jname";
    let program = env!("CARGO_BIN_EXE_postgres-test-replay");
    // `script` gives the program a terminal.
    let command = format!("{program} --env-file '/nowhere/{hostile}' config show");
    let mut script = environment_of(&product, "script");
    let output = script.args(["-q", "-e", "-c", &command, "/dev/null"]).output().expect("script starts");
    let said = both(&output);
    assert!(said.contains(r"evil\u{1b}]0;owned\u{7}\u{1b}[2Jname"), "{said:?}");
    assert!(!said.contains("\u{1b}]0;") && !said.contains("\u{1b}[2J"), "{said:?}");
}
