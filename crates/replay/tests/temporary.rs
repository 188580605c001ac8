//! Temporary objects of the primary's sessions: what is about them stops nobody, and harms nothing of the same name.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use ptr_replay::{Choice, Notice};
use ptr_testkit::{ServerVersion, assert_equal_states};
use support::{PRIMARY, World};

const SCHEMA: &str = "CREATE TABLE item (id int PRIMARY KEY, a int); INSERT INTO item SELECT i, i FROM
                      generate_series(1, 9) i; CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'";

fn is_passed_over(notice: &Notice) -> bool {
    matches!(notice, Notice::Skipped { reason, .. } if reason.contains("temporary objects of a session"))
}

async fn versions(test: impl AsyncFn(ServerVersion)) {
    for version in [ServerVersion::Debian15, ServerVersion::Pypi18] {
        test(version).await;
    }
}

/// A follower takes each step over another connection, so what was temporary in the step before is not there.
#[tokio::test]
async fn a_session_that_follows_passes_what_is_about_temporary_objects_from_before() {
    versions(async |version| {
        let mut world = World::set_up(version, SCHEMA).await;
        world.go(world.log.creation()).await;
        // Of the name of a permanent table, which is never taken for it.
        for sql in [
            "CREATE TEMP TABLE item (a int, b text)",
            "CREATE INDEX ON item (a)",
            "CREATE TRIGGER t BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION f()",
            "ALTER TABLE item ADD c int DEFAULT 7",
            "ALTER TABLE item RENAME COLUMN a TO z",
            "ALTER TABLE item ALTER b TYPE int USING 1",
            "CREATE TEMP VIEW shown AS SELECT z FROM item",
            "COMMENT ON TABLE item IS 'temporary'",
            "DROP TRIGGER t ON item",
            "DROP VIEW shown",
            "CREATE TEMP TABLE other (a int); CREATE FUNCTION pg_temp.g() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE INDEX named ON other (a); CREATE TEMP SEQUENCE s",
            "ALTER INDEX named RENAME TO otherwise; ALTER SEQUENCE s INCREMENT 2; DROP FUNCTION pg_temp.g()",
            "DROP INDEX otherwise; DROP SEQUENCE s",
            "DROP TABLE other",
            "DROP TABLE item",
            "ALTER TABLE item ADD d int DEFAULT 5; DROP TRIGGER IF EXISTS none ON item",
            "UPDATE item SET a = a + 1 WHERE id < 4",
        ] {
            world.sql(sql).await;
            let at = world.capture().await;
            let expected = world.primary_state().await;
            world.go(at).await;
            assert_equal_states(&expected, &world.session_state().await);
        }
        let head = world.capture().await;
        let expected = world.primary_state().await;
        world.go(world.log.creation()).await;
        world.go(head).await;
        assert_equal_states(&expected, &world.session_state().await);
    })
    .await;
}

/// Replay has the temporary objects of one session of the primary at a time.
#[tokio::test]
async fn sessions_that_take_turns_with_temporary_tables_stop_no_replay() {
    versions(async |version| {
        let mut world = World::set_up(version, SCHEMA).await;
        let other = world.server.client(PRIMARY).await;
        world.sql("CREATE TEMP TABLE item (a int)").await;
        other.batch_execute("CREATE TABLE made (x int)").await.unwrap();
        world.sql("CREATE INDEX ON item (a)").await;
        other.batch_execute("CREATE TEMP TABLE item (b int); CREATE INDEX ON item (b)").await.unwrap();
        world.sql("ALTER TABLE item ADD z int").await;
        world.sql("DROP TABLE item").await;
        other.batch_execute("DROP TABLE item; ALTER TABLE item ADD e int DEFAULT 2").await.unwrap();
        // What a pooler does between clients fires no event.
        world.sql("CREATE TEMP TABLE draft (a int); CREATE INDEX ON draft (a)").await;
        world.sql("DISCARD ALL").await;
        world.sql("CREATE TEMP TABLE draft (b text NOT NULL)").await;
        world.sql("CREATE TABLE kept (LIKE draft)").await;
        let head = world.capture().await;
        let expected = world.primary_state().await;
        let outcome = world.go(head).await;
        assert_equal_states(&expected, &world.session_state().await);
        let said = outcome.notices.iter().filter(|notice| is_passed_over(notice)).count();
        assert_eq!(said, 1, "{:?}", outcome.notices);
    })
    .await;
}

/// A permanent object that comes from a temporary one needs it: from CREATION it is there.
#[tokio::test]
async fn what_comes_from_a_temporary_table_from_before_is_offered_to_be_built_anew() {
    versions(async |version| {
        let mut world = World::set_up(version, SCHEMA).await;
        world.go(world.log.creation()).await;
        world.sql("CREATE TEMP TABLE draft (id int, note text)").await;
        let at = world.capture().await;
        world.go(at).await;
        world.sql("CREATE TABLE made (LIKE draft); INSERT INTO made VALUES (1, 'x')").await;
        let head = world.capture().await;
        let expected = world.primary_state().await;
        let stop = world.stops(head).await;
        assert_eq!(stop.choices(), [Choice::Rebuild, Choice::Skip, Choice::Stay], "{stop}");
        world.rebuild(head).await.unwrap();
        assert_equal_states(&expected, &world.session_state().await);
    })
    .await;
}
