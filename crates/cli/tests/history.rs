//! Every checkpoint of a loaded database can be navigated to, in any order, and the replica is then what the
//! primary was. The oracle is `pg_dump` and SQL (`DatabaseState`), kept while the writers paused.
#![allow(missing_docs)]

mod support;

use ptr_testkit::{ServerVersion, TestServer};
use support::{Chance, pair::Pair};

const ROUNDS: usize = 6;

async fn every_checkpoint_of_pgbench(version: ServerVersion) {
    let pair = Pair::capturing(version, async |primary| {
        primary.pgbench("shop", &["-i", "-q", "-s", "1", "--foreign-keys"]).await;
        primary.psql("shop", "CREATE TABLE ticket (id serial PRIMARY KEY, at text NOT NULL)").await;
    })
    .await;
    let mut chance = Chance::seeded();
    let mut kept = vec![("CREATION".to_owned(), pair.state_of_primary().await)];
    let mut busy = Vec::new();
    for round in 0..ROUNDS {
        let name = format!("busy-{round}");
        let load = pair.primary.pgbench("shop", &["-n", "-c", "4", "-j", "2", "-t", "250"]);
        let checkpoints = async {
            pair.primary.psql("shop", &format!("INSERT INTO ticket (at) VALUES ('before {name}')")).await;
            pair.product.run(&["checkpoint", "create", &name]);
            pair.primary.psql("shop", &format!("INSERT INTO ticket (at) VALUES ('after {name}')")).await;
        };
        tokio::join!(load, checkpoints);
        busy.push(name);
        let name = format!("quiet-{round}");
        pair.product.run(&["checkpoint", "create", &name]);
        kept.push((name, pair.state_of_primary().await));
    }
    chance.shuffle(&mut kept);
    chance.shuffle(&mut busy);
    for (name, state) in &kept {
        pair.assert_replica_is(state, name).await;
    }
    for name in &busy {
        assert_books_balance(&pair, name).await;
        let tickets =
            pair.replica.psql("shop", &format!("SELECT at FROM ticket WHERE at LIKE '% {name}'")).await;
        assert_eq!(tickets.trim(), format!("before {name}"), "the checkpoint is not where \"now\" was");
    }
    let statistics = pair.product.json(&["status"]);
    let last = statistics.pointer("/databases/0/head/entry_index").and_then(serde_json::Value::as_u64);
    let last = usize::try_from(last.expect("status names the head")).expect("a count");
    for _ in 0..5 {
        assert_books_balance(&pair, &format!("entry:{}", chance.below(last))).await;
    }
}

