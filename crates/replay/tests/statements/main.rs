//! Statements side by side, from a primary set up as users do it through the log to an equal replica.
//!
//! [`cases`] is the table; a new case is a name and what a client sends. Each starts in an empty database. `CASE=text`
//! in the environment runs only those whose name contains the text.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod cases;
#[path = "../support/mod.rs"]
mod support;

use cases::{CASES, Case};
use ptr_model::Position;
use ptr_replay::Limits;
use ptr_testkit::{DatabaseState, ServerVersion};
use support::World;

async fn all_cases(version: ServerVersion, major: u32, has_contrib: bool) {
    let only = std::env::var("CASE").unwrap_or_default();
    let runs =
        |case: &&Case| case.since <= major && (has_contrib || !case.contrib) && case.name.contains(&only);
    let mut cases = CASES.iter().filter(runs).peekable();
    let mut failures = Vec::new();
    while cases.peek().is_some() {
        let mut world = World::set_up(version, "").await;
        let mut kept = Vec::new();
        // After a failure the session cannot go on in this history.
        for case in cases.by_ref() {
            match run(&mut world, case).await {
                Ok(there) => kept.push((case, there)),
                Err(failure) => {
                    failures.push(format!("{}: {failure}", case.name));
                    break;
                }
            }
        }
        for (case, (position, expected)) in kept.iter().rev().step_by(7) {
            if let Err(failure) = compare(&world, *position, expected).await {
                failures.push(format!("back to {}: {failure}", case.name));
            }
        }
    }
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n\n"));
}

/// Runs a case on the primary and navigates to its end.
async fn run(world: &mut World, case: &Case) -> Result<(Position, DatabaseState), String> {
    let client = world.server.client(support::PRIMARY).await;
    let password = world.server.dsn(support::PRIMARY).password().map(|password| password.reveal().to_owned());
    for step in case.steps {
        let step = step.replace("$PASSWORD", password.as_deref().unwrap_or_default());
        let (mark, sql) = step.split_at(1);
        let outcome = match mark {
            "!" => match client.batch_execute(sql).await {
                Ok(()) => return Err(format!("did not fail on the primary: {sql}")),
                Err(_) => Ok(()),
            },
            "@" => client.execute(sql, &[]).await.map(drop),
            _ => client.batch_execute(&step).await,
        };
        outcome.map_err(|error| format!("on the primary: {step}: {error:?}"))?;
    }
    client.close().await;
    let position = world.capture().await;
    let expected = world.primary_state().await;
    let invalid = invalid_indexes(world, support::PRIMARY).await;
    compare(world, position, &expected).await?;
    let found = invalid_indexes(world, &world.session.name).await;
    if invalid != found {
        return Err(format!("invalid indexes: {invalid:?} on the primary, {found:?} on the replica"));
    }
    world.sql(cases::CLEAN).await;
    Ok((position, expected))
}

async fn compare(world: &World, position: Position, expected: &DatabaseState) -> Result<(), String> {
    world.try_go(position).await.map_err(|error| format!("replay: {error}"))?;
    let differences = expected.differences(&world.session_state().await);
    if differences.is_empty() { Ok(()) } else { Err(differences.join("\n")) }
}

/// `pg_dump` leaves them out.
async fn invalid_indexes(world: &World, database: &str) -> Vec<String> {
    let client = world.server.client(database).await;
    let sql = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid ORDER BY 1";
    let names = client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    client.close().await;
    names
}

#[tokio::test]
async fn every_statement_comes_out_equal_on_15() {
    all_cases(ServerVersion::Debian15, 15, true).await;
}

#[tokio::test]
async fn every_statement_comes_out_equal_on_18() {
    all_cases(ServerVersion::Pypi18, 18, false).await;
}

/// The rows of a CREATE TABLE AS go in as they come; what is held of them is the window.
#[tokio::test]
async fn a_large_table_made_from_a_query_is_not_held_in_memory() {
    let mut world = World::set_up(ServerVersion::Debian15, "").await;
    world.limits = Limits { window_bytes: 64 << 10, window_rows: 500, ..Limits::default() };
    world
        .sql(
            "BEGIN; CREATE TABLE a AS SELECT i, random() AS r, repeat('x', 100) AS t FROM generate_series(1, 30000) i;
             DELETE FROM a WHERE i <= 10000; CREATE TABLE b AS SELECT * FROM a; COMMIT",
        )
        .await;
    world.arrives().await;
}

