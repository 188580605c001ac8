//! Ctrl-C during a move: it stops at a position, in the service too, and can be taken back.
#![allow(missing_docs)]

mod support;

use std::process::Command;

use ptr_testkit::ServerVersion;
use serde_json::Value;
use support::{pair::Pair, wait_until};

/// Sends a process what a terminal sends at Ctrl-C.
fn interrupt(pid: u32) {
    let sent = Command::new("kill").args(["-INT", &pid.to_string()]).status().expect("kill starts");
    assert!(sent.success(), "no signal could be sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_is_interrupted_at_the_keyboard_stops_at_a_position_and_undo_takes_it_back() {
    let pair = Pair::capturing(ServerVersion::Debian15, async |primary| {
        primary.psql("shop", "CREATE TABLE t (id int PRIMARY KEY)").await;
    })
    .await;
    let many = "DO $$ BEGIN FOR i IN 1..40000 LOOP INSERT INTO t VALUES (i); COMMIT; END LOOP; END $$";
    pair.primary.psql("shop", many).await;
    pair.product.run(&["checkpoint", "create", "end"]);
    let mut moving = pair.product.spawn("navigate", &["navigate", "end"]);
    wait_until("the move to be under way", || {
        let moves = std::fs::read_to_string(pair.product.data_directory().join("run/service.json"));
        let service: Value = serde_json::from_str(&moves.expect("a service")).expect("JSON");
        let address = service["address"].as_str().expect("an address");
        let token = format!("Authorization: Bearer {}", service["token"].as_str().expect("a token"));
        let url = format!("http://{address}/api/moves");
        let asked = Command::new("curl").args(["-s", "-H", &token, &url]).output().expect("curl starts");
        let moves: Value = serde_json::from_slice(&asked.stdout).unwrap_or_default();
        moves[0]["progress"]["done"].as_u64().is_some_and(|done| done > 0)
    });
    interrupt(moving.child.id());
    let status = moving.child.wait().expect("it ends");
    let said = moving.printed();
    assert_eq!(status.code(), Some(130), "{said}");
    assert!(said.contains("interrupted at ") && said.contains("undo takes the session back"), "{said}");
    let session = pair.product.json(&["session", "show", "default"]);
    let at = session["position"]["transaction"].as_u64().expect("a position");
    assert!(session["state"] == "settled" && (1..40_000).contains(&at), "{session:#}");
    let rows = async || pair.replica.psql("shop", "SELECT count(*) FROM t").await.trim().to_owned();
    assert_eq!(rows().await, at.to_string());
    pair.product.run(&["undo"]);
    assert_eq!(rows().await, "0");
}
