UNION ALL
-- From 18 on FULL wants stored generated columns to be published by every publication that the table is in.
SELECT a.attrelid, 'stored_generated_column', a.attname::text
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
 WHERE a.attgenerated = 's' AND NOT a.attisdropped
   AND EXISTS (
        SELECT FROM pg_catalog.pg_publication p
         WHERE p.pubgencols <> 's' AND (p.pubupdate OR p.pubdelete)
           AND (p.puballtables
                OR EXISTS (SELECT FROM pg_catalog.pg_publication_rel r
                            WHERE r.prpubid = p.oid
                              AND (r.prrelid = c.oid
                                   OR c.relispartition
                                  AND r.prrelid IN (SELECT pg_catalog.pg_partition_ancestors(c.oid))))
                OR EXISTS (SELECT FROM pg_catalog.pg_publication_namespace n
                            WHERE n.pnpubid = p.oid
                              AND (n.pnnspid = c.relnamespace
                                   OR c.relispartition
                                  AND n.pnnspid IN (SELECT ancestor.relnamespace
                                                      FROM pg_catalog.pg_partition_ancestors(c.oid) AS chain(relid)
                                                      JOIN pg_catalog.pg_class ancestor
                                                        ON ancestor.oid = chain.relid)))))
