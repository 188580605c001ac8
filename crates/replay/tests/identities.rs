//! Which rows a statement means, and what PostgreSQL asks of a table before it changes them: generated columns in
//! keys, replica identities beside a user's publication, rows that changed in nothing that is known.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use ptr_model::Position;
use ptr_testkit::{DatabaseState, ServerVersion, assert_equal_states};
use support::World;

/// Each step is a transaction on a primary set up as users do it; then everything is gone over forwards in one go,
/// step by step, and backwards.
async fn is_replayed(version: ServerVersion, schema: &str, steps: &[&str]) {
    let mut world = World::set_up(version, schema).await;
    let mut kept = vec![(world.capture().await, world.primary_state().await)];
    for step in steps {
        world.sql(&format!("BEGIN; {step}; COMMIT")).await;
        kept.push((world.capture().await, world.primary_state().await));
    }
    let last = kept.last().unwrap();
    let way = kept.iter().chain(kept.iter().rev().step_by(3)).chain([last]).chain([&kept[0]]);
    for (position, expected) in way {
        goes_to(&world, *position, expected).await;
    }
}

async fn goes_to(world: &World, position: Position, expected: &DatabaseState) {
    world.go(position).await;
    assert_equal_states(expected, &world.session_state().await);
}

const GENERATED_KEYS: &str = "
    CREATE TABLE pages (tenant int, title text, slug text GENERATED ALWAYS AS (lower(title)) STORED, body text,
                        PRIMARY KEY (tenant, slug));
    INSERT INTO pages (tenant, title, body) SELECT i % 2, 'Title ' || i, 'body ' || i FROM generate_series(1, 40) i;
    CREATE TABLE codes (code text, short text GENERATED ALWAYS AS (left(code, 3)) STORED PRIMARY KEY, n int);
    INSERT INTO codes (code, n) SELECT 'c' || i || 'ode', i FROM generate_series(10, 50) i;
    CREATE TABLE places (id int PRIMARY KEY, at int, slot int GENERATED ALWAYS AS (at * 10) STORED UNIQUE, note text);
    INSERT INTO places (id, at) SELECT i, i FROM generate_series(1, 40) i;";

const GENERATED_STEPS: &[&str] = &[
    "UPDATE pages SET body = body || '!' WHERE tenant = 1 AND slug IN ('title 1', 'title 3')",
    "UPDATE pages SET body = 'only one' WHERE slug = 'title 4'",
    "UPDATE pages SET title = upper(title), body = body || '?' WHERE slug = 'title 6'",
    "UPDATE codes SET n = n + 1 WHERE short = 'c11'; DELETE FROM codes WHERE short = 'c12'",
    "UPDATE codes SET n = -n WHERE short IN ('c13', 'c14'); UPDATE codes SET code = 'c15 anew' WHERE short = 'c15'",
    "DELETE FROM pages WHERE slug = 'title 8'; UPDATE pages SET title = 'Other' WHERE slug = 'title 10'",
    "UPDATE places SET at = 100 WHERE id = 1; UPDATE places SET at = 1 WHERE id = 2; UPDATE places SET at = 2 WHERE id = 1",
    "UPDATE places SET note = 'n' WHERE id IN (3, 4)",
    "UPDATE pages SET body = body || '.'; UPDATE codes SET n = n + 1; UPDATE places SET at = at + 1000",
];

#[tokio::test]
async fn rows_are_told_apart_by_generated_columns_of_their_key_on_15() {
    is_replayed(ServerVersion::Debian15, GENERATED_KEYS, GENERATED_STEPS).await;
}

#[tokio::test]
async fn rows_are_told_apart_by_generated_columns_of_their_key_on_18() {
    is_replayed(ServerVersion::Pypi18, GENERATED_KEYS, GENERATED_STEPS).await;
}

