//! The catalog queries behind [`TableFacts`].

use ptr_postgres::QualifiedName;
use tokio_postgres::Client;

use super::{
    ColumnFacts, Direction, FillingSequence, Firing, FiringObject, InputPath, KeyColumn, TableFacts,
    TableKind, UniqueConstraint,
};
use crate::database::{DatabaseError, Doing};

const TABLE: &str = "
    SELECT c.oid, c.relkind::text, greatest(c.reltuples, 0)::bigint,
           EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL))
           OR EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype IN ('c', 'x'))
           OR EXISTS (SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
                      WHERE a.attrelid = c.oid AND a.attnum > 0 AND (a.attgenerated <> '' OR t.typtype = 'd')),
           c.relreplident <> 'f' AND EXISTS (SELECT FROM pg_publication p WHERE p.pubupdate OR p.pubdelete)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = $2";

/// A domain's values travel as its base type, whose text is the same: a row that predates a NOT VALID check of the
/// domain can then still be named. Where it is written, the assignment checks it.
const COLUMNS: &str = "
    SELECT a.attname::text, format_type(t.oid, base.typmod), a.attgenerated <> '',
           a.attidentity = 'a',
           EXISTS (SELECT FROM pg_cast
                   WHERE castsource = 'text'::regtype AND castmethod = 'f' AND casttarget = t.oid)
           AND t.typarray <> 0,
           format_type(t.typarray, -1), t.typdelim::text, t.oid = 'pg_node_tree'::regtype
    FROM pg_attribute a
    CROSS JOIN LATERAL (
        WITH RECURSIVE step (type, typmod, depth) AS (
            SELECT a.atttypid, a.atttypmod, 0
            UNION ALL
            SELECT d.typbasetype, d.typtypmod, step.depth + 1
            FROM step JOIN pg_type d ON d.oid = step.type WHERE d.typtype = 'd')
        SELECT type, typmod FROM step ORDER BY depth DESC LIMIT 1) base
    JOIN pg_type t ON t.oid = base.type
    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum";

/// Columns come as arrays: name and the operator that the index's operator class calls equality (strategy 3
/// of a btree), which is not always `pg_catalog.=` (citext has its own). INCLUDE columns are no key columns.
const CONSTRAINTS: &str = "
    SELECT ic.relname::text, i.indimmediate,
           i.indisexclusion OR i.indpred IS NOT NULL OR i.indexprs IS NOT NULL OR NOT i.indisvalid,
           coalesce(k.names, '{}'), coalesce(k.not_null, false), coalesce(k.operators, '{}')
    FROM pg_index i
    JOIN pg_class ic ON ic.oid = i.indexrelid
    LEFT JOIN LATERAL (
        SELECT array_agg(a.attname::text ORDER BY n) AS names,
               bool_and(a.attnotnull) AS not_null,
               array_agg(coalesce(eq.operator, 'pg_catalog.=') ORDER BY n) AS operators
        FROM generate_series(0, i.indnkeyatts - 1) n
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[n]
        LEFT JOIN LATERAL (
            SELECT format('%I.%s', opn.nspname, o.oprname) AS operator
            FROM pg_opclass oc
            JOIN pg_amop am ON am.amopfamily = oc.opcfamily AND am.amopstrategy = 3
             AND am.amoplefttype = oc.opcintype AND am.amoprighttype = oc.opcintype
            JOIN pg_operator o ON o.oid = am.amopopr
            JOIN pg_namespace opn ON opn.oid = o.oprnamespace
            WHERE oc.oid = i.indclass[n] LIMIT 1) eq ON true) k ON true
    WHERE i.indrelid = $1 AND (i.indisunique OR i.indisexclusion)
    ORDER BY i.indisprimary DESC, i.indnkeyatts, ic.relname";

const FIRING: &str = "
    SELECT 'TRIGGER', tgname::text, tgenabled::text FROM pg_trigger
    WHERE tgrelid = $1 AND NOT tgisinternal AND tgenabled IN ('A', 'R')
    UNION ALL
    SELECT 'RULE', rulename::text, ev_enabled::text FROM pg_rewrite
    WHERE ev_class = $1 AND ev_type <> '1' AND ev_enabled IN ('A', 'R')
    ORDER BY 1, 2";

