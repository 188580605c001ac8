//! Whether a statement is one that PostgreSQL gives a certain command tag.
//!
//! Tags: PostgreSQL source, `src/include/tcop/cmdtaglist.h` and `CreateCommandTag` in `utility.c`. A tag is
//! what was written (`ALTER TABLE v RENAME ..` of a view has the tag `ALTER TABLE`), without the words that
//! only modify it.

use std::collections::HashSet;

use super::split::{SqlStatement, Word};

/// Words after CREATE that no tag has. `DEFAULT` is CREATE DEFAULT CONVERSION.
const CREATE_MODIFIERS: [&str; 11] = [
    "OR",
    "REPLACE",
    "GLOBAL",
    "LOCAL",
    "TEMP",
    "TEMPORARY",
    "UNLOGGED",
    "RECURSIVE",
    "UNIQUE",
    "TRUSTED",
    "DEFAULT",
];

/// How many words are looked at: more than any tag has, modifiers included.
const LEADING_WORDS: usize = 8;

/// What is looked at of a statement to tell which event it belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outline {
    leading: Vec<String>,
    selects: bool,
    names: HashSet<String>,
}

impl Outline {
    /// That of one statement.
    #[must_use]
    pub fn of(statement: &SqlStatement<'_>) -> Self {
        Self {
            leading: leading_keywords(&statement.words),
            selects: selects(&statement.words),
            names: statement.words.iter().filter_map(Word::name).collect(),
        }
    }

    /// Its first words in upper case.
    #[must_use]
    pub fn leading(&self) -> &[String] {
        &self.leading
    }

    /// Whether it has the command tag `tag`.
    #[must_use]
    pub fn has_tag(&self, tag: &str) -> bool {
        let leading = &self.leading;
        match tag {
            "SELECT INTO" => leading.first().is_some_and(|first| {
                matches!(first.as_str(), "SELECT" | "WITH" | "TABLE" | "VALUES") || first == "("
            }),
            "CREATE TABLE AS" => starts(leading, "CREATE TABLE") && self.selects,
            "CREATE TABLE" => starts(leading, tag) && !self.selects,
            "CREATE OPERATOR" | "ALTER OPERATOR" | "DROP OPERATOR" => {
                starts(leading, tag)
                    && !leading.get(2).is_some_and(|word| word == "CLASS" || word == "FAMILY")
            }
            // Without a handler, CREATE LANGUAGE is a way to write CREATE EXTENSION (gram.y).
            "CREATE EXTENSION" => starts(leading, tag) || starts(leading, "CREATE LANGUAGE"),
            _ => starts(leading, tag),
        }
    }

    /// Whether it names an object of that identity, as `pg_event_trigger_ddl_commands` prints it: its last part
    /// stands in the statement as a name.
    #[must_use]
    pub fn names_object(&self, identity: &str) -> bool {
        last_part(identity).is_some_and(|wanted| self.names.contains(&wanted))
    }
}

