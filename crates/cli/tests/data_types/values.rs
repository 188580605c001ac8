//! Types and values of each, as their input functions read them.

/// A type and some of its values; NULL is tested with all.
pub type Values = (&'static str, &'static [&'static str]);

/// Of pg_catalog. That none is missing is tested.
pub const BUILT_IN: &[Values] = &[
    ("bool", &["t", "f"]),
    ("int2", &["0", "-32768", "32767"]),
    ("int4", &["0", "-2147483648", "2147483647"]),
    ("int8", &["0", "-9223372036854775808", "9223372036854775807"]),
    ("float4", &["0", "-0", "NaN", "Infinity", "-Infinity", "1e-45", "3.4028235e38", "0.1"]),
    ("float8", &["0", "-0", "NaN", "Infinity", "-Infinity", "5e-324", "1.7976931348623157e308", "0.1"]),
    (
        "numeric",
        &["0", "0.00", "NaN", "Infinity", "-Infinity", "1e-16383", "123456789012345678901234567890.5"],
    ),
    ("numeric(10,2)", &["0.1", "-99999999.99", "NaN"]),
    ("money", &["0", "-92233720368547758.08", "12.34"]),
    ("text", &["", "NULL", "\\N", "\\", "a'b\"c", "tab\tand\nline\r", "漢字 🐘", "{}", " ", "\u{1}\u{7f}"]),
    ("varchar", &["", "ä"]),
    ("varchar(3)", &["", "äöü"]),
    ("bpchar", &["", "x  ", "x"]),
    ("char(5)", &["", "a b", "äöü"]),
    ("\"char\"", &["a", "", "\\377"]),
    ("name", &["", "a \"name\"", "abcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabc"]),
    ("cstring", &[]),
    ("bytea", &["", "\\x00ff5c27", "\\x"]),
    ("bit", &["0", "1"]),
    ("bit(4)", &["0101"]),
    ("varbit", &["", "1", "010101010"]),
    ("date", &["2000-01-01", "infinity", "-infinity", "4713-01-01 BC", "5874897-12-31"]),
    ("time", &["00:00", "24:00", "12:34:56.789012"]),
    ("timetz", &["00:00+14", "24:00-12:30", "12:34:56.789012+00"]),
    (
        "timestamp",
        &["2000-01-01", "infinity", "-infinity", "0044-03-15 12:00 BC", "294276-12-31 23:59:59.999999"],
    ),
    ("timestamp(3)", &["2000-01-01 00:00:00.1239"]),
    (
        "timestamptz",
        &["2000-01-01 00:00+05:30", "infinity", "-infinity", "1883-11-18 12:00 America/New_York"],
    ),
    ("interval", &["0", "1 year -2 mons 3 days -04:05:06.789", "-1 day", "178000000 years", "1 mon"]),
    ("uuid", &["00000000-0000-0000-0000-000000000000", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    ("json", &["null", "{\"a\": 1, \"a\":  2}", "\"\\u00e4\"", "[]", "{ }"]),
    ("jsonb", &["null", "{\"b\": [1, 2.50, \"x\"], \"a\": null}", "\"\\u00e4\"", "[]", "1e1000"]),
    ("jsonpath", &["$.a[*] ? (@ > 1)", "strict $"]),
    ("xml", &["<a b=\"c\">d</a>", "text only", "<a/><b/>"]),
    ("inet", &["0.0.0.0/0", "192.168.1.5/24", "::1", "fe80::1/64"]),
    ("cidr", &["10.0.0.0/8", "::/0"]),
    ("macaddr", &["08:00:2b:01:02:03"]),
    ("macaddr8", &["08:00:2b:01:02:03:04:05"]),
    ("point", &["(0,-0)", "(NaN,Infinity)", "(1.5,2)"]),
    ("line", &["{1,-1,0}"]),
    ("lseg", &["[(0,0),(1,1)]"]),
    ("box", &["(1,1),(0,0)"]),
    ("path", &["[(0,0),(1,1)]", "((0,0),(1,1),(2,0))"]),
    ("polygon", &["((0,0),(1,1),(2,0))"]),
    ("circle", &["<(0,0),1.5>"]),
    ("tsvector", &["", "'a':1A 'fat':2,4B 'it''s'"]),
    ("tsquery", &["", "'a' & !( 'b':* | 'c':AB )", "'a' <2> 'b'"]),
    ("int4range", &["empty", "(,)", "[1,5)", "[1,)"]),
    ("int8range", &["empty", "[-5,5)"]),
    ("numrange", &["(0.5,1.50]", "[,NaN]", "empty"]),
    ("daterange", &["[2000-01-01,infinity]", "(,)"]),
    ("tsrange", &["[\"2000-01-01 00:00:00\",)", "[-infinity,infinity]"]),
    ("tstzrange", &["[\"2000-01-01 00:00:00+02\",)", "empty"]),
    ("int4multirange", &["{}", "{[1,3),[5,7)}"]),
    ("int8multirange", &["{(,)}"]),
    ("nummultirange", &["{[0.1,0.2],(1,2)}"]),
    ("datemultirange", &["{[2000-01-01,2000-02-01),[2001-01-01,)}"]),
    ("tsmultirange", &["{[2000-01-01,2001-01-01)}"]),
    ("tstzmultirange", &["{}"]),
    ("oid", &["0", "4294967295"]),
    ("oidvector", &["", "1 2 4294967295"]),
    ("int2vector", &["", "-1 0 32767"]),
    ("tid", &["(0,1)", "(4294967295,65535)"]),
    ("xid", &["0", "4294967295"]),
    ("xid8", &["0", "18446744073709551615"]),
    ("cid", &["0", "4294967295"]),
    ("pg_lsn", &["0/0", "FFFFFFFF/FFFFFFFF"]),
    ("pg_snapshot", &["10:20:10,14,15", "1:1:"]),
    ("txid_snapshot", &["10:20:10,14,15"]),
    ("refcursor", &["", "a cursor"]),
    ("aclitem", &["pg_monitor=r*w/pg_monitor", "=r/pg_monitor"]),
    ("regclass", &["pg_catalog.pg_class", "-"]),
    ("regcollation", &["pg_catalog.\"C\""]),
    ("regconfig", &["pg_catalog.english"]),
    ("regdictionary", &["pg_catalog.simple"]),
    ("regnamespace", &["pg_catalog"]),
    ("regoper", &["pg_catalog.||/"]),
    ("regoperator", &["pg_catalog.+(integer,integer)"]),
    ("regproc", &["pg_catalog.now"]),
    ("regprocedure", &["pg_catalog.abs(integer)"]),
    ("regrole", &["pg_monitor"]),
    ("regtype", &["pg_catalog.int4", "character varying"]),
];

/// Types that no SQL can give a value: their input functions refuse.
pub const WITHOUT_INPUT: &[&str] = &[
    "gtsvector",
    "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary",
    "pg_dependencies",
    "pg_mcv_list",
    "pg_ndistinct",
    "pg_node_tree",
];

/// Made by the test's own DDL.
pub const OWN: &[Values] = &[
    ("mood", &["sad", "it's \"ok\", {really}", ""]),
    ("positive", &["1", "2147483647"]),
    ("named", &["(,)", "(\"a \"\"b\"\" (c),\",\"{1,NULL}\")"]),
    ("floats", &["[1.5,NaN]", "(,)", "empty"]),
    ("floats_multi", &["{[1,2],[3,Infinity]}"]),
    ("codes", &["{x}", "{}"]),
];

/// Makes the types of [`OWN`], in the current schema.
pub const OWN_DDL: &str = "
CREATE TYPE mood AS ENUM ('sad', 'it''s \"ok\", {really}', '');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TYPE named AS (name text, numbers int[]);
CREATE TYPE floats AS RANGE (subtype = float8, multirange_type_name = floats_multi);
CREATE DOMAIN codes AS text[] CHECK (cardinality(VALUE) < 3);
";

/// Extensions of contrib, and the types that come with each.
pub const CONTRIB: &[(&str, &[Values])] = &[
    ("citext", &[("citext", &["", "Ada", "ADA"])]),
    ("cube", &[("cube", &["(0)", "(1, 2),(3, 4)"])]),
    ("hstore", &[("hstore", &["", "\"a\"=>NULL, \"b c\"=>\"d\\\"e\""])]),
    ("intarray", &[("query_int", &["1&(2|!3)"])]),
    (
        "isn",
        &[
            ("ean13", &["978-0-393-04002-9"]),
            ("isbn", &["978-0-393-04002-9"]),
            ("isbn13", &["978-0-393-04002-9"]),
            ("ismn", &["979-0-060-11561-5"]),
            ("issn", &["1436-4522"]),
            ("upc", &["220356483481"]),
        ],
    ),
    ("lo", &[("lo", &["0", "12345"])]),
    (
        "ltree",
        &[
            ("ltree", &["", "Top.Science.x_1"]),
            ("lquery", &["Top.*{1,2}.!a|b%"]),
            ("ltxtquery", &["a & !b*@"]),
        ],
    ),
    ("seg", &[("seg", &["1.50", "1.5 .. 2.50", "<3", "4.0 .."])]),
    ("earthdistance", &[("earth", &["(6378168, 0, 0)"])]),
];
