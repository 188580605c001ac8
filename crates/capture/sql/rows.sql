-- Sends what a table holds after a rewrite, or a materialised view after a refresh, because the server does not. The
-- statement holds it locked against everybody who writes, so that nothing comes between. Chunks stay below about a
-- megabyte, plus one row.
CREATE OR REPLACE FUNCTION postgres_test_replay.send_rows(relation oid) RETURNS void
LANGUAGE plpgsql
:canonical_settings
AS $$
DECLARE
    target text;
    names json;
    expressions text;
    line text;
    batch text := '';
    is_first boolean := true;
BEGIN
    SELECT format('%I.%I', n.nspname, c.relname),
           coalesce(json_agg(a.attname ORDER BY a.attnum) FILTER (WHERE a.attname IS NOT NULL), '[]'),
           -- IS NOT DISTINCT FROM NULL, because a composite value of NULLs IS NULL too. format() calls the
           -- type's output function; a cast to text would strip a character(n).
           coalesce(string_agg(format('CASE WHEN %1$I IS NOT DISTINCT FROM NULL THEN NULL ELSE format(''%%s'', %1$I) END',
                               a.attname), ', ' ORDER BY a.attnum) FILTER (WHERE a.attname IS NOT NULL), '')
      INTO target, names, expressions
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN pg_attribute a
        ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
     WHERE c.oid = relation AND c.relkind IN ('r', 'm') AND c.relpersistence = 'p' AND c.oid >= 16384
     GROUP BY n.nspname, c.relname;
    IF target IS NULL THEN
        RETURN;
    END IF;
    FOR line IN EXECUTE format('SELECT array_to_json(ARRAY[%s]::text[])::text FROM ONLY %s', expressions, target) LOOP
        batch := batch || CASE WHEN batch = '' THEN '' ELSE ',' END || line;
        IF octet_length(batch) > 900000 THEN
            PERFORM postgres_test_replay.send_batch(target, names, is_first, batch);
            batch := '';
            is_first := false;
        END IF;
    END LOOP;
    IF is_first OR batch <> '' THEN
        PERFORM postgres_test_replay.send_batch(target, names, is_first, batch);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION postgres_test_replay.send_batch(target text, names json, is_first boolean, batch text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM postgres_test_replay.send(postgres_test_replay.seal(json_build_object(
        'v', 1, 'event', 'rows', 'relation', target, 'columns', names, 'first', is_first,
        'rows', ('[' || batch || ']')::json)));
END $$;
