//! What nobody else is to read: passwords, and the files of a data directory.
#![allow(missing_docs)]

mod support;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use ptr_testkit::{ClusterRole, ServerVersion, TestServer, TestServerOptions};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{Product, both};

/// In no other text of this machine.
const PASSWORD: &str = "Zq7-ganz-geheim-Xw3";

/// Reads of all processes, over and over, what everybody may read.
struct Watcher {
    ended: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Command lines that hold the password.
    command_lines: BTreeSet<String>,
    /// Programs that ran.
    programs: BTreeSet<String>,
    /// Those that get the password by their environment and would leave a dump of memory on the disk.
    dumping: BTreeSet<String>,
}

impl Watcher {
    fn start() -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            let mut seen = Seen::default();
            while !flag.load(Ordering::Relaxed) {
                for process in fs::read_dir("/proc").expect("/proc").flatten() {
                    // A process may end meanwhile.
                    let Ok(line) = fs::read(process.path().join("cmdline")) else { continue };
                    let line = String::from_utf8_lossy(&line).replace('\0', " ");
                    let program = Path::new(line.split(' ').next().unwrap_or_default()).file_name();
                    let program = program.unwrap_or_default().to_string_lossy().into_owned();
                    if ["pg_dump", "pg_restore"].contains(&program.as_str()) && dumps(&process.path()) {
                        seen.dumping.insert(program.clone());
                    }
                    seen.programs.insert(program);
                    if line.contains(PASSWORD) {
                        seen.command_lines.insert(line);
                    }
                }
                // A program that runs for shorter has done nothing.
                std::thread::park_timeout(std::time::Duration::from_millis(2));
            }
            seen
        });
        Self { ended, thread }
    }

    fn end(self) -> Seen {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().expect("it reads")
    }
}

/// Whether a process, by its folder in `/proc`, has the password and may leave a dump of its memory.
fn dumps(process: &Path) -> bool {
    let environment = fs::read(process.join("environ")).unwrap_or_default();
    if !environment.windows(PASSWORD.len()).any(|bytes| bytes == PASSWORD.as_bytes()) {
        return false;
    }
    let limits = fs::read_to_string(process.join("limits")).unwrap_or_default();
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
    core.and_then(|core| core.split_whitespace().next()).is_some_and(|soft| soft != "0")
}

async fn server(role: ClusterRole) -> TestServer {
    let options = TestServerOptions { role, ..TestServerOptions::default() };
    let server = TestServer::start(ServerVersion::Debian15, options).await;
    server.psql("postgres", &format!("CREATE ROLE app SUPERUSER LOGIN PASSWORD '{PASSWORD}'")).await;
    server
}

fn uri(server: &TestServer, database: &str) -> String {
    let port = server.dsn(database).hosts()[0].port;
    format!("postgres://app:{PASSWORD}@127.0.0.1:{port}/{database}")
}

