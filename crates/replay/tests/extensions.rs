//! Extensions in transactions with rows: what a script does, CREATE EXTENSION does again; all else is replayed, also
//! where CREATE EXTENSION found the extension there and only its beginning was told.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use ptr_model::Position;
use ptr_replay::{Strategy, keyframe::Reason};
use ptr_testkit::{DatabaseState, ServerVersion, assert_equal_states};
use support::{PRIMARY, World};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const SCHEMA: &str = "CREATE TABLE migrated (version text PRIMARY KEY); CREATE TABLE line (n int, what text)";

/// Each is one transaction, with plpgsql, which every database has.
const NOTHING_TO_DO: &[&str] = &[
    "CREATE EXTENSION IF NOT EXISTS plpgsql; CREATE TABLE t (id int PRIMARY KEY, v text);
     INSERT INTO t VALUES (1, 'one'), (2, 'two'); INSERT INTO migrated VALUES ('1')",
    "CREATE EXTENSION IF NOT EXISTS plpgsql; INSERT INTO line VALUES (1, 'no schema change'); UPDATE t SET v = 'uno' WHERE id = 1",
    "CREATE EXTENSION IF NOT EXISTS plpgsql; CREATE EXTENSION IF NOT EXISTS plpgsql; DELETE FROM t WHERE id = 2;
     CREATE EXTENSION IF NOT EXISTS plpgsql; CREATE TABLE made AS SELECT g AS n FROM generate_series(1, 5) g;
     INSERT INTO made VALUES (6); INSERT INTO migrated VALUES ('2')",
    "DO $$ BEGIN CREATE EXTENSION IF NOT EXISTS plpgsql; CREATE TABLE inner_one (a int);
     INSERT INTO inner_one VALUES (1); INSERT INTO line VALUES (2, 'inner'); END $$",
    "SAVEPOINT a; CREATE EXTENSION IF NOT EXISTS plpgsql; INSERT INTO line VALUES (3, 'gone'); ROLLBACK TO a;
     INSERT INTO line VALUES (4, 'kept'); SAVEPOINT b; CREATE EXTENSION IF NOT EXISTS plpgsql; RELEASE b;
     INSERT INTO line VALUES (5, 'kept too')",
    "ALTER EXTENSION plpgsql UPDATE; INSERT INTO line VALUES (6, 'nothing to update'); TRUNCATE made; INSERT INTO made VALUES (7)",
    "CREATE EXTENSION IF NOT EXISTS plpgsql; EXPLAIN ANALYZE CREATE TABLE untold AS SELECT 1 AS n;
     INSERT INTO line VALUES (7, 'beside a table that no event tells of')",
    "EXPLAIN ANALYZE CREATE TABLE untold_too AS SELECT 2 AS n; CREATE TABLE told AS SELECT 3 AS n;
     INSERT INTO line VALUES (8, 'beside both')",
];

/// The same beside extensions of contrib that are made.
const BESIDE_REAL_ONES: &[&str] = &[
    "CREATE EXTENSION pgcrypto; INSERT INTO line VALUES (10, 'after it was made')",
    "CREATE EXTENSION IF NOT EXISTS pgcrypto; CREATE TABLE u (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), n int);
     INSERT INTO u (n) SELECT generate_series(1, 9); INSERT INTO migrated VALUES ('3')",
    "CREATE EXTENSION IF NOT EXISTS pgcrypto; INSERT INTO line VALUES (11, 'before'); CREATE EXTENSION IF NOT EXISTS citext;
     CREATE TABLE name (n citext PRIMARY KEY); INSERT INTO name VALUES ('Ada'); CREATE EXTENSION IF NOT EXISTS citext;
     INSERT INTO line VALUES (12, 'behind')",
    "SAVEPOINT a; CREATE EXTENSION hstore; ROLLBACK TO a; INSERT INTO line VALUES (13, 'without hstore');
     CREATE EXTENSION IF NOT EXISTS hstore; INSERT INTO line VALUES (14, 'with'); SAVEPOINT b; DROP EXTENSION hstore;
     ROLLBACK TO b; CREATE EXTENSION IF NOT EXISTS hstore; INSERT INTO line VALUES (15, 'still')",
    "CREATE EXTENSION IF NOT EXISTS hstore; INSERT INTO line VALUES (16, 'first'); DROP EXTENSION hstore;
     INSERT INTO line VALUES (17, 'second'); CREATE EXTENSION IF NOT EXISTS hstore VERSION '1.7';
     INSERT INTO line VALUES (18, 'third'); ALTER EXTENSION hstore UPDATE TO '1.8'; ALTER EXTENSION hstore UPDATE;
     INSERT INTO line VALUES (19, 'last')",
    "DO $$ BEGIN FOR i IN 1..3 LOOP CREATE EXTENSION IF NOT EXISTS pg_trgm; INSERT INTO line VALUES (20 + i, 'in a loop');
     END LOOP; END $$",
];

impl World {
    async fn transactions(&mut self, steps: &[&str]) -> Vec<(Position, DatabaseState)> {
        let mut kept = vec![(self.capture().await, self.primary_state().await)];
        for step in steps {
            self.sql(&format!("BEGIN; {step}; COMMIT")).await;
            kept.push((self.capture().await, self.primary_state().await));
        }
        kept
    }

    async fn goes_to(&self, (position, expected): &(Position, DatabaseState)) -> Strategy {
        let strategy = self.go(*position).await.strategy;
        assert_equal_states(expected, &self.session_state().await);
        strategy
    }
}

