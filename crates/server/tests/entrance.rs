//! The API at its sockets: TLS, clients that say nothing or go away, more connections than there is room for; and who is
//! told where embedded servers are.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::Command,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    body::Body,
    http::{Method, Request, StatusCode},
};
use ptr_model::Timestamp;
use ptr_server::{Announcer, Role, Running, Service};
use ptr_testkit::{Certificates, wait_until};
use serde_json::json;
use support::{Api, configuration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};

/// A service without servers that answers at its sockets.
struct Served {
    running: Running,
    service: Arc<Service>,
    serving: JoinHandle<()>,
    _folder: TempDir,
}

async fn served(variables: &[(&str, &str)]) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let configuration = configuration(folder.path(), variables);
    let service = Service::open(configuration.clone(), Role::Offline, &Announcer::silent()).await.unwrap();
    let serving = tokio::spawn({
        let service = Arc::clone(&service);
        async move { ptr_server::serve(service).await.unwrap() }
    });
    let found = || Running::find(&configuration.data).unwrap();
    wait_until("the service is published", Duration::from_secs(20), async || found().is_some()).await;
    Served { running: found().unwrap(), service, serving, _folder: folder }
}

impl Served {
    fn port(&self) -> &str {
        self.running.address.rsplit_once(':').unwrap().1
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.running.address).await.unwrap()
    }

    async fn end(self) {
        self.service.shutdown_token().cancel();
        self.serving.await.unwrap();
        self.service.close().await.unwrap();
    }
}