/// A partition or an inheritance child has no sequence of its own: the column's is the parent's. One that cycles
/// says nothing by its rows.
const SEQUENCES: &str = "
    WITH RECURSIVE family (oid) AS (
        SELECT $1::oid UNION SELECT i.inhparent FROM pg_inherits i JOIN family f ON i.inhrelid = f.oid),
    filling AS (
        SELECT a.attname::text AS name, d.objid AS sequence
        FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
        WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
          AND d.refobjid IN (SELECT oid FROM family) AND d.deptype IN ('a', 'i')
        UNION
        SELECT a.attname::text, d.refobjid
        FROM pg_attrdef f JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
        JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
         AND d.refclassid = 'pg_class'::regclass
        WHERE f.adrelid = $1)
    SELECT filling.name, filling.sequence, q.seqincrement < 0
    FROM filling JOIN pg_sequence q ON q.seqrelid = filling.sequence AND NOT q.seqcycle
    ORDER BY 1, 2";

pub(super) async fn table(
    client: &Client,
    name: &QualifiedName,
) -> Result<Option<TableFacts>, DatabaseError> {
    let doing = || format!("read the catalog about table {name}");
    let Some(row) = client.query_opt(TABLE, &[&name.schema, &name.name]).await.doing_with(doing)? else {
        return Ok(None);
    };
    let oid: u32 = row.get(0);
    let kind = match row.get::<_, &str>(1) {
        "r" => TableKind::Ordinary,
        "p" => TableKind::Partitioned,
        "m" => TableKind::MaterializedView,
        _ => TableKind::Other,
    };
    let estimated_rows = u64::try_from(row.get::<_, i64>(2)).unwrap_or(0);
    let columns = client.query(COLUMNS, &[&oid]).await.doing_with(doing)?;
    let constraints = client.query(CONSTRAINTS, &[&oid]).await.doing_with(doing)?;
    let firing = client.query(FIRING, &[&oid]).await.doing_with(doing)?;
    let sequences = client.query(SEQUENCES, &[&oid]).await.doing_with(doing)?;
    Ok(Some(TableFacts {
        oid,
        name: name.clone(),
        kind,
        columns: columns.iter().map(column).collect(),
        constraints: constraints.iter().map(constraint).collect(),
        firing: firing.iter().map(firing_object).collect(),
        sequences: sequences.iter().map(filling_sequence).collect(),
        estimated_rows,
        evaluates: row.get(3),
        lacks_identity: row.get(4),
    }))
}

fn column(row: &tokio_postgres::Row) -> ColumnFacts {
    let input = if row.get(7) {
        InputPath::NodeTree
    } else if row.get(4) {
        let delimiter = row.get::<_, &str>(6).chars().next().unwrap_or(',');
        InputPath::Array { array_type: row.get(5), delimiter }
    } else {
        InputPath::Cast
    };
    ColumnFacts {
        name: row.get(0),
        type_name: row.get(1),
        input,
        generated: row.get(2),
        always_identity: row.get(3),
    }
}

fn constraint(row: &tokio_postgres::Row) -> UniqueConstraint {
    let special: bool = row.get(2);
    let names: Vec<String> = row.get(3);
    let operators: Vec<String> = row.get(5);
    let columns = names.into_iter().zip(operators).map(|(name, equality)| KeyColumn { name, equality });
    UniqueConstraint {
        name: row.get(0),
        columns: (!special).then(|| columns.collect()),
        immediate: row.get(1),
        not_null: row.get(4),
    }
}

fn firing_object(row: &tokio_postgres::Row) -> FiringObject {
    FiringObject {
        kind: if row.get::<_, &str>(0) == "RULE" { "RULE" } else { "TRIGGER" },
        name: row.get(1),
        firing: if row.get::<_, &str>(2) == "A" { Firing::Always } else { Firing::Replica },
    }
}

fn filling_sequence(row: &tokio_postgres::Row) -> FillingSequence {
    let direction = if row.get(2) { Direction::Descending } else { Direction::Ascending };
    FillingSequence { column: row.get(0), sequence: row.get(1), direction }
}
