//! The README's five minutes, as a user has them: the built program, embedded servers, `psql`.
#![allow(missing_docs)]

mod support;

use std::process::Command;

use support::{Product, both};

/// A product that is up; down again at the end of the test, whatever happens in it.
struct Up(Product);

impl Up {
    fn start() -> Self {
        let up = Self(Product::new(None, None));
        let said = up.0.output(&["up", "--detach", "--addr", ":0"]);
        assert!(said.status.success(), "{}", both(&said));
        let stdout = String::from_utf8_lossy(&said.stdout);
        assert!(stdout.contains("capturing  testdb"), "{stdout}");
        up
    }

    #[track_caller]
    fn psql(&self, which: &str, sql: &str) -> String {
        let dsn = self.0.run(&["dsn", which]);
        let output = Command::new("psql")
            .args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", dsn.trim(), "-c", sql])
            .output()
            .expect("psql starts");
        assert!(output.status.success(), "{sql}: {}", both(&output));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let said = self.0.output(&["down"]);
        if !said.status.success() {
            eprintln!("down failed: {}", both(&said));
        }
    }
}

#[test]
fn a_change_is_taken_back_and_made_again() {
    let up = Up::start();
    up.psql("input", "create table t(id int primary key, v text); insert into t values (1,'a')");
    up.0.run(&["checkpoint", "create", "before-update"]);
    up.psql("input", "update t set v='b'");

    up.0.run(&["navigate", "before-update"]);
    assert_eq!(up.psql("output", "select * from t"), "1|a");
    up.0.run(&["checkpoint", "create", "after-update"]);
    up.0.run(&["navigate", "head"]);
    assert_eq!(up.psql("output", "select * from t"), "1|b");

    up.0.run(&["undo"]);
    assert_eq!(up.psql("output", "select * from t"), "1|a");
    up.0.run(&["redo"]);
    assert_eq!(up.psql("output", "select * from t"), "1|b");

    let log = up.0.run(&["--json", "log"]);
    let operations: Vec<String> = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a JSON line"))
        .map(|entry| entry["operation"].as_str().expect("an operation").to_owned())
        .collect();
    assert_eq!(operations, ["DDL", "INSERT", "UPDATE"]);
    assert!(up.0.run(&["diff", "before-update", "head"]).contains(r#"v: "a" -> "b""#));
}

#[test]
fn what_runs_already_is_used_and_what_is_stopped_comes_back_as_it_was() {
    let up = Up::start();
    up.psql("input", "create table t(id int primary key); insert into t values (1)");
    up.0.run(&["checkpoint", "create", "one"]);

    let again = up.0.output(&["up", "--detach"]);
    assert!(again.status.success() && both(&again).contains("already up"), "{}", both(&again));
    let second = up.0.output(&["up", "--addr", ":0"]);
    assert_eq!(second.status.code(), Some(4), "{}", both(&second));

    assert_eq!(up.0.run(&["down"]), "stopped\n");
    let names = |list: serde_json::Value| -> Vec<String> {
        let all = list.as_array().expect("a list").iter();
        all.map(|one| one["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert!(names(up.0.json(&["checkpoint", "list"])).contains(&"one".to_owned()), "without a service");

    up.0.run(&["up", "--detach", "--addr", ":0"]);
    up.0.run(&["navigate", "one"]);
    assert_eq!(up.psql("output", "select * from t"), "1");
}
