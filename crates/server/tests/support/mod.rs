//! What the tests of the API share: a client of the router in this process, and a log written by hand.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]
#![allow(dead_code, unused_imports, reason = "each test file uses its own part")]

mod world;

pub use world::{DATABASE, REPLICA, World};

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Method, Request, StatusCode},
};
use ptr_server::{
    Announcement, Announcer, Configuration, Problem, Role, Service, configuration::Sources, router,
};
use ptr_testkit::{HandwrittenLog, HandwrittenTable};
use serde_json::Value;
use tokio::sync::mpsc;
use tower::ServiceExt;

/// A client of the router, without a network.
pub struct Api {
    pub service: Arc<Service>,
    router: Router,
}

impl Api {
    pub async fn open(configuration: Configuration, role: Role) -> Self {
        Self::open_aloud(configuration, role).await.0
    }

    /// Also gives what was announced.
    pub async fn open_aloud(configuration: Configuration, role: Role) -> (Self, Vec<Announcement>) {
        let (announcements, mut announced) = mpsc::unbounded_channel();
        let announcer = Announcer::to(announcements);
        let service = Service::open(configuration, role, &announcer).await.expect("the service opens");
        let told = std::iter::from_fn(|| announced.try_recv().ok()).collect();
        (Self::of(service), told)
    }

    /// Why a service does not start.
    pub async fn refused(configuration: Configuration, role: Role) -> Problem {
        match Service::open(configuration, role, &Announcer::silent()).await {
            Ok(_) => panic!("the service starts"),
            Err(error) => error.problem(),
        }
    }

    fn of(service: Arc<Service>) -> Self {
        Self { router: router(Arc::clone(&service)), service }
    }

    /// Sends a body as `curl -d` does: as a form.
    pub async fn send(&self, method: Method, path: &str, body: &str) -> (StatusCode, Value) {
        let form = "application/x-www-form-urlencoded";
        let request = Request::builder().method(method).uri(path).header("content-type", form);
        self.request(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    /// Bytes of an answer as they go to a browser: compressed.
    pub async fn wire_size(&self, path: &str) -> usize {
        let request = Request::get(path).header("accept-encoding", "gzip").body(Body::empty()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.headers()["content-encoding"], "gzip", "{path}");
        to_bytes(response.into_body(), usize::MAX).await.unwrap().len()
    }

    /// The answer with its body still to be fetched.
    pub async fn respond(&self, request: Request<Body>) -> axum::response::Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub async fn request(&self, request: Request<Body>) -> (StatusCode, Value) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into()))
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.send(Method::GET, path, "").await;
        assert!(status.is_success(), "GET {path}: {status} {answer:#}");
        answer
    }

    pub async fn post(&self, path: &str, body: &str) -> Value {
        let (status, answer) = self.send(Method::POST, path, body).await;
        assert!(status.is_success(), "POST {path} {body}: {status} {answer:#}");
        answer
    }
}

/// A configuration of these variables, with its data under `folder`.
pub fn configuration(folder: &Path, variables: &[(&str, &str)]) -> Configuration {
    let mut environment: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    environment.insert("USER".into(), "nobody".into());
    // Tests run side by side.
    environment.entry("SERVER_ADDR".into()).or_insert_with(|| "127.0.0.1:0".into());
    let sources = Sources { environment, current_folder: folder.to_owned(), ..Sources::default() };
    Configuration::resolve(&sources).unwrap()
}

/// Writes the log of `testdb`: transaction 100 inserts a row, 101 changes it, 102 deletes it and inserts two.
pub fn write_log(directory: &Path) {
    let mut log = HandwrittenLog::begin(directory, Duration::from_secs(1));
    let items = items();
    log.transaction([items.insert(&["1", "9007199254740993"])]);
    log.transaction([items.update(&["1", "9007199254740993"], &["1", "5"])]);
    log.transaction([items.delete(&["1", "5"]), items.insert(&["2", "6"]), items.insert(&["3", "7"])]);
    log.close();
}

/// Writes a log of `testdb` with so many transactions of so many inserts each; each row's `amount` is its entry's index.
pub fn write_many(directory: &Path, transactions: u32, inserts: u32) {
    let mut log = HandwrittenLog::begin(directory, Duration::from_secs(1));
    let items = items();
    for number in 0..transactions {
        let index = |row: u32| (number * inserts + row).to_string();
        log.transaction((0..inserts).map(|row| items.insert(&[&row.to_string(), &index(row)])));
    }
    log.close();
}

fn items() -> HandwrittenTable {
    HandwrittenTable::new("items", &[("id", true, 23, "integer"), ("amount", true, 20, "bigint")])
}
