//! Two hundred clients of the API at once: pages, statistics, event streams, moves.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    api::Api,
    report,
    servers::setting,
    sessions::{PLACES, make},
    stage::{DATABASE, Stage, is_at, spread, ticks},
    support::Chance,
};

/// Sessions that are moved, each by one client.
const MOVED: u64 = 20;

/// What one client saw, by what it asked.
#[derive(Default)]
struct Seen {
    took: BTreeMap<&'static str, Vec<Duration>>,
    /// 503 with Retry-After.
    refused: u64,
    wrong: Vec<String>,
    events: u64,
    /// Where a session was taken last.
    place: Option<u64>,
}

pub async fn run() -> u64 {
    let (clients, seconds) = (setting("LOAD_CLIENTS", 200), setting("LOAD_SECONDS", 20));
    let (mut stage, _) = ticks("clients", PLACES).await;
    make(&mut stage, MOVED).await;
    let streams = clients / 4;
    let watch = stage.watch_connections().await;
    let began = Instant::now();
    let until = began + Duration::from_secs(seconds);
    let seen = tokio::task::block_in_place(|| ask(&stage, clients, streams, until));
    stage.tell(&format!("{clients} clients: {streams} streams, {MOVED} that move, the others read"), began);
    let connections = watch.most().await;
    let mut all = Seen::default();
    for (n, one) in seen.into_iter().enumerate() {
        one.took.into_iter().for_each(|(what, took)| all.took.entry(what).or_default().extend(took));
        all.refused += one.refused;
        all.events += one.events;
        all.wrong.extend(one.wrong);
        if let Some(k) = one.place {
            let right = is_at(&stage.replica, &format!("{DATABASE}_s{n}"), k).await;
            all.wrong.extend((!right).then(|| format!("session s{n} is not at c{k}")));
        }
    }
    for (what, took) in all.took {
        let (count, spread) = (took.len(), spread(took));
        println!("  {count:6} answers to {what:<40} {spread}");
        report::figure(&format!("load, clients: {what}"), "", &spread, "");
    }
    println!(
        "  {} events received, {} refused with Retry-After, at most {connections} connections to the output server",
        all.events, all.refused
    );
    let first = all.wrong.first().cloned().unwrap_or_default();
    stage.judge(
        all.wrong.is_empty(),
        &format!("no errors and every session where it was taken; {} {first}", all.wrong.len()),
    );
    stage.end()
}

fn ask(stage: &Stage, clients: u64, streams: u64, until: Instant) -> Vec<Seen> {
    let directory = stage.product.data_directory();
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..clients)
            .map(|n| {
                let api = Api::of(&directory);
                scope.spawn(move || match n {
                    n if n < MOVED => moves(api, n, until),
                    n if n < MOVED + streams => listens(api, until),
                    n => reads(api, n, until),
                })
            })
            .collect();
        asking.into_iter().map(|thread| thread.join().expect("a client")).collect()
    })
}

fn moves(mut api: Api, n: u64, until: Instant) -> Seen {
    let (mut seen, mut chance) = (Seen::default(), Chance(n));
    while Instant::now() < until {
        let k = 1 + chance.number() % PLACES;
        let body = json!({"checkpoint_id": format!("c{k}"), "session_id": format!("s{n}"), "limit": 10});
        if seen.ask(&mut api, "POST", "/api/navigate", "/api/navigate", &body.to_string()) {
            seen.place = Some(k);
        }
    }
    seen
}

fn listens(api: Api, until: Instant) -> Seen {
    let mut seen = Seen::default();
    match api.count_events(until) {
        Ok(events) => seen.events = events,
        Err(error) => seen.wrong.push(format!("a stream of events: {error}")),
    }
    seen
}

fn reads(mut api: Api, n: u64, until: Instant) -> Seen {
    let (mut seen, mut chance) = (Seen::default(), Chance(n));
    while Instant::now() < until {
        let k = 1 + chance.number() % (PLACES - 1);
        let paths = [
            ("/api/wal-logs", format!("/api/wal-logs?limit=100&since=c{k}")),
            ("/api/transactions", "/api/transactions?limit=50".to_owned()),
            ("/api/checkpoints", "/api/checkpoints".to_owned()),
            ("/api/status", "/api/status".to_owned()),
            ("/api/diff", format!("/api/diff?from=c{k}&to=c{}&limit=100", k + 1)),
            ("/api/histogram", "/api/histogram".to_owned()),
            ("/api/sessions", "/api/sessions".to_owned()),
            ("/metrics", "/metrics".to_owned()),
        ];
        let place = chance.below(paths.len());
        let (what, path) = &paths[place];
        seen.ask(&mut api, "GET", what, path, "");
    }
    seen
}

impl Seen {
    /// Whether it was answered as asked.
    fn ask(&mut self, api: &mut Api, method: &str, what: &'static str, path: &str, body: &str) -> bool {
        let began = Instant::now();
        let answer = api.ask(method, path, body);
        match answer.status {
            200 => self.took.entry(what).or_default().push(began.elapsed()),
            503 if answer.retry_after => {
                self.refused += 1;
                std::thread::sleep(Duration::from_millis(100));
            }
            status => self
                .wrong
                .push(format!("{method} {path}: {status} {}", String::from_utf8_lossy(&answer.body))),
        }
        answer.status == 200
    }
}
