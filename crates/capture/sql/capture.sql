-- What our event triggers call. The outer function runs as whoever issued the DDL and under their settings, so
-- it names everything in full, calls nothing but functions of pg_catalog and ours, and no operator of another schema:
-- a search_path must not lead it to anybody's code. The inner one runs as our owner under settings of ours.
--
-- Nothing here fires an event, so there is no recursion to guard against. Whoever calls without being one of our event
-- triggers gets nothing, and no error, because that may be the user's DDL after all. The two ways in which a user's
-- statement could fail because of us are caught: building the message, in a subtransaction that takes no XID
-- because it only reads, and whatever is written beside messages and the identity of new tables, in one that is
-- rarely entered.

-- All that is looked up for an event: its message, and what has to be written beside it. Writes nothing.
CREATE OR REPLACE FUNCTION postgres_test_replay.look(
    event text, tag text, caller name, path text, settings text[], context text,
    OUT message bytea, OUT relations oid[], OUT rewritten oid[], OUT names_identity boolean,
    -- Of tables that were just made, those that get FULL.
    OUT fresh oid[],
    -- Whether identities of others may have to be set.
    OUT is_unsettled boolean,
    -- Whether the list of published tables may have to be kept.
    OUT is_harmed boolean)
LANGUAGE plpgsql AS $$
DECLARE
    described record := postgres_test_replay.message(event, tag, caller, path, settings, context);
BEGIN
    message := described.message;
    relations := described.relations;
    rewritten := described.rewritten;
    names_identity := described.names_identity;
    fresh := '{}';
    is_unsettled := false;
    is_harmed := false;
    IF event = 'sql_drop' THEN
        is_harmed := relations <> '{}' AND postgres_test_replay.would_harm(relations, fresh, false);
    ELSIF event <> 'ddl_command_end' THEN
        NULL;
    ELSIF tag IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE SCHEMA', 'CREATE EXTENSION') THEN
        fresh := postgres_test_replay.to_settle(relations);
        is_harmed := postgres_test_replay.would_harm(relations, fresh, true);
    ELSIF tag LIKE '% PUBLICATION' THEN
        is_unsettled := true;
    ELSIF tag IN ('ALTER TABLE', 'ALTER TYPE', 'ALTER EXTENSION') THEN
        is_unsettled := names_identity OR EXISTS (SELECT FROM postgres_test_replay.unsettled(relations));
        is_harmed := tag = 'ALTER TABLE'
            AND (is_unsettled OR postgres_test_replay.would_harm(relations, fresh, false));
    END IF;
END $$;

CREATE OR REPLACE FUNCTION postgres_test_replay.capture(event text, tag text, caller name, path text, settings text[])
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lc_messages = 'C'
SET quote_all_identifiers = 'off'
-- The text of these functions is parsed when it first runs, and the patterns in it hold backslashes.
SET standard_conforming_strings = 'on'
-- Without it each statement is planned again each time, for the sake of the array that it is about.
SET plan_cache_mode = 'force_generic_plan'
AS $$
DECLARE
    context text;
    seen record;
    content bytea;
    touched oid[];
    changed oid[];
    listed oid[];
    one oid;
BEGIN
    GET DIAGNOSTICS context = PG_CONTEXT;
    -- Only an event trigger can run on_event().
    IF NOT postgres_test_replay.is_called_by('on\_event', context) THEN
        RETURN NULL;
    END IF;

    -- The server ends a subtransaction with a walk through all files and relations that the transaction made and
    -- dropped, so that thousands of statements in one transaction pay for each other. Without it an error of ours, whatever
    -- it is, would be the user's.
    BEGIN
        seen := postgres_test_replay.look(event, tag, caller, path, settings, context);
    EXCEPTION WHEN OTHERS THEN
        PERFORM postgres_test_replay.send_gap(format('%s of %s could not be described: %s', event, tag, SQLERRM), SQLSTATE);
        IF event = 'ddl_command_end' THEN
            PERFORM postgres_test_replay.settle_all();
            PERFORM postgres_test_replay.put_back();
        END IF;
        RETURN true;
    END;
    content := seen.message;
    touched := seen.relations;
    changed := seen.rewritten;
    IF content IS NOT NULL THEN
        PERFORM postgres_test_replay.send(content);
    END IF;
    IF event = 'sql_drop' AND seen.is_harmed THEN
        PERFORM postgres_test_replay.spare(touched, false);
    END IF;
    IF event <> 'ddl_command_end' THEN
        RETURN true;
    END IF;

    IF seen.fresh <> '{}' THEN
        -- Tables that nobody else can see yet: nothing can conflict, and a subtransaction for each would take
        -- an XID for each. By UPDATE of the catalog, because ALTER TABLE would fire events.
        UPDATE pg_class SET relreplident = 'f' WHERE oid = ANY (seen.fresh);
    ELSIF seen.is_unsettled THEN
        BEGIN
            IF seen.names_identity AND NOT postgres_test_replay.is_ours() THEN
                PERFORM postgres_test_replay.remember_identity(touched, context);
            END IF;
            PERFORM postgres_test_replay.settle(CASE WHEN tag NOT LIKE '% PUBLICATION' THEN touched END);
        EXCEPTION WHEN OTHERS THEN
            NULL;  -- The identity stays as the user has it; doctor lists it, and undo takes a keyframe.
        END;
    END IF;

    IF tag = 'ALTER TABLE' THEN
        PERFORM postgres_test_replay.put_back();
    END IF;
    IF seen.is_harmed THEN
        listed := postgres_test_replay.spare(touched, tag <> 'ALTER TABLE');
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
                PERFORM postgres_test_replay.send_missed_rows(
                    (SELECT format('%I.%I', n.nspname, c.relname)
                       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = one),
                    format('the rows of %s after its rewrite or refresh could not be read: %s', one::regclass, SQLERRM),
                    SQLSTATE);
            END;
        END IF;
    END LOOP;
    RETURN true;
