-- Our schema on the primary. Who may do what in it is in sql/rights.sql.
CREATE SCHEMA postgres_test_replay;
COMMENT ON SCHEMA postgres_test_replay IS
    'Captures schema changes for postgres-test-replay; removed by: postgres-test-replay teardown';

-- One row. Written before the slot exists and never changed while it does, so that the secret is never in
-- the stream.
CREATE TABLE postgres_test_replay.configuration (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    -- Signs our messages: whoever can call pg_logical_emit_message can imitate all but this.
    secret text NOT NULL,
    -- Whether new tables get REPLICA IDENTITY FULL.
    replica_identity boolean NOT NULL,
    -- schema.table, unquoted: tables whose identity is left alone.
    excluded text[] NOT NULL,
    -- Our publication.
    publication name NOT NULL
);

-- Which replica identity the user wants for a table that we set to FULL, where it is not the default.
-- Unlogged, and therefore in no publication; a crash empties it, and then the record that set-up keeps in its
-- own folder is what teardown goes by.
CREATE UNLOGGED TABLE postgres_test_replay.wanted_identity (
    relation oid PRIMARY KEY,
    identity "char" NOT NULL,
    index_name name
);
