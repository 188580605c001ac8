//! The table of statements.

/// What a client does, from one session, in an empty database.
pub struct Case {
    pub name: &'static str,
    /// The first major version that knows it.
    pub since: u32,
    /// Whether it needs the contrib extensions, which the server of PostgreSQL 18 that tests use does not have.
    pub contrib: bool,
    /// Each is sent by itself as a simple query; with a leading `!` it has to fail, with `@` it goes by the extended
    /// protocol.
    pub steps: &'static [&'static str],
}

const fn case(name: &'static str, steps: &'static [&'static str]) -> Case {
    Case { name, since: 0, contrib: false, steps }
}

const fn since(since: u32, name: &'static str, steps: &'static [&'static str]) -> Case {
    Case { name, since, contrib: false, steps }
}

const fn contrib(name: &'static str, steps: &'static [&'static str]) -> Case {
    Case { name, since: 0, contrib: true, steps }
}

/// Takes away what a case left.
pub const CLEAN: &str = "
    DO $$ DECLARE one text; BEGIN
        FOR one IN SELECT quote_ident(evtname) FROM pg_event_trigger WHERE evtname NOT LIKE '!postgres\\_test\\_replay%' LOOP
            EXECUTE 'DROP EVENT TRIGGER ' || one;
        END LOOP;
        FOR one IN SELECT quote_ident(extname) FROM pg_extension WHERE extname <> 'plpgsql' LOOP
            EXECUTE 'DROP EXTENSION ' || one || ' CASCADE';
        END LOOP;
        FOR one IN SELECT quote_ident(nspname) FROM pg_namespace
                    WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'postgres_test_replay') LOOP
            EXECUTE 'DROP SCHEMA ' || one || ' CASCADE';
        END LOOP;
        CREATE SCHEMA public;
    END $$";

pub const CASES: &[Case] = &[
    // Materialised views.
    case("matview of random values", &[
        "CREATE MATERIALIZED VIEW v AS SELECT i, random() AS r, clock_timestamp() AS t FROM generate_series(1, 20) i",
        "CREATE UNIQUE INDEX ON v (i)",
        "REFRESH MATERIALIZED VIEW v",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY v",
    ]),
    case("matview with no data, filled later and emptied", &[
        "CREATE MATERIALIZED VIEW v AS SELECT random() AS r WITH NO DATA",
        "REFRESH MATERIALIZED VIEW v",
        "CREATE MATERIALIZED VIEW w AS SELECT random() AS r WITH /* all of the */ DATA",
        "REFRESH MATERIALIZED VIEW w WITH NO DATA",
    ]),
    case("matview of a matview in one transaction with other data", &[
        "CREATE TABLE t (a int, b text); INSERT INTO t SELECT i, 'x' || i FROM generate_series(1, 9) i",
        "BEGIN; CREATE MATERIALIZED VIEW v AS SELECT a, random() AS r FROM t; INSERT INTO t VALUES (10, NULL);
         CREATE MATERIALIZED VIEW w (\"The A\", n) AS SELECT a, r::numeric FROM v; REFRESH MATERIALIZED VIEW v;
         CREATE INDEX ON w (n); UPDATE t SET b = 'changed' WHERE a < 3; COMMIT",
        "ALTER MATERIALIZED VIEW v RENAME TO vv; ALTER MATERIALIZED VIEW vv RENAME r TO chance; REFRESH MATERIALIZED VIEW vv",
        "CREATE SCHEMA s; ALTER MATERIALIZED VIEW vv SET SCHEMA s; ALTER MATERIALIZED VIEW s.vv SET (fillfactor = 70)",
        "ALTER MATERIALIZED VIEW s.vv ALTER chance SET STATISTICS 7; ALTER MATERIALIZED VIEW w CLUSTER ON w_n_idx",
        "DROP MATERIALIZED VIEW w",
    ]),
    case("matview made and refreshed by functions and DO blocks", &[
        "CREATE FUNCTION make() RETURNS void LANGUAGE plpgsql AS $f$ BEGIN
            CREATE MATERIALIZED VIEW v AS SELECT i, random() AS r FROM generate_series(1, 5) i;
            CREATE UNIQUE INDEX ON v (i);
            EXECUTE 'REFRESH MATERIALIZED VIEW CONCURRENTLY v'; END $f$",
        "SELECT make()",
        "DO $$ BEGIN REFRESH MATERIALIZED VIEW v; REFRESH MATERIALIZED VIEW CONCURRENTLY v; END $$",
        "CREATE FUNCTION refresh() RETURNS void LANGUAGE sql AS 'SELECT 1; REFRESH MATERIALIZED VIEW v'",
        "SELECT refresh()",
        "CREATE PROCEDURE twice() LANGUAGE plpgsql AS $f$ BEGIN REFRESH MATERIALIZED VIEW v; COMMIT;
            REFRESH MATERIALIZED VIEW v; END $f$",
        "CALL twice()",
    ]),
    case("matview that is there already", &[
        "CREATE MATERIALIZED VIEW v AS SELECT random() AS r",
        "CREATE MATERIALIZED VIEW IF NOT EXISTS v AS SELECT 1 AS a; CREATE MATERIALIZED VIEW IF NOT EXISTS w AS SELECT random() AS b",
    ]),
    case("matview without rows or columns", &[
        "CREATE MATERIALIZED VIEW v AS SELECT 1 AS a WHERE false",
        "CREATE MATERIALIZED VIEW w AS SELECT FROM generate_series(1, 3)",
    ]),
    case("matview refreshed concurrently beside other tables dropped", &[
        "CREATE TABLE t (a int); CREATE MATERIALIZED VIEW v AS SELECT i, random() FROM generate_series(1, 3) i; CREATE UNIQUE INDEX ON v (i)",
        "BEGIN; DROP TABLE t; REFRESH MATERIALIZED VIEW CONCURRENTLY v; CREATE TABLE u (a int); DROP TABLE u; COMMIT",
        "CREATE TABLE t (a int); REFRESH MATERIALIZED VIEW CONCURRENTLY v; DROP TABLE t; CREATE TABLE w (b int)",
    ]),
    case("matview refreshed under a savepoint that is rolled back", &[
        "CREATE MATERIALIZED VIEW v AS SELECT random() AS r",
        "BEGIN; SAVEPOINT s; REFRESH MATERIALIZED VIEW v; ROLLBACK TO s; CREATE TABLE t (a int); COMMIT",
        "!CREATE UNIQUE INDEX ON v (r); REFRESH MATERIALIZED VIEW CONCURRENTLY missing",
        "DO $$ BEGIN BEGIN REFRESH MATERIALIZED VIEW CONCURRENTLY v; EXCEPTION WHEN OTHERS THEN NULL; END;
            REFRESH MATERIALIZED VIEW v; END $$",
    ]),
    case("matview with values of many types and kinds of text", &[
        "CREATE TYPE pair AS (a int, b text); CREATE DOMAIN short AS varchar(9)",
        "CREATE MATERIALIZED VIEW \"A \"\"view\" AS SELECT ROW(1, 'x')::pair AS p, ARRAY[NULL, 'a\tb', E'\\\\N'] AS t,
            'ab'::char(5) AS c, 'x'::short AS s, NULL::int AS n, '' AS e, 'NaN'::float8 AS f, '1 day'::interval AS i",
    ]),
    case("who logged in, as a role and as an expression", &[
        "CREATE ROLE app_owner SUPERUSER; CREATE ROLE app_reader; SET ROLE app_owner",
        "CREATE TABLE t (a int, who text DEFAULT session_user); CREATE TABLE u (a int); CREATE TABLE w (a int)",
        "GRANT SELECT ON t TO app_reader, SESSION_USER; GRANT INSERT ON u TO app_reader",
        "CREATE POLICY p ON t TO SESSION_USER USING (who = session_user)",
        "ALTER POLICY p ON t TO app_reader, session_user",
        "ALTER TABLE u OWNER TO /* whoever */ SESSION_USER; ALTER TABLE t ALTER who SET DEFAULT SESSION_USER",
        "ALTER DEFAULT PRIVILEGES FOR ROLE SESSION_USER GRANT SELECT ON TABLES TO app_reader",
        "CREATE SCHEMA s AUTHORIZATION SESSION_USER; CREATE SCHEMA AUTHORIZATION SESSION_USER",
        "REVOKE SELECT ON t FROM SESSION_USER; ALTER DEFAULT PRIVILEGES FOR ROLE SESSION_USER REVOKE SELECT ON TABLES FROM app_reader",
    ]),
    // CREATE TABLE AS and SELECT INTO.
    case("CREATE TABLE AS with options of its TOAST table", &[
        "CREATE TABLE a WITH (toast.autovacuum_enabled = off, fillfactor = 60) AS SELECT 1 AS n, 'x'::text AS t",
        "CREATE TABLE b WITH (toast.autovacuum_vacuum_scale_factor = 0.5, toast.vacuum_truncate = off) AS SELECT 'x'::text AS t",
    ]),
    case("CREATE TABLE AS in all forms", &[
        "CREATE TABLE a AS SELECT i, random() AS r FROM generate_series(1, 50) i",
        "SELECT i, random() AS r INTO b FROM generate_series(1, 50) i",
        "CREATE TABLE c AS SELECT * FROM a WITH NO DATA",
        "CREATE TABLE d (x, \"Y\") WITH (fillfactor = 50) AS SELECT i, r FROM a",
        "CREATE TABLE e AS VALUES (1, 'a'::text), (2, NULL)",
        "CREATE TABLE f AS TABLE a",
        "CREATE TABLE g AS SELECT FROM generate_series(1, 4)",
        "CREATE TABLE h AS SELECT 1 AS a WHERE false",
        "CREATE TABLE IF NOT EXISTS h AS SELECT 2 AS b",
        "CREATE TABLE IF NOT EXISTS i AS SELECT 'x' COLLATE \"C\" AS c, 'z'::varchar(7) AS v, random() AS r",
        "CREATE UNLOGGED TABLE u AS SELECT random() AS r",
        "PREPARE p (int) AS SELECT $1 AS n, random() AS r",
        "CREATE TABLE j AS EXECUTE p (7)",
        "WITH w AS (SELECT random() AS r) SELECT r INTO k FROM w; UPDATE k SET r = r + 1; DELETE FROM a WHERE i > 40",
    ]),
    case("several CREATE TABLE AS in one transaction", &[
        "BEGIN; CREATE TABLE a AS SELECT random() AS r FROM generate_series(1, 5); CREATE TABLE b AS SELECT r FROM a;
         INSERT INTO a VALUES (7); DROP TABLE a; CREATE TABLE a AS SELECT 'other'::text AS t; UPDATE b SET r = 0 WHERE r < 0.5;
         SELECT r INTO c FROM b; COMMIT",
        "BEGIN; SAVEPOINT s; CREATE TABLE d AS SELECT 1 AS x; ROLLBACK TO s; CREATE TABLE d AS SELECT 2 AS y; COMMIT",
    ]),
    case("CREATE TABLE AS in functions", &[
        "DO $$ BEGIN CREATE TABLE a AS SELECT random() AS r FROM generate_series(1, 5); EXECUTE 'CREATE TABLE b AS SELECT r FROM a'; END $$",
        "CREATE FUNCTION make() RETURNS void LANGUAGE sql AS 'CREATE TABLE c AS SELECT random() AS r'",
        "SELECT make()",
        "CREATE FUNCTION inner_make() RETURNS int LANGUAGE plpgsql AS $f$ BEGIN
            CREATE TABLE inside AS SELECT random() AS r FROM generate_series(1, 3); RETURN 1; END $f$",
        "CREATE TABLE outside AS SELECT i, CASE i WHEN 2 THEN inner_make() END AS m FROM generate_series(1, 3) i",
    ]),
    case("temporary tables made from queries", &[
        "CREATE TEMP TABLE t AS SELECT random() AS r; CREATE TABLE a AS SELECT * FROM t",
        "SELECT 1 AS x INTO TEMP s; INSERT INTO a SELECT x FROM s",
        "BEGIN; CREATE TEMP TABLE c ON COMMIT DROP AS SELECT 1 AS y; COMMIT; CREATE TABLE b AS SELECT 2 AS z",
    ]),
    // Rewrites and defaults.
    case("defaults that differ when evaluated again", &[
        "CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 9); CREATE SEQUENCE q START 100",
        "ALTER TABLE t ADD r float8 DEFAULT random()",
        "ALTER TABLE t ADD c timestamptz DEFAULT clock_timestamp(), ADD n timestamptz DEFAULT now()",
        "ALTER TABLE t ADD s int DEFAULT nextval('q'), ADD u uuid DEFAULT gen_random_uuid()",
        "ALTER TABLE t ADD i int GENERATED ALWAYS AS IDENTITY, ADD b bigserial",
        "ALTER TABLE t ADD g float8 GENERATED ALWAYS AS (r * 2) STORED",
        "INSERT INTO t (a) VALUES (10); UPDATE t SET a = 11 WHERE a = 1",
    ]),
    case("a column's type changed by random values", &[
        "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 9) i",
        "ALTER TABLE t ALTER v TYPE float8 USING random()",
        "ALTER TABLE t ALTER v TYPE text USING gen_random_uuid()::text, ADD w int DEFAULT (random() * 100)::int",
        "ALTER TABLE t ALTER id TYPE bigint USING id + (random() * 1000)::int * 100",
        "UPDATE t SET v = 'x' WHERE w > 50",
    ]),
    case("several rewrites in one transaction with data", &[
        "CREATE TABLE t (id serial PRIMARY KEY, v int); INSERT INTO t (v) SELECT generate_series(1, 9)",
        "BEGIN; ALTER TABLE t ADD r float8 DEFAULT random(); INSERT INTO t (v) VALUES (10); DELETE FROM t WHERE v = 1;
         ALTER TABLE t ALTER v TYPE numeric USING v + random(); UPDATE t SET v = 0 WHERE id = 3; ALTER TABLE t DROP r;
         ALTER TABLE t ADD r text DEFAULT gen_random_uuid(); COMMIT",
    ]),
    case("partitions and children rewritten", &[
        "CREATE TABLE p (id int, k text) PARTITION BY LIST (k); CREATE TABLE pa PARTITION OF p FOR VALUES IN ('a');
         CREATE TABLE pd PARTITION OF p DEFAULT PARTITION BY RANGE (id); CREATE TABLE pd1 PARTITION OF pd FOR VALUES FROM (0) TO (100);
         INSERT INTO p SELECT i, chr(96 + i) FROM generate_series(1, 5) i",
        "ALTER TABLE p ADD r float8 DEFAULT random()",
        "ALTER TABLE p ALTER r TYPE text USING r || random()::text",
        "ALTER TABLE p ADD u uuid DEFAULT gen_random_uuid(), ADD n timestamptz DEFAULT now()",
        "CREATE TABLE base (a int); CREATE TABLE kid (b int) INHERITS (base); INSERT INTO base VALUES (1); INSERT INTO kid VALUES (2, 3)",
        "ALTER TABLE base ADD r float8 DEFAULT random(); ALTER TABLE ONLY base ALTER a SET DEFAULT 3; ALTER TABLE base ALTER a TYPE float8 USING random()",
    ]),
    case("logged and unlogged", &[
        "CREATE TABLE l (a int PRIMARY KEY, r float8); CREATE UNLOGGED TABLE u (a int PRIMARY KEY, r float8)",
        "INSERT INTO l SELECT i, random() FROM generate_series(1, 9) i; INSERT INTO u SELECT i, random() FROM generate_series(1, 9) i",
        "ALTER TABLE u SET LOGGED",
        "UPDATE u SET r = 1 WHERE a < 3; INSERT INTO u VALUES (20, 2)",
        "ALTER TABLE l SET UNLOGGED",
        "DELETE FROM l WHERE a = 1; INSERT INTO l VALUES (30, random())",
        "ALTER TABLE l SET LOGGED; UPDATE l SET r = 5 WHERE a = 2",
        "BEGIN; CREATE UNLOGGED TABLE w AS SELECT random() AS r; ALTER TABLE w SET LOGGED; INSERT INTO w VALUES (1); COMMIT",
    ]),
    case("unlogged sequences and identity stay usable", &[
        "CREATE UNLOGGED TABLE u (a int GENERATED ALWAYS AS IDENTITY, b text); INSERT INTO u (b) VALUES ('x'), ('y')",
        "ALTER TABLE u SET LOGGED; INSERT INTO u (b) VALUES ('z')",
    ]),
    case("rewrites that only copy", &[
        "CREATE TABLE t (a int, b text); INSERT INTO t SELECT i, 'x' FROM generate_series(1, 9) i",
        "ALTER TABLE t SET ACCESS METHOD heap; ALTER TABLE t SET TABLESPACE pg_default; ALTER TABLE t SET (fillfactor = 40)",
        "VACUUM FULL t",
        "CREATE INDEX ti ON t (a); ALTER TABLE t CLUSTER ON ti; CLUSTER t",
        "REINDEX INDEX CONCURRENTLY ti", "REINDEX (VERBOSE) TABLE t",
        "ALTER TABLE t ALTER b TYPE varchar(10), ALTER a TYPE bigint",
        "UPDATE t SET b = 'y' WHERE a > 5",
    ]),
    since(18, "virtual generated columns", &[
        "CREATE TABLE t (a int PRIMARY KEY, b int GENERATED ALWAYS AS (a * 2) VIRTUAL); INSERT INTO t VALUES (1), (2)",
        "ALTER TABLE t ADD c int GENERATED ALWAYS AS (a + 1), ADD r float8 DEFAULT random()",
        "UPDATE t SET a = 5 WHERE a = 1; ALTER TABLE t ALTER r TYPE text USING random()",
    ]),
    // Special statements.
    case("an enum that grows", &[
        "CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE t (m mood)",
        "ALTER TYPE mood ADD VALUE 'happy'",
        "INSERT INTO t VALUES ('happy')",
        "BEGIN; ALTER TYPE mood ADD VALUE 'odd' BEFORE 'sad'; CREATE TABLE u (a int); COMMIT; INSERT INTO t VALUES ('odd')",
        "ALTER TYPE mood RENAME VALUE 'odd' TO 'even'; INSERT INTO t VALUES ('even')",
        "ALTER TYPE mood ADD VALUE IF NOT EXISTS 'even'; ALTER TABLE t ALTER m SET DEFAULT 'even'",
    ]),
    case("owners that REASSIGN OWNED changed before DROP OWNED", &[
        "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'leaving') THEN CREATE ROLE leaving; CREATE ROLE \"Heir 1\"; END IF; END $$",
        "GRANT ALL ON SCHEMA public TO leaving, \"Heir 1\" WITH GRANT OPTION",
        "SET ROLE leaving; CREATE TABLE kept (id serial, v text); INSERT INTO kept (v) VALUES ('x'); CREATE VIEW v AS SELECT 1 AS a;
         CREATE TYPE mood AS ENUM ('a'); CREATE TYPE pair AS (a int); CREATE FUNCTION f(a int, VARIADIC b text[]) RETURNS int LANGUAGE sql AS 'SELECT 1';
         CREATE SEQUENCE q; CREATE STATISTICS st ON id, v FROM kept; CREATE COLLATION c FROM \"C\"; CREATE DOMAIN d AS int; CREATE TYPE span AS RANGE (subtype = int, multirange_type_name = spans); RESET ROLE",
        "REASSIGN OWNED BY leaving TO \"Heir 1\"",
        "SET ROLE leaving; CREATE TABLE taken (a int); CREATE TYPE reach AS RANGE (subtype = int); RESET ROLE",
        "DROP OWNED BY leaving",
        "INSERT INTO kept (v) VALUES ('y')",
        "CREATE TABLE late (a int); ALTER TABLE late OWNER TO leaving; CREATE TYPE wide AS RANGE (subtype = int); ALTER TYPE wide OWNER TO leaving",
        "REASSIGN OWNED BY leaving TO \"Heir 1\"; DROP OWNED BY \"Heir 1\", leaving CASCADE",
    ]),
    case("partitions under a foreign key truncated", &[
        "CREATE TABLE p (id int GENERATED BY DEFAULT AS IDENTITY, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
         CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1); CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2);
         CREATE TABLE r (id serial, pid int, k int, FOREIGN KEY (pid, k) REFERENCES p);
         INSERT INTO p (k) VALUES (1), (2); INSERT INTO r (pid, k) VALUES (1, 1)",
        "TRUNCATE p, r RESTART IDENTITY",
        "INSERT INTO p (k) VALUES (1), (2); INSERT INTO r (pid, k) VALUES (1, 1)",
        "TRUNCATE p CASCADE",
        "CREATE TABLE s (a serial, b int); INSERT INTO s (b) VALUES (1); TRUNCATE s RESTART IDENTITY; INSERT INTO s (b) VALUES (2)",
    ]),
    contrib("extensions made, changed and dropped", &[
        "CREATE EXTENSION hstore VERSION '1.4'",
        "CREATE TABLE t (h hstore); INSERT INTO t VALUES ('a=>1')",
        "ALTER EXTENSION hstore UPDATE TO '1.8'",
        "CREATE SCHEMA s; ALTER EXTENSION hstore SET SCHEMA s; CREATE EXTENSION pg_trgm SCHEMA s",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER EXTENSION hstore ADD FUNCTION mine()",
        "ALTER EXTENSION hstore DROP FUNCTION mine(); CREATE TABLE after (a int)",
        "BEGIN; ALTER EXTENSION hstore ADD FUNCTION mine(); ALTER EXTENSION hstore DROP FUNCTION mine(); DROP FUNCTION mine(); CREATE TABLE late (h s.hstore); COMMIT",
        "DROP EXTENSION pg_trgm",
    ]),
    case("a partition detached concurrently", &[
        "CREATE TABLE p (id int, k int) PARTITION BY RANGE (k); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
         CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20); INSERT INTO p VALUES (1, 1), (2, 11)",
        "ALTER TABLE p DETACH PARTITION p1 CONCURRENTLY",
        "INSERT INTO p1 VALUES (3, 3)",
        "CREATE TABLE lp (k text, \"the k\" int) PARTITION BY LIST (\"the k\"); CREATE TABLE lp1 PARTITION OF lp FOR VALUES IN (1, 2, NULL)",
        "ALTER TABLE ONLY lp DETACH PARTITION lp1 CONCURRENTLY",
        "ALTER TABLE p DETACH PARTITION p2",
        "CREATE TABLE hp (a int, b text) PARTITION BY HASH (a, b); CREATE TABLE hp1 PARTITION OF hp FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
        "ALTER TABLE hp DETACH PARTITION hp1 CONCURRENTLY",
        "CREATE TABLE tp (k text, d date) PARTITION BY LIST (k); CREATE TABLE tp1 PARTITION OF tp FOR VALUES IN ('a]) b', 'it''s'); CREATE TABLE tp2 PARTITION OF tp FOR VALUES IN ('c')",
        "ALTER TABLE tp DETACH PARTITION public.tp1 CONCURRENTLY", "ALTER TABLE tp DETACH PARTITION public.tp2 CONCURRENTLY;",
        "ALTER TABLE p ATTACH PARTITION p1 FOR VALUES FROM (0) TO (10)",
        "ALTER TABLE p DETACH PARTITION p1 CONCURRENTLY",
        "CREATE TABLE cp (id int, k int, CONSTRAINT own CHECK (id > 0)) PARTITION BY RANGE (k); CREATE SCHEMA \"S x\";
         CREATE TABLE \"S x\".\"C 1\" PARTITION OF cp (CONSTRAINT mine CHECK (k < 7 OR id = 3)) FOR VALUES FROM (0) TO (10) PARTITION BY LIST (id);
         CREATE TABLE sub PARTITION OF \"S x\".\"C 1\" FOR VALUES IN (1, 2); INSERT INTO cp VALUES (1, 1);
         CREATE TABLE implied PARTITION OF cp (k NOT NULL, CONSTRAINT implies CHECK (k IS NOT NULL AND k >= 10 AND k < 20)) FOR VALUES FROM (10) TO (20)",
        "ALTER TABLE cp DETACH PARTITION \"S x\".\"C 1\" CONCURRENTLY",
        "ALTER TABLE cp DETACH PARTITION implied CONCURRENTLY",
    ]),
    since(18, "an enum made, grown and used in one transaction", &[
        "BEGIN; CREATE TYPE color AS ENUM ('red'); ALTER TYPE color ADD VALUE 'blue'; CREATE TABLE c (c color DEFAULT 'blue');
         INSERT INTO c VALUES ('blue'), (DEFAULT); CREATE INDEX ON c ((1)) WHERE c = 'blue'; COMMIT",
    ]),
    case("an index that could not be built concurrently", &[
        "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (1)",
        "!CREATE UNIQUE INDEX CONCURRENTLY ti ON t (a)",
        "INSERT INTO t VALUES (2)",
        "DROP INDEX CONCURRENTLY ti",
        "CREATE INDEX CONCURRENTLY good ON t (a)",
        "!CREATE UNIQUE INDEX CONCURRENTLY bad ON t (a)",
        "DROP INDEX bad, good; CREATE INDEX ON t (a)",
    ]),
    case("a partition attached with an index that could not be built", &[
        "CREATE TABLE p (a int) PARTITION BY LIST (a); CREATE UNIQUE INDEX ON p (a); CREATE TABLE q (a int); INSERT INTO q VALUES (1), (1)",
        "!CREATE UNIQUE INDEX CONCURRENTLY other ON q (a)",
        "DELETE FROM q; ALTER TABLE p ATTACH PARTITION q FOR VALUES IN (1); INSERT INTO p VALUES (1)",
        "DROP INDEX other",
    ]),
    since(18, "indexes of a temporary table built again", &[
        "CREATE TEMP TABLE tt (a int, b text); CREATE INDEX ON tt (a); INSERT INTO tt VALUES (1, 'x')",
        "REINDEX TABLE CONCURRENTLY tt", "REINDEX TABLE tt", "CREATE TABLE t AS SELECT * FROM tt",
    ]),
    case("indexes copied in the order of OIDs that the primary changed", &[
        "CREATE TABLE t (a int, b text); CREATE INDEX one ON t (a); CREATE UNIQUE INDEX \"tw o\" ON t (a); CREATE INDEX three ON t USING hash (a);
         CREATE INDEX other ON t (b)",
        "REINDEX INDEX CONCURRENTLY one", "REINDEX INDEX CONCURRENTLY \"tw o\"",
        "CREATE TABLE \"L x\" (LIKE t INCLUDING ALL, PRIMARY KEY (a))",
        "CREATE SCHEMA s; CREATE TABLE s.l (LIKE t INCLUDING ALL); DROP INDEX \"L x_a_idx\"",
    ]),
    since(18, "an index that could not be built concurrently and then was", &[
        "CREATE SCHEMA s; CREATE TABLE s.t (a int, \"B b\" text, d date); INSERT INTO s.t VALUES (1, 'x'), (1, 'X')",
        "!CREATE UNIQUE INDEX CONCURRENTLY \"I i\" ON s.t USING btree (a DESC NULLS LAST, lower(\"B b\") COLLATE \"C\")
           INCLUDE (d) WITH (fillfactor = 70) WHERE d IS NULL OR d > '01.02.2003'",
        "!CREATE UNIQUE INDEX CONCURRENTLY other ON s.t (a)",
        "DELETE FROM s.t WHERE \"B b\" = 'X'",
        "REINDEX INDEX s.\"I i\"",
        "REINDEX (CONCURRENTLY) INDEX s.other",
        "INSERT INTO s.t VALUES (2, 'y'); REINDEX TABLE s.t; ALTER INDEX s.other RENAME TO another",
    ]),
    contrib("foreign tables imported", &[
        "CREATE EXTENSION postgres_fdw; CREATE SCHEMA remote; CREATE SCHEMA here; CREATE TABLE remote.t (id int NOT NULL, v varchar(5) COLLATE \"C\", n numeric(7, 2) DEFAULT 3); CREATE TABLE remote.\"U u\" (a text)",
        "DO $$ BEGIN EXECUTE format('CREATE SERVER self FOREIGN DATA WRAPPER postgres_fdw OPTIONS (dbname %L, host ''127.0.0.1'', port %L)', current_database(), current_setting('port')); END $$",
        "CREATE USER MAPPING FOR CURRENT_USER SERVER self OPTIONS (user 'postgres', password '$PASSWORD')",
        "IMPORT FOREIGN SCHEMA remote FROM SERVER self INTO here",
        "IMPORT FOREIGN SCHEMA remote LIMIT TO (t) FROM SERVER self INTO public; ALTER FOREIGN TABLE here.t ADD w int",
    ]),
    case("permanent objects that depend on temporary ones, which end with the session", &[
        "CREATE TEMP TABLE gone (a int); CREATE FUNCTION f(gone) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE DOMAIN d AS gone[]; CREATE TABLE t (a int)",
    ]),
    // Where statements come from.
    case("several in one string", &[
        "CREATE TABLE a (x int); INSERT INTO a VALUES (1); CREATE INDEX ON a (x); /* ; */ CREATE TABLE b (y text DEFAULT ';') -- ;
         ; ALTER TABLE a ADD z int DEFAULT 5; INSERT INTO a VALUES (2, 3); DROP TABLE b",
        "CREATE TABLE IF NOT EXISTS a (q int); CREATE TABLE c (a int); CREATE TABLE IF NOT EXISTS c (a int, b int); ALTER TABLE c ADD b text",
        "ALTER TABLE a RENAME x TO x2; ALTER TABLE a RENAME x2 TO x3; ALTER TABLE a RENAME x3 TO x; COMMENT ON TABLE a IS 'it''s; a'",
    ]),
    case("DO blocks, nested calls, EXECUTE of several", &[
        "DO $x$ BEGIN CREATE TABLE a (i int); EXECUTE 'CREATE TABLE b (i int); INSERT INTO b VALUES (1); ALTER TABLE b ADD j text DEFAULT ''x;y''';
            FOR n IN 1..3 LOOP EXECUTE format('CREATE TABLE %I (i int)', 'Loop ' || n); EXECUTE format('INSERT INTO %I VALUES (%s)', 'Loop ' || n, n); END LOOP; END $x$",
        "CREATE FUNCTION deepest() RETURNS void LANGUAGE plpgsql AS $f$ BEGIN CREATE TABLE deep (a int); INSERT INTO deep VALUES (1); END $f$;
         CREATE FUNCTION deep2() RETURNS void LANGUAGE sql AS 'SELECT deepest()';
         CREATE FUNCTION deep1() RETURNS void LANGUAGE plpgsql AS $f$ BEGIN PERFORM deep2(); ALTER TABLE deep ADD b int DEFAULT 2; END $f$",
        "SELECT deep1()",
        "DO $$ BEGIN BEGIN CREATE TABLE undone (a int); RAISE EXCEPTION 'no'; EXCEPTION WHEN OTHERS THEN CREATE TABLE done (a int); END; END $$",
    ]),
    case("a procedure that commits", &[
        "CREATE PROCEDURE steps() LANGUAGE plpgsql AS $f$ BEGIN CREATE TABLE a (i int); COMMIT; INSERT INTO a VALUES (1); ROLLBACK;
            CREATE TABLE b (i int); INSERT INTO a VALUES (2); COMMIT; FOR n IN 1..3 LOOP EXECUTE 'ALTER TABLE a ADD c' || n || ' int'; COMMIT; END LOOP; END $f$",
        "CALL steps()",
        "DO $$ BEGIN CREATE TABLE c (i int); COMMIT; DROP TABLE c; CREATE TABLE c (j text); COMMIT; END $$",
    ]),
    case("SQL functions", &[
        "CREATE TABLE kept (a int); CREATE FUNCTION make() RETURNS void LANGUAGE sql AS $f$ SELECT 1; CREATE TABLE a (x int); INSERT INTO kept VALUES (1); $f$",
        "SELECT make()",
        "CREATE FUNCTION two() RETURNS void LANGUAGE sql AS $f$ CREATE TABLE b (x text DEFAULT ';'); CREATE TABLE c (x int) $f$",
        "SELECT two()",
    ]),
    case("SQL functions with a standard body", &[
        "CREATE TABLE t (a int); CREATE FUNCTION add(x int) RETURNS void BEGIN ATOMIC INSERT INTO t VALUES (x); DELETE FROM t WHERE a < x; END",
        "SELECT add(3); CREATE TABLE u (a int); SELECT add(4)",
        "CREATE PROCEDURE pr(x int) BEGIN ATOMIC INSERT INTO t SELECT CASE x WHEN 1 THEN 2 ELSE 3 END; END; CALL pr(1)",
    ]),
    case("savepoints", &[
        "BEGIN; CREATE TABLE a (i int); SAVEPOINT s; CREATE TABLE b (i int); ALTER TABLE a ADD j int; ROLLBACK TO s; ALTER TABLE a ADD k int;
         SAVEPOINT t; INSERT INTO a VALUES (1, 2); RELEASE t; ROLLBACK TO s; INSERT INTO a VALUES (5); COMMIT",
    ]),
    case("a string with several transactions in it", &[
        "BEGIN; CREATE TABLE gone (i int); ROLLBACK; CREATE TABLE gone (j text)",
        "CREATE TABLE t (a int); COMMIT; BEGIN; ALTER TABLE t ADD b int; COMMIT; BEGIN; ALTER TABLE t ADD c text; COMMIT; ALTER TABLE t ADD d int",
        "ALTER TABLE t DROP b; ROLLBACK; ALTER TABLE t DROP c; COMMIT; BEGIN; SAVEPOINT s; CREATE TABLE u (a int); ROLLBACK TO s; CREATE TABLE u (b text); COMMIT",
        "BEGIN; SAVEPOINT s", "CREATE TABLE v (a int); ROLLBACK TO s; CREATE TABLE v (b int); COMMIT",
    ]),
    case("the extended protocol", &[
        "@CREATE TABLE a (i int)",
        "@CREATE TABLE b AS SELECT random() AS r FROM generate_series(1, 5)",
        "@CREATE MATERIALIZED VIEW v AS SELECT random() AS r",
        "@REFRESH MATERIALIZED VIEW v",
        "@DO $$ BEGIN ALTER TABLE a ADD j int DEFAULT 4; END $$",
        "@INSERT INTO a VALUES (1)",
    ]),
    case("prepared statements", &[
        "PREPARE p AS SELECT random() AS r INTO nowhere; DEALLOCATE p; PREPARE q AS SELECT random() AS r",
        "CREATE TABLE b AS EXECUTE q; CREATE TABLE c AS EXECUTE q",
        "PREPARE i (int) AS INSERT INTO b VALUES ($1); EXECUTE i (3)",
    ]),
    case("a schema with its elements", &[
        "CREATE SCHEMA s CREATE TABLE t (a int PRIMARY KEY, b text) CREATE VIEW v AS SELECT a FROM t CREATE INDEX ti ON t (b) CREATE SEQUENCE q GRANT SELECT ON v TO PUBLIC",
        "INSERT INTO s.t VALUES (1, 'x')",
        "CREATE SCHEMA r CREATE TABLE t (a serial) CREATE TABLE u (a int REFERENCES s.t); CREATE TABLE r.w (a int)",
    ]),
    case("quotes of every kind", &[
        "SET standard_conforming_strings = off; SET escape_string_warning = off; SET backslash_quote = on",
        r"CREATE TABLE a (x text DEFAULT 'it\'s; here'); COMMENT ON TABLE a IS 'a\\;b'; CREATE TABLE b (y text DEFAULT E'\';')",
        r"ALTER TABLE a ADD y text DEFAULT '\';'; ALTER TABLE b RENAME y TO z",
        "SET standard_conforming_strings = on",
        r"CREATE TABLE c (x text DEFAULT '\'); CREATE TABLE d (y text DEFAULT U&'\0041;'); CREATE TABLE e (z text DEFAULT $q$;'$q$)",
        "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $outer$ SELECT $inner$;$inner$ $outer$; CREATE TABLE \"semi;colon\" (\"a;\"\"b\" int)",
        "/* ; /* nested; */ */ CREATE TABLE g (a int); -- and; this\nCREATE TABLE h (a int)",
        "DO $$ BEGIN EXECUTE 'CREATE TABLE \"quo\"\"te\" (a text DEFAULT ''\"'')'; END $$",
    ]),
    case("trigger functions that change the schema", &[
        "CREATE TABLE t (a int); CREATE TABLE log (what text)",
        "CREATE FUNCTION on_row() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN EXECUTE format('CREATE TABLE made_%s (a int)', NEW.a);
            INSERT INTO log VALUES ('row ' || NEW.a); RETURN NEW; END $f$; CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION on_row()",
        "INSERT INTO t VALUES (1), (2)",
        "ALTER TABLE t ENABLE ALWAYS TRIGGER tr; INSERT INTO t VALUES (3)",
    ]),
    case("event triggers of the user's", &[
        "CREATE TABLE log (what text); CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS $f$ BEGIN INSERT INTO public.log VALUES (tg_tag); END $f$",
        "CREATE EVENT TRIGGER notes ON ddl_command_end EXECUTE FUNCTION note()",
        "CREATE TABLE a (i int); ALTER TABLE a ADD j int",
        "CREATE FUNCTION also() RETURNS event_trigger LANGUAGE plpgsql AS $f$ BEGIN IF tg_tag = 'CREATE VIEW' THEN EXECUTE 'CREATE TABLE IF NOT EXISTS by_trigger (a int)'; END IF; END $f$;
         CREATE EVENT TRIGGER alsos ON ddl_command_end EXECUTE FUNCTION also()",
        "CREATE VIEW v AS SELECT 1 AS a",
        "DROP TABLE a; DROP EVENT TRIGGER notes; DROP EVENT TRIGGER alsos",
    ]),
    // Rows that predate a constraint.
    case("rows that a check which is not valid refuses, of an inheritance child too", &[
        "CREATE TABLE p (id int, r float); CREATE TABLE c (extra int) INHERITS (p); CREATE TABLE own (id int, r float, CONSTRAINT k CHECK (id IS NOT NULL)) INHERITS (p)",
        "INSERT INTO p VALUES (NULL, 1); INSERT INTO c VALUES (NULL, 1, 1), (-1, 2, 2)",
        "ALTER TABLE p ADD CONSTRAINT k CHECK (id IS NOT NULL) NOT VALID; ALTER TABLE c ADD CONSTRAINT l CHECK (id > 0) NOT VALID",
        "COMMENT ON CONSTRAINT k ON c IS 'from the parent'",
        "ALTER TABLE p ALTER r TYPE numeric USING random()",
        "ALTER TABLE p ADD at timestamptz DEFAULT clock_timestamp(), ADD since timestamptz DEFAULT now()",
        "!INSERT INTO c VALUES (NULL)",
        "!INSERT INTO c VALUES (-1)",
    ]),
    case("rows of a partition that a check which is not valid refuses", &[
        "CREATE TABLE p (id int, r float) PARTITION BY LIST (id); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1); INSERT INTO p VALUES (1, -1)",
        "ALTER TABLE p ADD CONSTRAINT k CHECK (r > 2) NOT VALID",
        "ALTER TABLE p ALTER r TYPE numeric USING r - random()",
    ]),
    since(18, "rows that a not-null constraint which is not valid refuses", &[
        "CREATE TABLE p (id int, r float); CREATE TABLE c () INHERITS (p); INSERT INTO p VALUES (NULL, 1); INSERT INTO c VALUES (NULL, 2)",
        "ALTER TABLE p ADD CONSTRAINT n NOT NULL id NOT VALID",
        "ALTER TABLE p ALTER r TYPE numeric USING random()",
        "ALTER TABLE p ADD since timestamptz DEFAULT now()",
        "!INSERT INTO c VALUES (NULL, 3)",
    ]),
];
