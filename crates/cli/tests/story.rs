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

/// Rows that refer to others by name and by number, values without equality, rows that are there twice, a unique value
/// that changes hands, and a trigger whose work is among the changes.
const SHOP: &str = "
    create table zparent(id int primary key, n text unique);
    create table child(id int generated always as identity primary key, p int references zparent, j json, c char(5),
        twice int generated always as (p * 2) stored);
    create table loose(j json, c char(5), t text, f float8, b bool);
    create table audit(what text);
    create function note() returns trigger language plpgsql as $$ begin insert into audit values (tg_op); return null; end $$;
    create trigger noted after insert or delete on zparent for each row execute function note();
    insert into zparent values (1, 'a'), (2, 'b');
    insert into child(p, j, c) values (1, '{\"a\": 1}', 'ab'), (2, '[1]', null);
    insert into loose select '{\"x\": 1}', 'cd', '', 0.1, true from generate_series(1, 3)";

const CHANGES: &str = "
    insert into zparent values (3, 'c');
    insert into child(p, j, c) values (3, null, E'\\\\');
    update child set p = 3, j = '[]' where p = 2;
    delete from zparent where id = 2;
    update child set p = 3;
    delete from zparent where id = 1;
    insert into zparent values (4, 'a');
    delete from loose where ctid = (select ctid from loose limit 1);
    insert into loose values (null, '', 'x', 'NaN', false)";

const CONTENTS: &str = "
    select * from (select 'p' as of, z::text from zparent z union all select 'c', c::text from child c
        union all select 'l', l::text from loose l union all select 'a', a::text from audit a) as all_of_it order by 1, 2";

#[test]
fn a_difference_as_sql_leads_another_database_there_and_back() {
    let up = Up::start();
    up.psql("input", SHOP);
    up.0.run(&["checkpoint", "create", "one"]);
    let one = up.psql("input", CONTENTS);
    up.psql("input", CHANGES);
    up.0.run(&["checkpoint", "create", "two"]);
    let two = up.psql("input", CONTENTS);

    up.0.run(&["session", "create", "there", "--at", "one"]);
    up.0.run(&["session", "open", "there"]);
    up.0.run(&["session", "switch", "there"]);
    for (from, to, expected) in [("one", "two", &two), ("two", "one", &one)] {
        let sql = up.0.run(&["diff", from, to, "--sql"]);
        up.psql("session", &sql);
        assert_eq!(up.psql("session", CONTENTS), *expected, "{sql}");
    }

    // No statement takes a schema change back.
    up.psql("input", "alter table loose add more int");
    up.0.run(&["checkpoint", "create", "three"]);
    assert!(up.0.run(&["diff", "two", "three", "--sql"]).contains("alter table loose add more int;"));
    let back = up.0.output(&["diff", "three", "two", "--sql"]);
    assert_eq!((back.status.code(), back.stdout.len()), (Some(4), 0), "{}", both(&back));
    assert!(both(&back).contains("alter table loose add more int"), "{}", both(&back));
}

#[test]
fn a_difference_as_sql_leads_past_a_table_that_was_emptied_and_not_past_one_that_was_defined_anew() {
    let up = Up::start();
    up.psql(
        "input",
        "create table orders(id int primary key, s text); create table cache(id int primary key);
         create table items(id int primary key, s text); insert into cache values (1)",
    );
    up.0.run(&["checkpoint", "create", "one"]);
    for sql in [
        "insert into orders values (10, 'new')",
        "truncate cache",
        "update orders set s = 'paid' where id = 10",
    ] {
        up.psql("input", sql);
    }
    up.0.run(&["checkpoint", "create", "two"]);
    let contents = "select * from orders";

    up.0.run(&["session", "create", "there", "--at", "one"]);
    up.0.run(&["session", "open", "there"]);
    up.0.run(&["session", "switch", "there"]);
    for (from, to, expected) in [("one", "two", "10|paid"), ("two", "one", "")] {
        let sql = up.0.run(&["diff", from, to, "--table", "orders", "--sql"]);
        up.psql("session", &sql);
        assert_eq!(up.psql("session", contents), expected, "{sql}");
    }
    let refused = up.0.output(&["diff", "one", "two", "--sql"]);
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(4), 0), "{}", both(&refused));
    assert!(both(&refused).contains("public.cache was truncated between"), "{}", both(&refused));

    for sql in [
        "insert into items values (1, 'a')",
        "alter table items add more text",
        "update items set s = 'b', more = 'm'",
    ] {
        up.psql("input", sql);
    }
    up.0.run(&["checkpoint", "create", "three"]);
    for (from, to) in [("two", "three"), ("three", "two")] {
        let refused = up.0.output(&["diff", from, to, "--sql"]);
        assert_eq!((refused.status.code(), refused.stdout.len()), (Some(4), 0), "{}", both(&refused));
        let said = both(&refused);
        assert!(said.contains("public.items was defined anew") && said.contains("log --op ddl"), "{said}");
        assert!(up.0.run(&["diff", from, to]).contains("public.items"), "without --sql it is shown");
    }
}

/// Sends a process what the system sends when its terminal is closed.
fn hang_up(pid: u32) {
    let sent = Command::new("kill").args(["-HUP", &pid.to_string()]).status().expect("kill starts");
    assert!(sent.success(), "no signal could be sent");
}

#[test]
fn a_closed_terminal_ends_everything_in_good_order_and_nohup_keeps_it() {
    let product = Product::new(None, None);
    let mut up = product.spawn("up", &["up", "--addr", ":0"]);
    up.wait_for_text("capturing  testdb");
    hang_up(up.child.id());
    let status = up.child.wait().expect("a child");
    assert!(status.success() && up.printed().contains("stopping"), "{status}: {}", up.printed());
    // Else the embedded servers would be there to be stopped.
    assert_eq!(product.run(&["down"]).trim(), "nothing was running");

    let mut command = Command::new("nohup");
    let as_usual = product.command(&["up", "--addr", ":0"]);
    command.arg(as_usual.get_program()).args(as_usual.get_args()).stdin(std::process::Stdio::null());
    for (name, value) in as_usual.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let log = std::fs::File::create(product.data_directory().join("nohup.log")).expect("a log");
    command.current_dir(as_usual.get_current_dir().expect("a folder"));
    command.stdout(log.try_clone().expect("a second handle")).stderr(log);
    let child = command.spawn().expect("nohup starts");
    let mut kept = support::Running { child, log: product.data_directory().join("nohup.log") };
    kept.wait_for_text("capturing  testdb");
    hang_up(kept.child.id());
    product.run(&["checkpoint", "create", "after-the-terminal"]);
    assert_eq!(product.run(&["down"]).trim(), "stopped");
    assert!(kept.child.wait().expect("a child").success(), "{}", kept.printed());
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
