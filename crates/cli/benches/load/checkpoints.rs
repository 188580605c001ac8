//! A thousand checkpoints: made, listed, gone to.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    report,
    servers::setting,
    stage::{DATABASE, is_at, spread, ticks},
    support::Chance,
};

pub async fn run() -> u64 {
    let checkpoints = setting("LOAD_CHECKPOINTS", 1_000);
    let (mut stage, took) = ticks("checkpoints", checkpoints).await;
    let tenth = took.len() / 10;
    let mean =
        |part: &[Duration]| part.iter().sum::<Duration>() / u32::try_from(part.len().max(1)).expect("few");
    println!(
        "  making one: {}; the first tenth {} each, the last {}",
        spread(took.clone()),
        report::time(mean(&took[..=tenth])),
        report::time(mean(&took[took.len() - 1 - tenth..]))
    );
    let began = Instant::now();
    let listed = stage.api.get("/api/checkpoints");
    let took = began.elapsed();
    let count = listed.as_array().map_or(0, Vec::len);
    // CREATION and MIGRATION are there always.
    stage.judge(
        count as u64 == checkpoints + 2,
        &format!("{count} checkpoints listed in {}", report::time(took)),
    );
    let mut chance = Chance(1);
    let (mut moves, mut wrong) = (Vec::new(), 0);
    for _ in 0..100 {
        let k = 1 + chance.number() % checkpoints;
        let began = Instant::now();
        stage.api.post("/api/navigate", &json!({"checkpoint_id": format!("c{k}"), "limit": 1}));
        moves.push(began.elapsed());
        wrong += u64::from(!is_at(&stage.replica, DATABASE, k).await);
    }
    stage.judge(
        wrong == 0,
        &format!("100 moves to checkpoints at random: {}; {wrong} not there", spread(moves)),
    );
    stage.tell("moves", began);
    stage.time_answers(&["/api/status", "/api/checkpoints/c1", "/api/wal-logs?since=c1&until=c2&limit=100"]);
    stage.end()
}
