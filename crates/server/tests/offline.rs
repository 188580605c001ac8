//! The API on a data directory with a log and without servers.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::sync::Arc;

use axum::{
    body::Body,
    http::{Method, Request, StatusCode},
};
use ptr_server::Role;
use serde_json::json;
use support::{Api, configuration, write_log, write_many};
use tempfile::TempDir;
use tower::ServiceExt;

async fn api() -> (TempDir, Api) {
    let folder = tempfile::tempdir().unwrap();
    let configuration = configuration(folder.path(), &[]);
    write_log(&configuration.data.log_of("testdb"));
    let api = Api::open(configuration, Role::Offline).await;
    (folder, api)
}

#[tokio::test]
async fn health_answers_without_a_log_or_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let api = Api::open(configuration(folder.path(), &[]), Role::Offline).await;
    assert_eq!(api.get("/health").await["status"], "ok");
    let status = api.get("/api/status").await;
    assert_eq!(status["databases"][0]["captured"], false);
    assert_eq!(status["input"]["connected"], false);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "a look leaves nothing behind");
}

#[tokio::test]
async fn entries_come_in_pages_that_join_without_a_gap_or_a_repetition() {
    let (_folder, api) = api().await;
    let (mut path, mut seen) = ("/api/wal-logs?limit=2".to_owned(), Vec::new());
    loop {
        let page = api.get(&path).await;
        assert_eq!(page["total_count"], 5);
        seen.extend(page["entries"].as_array().unwrap().iter().map(|entry| entry["index"].as_u64().unwrap()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/api/wal-logs?limit=2&cursor={cursor}");
    }
    assert_eq!(seen, [0, 1, 2, 3, 4]);
    let newest = api.get("/api/wal-logs?limit=2&order=desc").await;
    assert_eq!((&newest["entries"][0]["index"], &newest["entries"][1]["index"]), (&json!(3), &json!(4)));
}

#[tokio::test]
async fn an_entry_shows_both_images_and_loses_no_digit() {
    let (_folder, api) = api().await;
    let page = api.get("/api/wal-logs?operation=update&table=items").await;
    let entry = &page["entries"][0];
    assert_eq!(page["total_count"], 1);
    assert_eq!(entry["operation"], "UPDATE");
    assert_eq!((&entry["schema"], &entry["table"]), (&json!("public"), &json!("items")));
    assert_eq!(entry["old_data"], json!({"id": 1, "amount": "9007199254740993"}));
    assert_eq!(entry["data"], json!({"id": 1, "amount": "5"}));
    assert_eq!((&entry["lsn"], &entry["commit_lsn"]), (&json!("0/310"), &json!("0/300")));
    assert_eq!(entry["timestamp"], "2000-01-01T00:00:01.000000Z");
}

#[tokio::test]
async fn transactions_are_listed_and_shown_with_their_entries() {
    let (_folder, api) = api().await;
    let page = api.get("/api/transactions?operation=delete").await;
    assert_eq!(page["transactions"].as_array().unwrap().len(), 1);
    assert_eq!(page["transactions"][0]["counts"]["inserts"], 2);
    let shown = api.get("/api/transactions/102").await;
    assert_eq!(shown["entries"].as_array().unwrap().len(), 3);
    assert_eq!(shown["entries"][0]["data"], json!({"id": 1, "amount": "5"}));
    let (status, problem) = api.send(Method::GET, "/api/transactions/999", "").await;
    assert_eq!((status, &problem["code"]), (StatusCode::NOT_FOUND, &json!("not_found")));
}

#[tokio::test]
async fn a_list_that_is_scrolled_begins_a_page_anywhere() {
    let (_folder, api) = api().await;
    let ordinals = |page: serde_json::Value| -> Vec<u64> {
        let transactions = page["transactions"].as_array().unwrap();
        transactions.iter().map(|transaction| transaction["ordinal"].as_u64().unwrap()).collect()
    };
    assert_eq!(ordinals(api.get("/api/transactions?first=1&limit=1").await), [1]);
    assert_eq!(ordinals(api.get("/api/transactions?first=1&cursor=1").await), [2]);
    assert_eq!(ordinals(api.get("/api/transactions?first=1&order=desc").await), [1, 2]);
    assert!(ordinals(api.get("/api/transactions?first=3").await).is_empty());
}

/// Indexes of all the pages, each at most one entry long.
async fn found(api: &Api, filter: &str) -> Vec<u64> {
    let (mut cursor, mut seen) = (String::new(), Vec::new());
    loop {
        let page = api.get(&format!("/api/wal-logs?limit=1&{filter}{cursor}")).await;
        assert!(page["searched"].as_u64().unwrap() <= 5, "{page}");
        seen.extend(page["entries"].as_array().unwrap().iter().map(|entry| entry["index"].as_u64().unwrap()));
        let Some(next) = page["next_cursor"].as_str() else { return seen };
        cursor = format!("&cursor={next}");
    }
}

#[tokio::test]
async fn a_text_and_a_key_are_found_in_the_rows_before_and_after() {
    let (_folder, api) = api().await;
    let all = api.get("/api/wal-logs").await;
    let entries = all["entries"].as_array().unwrap();
    // What a reader of the whole log would find.
    let holding = |wanted: &dyn Fn(&serde_json::Value) -> bool| -> Vec<u64> {
        let found = entries.iter().filter(|entry| wanted(&entry["data"]) || wanted(&entry["old_data"]));
        found.map(|entry| entry["index"].as_u64().unwrap()).collect()
    };
    let with_text = holding(&|row| row["amount"].as_str().is_some_and(|text| text.contains("00719")));
    assert!(!with_text.is_empty() && with_text.len() < entries.len());
    assert_eq!(found(&api, "text=00719").await, with_text);
    let mut backward = found(&api, "text=00719&order=desc").await;
    backward.reverse();
    assert_eq!(backward, with_text);
    let with_key = holding(&|row| row["id"] == 1);
    assert!(!with_key.is_empty() && with_key.len() < entries.len());
    // No server can be asked for the primary key, so it is the first column's.
    assert_eq!(found(&api, "key=1").await, with_key);
    assert_eq!(found(&api, "key=id%3D1").await, with_key);
    let fives = holding(&|row| row["amount"] == "5");
    assert_eq!(found(&api, "key=amount%3D5").await, fives);
    assert_eq!(found(&api, "key=amount%3D5&operation=update&table=items").await, [1]);
    assert!(found(&api, "text=nowhere").await.is_empty());
    assert!(all["searched"].is_null(), "nothing was looked for");

    let ordinals = |page: &serde_json::Value| -> Vec<u64> {
        let transactions = page["transactions"].as_array().unwrap();
        transactions.iter().map(|one| one["ordinal"].as_u64().unwrap()).collect()
    };
    let each = api.get("/api/transactions?key=1").await;
    assert_eq!((ordinals(&each), &each["next_cursor"]), (vec![0, 1, 2], &serde_json::Value::Null));
    let first = api.get("/api/transactions?key=1&order=desc&limit=1").await;
    assert_eq!(ordinals(&first), [2]);
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = api.get(&format!("/api/transactions?key=1&order=desc&limit=2&cursor={cursor}")).await;
    assert_eq!(ordinals(&second), [0, 1]);
}

#[tokio::test]
async fn a_search_says_how_far_it_looked_and_goes_on_from_there() {
    // More than one request looks at, however fast it is.
    const ENTRIES: u64 = 450_000;
    const MOST: u64 = 200_000;
    let folder = tempfile::tempdir().unwrap();
    let configuration = configuration(folder.path(), &[]);
    write_many(&configuration.data.log_of("testdb"), 450, 1_000);
    let api = Api::open(configuration, Role::Offline).await;
    for (list, order) in [("wal-logs", "asc"), ("transactions", "desc")] {
        let (mut cursor, mut looked_at, mut found, mut pages) = (String::new(), 0, Vec::new(), 0);
        loop {
            let page = api.get(&format!("/api/{list}?text=449998&order={order}{cursor}")).await;
            let searched = page["searched"].as_u64().unwrap();
            assert!((1..=MOST).contains(&searched), "{searched}");
            looked_at += searched;
            pages += 1;
            let rows = page.get("entries").or(page.get("transactions")).unwrap().as_array().unwrap();
            found.extend(
                rows.iter().map(|row| row.get("index").or(row.get("ordinal")).unwrap().as_u64().unwrap()),
            );
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        // Nothing twice, nothing left out, whichever bound ended a page; of the transaction that is found nothing more
        // is looked at than the two entries that were.
        let expected = if list == "wal-logs" { (ENTRIES, vec![449_998]) } else { (ENTRIES - 998, vec![449]) };
        assert_eq!((looked_at, found), expected, "{list}");
        assert!(pages >= 3, "{pages} pages of {list}");
    }
}

#[tokio::test]
async fn the_log_is_shown_in_buckets_by_transaction_and_by_time() {
    let (_folder, api) = api().await;
    let by_transaction = api.get("/api/histogram").await;
    assert_eq!(by_transaction["by"], "transaction");
    assert_eq!(by_transaction["until"]["transaction"], 3);
    assert_eq!(by_transaction["until_time"], "2000-01-01T00:00:02.000000Z");
    assert_eq!(by_transaction["buckets"].as_array().unwrap().len(), 3);
    assert_eq!(
        by_transaction["buckets"][2]["counts"],
        json!({
        "inserts": 2, "updates": 0, "deletes": 1, "truncates": 0, "ddl": 0, "messages": 0})
    );
    let by_time = api.get("/api/histogram?by=time&buckets=2&since=0/210").await;
    assert_eq!(by_time["since"]["transaction"], 1);
    assert_eq!(by_time["buckets"].as_array().unwrap().len(), 2);
    assert_eq!(by_time["buckets"][0]["time"], "2000-01-01T00:00:01.000000Z");
    let (status, problem) = api.send(Method::GET, "/api/histogram?by=size", "").await;
    assert_eq!((status.as_u16(), &problem["code"]), (400, &json!("usage")));
}

#[tokio::test]
async fn the_fixed_checkpoints_are_there_from_the_beginning_and_stay() {
    let (_folder, api) = api().await;
    let checkpoints = api.get("/api/checkpoints").await;
    let names: Vec<&str> =
        checkpoints.as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["CREATION", "MIGRATION"]);
    assert_eq!(checkpoints[0]["lsn"], "0/100");
    for path in ["/api/checkpoints/CREATION", "/api/checkpoints/migration"] {
        let (status, problem) = api.send(Method::DELETE, path, "").await;
        assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("precondition")), "{path}");
    }
    let pinned = api.post("/api/checkpoints/migration/pin", r#"{"at": "xid:100"}"#).await;
    assert_eq!((&pinned["lsn"], &pinned["pinned"]), (&json!("0/210"), &json!(true)));
    assert_eq!(api.get("/api/checkpoints/MIGRATION").await["entry_index"], 1);
}

#[tokio::test]
async fn a_checkpoint_is_made_at_a_position_renamed_and_deleted() {
    let (_folder, api) = api().await;
    let made = api
        .post(
            "/api/checkpoints",
            r#"{"name": "Before migration", "description": "d", "lsn": "0/210", "entry_index": 1}"#,
        )
        .await;
    assert_eq!((&made["kind"], &made["transaction"]), (&json!("manual"), &json!(1)));
    let id = made["id"].as_str().unwrap();
    let (status, problem) =
        api.send(Method::POST, "/api/checkpoints", r#"{"name": "Before migration", "at": "head"}"#).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("precondition")));
    let renamed = api.send(Method::PATCH, &format!("/api/checkpoints/{id}"), r#"{"name": "after"}"#).await.1;
    assert_eq!(renamed["name"], "after");
    assert_eq!(api.get("/api/position?at=after").await["lsn"], "0/210");
    let deleted = api.send(Method::DELETE, &format!("/api/checkpoints/{id}"), "").await.1;
    assert_eq!(deleted["status"], "deleted");
}

#[tokio::test]
async fn a_position_outside_the_log_answers_with_its_range() {
    let (_folder, api) = api().await;
    for body in
        [r#"{"name": "x", "lsn": "0/1234567", "entry_index": 42}"#, r#"{"name": "x", "at": "entry:99"}"#]
    {
        let (status, problem) = api.send(Method::POST, "/api/checkpoints", body).await;
        assert_eq!(
            (status, &problem["code"]),
            (StatusCode::UNPROCESSABLE_ENTITY, &json!("position_out_of_range"))
        );
        assert_eq!(problem["range"]["first"]["lsn"], "0/100");
        assert_eq!(problem["range"]["last"]["lsn"], "0/410");
        assert_eq!(problem["nearest"]["entry_index"], 5);
    }
}

#[tokio::test]
async fn now_is_refused_where_nothing_captures() {
    let (_folder, api) = api().await;
    let (status, problem) = api.send(Method::POST, "/api/checkpoints", r#"{"name": "now please"}"#).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("precondition")));
    assert!(problem["hint"].as_str().unwrap().contains("up"), "{problem:#}");
}

#[tokio::test]
async fn names_that_read_like_positions_are_refused() {
    let (_folder, api) = api().await;
    for name in ["head", "@", "0/1", "entry:1", "5m ago", "CREATION", ""] {
        let body = json!({"name": name, "at": "head"}).to_string();
        let (status, problem) = api.send(Method::POST, "/api/checkpoints", &body).await;
        assert_eq!(
            (status, &problem["code"]),
            (StatusCode::BAD_REQUEST, &json!("usage")),
            "{name:?}: {problem:#}"
        );
    }
}

#[tokio::test]
async fn a_difference_folds_to_what_is_left_of_it() {
    let (_folder, api) = api().await;
    let diff = api.get("/api/diff?from=CREATION&to=head").await;
    let table = &diff["tables"][0];
    assert_eq!(table["table"], "public.items");
    assert_eq!((&table["inserted"], &table["updated"], &table["deleted"]), (&json!(2), &json!(0), &json!(0)));
    let back = api.get("/api/diff?from=head&to=CREATION&detail=stat").await;
    assert_eq!(back["tables"][0]["deleted"], 2);
    assert_eq!(back["tables"][0]["rows"], json!([]));
    assert_eq!(api.get("/api/diff?from=head&to=head").await["tables"], json!([]));
}

#[tokio::test]
async fn a_difference_that_is_larger_than_the_memory_for_it_counts_every_row_once() {
    let folder = tempfile::tempdir().unwrap();
    let configuration = configuration(folder.path(), &[]);
    write_many(&configuration.data.log_of("testdb"), 450, 1_000);
    let api = Api::open(configuration, Role::Offline).await;
    let diff = api.get("/api/diff?from=head&to=CREATION&limit=10").await;
    assert_eq!((&diff["tables"][0]["deleted"], &diff["tables"][1]), (&json!(450_000), &json!(null)));
    let rows = diff["tables"][0]["rows"].as_array().unwrap();
    let distinct: std::collections::BTreeSet<String> = rows.iter().map(ToString::to_string).collect();
    assert_eq!((rows.len(), distinct.len(), &diff["truncated"]), (10, 10, &json!(true)));
}

#[tokio::test]
async fn bad_input_says_what_is_wrong_and_what_to_do() {
    let (_folder, api) = api().await;
    let cases = [
        (Method::POST, "/api/checkpoints", "{", "usage"),
        (Method::POST, "/api/checkpoints", "[1]", "usage"),
        (Method::POST, "/api/navigate", "{}", "usage"),
        (Method::POST, "/api/navigate", r#"{"position": "head", "speed": 3}"#, "usage"),
        (Method::GET, "/api/wal-logs?limit=0", "", "usage"),
        (Method::GET, "/api/wal-logs?limit=x", "", "usage"),
        (Method::GET, "/api/wal-logs?cursor=x", "", "usage"),
        (Method::GET, "/api/wal-logs?operation=merge", "", "usage"),
        (Method::GET, "/api/wal-logs?since=0/xyz", "", "not_found"),
        (Method::GET, "/api/wal-logs?database=other", "", "not_found"),
        (Method::GET, "/api/sessions/none", "", "not_found"),
        (Method::GET, "/api/backups/none", "", "not_found"),
        (Method::GET, "/api/nothing", "", "not_found"),
        (Method::PUT, "/api/sessions", "", "usage"),
        (Method::GET, "/api/dsn/input", "", "precondition"),
        (Method::POST, "/api/shutdown", "", "forbidden"),
    ];
    for (method, path, body, code) in cases {
        let (status, problem) = api.send(method.clone(), path, body).await;
        assert_eq!(problem["code"], code, "{method} {path} {body}: {status} {problem:#}");
        assert_eq!(problem["status"], status.as_u16());
        for field in ["type", "title", "detail", "hint"] {
            assert!(problem[field].is_string(), "{method} {path} {body}: no {field} in {problem:#}");
        }
    }
}

#[tokio::test]
async fn the_owner_alone_may_end_the_service() {
    let (_folder, api) = api().await;
    let request = Request::post("/api/shutdown").body(Body::empty()).unwrap();
    let owner = ptr_server::router_of_owner(Arc::clone(&api.service));
    assert_eq!(owner.oneshot(request).await.unwrap().status(), StatusCode::ACCEPTED);
    assert!(api.service.shutdown_token().is_cancelled());
}

#[tokio::test]
async fn the_page_comes_whole_and_lets_nothing_else_in() {
    let (_folder, api) = api().await;
    let page = api.get("/").await;
    let page = page.as_str().unwrap();
    assert!(!page.contains("<script>") && !page.contains("style="), "inline code would be blocked");
    assert!(page.contains("/ui/page.js") && page.contains("/ui/page.css"));
    // Every module that another one imports, and their size: all of it is the first load.
    let (mut waiting, mut seen) = (vec!["/ui/page.js".to_owned()], vec!["/ui/page.css".to_owned()]);
    let mut size = api.wire_size("/").await;
    while let Some(path) = waiting.pop() {
        let text = api.get(&path).await;
        let text = text.as_str().unwrap().to_owned();
        // What comes from a database is never read as markup.
        for parser in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!text.contains(parser), "{path} uses {parser}");
        }
        size += api.wire_size(&path).await;
        for part in text.split(" from \"./").skip(1) {
            let next = format!("/ui/{}", part.split('"').next().unwrap());
            if !seen.contains(&next) && !waiting.contains(&next) && next != path {
                waiting.push(next);
            }
        }
        seen.push(path);
    }
    size += api.wire_size("/ui/page.css").await;
    // The rest of 100 kB is for what the API answers at first.
    assert!(seen.len() > 10 && size < 60_000, "{size} bytes in {seen:?}");
}

#[tokio::test]
async fn other_names_and_other_sites_are_let_in_nowhere() {
    let (_folder, api) = api().await;
    let all = api.get("/api/openapi.json").await["paths"].clone();
    let paths = all.as_object().unwrap();
    assert!(paths.len() > 30);
    let ask = async |method: &str, path: &str, headers: &[(&str, &str)]| {
        let mut request =
            Request::builder().method(method).uri(path).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        api.request(request.body(Body::from("{}")).unwrap()).await
    };
    let own = ("host", "localhost:8080");
    for (path, methods) in paths {
        let path = path.replace(['{', '}'], "x");
        for method in methods.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            let foreign: [&[(&str, &str)]; 4] = [
                &[("host", "rebound.example:8080")],
                &[own, ("origin", "http://localhost:3000")],
                &[own, ("origin", "null")],
                &[own, ("sec-fetch-site", "cross-site")],
            ];
            for headers in foreign {
                // Anybody may ask whether the service lives.
                if ["/health", "/ready"].contains(&&*path) && headers[0] == own {
                    continue;
                }
                let (status, problem) = ask(&method, &path, headers).await;
                assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path} {headers:?}: {problem:#}");
                assert_eq!(problem["code"], "forbidden");
                assert!(problem["hint"].is_string(), "{problem:#}");
            }
        }
    }
    let (status, _) = ask("GET", "/", &[("host", "rebound.example")]).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (status, _) = ask("GET", "/api/sessions", &[own, ("origin", "http://localhost:8080")]).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn openapi_describes_every_route_of_the_contract() {
    let (_folder, api) = api().await;
    let paths = api.get("/api/openapi.json").await["paths"].clone();
    for (path, method) in [
        ("/health", "get"),
        ("/api/sessions", "post"),
        ("/api/sessions/switch", "post"),
        ("/api/checkpoints/{id}", "delete"),
        ("/api/navigate", "post"),
        ("/api/replay", "post"),
        ("/api/wal-logs", "get"),
        ("/api/events", "get"),
        ("/api/backups/{id}/restore", "post"),
    ] {
        assert!(paths[path][method].is_object(), "{method} {path} is missing");
    }
    // What is answered where something is wrong is described as it comes.
    let (status, _) = api.send(Method::GET, "/api/checkpoints/none", "").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let described = &paths["/api/checkpoints/{id}"]["get"]["responses"];
    for status in ["404", "default"] {
        let content = described[status]["content"].as_object().unwrap();
        assert_eq!(content.keys().collect::<Vec<_>>(), ["application/problem+json"], "{described:#}");
    }
    let all = paths.as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values());
    assert!(all.clone().all(|call| call["responses"]["default"].is_object()), "{paths:#}");
}

#[tokio::test]
async fn bodies_pages_and_what_goes_on_at_a_time_are_limited() {
    let (_folder, api) = api().await;
    // A body of just over a megabyte, a page of a million, a body that is too deep for anybody.
    let long = format!(r#"{{"name": "{}"}}"#, "x".repeat(1 << 20));
    let (status, problem) = api.send(Method::POST, "/api/checkpoints", &long).await;
    assert_eq!((status, &problem["code"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!("usage")), "{problem:#}");
    for path in ["/api/wal-logs", "/api/transactions"] {
        let (status, problem) = api.send(Method::GET, &format!("{path}?limit=1000000"), "").await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{problem:#}");
    }
    let deep = "[".repeat(500_000);
    let (status, _) = api.send(Method::POST, "/api/navigate", &deep).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);

    // Streams of events: so many, and no more until one ends; whoever asks something else is answered.
    let mut streams = Vec::new();
    loop {
        let response = api.respond(Request::get("/api/events").body(Body::empty()).unwrap()).await;
        if response.status() != StatusCode::OK {
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(response.headers()["retry-after"], "1");
            break;
        }
        streams.push(response);
    }
    assert_eq!(streams.len(), 512);
    api.get("/api/sessions").await;
    streams.pop();
    let response = api.respond(Request::get("/api/events").body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), StatusCode::OK);

    // Answers that nobody fetches.
    drop(streams);
    let mut answers = Vec::new();
    loop {
        let response = api.respond(Request::get("/api/openapi.json").body(Body::empty()).unwrap()).await;
        if response.status() != StatusCode::OK {
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            break;
        }
        answers.push(response);
    }
    assert_eq!(answers.len(), 512);
    assert_eq!(api.get("/health").await["status"], "ok");
    drop(answers);
    api.get("/api/sessions").await;
}

/// As a scraper reads the text format: families announced once, samples below them, numbers.
#[tokio::test]
async fn metrics_are_in_the_format_of_prometheus() {
    let (_folder, api) = api().await;
    let response = api.respond(Request::get("/metrics").body(Body::empty()).unwrap()).await;
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    let text = api.get("/metrics").await.as_str().unwrap().to_owned();
    assert!(text.ends_with('\n'));
    let (mut family, mut kind) = (String::new(), String::new());
    let mut seen = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(!seen.contains(&name.to_owned()) && help.ends_with('.'), "{line}");
            seen.push(name.to_owned());
            name.clone_into(&mut family);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, of) = rest.split_once(' ').unwrap();
            assert!(name == family && ["gauge", "counter"].contains(&of), "{line}");
            of.clone_into(&mut kind);
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let name = sample.split('{').next().unwrap();
            assert_eq!(name, family, "{line}");
            assert!(name.starts_with("postgres_test_replay_") && value.parse::<f64>().is_ok(), "{line}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
        }
    }
    let transactions = "postgres_test_replay_log_transactions_total{database=\"testdb\"} 3";
    assert!(text.lines().any(|line| line == transactions), "{text}");
    assert!(text.contains("postgres_test_replay_server_up{end=\"input\"} 0"), "{text}");
}

#[tokio::test]
async fn living_is_not_being_ready() {
    let (_folder, api) = api().await;
    assert_eq!(api.get("/health").await["status"], "ok");
    let (status, answer) = api.send(Method::GET, "/ready", "").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer["problems"], json!(["the output server does not answer"]));
}
