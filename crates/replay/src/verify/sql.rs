//! The statements that hash rows and fetch them. Pure.
//!
//! The two servers may be of different versions and have different collations: a row is hashed as text under
//! canonical settings, by SHA-256, and ordered by `COLLATE "C"`; no hash and no order of the server's own is used.

use ptr_postgres::{QualifiedName, quote_identifier};

use super::plan::{Key, TablePlan};

/// Values longer than this are hashed by themselves: a row's text must stay below 1 GB.
const LONG: u32 = 1 << 20;

/// The encoding to hash in: bytes as they are where the server does not know what they mean.
const ENCODING: &str =
    "(CASE WHEN getdatabaseencoding() = 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END)::name";

fn sha256(text: &str) -> String {
    format!("sha256(convert_to({text}, {ENCODING}))")
}

/// A column as it stands in a row's text. A cast could be a function of the user's; a type's own output is not.
fn field((name, of): &(String, String)) -> String {
    match of.as_str() {
        "bytea" | "text" | "varchar" | "json" => value(&(name.clone(), of.clone())),
        _ => quote_identifier(name),
    }
}

/// A column as text.
fn value((name, of): &(String, String)) -> String {
    let name = quote_identifier(name);
    let long = |length: &str, hash: &str| {
        format!(
            "CASE WHEN octet_length({length}) > {LONG} THEN 'sha256:' || encode({hash}, 'hex') ELSE {name}::text END"
        )
    };
    match of.as_str() {
        "bytea" => long(&name, &format!("sha256({name})")),
        "text" | "varchar" | "json" => long(&format!("{name}::text"), &sha256(&format!("{name}::text"))),
        _ => format!("{name}::text"),
    }
}

/// The same, cut to what a person reads.
fn shown_value(column: &(String, String)) -> String {
    let value = value(column);
    let hash = sha256(&value);
    format!(
        "CASE WHEN length({value}) > 300 THEN left({value}, 200) || ' ... (sha256 ' || left(encode({hash}, 'hex'), 16) || ')'
         ELSE {value} END"
    )
}

fn row(columns: &[String]) -> String {
    format!("ROW({})::text", columns.join(", "))
}

/// Rows of a range of pages: `digest`, `key` and the number of their group.
fn rows(plan: &TablePlan, range: (u64, Option<u64>), more: &str) -> String {
    let columns: Vec<String> = plan.columns.iter().map(field).collect();
    let groups = plan.groups;
    let hashed = |digest: &str| {
        let byte = |place| format!("get_byte({digest}, {place})");
        format!("(({} * 65536 + {} * 256 + {}) % {groups})", byte(16), byte(17), byte(18))
    };
    let (key, group) = match &plan.key {
        Key::Integer(name) => {
            let name = format!("{}::bigint", quote_identifier(name));
            (name, format!("(((key % {groups}) + {groups}) % {groups})::int"))
        }
        Key::Columns(names) => {
            let key: Vec<String> = names.iter().map(|name| quote_identifier(name)).collect();
            (row(&key), hashed(&sha256("key")))
        }
        Key::None => ("NULL::text".to_owned(), hashed("digest")),
    };
    let group = if groups == 1 { "0".to_owned() } else { group };
    let from = if range.0 == 0 { String::new() } else { format!(" AND ctid >= '({},0)'::tid", range.0) };
    let to = range.1.map_or(String::new(), |end| format!(" AND ctid < '({end},0)'::tid"));
    // OFFSET 0, so that what is computed is computed once.
    format!(
        "SELECT *, {group} AS part FROM (
             SELECT {} AS digest, {key} AS key{more} FROM ONLY {} WHERE true{from}{to} OFFSET 0) AS hashed",
        sha256(&row(&columns)),
        QualifiedName::new(&plan.name.0, &plan.name.1)
    )
}

/// For each group: its number, its rows, and the sums of two halves of their hashes. A sum, not an exclusive or,
/// so that rows that are there twice count twice.
pub(super) fn sums(plan: &TablePlan, range: (u64, Option<u64>)) -> String {
    let half =
        |from: u32| format!("sum(('x' || encode(substr(digest, {from}, 8), 'hex'))::bit(64)::bigint)::text");
    format!(
        "SELECT part, count(*), {}, {} FROM ({} OFFSET 0) AS numbered GROUP BY part",
        half(1),
        half(9),
        rows(plan, range, "")
    )
}

/// The rows of the groups `$1`, in an order that both servers have: what they are ordered and paired by, the key
/// for people, the digest, and the columns' texts.
pub(super) fn of_groups(plan: &TablePlan) -> String {
    let columns: Vec<String> = plan.columns.iter().map(shown_value).collect();
    let more = format!(", ARRAY[{}]::text[] AS columns", columns.join(", "));
    let order = match &plan.key {
        Key::Integer(_) => "lpad((key::numeric + 9223372036854775808)::text, 20, '0')",
        Key::Columns(_) => "key",
        Key::None => "encode(digest, 'hex')",
    };
    format!(
        "SELECT ({order}) COLLATE \"C\" AS place, key::text, encode(digest, 'hex') COLLATE \"C\" AS hex, columns
         FROM ({} OFFSET 0) AS numbered WHERE part = ANY($1) ORDER BY place, hex",
        rows(plan, (0, None), &more)
    )
}
