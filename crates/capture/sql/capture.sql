-- What our event triggers call. The outer function runs as whoever issued the DDL and under their settings, so
-- it names everything in full, calls nothing but functions of pg_catalog and ours, and uses no operator: a
-- search_path must not lead it to anybody's code. The inner one runs as our owner under settings of ours.
--
-- Nothing here fires an event, so there is no recursion to guard against. The two ways in which a user's
-- statement could fail because of us are caught: building the message, in a subtransaction that takes no XID
-- because it only reads, and whatever is written beside messages and the identity of new tables, in one that is
-- rarely entered.

CREATE FUNCTION postgres_test_replay.capture(event text, tag text, caller name, path text, settings json)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lc_messages = 'C'
SET DateStyle = 'ISO'
SET IntervalStyle = 'postgres'
SET TimeZone = 'UTC'
SET extra_float_digits = '3'
SET bytea_output = 'hex'
SET lc_monetary = 'C'
SET xmloption = 'content'
SET quote_all_identifiers = 'off'
-- The text of these functions is parsed when it first runs, and the patterns in it hold backslashes.
SET standard_conforming_strings = 'on'
-- Without it each statement is planned again each time, for the sake of the array that it is about.
SET plan_cache_mode = 'force_generic_plan'
AS $$
DECLARE
    context text;
    frame text;
    content bytea;
    touched oid[] := '{}';
    changed oid[] := '{}';
    fresh oid[];
    listed oid[];
    one oid;
BEGIN
    GET DIAGNOSTICS context = PG_CONTEXT;
    -- Only an event trigger can run on_event(), and only a function of that very name in our schema has this
    -- frame: an assignment of a simple expression adds no frame with text that a caller could choose.
    frame := split_part(context, E'\n', 2);
    IF frame ~ '^PL/pgSQL function on_event\(\) line [0-9]+ at assignment$' THEN
        -- With our schema in search_path the frame has no schema, and a function of anybody's can look so.
        PERFORM postgres_test_replay.send_gap(
            'search_path names the schema postgres_test_replay; take it out and run the DDL again', '42501');
        RETURN false;
    ELSIF frame !~ '^PL/pgSQL function postgres_test_replay\.on_event\(\) line [0-9]+ at assignment$' THEN
        RAISE EXCEPTION 'postgres_test_replay.capture is called by event triggers only'
            USING ERRCODE = 'insufficient_privilege';
    END IF;

    BEGIN
        SELECT m.message, m.relations, m.rewritten INTO content, touched, changed
          FROM postgres_test_replay.message(event, tag, caller, path, settings, context) m;
        IF event = 'ddl_command_end'
           AND tag IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE SCHEMA', 'CREATE EXTENSION') THEN
            SELECT array_agg(u.relation) INTO fresh FROM postgres_test_replay.unsettled(touched) u WHERE u.identity = 'f';
        END IF;
    EXCEPTION WHEN OTHERS THEN
        PERFORM postgres_test_replay.send_gap(format('%s of %s could not be described: %s', event, tag, SQLERRM), SQLSTATE);
    END;
    IF content IS NOT NULL THEN
        PERFORM postgres_test_replay.send(content);
    END IF;
    IF event = 'sql_drop' AND touched <> '{}' THEN
        PERFORM postgres_test_replay.spare(touched, false);
    END IF;
    IF event <> 'ddl_command_end' THEN
        RETURN true;
    END IF;

    IF fresh IS NOT NULL THEN
        -- Tables that nobody else can see yet: nothing can conflict, and a subtransaction for each would take
        -- an XID for each. By UPDATE of the catalog, because ALTER TABLE would fire events.
        UPDATE pg_class SET relreplident = 'f' WHERE oid = ANY (fresh);
    ELSIF tag IN ('ALTER TABLE', 'ALTER TYPE', 'CREATE PUBLICATION', 'ALTER PUBLICATION', 'DROP PUBLICATION',
                  'ALTER EXTENSION') THEN
        BEGIN
            IF tag = 'ALTER TABLE' AND concat(current_query(), context) ~* 'replica\s+identity'
               AND NOT postgres_test_replay.is_ours() THEN
                PERFORM postgres_test_replay.remember_identity(touched);
            END IF;
            IF tag LIKE '% PUBLICATION' THEN
                touched := NULL;
            END IF;
            IF EXISTS (SELECT FROM postgres_test_replay.unsettled(touched)) THEN
                PERFORM postgres_test_replay.settle(touched);
            END IF;
        EXCEPTION WHEN OTHERS THEN
            NULL;  -- The identity stays as the user has it; doctor lists it, and undo takes a keyframe.
        END;
    END IF;

    IF tag IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE SCHEMA', 'ALTER TABLE', 'CREATE EXTENSION') THEN
        listed := postgres_test_replay.spare(touched, tag NOT LIKE 'ALTER %');
        -- The rows of CREATE TABLE AS came before its table was on the list.
        IF tag NOT IN ('CREATE TABLE', 'CREATE SCHEMA', 'CREATE EXTENSION') THEN
            changed := ARRAY(SELECT unnest(changed) UNION SELECT unnest(listed));
        END IF;
    END IF;

    FOREACH one IN ARRAY coalesce(changed, '{}') LOOP
        IF one = ANY (touched) THEN
            BEGIN
                PERFORM postgres_test_replay.send_rows(one);
            EXCEPTION WHEN OTHERS THEN
                PERFORM postgres_test_replay.send_gap(
                    format('the rows of %s after its rewrite or refresh could not be read: %s', one::regclass, SQLERRM),
                    SQLSTATE);
            END;
        END IF;
    END LOOP;
    RETURN true;
END $$;

CREATE FUNCTION postgres_test_replay.on_event() RETURNS event_trigger
LANGUAGE plpgsql AS $$
DECLARE
    captured boolean;
BEGIN
    captured := postgres_test_replay.capture(TG_EVENT, TG_TAG, current_user, pg_catalog.current_setting('search_path'),
        pg_catalog.json_strip_nulls(pg_catalog.json_build_object(
            'DateStyle', pg_catalog.current_setting('DateStyle'),
            'IntervalStyle', pg_catalog.current_setting('IntervalStyle'),
            'TimeZone', pg_catalog.current_setting('TimeZone'),
            'default_tablespace', pg_catalog.current_setting('default_tablespace'),
            'default_table_access_method', pg_catalog.current_setting('default_table_access_method'),
            'default_toast_compression', pg_catalog.current_setting('default_toast_compression', true),
            'standard_conforming_strings', pg_catalog.current_setting('standard_conforming_strings', true),
            'backslash_quote', pg_catalog.current_setting('backslash_quote'),
            'transform_null_equals', pg_catalog.current_setting('transform_null_equals'),
            'xmloption', pg_catalog.current_setting('xmloption'),
            'array_nulls', pg_catalog.current_setting('array_nulls'),
            'default_text_search_config', pg_catalog.current_setting('default_text_search_config'),
            'allow_in_place_tablespaces', pg_catalog.current_setting('allow_in_place_tablespaces', true),
            'lc_monetary', pg_catalog.current_setting('lc_monetary'),
            'extra_float_digits', pg_catalog.current_setting('extra_float_digits'),
            'bytea_output', pg_catalog.current_setting('bytea_output'),
            'check_function_bodies', pg_catalog.current_setting('check_function_bodies'),
            'session_replication_role', pg_catalog.current_setting('session_replication_role'))));
END $$;
-- Nobody needs the right to run it: the server does not ask for it when an event fires, only when somebody
-- makes an event trigger of their own with it.
REVOKE ALL ON FUNCTION postgres_test_replay.on_event() FROM PUBLIC;
