-- Builds the message of one event. `message` is NULL where nothing is to be said. `relations` are those that the
-- event is about, `rewritten` those whose rows have to be sent; `names_identity` is whether the text that may have
-- caused it speaks of a replica identity. A value that is null says nothing (`ddl/event.rs`), so that no null is
-- taken out: reading the whole again would cost as much as making it. Each look-up is by index, or is not done.
CREATE OR REPLACE FUNCTION postgres_test_replay.message(
    event text, tag text, caller name, path text, settings text[], context text,
    OUT message bytea, OUT relations oid[], OUT rewritten oid[], OUT names_identity boolean)
LANGUAGE plpgsql AS $$
DECLARE
    counted text := current_setting('postgres_test_replay.n', true);
    number integer := CASE WHEN counted ~ '^[0-9]{1,9}$' THEN counted::integer ELSE 0 END + 1;
    pending text := coalesce(current_setting('postgres_test_replay.rewrites', true), '');
    found_objects json;
    found_dropped json;
    found_rewrites json;
    in_script boolean;
    drops_index boolean;
    is_detached boolean;
    indexes_made bigint;
    told record;
    sent record;
BEGIN
    relations := '{}';
    rewritten := '{}';
    names_identity := false;
    IF event = 'ddl_command_end' AND tag LIKE 'DROP %' THEN
        NULL;  -- What drops lists nothing here.
    ELSIF event = 'ddl_command_end' THEN
        SELECT json_agg(json_build_object('type', o.object_type, 'schema', o.schema_name,
                   'identity', o.object_identity, 'oid', o.objid::bigint, 'in_extension', o.in_extension)),
               coalesce(array_agg(o.objid) FILTER (WHERE o.classid = 'pg_class'::regclass), '{}'),
               coalesce(bool_and(o.in_extension), false),
               count(*) FILTER (WHERE o.object_type = 'index')
          INTO found_objects, relations, in_script, indexes_made
          FROM pg_event_trigger_ddl_commands() o;
        relations := postgres_test_replay.reach(relations, tag);
        -- An extension's script is run again by CREATE EXTENSION, whatever it rewrote.
        IF in_script AND tag NOT IN ('CREATE EXTENSION', 'ALTER EXTENSION') THEN
            PERFORM set_config('postgres_test_replay.rewrites', '', true) WHERE pending <> '';
            RETURN;
        END IF;
        -- A statement that made and changed nothing (IF NOT EXISTS) is not said; but ALTER PUBLICATION ... DROP TABLE lists
        -- nothing either, and of statements that were sent together one may stand before another that fits what the
        -- other did as well: that it came to nothing keeps them apart.
        IF found_objects IS NULL AND tag <> 'ALTER PUBLICATION'
           AND NOT ((tag LIKE 'ALTER %' OR tag = 'CREATE INDEX')
                    AND postgres_test_replay.query_says('several', ';\s*[^\s;]')) THEN
            RETURN;
        END IF;
        -- No replica has our publication, and who adds whole tables to it does what doctor says. Whatever else is done to
        -- it may leave changes out, and stops replay.
        IF tag = 'ALTER PUBLICATION' AND found_objects IS NOT NULL AND NOT EXISTS (
                SELECT FROM pg_event_trigger_ddl_commands() o
                 WHERE o.classid <> 'pg_publication_rel'::regclass OR NOT EXISTS (
                       SELECT FROM pg_publication_rel r, pg_publication p, postgres_test_replay.configuration f
                        WHERE r.oid = o.objid AND p.oid = r.prpubid AND p.pubname = f.publication
                          AND coalesce(to_jsonb(r) ->> 'prqual', to_jsonb(r) ->> 'prattrs') IS NULL)) THEN
            RETURN;
        END IF;
        IF pending ~ '^[0-9]+:[0-9]+(,[0-9]+:[0-9]+)*$' AND tag LIKE 'ALTER %' THEN
            SELECT array_agg(p.relation) FILTER (WHERE p.reason <> 8),
                   json_agg(json_build_array(format('%I.%I', n.nspname, c.relname), p.reason))
              INTO rewritten, found_rewrites
              FROM (SELECT split_part(item, ':', 1)::oid AS relation, bit_or(split_part(item, ':', 2)::integer) AS reason
                      FROM unnest(string_to_array(pending, ',')) AS item GROUP BY 1) p
              JOIN pg_class c ON c.oid = p.relation
              JOIN pg_namespace n ON n.oid = c.relnamespace;
            PERFORM set_config('postgres_test_replay.rewrites', '', true);
        ELSIF tag IN ('CREATE MATERIALIZED VIEW', 'REFRESH MATERIALIZED VIEW') THEN
            -- Logical decoding leaves a materialised view's rows out.
            rewritten := ARRAY(SELECT c.oid FROM pg_class c
                                WHERE c.oid = ANY (relations) AND c.relkind = 'm' AND c.relispopulated);
        END IF;
    ELSIF event = 'sql_drop' THEN
        -- The relations are tables that may have lost their key.
        SELECT json_agg(json_build_object('type', d.object_type, 'identity', d.object_identity,
                                          'is_temporary', d.is_temporary)) FILTER (WHERE d.original),
               coalesce(array_agg(to_regclass(format('%I.%I', d.address_names[1], d.address_names[2]))::oid)
                        FILTER (WHERE d.object_type = 'table constraint'), '{}'),
               coalesce(bool_or(d.original AND d.object_type = 'index'), false)
          INTO found_dropped, relations, drops_index
          FROM pg_event_trigger_dropped_objects() d;
        relations := array_remove(relations, NULL);
        IF drops_index THEN
            relations := relations || ARRAY(SELECT c.oid FROM pg_class c WHERE c.relreplident = 'i');
        END IF;
    ELSIF event = 'table_rewrite' THEN
        SELECT json_build_array(json_build_array(format('%I.%I', n.nspname, c.relname),
                                                 pg_event_trigger_table_rewrite_reason()))
          INTO found_rewrites
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.oid = pg_event_trigger_table_rewrite_oid();
        -- The rows can be read only when the statement is done; its end event does.
        PERFORM set_config('postgres_test_replay.rewrites', concat_ws(',', nullif(pending, ''),
            pg_event_trigger_table_rewrite_oid()::text || ':' || pg_event_trigger_table_rewrite_reason()), true);
    END IF;
    IF postgres_test_replay.is_ours() THEN
        RETURN;
    END IF;

    PERFORM set_config('postgres_test_replay.n', number::text, true);
    sent := postgres_test_replay.query_carrier(number);
    names_identity := event = 'ddl_command_end' AND tag = 'ALTER TABLE'
        AND (context ~* 'replica\s+identity' OR postgres_test_replay.query_says('identity', 'replica\s+identity'));
    -- The statements of an SQL function are not in the context.
    is_detached := event = 'ddl_command_end' AND tag = 'ALTER TABLE' AND (context ~* 'detach\s|SQL function "'
        OR postgres_test_replay.query_says('detach', 'detach\s'));
    IF event = 'ddl_command_end' AND tag = 'CREATE INDEX' THEN
        message := postgres_test_replay.invalid_part(relations);
        IF message IS NOT NULL THEN
            RETURN;
        END IF;
    END IF;
    told := postgres_test_replay.describe_values(CASE event WHEN 'ddl_command_end' THEN tag ELSE '' END, relations,
                                                 indexes_made, is_detached);
    IF told.failure IS NOT NULL THEN
        message := postgres_test_replay.gap(
            format('%s of %s could not be described: %s', event, tag, told.failure), told.state);
        RETURN;
    END IF;
    message := postgres_test_replay.seal(json_build_object(
        'v', 1, 'event', event, 'tag', tag, 'n', number,
        'query', CASE WHEN sent.carrier IS NULL THEN coalesce(current_query(), '') END, 'query_of', sent.carrier,
        'continues', sent.continues,
        'context', context,
        'session_user', session_user, 'current_user', caller, 'search_path', path,
        'superuser', CASE WHEN event = 'ddl_command_end'
                          THEN (SELECT nullif(r.rolsuper, false) FROM pg_authid r WHERE r.rolname = caller) END,
        'statement_time', extract(epoch FROM statement_timestamp())::text, 'pid', pg_backend_pid(),
        'settings', json_object(ARRAY['DateStyle', 'IntervalStyle', 'TimeZone', 'default_tablespace',
            'default_table_access_method', 'default_toast_compression', 'standard_conforming_strings',
            'backslash_quote', 'transform_null_equals', 'xmloption', 'array_nulls', 'default_text_search_config',
            'allow_in_place_tablespaces', 'lc_monetary', 'extra_float_digits', 'bytea_output',
            'check_function_bodies', 'session_replication_role'], settings),
        'objects', found_objects, 'dropped', found_dropped, 'rewrites', found_rewrites,
        'missing', told.missing, 'bounds', told.bounds, 'indexes', told.indexes, 'checks', told.checks,
        'table_as', CASE WHEN event = 'ddl_command_end'
                          AND tag IN ('CREATE TABLE AS', 'SELECT INTO', 'CREATE MATERIALIZED VIEW',
                                      'REFRESH MATERIALIZED VIEW', 'IMPORT FOREIGN SCHEMA')
                         THEN json_strip_nulls(postgres_test_replay.describe_table_as(relations)) END,
        'owners', CASE WHEN event = 'ddl_command_end' AND tag = 'DROP OWNED'
                       THEN postgres_test_replay.describe_owners() END,
        'functions', CASE WHEN strpos(context, 'SQL function "') > 0
                          THEN postgres_test_replay.describe_functions(context) END,
        'tablespaces', CASE WHEN number = 1 THEN postgres_test_replay.describe_tablespaces() END,
        'roles', CASE WHEN number = 1 THEN postgres_test_replay.unsent_roles() END));
END $$;
