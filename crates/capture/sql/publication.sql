-- The publication is of all tables, until there is a table that it would harm: one without a key that cannot have
-- REPLICA IDENTITY FULL either, on which UPDATE and DELETE fail (55000) as long as it is published. No publication
-- can leave a table out of all tables before PostgreSQL 19, so ours then becomes a list of tables that is kept here.
-- By writing to the catalogs, because ALTER PUBLICATION cannot do it and would fire events within the user's
-- statement. A relation that the catalog's row changes for is looked up anew by every session and by the walsender.

-- Those of `candidates` that UPDATE and DELETE would fail on.
CREATE OR REPLACE FUNCTION postgres_test_replay.breaking(candidates oid[]) RETURNS oid[]
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN ARRAY(
        SELECT c.oid
          FROM pg_class c
         WHERE c.oid = ANY (candidates) AND c.relkind = 'r' AND c.relpersistence = 'p' AND c.oid >= 16384
           AND CASE c.relreplident
                   -- Where the user set it, and we leave identities alone.
                   WHEN 'f' THEN EXISTS (SELECT FROM pg_attribute a
                                          WHERE a.attrelid = c.oid AND a.attgenerated = 'v' AND NOT a.attisdropped)
                   ELSE NOT EXISTS (SELECT FROM pg_index i
                                     WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate AND i.indisvalid
                                       AND (c.relreplident = 'd' AND i.indisprimary
                                            OR c.relreplident = 'i' AND i.indisreplident))
               END);
END $$;

-- Whether the publication is a list already.
CREATE OR REPLACE FUNCTION postgres_test_replay.is_listed() RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN EXISTS (SELECT FROM pg_publication p, postgres_test_replay.configuration f
                    WHERE p.pubname = f.publication AND NOT p.puballtables);
END $$;

-- Puts tables on the list that belong there and are not on it, and answers which; NULL means of all tables.
-- Partitioned tables do not: with them each partition would be published, also one that must not be.
CREATE OR REPLACE FUNCTION postgres_test_replay.list_tables(candidates oid[]) RETURNS oid[]
LANGUAGE plpgsql AS $$
DECLARE
    publication oid;
    added oid[] := '{}';
    one oid;
BEGIN
    SELECT p.oid INTO STRICT publication
      FROM pg_publication p, postgres_test_replay.configuration f WHERE p.pubname = f.publication;
    IF candidates IS NULL THEN
        candidates := ARRAY(SELECT c.oid FROM pg_class c WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND c.oid >= 16384);
    END IF;
    -- One table after another, each looked up by index, however many there are.
    FOREACH one IN ARRAY candidates LOOP
        -- A table with foreign keys is listed twice as what its CREATE TABLE made.
        CONTINUE WHEN one = ANY (added);
        PERFORM FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.oid = one AND c.relkind = 'r' AND c.relpersistence = 'p' AND c.oid >= 16384
           AND n.nspname <> 'postgres_test_replay' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema';
        CONTINUE WHEN NOT FOUND;
        PERFORM FROM pg_publication_rel r WHERE r.prrelid = one AND r.prpubid = publication;
        CONTINUE WHEN FOUND OR postgres_test_replay.breaking(ARRAY[one]) <> '{}';
        added := added || one;
    END LOOP;
    WITH entry AS (
        INSERT INTO pg_publication_rel (oid, prpubid, prrelid)
        SELECT pg_nextoid('pg_publication_rel', 'oid', 'pg_publication_rel_oid_index'), publication, fresh
          FROM unnest(added) AS fresh
        RETURNING oid, prrelid)
    -- As publication_add_relation() does it: the entry goes with the publication and with the table.
    INSERT INTO pg_depend (classid, objid, objsubid, refclassid, refobjid, refobjsubid, deptype)
    SELECT 'pg_publication_rel'::regclass, e.oid, 0, r.class, r.object, 0, 'a'
      FROM entry e, LATERAL (VALUES ('pg_publication'::regclass, publication),
                                    ('pg_class'::regclass, e.prrelid)) AS r (class, object);
    RETURN added;
END $$;