#[tokio::test]
async fn a_table_that_nobody_is_told_of_stops_replay_with_its_name() {
    let mut world = World::set_up(ServerVersion::Debian15, "").await;
    // A key that the query did not make: whether an event told of it, there is no telling.
    world
        .sql("EXPLAIN ANALYZE CREATE TABLE hidden AS SELECT 1 AS a; ALTER TABLE hidden ADD PRIMARY KEY (a)")
        .await;
    let position = world.capture().await;
    let stopped = world.try_go(position).await.expect_err("it cannot be made").to_string();
    assert!(stopped.contains("hidden") && stopped.contains("EXPLAIN ANALYZE"), "{stopped}");
}

/// Where an index that a failed CREATE INDEX CONCURRENTLY left becomes part of another, or gives its name to nothing on
/// the replica, replay stops before it.
#[tokio::test]
async fn an_invalid_index_that_becomes_part_of_another_stops_replay_with_its_name() {
    for version in ServerVersion::ALL {
        for (steps, statement, expected) in [
            (
                "CREATE TABLE p (a int) PARTITION BY LIST (a); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1)",
                "CREATE UNIQUE INDEX whole ON p (a)",
                "index public.whole took over index public.bad of a partition",
            ),
            (
                "CREATE TABLE p (a int) PARTITION BY LIST (a); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
                 CREATE UNIQUE INDEX whole ON ONLY p (a)",
                "ALTER INDEX whole ATTACH PARTITION bad",
                "\"bad\" does not exist",
            ),
            (
                "CREATE TABLE p (a int) PARTITION BY LIST (a); CREATE TABLE p1 (a int); CREATE UNIQUE INDEX whole ON p (a)",
                "ALTER INDEX bad RENAME TO p1_a_idx; ALTER TABLE p ATTACH PARTITION p1 FOR VALUES IN (1)",
                "\"bad\" does not exist",
            ),
        ] {
            let mut world = World::set_up(version, steps).await;
            world.sql("INSERT INTO p1 VALUES (1), (1)").await;
            let client = world.server.client(support::PRIMARY).await;
            client.batch_execute("CREATE UNIQUE INDEX CONCURRENTLY bad ON p1 (a)").await.unwrap_err();
            client.close().await;
            world.sql(&format!("DELETE FROM p1; {statement}")).await;
            let position = world.capture().await;
            let stopped = world.try_go(position).await.expect_err("it cannot be made").to_string();
            assert!(stopped.contains(expected), "{statement}: {stopped}");
        }
    }
}

/// What EXPLAIN ANALYZE makes fires no event trigger.
async fn an_announced_table_is_made(version: ServerVersion) {
    let roles =
        "CREATE ROLE maker; GRANT CREATE ON SCHEMA public TO maker; CREATE TABLE source (a int, b text);
        INSERT INTO source VALUES (1, 'x'), (2, NULL)";
    let mut world = World::set_up(version, roles).await;
    let (creation, before) = world.arrives().await;
    world
        .sql(
            "BEGIN; CREATE TABLE told AS SELECT * FROM source; GRANT SELECT ON source TO maker; SET LOCAL ROLE maker;
             EXPLAIN (ANALYZE, COSTS off) CREATE TABLE \"Hid den\" (x, \"Y\", t) WITH (fillfactor = 70)
                AS SELECT a, b COLLATE \"C\", clock_timestamp()::timestamptz(3) FROM source;
             CREATE TABLE told_too AS SELECT a, random() FROM source; COMMIT;
             BEGIN; EXPLAIN ANALYZE SELECT 1 AS one, random() INTO second; INSERT INTO second VALUES (2); COMMIT",
        )
        .await;
    let (position, made) = world.arrives().await;
    // As any other table now: no key, and still changed.
    world.sql("UPDATE \"Hid den\" SET x = x + 1; DELETE FROM second WHERE one = 2").await;
    world.arrives().await;
    for (position, expected) in [(position, &made), (creation, &before), (position, &made)] {
        world.go(position).await;
        ptr_testkit::assert_equal_states(expected, &world.session_state().await);
    }
}

#[tokio::test]
async fn a_table_that_only_its_rows_announce_is_made_on_15() {
    an_announced_table_is_made(ServerVersion::Debian15).await;
}

#[tokio::test]
async fn a_table_that_only_its_rows_announce_is_made_on_18() {
    an_announced_table_is_made(ServerVersion::Pypi18).await;
}
