//! Every `curl` of the first version's README, typed as there, with real ids in the place of its sample ones.
#![allow(missing_docs)]

mod support;

use std::process::Command;

use serde_json::Value;
use support::{Product, both};

/// A product that is up, and `curl` at its API.
struct Api {
    product: Product,
    base: String,
}

impl Api {
    fn start() -> Self {
        let product = Product::new(None, None);
        let said = product.output(&["--json", "up", "--detach", "--addr", ":0"]);
        assert!(said.status.success(), "{}", both(&said));
        let summary: Value = serde_json::from_slice(&said.stdout).expect("JSON");
        let base = format!("http://{}", summary["address"].as_str().expect("an address"));
        Self { product, base }
    }

    /// Status and body.
    #[track_caller]
    fn curl(&self, path: &str, arguments: &[&str]) -> (u16, Value) {
        let output = Command::new("curl")
            .args(["-sS", "-w", "\n%{http_code}", &format!("{}{path}", self.base)])
            .args(arguments)
            .output()
            .expect("curl starts");
        assert!(output.status.success(), "{path}: {}", both(&output));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').expect("a status line");
        let body = serde_json::from_str(body)
            .unwrap_or_else(|error| panic!("{path} answered no JSON: {error}\n{body}"));
        (status.parse().expect("a status"), body)
    }

    #[track_caller]
    fn post(&self, path: &str, body: &str) -> Value {
        let (status, answer) =
            self.curl(path, &["-X", "POST", "-H", "Content-Type: application/json", "-d", body]);
        assert!((200..300).contains(&status), "{path} {body} answered {status}: {answer}");
        answer
    }

    /// As in the use cases, which send JSON under curl's own content type.
    #[track_caller]
    fn post_plain(&self, path: &str, body: &str) -> Value {
        let (status, answer) = self.curl(path, &["-X", "POST", "-d", body]);
        assert!((200..300).contains(&status), "{path} {body} answered {status}: {answer}");
        answer
    }

    #[track_caller]
    fn get(&self, path: &str) -> Value {
        let (status, answer) = self.curl(path, &[]);
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    fn psql(&self, sql: &str) {
        let dsn = self.product.run(&["dsn", "input"]);
        let output = Command::new("psql")
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", dsn.trim(), "-c", sql])
            .output()
            .expect("psql starts");
        assert!(output.status.success(), "{sql}: {}", both(&output));
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let said = self.product.output(&["down"]);
        if !said.status.success() {
            eprintln!("down failed: {}", both(&said));
        }
    }
}

fn text<'a>(answer: &'a Value, field: &str) -> &'a str {
    answer[field].as_str().unwrap_or_else(|| panic!("no {field} in {answer}"))
}

fn has(list: &Value, id: &str) -> bool {
    list.as_array().unwrap_or_else(|| panic!("no array: {list}")).iter().any(|one| one["id"] == id)
}

#[test]
fn every_curl_of_the_first_versions_readme_answers_as_documented() {
    let api = Api::start();
    assert_eq!(api.get("/health")["status"], "ok");
    api.psql(
        "create table orders(id int primary key, amount int); insert into orders values (1, 10), (2, 20)",
    );

    let session = api.post(
        "/api/sessions",
        r#"{"name": "My Test Session", "description": "Testing session for feature X", "database": "testdb"}"#,
    );
    let session_id = text(&session, "id");

    // Its sample LSN is outside any log of ours: refused, with the range that can be reached.
    let sample = format!(
        r#"{{"name": "Before migration", "description": "State before running migration",
            "lsn": "0/1234567", "entry_index": 42, "session_id": "{session_id}"}}"#
    );
    let (status, problem) = api.curl("/api/checkpoints", &["-X", "POST", "-d", &sample]);
    assert_eq!((status, text(&problem, "code")), (422, "position_out_of_range"), "{problem}");
    assert!(problem["range"].is_object(), "{problem}");

    // The same with an LSN and an entry of the log.
    let now = api.post_plain("/api/checkpoints", r#"{"name": "now"}"#);
    let real = format!(
        r#"{{"name": "Before migration", "description": "State before running migration",
            "lsn": {}, "entry_index": {}, "session_id": "{session_id}"}}"#,
        now["lsn"], now["entry_index"]
    );
    let checkpoint = api.post("/api/checkpoints", &real);
    let checkpoint_id = text(&checkpoint, "id");
    assert_eq!(checkpoint["lsn"], now["lsn"]);

    assert!(has(&api.get("/api/sessions"), session_id));
    let switched = api.post("/api/sessions/switch", &format!(r#"{{"session_id": "{session_id}"}}"#));
    assert_eq!(switched["active"], true, "{switched}");

    let moved = api.post("/api/navigate", &format!(r#"{{"checkpoint_id": "{checkpoint_id}"}}"#));
    assert_eq!(moved["to"]["lsn"], checkpoint["lsn"], "{moved}");
    let body = format!(r#"{{"session_id": "{session_id}", "checkpoint_id": "{checkpoint_id}"}}"#);
    assert_eq!(api.post("/api/replay", &body)["status"], "success");

    assert!(has(&api.get("/api/checkpoints"), checkpoint_id));
    let of_session = api.get(&format!("/api/checkpoints?session_id={session_id}"));
    assert!(has(&of_session, checkpoint_id) && !has(&of_session, text(&now, "id")), "{of_session}");

    // The use cases: a migration between two checkpoints, replayed to before it.
    let before = api.post_plain("/api/checkpoints", r#"{"name": "pre-migration"}"#);
    api.psql("alter table orders add column note text");
    api.post_plain("/api/checkpoints", r#"{"name": "post-migration"}"#);
    let replay = format!(r#"{{"checkpoint_id": "{}"}}"#, text(&before, "id"));
    assert_eq!(api.post_plain("/api/replay", &replay)["status"], "success");
    let moved = api.post_plain("/api/navigate", &replay);
    assert_eq!(moved["to"]["lsn"], before["lsn"], "{moved}");
}
