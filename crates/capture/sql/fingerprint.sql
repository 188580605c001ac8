-- What of the primary does not pass through the stream, one row a thing: aspect, name, what is to be noticed of it.
-- Every role may read all of it.
SELECT 'large_objects' AS aspect, 'large objects' AS name, concat(count(*), ' up to ', max(oid)) AS value
  FROM pg_catalog.pg_largeobject_metadata HAVING count(*) > 0
UNION ALL
SELECT 'unlogged_table', pg_catalog.format('%I.%I', n.nspname, c.relname), ''
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relpersistence = 'u' AND c.relkind = 'r' AND c.oid >= 16384 AND n.nspname <> 'postgres_test_replay'
   AND pg_catalog.pg_relation_size(c.oid) > 0
UNION ALL
SELECT 'foreign_table', pg_catalog.format('%I.%I', n.nspname, c.relname), ''
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'f'
UNION ALL
SELECT 'role', r.rolname::text,
       concat(r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin, r.rolreplication, r.rolbypassrls,
              ' ', r.rolconnlimit, ' ', r.rolvaliduntil, ' ', r.rolconfig,
              ' ', (SELECT pg_catalog.string_agg(DISTINCT g.rolname::text, ',')
                      FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles g ON g.oid = m.roleid
                     WHERE m.member = r.oid))
  FROM pg_catalog.pg_roles r WHERE r.rolname !~ '^pg_'
UNION ALL
SELECT 'tablespace', t.spcname::text, concat(pg_catalog.pg_get_userbyid(t.spcowner), ' ', t.spcoptions, ' ', t.spcacl)
  FROM pg_catalog.pg_tablespace t WHERE t.oid >= 16384
UNION ALL
SELECT 'event_trigger', e.evtname::text,
       concat(e.evtevent, ' ', e.evtenabled, ' ', e.evtfoid::regproc, ' ', e.evttags, ' ',
              pg_catalog.pg_get_userbyid(e.evtowner))
  FROM pg_catalog.pg_event_trigger e WHERE e.evtname NOT LIKE '!postgres\_test\_replay\_%'
UNION ALL
SELECT 'database_setting', coalesce(r.rolname::text, 'every role'), s.setconfig::text
  FROM pg_catalog.pg_db_role_setting s LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
 WHERE s.setdatabase = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
UNION ALL
SELECT 'database_setting', 'the database itself', concat(pg_catalog.pg_get_userbyid(d.datdba), ' ', d.datacl, ' ', d.datconnlimit)
  FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
UNION ALL
SELECT 'owner', pg_catalog.format('%I.%I', n.nspname, c.relname), pg_catalog.pg_get_userbyid(c.relowner)::text
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't' AND c.oid >= 16384
   AND n.nspname <> 'postgres_test_replay'
UNION ALL
SELECT 'owner', pg_catalog.quote_ident(n.nspname), pg_catalog.pg_get_userbyid(n.nspowner)::text
  FROM pg_catalog.pg_namespace n WHERE n.oid >= 16384 AND n.nspname !~ '^pg_' AND n.nspname <> 'postgres_test_replay'
UNION ALL
SELECT 'owner', (pg_catalog.pg_identify_object('pg_catalog.pg_proc'::regclass, p.oid, 0)).identity,
       pg_catalog.pg_get_userbyid(p.proowner)::text
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
 WHERE p.oid >= 16384 AND n.nspname !~ '^pg_' AND n.nspname <> 'postgres_test_replay'
UNION ALL
SELECT 'clustered', pg_catalog.format('%I.%I', n.nspname, c.relname), x.relname::text
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
  JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE i.indisclustered AND c.relpersistence <> 't' AND c.oid >= 16384
UNION ALL
SELECT 'made', pg_catalog.format('%I.%I', n.nspname, c.relname), c.oid::text
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'm') AND c.relpersistence = 'p' AND c.oid >= 16384 AND n.nspname <> 'postgres_test_replay'
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                      AND d.objid = c.oid AND d.deptype = 'e')
UNION ALL
-- By the index's OID, so that a new name is not taken for an index that went away.
SELECT 'invalid_index', i.indexrelid::text, concat(i.indrelid, ' ', pg_catalog.format('%I.%I', n.nspname, x.relname))
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = x.relnamespace
 WHERE NOT i.indisvalid AND x.relkind = 'i' AND x.oid >= 16384
