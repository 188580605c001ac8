-- Who may do what in our schema, whatever the default privileges of its owner grant and revoke. Everybody may look a
-- function up in it and run the ones that our event triggers call, because those run as whoever issues the DDL; nobody but
-- its owner may do anything else. Nobody needs the right to run an event trigger's function: the server does not ask for it
-- when an event fires, only when somebody makes an event trigger of their own with it.
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT DISTINCT thing.name, CASE r.grantee WHEN 0 THEN 'PUBLIC' ELSE r.grantee::regrole::text END AS grantee
          FROM (SELECT 'SCHEMA postgres_test_replay' AS name, n.nspowner AS owner, n.nspacl AS rights
                  FROM pg_namespace n WHERE n.nspname = 'postgres_test_replay'
                UNION ALL
                SELECT format('TABLE %s', c.oid::regclass), c.relowner, c.relacl
                  FROM pg_class c
                 WHERE c.relnamespace = 'postgres_test_replay'::regnamespace AND c.relkind IN ('r', 'v')
                UNION ALL
                SELECT format('FUNCTION %s', p.oid::regprocedure), p.proowner, coalesce(p.proacl, acldefault('f', p.proowner))
                  FROM pg_proc p WHERE p.pronamespace = 'postgres_test_replay'::regnamespace) AS thing,
               LATERAL aclexplode(thing.rights) AS r
         WHERE r.grantee <> thing.owner
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %s CASCADE', one.name, one.grantee);
    END LOOP;
END $$;
GRANT USAGE ON SCHEMA postgres_test_replay TO PUBLIC;
GRANT EXECUTE ON FUNCTION postgres_test_replay.capture(text, text, name, text, text[]) TO PUBLIC;
GRANT EXECUTE ON FUNCTION postgres_test_replay.has_rights() TO PUBLIC;
GRANT EXECUTE ON FUNCTION postgres_test_replay.uncaptured(text) TO PUBLIC;
GRANT EXECUTE ON FUNCTION postgres_test_replay.before_unlogged(name) TO PUBLIC;
