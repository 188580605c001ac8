-- Tables whose identity is not what it should be, with what it should be: FULL where it can make no statement
-- fail, else what the user wants. `candidates` NULL means all tables. Written so that each candidate is looked up
-- by index: this runs with every CREATE TABLE, however many tables there are.
CREATE FUNCTION postgres_test_replay.unsettled(candidates oid[])
RETURNS TABLE (relation oid, identity "char")
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF NOT (SELECT f.replica_identity FROM postgres_test_replay.configuration f) THEN
        RETURN;
    END IF;
    IF candidates IS NULL THEN
        candidates := ARRAY(SELECT c.oid FROM pg_class c WHERE c.relkind IN ('r', 'p') AND c.oid >= 16384);
    END IF;
    RETURN QUERY
    SELECT wish.oid, wish.target
      FROM (SELECT c.oid, c.relreplident,
                   CASE WHEN e.reason IS NULL THEN 'f'::"char" ELSE coalesce(nullif(w.identity, 'f'), 'd') END AS target
              FROM unnest(candidates) AS candidate (oid)
              JOIN pg_class c ON c.oid = candidate.oid
              JOIN pg_namespace n ON n.oid = c.relnamespace
              -- LIMIT keeps the planner from joining with the whole catalog.
              LEFT JOIN LATERAL (SELECT x.reason FROM postgres_test_replay.identity_exceptions x
                                  WHERE x.relation = c.oid LIMIT 1) e ON true
              LEFT JOIN LATERAL (SELECT y.identity FROM postgres_test_replay.wanted_identity y
                                  WHERE y.relation = c.oid
                                    AND (y.identity <> 'i'
                                         OR EXISTS (SELECT FROM pg_index i
                                                     WHERE i.indrelid = c.oid AND i.indisreplident))
                                  LIMIT 1) w ON true
             WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND c.oid >= 16384
               AND n.nspname <> 'postgres_test_replay' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
               AND (n.nspname || '.' || c.relname) <> ALL (SELECT unnest(f.excluded)
                                                             FROM postgres_test_replay.configuration f)) wish
     -- Without FULL every other identity is the user's business.
     WHERE wish.relreplident <> wish.target AND (wish.target = 'f' OR wish.relreplident = 'f');
END $$;
REVOKE ALL ON FUNCTION postgres_test_replay.unsettled(oid[]) FROM PUBLIC;

-- Gives tables the identity they should have. By UPDATE of the catalog, because ALTER TABLE would fire events
-- inside the user's statement. Rows that another transaction is changing are left to it.
CREATE FUNCTION postgres_test_replay.settle(candidates oid[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    WITH due AS (
        SELECT c.oid, u.identity
          FROM pg_class c JOIN postgres_test_replay.unsettled(candidates) u ON u.relation = c.oid
           FOR NO KEY UPDATE OF c SKIP LOCKED)
    UPDATE pg_class c SET relreplident = due.identity FROM due WHERE c.oid = due.oid;
END $$;
REVOKE ALL ON FUNCTION postgres_test_replay.settle(oid[]) FROM PUBLIC;

-- Remembers what the user asked for with ALTER TABLE ... REPLICA IDENTITY, for teardown.
CREATE FUNCTION postgres_test_replay.remember_identity(candidates oid[]) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO postgres_test_replay.wanted_identity AS w
    SELECT c.oid, c.relreplident,
           (SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
             WHERE i.indrelid = c.oid AND i.indisreplident AND c.relreplident = 'i')
      FROM pg_class c
     WHERE c.oid = ANY (candidates) AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND c.oid >= 16384
    ON CONFLICT (relation) DO UPDATE SET identity = excluded.identity, index_name = excluded.index_name
$$;
REVOKE ALL ON FUNCTION postgres_test_replay.remember_identity(oid[]) FROM PUBLIC;