/// What holds of TPC-B at every position: money moved is money booked.
async fn assert_books_balance(pair: &Pair, position: &str) {
    pair.product.run(&["navigate", position]);
    let sums =
        "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(bbalance) FROM pgbench_branches),
         (SELECT sum(tbalance) FROM pgbench_tellers), (SELECT coalesce(sum(delta), 0) FROM pgbench_history)";
    let line = pair.replica.psql("shop", sums).await;
    let sums: Vec<&str> = line.trim().split('|').collect();
    assert!(sums.windows(2).all(|pair| pair[0] == pair[1]), "the books do not balance at {position}: {line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_checkpoint_of_a_pgbench_run_comes_back_on_15() {
    every_checkpoint_of_pgbench(ServerVersion::Debian15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_checkpoint_of_a_pgbench_run_comes_back_on_18() {
    every_checkpoint_of_pgbench(ServerVersion::Pypi18).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_of_a_django_application_comes_back() {
    let pair = Pair::capturing(ServerVersion::Debian15, async |primary| {
        django(primary, &["-m", "django", "migrate", "-v0"])
    })
    .await;
    let mut kept = vec![("CREATION".to_owned(), pair.state_of_primary().await)];
    for step in 1..=4 {
        django(&pair.primary, &["fill.py", &step.to_string()]);
        let name = format!("step {step}");
        pair.product.run(&["checkpoint", "create", &name]);
        kept.push((name, pair.state_of_primary().await));
    }
    Chance::seeded().shuffle(&mut kept);
    for (name, state) in &kept {
        pair.assert_replica_is(state, name).await;
    }
}

/// How many steps forward `django/evolve.py` knows.
const EVOLUTION: usize = 7;

async fn migrations_of_a_django_application(version: ServerVersion) {
    let pair = Pair::capturing(version, async |_| {}).await;
    let folder = pair.product.folder.path().to_str().expect("UTF-8 path").to_owned();
    let evolve = |action: &str, number: usize| {
        django(&pair.primary, &["evolve.py", &folder, action, &number.to_string()]);
    };
    let mut kept = vec![pair.keep_creation().await];
    for step in 1..=EVOLUTION {
        evolve("forward", step);
        kept.push(pair.keep(&format!("forward to {step}")).await);
    }
    for step in (0..EVOLUTION).rev() {
        evolve("to", step);
        kept.push(pair.keep(&format!("back to {step}")).await);
    }
    for step in [2, EVOLUTION] {
        evolve("to", step);
        kept.push(pair.keep(&format!("again to {step}")).await);
    }
    pair.assert_all_come_back(&kept, &mut Chance::seeded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_of_a_django_application_back_and_forth_come_back_on_15() {
    migrations_of_a_django_application(ServerVersion::Debian15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_of_a_django_application_back_and_forth_come_back_on_18() {
    migrations_of_a_django_application(ServerVersion::Pypi18).await;
}

/// Steps of graphile-worker's own migrations.
const WORKER_MIGRATIONS: usize = 18;

async fn migrations_of_a_job_queue(version: ServerVersion) {
    let pair = Pair::capturing(version, async |_| {}).await;
    let mut kept = vec![pair.keep_creation().await];
    for step in 1..=WORKER_MIGRATIONS {
        worker(&pair.primary, step);
        kept.push(pair.keep(&format!("migration {step}")).await);
    }
    worker(&pair.primary, WORKER_MIGRATIONS);
    kept.push(pair.keep("used again").await);
    pair.assert_all_come_back(&kept, &mut Chance::seeded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_of_graphile_worker_come_back_on_15() {
    migrations_of_a_job_queue(ServerVersion::Debian15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_of_graphile_worker_come_back_on_18() {
    migrations_of_a_job_queue(ServerVersion::Pypi18).await;
}

/// Where script/install-test-applications puts them.
fn applications() -> std::path::PathBuf {
    let folder = std::env::var_os("PTR_TEST_APPLICATIONS").map(std::path::PathBuf::from);
    folder.unwrap_or_else(|| {
        let user = rustix::process::geteuid().as_raw();
        format!("/var/tmp/postgres-test-replay-applications-{user}").into()
    })
}

/// Takes graphile-worker's schema to a step, and uses it.
fn worker(primary: &TestServer, step: usize) {
    let folder = applications().join("worker");
    assert!(
        folder.join("installed").exists(),
        "graphile-worker for tests is missing; run script/install-test-applications"
    );
    let output = std::process::Command::new("node")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/worker/step.js"))
        .arg(folder)
        .arg(step.to_string())
        .envs(primary.dsn("shop").libpq_environment())
        .output()
        .expect("node starts");
    assert!(output.status.success(), "step {step}: {}", support::both(&output));
}

/// Runs Python with Django on the primary's database, in the folder of the test's Django project.
fn django(primary: &TestServer, arguments: &[&str]) {
    let python = applications().join("django/bin/python");
    assert!(python.exists(), "Django for tests is missing; run script/install-test-applications");
    let project = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/django");
    let output = std::process::Command::new(python)
        .args(arguments)
        .current_dir(project)
        .envs(primary.dsn("shop").libpq_environment())
        .env("DJANGO_SETTINGS_MODULE", "settings")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONPATH", project)
        .output()
        .expect("Python starts");
    assert!(output.status.success(), "{arguments:?}: {}", support::both(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_is_left_out_is_told_and_its_password_is_not() {
    let pair = Pair::capturing(ServerVersion::Debian15, async |_| {}).await;
    let subscribe = "CREATE SUBSCRIPTION elsewhere CONNECTION 'host=127.0.0.1 password=hunter2'
         PUBLICATION p WITH (connect = false)";
    pair.primary.psql("shop", subscribe).await;
    pair.product.run(&["checkpoint", "create", "subscribed"]);
    let told = support::both(&pair.product.output(&["navigate", "subscribed"]));
    assert!(told.contains("not run on the replica"), "{told}");
    assert!(told.contains("CREATE SUBSCRIPTION elsewhere"), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
    let count = pair.replica.psql("shop", "SELECT count(*) FROM pg_subscription").await;
    assert_eq!(count.trim(), "0");
}
