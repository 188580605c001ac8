//! Types of columns, and expressions that give them values.

use super::{support::Chance, world::Column};

/// A type and expressions of it; `#` becomes a small number.
type Expressions = (&'static str, &'static [&'static str]);

const TYPES: &[Expressions] = &[
    ("integer", &["#", "-#", "(random() * 100)::int"]),
    ("integer", &["#", "#"]),
    ("bigint", &["#", "9223372036854775807 - #"]),
    ("smallint", &["#", "-32768"]),
    ("numeric", &["#.#", "'NaN'", "-1e100 * #", "random()::numeric"]),
    ("numeric(8,3)", &["#.5", "-#"]),
    ("real", &["#.1", "'-0'", "'NaN'", "'Infinity'"]),
    ("double precision", &["random()", "'-Infinity'", "'NaN'", "#e-300"]),
    ("boolean", &["true", "# % 2 = 0"]),
    (
        "text",
        &[
            "''",
            "'text #'",
            "E'tab\\tline\\n\\\\ #'",
            "'漢字 🐘 #'",
            "repeat(md5(random()::text), 300 + #)",
            "'\\N'",
        ],
    ),
    ("text", &["'v#'", "repeat('x', 9000 + #)"]),
    ("character varying(20)", &["''", "'Grüße #'"]),
    ("character(6)", &["'a #'", "''"]),
    ("bytea", &["'\\x00#0ff'", "''", "decode(md5(random()::text), 'hex')"]),
    ("json", &["'{\"a\": #,  \"a\": null}'", "'[]'"]),
    ("jsonb", &["'{\"b\": [#, \"x\"]}'", "jsonb_build_object('at', clock_timestamp())"]),
    ("uuid", &["gen_random_uuid()", "'00000000-0000-0000-0000-0000000000#0'"]),
    ("inet", &["'10.0.0.#'", "'::#/64'"]),
    ("bit(5)", &["B'01011'", "#::bit(5)"]),
    ("bit varying", &["B''", "B'1#'"]),
    ("date", &["'2024-01-01'::date + #", "'infinity'", "current_date"]),
    ("time without time zone", &["'12:34:56.#'", "'24:00'"]),
    (
        "timestamp without time zone",
        &["'2024-02-29 12:00'::timestamp + # * interval '1 hour'", "'-infinity'"],
    ),
    ("timestamp with time zone", &["now()", "clock_timestamp()", "'2024-06-01 00:00+#'"]),
    ("interval", &["'1 year -# days'", "'-# seconds'"]),
    ("point", &["'(#,-0)'"]),
    ("int4range", &["'[#,)'", "'empty'"]),
    ("numrange", &["'[0.#,100]'"]),
    ("tstzrange", &["tstzrange(now(), NULL)"]),
    ("int8multirange", &["'{[1,#1),[1000,)}'", "'{}'"]),
    ("tsvector", &["to_tsvector('simple', 'word# other')"]),
    ("text[]", &["'{}'", "ARRAY['', NULL, 'a\"b', 'v#']", "'[0:1]={a,b}'"]),
    ("integer[]", &["ARRAY[[1,2],[3,#]]", "'{}'"]),
    ("timestamp with time zone[]", &["ARRAY[now(), NULL]"]),
];

/// A type for a new column: a built-in one, or one that random DDL made.
pub fn column_type(chance: &mut Chance, made: &[String]) -> String {
    if !made.is_empty() && chance.one_in(6) {
        let made = chance.pick(made).clone();
        return if chance.one_in(5) { format!("{made}[]") } else { made };
    }
    chance.pick(TYPES).0.to_owned()
}

/// A value for a column.
pub fn value(chance: &mut Chance, column: &Column) -> String {
    if chance.one_in(8) {
        return "NULL".to_owned();
    }
    let name = &column.type_name;
    let number = chance.below(40);
    match column.type_kind.as_str() {
        "e" => {
            format!("(enum_range(NULL::{name}))[1 + {number} % cardinality(enum_range(NULL::{name}))]")
        }
        "c" => format!("'({number},\"a \"\"{number}\"\"\")'::{name}"),
        "r" => format!("'[{number},]'::{name}"),
        "m" => format!("'{{[1,{number}0]}}'::{name}"),
        "d" => match of_type(chance, &column.base_type) {
            Some(value) => format!("({value})::{name}"),
            None => "NULL".to_owned(),
        },
        _ => of_type(chance, name).unwrap_or_else(|| "NULL".to_owned()),
    }
}

fn of_type(chance: &mut Chance, name: &str) -> Option<String> {
    let (_, expressions) = TYPES.iter().find(|(known, _)| *known == name)?;
    let number = (chance.below(40) + 1).to_string();
    Some(chance.pick(expressions).replace('#', &number))
}

/// A value for a new column of this type, if its type is a built-in one.
pub fn default_of(chance: &mut Chance, type_name: &str) -> Option<String> {
    of_type(chance, type_name)
}

/// A name for something new; awkward ones among them. Quoted.
pub fn name(chance: &mut Chance, stem: &str) -> String {
    let number = chance.below(12);
    match chance.below(9) {
        0 => format!("\"{stem} {number}\""),
        1 => format!("\"{}{number}\"", stem.to_uppercase()),
        2 => format!("\"{stem}ä漢{number}\""),
        3 => format!("\"{stem};\"\"{number}'\""),
        4 => format!("\"{stem}$$\\{number}\""),
        _ => format!("{stem}{number}"),
    }
}
