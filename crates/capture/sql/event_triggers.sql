-- Their names sort before everybody else's, so that what other event triggers do comes after what caused it.
-- ALWAYS, because session_replication_role must not hide schema changes.
-- Never DROP INDEX at the start: the message takes an XID, and DROP INDEX CONCURRENTLY then refuses.
CREATE EVENT TRIGGER "!postgres_test_replay_start" ON ddl_command_start
    WHEN TAG IN ('CREATE TABLE AS', 'SELECT INTO', 'CREATE MATERIALIZED VIEW', 'REFRESH MATERIALIZED VIEW',
                 'CREATE EXTENSION', 'ALTER EXTENSION', 'CREATE INDEX')
    EXECUTE FUNCTION postgres_test_replay.on_event();
CREATE EVENT TRIGGER "!postgres_test_replay_rewrite" ON table_rewrite
    EXECUTE FUNCTION postgres_test_replay.on_event();
CREATE EVENT TRIGGER "!postgres_test_replay_drop" ON sql_drop
    EXECUTE FUNCTION postgres_test_replay.on_event();
CREATE EVENT TRIGGER "!postgres_test_replay_end" ON ddl_command_end
    EXECUTE FUNCTION postgres_test_replay.on_event();
CREATE EVENT TRIGGER "!postgres_test_replay_alter" ON ddl_command_start
    WHEN TAG IN ('ALTER TABLE')
    EXECUTE FUNCTION postgres_test_replay.on_alter();
ALTER EVENT TRIGGER "!postgres_test_replay_alter" ENABLE ALWAYS;
ALTER EVENT TRIGGER "!postgres_test_replay_start" ENABLE ALWAYS;
ALTER EVENT TRIGGER "!postgres_test_replay_rewrite" ENABLE ALWAYS;
ALTER EVENT TRIGGER "!postgres_test_replay_drop" ENABLE ALWAYS;
ALTER EVENT TRIGGER "!postgres_test_replay_end" ENABLE ALWAYS;
