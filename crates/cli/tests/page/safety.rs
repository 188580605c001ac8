//! Who may see the page and what is behind it, and how much goes over the wire.

use std::io::{Read, Write};

use serde_json::json;

use crate::{
    PLACE,
    browser::{Browser, chromium},
    no_errors,
    shop::Shop,
    support::{Product, both},
};

/// What the first load may take over the wire.
const MOST_BYTES: u64 = 100_000;

#[test]
fn the_first_load_is_small_and_compressed() {
    let shop = Shop::open();
    // A list as long as one page of it is.
    shop.sql(
        "do $$ begin for i in 10..250 loop insert into orders values (i, 'new', 'a note of some length'); commit; end loop; end $$",
    );
    shop.product.run(&["checkpoint", "create", "many"]);
    let Some(mut page) = shop.browser("/") else { return };
    page.wait_for_text(PLACE, "247 transactions before head");
    page.wait_for(
        "document.querySelectorAll('.tx').length > 10 && document.querySelectorAll('#track g').length > 10",
    );
    let loaded = page.eval(
        "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')] \
         .filter((one) => one.name.startsWith('http')).map((one) => [new URL(one.name).pathname, one.encodedBodySize, one.decodedBodySize, one.transferSize])",
    );
    let loaded = loaded.as_array().expect("a list");
    let number = |one: &serde_json::Value, at: usize| one[at].as_u64().expect("a number");
    let scripts = loaded.iter().filter(|one| one[0].as_str().expect("a path").ends_with(".js"));
    assert!(scripts.clone().count() > 10, "{loaded:?}");
    for one in scripts {
        assert!(number(one, 1) < number(one, 2), "not compressed: {one}");
    }
    let all: u64 = loaded.iter().map(|one| number(one, 3)).sum();
    println!("the first load takes {all} bytes in {} answers", loaded.len());
    assert!(all <= MOST_BYTES, "{all} bytes: {loaded:?}");
    // All of it comes from here, and nothing may come from elsewhere or stand in the markup.
    let policy = page.eval("fetch('/').then((answer) => answer.headers.get('content-security-policy'))");
    let policy = policy.as_str().expect("a policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    page.eval("document.body.append(Object.assign(document.createElement('script'), { textContent: 'window.inline = 1' }))");
    assert_eq!(page.eval("window.inline ?? null"), json!(null));
    let refused = page.eval("fetch('http://localhost:9/').then(() => 'sent', (error) => error.message)");
    assert_eq!(refused, "Failed to fetch");
    page.wait_for("performance.getEntriesByType('resource').every((one) => !one.name.includes('localhost:9') || one.transferSize === 0)");
    let said = page.errors();
    assert!(said.iter().all(|one| one.contains("Content Security Policy")) && said.len() >= 2, "{said:?}");
}

/// Answers every request with an empty page: another site on this machine.
fn another_site() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let mut request = [0; 4096];
            drop(connection.read(&mut request));
            let text = "<!doctype html><title>another site</title>";
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
                text.len()
            );
            drop(connection.write_all(answer.as_bytes()));
        }
    });
    address
}

