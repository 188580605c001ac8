//! Every type keeps every value: through the base image, the log, an update and a deletion, forwards and backwards.
#![allow(missing_docs)]

mod large;
mod statements;
#[path = "../support/mod.rs"]
mod support;
mod values;

use std::fmt::Write as _;

use ptr_postgres::{quote_identifier, quote_literal};
use ptr_testkit::{ServerVersion, TestServer};
use support::{
    Chance,
    pair::{DATABASE, Pair},
};
use values::{BUILT_IN, CONTRIB, OWN, OWN_DDL, Values, WITHOUT_INPUT};

/// What this server has: the built-in types, those of our own DDL, those of the extensions that are installed.
struct Subject {
    extensions: Vec<&'static str>,
    types: Vec<Values>,
}

impl Subject {
    async fn of(server: &TestServer) -> Self {
        let available = server.psql(DATABASE, "SELECT name FROM pg_available_extensions").await;
        let is_available = |name: &str| available.lines().any(|line| line == name);
        let contrib: Vec<_> = CONTRIB.iter().filter(|(extension, _)| is_available(extension)).collect();
        // The one built-in type that a server may be built without.
        let xml =
            "SELECT count(*) FROM pg_settings WHERE name = 'server_version_num' AND setting::int < 180000";
        let has_xml = server.psql(DATABASE, xml).await.trim() == "1";
        let built_in = BUILT_IN.iter().filter(|(name, _)| *name != "xml" || has_xml);
        let of_contrib = contrib.iter().flat_map(|(_, types)| types.iter());
        Self {
            extensions: contrib.iter().map(|(extension, _)| *extension).collect(),
            types: built_in.chain(OWN).chain(of_contrib).copied().filter(|(_, v)| !v.is_empty()).collect(),
        }
    }

    /// A schema with two tables for each type, one of them without a key, and all values in them.
    fn make(&self, schema: &str) -> String {
        let mut sql = format!("CREATE SCHEMA {schema}; SET search_path = {schema}, public; {OWN_DDL}");
        for (place, (name, values)) in self.types.iter().enumerate() {
            let domain = if matches!(*name, "codes" | "positive" | "earth") { "int[]" } else { "" };
            let array = if domain.is_empty() { format!("{name}[]") } else { domain.to_owned() };
            let (keyed, loose) = tables(place, name);
            writeln!(sql, "CREATE TABLE {keyed} (id int PRIMARY KEY, v {name}, a {array}, note text);")
                .expect("into a string");
            writeln!(sql, "CREATE TABLE {loose} (v {name});").expect("into a string");
            sql.push_str(&insert(&keyed, &loose, name, values, domain.is_empty()));
        }
        sql
    }

    /// For each type: every row takes the value of another, first together with its array, then alone.
    fn change(&self, schema: &str) -> String {
        let mut sql = format!("SET search_path = {schema}, public; ");
        for (place, (name, _)) in self.types.iter().enumerate() {
            let (keyed, loose) = tables(place, name);
            writeln!(
                sql,
                "UPDATE {keyed} t SET v = o.v, a = o.a FROM {keyed} o
                  WHERE o.id = (t.id + 1) % (SELECT count(*) FROM {keyed});
                 UPDATE {keyed} SET note = 'only this' WHERE id % 2 = 0;
                 UPDATE {keyed} SET id = id + 1000 WHERE id % 3 = 0;
                 UPDATE {loose} SET v = NULL WHERE ctid = (SELECT min(ctid) FROM {loose});
                 DELETE FROM {loose} WHERE ctid = (SELECT max(ctid) FROM {loose});"
            )
            .expect("into a string");
        }
        sql
    }

    fn delete(&self, schema: &str) -> String {
        let each = self.types.iter().enumerate().map(|(place, (name, _))| {
            let (keyed, loose) = tables(place, name);
            format!("DELETE FROM {keyed} WHERE id % 2 = 1; DELETE FROM {loose} WHERE v IS NOT NULL;\n")
        });
        format!("SET search_path = {schema}, public; {}", each.collect::<String>())
    }
}

fn tables(place: usize, name: &str) -> (String, String) {
    (quote_identifier(&format!("keyed {place} {name}")), quote_identifier(&format!("loose {place} {name}")))
}

fn insert(keyed: &str, loose: &str, name: &str, values: &[&str], has_array: bool) -> String {
    let mut sql = String::new();
    let literals: Vec<String> =
        values.iter().map(|value| format!("{}::{name}", quote_literal(value))).collect();
    for (id, literal) in literals.iter().enumerate() {
        let array = if has_array { format!("ARRAY[{literal}, NULL, {literal}]") } else { "NULL".to_owned() };
        writeln!(sql, "INSERT INTO {keyed} VALUES ({id}, {literal}, {array}, '');").expect("into a string");
        writeln!(sql, "INSERT INTO {loose} VALUES ({literal}), ({literal}), (NULL);").expect("into a string");
    }
    let id = literals.len();
    let empty = if has_array { "'{}'" } else { "NULL" };
    writeln!(sql, "INSERT INTO {keyed} VALUES ({id}, NULL, {empty}, NULL);").expect("into a string");
    sql
}

async fn every_value_of_every_type(version: ServerVersion) {
    let pair = Pair::capturing(version, async |primary| {
        let subject = Subject::of(primary).await;
        for extension in &subject.extensions {
            primary.psql(DATABASE, &format!("CREATE EXTENSION {extension} CASCADE")).await;
        }
        primary.psql(DATABASE, &subject.make("imaged")).await;
    })
    .await;
    let subject = Subject::of(&pair.primary).await;
    assert_nothing_is_missing(&pair.primary, &subject).await;
    let mut kept = vec![pair.keep_creation().await];
    let steps = [
        ("changed", subject.change("imaged")),
        ("made", subject.make("logged")),
        ("changed again", subject.change("logged")),
        ("deleted", format!("{}{}", subject.delete("imaged"), subject.delete("logged"))),
    ];
    for (name, sql) in steps {
        pair.primary.psql(DATABASE, &sql).await;
        kept.push(pair.keep(name).await);
    }
    pair.assert_all_come_back(&kept, &mut Chance::seeded()).await;
}

/// Each type of pg_catalog that a column can have is in the table above.
async fn assert_nothing_is_missing(server: &TestServer, subject: &Subject) {
    let sql = "SELECT typname FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace
                  AND typtype IN ('b', 'r', 'm') AND typcategory <> 'A'";
    let names = server.psql(DATABASE, sql).await;
    let tested = |name: &str| {
        subject.types.iter().any(|(tested, _)| tested.trim_matches('"') == name)
            || WITHOUT_INPUT.contains(&name)
            || (name == "xml" && BUILT_IN.iter().any(|(built_in, _)| *built_in == name))
    };
    let missing: Vec<&str> = names.lines().filter(|name| !tested(name)).collect();
    assert!(missing.is_empty(), "types without a value in the test's table: {missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_value_of_every_type_comes_back_on_15() {
    every_value_of_every_type(ServerVersion::Debian15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_value_of_every_type_comes_back_on_18() {
    every_value_of_every_type(ServerVersion::Pypi18).await;
}