/// Whether a query makes the table: `CREATE TABLE t AS ..`, with AS outside the parentheses of the columns.
fn selects(words: &[Word<'_>]) -> bool {
    words.iter().any(|word| word.depth == 0 && word.is("AS"))
}

fn starts(leading: &[String], tag: &str) -> bool {
    tag.split(' ').enumerate().all(|(at, word)| leading.get(at).is_some_and(|found| found == word))
}

/// The first words in upper case, without those that modify a CREATE and without PROCEDURAL and CONSTRAINT
/// where a tag leaves them out.
fn leading_keywords(words: &[Word<'_>]) -> Vec<String> {
    let mut leading: Vec<String> = words
        .iter()
        .take(LEADING_WORDS + CREATE_MODIFIERS.len())
        .map(|word| word.text.to_ascii_uppercase())
        .collect();
    if leading.first().is_some_and(|first| first == "CREATE") {
        while leading.get(1).is_some_and(|word| CREATE_MODIFIERS.contains(&word.as_str())) {
            leading.remove(1);
        }
    }
    let optional = leading.get(1).is_some_and(|word| word == "PROCEDURAL" || word == "CONSTRAINT");
    if optional {
        leading.remove(1);
    }
    leading
}

/// The unquoted last part of a qualified name, without arguments: `public."A b"(integer)` gives `A b`.
/// Identities of parts of tables end with `on <table>` (`trigger on public.t`); the name comes first there.
fn last_part(identity: &str) -> Option<String> {
    let mut part = String::new();
    let mut quoted = false;
    let mut chars = identity.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                part.push('"');
                chars.next();
            }
            '"' => quoted = !quoted,
            '.' if !quoted => part.clear(),
            '(' | ' ' if !quoted => break,
            _ => part.push(c),
        }
    }
    (!part.is_empty()).then_some(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ddl::split::{Backslashes, split};

    fn outline(sql: &str) -> Outline {
        Outline::of(&split(sql, Backslashes::Ordinary).unwrap()[0])
    }

    fn matches(sql: &str, tag: &str) -> bool {
        outline(sql).has_tag(tag)
    }

    #[test]
    fn modifiers_are_not_part_of_a_tag() {
        for (sql, tag) in [
            ("create table t (a int generated always as (1) stored)", "CREATE TABLE"),
            ("create unlogged table if not exists t ()", "CREATE TABLE"),
            ("CREATE TEMP TABLE t AS SELECT 1", "CREATE TABLE AS"),
            ("create table t (a) as execute p", "CREATE TABLE AS"),
            ("with x as (select 1) select * into t from x", "SELECT INTO"),
            ("(select 1 as a into t)", "SELECT INTO"),
            ("create or replace temp recursive view v (a) as select 1", "CREATE VIEW"),
            ("create materialized view v as select 1", "CREATE MATERIALIZED VIEW"),
            ("create unique index concurrently on t (a)", "CREATE INDEX"),
            (
                "create constraint trigger x after insert on t for each row execute function f()",
                "CREATE TRIGGER",
            ),
            ("create or replace trusted procedural language l handler h", "CREATE LANGUAGE"),
            ("create language plperl", "CREATE EXTENSION"),
            ("drop procedural language l", "DROP LANGUAGE"),
            ("create default conversion c for 'a' to 'b' from f", "CREATE CONVERSION"),
            ("create operator class c for type int using btree as storage int", "CREATE OPERATOR CLASS"),
            ("alter table only t add column b int", "ALTER TABLE"),
            ("grant select on t to public", "GRANT"),
            ("refresh materialized view concurrently v", "REFRESH MATERIALIZED VIEW"),
            ("comment on table t is 'x'", "COMMENT"),
            ("alter default privileges grant select on tables to public", "ALTER DEFAULT PRIVILEGES"),
        ] {
            assert!(matches(sql, tag), "{sql} / {tag}");
        }
    }

    #[test]
    fn another_statement_does_not_match() {
        for (sql, tag) in [
            ("create table t as select 1", "CREATE TABLE"),
            ("create table t ()", "CREATE TABLE AS"),
            ("create operator class c for type int using btree as storage int", "CREATE OPERATOR"),
            ("select f()", "CREATE TABLE"),
            ("drop table t", "CREATE TABLE"),
            ("create", "CREATE TABLE"),
        ] {
            assert!(!matches(sql, tag), "{sql} / {tag}");
        }
    }

    #[test]
    fn an_object_is_recognised_by_the_last_part_of_its_identity() {
        let table = outline(r#"create table app."Or""der" (a int)"#);
        assert!(table.names_object(r#"app."Or""der""#));
        assert!(!table.names_object("app.order"));
        assert!(outline("create function F(a int) returns int").names_object("public.f(integer,text)"));
        assert!(outline("create trigger tr after insert on t").names_object("tr on public.t"));
    }
}