END $$;

-- Whether our owner may still do what `capture` does, which only a superuser may: where a superuser owned us when we were
-- made and is none any more, calling it would be the user's error.
CREATE OR REPLACE FUNCTION postgres_test_replay.has_rights() RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    RETURN pg_catalog.has_table_privilege('pg_catalog.pg_class', 'UPDATE');
END $$;

-- Says that the user's statement goes on and is not captured: where `capture` cannot be called, or no call of it was
-- believed. Anybody can call it, as anybody can make it say so. Sets nothing that only a superuser may.
CREATE OR REPLACE FUNCTION postgres_test_replay.uncaptured(event text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = 'off'
SET standard_conforming_strings = 'on'
AS $$
DECLARE
    context text;
BEGIN
    GET DIAGNOSTICS context = PG_CONTEXT;
    PERFORM postgres_test_replay.send_gap(
        CASE WHEN NOT postgres_test_replay.has_rights()
             THEN format('role %I, which owns our event triggers'' functions, is no superuser any more; make it one again, '
                         'or run teardown, then up', current_user)
             -- With our schema in search_path the frame has no schema, and a function of anybody's can look so.
             WHEN strpos(split_part(context, E'\n', 2), 'postgres_test_replay') = 0
             THEN 'search_path named the schema postgres_test_replay when the session first changed the schema; take it out, '
                  'and begin a new session'
             ELSE 'errors broke off the capture of several statements of this transaction; it goes on in the next one' END,
        '42501');
    -- Before its end a table that becomes UNLOGGED is not yet.
    IF event = 'ddl_command_end' THEN
        PERFORM postgres_test_replay.put_back();
    END IF;
    RETURN false;
END $$;

-- The names of the settings are in sql/message.sql, in this order.
CREATE OR REPLACE FUNCTION postgres_test_replay.on_event() RETURNS event_trigger
LANGUAGE plpgsql AS $$
DECLARE
    settings text[];
    captured boolean;
BEGIN
    -- Only CONCURRENTLY needs the start, and that only at the beginning of a transaction.
    IF TG_TAG OPERATOR(pg_catalog.=) 'CREATE INDEX' AND TG_EVENT OPERATOR(pg_catalog.=) 'ddl_command_start' THEN
        IF pg_catalog.pg_current_xact_id_if_assigned() IS NOT NULL THEN
            RETURN;
        ELSIF pg_catalog.current_query() OPERATOR(pg_catalog.!~*) 'concurrently' THEN
            RETURN;
        END IF;
    END IF;
    captured := postgres_test_replay.has_rights();
    IF NOT captured THEN
        captured := postgres_test_replay.uncaptured(TG_EVENT);
        RETURN;
    END IF;
    settings := ARRAY[
        pg_catalog.current_setting('DateStyle'),
        pg_catalog.current_setting('IntervalStyle'),
        pg_catalog.current_setting('TimeZone'),
        pg_catalog.current_setting('default_tablespace'),
        pg_catalog.current_setting('default_table_access_method'),
        pg_catalog.current_setting('default_toast_compression', true),
        pg_catalog.current_setting('standard_conforming_strings', true),
        pg_catalog.current_setting('backslash_quote'),
        pg_catalog.current_setting('transform_null_equals'),
        pg_catalog.current_setting('xmloption'),
        pg_catalog.current_setting('array_nulls'),
        pg_catalog.current_setting('default_text_search_config'),
        pg_catalog.current_setting('allow_in_place_tablespaces', true),
        pg_catalog.current_setting('lc_monetary'),
        pg_catalog.current_setting('extra_float_digits'),
        pg_catalog.current_setting('bytea_output'),
        pg_catalog.current_setting('check_function_bodies'),
        pg_catalog.current_setting('session_replication_role')];
    captured := postgres_test_replay.capture(TG_EVENT, TG_TAG, current_user, pg_catalog.current_setting('search_path'), settings);
    -- What an error left in the midst of its work (a cancel, a timeout) is no simple expression any more until the
    -- transaction ends, and not believed; the next one is.
    IF captured IS NULL THEN
        captured := postgres_test_replay.capture(TG_EVENT, TG_TAG, current_user, pg_catalog.current_setting('search_path'), settings);
    END IF;
    IF captured IS NULL THEN
        captured := postgres_test_replay.capture(TG_EVENT, TG_TAG, current_user, pg_catalog.current_setting('search_path'), settings);
    END IF;
    IF captured IS NULL THEN
        captured := postgres_test_replay.uncaptured(TG_EVENT);
    END IF;
END $$;
