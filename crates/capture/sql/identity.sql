-- Tables whose identity is not what it should be, with what it should be: FULL where it can make no statement
-- fail, else what the user wants. `candidates` NULL means all tables. Written so that each candidate is looked up
-- by index: this runs with every CREATE TABLE, however many tables there are.
CREATE OR REPLACE FUNCTION postgres_test_replay.unsettled(candidates oid[])
RETURNS TABLE (relation oid, identity "char")
LANGUAGE plpgsql STABLE AS $$
DECLARE
    own postgres_test_replay.configuration;
    present "char";
BEGIN
    SELECT f.* INTO STRICT own FROM postgres_test_replay.configuration f;
    IF NOT own.replica_identity THEN
        RETURN;
    END IF;
    IF candidates IS NULL THEN
        candidates := ARRAY(SELECT c.oid FROM pg_class c WHERE c.relkind IN ('r', 'p') AND c.oid >= 16384);
    END IF;
    -- Table by table: a join with all of them is planned when the catalog is small and runs when it is not.
    FOREACH relation IN ARRAY candidates LOOP
        SELECT c.relreplident INTO present
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.oid = unsettled.relation AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND c.oid::bigint >= 16384
           AND n.nspname <> 'postgres_test_replay' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
           AND (n.nspname || '.' || c.relname) <> ALL (own.excluded);
        CONTINUE WHEN NOT FOUND;
        IF EXISTS (SELECT FROM postgres_test_replay.identity_exceptions x WHERE x.relation = unsettled.relation) THEN
            SELECT y.identity INTO identity FROM postgres_test_replay.wanted_identity y
             WHERE y.relation = unsettled.relation
               AND (y.identity <> 'i'
                    OR EXISTS (SELECT FROM pg_index i WHERE i.indrelid = y.relation AND i.indisreplident));
            identity := coalesce(nullif(identity, 'f'), 'd');
        ELSE
            identity := 'f';
        END IF;
        -- Without FULL every other identity is the user's business.
        IF present <> identity AND (identity = 'f' OR present = 'f') THEN
            RETURN NEXT;
        END IF;
    END LOOP;
END $$;

-- Of tables that were just made, those that should get FULL.
CREATE OR REPLACE FUNCTION postgres_test_replay.to_settle(made oid[]) RETURNS oid[]
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN ARRAY(SELECT u.relation FROM postgres_test_replay.unsettled(made) u WHERE u.identity = 'f');
END $$;

-- Gives tables the identity they should have. By UPDATE of the catalog, because ALTER TABLE would fire events
-- inside the user's statement. Rows that another transaction is changing are left to it.
CREATE OR REPLACE FUNCTION postgres_test_replay.settle(candidates oid[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    WITH due AS (
        SELECT c.oid, u.identity
          FROM pg_class c JOIN postgres_test_replay.unsettled(candidates) u ON u.relation = c.oid
           FOR NO KEY UPDATE OF c SKIP LOCKED)
    UPDATE pg_class c SET relreplident = due.identity FROM due WHERE c.oid = due.oid;
END $$;

-- `settle`, where it is not known which table is due; it must not make the user's statement fail.
CREATE OR REPLACE FUNCTION postgres_test_replay.settle_all() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM postgres_test_replay.settle(NULL);
EXCEPTION WHEN OTHERS THEN
    NULL;  -- doctor lists what is due.
END $$;

-- Whether the text of a statement gives a table REPLICA IDENTITY FULL. What is long is looked through once, and then it
-- may be another of its tables.
CREATE OR REPLACE FUNCTION postgres_test_replay.asks_for_full(relation name, context text) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    sent text := current_query();
    written text := regexp_replace(replace(relation::text, '"', '""'), '([!-/:-@[-^`{-~])', '\\\1', 'g');
    pattern text := concat('(^|[^A-Za-z0-9_$])', written, '([^A-Za-z0-9_$;][^;]*)?\sreplica\s+identity\s+full');
BEGIN
    IF context ~* pattern THEN
        RETURN true;
    ELSIF octet_length(sent) < 10000 THEN
        RETURN sent ~* pattern;
    END IF;
    RETURN postgres_test_replay.query_says('full', 'replica\s+identity\s+full');
END $$;

-- Remembers what the user asked for with ALTER TABLE ... REPLICA IDENTITY, for teardown. FULL is mostly ours: it is the
-- user's only where the statement says so.
CREATE OR REPLACE FUNCTION postgres_test_replay.remember_identity(candidates oid[], context text) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO postgres_test_replay.wanted_identity AS w
    SELECT c.oid, c.relreplident,
           (SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
             WHERE i.indrelid = c.oid AND i.indisreplident AND c.relreplident = 'i')
      FROM pg_class c
     WHERE c.oid = ANY (candidates) AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND c.oid >= 16384
       AND (c.relreplident <> 'f' OR postgres_test_replay.asks_for_full(c.relname, context))
    ON CONFLICT (relation) DO UPDATE SET identity = excluded.identity, index_name = excluded.index_name
$$;
