-- A message as it goes into the stream: 64 hex digits, a colon, JSON in UTF-8. The digits are sha256 over
-- secret:xid:json, so that neither other roles nor a copy of an old message can pass for it.
CREATE OR REPLACE FUNCTION postgres_test_replay.seal(content json) RETURNS bytea
LANGUAGE plpgsql AS $$
DECLARE
    key text;
    body bytea := convert_to(content::text, 'UTF8');
BEGIN
    SELECT secret INTO STRICT key FROM postgres_test_replay.configuration;
    -- A WAL record holds less than 1 GB, and the decoder needs the message in one piece.
    IF octet_length(body) > 256 * 1024 * 1024 THEN
        RAISE EXCEPTION 'the message would be % bytes long', octet_length(body) USING ERRCODE = '54000';
    END IF;
    RETURN convert_to(encode(sha256(
            convert_to(key || ':' || pg_current_xact_id()::xid::text || ':', 'UTF8') || body), 'hex') || ':', 'UTF8')
        || body;
END $$;

-- Sends a message, and after it an empty one. pgoutput orders a message by the end of its WAL record, a row by
-- the beginning of its own. Where the two lie in different subtransactions and the one record follows the other,
-- both have the same LSN and come in any order: a row could come before the table that it is in. The empty message
-- keeps them apart. Whoever reads the stream drops it; were it to come late itself, nothing depends on it.
CREATE OR REPLACE FUNCTION postgres_test_replay.send(content bytea) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_logical_emit_message(true, 'postgres_test_replay', content);
    PERFORM pg_logical_emit_message(true, 'postgres_test_replay', '');
END $$;

-- A message that says that something is missing at its place.
CREATE OR REPLACE FUNCTION postgres_test_replay.gap(cause text, state text) RETURNS bytea
LANGUAGE plpgsql AS $$
BEGIN
    RETURN postgres_test_replay.seal(json_build_object(
        'v', 1, 'event', 'gap', 'reason', cause, 'statement', left(current_query(), 10000), 'sqlstate', state));
END $$;

-- Says in the stream that something is missing at this place. Swallows its own failure: what is left then is
-- the fingerprint of the catalog that checkpoints compare.
CREATE OR REPLACE FUNCTION postgres_test_replay.send_gap(cause text, state text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM postgres_test_replay.send(postgres_test_replay.gap(cause, state));
EXCEPTION WHEN OTHERS THEN
    -- Its own words may be what cannot be sent: bytes that are no text in UTF-8.
    PERFORM postgres_test_replay.send_wordless_gap(NULL, state);
END $$;

-- The same without a word of anybody's.
CREATE OR REPLACE FUNCTION postgres_test_replay.send_wordless_gap(target text, state text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM postgres_test_replay.send(postgres_test_replay.seal(json_strip_nulls(json_build_object(
        'v', 1, 'event', 'gap', 'relation', target,
        'reason', 'something that was done here could not be described, nor its words be sent', 'sqlstate', state))));
EXCEPTION WHEN OTHERS THEN
    NULL;
END $$;

-- Says so of the rows of one table, for which replay offers to take them from the primary.
CREATE OR REPLACE FUNCTION postgres_test_replay.send_missed_rows(target text, cause text, state text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM postgres_test_replay.send(postgres_test_replay.seal(json_build_object(
        'v', 1, 'event', 'gap', 'relation', target, 'reason', cause, 'statement', left(current_query(), 10000),
        'sqlstate', state)));
EXCEPTION WHEN OTHERS THEN
    -- The rewrite itself was said, and replay stops where its rows do not follow.
    PERFORM postgres_test_replay.send_wordless_gap(target, state);
END $$;

-- Whether this session is our own set-up or doctor, whose DDL is no event of the user's. The proof depends on
-- the secret and the process, so that nobody else can make the triggers look away.
CREATE OR REPLACE FUNCTION postgres_test_replay.is_ours() RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
DECLARE
    proof text := coalesce(current_setting('postgres_test_replay.ours', true), '');
BEGIN
    IF proof = '' THEN
        RETURN false;
    END IF;
    RETURN proof = (
        SELECT encode(sha256(convert_to(f.secret || ':ours:' || pg_backend_pid(), 'UTF8')), 'hex')
          FROM postgres_test_replay.configuration f);
END $$;

-- Whether the string that the client sent matches a pattern. What is long is looked through once a transaction, and
-- the answer is remembered in a setting, because each statement of a script is about the whole of it. Whoever changes
-- that setting misleads us about nothing but the replica identity or the list that their own statement needs.
CREATE OR REPLACE FUNCTION postgres_test_replay.query_says(what text, pattern text) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    sent text := current_query();
    setting text := concat('postgres_test_replay.says_', what);
    string text;
    remembered text;
    answer boolean;
BEGIN
    IF octet_length(sent) < 10000 THEN
        RETURN sent ~* pattern;
    END IF;
    string := concat(extract(epoch FROM statement_timestamp()), ':', octet_length(sent), ':');
    remembered := current_setting(setting, true);
    IF starts_with(remembered, string) THEN
        RETURN remembered = string || 't';
    END IF;
    answer := sent ~* pattern;
    PERFORM set_config(setting, concat(string, answer), true);
    RETURN answer;
END $$;

-- Whether what asks, whose PG_CONTEXT this is, was called by a function of our schema, and by an assignment of it. Only a
-- function of that very name in our schema has this frame, as the session wrote it when it first ran; an assignment of a
-- simple expression adds no frame with text that a caller could choose. A pattern of LIKE takes a hundredth of the time.
CREATE OR REPLACE FUNCTION postgres_test_replay.is_called_by(called text, context text) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    frame text := split_part(context, E'\n', 2);
BEGIN
    RETURN frame LIKE concat('PL/pgSQL function postgres\_test\_replay.', called, '() line % at assignment')
        OR frame LIKE concat('PL/pgSQL function "postgres\_test\_replay"."', called, '"() line % at assignment');
END $$;
