//! Bodies that nobody thought of, to each call that takes one: the answer is what was asked for or says what is wrong, and
//! is never that the service broke.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use axum::http::Method;
use ptr_server::Role;
use ptr_testkit::{corpus, fuzz};
use support::{Api, configuration, write_log};

/// Where bodies go, without a server behind: nothing is moved by them.
const CALLS: [(Method, &str); 14] = [
    (Method::POST, "/api/checkpoints"),
    (Method::PATCH, "/api/checkpoints/kept"),
    (Method::POST, "/api/checkpoints/migration/pin"),
    (Method::POST, "/api/sessions"),
    (Method::POST, "/api/sessions/switch"),
    (Method::POST, "/api/navigate"),
    (Method::POST, "/api/replay"),
    (Method::POST, "/api/undo"),
    (Method::POST, "/api/redo"),
    (Method::POST, "/api/decisions"),
    (Method::POST, "/api/keyframes"),
    (Method::POST, "/api/verify"),
    (Method::POST, "/api/backups"),
    (Method::POST, "/api/sessions/default/open"),
];

#[test]
fn a_body_of_any_form_is_taken_or_refused() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let configuration = configuration(folder.path(), &[("INPUT_DATABASES", "testdb")]);
    write_log(&configuration.data.log_of("testdb"));
    let api = runtime.block_on(Api::open(configuration, Role::Offline));
    let mut number = 0;
    fuzz("bodies", &corpus("bodies.jsonl"), |input| {
        let Ok(text) = std::str::from_utf8(input) else { return false };
        number += 1;
        let (method, path) = &CALLS[number % CALLS.len()];
        let (status, answer) = runtime.block_on(api.send(method.clone(), path, text));
        // There is a log and no base image, which is said as it should be.
        let detail = answer["detail"].as_str().unwrap_or_default();
        if detail.contains("base/testdb/manifest.json") {
            return true;
        }
        assert!(answer["code"] != "failed" && answer["code"] != "integrity", "{method} {path}: {answer:#}");
        if !status.is_success() {
            assert!(
                !detail.is_empty() || status == 405 || status == 404,
                "{method} {path}: {status} {answer:#}"
            );
        }
        status.is_success() || status == 422 || status == 409
    });
}