/// Every file and folder, with its mode.
fn walk(folder: &Path, found: &mut Vec<(std::path::PathBuf, u32, bool)>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        // What is renamed or removed meanwhile is looked at under its other name.
        let Ok(meta) = fs::symlink_metadata(entry.path()) else { continue };
        found.push((entry.path(), meta.permissions().mode() & 0o777, meta.is_dir()));
        if meta.is_dir() {
            walk(&entry.path(), found);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_nowhere_and_files_are_their_owners_alone() {
    let primary = server(ClusterRole::Primary).await;
    let replica = server(ClusterRole::Replica).await;
    primary.database("shop").await;
    primary.psql("shop", "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')").await;
    let watcher = Watcher::start();
    // As where dumps are wanted of everything.
    let limit = getrlimit(Resource::Core);
    setrlimit(Resource::Core, Rlimit { current: limit.maximum, ..limit }).expect("up to the hard limit");
    let programs = ServerVersion::Debian15.installation().bin_dir;
    // Everything that there is to be said is said, by the service and by the commands.
    let product = Product::new(Some(&uri(&primary, "shop")), Some(&uri(&replica, "replica")))
        .with("PG_BIN", support::path(&programs))
        .with("RUST_LOG", "trace");
    let mut up = product.spawn("up", &["-vv", "up", "--addr", "127.0.0.1:0"]);
    up.wait_for_text("capturing");
    assert!(!dumps(Path::new(&format!("/proc/{}", up.child.id()))));
    primary.psql("shop", "ALTER TABLE t ADD COLUMN w int DEFAULT 1; UPDATE t SET v = 'b'").await;
    let mut said = String::new();
    let commands: [&[&str]; 22] = [
        &["checkpoint", "create", "one", "--hash"],
        &["navigate", "CREATION"],
        &["navigate", "one"],
        &["session", "create", "other"],
        &["session", "resync", "public.t"],
        &["backup", "create"],
        &["backup", "list"],
        &["keyframe", "create"],
        &["verify"],
        &["status"],
        &["--json", "status"],
        &["config", "show"],
        &["--json", "config", "show"],
        &["doctor"],
        &["--json", "log"],
        &["session", "list"],
        &["undo"],
        &["diff", "CREATION", "head"],
        &["navigate", "nowhere"],
        &["--yes", "session", "delete", "other"],
        &["-vv", "log"],
        &["--json", "keyframe", "list"],
    ];
    for command in commands {
        said.push_str(&both(&product.output(command)));
    }
    // The API, each path that takes nothing.
    let address = product.json(&["status"])["address"].as_str().expect("an address").to_owned();
    for path in [
        "status",
        "config",
        "doctor",
        "sessions",
        "checkpoints",
        "keyframes",
        "backups",
        "moves",
        "verifications",
        "dsn/input",
        "dsn/output",
        "dsn/session",
        "openapi.json",
        "wal-logs",
        "transactions",
    ] {
        let curl =
            std::process::Command::new("curl").args(["-s", &format!("http://{address}/api/{path}")]).output();
        let answer = both(&curl.expect("curl starts"));
        assert!(!answer.is_empty(), "/api/{path}");
        said.push_str(&answer);
    }
    // Errors of each kind: a wrong password, a server that is not there, an option that is not known.
    for dsn in [
        uri(&primary, "shop").replace(PASSWORD, &format!("{PASSWORD}-wrong")),
        format!("postgres://app:{PASSWORD}@127.0.0.1:1/shop"),
        format!("postgres://app:{PASSWORD}@127.0.0.1/shop?sslmood=1"),
        format!("postgres://app:{PASSWORD}@@127.0.0.1:x/shop"),
        format!("host=127.0.0.1 password={PASSWORD} x"),
    ] {
        for name in ["INPUT_DSN", "OUTPUT_DSN"] {
            let wrong =
                Product::new(Some(&uri(&primary, "shop")), Some(&uri(&replica, "replica"))).with(name, &dsn);
            said.push_str(&both(&wrong.output(&["-vv", "doctor"])));
            said.push_str(&both(&wrong.output(&["-vv", "up", "--addr", "127.0.0.1:0"])));
        }
    }
    let seen = watcher.end();
    let programs = &seen.programs;
    assert!(programs.contains("pg_dump") && programs.contains("pg_restore"), "{programs:?} were seen");
    assert_eq!(seen.command_lines, BTreeSet::new());
    assert_eq!(seen.dumping, BTreeSet::new());
    for (text, name) in [(&said, "commands and API"), (&up.printed(), "the service's log")] {
        let line = text.lines().find(|line| line.contains(PASSWORD));
        assert_eq!(line, None, "{name}");
    }

    let data = product.data_directory();
    let mut found = Vec::new();
    walk(&data, &mut found);
    assert!(found.len() > 20, "{found:?}");
    for (path, _, is_folder) in &found {
        let holds = if *is_folder { Vec::new() } else { fs::read(path).unwrap_or_default() };
        let holds = holds.windows(PASSWORD.len()).any(|bytes| bytes == PASSWORD.as_bytes());
        assert!(!holds, "{} holds the password", path.display());
    }
    let open = found.iter().filter(|(_, mode, is_folder)| *mode != if *is_folder { 0o700 } else { 0o600 });
    let open: Vec<String> = open.map(|(path, mode, _)| format!("{} {mode:o}", path.display())).collect();
    assert_eq!(open, [""; 0]);
}