/// What `curl` prints and says, a client that is not ours.
async fn curl(arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "30", "--noproxy", "*"]).args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().expect("curl starts")).await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn tls(files: &Certificates) -> [(&'static str, &str); 2] {
    [
        ("SERVER_TLS_CERT", files.certificate.to_str().unwrap()),
        ("SERVER_TLS_KEY", files.key.to_str().unwrap()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_certificate_the_api_speaks_tls_and_says_so_to_who_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let files = Certificates::make(folder.path(), &["localhost"]);
    let served = served(&tls(&files)).await;
    let url = format!("https://localhost:{}/health", served.port());
    let authority = files.authority.to_str().unwrap();
    let (done, said) = curl(&["--cacert", authority, &url]).await;
    assert!(done && said.contains(r#""status":"ok""#), "{said}");
    // Nobody who does not trust the authority is answered.
    let (done, said) = curl(&[&url]).await;
    assert!(!done && said.contains("certificate"), "{said}");
    let (done, said) = curl(&["-i", &url.replace("https", "http")]).await;
    assert!(
        done && said.starts_with("HTTP/1.1 400") && said.contains("ask the same with https://"),
        "{said}"
    );
    // Neither one nor the other.
    let mut other = served.connect().await;
    other.write_all(b"\x16 is no handshake, though it begins as one").await.unwrap();
    let mut answer = Vec::new();
    let _ = other.read_to_end(&mut answer).await;
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP"), "{answer:?}");
    // The user's own socket needs none.
    let (_, status) = curl(&[
        "--unix-socket",
        served.running.socket.as_ref().unwrap().to_str().unwrap(),
        "http://own/api/status",
    ])
    .await;
    assert!(status.contains(&format!("\"url\":\"https://{}\"", served.running.address)), "{status}");
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_has_ended_or_soon_will_is_told_with_the_day_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let files = Certificates::make(folder.path(), &["localhost"]);
    let api = Api::open(configuration(folder.path(), &tls(&files)), Role::Offline).await;
    let certificate = async || {
        let doctor = api.get("/api/doctor").await;
        let findings = doctor["findings"].as_array().unwrap();
        findings.iter().find(|finding| finding["code"] == "certificate").cloned()
    };
    let day = Duration::from_secs(24 * 60 * 60);
    let now = SystemTime::now();
    for (end, verb) in
        [(now + 15 * day, None), (now + 13 * day, Some("expires")), (now - day, Some("expired"))]
    {
        Certificates::make_until(folder.path(), &["localhost"], end);
        let found = certificate().await;
        let Some(verb) = verb else {
            assert_eq!(found, None);
            continue;
        };
        let found = found.unwrap();
        let end = end.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
        let end = Timestamp(end.try_into().unwrap()).to_string();
        let title = format!("the certificate {} {verb} on {}", files.certificate.display(), &end[..10]);
        assert_eq!((&found["title"], &found["severity"]), (&json!(title), &json!("warning")));
        let fix = found["fix"].as_str().unwrap();
        assert!(fix.starts_with("renew it") && fix.contains(files.key.to_str().unwrap()), "{fix}");
    }
    api.service.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_was_renewed_is_used_and_half_a_pair_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let files = Certificates::make(folder.path(), &["localhost"]);
    let served = served(&tls(&files)).await;
    let url = format!("https://localhost:{}/health", served.port());
    let before = folder.path().join("before.pem");
    fs::copy(&files.authority, &before).unwrap();
    // The certificate of another pair, whose key has not come yet.
    let elsewhere = tempfile::tempdir().unwrap();
    let renewed = Certificates::make(elsewhere.path(), &["localhost"]);
    fs::copy(&renewed.certificate, &files.certificate).unwrap();
    assert!(curl(&["--cacert", before.to_str().unwrap(), &url]).await.0, "the pair from before stays in use");
    fs::copy(&renewed.key, &files.key).unwrap();
    let (done, said) = curl(&["--cacert", renewed.authority.to_str().unwrap(), &url]).await;
    assert!(done, "{said}");
    assert!(!curl(&["--cacert", before.to_str().unwrap(), &url]).await.0);
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_files_that_cannot_be_used_are_named_with_what_to_do() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let files = Certificates::make(folder.path(), &["localhost"]);
    let other = Certificates::make(elsewhere.path(), &["localhost"]);
    let empty = folder.path().join("empty.pem");
    fs::write(&empty, "nothing\n").unwrap();
    let open = folder.path().join("open.key");
    fs::copy(&files.key, &open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let cases = [
        (
            folder.path().join("nowhere.pem"),
            files.key.clone(),
            "nowhere.pem cannot be read",
            "SERVER_TLS_CERT",
        ),
        (
            files.certificate.clone(),
            folder.path().join("nowhere.key"),
            "nowhere.key cannot be read",
            "SERVER_TLS_KEY",
        ),
        (folder.path().to_owned(), files.key.clone(), "cannot be read: Is a directory", "SERVER_TLS_CERT"),
        (empty.clone(), files.key.clone(), "empty.pem holds no certificate", "SERVER_TLS_CERT"),
        (files.certificate.clone(), empty, "empty.pem holds no private key", "SERVER_TLS_KEY"),
        // Each in the other's place.
        (files.key.clone(), files.certificate.clone(), "holds no certificate", "SERVER_TLS_CERT"),
        (files.certificate.clone(), other.key.clone(), "is not that of the certificate", "files of one pair"),
        (files.certificate.clone(), open.clone(), "everybody on this machine can read", "chmod o= "),
    ];
    for (certificate, key, what, hint) in cases {
        let variables =
            [("SERVER_TLS_CERT", certificate.to_str().unwrap()), ("SERVER_TLS_KEY", key.to_str().unwrap())];
        let refused = support::Api::refused(configuration(folder.path(), &variables), Role::Ipc).await;
        let said = (refused.detail, refused.hint.unwrap());
        assert!(said.0.contains(what) && said.1.contains(hint), "{said:?} is not {what:?}, {hint:?}");
    }
    // As the last one said.
    let mended = Command::new("sh").args(["-c", &format!("chmod o= {}", open.display())]).status().unwrap();
    assert!(mended.success());
    let variables = [
        ("SERVER_TLS_CERT", files.certificate.to_str().unwrap()),
        ("SERVER_TLS_KEY", open.to_str().unwrap()),
    ];
    served(&variables).await.end().await;
}

/// Hundreds of connections that say nothing, or a byte now and then, are there to take the room.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_say_nothing_do_not_keep_others_out() {
    let served = served(&[]).await;
    // What is being answered stays.
    let mut stream = served.connect().await;
    stream.write_all(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut head = [0; 15];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    // More than there is room for.
    let mut silent = Vec::new();
    for number in 0..1500 {
        let mut client = served.connect().await;
        if number % 2 == 0 {
            client.write_all(b"GET /health HTTP/1.1\r\nHost: loc").await.unwrap();
        }
        silent.push(client);
        if number % 100 == 99 {
            // Less than it takes until those that are silent are given up.
            let url = format!("http://localhost:{}/health", served.port());
            let (done, said) = curl(&["--max-time", "15", &url]).await;
            assert!(done && said.contains("ok"), "beside {number}: {said}");
        }
    }
    // Those that came first had to go.
    let mut nothing = Vec::new();
    let _ = silent[0].read_to_end(&mut nothing).await;
    assert_eq!(nothing, b"");
    // The stream goes on.
    served.service.shutdown_token().cancel();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert!(rest.contains("text/event-stream"), "{rest}");
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_headers_do_not_come_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let files = Certificates::make(folder.path(), &["localhost"]);
    let (plain, secure) = (served(&[]).await, served(&tls(&files)).await);
    let mut clients = [plain.connect().await, plain.connect().await, secure.connect().await];
    clients[1].write_all(b"GET /health HTTP/1.1\r\n").await.unwrap();
    for client in &mut clients {
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(120), client.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "it is kept for ever");
    }
    plain.end().await;
    secure.end().await;
}

/// Whoever hangs up has not ended what was begun.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_nobody_waits_for_any_more_count_until_they_are_done() {
    let folder = tempfile::tempdir().unwrap();
    let api = Api::open(configuration(folder.path(), &[]), Role::Offline).await;
    let (end, ended) = tokio::sync::watch::channel(false);
    for _ in 0..512 {
        let mut ended = ended.clone();
        let body = Body::from_stream(futures_util::stream::once(async move {
            ended.wait_for(|ended| *ended).await.unwrap();
            Ok::<_, std::io::Error>("{}")
        }));
        let request = Request::post("/api/checkpoints").header("content-type", "application/json");
        let asked = api.respond(request.body(body).unwrap());
        assert!(tokio::time::timeout(Duration::from_millis(1), asked).await.is_err(), "it was answered");
    }
    wait_until("all are under way", Duration::from_secs(10), async || {
        api.send(Method::GET, "/api/sessions", "").await.0 == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    end.send_replace(true);
    wait_until("they are done", Duration::from_secs(10), async || {
        api.send(Method::GET, "/api/sessions", "").await.0 == StatusCode::OK
    })
    .await;
}

/// The port of an embedded server that is down may be anybody's.
#[tokio::test(flavor = "multi_thread")]
async fn who_listens_where_an_embedded_server_was_is_told_nothing_and_nobody_is_sent_there() {
    let folder = tempfile::tempdir().unwrap();
    let configuration = configuration(folder.path(), &[]);
    let api = Api::open(configuration.clone(), Role::Up).await;
    let dsns = ["/api/dsn/input", "/api/dsn/output", "/api/dsn/session"];
    for path in dsns {
        assert!(api.get(path).await["dsn"].as_str().unwrap().contains("@127.0.0.1:"), "{path}");
    }
    let (input, output) = (api.get(dsns[0]).await, api.get(dsns[1]).await);
    api.service.close().await.unwrap();
    drop(api);

    // Somebody who would take passwords, at both ports.
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    for dsn in [input, output] {
        let dsn = dsn["dsn"].as_str().unwrap().to_owned();
        let port: u16 = dsn.rsplit_once(':').unwrap().1.split('/').next().unwrap().parse().unwrap();
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let heard = Arc::clone(&heard);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut asked = [0; 4096];
                // No TLS; and then the password, please.
                while let Ok(length @ 1..) = stream.read(&mut asked).await {
                    heard.lock().unwrap().extend_from_slice(&asked[..length]);
                    let answer: &[u8] = match length {
                        8 => b"N",
                        _ => b"R\0\0\0\x08\0\0\0\x03",
                    };
                    stream.write_all(answer).await.unwrap();
                }
            }
        });
    }
    let offline = Api::open(configuration.clone(), Role::Offline).await;
    for (path, name) in dsns.into_iter().zip(["primary", "replica", "replica"]) {
        let (status, problem) = offline.send(Method::GET, path, "").await;
        assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("precondition")), "{path}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.starts_with(&format!("the embedded {name} does not run")), "{problem:#}");
        assert_eq!(problem["hint"], "run postgres-test-replay up, which starts it");
    }
    // What needs no server goes on, and what asks one finds that it is not ours.
    offline.get("/api/sessions").await;
    let doctor = offline.get("/api/doctor").await;
    assert!(doctor.to_string().contains("may be another server than ours"), "{doctor:#}");
    let heard = std::mem::take(&mut *heard.lock().unwrap());
    assert!(heard.windows(8).any(|word| word == b"database"), "nobody came");
    let told = heard.windows(5).filter(|head| *head == b"p\0\0\0\x25").count();
    assert_eq!(told, 0, "somebody was told a password");
    drop(offline);
    // As the hint says.
    let api = Api::open(configuration, Role::Up).await;
    api.get(dsns[0]).await;
    api.service.close().await.unwrap();
}
