//! Ten thousand tables, changed in transactions of their own and all in one.

use std::time::Instant;

use serde_json::json;

use crate::{
    report,
    servers::setting,
    stage::{DATABASE, Stage},
};

/// Tables that one transaction or statement of ours touches.
const AT_ONCE: u64 = 500;

pub async fn run() -> u64 {
    let tables = setting("LOAD_TABLES", 10_000);
    // pg_dump locks all tables at once, so whoever has so many has set this; and the output server as it comes.
    let locks = (tables / 20).max(64).to_string();
    let fill = format!(
        "DO $$ BEGIN FOR i IN 1..{tables} LOOP
           EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, v text)', i); IF i % {AT_ONCE} = 0 THEN COMMIT; END IF;
         END LOOP; END $$"
    );
    let mut stage = Stage::set("tables", &[("max_locks_per_transaction", &locks)], &fill).await;
    stage.checkpoint("empty");
    let each = |statement: &str, ends: &str| {
        format!(
            "DO $$ BEGIN FOR i IN 1..{tables} LOOP EXECUTE format({statement}, i); {ends} END LOOP; END $$"
        )
    };
    let steps = [
        ("inserted", "'INSERT INTO t%s SELECT g, md5(g::text) FROM generate_series(1, 3) g'", "COMMIT;"),
        ("updated", "'UPDATE t%s SET v = v || id WHERE id < 3'", "COMMIT;"),
        ("at once", "'DELETE FROM t%s WHERE id = 2'", ""),
    ];
    for (name, statement, ends) in steps {
        let began = Instant::now();
        stage.primary.psql(DATABASE, &each(statement, ends)).await;
        let made = began.elapsed();
        stage.checkpoint(name);
        stage.tell(
            &format!("{name}: {tables} tables on the primary in {}, captured", report::time(made)),
            began,
        );
    }
    let began = Instant::now();
    for i in 1..=20 {
        stage.primary.psql(DATABASE, &format!("CREATE TABLE late{i} (id int PRIMARY KEY)")).await;
    }
    stage.checkpoint("more");
    stage.tell("20 tables more, captured", began);
    for place in ["more", "at once", "updated", "inserted", "empty", "at once", "inserted", "more"] {
        let began = Instant::now();
        let answer =
            stage.api.ask("POST", "/api/navigate", &json!({"checkpoint_id": place, "limit": 1}).to_string());
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let strategy = serde_json::from_str::<serde_json::Value>(&text).expect("JSON")["strategy"].clone();
        stage.tell(&format!("to {place} by {strategy}"), began);
        stage.judge(
            answer.status == 200,
            &format!("it arrived at {place}{}", if answer.status == 200 { "" } else { &text }),
        );
        let (rows, sum) = contents(place, tables);
        let found = count(&stage, tables).await;
        stage
            .judge(found == (rows, sum), &format!("{place} has {rows} rows, {sum} bytes of text: {found:?}"));
    }
    stage.time_answers(&[
        "/api/status",
        "/api/status",
        "/metrics",
        "/api/wal-logs?limit=100",
        &format!("/api/wal-logs?limit=100&table=public.t{}", tables / 2),
        "/api/transactions?limit=100",
        "/api/checkpoints",
        "/api/diff?from=empty&to=updated&limit=100",
        "/api/sessions",
    ]);
    let began = Instant::now();
    let output = stage.product.output(&["verify"]);
    stage.tell(&format!("verify: {}", output.status), began);
    stage.judge(
        output.status.success(),
        &format!("verify: {}", crate::support::both(&output).trim().lines().last().unwrap_or_default()),
    );
    stage.end()
}

/// Rows of all tables at a checkpoint, and bytes of their text.
fn contents(place: &str, tables: u64) -> (u64, u64) {
    match place {
        "empty" => (0, 0),
        "inserted" => (3 * tables, 96 * tables),
        "updated" => (3 * tables, 98 * tables),
        _ => (2 * tables, 65 * tables),
    }
}

/// The same by SQL, of the replica.
async fn count(stage: &Stage, tables: u64) -> (u64, u64) {
    let (mut rows, mut bytes) = (0, 0);
    for first in (1..=tables).step_by(usize::try_from(AT_ONCE).expect("small")) {
        let last = tables.min(first + AT_ONCE - 1);
        let selects: Vec<String> = (first..=last)
            .map(|i| format!("SELECT count(*) AS n, coalesce(sum(length(v)), 0) AS l FROM t{i}"))
            .collect();
        let sql = format!("SELECT sum(n), sum(l) FROM ({}) s", selects.join(" UNION ALL "));
        let found = stage.replica.psql(DATABASE, &sql).await;
        let (n, l) = found.trim().split_once('|').expect("two numbers");
        rows += n.parse::<u64>().expect("a number");
        bytes += l.parse::<u64>().expect("a number");
    }
    (rows, bytes)
}
