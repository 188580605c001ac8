//! Who owns what in a database.

/// A query: type, identity and owner of each object of the user's that `ALTER .. OWNER TO` takes, as
/// `pg_identify_object` names them. What follows its table (indexes, TOAST, row types, sequences of columns), temporary
/// objects and our own are left out.
pub const OWNERS: &str = "
SELECT i.type, i.identity, pg_catalog.pg_get_userbyid(o.owner)::text AS owner
  FROM (
    SELECT c.tableoid AS class, c.oid, c.relowner AS owner FROM pg_catalog.pg_class c
     WHERE c.relpersistence <> 't' AND (c.relkind IN ('r', 'p', 'v', 'm', 'f')
        OR c.relkind = 'S' AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
              WHERE d.classid = c.tableoid AND d.objid = c.oid AND d.refclassid = c.tableoid AND d.refobjsubid > 0))
    UNION ALL
    SELECT t.tableoid, t.oid, t.typowner FROM pg_catalog.pg_type t
     WHERE t.typtype IN ('b', 'd', 'e', 'r', 'm') AND NOT EXISTS (SELECT FROM pg_catalog.pg_type e WHERE e.typarray = t.oid)
        OR t.typtype = 'c' AND EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c')
    UNION ALL SELECT tableoid, oid, nspowner FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_'
    UNION ALL SELECT tableoid, oid, proowner FROM pg_catalog.pg_proc
    UNION ALL SELECT tableoid, oid, collowner FROM pg_catalog.pg_collation
    UNION ALL SELECT tableoid, oid, conowner FROM pg_catalog.pg_conversion
    UNION ALL SELECT tableoid, oid, oprowner FROM pg_catalog.pg_operator
    UNION ALL SELECT tableoid, oid, opcowner FROM pg_catalog.pg_opclass
    UNION ALL SELECT tableoid, oid, opfowner FROM pg_catalog.pg_opfamily
    UNION ALL SELECT tableoid, oid, fdwowner FROM pg_catalog.pg_foreign_data_wrapper
    UNION ALL SELECT tableoid, oid, srvowner FROM pg_catalog.pg_foreign_server
    UNION ALL SELECT tableoid, oid, lanowner FROM pg_catalog.pg_language
    UNION ALL SELECT tableoid, oid, stxowner FROM pg_catalog.pg_statistic_ext
    UNION ALL SELECT tableoid, oid, cfgowner FROM pg_catalog.pg_ts_config
    UNION ALL SELECT tableoid, oid, dictowner FROM pg_catalog.pg_ts_dict
    UNION ALL SELECT tableoid, oid, pubowner FROM pg_catalog.pg_publication
  ) o, pg_catalog.pg_identify_object(o.class, o.oid, 0) i
 WHERE o.oid >= 16384 AND i.identity IS NOT NULL AND i.identity <> 'postgres_test_replay'
   AND coalesce(i.schema, '') NOT IN ('postgres_test_replay', 'pg_temp', 'pg_toast')";
