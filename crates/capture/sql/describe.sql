-- Parts of a message. All read only: what they do in a subtransaction takes no XID. Those that put values or
-- expressions into words do so under settings of ours, for which `:canonical_settings` stands (`source/schema.rs`).
-- What is asked often is asked in PL/pgSQL, because a function in SQL is planned anew with each event.

CREATE OR REPLACE FUNCTION postgres_test_replay.describe_roles() RETURNS json
LANGUAGE sql STABLE AS $$
    SELECT json_agg(json_build_object(
               'name', r.rolname, 'superuser', r.rolsuper, 'inherit', r.rolinherit,
               'create_role', r.rolcreaterole, 'create_db', r.rolcreatedb, 'bypass_rls', r.rolbypassrls,
               'member_of', (SELECT coalesce(json_agg(g.rolname ORDER BY g.rolname), '[]')
                               FROM (SELECT DISTINCT roleid FROM pg_auth_members WHERE member = r.oid) m
                               JOIN pg_authid g ON g.oid = m.roleid))
               ORDER BY r.rolname)
      FROM pg_authid r
     WHERE r.rolname !~ '^pg_'
$$;

-- Roles, when this session has not sent these roles yet. What was sent is remembered in a setting of the
-- session, which a rollback takes back together with the message; a table would make concurrent DDL wait for
-- one another. So each session sends them once, and again when they changed.
CREATE OR REPLACE FUNCTION postgres_test_replay.unsent_roles() RETURNS json
LANGUAGE plpgsql AS $$
DECLARE
    roles json := postgres_test_replay.describe_roles();
    fingerprint text;
BEGIN
    SELECT encode(sha256(convert_to(secret || ':roles:' || roles::text, 'UTF8')), 'hex') INTO STRICT fingerprint
      FROM postgres_test_replay.configuration;
    IF fingerprint = current_setting('postgres_test_replay.roles', true) THEN
        RETURN NULL;
    END IF;
    PERFORM set_config('postgres_test_replay.roles', fingerprint, false);
    RETURN roles;
END $$;

-- The number of the message of this transaction that carried the string which the client sent; NULL where none did,
-- and then the message `number` is remembered as the one. A script of many statements would else be written once
-- for each of them. The memory is the transaction's, and a rollback to a savepoint takes it back together with the
-- message. It is signed, because everybody may change a setting. The time tells one string from the next; the whole of
-- it is not looked at, because a script's every statement would be as slow as the script is long.
--
-- `continues` is whether an earlier transaction of the same string sent something: a listener that began in between
-- does not know how far the string had come. That is remembered by the session, and goes with a rollback too.
CREATE OR REPLACE FUNCTION postgres_test_replay.query_carrier(number integer, OUT carrier integer, OUT continues boolean)
LANGUAGE plpgsql AS $$
DECLARE
    remembered text := coalesce(current_setting('postgres_test_replay.query', true), '');
    fingerprint text;
    string text;
BEGIN
    carrier := CASE WHEN remembered ~ '^[0-9]{1,9}:' THEN split_part(remembered, ':', 1)::integer END;
    SELECT encode(sha256(convert_to(concat_ws(':', secret, 'query', pg_current_xact_id()::xid,
               extract(epoch FROM statement_timestamp()), octet_length(current_query()), left(current_query(), 100)),
               'UTF8')), 'hex')
      INTO STRICT fingerprint
      FROM postgres_test_replay.configuration;
    IF remembered = concat(carrier, ':', fingerprint) THEN
        RETURN;
    END IF;
    PERFORM set_config('postgres_test_replay.query', concat(number, ':', fingerprint), true);
    carrier := NULL;
    -- Whoever changes this setting can have their own string stop replay, or be taken for one that begins.
    string := extract(epoch FROM statement_timestamp())::text;
    continues := number = 1 AND current_setting('postgres_test_replay.string', true) = string;
    PERFORM set_config('postgres_test_replay.string', string, false);
END $$;

-- Values that rows older than a column read. The ones of a constant default are the same everywhere; those of
-- DEFAULT now() are not, and the catalog does not tell them apart.
CREATE OR REPLACE FUNCTION postgres_test_replay.describe_missing(relations oid[]) RETURNS json
LANGUAGE plpgsql STABLE
:canonical_settings
AS $$
BEGIN
    RETURN (
        SELECT json_agg(json_build_object(
                   'relation', format('%I.%I', n.nspname, c.relname), 'column', a.attname,
                   'value', (a.attmissingval::text::text[])[1])
                   ORDER BY c.oid, a.attnum)
          FROM pg_attribute a
          JOIN pg_class c ON c.oid = a.attrelid
          JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.oid = ANY (relations) AND a.atthasmissing AND NOT a.attisdropped AND c.relpersistence <> 't');
END $$;

