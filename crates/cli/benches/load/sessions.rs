//! A hundred sessions at positions of their own, moved at once.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    api::Api,
    report,
    servers::setting,
    stage::{DATABASE, Stage, is_at, spread, ticks},
    support::Chance,
};

/// Positions that there are.
pub const PLACES: u64 = 100;

pub async fn run() -> u64 {
    let sessions = setting("LOAD_SESSIONS", 100);
    let (mut stage, _) = ticks("sessions", PLACES).await;
    make(&mut stage, sessions).await;
    let began = Instant::now();
    let listed = stage.api.get("/api/sessions");
    let took = began.elapsed();
    let count = listed.as_array().map_or(0, Vec::len);
    stage.judge(count as u64 == sessions + 1, &format!("{count} sessions listed in {}", report::time(took)));
    stage.time_answers(&["/api/status", "/api/status"]);

    let watch = stage.watch_connections().await;
    for round in 0..3_u64 {
        let places: Vec<u64> =
            (0..sessions).map(|n| 1 + Chance(1000 * round + n).number() % PLACES).collect();
        let began = Instant::now();
        let moved = at_once(&stage, &places);
        stage.tell(&format!("{sessions} moves at once"), began);
        let times: Vec<Duration> = moved.iter().filter_map(|moved| moved.as_ref().ok().copied()).collect();
        let refused: Vec<&String> = moved.iter().filter_map(|moved| moved.as_ref().err()).collect();
        stage.judge(
            refused.is_empty(),
            &format!("all arrived: {}; {} did not {:?}", spread(times), refused.len(), refused.first()),
        );
        let mut wrong = 0;
        for (n, k) in places.iter().enumerate() {
            wrong += u64::from(!is_at(&stage.replica, &format!("{DATABASE}_s{n}"), *k).await);
        }
        stage.judge(wrong == 0, &format!("each of {sessions} is where it was taken; {wrong} are not"));
    }
    println!("  at most {} connections to the output server", watch.most().await);
    idle(&mut stage).await;
    stage.end()
}

pub async fn make(stage: &mut Stage, sessions: u64) {
    let began = Instant::now();
    let mut took = Vec::new();
    for n in 0..sessions {
        let at = format!("c{}", 1 + n % PLACES);
        let start = Instant::now();
        stage.api.post("/api/sessions", &json!({"name": format!("s{n}"), "at": at}));
        took.push(start.elapsed());
    }
    stage.tell(&format!("{sessions} sessions made: {}", spread(took)), began);
}

/// Moves all, each over a connection of its own; how long each took, or what was answered.
fn at_once(stage: &Stage, places: &[u64]) -> Vec<Result<Duration, String>> {
    let directory = stage.product.data_directory();
    std::thread::scope(|scope| {
        let moving: Vec<_> = places
            .iter()
            .enumerate()
            .map(|(n, k)| {
                let mut api = Api::of(&directory);
                let body =
                    json!({"checkpoint_id": format!("c{k}"), "session_id": format!("s{n}"), "limit": 1});
                scope.spawn(move || {
                    let began = Instant::now();
                    let answer = api.ask("POST", "/api/navigate", &body.to_string());
                    match answer.status {
                        200 => Ok(began.elapsed()),
                        status => Err(format!("{status} {}", String::from_utf8_lossy(&answer.body))),
                    }
                })
            })
            .collect();
        moving.into_iter().map(|thread| thread.join().expect("a move")).collect()
    })
}

/// What so many sessions cost while nobody moves and the log grows a little.
async fn idle(stage: &mut Stage) {
    let begun = "SELECT sum(sessions) FROM pg_stat_database";
    let sessions = async |stage: &Stage| -> u64 {
        let text = stage.replica.psql("postgres", begun).await;
        text.trim().parse().expect("a number")
    };
    // What moves leave behind is over.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (before, cpu) = (sessions(stage).await, stage.cpu());
    for tick in 0..20 {
        stage.primary.psql(DATABASE, &format!("INSERT INTO ticks VALUES ({}, '')", 1_000_000 + tick)).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let (after, cpu) = (sessions(stage).await, stage.cpu().saturating_sub(cpu));
    println!(
        "  10 s in which 20 transactions come: {} connections to the output server, {} of CPU",
        (after - before).saturating_sub(1),
        report::time(cpu)
    );
}
