-- Tables on which REPLICA IDENTITY FULL would make the user's own UPDATE and DELETE fail, each with the reason.
-- A virtual generated column (18) can be in no publication, and FULL wants every column.
SELECT a.attrelid AS relation, 'virtual_generated_column'::text AS reason, a.attname::text AS subject
  FROM pg_catalog.pg_attribute a
 WHERE a.attgenerated = 'v' AND NOT a.attisdropped
UNION ALL
-- FULL and a column list exclude each other (15). A leaf is also published through its ancestors.
-- Two branches, so that one table is looked up by index however many are published.
SELECT r.prrelid, 'column_list', p.pubname::text
  FROM pg_catalog.pg_publication_rel r, pg_catalog.pg_publication p
 WHERE p.oid = r.prpubid AND (p.pubupdate OR p.pubdelete)
   AND (pg_catalog.to_jsonb(r) ->> 'prattrs') IS NOT NULL
UNION ALL
SELECT c.oid, 'column_list', p.pubname::text
  FROM pg_catalog.pg_class c, pg_catalog.pg_publication_rel r, pg_catalog.pg_publication p
 WHERE p.oid = r.prpubid AND (p.pubupdate OR p.pubdelete)
   AND (pg_catalog.to_jsonb(r) ->> 'prattrs') IS NOT NULL
   AND c.relispartition AND r.prrelid <> c.oid AND r.prrelid IN (SELECT pg_catalog.pg_partition_ancestors(c.oid))