-- Bounds of partitions, which may have been expressions such as now().
CREATE OR REPLACE FUNCTION postgres_test_replay.describe_bounds(relations oid[]) RETURNS json
LANGUAGE plpgsql STABLE
:canonical_settings
AS $$
BEGIN
    RETURN (
        SELECT json_agg(json_build_object('relation', format('%I.%I', n.nspname, c.relname),
                                          'bound', pg_get_expr(c.relpartbound, c.oid)) ORDER BY c.oid)
          FROM pg_class c
          JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.oid = ANY (relations) AND c.relispartition AND c.relkind IN ('r', 'p', 'f'));
END $$;

-- Indexes that REINDEX rebuilt: one that a failed CREATE INDEX CONCURRENTLY left is valid now, and no event told how it
-- was made. And indexes that one statement made without naming them, such as CREATE TABLE ... (LIKE ... INCLUDING ALL):
-- which gets which name follows from OIDs.
CREATE OR REPLACE FUNCTION postgres_test_replay.describe_indexes(relations oid[]) RETURNS json
LANGUAGE sql STABLE
:canonical_settings
AS $$
    SELECT json_agg(json_build_object(
               'index', format('%I.%I', n.nspname, c.relname), 'name', quote_ident(c.relname), 'definition', pg_get_indexdef(c.oid),
               'tablespace', (SELECT spcname FROM pg_tablespace WHERE oid = c.reltablespace))
               ORDER BY c.oid)
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_index i ON i.indexrelid = c.oid
     WHERE c.oid = ANY (relations) AND c.relkind = 'i' AND i.indisvalid AND n.nspname <> 'pg_toast'
       -- The replica's temporary schemas have other numbers.
       AND c.relpersistence <> 't'
$$;

-- What to say where a new index of a partitioned table took over an invalid one of a partition, which replicas do not
-- have: they would make another.
CREATE OR REPLACE FUNCTION postgres_test_replay.invalid_part(relations oid[]) RETURNS bytea
LANGUAGE plpgsql AS $$
DECLARE
    taken record;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = ANY (relations) AND c.relkind = 'I') THEN
        RETURN NULL;
    END IF;
    SELECT c.oid::regclass AS whole, t.relid::regclass AS part INTO taken
      FROM pg_class c, pg_partition_tree(c.oid) t
      JOIN pg_index i ON i.indexrelid = t.relid
     WHERE c.oid = ANY (relations) AND c.relkind = 'I' AND t.isleaf AND NOT i.indisvalid
     ORDER BY t.relid LIMIT 1;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    RETURN postgres_test_replay.gap(format(
        'index %s took over index %s of a partition, which a failed CREATE INDEX CONCURRENTLY left invalid and replicas do '
        'not have: drop both and make them again', taken.whole, taken.part), '55000');
END $$;

-- CHECK constraints that the tables have which this statement locked against everybody, the partition that it detached
-- among them: DETACH PARTITION CONCURRENTLY adds one of its bounds, unless the partition's own imply it.
CREATE OR REPLACE FUNCTION postgres_test_replay.describe_checks() RETURNS json
LANGUAGE plpgsql STABLE
:canonical_settings
AS $$
BEGIN
    RETURN (
        SELECT coalesce(json_agg(json_build_object('relation', format('%I.%I', n.nspname, c.relname),
                   'name', k.conname, 'definition', pg_get_constraintdef(k.oid)) ORDER BY k.oid), '[]')
          FROM pg_locks l
          JOIN pg_class c ON c.oid = l.relation
          JOIN pg_namespace n ON n.oid = c.relnamespace
          JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype = 'c' AND k.conislocal
         WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock');
END $$;

-- The four above, where any of the relations has something of the kind. Putting expressions and values of users' types
-- into words can fail; that is caught here, in a subtransaction that few statements need. A value of a built-in type does
-- not fail.
CREATE OR REPLACE FUNCTION postgres_test_replay.describe_values(
    tag text, relations oid[], indexes_made bigint, is_detached boolean,
    OUT missing json, OUT bounds json, OUT indexes json, OUT checks json, OUT failure text, OUT state text)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    is_missing boolean := tag LIKE 'ALTER %'
        AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = ANY (relations) AND a.atthasmissing);
    is_bound boolean := tag IN ('CREATE TABLE', 'ALTER TABLE', 'CREATE FOREIGN TABLE', 'CREATE SCHEMA')
        AND EXISTS (SELECT FROM pg_class c WHERE c.oid = ANY (relations) AND c.relispartition);
    is_indexed boolean := tag = 'REINDEX' OR tag IN ('CREATE TABLE', 'ALTER TABLE') AND indexes_made > 1;
