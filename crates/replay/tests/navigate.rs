//! A session goes to positions of a real server's history, and equals what the server held there.

mod support;

use ptr_model::Position;
use ptr_replay::{NavigateError, ReplayError, SessionDatabase, Strategy, TargetState};
use ptr_testkit::{DatabaseState, ServerVersion, assert_equal_states};
use support::{World, ddl_in};
use uuid::Uuid;

const ZOO: &str = r#"
CREATE TYPE mood AS ENUM ('sad', 'so so', 'happy');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TYPE pair AS (a int, b text);
CREATE TABLE zoo (
    id bigint PRIMARY KEY, i2 smallint, f4 real, f8 double precision, n numeric(20, 5), m money, b boolean,
    t text, vc varchar(10), c char(5), nm name, ch "char", by bytea, d date, ts timestamp, tz timestamptz,
    iv interval, u uuid, ip inet, cd cidr, mac macaddr, js json, jb jsonb, pt point, bx box, bits bit(5),
    vb bit varying, tsv tsvector, rng int4range, arr int[], tarr text[], md mood, dm positive, pr pair,
    rc regclass, bxs box[], doubled int GENERATED ALWAYS AS (i2 * 2) STORED);
CREATE TABLE keyless (a int, j json, p point, t text);
CREATE TABLE "Qu""oted ü" ("Sp ace" int PRIMARY KEY, "sel""ect" text, UNIQUE ("sel""ect"));
CREATE TABLE ident (id int GENERATED ALWAYS AS IDENTITY, k int PRIMARY KEY, v text);
CREATE TABLE nothing ();
CREATE TABLE perm (id int PRIMARY KEY, u int UNIQUE, r int4range, EXCLUDE USING gist (r WITH &&));
CREATE TABLE delayed (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v text);
CREATE TABLE tree (id int PRIMARY KEY, up int REFERENCES tree DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE parent (id int PRIMARY KEY, v text);
CREATE TABLE child (extra text, PRIMARY KEY (id)) INHERITS (parent);
CREATE TABLE part (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE part_old PARTITION OF part FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
CREATE TABLE part_new PARTITION OF part FOR VALUES FROM ('2026-01-01') TO (MAXVALUE);
CREATE TABLE toasted (id int PRIMARY KEY, n int, big text);
CREATE TABLE toasted_by_key (id int PRIMARY KEY, n int, big text);
ALTER TABLE toasted_by_key REPLICA IDENTITY USING INDEX toasted_by_key_pkey;
CREATE TABLE audited (id int PRIMARY KEY, v text);
CREATE TABLE audit (what text);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO public.audit VALUES (TG_OP); RETURN NULL; END $$;
CREATE TRIGGER always AFTER INSERT OR UPDATE OR DELETE ON audited FOR EACH ROW EXECUTE FUNCTION audit();
ALTER TABLE audited ENABLE ALWAYS TRIGGER always;
INSERT INTO keyless SELECT i % 3, '{"a": 1}', '(1,2)', 'x' FROM generate_series(1, 30) i;
INSERT INTO toasted SELECT i, 0, repeat(md5(i::text), 4000) FROM generate_series(1, 3) i;
ALTER TABLE toasted ALTER big SET STORAGE EXTERNAL;
ALTER TABLE toasted_by_key ALTER big SET STORAGE EXTERNAL;
INSERT INTO perm SELECT i, i, int4range(i * 10, i * 10 + 10) FROM generate_series(1, 5) i;
INSERT INTO delayed SELECT i, 'v' || i FROM generate_series(1, 5) i;
"#;

/// Each line is one transaction.
const STEPS: &[&str] = &[
    r#"INSERT INTO zoo VALUES (1, 2, 1.1, 0.1::float8 + 0.2, 12.30000, 12.5, true, E'tab\t nl\n back\\slash ''q', 'vc',
       'c', 'name', 'x', '\x00ff', '2026-02-28', '2026-01-01 12:00', '2026-01-01 12:00+02', '1 mon -3 days', 
       gen_random_uuid(), '10.0.0.1', '10.0.0.0/8', '08:00:2b:01:02:03', '{"a" :  1}', '{"b": [1, null]}', '(1,2)',
       '((1,1),(0,0))', '10101', '1', 'a fat cat', '[1,5)', '{{1,2},{3,NULL}}', '{"a,b","NULL",NULL,""}', 'so so', 3,
       '(1,"x,y")', 'zoo', '{(1,1),(0,0);(2,2),(1,1)}')"#,
    "INSERT INTO zoo (id, t) SELECT i, 'row ' || i FROM generate_series(2, 50) i",
    "UPDATE zoo SET ch = 'y', rc = 'pg_class', arr = '{}', md = 'happy', dm = 7, bxs = NULL WHERE id = 1",
    "UPDATE zoo SET t = t || '!', i2 = id WHERE id % 2 = 0",
    "DELETE FROM zoo WHERE id > 40",
    "DELETE FROM keyless WHERE ctid IN (SELECT ctid FROM keyless WHERE a = 1 LIMIT 4)",
    "UPDATE keyless SET t = 'y' WHERE a = 2; INSERT INTO keyless VALUES (NULL, NULL, NULL, NULL), (NULL, NULL, NULL, '')",
    r#"INSERT INTO "Qu""oted ü" VALUES (1, 'a'), (2, 'b'), (3, 'ü"')"#,
    r#"UPDATE "Qu""oted ü" SET "Sp ace" = -"Sp ace"; UPDATE "Qu""oted ü" SET "sel""ect" = 'c' WHERE "Sp ace" = -1"#,
    "INSERT INTO ident (k, v) VALUES (1, 'a'), (2, 'b'); UPDATE ident SET id = DEFAULT, v = 'c' WHERE k = 1",
    "INSERT INTO nothing DEFAULT VALUES; INSERT INTO nothing DEFAULT VALUES; DELETE FROM nothing WHERE ctid = '(0,1)'",
    "UPDATE perm SET u = NULL WHERE id = 1; UPDATE perm SET u = 1 WHERE id = 2; UPDATE perm SET u = 2 WHERE id = 1",
    "UPDATE perm SET r = NULL WHERE id = 1; UPDATE perm SET r = '[10,20)' WHERE id = 2; UPDATE perm SET id = id + 100, r = '[20,30)' WHERE id = 1",
    "UPDATE delayed SET id = 6 - id",
    "INSERT INTO tree VALUES (1, 2), (2, 1), (3, 3); DELETE FROM tree WHERE id = 3",
    "INSERT INTO parent VALUES (1, 'p'), (2, 'q'); INSERT INTO child VALUES (1, 'c', 'e')",
    "DELETE FROM ONLY parent WHERE id = 1; UPDATE child SET v = 'd'",
    "INSERT INTO part VALUES (1, '2025-05-05'), (2, '2026-05-05'); UPDATE part SET at = '2026-06-06' WHERE id = 1",
    "UPDATE toasted SET n = n + 1; UPDATE toasted SET id = id + 10 WHERE id = 2",
    "INSERT INTO toasted_by_key SELECT i, 0, repeat(md5(i::text), 4000) FROM generate_series(1, 3) i",
    "UPDATE toasted_by_key SET n = 5",
    "UPDATE toasted_by_key SET id = id + 10 WHERE id = 2",
    "UPDATE toasted_by_key SET n = 6; DELETE FROM toasted_by_key WHERE id = 3",
    "INSERT INTO audited VALUES (1, 'a'), (2, 'b'); UPDATE audited SET v = 'z' WHERE id = 1",
    "TRUNCATE keyless, part RESTART IDENTITY; INSERT INTO keyless VALUES (7, NULL, NULL, 'after')",
];

async fn positions(world: &mut World) -> Vec<(Position, DatabaseState)> {
    let mut kept = vec![(world.log.creation(), world.primary_state().await)];
    for step in STEPS {
        world.sql(&format!("BEGIN; {step}; COMMIT")).await;
        let position = world.capture().await;
        kept.push((position, world.primary_state().await));
    }
    kept
}

async fn every_position_is_exact(version: ServerVersion) {
    // From 18 on UPDATE fails on a table with a generated column under REPLICA IDENTITY FULL.
    let zoo = match version {
        ServerVersion::Debian15 => ZOO.to_owned(),
        ServerVersion::Pypi18 => ZOO.replace("int GENERATED ALWAYS AS (i2 * 2) STORED", "int"),
    };
    let mut world = World::new(version, &zoo).await;
    let kept = positions(&mut world).await;
    let order: Vec<usize> =
        (0..kept.len()).chain((0..kept.len()).rev()).chain([5, 20, 3, 25, 24, 1]).collect();
    let mut strategies = Vec::new();
    for index in order {
        let (position, expected) = &kept[index.min(kept.len() - 1)];
        strategies.push(world.go(*position).await.strategy);
        assert_equal_states(expected, &world.session_state().await);
    }
    for strategy in [Strategy::Redo, Strategy::Undo, Strategy::Keyframe] {
        assert!(strategies.contains(&strategy), "{strategy:?} was never used");
    }
}

#[tokio::test]
async fn every_position_is_exact_forwards_and_backwards_on_15() {
    every_position_is_exact(ServerVersion::Debian15).await;
}

#[tokio::test]
async fn a_range_is_folded_and_in_windows_of_any_size_gives_the_same() {
    let mut world = World::new(ServerVersion::Debian15, ZOO).await;
    let kept = positions(&mut world).await;
    let (end, expected) = kept.last().unwrap();
    for window_rows in [1, 3, 1000] {
        world.limits.window_rows = window_rows;
        world.session.delete().await.unwrap();
        world.go(*end).await;
        assert_equal_states(expected, &world.session_state().await);
    }
}

/// How many connections the server let into a database, from its log.
fn connections(world: &World, database: &str) -> usize {
    let log = std::fs::read_to_string(world.server.cluster().log_file()).expect("the server's log");
    let authorized = |line: &&str| {
        line.contains("connection authorized") && line.contains(&format!("database={database} "))
    };
    log.lines().filter(authorized).count()
}

async fn a_new_database_gets_its_rows_over_several_connections(version: ServerVersion) {
    let schema = "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (v int); CREATE TABLE c (id int PRIMARY KEY);
                  CREATE TABLE audited (id int PRIMARY KEY); CREATE TABLE audit (id int);
                  CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
                  BEGIN INSERT INTO public.audit VALUES (NEW.id); RETURN NULL; END $$;
                  CREATE TRIGGER always AFTER INSERT ON audited FOR EACH ROW EXECUTE FUNCTION audit();
                  ALTER TABLE audited ENABLE ALWAYS TRIGGER always;";
    let mut world = World::new(version, schema).await;
    world.sql("ALTER SYSTEM SET log_connections = on").await;
    world.sql("SELECT pg_reload_conf()").await;
    let rows = |from: i32| {
        format!(
            "INSERT INTO a SELECT i, 'v' FROM generate_series({from}, {from} + 40) i;
             INSERT INTO b SELECT i % 7 FROM generate_series({from}, {from} + 40) i;
             INSERT INTO audited SELECT generate_series({from}, {from} + 40);
             INSERT INTO c SELECT generate_series({from}, {from} + 40)"
        )
    };
    // What is not rows, between rows, in and out of their transactions.
    for step in [
        rows(0),
        "UPDATE a SET v = 'w' WHERE id < 20; DELETE FROM b WHERE v = 3".to_owned(),
        format!("{}; TRUNCATE a, c; {}", rows(100), rows(200)),
        format!("{}; {}; {}", rows(300), ddl_in("ALTER TABLE a ADD n int DEFAULT 5"), "UPDATE a SET n = id"),
        rows(400).replace("INSERT INTO a SELECT i, 'v'", "INSERT INTO a SELECT i, 'v', 1"),
        ddl_in("ALTER TABLE c RENAME TO d"),
        "DELETE FROM d WHERE id % 2 = 0; UPDATE a SET id = id + 10000".to_owned(),
        ddl_in("CREATE UNIQUE INDEX a_u ON a ((id + 1))"),
        "UPDATE a SET v = 'x' WHERE id % 3 = 0; INSERT INTO b SELECT generate_series(1, 40)".to_owned(),
    ] {
        world.sql(&format!("BEGIN; {step}; COMMIT")).await;
        world.capture().await;
    }
    let end = world.capture().await;
    let expected = world.primary_state().await;
    for window_rows in [2, 50] {
        world.limits.window_rows = window_rows;
        world.session.delete().await.expect("the session goes");
        let next = format!("{}__next", world.session.name);
        let before = connections(&world, &next);
        world.go(end).await;
        assert_equal_states(&expected, &world.session_state().await);
        let used = connections(&world, &next) - before;
        assert!(used > 2, "{used} connections");
    }
    // Where somebody may be connected, one transaction has all of it, and its position.
    world.go(world.log.creation()).await;
    world.limits.window_rows = 50;
    let before = connections(&world, &world.session.name);
    assert_eq!(world.try_go(end).await.expect("a move").strategy, Strategy::Redo);
    assert_eq!(connections(&world, &world.session.name) - before, 1);
    assert_equal_states(&expected, &world.session_state().await);
}

#[tokio::test]
async fn a_new_database_gets_its_rows_over_several_connections_on_15() {
    a_new_database_gets_its_rows_over_several_connections(ServerVersion::Debian15).await;
}

#[tokio::test]
async fn a_new_database_gets_its_rows_over_several_connections_on_18() {
    a_new_database_gets_its_rows_over_several_connections(ServerVersion::Pypi18).await;
}

#[tokio::test]
async fn what_fails_over_several_connections_stops_where_it_does_over_one() {
    let schema = "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY)";
    let mut world = World::new(ServerVersion::Debian15, schema).await;
    for from in [0, 100, 200] {
        let rows = format!(
            "BEGIN; INSERT INTO a SELECT i, 'v' FROM generate_series({from}, {from} + 60) i;
             INSERT INTO b SELECT generate_series({from}, {from} + 60); COMMIT"
        );
        world.sql(&rows).await;
    }
    let before = (world.capture().await, world.primary_state().await);
    world.sql("BEGIN; INSERT INTO a VALUES (900, 'v'); UPDATE b SET id = 901 WHERE id = 5; COMMIT").await;
    world.sql("INSERT INTO a SELECT i, 'v' FROM generate_series(1000, 1100) i").await;
    let end = world.capture().await;
    // A row that only the image lacks: replay cannot change it.
    let template = world.template.clone();
    let door = |open: bool| format!("ALTER DATABASE \"{template}\" WITH ALLOW_CONNECTIONS {open}");
    world.server.psql("postgres", &door(true)).await;
    let late = "SET default_transaction_read_only = off; INSERT INTO b VALUES (901)";
    world.server.psql(&template, late).await;
    world.server.psql("postgres", &door(false)).await;
    world.limits.window_rows = 10;
    let stop = world.stops(end).await;
    assert_eq!((stop.position, stop.change), (before.0, Some(1)), "{stop}");
    world.tamper("DELETE FROM b WHERE id = 901").await;
    assert_equal_states(&before.1, &world.session_state().await);
}

#[tokio::test]
async fn a_transaction_that_is_larger_than_a_window_is_taken_back_in_parts() {
    let mut world = World::new(ServerVersion::Debian15, ZOO).await;
    let before = (world.log.creation(), world.primary_state().await);
    // Where old rows are known by their key only, and over a TRUNCATE, there is no way back but a keyframe.
    let is_reversible = |step: &&&str| !step.starts_with("TRUNCATE") && !step.contains("toasted_by_key");
    let steps: Vec<&str> = STEPS.iter().filter(is_reversible).copied().collect();
    world.sql(&format!("BEGIN; {}; COMMIT", steps.join("; "))).await;
    let after = (world.capture().await, world.primary_state().await);
    for window_bytes in [1, 700, 20_000] {
        world.limits.window_bytes = window_bytes;
        world.go(after.0).await;
        assert_equal_states(&after.1, &world.session_state().await);
        assert_eq!(world.go(before.0).await.strategy, Strategy::Undo, "{window_bytes} bytes");
        assert_equal_states(&before.1, &world.session_state().await);
    }
}

#[tokio::test]
async fn schema_changes_happen_at_their_place_in_their_transaction() {
    let mut world = World::new(ServerVersion::Debian15, "CREATE TABLE a (id int PRIMARY KEY, v text)").await;
    let mut kept = Vec::new();
    let steps = [
        format!(
            "INSERT INTO a VALUES (1, 'x'); {}; INSERT INTO a VALUES (2, 'y', 5)",
            ddl_in("ALTER TABLE a ADD w int DEFAULT 7")
        ),
        ddl_in("CREATE TABLE b (id serial PRIMARY KEY, at timestamptz NOT NULL)")
            + "; ALTER TABLE b REPLICA IDENTITY FULL; INSERT INTO b (at) VALUES (now())",
        ddl_in("CREATE INDEX a_v ON a (v)"),
        format!(
            "UPDATE a SET w = 1; {}; UPDATE a SET renamed = 'q' WHERE id = 2",
            ddl_in("ALTER TABLE a RENAME v TO renamed")
        ),
        ddl_in("CREATE VIEW v AS SELECT renamed FROM a"),
        ddl_in("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT count(*)::int FROM a'"),
        ddl_in("DROP TABLE b"),
    ];
    for step in steps {
        world.sql(&format!("BEGIN; {step}; COMMIT")).await;
        let position = world.capture().await;
        kept.push((position, world.primary_state().await));
    }
    for (position, expected) in kept.iter().chain(kept.iter().rev()) {
        world.go(*position).await;
        assert_equal_states(expected, &world.session_state().await);
    }
}

#[tokio::test]
async fn a_statement_that_fails_stops_replay_at_the_transaction_before_it() {
    let mut world = World::new(ServerVersion::Debian15, "CREATE TABLE a (id int PRIMARY KEY)").await;
    world.sql("INSERT INTO a VALUES (1)").await;
    let before = world.capture().await;
    world.sql("BEGIN; INSERT INTO a VALUES (2); SELECT pg_logical_emit_message(true, 'test-ddl', 'CREATE TABLE a ()'); COMMIT").await;
    world.sql("INSERT INTO a VALUES (3)").await;
    let end = world.capture().await;
    world.go(world.log.creation()).await;
    let error = world.try_go(end).await.expect_err("the statement cannot run");
    let NavigateError::Replay(ReplayError::Stopped(stop)) = error else { panic!("{error}") };
    assert_eq!((stop.position, stop.sqlstate.as_deref()), (before, Some("42P07")));
    assert_eq!(stop.statement.as_deref(), Some("CREATE TABLE a ()"));
    assert_eq!(world.cursor().await, before);
    assert_eq!(world.server.psql("session", "SELECT array_agg(id) FROM a").await.trim(), "{1}");
}

#[tokio::test]
async fn a_row_that_somebody_changed_in_the_session_is_noticed() {
    let mut world = World::new(ServerVersion::Debian15, "CREATE TABLE a (id int PRIMARY KEY, v text)").await;
    world.sql("INSERT INTO a VALUES (1, 'x')").await;
    let first = world.capture().await;
    world.sql("UPDATE a SET v = 'y'").await;
    let second = world.capture().await;
    world.go(first).await;
    world.server.psql("session", "SET default_transaction_read_only = off; DELETE FROM a").await;
    let error = world.try_go(second).await.expect_err("the row is gone");
    let NavigateError::Replay(ReplayError::Stopped(stop)) = error else { panic!("{error}") };
    assert!(stop.mismatch, "{stop}");
    assert_eq!(world.cursor().await, first);
}

#[tokio::test]
async fn a_connection_that_is_lost_in_the_middle_leaves_data_and_position_together() {
    let mut world = World::new(ServerVersion::Debian15, "CREATE TABLE a (id int PRIMARY KEY, v text)").await;
    world.limits.commit_changes = 100;
    world.limits.window_rows = 50;
    for batch in 0..40 {
        world
            .sql(&format!(
                "INSERT INTO a SELECT i, 'v' FROM generate_series({batch} * 100, {batch} * 100 + 99) i"
            ))
            .await;
    }
    let end = world.capture().await;
    world.go(world.log.creation()).await;
    let killer = world.server.client("postgres").await;
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'session'";
    loop {
        let moved = tokio::select! {
            moved = world.try_go(end) => Some(moved),
            _ = killer.query_one(kill, &[]) => None,
        };
        let at = world.cursor().await;
        let rows: String = world.server.psql("session", "SELECT count(*) FROM a").await;
        assert_eq!(rows.trim(), (at.ordinal * 100).to_string());
        if matches!(moved, Some(Ok(_))) {
            break;
        }
        if at.ordinal > 30 {
            world.go(end).await;
            break;
        }
        if moved.is_none() {
            // Without the killer the session gets on at least a little.
            let middle = world
                .log
                .transactions(&ptr_log::TransactionQuery {
                    since: Some(at.ordinal),
                    limit: 5,
                    ..Default::default()
                })
                .unwrap();
            world.go(middle.last().unwrap().after()).await;
        }
    }
    assert_eq!(world.cursor().await, end);
}

#[tokio::test]
async fn a_database_that_is_not_ours_is_not_touched() {
    let world = World::new(ServerVersion::Debian15, "").await;
    world.server.database("session").await;
    world.server.psql("session", "CREATE TABLE precious (a int)").await;
    let error = world.try_go(world.log.creation()).await.expect_err("it is not ours");
    assert!(matches!(error, NavigateError::Session(ptr_replay::SessionError::Foreign { .. })), "{error}");
    world.server.psql("session", "SELECT * FROM precious").await;
}

/// What a move by keyframe builds has a name of its own, and somebody else's database may have it already.
#[tokio::test]
async fn what_is_not_the_sessions_is_not_dropped_for_what_a_move_builds() {
    let mut world = World::new(ServerVersion::Debian15, "CREATE TABLE t (id int PRIMARY KEY)").await;
    let name = "session__next";
    world.server.database(name).await;
    world.server.psql(name, "CREATE TABLE precious (a int)").await;
    let in_the_way = |error: NavigateError| match error {
        NavigateError::Session(ptr_replay::SessionError::InTheWay { database, target, holds }) => {
            assert_eq!((&*database, &*target), (name, "session"));
            holds
        }
        other => panic!("{other}"),
    };
    let holds = in_the_way(world.try_go(world.log.creation()).await.expect_err("it is not ours"));
    assert!(holds.contains("precious"), "{holds}");
    world.session.remove_leftovers().await.unwrap();
    world.server.psql(name, "SELECT * FROM precious").await;

    // The way that the error names.
    world.server.psql("postgres", "ALTER DATABASE session__next RENAME TO of_mine").await;
    world.go(world.log.creation()).await;
    world.sql("INSERT INTO t VALUES (1)").await;
    let head = world.capture().await;

    // Another session has that target.
    let mut other = world.session.clone();
    other.name = name.into();
    other.session_id = ptr_model::SessionId(Uuid::new_v4());
    other.create(&world.template, ptr_replay::Consent::Missing).await.unwrap();
    let holds = in_the_way(world.rebuild(head).await.expect_err("it is another session's"));
    assert!(holds.contains(&other.session_id.to_string()), "{holds}");
    world.session.remove_leftovers().await.unwrap();
    world.session.delete().await.unwrap();
    assert!(matches!(other.inspect().await.unwrap(), TargetState::Ours(_)));
    // It goes itself, and then it is in nobody's way.
    other.delete().await.unwrap();
    world.rebuild(head).await.unwrap();

    // What a move of this session left is.
    let left = SessionDatabase { name: name.into(), ..world.session.clone() };
    left.create(&world.template, ptr_replay::Consent::Missing).await.unwrap();
    world.rebuild(head).await.unwrap();
    assert_eq!(left.inspect().await.unwrap(), TargetState::Absent);
}

#[tokio::test]
async fn a_database_that_is_captured_itself_is_not_replaced_even_with_consent() {
    let world = World::new(ServerVersion::Debian15, "").await;
    world.server.database("session").await;
    let source =
        "CREATE TABLE precious (a int); SELECT pg_create_logical_replication_slot('other', 'pgoutput')";
    world.server.psql("session", source).await;
    let created = world.session.create(&world.template, ptr_replay::Consent::Given).await;
    let error = created.expect_err("somebody streams from it");
    assert!(matches!(error, ptr_replay::SessionError::Source { .. }), "{error}");
    world.server.psql("session", "SELECT * FROM precious").await;
    // The way that the error names.
    world.server.psql("session", "SELECT pg_drop_replication_slot('other')").await;
    world.session.create(&world.template, ptr_replay::Consent::Given).await.unwrap();
    world.go(world.log.creation()).await;
}

#[tokio::test]
async fn a_session_is_read_only_until_it_is_opened_and_keeps_the_primarys_comment() {
    let world = World::new(ServerVersion::Debian15, "CREATE TABLE a (id int)").await;
    world.go(world.log.creation()).await;
    let client = world.server.client("session").await;
    let refused = client.batch_execute("INSERT INTO a VALUES (1)").await.expect_err("it is read-only");
    assert_eq!(refused.code().map(|code| code.code()), Some("25006"));
    world.session.set_access(ptr_replay::Access::Open).await.unwrap();
    let client = world.server.client("session").await;
    client.batch_execute("INSERT INTO a VALUES (1)").await.unwrap();
    let comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'session'";
    assert_eq!(world.server.psql("postgres", comment).await.trim(), "of the shop");
}

#[tokio::test]
async fn every_position_is_exact_forwards_and_backwards_on_18() {
    every_position_is_exact(ServerVersion::Pypi18).await;
}
