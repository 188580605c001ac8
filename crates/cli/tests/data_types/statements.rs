//! Ways in which rows come about and change, a step each.

use ptr_testkit::{ServerVersion, TestServerOptions};

use crate::support::{
    Chance,
    pair::{DATABASE, Pair},
};

const TABLES: &str = "
CREATE TABLE a (id int PRIMARY KEY, b int);
CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b ON DELETE CASCADE ON UPDATE CASCADE;
CREATE TABLE toasted (id int PRIMARY KEY, v text, n int);
CREATE TABLE loose (v text, n numeric);
CREATE TABLE pair (x int, y text, v int, PRIMARY KEY (x, y));
CREATE TABLE swapped (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v text);
CREATE TABLE audit (id bigserial, what text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO audit (what) VALUES (TG_OP); RETURN NULL; END $$;
CREATE TRIGGER always AFTER INSERT OR UPDATE OR DELETE ON pair FOR EACH ROW EXECUTE FUNCTION note();
ALTER TABLE pair ENABLE ALWAYS TRIGGER always;
CREATE TRIGGER ordinary AFTER INSERT ON loose FOR EACH STATEMENT EXECUTE FUNCTION note();
CREATE TABLE nothing ();
";

/// A name and what is done under it, by psql.
const STEPS: &[(&str, &str)] = &[
    ("cycle", "BEGIN; INSERT INTO b VALUES (1, 1), (2, 2); INSERT INTO a VALUES (1, 2), (2, 1); COMMIT"),
    ("toast", "INSERT INTO toasted SELECT i, (SELECT string_agg(md5((i * j)::text), '') FROM generate_series(1, 900) j), 0
       FROM generate_series(1, 5) i"),
    ("unchanged toast", "UPDATE toasted SET n = n + 1; UPDATE toasted SET id = id + 10 WHERE id < 3"),
    ("copy", "COPY loose FROM STDIN;\n\\\\N\t1\n\t\\N\n\\\\\\\\N\t1.50\n\\\\t\t1e3\ndouble\t1\ndouble\t1\n\\.\n"),
    ("duplicates", "DELETE FROM loose WHERE ctid = (SELECT max(ctid) FROM loose); UPDATE loose SET n = n * 2 WHERE v = 'double'"),
    ("upsert", "INSERT INTO pair VALUES (1, 'a', 1), (1, 'b', 2), (2, '', 3);
       INSERT INTO pair VALUES (1, 'a', 9), (3, 'c', 9) ON CONFLICT (x, y) DO UPDATE SET v = excluded.v + pair.v;
       INSERT INTO pair VALUES (1, 'a', 0) ON CONFLICT DO NOTHING"),
    ("merge", "MERGE INTO pair p USING (VALUES (1, 'a', 5), (7, 'n', 7)) s (x, y, v) ON p.x = s.x AND p.y = s.y
       WHEN MATCHED AND s.v > 4 THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (s.x, s.y, s.v)"),
    ("keys", "UPDATE pair SET x = x + 1; UPDATE pair SET y = y || 'ä', x = -x WHERE v < 5"),
    ("deferred", "INSERT INTO swapped VALUES (1, 'one'), (2, 'two'), (3, 'three'); UPDATE swapped SET id = id + 1;
       BEGIN; UPDATE swapped SET id = 5 - id; COMMIT"),
    ("subtransactions", "BEGIN; INSERT INTO loose VALUES ('kept', 1); SAVEPOINT x; DELETE FROM loose; INSERT INTO loose VALUES ('gone', 2);
       SAVEPOINT y; UPDATE toasted SET v = 'gone'; ROLLBACK TO x; INSERT INTO loose VALUES ('kept too', 3); RELEASE x; COMMIT"),
    ("two phases", "BEGIN; UPDATE toasted SET n = 99; CREATE TABLE made_in_two_phases (id int); INSERT INTO made_in_two_phases VALUES (1);
       PREPARE TRANSACTION 'first'; BEGIN; DELETE FROM pair; PREPARE TRANSACTION 'second';
       INSERT INTO loose VALUES ('between', 1); ROLLBACK PREPARED 'second'; COMMIT PREPARED 'first'"),
    ("cascade", "UPDATE b SET id = id + 100; DELETE FROM b"),
    ("no columns", "INSERT INTO nothing DEFAULT VALUES; INSERT INTO nothing DEFAULT VALUES; INSERT INTO nothing DEFAULT VALUES;
       DELETE FROM nothing WHERE ctid = '(0,1)'"),
    ("many columns", "SELECT format('CREATE TABLE many (%s)', string_agg(format('c%s int', i), ', ')) FROM generate_series(1, 1600) i \\gexec
       INSERT INTO many (c1, c800, c1600) VALUES (1, 2, 3), (4, 5, 6); UPDATE many SET c1599 = 7 WHERE c1 = 1; DELETE FROM many WHERE c1 = 4"),
    ("truncate", "TRUNCATE pair, loose RESTART IDENTITY; INSERT INTO loose VALUES ('after', 1); TRUNCATE b CASCADE"),
];

async fn every_way(version: ServerVersion) {
    let options = TestServerOptions::default().with("max_prepared_transactions", "5");
    let pair = Pair::capturing_with(version, options, async |primary| {
        primary.psql(DATABASE, TABLES).await;
    })
    .await;
    let mut kept = vec![pair.keep_creation().await];
    for (name, sql) in STEPS {
        pair.primary.psql(DATABASE, sql).await;
        kept.push(pair.keep(name).await);
    }
    pair.assert_all_come_back(&kept, &mut Chance::seeded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_change_in_every_way_come_back_on_15() {
    every_way(ServerVersion::Debian15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_change_in_every_way_come_back_on_18() {
    every_way(ServerVersion::Pypi18).await;
}