BEGIN
    IF NOT is_missing AND NOT is_bound AND NOT is_indexed AND NOT is_detached THEN
        RETURN;
    END IF;
    IF NOT is_bound AND NOT is_indexed AND NOT is_detached AND NOT EXISTS (SELECT FROM pg_attribute a
             WHERE a.attrelid = ANY (relations) AND a.atthasmissing AND a.atttypid::bigint >= 16384) THEN
        missing := postgres_test_replay.describe_missing(relations);
        RETURN;
    END IF;
    BEGIN
        missing := CASE WHEN is_missing THEN postgres_test_replay.describe_missing(relations) END;
        bounds := CASE WHEN is_bound THEN postgres_test_replay.describe_bounds(relations) END;
        indexes := CASE WHEN is_indexed THEN postgres_test_replay.describe_indexes(relations) END;
        checks := CASE WHEN is_detached THEN postgres_test_replay.describe_checks() END;
    EXCEPTION WHEN OTHERS THEN
        failure := SQLERRM;
        state := SQLSTATE;
    END;
END $$;

-- Tablespaces beside the two that every cluster has. Few, and rarely any; so they are not remembered as sent.
CREATE OR REPLACE FUNCTION postgres_test_replay.describe_tablespaces() RETURNS json
LANGUAGE sql STABLE AS $$
    SELECT json_agg(t.spcname ORDER BY t.spcname) FROM pg_tablespace t WHERE t.oid >= 16384
$$;

-- What CREATE TABLE AS made, to make it again without running its query again; of a materialised view, whether it
-- holds rows. Also what IMPORT FOREIGN SCHEMA made, to make it without asking the other server.
CREATE OR REPLACE FUNCTION postgres_test_replay.describe_table_as(relations oid[]) RETURNS json
LANGUAGE sql STABLE
:canonical_settings
AS $$
    SELECT json_agg(json_build_object(
               'relation', format('%I.%I', n.nspname, c.relname), 'populated', c.relispopulated,
               'schema', n.nspname, 'name', c.relname, 'persistence', c.relpersistence, 'options', c.reloptions,
               'toast_options', (SELECT t.reloptions FROM pg_class t WHERE t.oid = c.reltoastrelid),
               'access_method', (SELECT amname FROM pg_am WHERE oid = c.relam),
               'tablespace', (SELECT spcname FROM pg_tablespace WHERE oid = c.reltablespace),
               'foreign', (SELECT json_build_object('server', s.srvname, 'options', f.ftoptions)
                             FROM pg_foreign_table f JOIN pg_foreign_server s ON s.oid = f.ftserver
                            WHERE f.ftrelid = c.oid),
               'columns', (SELECT json_agg(json_build_object(
                                      'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
                                      -- A query's table has none of these three; an imported foreign one may.
                                      'not_null', nullif(a.attnotnull, false), 'options', a.attfdwoptions,
                                      'default', (SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d
                                                   WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum),
                                      'collation', (SELECT format('%I.%I', m.nspname, l.collname)
                                                      FROM pg_collation l JOIN pg_namespace m ON m.oid = l.collnamespace
                                                     WHERE l.oid = a.attcollation AND l.collname <> 'default'))
                                      ORDER BY a.attnum)
                             FROM pg_attribute a
                            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped))
               ORDER BY c.oid)
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = ANY (relations) AND c.relkind IN ('r', 'm', 'f')
$$;

-- Bodies of the SQL functions on the call stack: a frame of theirs names function and statement number only.
CREATE OR REPLACE FUNCTION postgres_test_replay.describe_functions(context text) RETURNS json
LANGUAGE sql STABLE
:canonical_settings
AS $$
    SELECT json_agg(json_build_object(
               'name', p.proname, 'source', coalesce(nullif(p.prosrc, ''), pg_get_function_sqlbody(p.oid))))
      FROM pg_proc p
      JOIN pg_language l ON l.oid = p.prolang
     WHERE l.lanname = 'sql' AND p.oid >= 16384
       AND strpos(context, 'SQL function "' || p.proname || '"') > 0
$$;

-- A statement's relations, and for ALTER TABLE those that inherit from them, for ALTER TYPE the typed tables, which
-- the server does not list.
CREATE OR REPLACE FUNCTION postgres_test_replay.reach(relations oid[], tag text) RETURNS oid[]
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF tag = 'ALTER TYPE' THEN
        relations := ARRAY(
            SELECT unnest(relations)
            UNION
            SELECT t.oid FROM pg_class c JOIN pg_class t ON t.reloftype = c.reltype
             WHERE c.oid = ANY (relations) AND c.relkind = 'c');
    END IF;
    IF tag NOT LIKE 'ALTER %' OR NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = ANY (relations)) THEN
        RETURN relations;
    END IF;
    RETURN ARRAY(
        WITH RECURSIVE tree(relation) AS (
            SELECT unnest(relations)
            UNION
            SELECT i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.relation
        )
        SELECT relation FROM tree);
END $$;
