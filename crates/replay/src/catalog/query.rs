//! The catalog queries behind [`TableFacts`]: each for as many tables as are asked for, because most of its time is the
//! server's planning.

use std::collections::HashMap;

use ptr_postgres::QualifiedName;
use tokio_postgres::Client;

use super::{
    ColumnFacts, Direction, FillingSequence, Firing, FiringObject, InputPath, KeyColumn, TableFacts,
    TableKind, UniqueConstraint,
};
use crate::database::{DatabaseError, Doing};

const TABLE: &str = "
    SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, greatest(c.reltuples, 0)::bigint,
           EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL))
           OR EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype IN ('c', 'x'))
           OR EXISTS (SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
                      WHERE a.attrelid = c.oid AND a.attnum > 0 AND (a.attgenerated <> '' OR t.typtype = 'd')),
           c.relreplident <> 'f' AND EXISTS (SELECT FROM pg_publication p WHERE p.pubupdate OR p.pubdelete),
           EXISTS (SELECT FROM pg_depend d
                   WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e')
    FROM unnest($1::name[], $2::name[]) wanted (schema, name)
    JOIN pg_namespace n ON n.nspname = wanted.schema
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name";

/// A domain's values travel as its base type, whose text is the same: a row that predates a NOT VALID check of the
/// domain can then still be named. Where it is written, the assignment checks it. Of casts that take the text as it
/// stands only the server's own do what an input function does.
const COLUMNS: &str = "
    SELECT a.attrelid, a.attname::text, format_type(t.oid, base.typmod), a.attgenerated <> '',
           a.attidentity = 'a',
           EXISTS (SELECT FROM pg_cast
                   WHERE castsource = 'text'::regtype AND casttarget = t.oid
                     AND (castmethod = 'f' OR castmethod = 'b' AND pg_cast.oid >= 16384))
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
    WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attrelid, a.attnum";

/// Columns come as arrays: name and the operator that the index's operator class calls equality (strategy 3
/// of a btree), which is not always `pg_catalog.=` (citext has its own). INCLUDE columns are no key columns.
const CONSTRAINTS: &str = "
    SELECT i.indrelid, ic.relname::text, i.indimmediate,
           i.indisexclusion OR i.indpred IS NOT NULL OR i.indexprs IS NOT NULL OR NOT i.indisvalid,
           coalesce(k.names, '{}'), coalesce(k.not_null, false), coalesce(k.operators, '{}')
    FROM pg_index i
    JOIN pg_class ic ON ic.oid = i.indexrelid
    LEFT JOIN LATERAL (
        SELECT array_agg(a.attname::text ORDER BY n) AS names,
               bool_and(a.attnotnull AND i.indcollation[n] = a.attcollation
                        AND NOT EXISTS (SELECT FROM pg_constraint nn WHERE nn.conrelid = i.indrelid AND nn.contype = 'n'
                                           AND NOT nn.convalidated AND nn.conkey[1] = a.attnum)) AS not_null,
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
    WHERE i.indrelid = ANY ($1) AND (i.indisunique OR i.indisexclusion)
    ORDER BY i.indrelid, i.indisprimary DESC, i.indnkeyatts, ic.relname";

const FIRING: &str = "
    SELECT tgrelid, 'TRIGGER', tgname::text, tgenabled::text FROM pg_trigger
    WHERE tgrelid = ANY ($1) AND NOT tgisinternal AND tgenabled IN ('A', 'R')
    UNION ALL
    SELECT ev_class, 'RULE', rulename::text, ev_enabled::text FROM pg_rewrite
    WHERE ev_class = ANY ($1) AND ev_type <> '1' AND ev_enabled IN ('A', 'R')
    ORDER BY 1, 2, 3";

/// A partition or an inheritance child has no sequence of its own: the column's is the parent's. One that cycles
/// says nothing by its rows.
const SEQUENCES: &str = "
    WITH RECURSIVE family (relation, oid) AS (
        SELECT wanted, wanted FROM unnest($1::oid[]) wanted
        UNION SELECT f.relation, i.inhparent FROM pg_inherits i JOIN family f ON i.inhrelid = f.oid),
    filling AS (
        SELECT family.relation, a.attname::text AS name, d.objid AS sequence
        FROM family JOIN pg_depend d ON d.refobjid = family.oid
        JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
        WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
        UNION
        SELECT f.adrelid, a.attname::text, d.refobjid
        FROM pg_attrdef f JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
        JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
         AND d.refclassid = 'pg_class'::regclass
        WHERE f.adrelid = ANY ($1))
    SELECT filling.relation, filling.name, filling.sequence, q.seqincrement < 0
    FROM filling JOIN pg_sequence q ON q.seqrelid = filling.sequence AND NOT q.seqcycle
    ORDER BY 1, 2, 3";

/// The facts of those of the tables that there are.
pub(super) async fn tables(
    client: &Client,
    names: &[QualifiedName],
) -> Result<Vec<TableFacts>, DatabaseError> {
    let doing = || match names {
        [name] => format!("read the catalog about table {name}"),
        _ => format!("read the catalog about {} tables", names.len()),
    };
    let (schemas, relations): (Vec<&str>, Vec<&str>) =
        names.iter().map(|name| (name.schema.as_str(), name.name.as_str())).unzip();
    let rows = client.query(TABLE, &[&schemas, &relations]).await.doing_with(doing)?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let oids: Vec<u32> = rows.iter().map(|row| row.get(0)).collect();
    let ask = async |sql: &str| client.query(sql, &[&oids]).await.doing_with(doing);
    let mut columns = by_table(&ask(COLUMNS).await?, column);
    let mut constraints = by_table(&ask(CONSTRAINTS).await?, constraint);
    let mut firing = by_table(&ask(FIRING).await?, firing_object);
    let mut sequences = by_table(&ask(SEQUENCES).await?, filling_sequence);
    let facts = rows.iter().map(|row| {
        let oid: u32 = row.get(0);
        TableFacts {
            oid,
            name: QualifiedName::new(row.get::<_, String>(1), row.get::<_, String>(2)),
            kind: match row.get::<_, &str>(3) {
                "r" => TableKind::Ordinary,
                "p" => TableKind::Partitioned,
                "m" => TableKind::MaterializedView,
                _ => TableKind::Other,
            },
            columns: columns.remove(&oid).unwrap_or_default(),
            constraints: constraints.remove(&oid).unwrap_or_default(),
            firing: firing.remove(&oid).unwrap_or_default(),
            sequences: sequences.remove(&oid).unwrap_or_default(),
            estimated_rows: u64::try_from(row.get::<_, i64>(4)).unwrap_or(0),
            evaluates: row.get(5),
            lacks_identity: row.get(6),
            of_extension: row.get(7),
        }
    });
    Ok(facts.collect())
}

/// What rows say of the tables that their first column names, in the order in which they came.
fn by_table<T>(
    rows: &[tokio_postgres::Row],
    read: impl Fn(&tokio_postgres::Row) -> T,
) -> HashMap<u32, Vec<T>> {
    let mut all: HashMap<u32, Vec<T>> = HashMap::new();
    for row in rows {
        all.entry(row.get(0)).or_default().push(read(row));
    }
    all
}

fn column(row: &tokio_postgres::Row) -> ColumnFacts {
    let input = if row.get(8) {
        InputPath::NodeTree
    } else if row.get(5) {
        let delimiter = row.get::<_, &str>(7).chars().next().unwrap_or(',');
        InputPath::Array { array_type: row.get(6), delimiter }
    } else {
        InputPath::Cast
    };
    ColumnFacts {
        name: row.get(1),
        type_name: row.get(2),
        input,
        generated: row.get(3),
        always_identity: row.get(4),
    }
}

fn constraint(row: &tokio_postgres::Row) -> UniqueConstraint {
    let special: bool = row.get(3);
    let names: Vec<String> = row.get(4);
    let operators: Vec<String> = row.get(6);
    let columns = names.into_iter().zip(operators).map(|(name, equality)| KeyColumn { name, equality });
    UniqueConstraint {
        name: row.get(1),
        columns: (!special).then(|| columns.collect()),
        immediate: row.get(2),
        not_null: row.get(5),
    }
}

fn firing_object(row: &tokio_postgres::Row) -> FiringObject {
    FiringObject {
        kind: if row.get::<_, &str>(1) == "RULE" { "RULE" } else { "TRIGGER" },
        name: row.get(2),
        firing: if row.get::<_, &str>(3) == "A" { Firing::Always } else { Firing::Replica },
    }
}

fn filling_sequence(row: &tokio_postgres::Row) -> FillingSequence {
    let direction = if row.get(3) { Direction::Descending } else { Direction::Ascending };
    FillingSequence { column: row.get(1), sequence: row.get(2), direction }
}
