//! Names of types as `format_type(oid, -1)` prints them: names that mean the type and nothing narrower, so
//! that a value can be cast with them (`bpchar`, because `character` means one character).

use postgres_types::{Kind, Type};
use ptr_model::Oid;
use ptr_postgres::quote_identifier;

/// What `format_type` prints for an oid that it does not know.
const UNKNOWN: &str = "???";

/// The name of a type that the server does not announce: those with oids below 10000
/// (`FirstGenbkiObjectId`).
pub(super) fn built_in(oid: Oid) -> String {
    Type::from_oid(oid.0).map_or_else(|| UNKNOWN.to_owned(), |known| spelled(&known))
}

/// The name of an announced type. An array keeps its name in the catalog (`public._mood`), which can be cast
/// to as well as `public.mood[]`, and is never mistaken for that of a type whose name begins so.
pub(super) fn announced(schema: &str, name: &str) -> String {
    if schema.is_empty() || schema == "pg_catalog" {
        // A domain is announced by the name of its base type, which may be built in.
        return in_catalog(name);
    }
    format!("{}.{}", quoted_where_needed(schema), quoted_where_needed(name))
}

fn spelled(known: &Type) -> String {
    match known.kind() {
        Kind::Array(element) if known.name().starts_with('_') => format!("{}[]", spelled(element)),
        _ => in_catalog(known.name()),
    }
}

/// `format_type_extended` in PostgreSQL's format_type.c: the SQL standard's names, and quotes where the
/// catalog's name is a keyword.
fn in_catalog(name: &str) -> String {
    let spelled = match name {
        "bit" => "\"bit\"",
        "bool" => "boolean",
        "char" => "\"char\"",
        "float4" => "real",
        "float8" => "double precision",
        "int2" => "smallint",
        "int4" => "integer",
        "int8" => "bigint",
        "time" => "time without time zone",
        "timetz" => "time with time zone",
        "timestamp" => "timestamp without time zone",
        "timestamptz" => "timestamp with time zone",
        "varbit" => "bit varying",
        "varchar" => "character varying",
        other => match other.strip_prefix('_') {
            Some(element) => return format!("{}[]", in_catalog(element)),
            // Those whose names are keywords (interval, numeric) are spelled as the grammar spells them.
            None => other,
        },
    };
    spelled.to_owned()
}

/// Words that cannot stand unquoted as a schema's name (PostgreSQL manual, appendix C: reserved, and those
/// that can be a function's or a type's name but no column's, or the other way round).
const RESERVED: &str = " all analyse analyze and any array as asc asymmetric authorization between bigint binary bit \
    boolean both case cast char character check coalesce collate collation column concurrently constraint create \
    cross current_catalog current_date current_role current_schema current_time current_timestamp current_user dec \
    decimal default deferrable desc distinct do else end except exists extract false fetch float for foreign freeze \
    from full grant greatest group grouping having ilike in initially inner inout int integer intersect interval \
    into is isnull join lateral leading least left like limit localtime localtimestamp national natural nchar none \
    normalize not notnull null nullif numeric offset on only or order out outer overlaps overlay placing position \
    precision primary real references returning right row select session_user setof similar smallint some substring \
    symmetric system_user table tablesample then time timestamp to trailing treat trim true union unique user using \
    values varchar variadic verbose when where window with xmlattributes xmlconcat xmlelement xmlexists xmlforest \
    xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable ";

fn quoted_where_needed(name: &str) -> String {
    let begins = |b: &u8| matches!(b, b'a'..=b'z' | b'_');
    let goes_on = |b: u8| matches!(b, b'a'..=b'z' | b'_' | b'0'..=b'9');
    let plain = name.as_bytes().first().is_some_and(begins) && name.bytes().all(goes_on);
    let reserved = RESERVED.contains(&format!(" {name} "));
    if plain && !reserved { name.to_owned() } else { quote_identifier(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_types_have_the_names_of_format_type() {
        for (oid, name) in [
            (23, "integer"),
            (1007, "integer[]"),
            (1042, "bpchar"),
            (1043, "character varying"),
            (1185, "timestamp with time zone[]"),
            (18, "\"char\""),
            (19, "name"),
            (1560, "\"bit\""),
            (3802, "jsonb"),
            (3904, "int4range"),
            (9999, "???"),
        ] {
            assert_eq!(built_in(Oid(oid)), name);
        }
    }

    #[test]
    fn announced_types_are_qualified_and_quoted_where_needed() {
        assert_eq!(announced("public", "mood"), "public.mood");
        assert_eq!(announced("public", "_mood"), "public._mood");
        assert_eq!(announced("App", "my\"type"), "\"App\".\"my\"\"type\"");
        assert_eq!(announced("user", "state"), "\"user\".state");
        assert_eq!(announced("", "int4"), "integer");
        assert_eq!(announced("", "_text"), "text[]");
    }
}