/// The replica has the user's publication too, and there tables whose rows came before it have the identity that new
/// tables have.
const PUBLISHED_STEPS: &[&str] = &[
    "CREATE TABLE bare (id int, c int, k text); INSERT INTO bare SELECT i, i, 'k' || i FROM generate_series(1, 20) i",
    "CREATE TABLE keyed (id int PRIMARY KEY, c int); INSERT INTO keyed SELECT i, i FROM generate_series(1, 20) i",
    "CREATE TABLE later (id int); INSERT INTO later SELECT generate_series(1, 9); CREATE TABLE void (a int)",
    "CREATE PUBLICATION everything FOR ALL TABLES",
    "ALTER TABLE void ALTER a TYPE bigint",
    "ALTER TABLE later ADD made timestamptz NOT NULL DEFAULT now()",
    "ALTER TABLE bare ALTER c TYPE bigint",
    "ALTER TABLE bare ADD made timestamptz NOT NULL DEFAULT clock_timestamp()",
    "ALTER TABLE keyed ALTER c TYPE numeric; ALTER TABLE keyed ADD made timestamptz DEFAULT now()",
    "UPDATE bare SET k = upper(k) WHERE id < 5; UPDATE keyed SET c = c + 1; DELETE FROM bare WHERE id = 20",
];

#[tokio::test]
async fn whole_tables_are_rewritten_and_emptied_beside_a_users_publication_on_15() {
    is_replayed(ServerVersion::Debian15, "", PUBLISHED_STEPS).await;
}

#[tokio::test]
async fn whole_tables_are_rewritten_and_emptied_beside_a_users_publication_on_18() {
    is_replayed(ServerVersion::Pypi18, "", PUBLISHED_STEPS).await;
}

/// The table gets its replica identity while its triggers are held off for the rows of the rewrite, of which more come.
#[tokio::test]
async fn triggers_that_always_fire_are_held_off_behind_a_replica_identity_that_was_given_meanwhile() {
    let mut world = World::set_up(ServerVersion::Debian15, "").await;
    world.go(world.log.creation()).await;
    for step in [
        "CREATE TABLE audit (of int); CREATE TABLE t (id int, filling text)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
         'BEGIN INSERT INTO public.audit VALUES (new.id); RETURN new; END'",
        "INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 20000) i",
        "CREATE TRIGGER noting AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION note()",
        "ALTER TABLE t ENABLE ALWAYS TRIGGER noting",
        "CREATE PUBLICATION everything FOR ALL TABLES",
    ] {
        world.sql(step).await;
    }
    world.arrives().await;
    world.sql("ALTER TABLE t ALTER id TYPE bigint").await;
    world.sql("INSERT INTO t VALUES (0, 'noted once')").await;
    world.arrives().await;
}

/// TRUNCATE of partitions that a partitioned table refers to is a DELETE on the replica.
#[tokio::test]
async fn partitions_without_identity_are_emptied_beside_a_users_publication() {
    let mut world = World::set_up(ServerVersion::Debian15, "").await;
    world.go(world.log.creation()).await;
    for step in [
        "CREATE TABLE whole (id int PRIMARY KEY, v int) PARTITION BY RANGE (id)",
        "CREATE TABLE low PARTITION OF whole FOR VALUES FROM (0) TO (100)",
        "CREATE TABLE refers (id int, of int REFERENCES whole) PARTITION BY RANGE (id)",
        "CREATE TABLE refers_low PARTITION OF refers FOR VALUES FROM (0) TO (100)",
        "INSERT INTO whole SELECT i, i FROM generate_series(0, 99) i; INSERT INTO refers SELECT 1, 1",
        "ALTER TABLE low REPLICA IDENTITY NOTHING",
        "CREATE PUBLICATION everything FOR ALL TABLES",
    ] {
        world.sql(step).await;
    }
    let before = world.capture().await;
    world.go(before).await;
    world.sql("TRUNCATE whole, refers").await;
    world.arrives().await;
    world.sql("INSERT INTO whole VALUES (7, 1)").await;
    world.sql("UPDATE whole SET v = 2").await;
    world.arrives().await;
}

#[tokio::test]
async fn an_update_that_changes_nothing_known_is_taken_and_finds_its_row() {
    let schema =
        "CREATE TABLE doc (id int PRIMARY KEY, body text); ALTER TABLE doc ALTER body SET STORAGE EXTERNAL;
        CREATE UNIQUE INDEX ON doc (md5(body)); ALTER TABLE doc REPLICA IDENTITY USING INDEX doc_pkey;
        INSERT INTO doc SELECT i, repeat(i::text, 10000) FROM generate_series(1, 3) i;";
    let mut world = World::new(ServerVersion::Debian15, schema).await;
    world.go(world.log.creation()).await;
    world.sql("UPDATE doc SET id = id WHERE id = 1").await;
    world.sql("UPDATE doc SET id = 7 WHERE id = 2; UPDATE doc SET id = id WHERE id = 7").await;
    world.arrives().await;
    world.sql("UPDATE doc SET id = id WHERE id = 3").await;
    let head = world.capture().await;
    world.tamper("DELETE FROM doc WHERE id = 3").await;
    let stop = world.stops(head).await;
    assert_eq!(stop.table.map(|table| table.to_string()), Some("public.doc".to_owned()), "{}", stop.reason);
}

