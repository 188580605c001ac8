//! The way to the service as its user has it: TLS by two settings, the user's own socket, a service that is silent.
#![allow(missing_docs)]

mod support;

use std::process::{Command, Stdio};

use ptr_testkit::{Certificates, ServerVersion, TestServer, TestServerOptions};
use support::{Product, both, path, wait_until};

async fn product() -> (TestServer, Product) {
    let server = TestServer::start(ServerVersion::Debian15, TestServerOptions::default()).await;
    server.database("shop").await;
    let dsn = |database: &str| server.dsn(database).to_uri_with_password();
    let programs = ServerVersion::Debian15.installation().bin_dir;
    let product = Product::new(Some(&dsn("shop")), Some(&dsn("replica"))).with("PG_BIN", path(&programs));
    (server, product)
}

fn signal(product: &Product, signal: &str) {
    let file = product.data_directory().join("run/service.json");
    let service: serde_json::Value =
        serde_json::from_slice(&std::fs::read(file).expect("a service")).expect("JSON");
    let sent =
        Command::new("kill").args([signal, &service["pid"].to_string()]).status().expect("kill starts");
    assert!(sent.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_settings_turn_tls_on_and_commands_need_none_of_it() {
    let (_server, product) = product().await;
    let folder = product.folder.path().to_owned();
    let files = Certificates::make(&folder, &["localhost"]);
    // Relative to the file that sets them.
    let settings = "SERVER_TLS_CERT=server.pem\nSERVER_TLS_KEY=server.key\nAPI_TOKEN=";
    // As `printf %s the-token | sha256sum` prints it.
    let digest = "sha256:c2a73fcf61dfbdcadc79a10ba330b2ef5eb66fc0a6735ed69b796bb3c97b97ae";
    std::fs::write(folder.join(".env"), format!("{settings}{digest}\n")).expect("a file");

    std::fs::rename(&files.key, folder.join("moved.key")).expect("a file");
    for arguments in [&["up", "--addr", "127.0.0.1:0"][..], &["up", "--detach", "--addr", "127.0.0.1:0"]] {
        let refused = product.output(arguments);
        let said = both(&refused);
        assert_eq!(refused.status.code(), Some(4), "{said}");
        assert!(
            said.contains("server.key cannot be read") && said.contains("set SERVER_TLS_KEY to"),
            "{said}"
        );
    }
    std::fs::rename(folder.join("moved.key"), &files.key).expect("a file");

    let mut up = product.spawn("up", &["up", "--addr", "127.0.0.1:0"]);
    up.wait_for_text("capturing");
    assert!(up.printed().contains("API        https://"), "{}", up.printed());
    let status = product.json(&["status"]);
    let url = status["url"].as_str().expect("an address").replace("127.0.0.1", "localhost");
    assert!(url.starts_with("https://"), "{url}");
    let curl = |token: &str| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "60", "--noproxy", "*", "--cacert", path(&files.authority)]);
        curl.args(["-H", &format!("Authorization: Bearer {token}"), &format!("{url}/api/position?at=head")]);
        both(&curl.output().expect("curl starts"))
    };
    assert!(curl("the-token").contains("entry_index"), "{}", curl("the-token"));
    assert!(curl(digest).contains("is not the one that is set"), "{}", curl(digest));
    product.run(&["checkpoint", "create", "by-the-socket"]);
    assert!(product.run(&["dsn", "input"]).contains("@127.0.0.1"));
    // Nothing at rest opens the API.
    let run = std::fs::read_to_string(folder.join("data/run/service.json")).expect("a file");
    assert!(!run.contains("token"), "{run}");
    product.run(&["down"]);
    assert!(!folder.join("data/run/service.sock").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_silent_is_waited_for_and_not_taken_for_absent() {
    let (_server, product) = product().await;
    let mut up = product.spawn("up", &["up", "--addr", "127.0.0.1:0"]);
    up.wait_for_text("capturing");
    signal(&product, "-STOP");
    let mut command = product.command(&["checkpoint", "create", "waited"]);
    let log = product.folder.path().join("waiting.log");
    let file = std::fs::File::create(&log).expect("a file");
    let mut waiting = command.stdout(Stdio::null()).stderr(file).spawn().expect("the program starts");
    wait_until("it says that it waits", || {
        std::fs::read_to_string(&log)
            .is_ok_and(|said| said.contains("has not answered") && said.contains("waiting"))
    });
    signal(&product, "-CONT");
    assert!(waiting.wait().expect("its end").success(), "{:?}", std::fs::read_to_string(&log));
    assert!(product.run(&["checkpoint", "list"]).contains("waited"));

    // Killed, it is waited for no more.
    signal(&product, "-STOP");
    let mut waiting = product.spawn("status", &["status"]);
    waiting.wait_for_text("has not answered");
    signal(&product, "-KILL");
    wait_until("it goes on by itself", || waiting.child.try_wait().expect("its state").is_some());
    assert!(waiting.printed().contains("not running"), "{}", waiting.printed());
}