#[test]
fn another_site_and_another_name_reach_nothing() {
    let Some(chromium) = chromium() else { return };
    let shop = Shop::open();
    let port = shop.address.rsplit_once(':').expect("a port").1;
    // A name of somebody else's that leads to this machine, as DNS rebinding has it.
    let rules = "--host-resolver-rules=MAP rebound.example 127.0.0.1";
    let mut page = Browser::open_with(&chromium, 1280, 800, &[rules]);
    page.go(&format!("http://rebound.example:{port}/"));
    let said = page.text("body");
    assert!(said.contains("the service is not known as") && said.contains("ask for localhost"), "{said}");
    let told = page.eval("fetch('/api/status').then((answer) => answer.status)");
    assert_eq!(told, 403);

    page.go(&another_site());
    let asked = |page: &mut Browser, path: &str, how: &str| {
        page.eval(&format!(
            "fetch('{}{path}', {how}).then((answer) => answer.type, (error) => error.message)",
            shop.address
        ))
    };
    assert_eq!(asked(&mut page, "/api/status", "{}"), "Failed to fetch");
    assert_eq!(asked(&mut page, "/api/events", "{}"), "Failed to fetch");
    // What needs no leave of the browser is sent, its answer unreadable; it must do nothing.
    for (path, body) in
        [("/api/checkpoints", r#"{"name": "foreign"}"#), ("/api/navigate", r#"{"position": "head"}"#)]
    {
        let how = format!(
            "{{ method: 'POST', mode: 'no-cors', headers: {{ 'Content-Type': 'text/plain' }}, body: '{body}' }}"
        );
        assert_eq!(asked(&mut page, path, &how), "opaque", "{path}");
        let how = how.replace("'no-cors'", "'cors'").replace("text/plain", "application/json");
        assert_eq!(asked(&mut page, path, &how), "Failed to fetch", "{path}");
    }
    page.eval(&format!(
        "document.body.innerHTML = `<form method=post enctype=text/plain action={}/api/checkpoints><input name='{{\"name\":\"form' value='\"}}'></form>`; document.forms[0].submit()",
        shop.address
    ));
    page.wait_for("location.pathname === '/api/checkpoints' && document.body.innerText.includes('the request comes from another site')");
    let names = shop.product.json(&["checkpoint", "list"]).to_string();
    assert!(
        names.contains("before migration") && !names.contains("foreign") && !names.contains("form"),
        "{names}"
    );
    let session = shop.product.json(&["session", "show", "default"]);
    assert_eq!(session["position"]["transaction"], 0);
    // Nor is it shown in a frame of theirs.
    page.go(&another_site());
    page.eval(&format!("document.body.innerHTML = '<iframe src={}/></iframe>'", shop.address));
    page.wait_for("document.querySelector('iframe').contentDocument === null");
}

#[test]
fn where_a_token_is_set_the_page_asks_for_it_and_keeps_it() {
    let Some(chromium) = chromium() else { return };
    let product = Product::new(None, None).with("API_TOKEN", "open-sesame");
    let said = product.output(&["up", "--detach", "--addr", "127.0.0.1:0"]);
    assert!(said.status.success(), "{}", both(&said));
    let status = product.json(&["status"]);
    let shop =
        Shop { product, address: format!("http://{}", status["address"].as_str().expect("an address")) };
    let mut page = Browser::open(&chromium, 1280, 800);
    page.go(&shop.address);
    page.wait_for_text("#login[open]", "A TOKEN IS NEEDED");
    assert_eq!(page.eval("document.querySelectorAll('.tx').length"), 0);
    page.wait_for("document.activeElement.id === 'token'");
    page.write("open-barley");
    page.key("Enter");
    page.wait_for_text("#login[open] #refused", "Not accepted");
    page.write("open-sesame");
    page.key("Enter");
    page.wait_for_text(PLACE, "at head");
    page.wait_for("!document.querySelector('dialog[open]') && document.querySelector('#connection').hidden");
    // The stream of events is let in too, and so is the page when it is loaded again.
    shop.sql("create table orders (id int primary key, state text, note text)");
    page.wait_for_text(PLACE, "1 transaction before head");
    page.eval("location.reload()");
    page.wait_for("document.readyState === 'complete' && document.querySelectorAll('.tx').length === 1");
    assert_eq!(page.eval("document.querySelector('dialog[open]')"), json!(null));

    // Nobody's password is told, to whoever has the token; the one who started the service asks for it by `dsn`.
    let dsn = shop.product.run(&["dsn", "input"]);
    let password = dsn
        .split_once("://")
        .and_then(|(_, rest)| rest.split_once('@'))
        .and_then(|(user, _)| user.split_once(':'));
    let (_, password) = password.expect("the embedded server has a password");
    let told = page.eval(
        "(async () => { const headers = { Authorization: 'Bearer open-sesame' }; const texts = [document.documentElement.outerHTML]; \
         for (const path of ['status', 'config', 'sessions', 'checkpoints', 'wal-logs', 'transactions', 'doctor', 'moves', 'backups', 'dsn/input', 'dsn/session']) \
           texts.push(await (await fetch(`/api/${path}`, { headers })).text()); \
         return texts.join(' '); })()",
    );
    assert!(!told.as_str().expect("a text").contains(password));
    no_errors(&mut page);
}