async fn rows_are_replayed(version: ServerVersion, steps: &[&str]) {
    let mut world = World::set_up(version, SCHEMA).await;
    let kept = world.transactions(steps).await;
    for place in &kept {
        world.goes_to(place).await;
    }
    world.goes_to(&kept[0]).await;
    world.goes_to(kept.last().unwrap()).await;
    for place in kept.iter().rev().step_by(3) {
        world.goes_to(place).await;
    }
}

#[tokio::test]
async fn rows_beside_an_extension_that_was_there_are_replayed_on_15() {
    rows_are_replayed(ServerVersion::Debian15, NOTHING_TO_DO).await;
}

#[tokio::test]
async fn rows_beside_an_extension_that_was_there_are_replayed_on_18() {
    rows_are_replayed(ServerVersion::Pypi18, NOTHING_TO_DO).await;
}

#[tokio::test]
async fn rows_beside_extensions_that_are_made_and_were_there_are_replayed() {
    rows_are_replayed(ServerVersion::Debian15, BESIDE_REAL_ONES).await;
}

#[tokio::test]
async fn rows_beside_an_extension_that_was_there_are_undone_and_are_in_a_keyframe() {
    let mut world = World::set_up(ServerVersion::Debian15, SCHEMA).await;
    let kept = world.transactions(&NOTHING_TO_DO[..2]).await;
    world.goes_to(&kept[2]).await;
    assert_eq!(world.goes_to(&kept[1]).await, Strategy::Undo, "nothing of the schema changed");

    let (_moves, mut quiet) = watch::channel(0);
    let cancel = CancellationToken::new();
    let keyframes = world.session.keyframes();
    let made = keyframes.make(&world.log, kept[2].0, Reason::Manual, &mut quiet, &cancel).await;
    made.unwrap_or_else(|error| panic!("{error}"));
    world.tamper("DROP TABLE t").await;
    world.server.psql("postgres", "DROP DATABASE session").await;
    assert_eq!(world.goes_to(&kept[2]).await, Strategy::Keyframe);
}

/// A script is run again, and a user's event trigger is not: what it wrote beside the script is rows like others.
#[tokio::test]
async fn rows_of_a_users_event_trigger_beside_an_extension_are_replayed() {
    let schema = "CREATE TABLE audit (n serial, tag text, what text);
        CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO public.audit (tag, what) SELECT command_tag, object_identity FROM pg_event_trigger_ddl_commands(); END $$;
        CREATE EVENT TRIGGER note ON ddl_command_end EXECUTE FUNCTION note();
        CREATE TABLE line (n int, what text)";
    let mut world = World::set_up(ServerVersion::Debian15, schema).await;
    let kept = world
        .transactions(&[
            "CREATE EXTENSION citext; INSERT INTO line VALUES (1, 'beside')",
            "CREATE EXTENSION hstore VERSION '1.7'",
            "ALTER EXTENSION hstore UPDATE TO '1.8'",
        ])
        .await;
    assert!(
        world.server.psql("shop", "SELECT count(*) FROM audit").await.trim().parse::<i64>().unwrap() > 50
    );
    for place in kept.iter().chain(kept.iter().rev()).chain(kept.last()) {
        world.goes_to(place).await;
    }
}

/// What the script empties it reads first.
#[tokio::test]
async fn tables_that_a_script_empties_are_emptied_by_the_script() {
    // Before 18 the server looks for extensions in its own folder alone.
    let mut world = World::set_up(ServerVersion::Pypi18, SCHEMA).await;
    let folder = world.server.folder().join("share");
    let files = [
        ("conf.control", "default_version = '1.0'\nrelocatable = true\n"),
        ("conf--1.0.sql", "CREATE TABLE conf (a int, b text); INSERT INTO conf VALUES (1, 'one'), (2, 'two');"),
        (
            "conf--1.0--1.1.sql",
            "CREATE TABLE new_conf (a int PRIMARY KEY, b text); INSERT INTO new_conf SELECT * FROM conf; TRUNCATE conf;
             INSERT INTO conf VALUES (3, 'three');",
        ),
    ];
    std::fs::create_dir_all(folder.join("extension")).unwrap();
    for (name, content) in files {
        std::fs::write(folder.join("extension").join(name), content).unwrap();
    }
    let path = format!("ALTER SYSTEM SET extension_control_path = '$system:{}'", folder.display());
    world.server.psql("postgres", &format!("{path}; SELECT pg_reload_conf()")).await;
    world.sql("INSERT INTO line VALUES (1, 'before')").await;
    let kept = world
        .transactions(&[
            "CREATE EXTENSION conf",
            "UPDATE conf SET b = 'zwei' WHERE a = 2; INSERT INTO line VALUES (2, 'of it')",
            "ALTER EXTENSION conf UPDATE TO '1.1'; INSERT INTO line VALUES (3, 'beside')",
            "TRUNCATE conf, line; INSERT INTO conf VALUES (4, 'four')",
        ])
        .await;
    let found = async |database: &str| {
        world.server.psql(database, "SELECT * FROM conf UNION ALL SELECT * FROM new_conf ORDER BY 1").await
    };
    let now = found(PRIMARY).await;
    for place in kept.iter().chain(kept.iter().rev()).chain(kept.last()) {
        world.goes_to(place).await;
    }
    assert_eq!(now.lines().count(), 3, "{now}");
    assert_eq!(found(&world.session.name).await, now);
}
