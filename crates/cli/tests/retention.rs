//! The oldest part of a history goes, by `gc`: what is left is reached and equals what the primary was, and what somebody
//! named is kept, wherever the program ends meanwhile.
//!
//! The oracle is the primary, by `pg_dump` and SQL, at checkpoints.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use ptr_log::BEGINNING_POINTS;
use ptr_testkit::ServerVersion;
use serde_json::Value;
use support::{
    Chance, both,
    pair::{DATABASE, Kept, Pair},
    wait_until,
};

const SCHEMA: &str = "CREATE TYPE mood AS ENUM ('calm', 'loud');
    CREATE TABLE customer (id serial PRIMARY KEY, name text NOT NULL, mood mood DEFAULT 'calm');
    CREATE TABLE keyless (n numeric, at timestamptz DEFAULT now());
    CREATE MATERIALIZED VIEW sums AS SELECT sum(n), random() FROM keyless;
    INSERT INTO customer (name) VALUES ('Ada')";

/// Schema and rows of everything that a base image carries by a way of its own.
const STEPS: [&str; 6] = [
    "CREATE TABLE later (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, x text); CREATE INDEX ON later (x)",
    "ALTER TABLE customer ADD COLUMN since timestamptz DEFAULT clock_timestamp(); ALTER TABLE customer DROP COLUMN mood",
    "CREATE ROLE ptr_clerk; GRANT SELECT ON customer TO ptr_clerk; REFRESH MATERIALIZED VIEW sums",
    "CREATE TABLE parts (id int, v text) PARTITION BY RANGE (id); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100)",
    "ALTER TABLE keyless REPLICA IDENTITY FULL; CREATE UNLOGGED TABLE scratch (x int); ALTER TABLE later ADD CHECK (x <> '') NOT VALID",
    "DROP TABLE scratch; CREATE VIEW named AS SELECT name FROM customer; ALTER SEQUENCE customer_id_seq INCREMENT 3",
];

/// And what only 18 has.
const STEPS_OF_18: [&str; 2] = [
    "CREATE TABLE computed (id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) VIRTUAL, thrice int GENERATED ALWAYS AS (n * 3) STORED);
     ALTER TABLE customer ADD CONSTRAINT named NOT NULL since NOT VALID; INSERT INTO computed (id, n) VALUES (1, 2)",
    "CREATE TABLE booked (rooms int4range, during int4range, PRIMARY KEY (rooms, during WITHOUT OVERLAPS));
     UPDATE computed SET n = 3; ALTER TABLE parts ADD CHECK (id >= 0) NOT ENFORCED",
];

async fn rows(pair: &Pair, number: usize) {
    let sql = format!(
        "INSERT INTO customer (name) SELECT repeat(md5(i::text), 40) FROM generate_series(1, 60) i;
         INSERT INTO keyless (n) SELECT i % 3 FROM generate_series(1, 20) i;
         UPDATE customer SET name = '{number}' WHERE id % 7 = 0; DELETE FROM keyless WHERE ctid IN (SELECT ctid FROM keyless LIMIT 4)"
    );
    for statement in sql.split(';') {
        pair.primary.psql(DATABASE, statement).await;
    }
}

const VARIABLES: [(&str, &str); 2] = [("PTR_SEGMENT_BYTES", "6000"), ("KEYFRAME_BUDGET", "0")];

/// Captures in small segments: a part of the history can go.
async fn captured() -> (Pair, Vec<Kept>) {
    captured_from(ServerVersion::Debian15).await
}

async fn captured_from(version: ServerVersion) -> (Pair, Vec<Kept>) {
    let pair = Pair::capturing_where(version, &VARIABLES, async |primary| {
        primary.psql(DATABASE, SCHEMA).await;
    })
    .await;
    let mut kept = vec![pair.keep_creation().await];
    let more: &[&str] = if version == ServerVersion::Pypi18 { &STEPS_OF_18 } else { &[] };
    for (number, step) in STEPS.iter().chain(more).enumerate() {
        rows(&pair, number).await;
        pair.primary.psql(DATABASE, step).await;
        rows(&pair, number).await;
        kept.push(pair.keep(&format!("step{number}")).await);
    }
    (pair, kept)
}

