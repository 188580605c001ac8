//! One transaction of ten million rows: captured, gone over forwards and backwards.

use std::time::Instant;

use crate::{
    report,
    servers::setting,
    stage::{DATABASE, Stage},
};

const HASH: &str = "SELECT count(*), sum(hashtextextended(t::text, 0)::numeric) FROM wide t";

pub async fn run() -> u64 {
    let rows = setting("LOAD_ROWS", 10_000_000);
    let mut stage = Stage::set(
        "large",
        &[],
        "CREATE TABLE wide (id int PRIMARY KEY, n bigint NOT NULL, filler text NOT NULL)",
    )
    .await;
    stage.checkpoint("before");
    let began = Instant::now();
    let sql =
        format!("INSERT INTO wide SELECT i, i::bigint * 7, md5(i::text) FROM generate_series(1, {rows}) i");
    stage.primary.psql(DATABASE, &sql).await;
    println!("  the INSERT of {rows} rows took {}", report::time(began.elapsed()));
    stage.checkpoint("inserted");
    stage.tell("INSERT, captured", began);
    let (segments, index) = stage.log_bytes();
    println!("  {:.1} bytes a row in segments, {index} bytes of index", per(segments, rows));
    let began = Instant::now();
    stage.primary.psql(DATABASE, "UPDATE wide SET n = n + 1").await;
    println!("  the UPDATE of all took {}", report::time(began.elapsed()));
    stage.checkpoint("updated");
    stage.tell("UPDATE, captured", began);
    println!("  {:.1} bytes a row in segments", per(stage.log_bytes().0 - segments, rows));
    for place in ["updated", "inserted", "before", "inserted", "updated"] {
        stage.navigate(place);
        if place == "updated" {
            stage.same("wide", HASH).await;
            continue;
        }
        let sql = "SELECT count(*) || ' ' || count(*) FILTER (WHERE n <> id::bigint * 7 OR filler <> md5(id::text)) FROM wide";
        let expected = if place == "before" { 0 } else { rows };
        let found = stage.replica.psql(DATABASE, sql).await;
        stage.judge(
            found.trim() == format!("{expected} 0"),
            &format!("{expected} rows at {place}, as they were"),
        );
    }
    stage.end()
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn per(bytes: u64, rows: u64) -> f64 {
    bytes as f64 / rows as f64
}