-- Takes tables from the list; NULL means all.
CREATE OR REPLACE FUNCTION postgres_test_replay.unlist_tables(candidates oid[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    entries oid[];
BEGIN
    entries := ARRAY(
        SELECT r.oid FROM pg_publication_rel r, pg_publication p, postgres_test_replay.configuration f
         WHERE p.pubname = f.publication AND r.prpubid = p.oid AND (candidates IS NULL OR r.prrelid = ANY (candidates)));
    DELETE FROM pg_depend WHERE classid = 'pg_publication_rel'::regclass AND objid = ANY (entries);
    DELETE FROM pg_publication_rel WHERE oid = ANY (entries);
END $$;

-- Makes the publication one that these tables are not in. A transaction that makes tables while all are published
-- does not put them on a list; each holds a lock that says so, and nobody waits for it. The lock is an advisory one
-- of the database; its key is our name in ASCII (`ptr-list`).
CREATE OR REPLACE FUNCTION postgres_test_replay.leave_out(relations oid[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT postgres_test_replay.is_listed() THEN
        -- Where somebody else is doing it, their list has none of the tables of this transaction.
        UPDATE pg_publication SET puballtables = false
         WHERE oid = (SELECT p.oid FROM pg_publication p, postgres_test_replay.configuration f
                       WHERE p.pubname = f.publication AND p.puballtables
                         FOR NO KEY UPDATE OF p SKIP LOCKED);
        IF FOUND THEN
            PERFORM postgres_test_replay.list_tables(NULL);
            IF NOT pg_try_advisory_xact_lock(8103227168964309876) THEN
                PERFORM postgres_test_replay.send_gap('the publication became a list of tables while another '
                    'transaction made tables; doctor names those that are not captured', '55006');
            END IF;
        END IF;
    END IF;
    PERFORM postgres_test_replay.unlist_tables(relations);
    -- So that every session looks the tables up anew.
    UPDATE pg_class SET relreplident = relreplident WHERE oid = ANY (relations);
END $$;

-- Keeps the publication from harming what a statement made or changed, and answers which of the tables are
-- published only from here on, so that their rows have to be sent.
CREATE OR REPLACE FUNCTION postgres_test_replay.keep_list(touched oid[], makes_tables boolean) RETURNS oid[]
LANGUAGE plpgsql AS $$
DECLARE
    broken oid[] := postgres_test_replay.breaking(touched);
    one oid;
BEGIN
    IF broken <> '{}' THEN
        PERFORM postgres_test_replay.leave_out(broken);
        FOREACH one IN ARRAY broken LOOP
            PERFORM postgres_test_replay.send_left_out(one);
        END LOOP;
    END IF;
    IF postgres_test_replay.is_listed() THEN
        RETURN postgres_test_replay.list_tables(touched);
    ELSIF makes_tables AND NOT pg_try_advisory_xact_lock_shared(8103227168964309876) THEN
        PERFORM postgres_test_replay.send_gap('tables were made while the publication became a list of tables; '
            'doctor names those that are not captured', '55006');
    END IF;
    RETURN '{}';
END $$;

-- Whether `keep_list` has anything to do; `fresh` are those of the tables that get FULL before. Writes nothing.
CREATE OR REPLACE FUNCTION postgres_test_replay.would_harm(touched oid[], fresh oid[], makes_tables boolean) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    IF touched = '{}' THEN
        RETURN false;
    ELSIF postgres_test_replay.is_listed() THEN
        RETURN true;
    ELSIF touched <> fresh AND postgres_test_replay.breaking(
            ARRAY(SELECT unnest(touched) EXCEPT SELECT unnest(fresh))) <> '{}' THEN
        RETURN true;
    END IF;
    RETURN makes_tables AND NOT pg_try_advisory_xact_lock_shared(8103227168964309876);
END $$;

-- `keep_list`, which must not make the user's statement fail.
CREATE OR REPLACE FUNCTION postgres_test_replay.spare(touched oid[], makes_tables boolean) RETURNS oid[]
LANGUAGE plpgsql AS $$
BEGIN
    RETURN postgres_test_replay.keep_list(touched, makes_tables);
EXCEPTION WHEN OTHERS THEN
    PERFORM postgres_test_replay.send_gap(format('the list of published tables could not be kept: %s', SQLERRM), SQLSTATE);
    RETURN '{}';
END $$;

-- Says in the stream that a table is not captured from here on. Its rows, when they are sent, mend it.
CREATE OR REPLACE FUNCTION postgres_test_replay.send_left_out(relation oid) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    target text;
    cause text;
    is_deferrable boolean := EXISTS (SELECT FROM pg_index i WHERE i.indrelid = relation AND i.indisprimary
                                                              AND NOT i.indimmediate);
BEGIN
    SELECT format('%I.%I', n.nspname, c.relname) INTO target
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation;
    SELECT CASE x.reason WHEN 'column_list' THEN format('publication %I has a column list for it', x.subject)
                         ELSE format('column %I is generated', x.subject) END
      INTO cause FROM postgres_test_replay.identity_exceptions x WHERE x.relation = send_left_out.relation LIMIT 1;
    PERFORM postgres_test_replay.send(postgres_test_replay.seal(json_build_object(
        'v', 1, 'event', 'gap', 'relation', target, 'statement', left(current_query(), 10000),
        'reason', format('table %s is not captured from here on: %s and it cannot have REPLICA '
                         'IDENTITY FULL (%s), so that publishing it would make UPDATE and DELETE on it fail; give it a '
                         'primary key%s, after which it is captured again',
                         target, CASE WHEN is_deferrable THEN 'its primary key is deferrable, which identifies no rows,'
                                      ELSE 'it has no primary key' END, coalesce(cause, 'which is turned off for it'),
                         CASE WHEN is_deferrable THEN ' that is not deferrable' ELSE '' END))));
EXCEPTION WHEN OTHERS THEN
    PERFORM postgres_test_replay.send_wordless_gap(target, SQLSTATE);
END $$;

-- A table on a list cannot be set UNLOGGED. Which one it will be is not known when the statement begins, so those that
-- it may be are taken off then, and put back at its end: tables of the caller's whose names stand in the text.

-- What stands around UNLOGGED in the texts that may have caused a statement, where its table's name is: the 400 characters
-- after the last ALTER TABLE before it, and the 400 right before it. Empty where no text has the word.
CREATE OR REPLACE FUNCTION postgres_test_replay.around_unlogged(told text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    parts text[];
    around text := '';
BEGIN
    IF told !~* '\munlogged\M' THEN
        RETURN around;
    END IF;
    parts := regexp_split_to_array(told, '\munlogged\M', 'i');
    FOR part IN 1 .. cardinality(parts) - 1 LOOP
        around := concat(around, left(substring(parts[part] FROM '(?i).*\malter\s+table\M(.*)'), 400), ' ',
                         right(parts[part], 400), ' ');
    END LOOP;
    RETURN around;
END $$;

-- The same of the string that the client sent. What is long is looked through once a transaction, as in `query_says`.
CREATE OR REPLACE FUNCTION postgres_test_replay.query_around_unlogged() RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    sent text := current_query();
    string text;
    remembered text;
BEGIN
    IF octet_length(sent) < 10000 THEN
        RETURN postgres_test_replay.around_unlogged(sent);
    END IF;
    string := concat(extract(epoch FROM statement_timestamp()), ':', octet_length(sent), ':');
    remembered := current_setting('postgres_test_replay.around_unlogged', true);
    IF starts_with(remembered, string) THEN
        RETURN substr(remembered, length(string) + 1);
    END IF;
    remembered := postgres_test_replay.around_unlogged(sent);
    PERFORM set_config('postgres_test_replay.around_unlogged', concat(string, remembered), true);
    RETURN remembered;
END $$;

-- Tables on the list that are the caller's, as ALTER TABLE asks for it, and whose names stand in a text. A name that needs
-- quotes may be anywhere in it; where Unicode is escaped, it may be any name.
CREATE OR REPLACE FUNCTION postgres_test_replay.listed_tables_in(told text, caller name) RETURNS oid[]
LANGUAGE plpgsql AS $$
DECLARE
    words name[] := ARRAY(SELECT DISTINCT lower(word)::name FROM regexp_split_to_table(told, '[^A-Za-z0-9_$]+') AS word);
    is_escaped boolean := told ~* '\mu&"';
BEGIN
    RETURN ARRAY(
        SELECT r.prrelid
          FROM postgres_test_replay.configuration f
          JOIN pg_publication p ON p.pubname = f.publication
          JOIN pg_publication_rel r ON r.prpubid = p.oid
          JOIN pg_class c ON c.oid = r.prrelid
         WHERE CASE WHEN is_escaped THEN true
                    WHEN c.relname ~ '^[A-Za-z0-9_$]+$' THEN lower(c.relname)::name = ANY (words)
                    ELSE strpos(lower(told), lower(replace(c.relname::text, '"', '""'))) > 0 END
           AND pg_has_role(caller, c.relowner, 'USAGE'));
END $$;

-- A list of tables with a signature of this transaction, because everybody may change a setting.
CREATE OR REPLACE FUNCTION postgres_test_replay.sign_taken(relations oid[]) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    fingerprint text;
BEGIN
    SELECT encode(sha256(convert_to(concat_ws(':', secret, 'taken', pg_current_xact_id()::xid, relations), 'UTF8')), 'hex')
      INTO STRICT fingerprint
      FROM postgres_test_replay.configuration;
    RETURN concat(relations, ':', fingerprint);
END $$;

-- The tables that were taken off in this transaction and not put back yet.
CREATE OR REPLACE FUNCTION postgres_test_replay.taken() RETURNS oid[]
LANGUAGE plpgsql AS $$
DECLARE
    remembered text := coalesce(current_setting('postgres_test_replay.taken', true), '');
    relations oid[];
BEGIN
    IF remembered !~ '^\{[0-9]{1,10}(,[0-9]{1,10})*\}:' THEN
        RETURN '{}';
    END IF;
    relations := split_part(remembered, ':', 1)::oid[];
    RETURN CASE WHEN remembered = postgres_test_replay.sign_taken(relations) THEN relations ELSE '{}' END;
END $$;

-- At the end of the statement, whatever came of it. Those that are UNLOGGED by now stay off.
CREATE OR REPLACE FUNCTION postgres_test_replay.put_back() RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    relations oid[];
BEGIN
    IF coalesce(current_setting('postgres_test_replay.taken', true), '') = '' THEN
        RETURN;
    END IF;
    BEGIN
        relations := postgres_test_replay.taken();
        PERFORM set_config('postgres_test_replay.taken', '', true);
        IF relations <> '{}' AND postgres_test_replay.is_listed() THEN
            PERFORM postgres_test_replay.list_tables(relations);
        END IF;
    EXCEPTION WHEN OTHERS THEN
        PERFORM postgres_test_replay.send_gap(format(
            'tables could not be put back on the list of published tables, and doctor names them: %s', SQLERRM), SQLSTATE);
    END;
END $$;

-- Takes tables off the list that the statement may set UNLOGGED.
CREATE OR REPLACE FUNCTION postgres_test_replay.take_off(context text, caller name) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    told text := concat(postgres_test_replay.around_unlogged(context), postgres_test_replay.query_around_unlogged());
    relations oid[];
BEGIN
    -- The statements of an SQL function are not in the context.
    IF strpos(context, 'SQL function "') > 0 THEN
        told := concat(told, postgres_test_replay.around_unlogged(postgres_test_replay.describe_functions(context)::text));
    END IF;
    IF told = '' THEN
        RETURN;
    END IF;
    relations := postgres_test_replay.listed_tables_in(told, caller);
    IF relations <> '{}' THEN
        PERFORM postgres_test_replay.unlist_tables(relations);
        PERFORM set_config('postgres_test_replay.taken',
                           postgres_test_replay.sign_taken(postgres_test_replay.taken() || relations), true);
    END IF;
END $$;

-- NULL where it is not an event trigger that asks.
CREATE OR REPLACE FUNCTION postgres_test_replay.before_unlogged(caller name) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lc_messages = 'C'
SET quote_all_identifiers = 'off'
SET standard_conforming_strings = 'on'
AS $$
DECLARE
    context text;
BEGIN
    GET DIAGNOSTICS context = PG_CONTEXT;
    IF NOT postgres_test_replay.is_called_by('on\_alter', context) THEN
        RETURN NULL;
    ELSIF to_regclass('postgres_test_replay.configuration') IS NULL THEN
        RETURN true;
    ELSIF postgres_test_replay.is_listed() THEN
        BEGIN
            PERFORM postgres_test_replay.take_off(context, caller);
        EXCEPTION WHEN OTHERS THEN
            NULL;  -- Then the list stays, and the server says what stands against it.
        END;
    END IF;
    RETURN true;
END $$;

-- Under settings of ours, unlike `on_event`, because it tells nothing of the user's: its frame has its schema whatever
-- search_path is.
CREATE OR REPLACE FUNCTION postgres_test_replay.on_alter() RETURNS event_trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = 'off'
AS $$
DECLARE
    done boolean;
BEGIN
    done := postgres_test_replay.has_rights();
    IF NOT done THEN
        RETURN;
    END IF;
    done := postgres_test_replay.before_unlogged(current_user);
    -- As in `on_event`.
    IF done IS NULL THEN
        done := postgres_test_replay.before_unlogged(current_user);
    END IF;
END $$;