fn gc(pair: &Pair, arguments: &[&str]) -> Value {
    pair.product.json(&[&["gc", "--yes"], arguments].concat())
}

fn of_beginning<'a>(answer: &'a Value, list: &str) -> Vec<&'a Value> {
    answer[list].as_array().unwrap().iter().filter(|thing| thing["kind"] == "beginning").collect()
}

fn segments(pair: &Pair) -> usize {
    let folder = pair.product.data_directory().join("log").join(DATABASE).join("segments");
    std::fs::read_dir(folder).unwrap().count()
}

fn delete(pair: &Pair, names: &[&str]) {
    for name in names {
        pair.product.run(&["checkpoint", "delete", name, "--yes"]);
    }
}

fn transaction_of(pair: &Pair, position: &str) -> u64 {
    pair.product.json(&["checkpoint", "show", position])["transaction"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_a_history_is_reached_and_what_somebody_named_is_kept() {
    let (mut pair, kept) = captured().await;
    let mut chance = Chance::seeded();
    pair.product.run(&["navigate", "head"]);
    let before = segments(&pair);

    // Everything is older than nothing, and the first checkpoint keeps almost all of it.
    let would = gc(&pair, &["--older-than", "0m", "--dry-run"]);
    assert_eq!(segments(&pair), before, "it only says so");
    let held = of_beginning(&would, "kept");
    assert!(held.iter().any(|thing| thing["reason"].as_str().unwrap().contains("\"step0\"")), "{would:#}");
    // What is young, or little, stays.
    for spared in [["--older-than", "1d"], ["--keep-bytes", "1GB"]] {
        let nothing = gc(&pair, &spared);
        assert_eq!(of_beginning(&nothing, "removed"), Vec::<&Value>::new(), "{nothing:#}");
    }

    delete(&pair, &["step0", "step1"]);
    let would = gc(&pair, &["--older-than", "0m", "--dry-run"]);
    let done = gc(&pair, &["--older-than", "0m"]);
    assert_eq!(of_beginning(&would, "removed"), of_beginning(&done, "removed"));
    assert_eq!(of_beginning(&done, "removed").len(), 1, "{done:#}");
    assert!(of_beginning(&done, "kept")[0]["reason"].as_str().unwrap().contains("\"step2\""), "{done:#}");
    assert!(segments(&pair) < before);
    let begins = transaction_of(&pair, "CREATION");
    assert!(begins > 0 && begins <= transaction_of(&pair, "step2"));

    let left: Vec<Kept> = kept.into_iter().skip(3).collect();
    pair.assert_all_come_back(&left, &mut chance).await;
    pair.product.run(&["navigate", "step2"]);
    // Beyond the beginning nothing is reached, and it is said since when.
    for gone in ["entry:0", "@-1000000"] {
        let output = pair.product.output(&["navigate", gone]);
        assert_eq!(output.status.code(), Some(3), "{gone}");
        let said = both(&output);
        assert!(said.contains("removed by gc at"), "{said}");
    }
    for command in [
        &["log", "--limit", "5"][..],
        &["log", "--histogram", "time"],
        &["log", "--histogram"],
        &["log", "--table", "customer", "--key", "7"],
        &["diff", "CREATION", "head", "--stat"],
        &["diff", "step3", "step4"],
        &["status"],
        &["doctor"],
        &["keyframe", "list"],
        &["checkpoint", "list"],
        &["session", "create", "another", "--at", "step3"],
        &["verify"],
    ] {
        pair.product.run(command);
    }
    // Once more, over a restart, with the base image alone: every database of ours on the output server is dropped.
    pair.product.run(&["session", "delete", "another", "--yes"]);
    pair.kill();
    let ours = "SELECT datname FROM pg_database WHERE datname LIKE 'ptr\\_%'";
    for name in pair.replica.psql("postgres", ours).await.lines() {
        pair.replica.psql("postgres", &format!("DROP DATABASE {name}")).await;
    }
    pair.start_again();
    pair.product.run(&["session", "create", "third"]);
    let third = pair.replica.psql("shop_third", "SELECT count(*) FROM later").await;
    assert_eq!(third, pair.replica.psql(DATABASE, "SELECT count(*) FROM later").await, "{third}");
    pair.product.run(&["session", "delete", "third", "--yes"]);
    for kept in &left {
        pair.product.run(&["navigate", &kept.position, "--rebuild"]);
        let differences = pair.differences(kept).await;
        assert!(differences.is_empty(), "{}: {differences:#?}", kept.position);
    }
    // And the history goes on, and can begin later again.
    rows(&pair, 9).await;
    let newest = pair.keep("newest").await;
    delete(&pair, &["step2", "step3", "step4", "step5"]);
    pair.product.run(&["navigate", "newest"]);
    let done = gc(&pair, &["--keep-bytes", "20kB"]);
    assert_eq!(of_beginning(&done, "removed").len(), 1, "{done:#}");
    assert!(transaction_of(&pair, "CREATION") > begins);
    pair.product.run(&["navigate", "CREATION"]);
    assert_eq!(pair.differences(&newest).await, [""; 0]);
    // The database that the last move put in another's place may still be on its way out.
    wait_until("nothing is left over", || gc(&pair, &[])["removed"].as_array().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_a_history_of_18_is_reached() {
    let (mut pair, kept) = captured_from(ServerVersion::Pypi18).await;
    pair.product.run(&["navigate", "head"]);
    delete(&pair, &["step0", "step1", "step2", "step3"]);
    let done = gc(&pair, &["--older-than", "0m"]);
    assert_eq!(of_beginning(&done, "removed").len(), 1, "{done:#}");
    let begins = transaction_of(&pair, "CREATION");
    assert!(begins > 0 && begins <= transaction_of(&pair, "step4"));
    let left: Vec<Kept> = kept.into_iter().skip(5).collect();
    pair.assert_all_come_back(&left, &mut Chance::seeded()).await;
    // Over a restart, from the base image and from the beginning on.
    pair.kill();
    pair.start_again();
    for kept in &left {
        pair.product.run(&["navigate", &kept.position, "--rebuild"]);
        let differences = pair.differences(kept).await;
        assert!(differences.is_empty(), "{}: {differences:#?}", kept.position);
    }
    // Once more, to where the columns and constraints of 18 are part of the image.
    delete(&pair, &["step4", "step5", "step6"]);
    rows(&pair, 9).await;
    let newest = pair.keep("newest").await;
    pair.product.run(&["navigate", "newest"]);
    delete(&pair, &["step7"]);
    let done = gc(&pair, &["--older-than", "0m"]);
    assert_eq!(of_beginning(&done, "removed").len(), 1, "{done:#}");
    assert!(transaction_of(&pair, "CREATION") > begins);
    pair.product.run(&["navigate", "CREATION"]);
    assert_eq!(pair.differences(&newest).await, [""; 0]);
    pair.product.run(&["verify"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_the_program_ends_the_history_begins_where_it_did_or_later_and_is_whole() {
    let (mut pair, mut kept) = captured().await;
    kept.remove(0);
    let mut begins = 0;
    for point in BEGINNING_POINTS {
        // Of those that are kept the first is let go each time, and one is added.
        delete(&pair, &[&kept.remove(0).position]);
        rows(&pair, 1).await;
        kept.push(pair.keep(&format!("at-{point}")).await);
        pair.product.run(&["navigate", &kept[0].position]);
        let creation = pair.state_of_replica_at("CREATION").await;
        pair.product.run(&["navigate", &kept[0].position]);
        pair.kill();
        pair.start_again_where(&[("PTR_CRASH_AT", point)]);
        let output = pair.product.output(&["gc", "--yes", "--older-than", "0m"]);
        assert!(!output.status.success(), "{point}: the program went on:\n{}", both(&output));
        assert!(pair.printed().contains(&format!("ended at {point}")), "{point}:\n{}", pair.printed());

        pair.start_again();
        let now = transaction_of(&pair, "CREATION");
        let is_later = !matches!(point, "base-taken" | "base-accepted");
        assert_eq!(now > begins, is_later, "{point}: it began at {begins}, and begins at {now}");
        for one in &kept {
            let differences = pair.differences(one).await;
            assert!(differences.is_empty(), "{point}: {}: {differences:#?}", one.position);
        }
        if !is_later {
            let differences = pair.differences(&creation).await;
            assert!(differences.is_empty(), "{point}: CREATION: {differences:#?}");
        }
        pair.product.run(&["navigate", &kept[0].position]);
        // What it was about comes about, and what it left goes.
        let done = gc(&pair, &["--older-than", "0m"]);
        assert_eq!(of_beginning(&done, "removed").len(), usize::from(!is_later), "{point}: {done:#}");
        begins = transaction_of(&pair, "CREATION");
        assert!(begins >= now && begins > 0, "{point}");
        let left = gc(&pair, &[]);
        assert!(left["removed"].as_array().unwrap().is_empty(), "{point}: something is left over: {left:#}");
        // Those in between come from the same keyframe.
        for one in [&kept[0], &kept[kept.len() - 1]] {
            pair.product.run(&["navigate", &one.position, "--rebuild"]);
            let differences = pair.differences(one).await;
            assert!(differences.is_empty(), "{point}, then gc: {}: {differences:#?}", one.position);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_beginning_that_is_being_made_ends_with_the_service_and_nothing_is_removed() {
    // Making the new base image's database takes for ever.
    let slow = "CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE sql AS $$ SELECT
                CASE WHEN current_database() ~ '_base$' THEN length(pg_sleep(3600)::text) ELSE $1 END $$;
                CREATE INDEX ON customer (slow(id))";
    let mut pair = Pair::capturing_where(ServerVersion::Debian15, &VARIABLES, async |primary| {
        primary.psql(DATABASE, &format!("{SCHEMA}; {slow}")).await;
    })
    .await;
    for number in 0..5 {
        rows(&pair, number).await;
    }
    let kept = pair.keep("last").await;
    pair.product.run(&["navigate", "last"]);
    let collecting = pair.product.spawn("gc", &["gc", "--yes", "--older-than", "0m"]);
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname ~ '_base$'";
    let patience = std::time::Duration::from_secs(60);
    ptr_testkit::wait_until("the new image is being restored", patience, async || {
        pair.replica.psql("postgres", sql).await.trim() != "0"
    })
    .await;
    let said = pair.product.output(&["down"]);
    assert!(said.status.success(), "{}", both(&said));
    let told = collecting.printed();
    assert!(told.contains("the service was stopped"), "{told}");

    pair.start_again();
    assert_eq!(transaction_of(&pair, "CREATION"), 0);
    assert_eq!(pair.differences(&kept).await, [""; 0]);
    gc(&pair, &[]);
    let left = "SELECT datname FROM pg_database WHERE datname ~ '_(base|trim)$'";
    assert_eq!(pair.replica.psql("postgres", left).await, "");
    let images = std::fs::read_dir(pair.product.data_directory().join("base").join(DATABASE)).unwrap();
    let names: Vec<String> = images.map(|one| one.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().all(|name| !name.starts_with("from-")), "{names:?}");
}

/// What a session of the primary has for itself is in no base image.
#[tokio::test(flavor = "multi_thread")]
async fn a_history_does_not_begin_where_temporary_objects_are_needed() {
    let pair = Pair::capturing_where(ServerVersion::Debian15, &VARIABLES, async |primary| {
        primary.psql(DATABASE, SCHEMA).await;
    })
    .await;
    rows(&pair, 0).await;
    let before = pair.keep("before").await;
    let client = pair.primary.client(DATABASE).await;
    client.batch_execute("CREATE TEMP TABLE draft (id int)").await.unwrap();
    for number in 0..4 {
        rows(&pair, number).await;
    }
    pair.product.run(&["navigate", "head"]);
    delete(&pair, &["before"]);
    let held = |answer: &Value| {
        let kept = of_beginning(answer, "kept");
        kept.iter().any(|thing| thing["reason"].as_str().unwrap().contains("made temporary before"))
    };
    let done = gc(&pair, &["--older-than", "0m"]);
    assert!(held(&done), "{done:#}");
    let first = transaction_of(&pair, "CREATION");
    client
        .batch_execute("ALTER TABLE draft ADD COLUMN note text; CREATE TABLE made AS SELECT * FROM draft")
        .await
        .unwrap();
    rows(&pair, 5).await;
    let needed = pair.keep("needed").await;
    // A session that went on from head would not have it; from the beginning on nothing is missing.
    pair.product.run(&["navigate", "needed", "--rebuild"]);
    assert_eq!(pair.differences(&needed).await, [""; 0]);
    let done = gc(&pair, &["--older-than", "0m"]);
    assert!(held(&done) && transaction_of(&pair, "CREATION") == first, "{done:#}");
    // Another process changes the schema: from there on nothing of it is needed.
    pair.primary.psql(DATABASE, "CREATE TABLE another (x int)").await;
    for number in 0..2 {
        rows(&pair, number).await;
    }
    let last = pair.keep("last").await;
    delete(&pair, &["needed"]);
    pair.product.run(&["navigate", "last"]);
    let done = gc(&pair, &["--older-than", "0m"]);
    assert!(!held(&done) && transaction_of(&pair, "CREATION") > first, "{done:#}");
    pair.product.run(&["navigate", "CREATION"]);
    assert_eq!(pair.differences(&last).await, [""; 0]);
    drop(before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_service_lets_go_what_the_policy_allows_and_says_so() {
    let (mut pair, kept) = captured().await;
    pair.product.run(&["navigate", "head"]);
    delete(&pair, &["step0", "step1", "step2", "step3"]);
    assert_eq!(pair.product.json(&["status"])["retention"], Value::Null);
    assert_eq!(transaction_of(&pair, "CREATION"), 0, "nothing goes by itself");
    pair.kill();
    pair.start_again_where(&[("RETAIN_AGE", "0m"), ("RETAIN_BYTES", "1TB")]);
    let last = || pair.product.json(&["status"])["retention"]["last"].clone();
    wait_until("the policy was applied", || !last().is_null());
    let last = last();
    assert_eq!(last["problem"], Value::Null, "{last:#}");
    assert_eq!(of_beginning(&last, "removed").len(), 1, "{last:#}");
    assert!(of_beginning(&last, "kept")[0]["reason"].as_str().unwrap().contains("\"step4\""), "{last:#}");
    assert!(transaction_of(&pair, "CREATION") > 0);
    let said = pair.product.run(&["status"]);
    assert!(
        said.contains("lets go what is older than 0m, or beyond") && said.contains("\"step4\""),
        "{said}"
    );
    for kept in &kept[5..] {
        assert_eq!(pair.differences(kept).await, [""; 0], "{}", kept.position);
    }
    // What is no age and no size is refused before anything is begun.
    for (name, value) in [("RETAIN_AGE", "long"), ("RETAIN_BYTES", "much")] {
        let output = pair.product.command(&["status"]).env(name, value).output().unwrap();
        assert!(!output.status.success() && both(&output).contains(name), "{}", both(&output));
    }
}
