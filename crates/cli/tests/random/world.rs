//! What there is on the primary, read from its catalog before each statement, so that a random one fits.

use ptr_postgres::Connection;

#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub type_name: String,
    /// `pg_type.typtype`.
    pub type_kind: String,
    /// Of a domain.
    pub base_type: String,
    pub is_generated: bool,
    /// `a` always, `d` by default, or empty.
    pub identity: String,
}

#[derive(Clone, Debug)]
pub struct Table {
    pub name: String,
    pub schema: String,
    /// `r`, or `p` where it is partitioned.
    pub kind: String,
    /// `r`, `l`, `h`: how it is partitioned.
    pub strategy: String,
    pub is_partition: bool,
    /// Whether a column is virtual (18): such a table is captured as long as it has a primary key.
    pub has_virtual: bool,
    pub columns: Vec<Column>,
    /// Columns that are unique by themselves.
    pub keys: Vec<String>,
}

/// Something with a name, and what it belongs to.
#[derive(Clone, Debug)]
pub struct Named {
    pub name: String,
    pub of: String,
}

#[derive(Clone, Debug, Default)]
pub struct World {
    pub version: i32,
    pub tables: Vec<Table>,
    pub schemas: Vec<String>,
    pub enums: Vec<String>,
    /// Types of random DDL that columns can have.
    pub types: Vec<String>,
    pub views: Vec<String>,
    pub materialized_views: Vec<String>,
    pub sequences: Vec<String>,
    pub functions: Vec<String>,
    pub indexes: Vec<String>,
    pub statistics: Vec<String>,
    pub constraints: Vec<Named>,
    pub triggers: Vec<Named>,
    pub policies: Vec<Named>,
    pub rules: Vec<Named>,
}

/// Schemas of the test's: none of the server's and none of the product's.
const OURS: &str = "n.nspname !~ '^(pg_|information_schema|postgres_test_replay)'";

impl World {
    /// Reads within whatever transaction the client has open.
    pub async fn read(client: &Connection) -> Self {
        let list = async |sql: String| -> Vec<String> {
            let rows = client.query(&sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
            rows.iter().map(|row| row.get(0)).collect()
        };
        let named = async |sql: String| -> Vec<Named> {
            let rows = client.query(&sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
            rows.iter().map(|row| Named { name: row.get(0), of: row.get(1) }).collect()
        };
        let relations = |kinds: &str| {
            format!(
                "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c
                   JOIN pg_namespace n ON n.oid = c.relnamespace
                  WHERE c.relkind IN ({kinds}) AND c.relpersistence <> 't' AND {OURS} ORDER BY 1"
            )
        };
        let on_table = |name: &str, catalog: &str, of: &str, condition: &str| {
            format!(
                "SELECT format('%I', x.{name}), format('%I.%I', n.nspname, c.relname) FROM {catalog} x
                   JOIN pg_class c ON c.oid = x.{of} JOIN pg_namespace n ON n.oid = c.relnamespace
                  WHERE {OURS} AND {condition} ORDER BY 1, 2"
            )
        };
        let types = |kinds: &str| {
            format!(
                "SELECT format('%I.%I', n.nspname, t.typname) FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
                  WHERE t.typtype IN ({kinds}) AND {OURS}
                    AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind <> 'c') ORDER BY 1"
            )
        };
        let version =
            list("SELECT (current_setting('server_version_num')::int / 10000)::text".to_owned()).await;
        Self {
            version: version[0].parse().expect("a number"),
            tables: tables(client).await,
            schemas: list(format!("SELECT format('%I', n.nspname) FROM pg_namespace n WHERE {OURS} ORDER BY 1")).await,
            enums: list(types("'e'")).await,
            types: list(types("'e', 'd', 'c', 'r', 'm'")).await,
            views: list(relations("'v'")).await,
            materialized_views: list(relations("'m'")).await,
            sequences: list(relations("'S'")).await,
            functions: list(format!(
                "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
                  WHERE {OURS} AND p.prokind = 'f' AND NOT EXISTS (SELECT FROM pg_depend d
                    WHERE d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype IN ('i', 'e')) ORDER BY 1"
            ))
            .await,
            indexes: list(relations("'i', 'I'")).await,
            statistics: list(format!(
                "SELECT format('%I.%I', n.nspname, s.stxname) FROM pg_statistic_ext s
                   JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE {OURS} ORDER BY 1"
            ))
            .await,
            constraints: named(on_table("conname", "pg_constraint", "conrelid", "true")).await,
            triggers: named(on_table("tgname", "pg_trigger", "tgrelid", "NOT x.tgisinternal")).await,
            policies: named(on_table("polname", "pg_policy", "polrelid", "true")).await,
            rules: named(on_table("rulename", "pg_rewrite", "ev_class", "x.rulename <> '_RETURN'")).await,
        }
    }
}

async fn tables(client: &Connection) -> Vec<Table> {
    let sql = format!(
        "SELECT format('%I.%I', n.nspname, c.relname), format('%I', c.relname), format('%I', n.nspname),
                c.relkind::text, coalesce(p.partstrat::text, ''), c.relispartition, c.oid,
                ARRAY(SELECT format('%I', a.attname) FROM pg_index i
                        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
                       WHERE i.indrelid = c.oid AND i.indisunique AND i.indnatts = 1 AND i.indpred IS NULL ORDER BY 1),
                EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attgenerated = 'v')
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           LEFT JOIN pg_partitioned_table p ON p.partrelid = c.oid
          WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND {OURS} ORDER BY 1"
    );
    let columns = "SELECT format('%I', a.attname), format_type(a.atttypid, a.atttypmod), t.typtype::text,
                          coalesce(format_type(nullif(t.typbasetype, 0), t.typtypmod), ''),
                          a.attgenerated <> '', a.attidentity::text
                     FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
                    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
    let statement = client.prepare(columns).await.expect("the catalog's columns");
    let mut tables = Vec::new();
    for row in client.query(&sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")) {
        let oid: u32 = row.get(6);
        let columns = client.query(&statement, &[&oid]).await.expect("columns");
        let columns = columns.iter().map(|row| Column {
            name: row.get(0),
            type_name: row.get(1),
            type_kind: row.get(2),
            base_type: row.get(3),
            is_generated: row.get(4),
            identity: row.get(5),
        });
        tables.push(Table {
            name: row.get(0),
            schema: row.get(2),
            kind: row.get(3),
            strategy: row.get(4),
            has_virtual: row.get(8),
            is_partition: row.get(5),
            columns: columns.collect(),
            keys: row.get(7),
        });
    }
    tables
}
