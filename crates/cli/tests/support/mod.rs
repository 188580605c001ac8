//! Runs the built program as a user does: as a process, in a folder of its own, judged by what it prints.
#![allow(dead_code, missing_docs)]

pub mod pair;

#[allow(unused_imports, reason = "each test file uses its own part")]
pub use ptr_testkit::Chance;

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

/// The program on a data directory and two databases of its own.
pub struct Product {
    pub folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

impl Product {
    /// Nothing runs yet. Without DSNs, commands use embedded servers.
    pub fn new(input: Option<&str>, output: Option<&str>) -> Self {
        let folder =
            tempfile::Builder::new().prefix("ptr-product-").tempdir_in("/var/tmp").expect("a folder");
        let mut environment = Vec::new();
        environment.extend(input.map(|dsn| ("INPUT_DSN".to_owned(), dsn.to_owned())));
        environment.extend(output.map(|dsn| ("OUTPUT_DSN".to_owned(), dsn.to_owned())));
        Self { folder, environment }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn data_directory(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postgres-test-replay"));
        for name in ["INPUT_DSN", "OUTPUT_DSN", "API_TOKEN", "SERVER_ADDR", "SERVER_PORT", "INPUT_DATABASES"]
        {
            command.env_remove(name);
        }
        command
            .current_dir(self.folder.path())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("NO_COLOR", "1")
            .arg("--data-dir")
            .arg(self.data_directory())
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    pub fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program starts")
    }

    /// What the command printed; panics with everything it said if it failed.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(output.status.success(), "{arguments:?} failed: {}\n{}", output.status, both(&output));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(arguments);
        let text = self.run(&all);
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{arguments:?} printed no JSON: {error}\n{text}"))
    }

    /// Starts a command that goes on, its output in `<folder>/<name>.log`.
    pub fn spawn(&self, name: &str, arguments: &[&str]) -> Running {
        self.spawn_where(name, arguments, &[])
    }

    /// The same, with more in its environment.
    pub fn spawn_where(&self, name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Running {
        let log = self.folder.path().join(format!("{name}.log"));
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log).expect("a log file");
        let child = self
            .command(arguments)
            .envs(variables.iter().copied())
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .spawn()
            .expect("the program starts");
        Running { child, log }
    }
}

pub fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A started command; killed at the end of the test.
pub struct Running {
    pub child: Child,
    pub log: PathBuf,
}

impl Running {
    pub fn printed(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    #[track_caller]
    pub fn wait_for_text(&mut self, text: &str) {
        wait_until(&format!("{text:?} to be printed in {}", self.log.display()), || {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("it ended ({status}) before it printed {text:?}:\n{}", self.printed());
            }
            self.printed().contains(text)
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Polls a condition for up to two minutes.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(120), "waited two minutes for {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

pub fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8 path")
}