/// Identities that are left alone (`REPLICA_IDENTITY=leave`): before 18 no generated column is sent, and what is left of the
/// key tells no rows apart. Never is another row reached.
#[tokio::test]
async fn a_change_whose_key_was_not_sent_whole_stops_and_reaches_no_row() {
    for (table, step) in [
        ("pages", "UPDATE pages SET body = body || '!' WHERE tenant = 1 AND slug = 'title 1'"),
        ("pages", "DELETE FROM pages WHERE slug = 'title 1'"),
        ("codes", "UPDATE codes SET n = n + 1 WHERE short = 'c11'"),
        ("codes", "DELETE FROM codes WHERE short = 'c12'"),
        ("lone", "INSERT INTO lone (tenant, title) VALUES (1, 'B'); DELETE FROM lone WHERE slug = 'a'"),
    ] {
        let lone =
            "CREATE TABLE lone (LIKE pages INCLUDING ALL); INSERT INTO lone (tenant, title) VALUES (1, 'A');";
        let left =
            format!("{GENERATED_KEYS} {lone} ALTER TABLE {table} REPLICA IDENTITY USING INDEX {table}_pkey");
        let mut world = World::new(ServerVersion::Debian15, &left).await;
        let before = world.primary_state().await;
        goes_to(&world, world.log.creation(), &before).await;
        world.sql(step).await;
        let head = world.capture().await;
        let stop = world.stops(head).await;
        eprintln!("{step}: {}", stop.reason);
        assert_eq!(
            stop.table.map(|name| name.to_string()),
            Some(format!("public.{table}")),
            "{}",
            stop.reason
        );
        assert_equal_states(&before, &world.session_state().await);
    }
}

/// A cast of the user's from text is not the type's input function.
#[tokio::test]
async fn values_are_read_as_the_primary_wrote_them_though_a_cast_takes_text_as_it_stands() {
    let schema = "CREATE CAST (text AS bytea) WITHOUT FUNCTION; CREATE TABLE b (id int PRIMARY KEY, v bytea);
        INSERT INTO b SELECT i, '\\x01' FROM generate_series(1, 20) i;";
    is_replayed(
        ServerVersion::Debian15,
        schema,
        &["UPDATE b SET v = '\\xdead' WHERE id < 3", "UPDATE b SET v = '\\xbeef'"],
    )
    .await;
}

/// An index of another collation than its column's tells apart what the column's operators call equal.
#[tokio::test]
async fn rows_are_not_told_apart_by_an_index_of_another_collation() {
    let schema = "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        CREATE TABLE t (name text COLLATE ci NOT NULL, v int); CREATE UNIQUE INDEX ON t (name COLLATE \"C\");
        INSERT INTO t VALUES ('a', 1), ('A', 2), ('b', 3);";
    let steps = &[
        "UPDATE t SET v = v + 10",
        "UPDATE t SET v = 0 WHERE name COLLATE \"C\" = 'A'",
        "DELETE FROM t WHERE name COLLATE \"C\" = 'a'",
    ];
    is_replayed(ServerVersion::Debian15, schema, steps).await;
}

#[tokio::test]
async fn rows_with_null_are_told_apart_though_their_column_is_not_null_from_now_on() {
    let schema = "CREATE TABLE t (c int, v int); CREATE UNIQUE INDEX ON t (c); INSERT INTO t VALUES (NULL, 1), (NULL, 2), (1, 3);";
    let steps = &[
        "ALTER TABLE t ADD CONSTRAINT c_there NOT NULL c NOT VALID",
        "UPDATE t SET v = v + 1, c = 7 WHERE v = 1",
        "DELETE FROM t WHERE v = 2",
        "UPDATE t SET v = 9 WHERE c = 1",
    ];
    is_replayed(ServerVersion::Pypi18, schema, steps).await;
}
