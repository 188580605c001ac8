//! Whether a statement is one that PostgreSQL gives a certain command tag.
//!
//! Tags: PostgreSQL source, `src/include/tcop/cmdtaglist.h` and `CreateCommandTag` in `utility.c`. A tag is
//! what was written (`ALTER TABLE v RENAME ..` of a view has the tag `ALTER TABLE`), without the words that
//! only modify it.

mod names;

use std::collections::HashSet;

use super::split::{SqlStatement, Word};
use names::Path;
pub use names::Touched;

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
    /// Whether it is about objects of the whole cluster, for which no event is fired.
    is_global: bool,
    names: HashSet<Path>,
    condition: Condition,
}

/// `IF [NOT] EXISTS`, with which a statement may have nothing to do. It fires no event then.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Condition {
    /// It always does something.
    None,
    /// It makes what has this name, or nothing.
    Missing(Path),
    /// It does something to what it names, or nothing.
    There,
}

/// Kinds of objects of the cluster (`EventTriggerSupportsObjectType` in `event_trigger.c`), as they stand behind ON.
const GLOBAL_KINDS: [&str; 4] = ["DATABASE", "TABLESPACE", "ROLE", "PARAMETER"];

impl Outline {
    /// That of one statement.
    #[must_use]
    pub fn of(statement: &SqlStatement<'_>) -> Self {
        Self {
            leading: leading_keywords(&statement.words),
            selects: selects(&statement.words),
            is_global: is_global(&statement.words),
            names: names::written(&statement.words),
            condition: Condition::of(&statement.words),
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
            "GRANT" | "REVOKE" | "COMMENT" | "SECURITY LABEL" => starts(leading, tag) && !self.is_global,
            // Without a handler, CREATE LANGUAGE is a way to write CREATE EXTENSION (gram.y).
            "CREATE EXTENSION" => starts(leading, tag) || starts(leading, "CREATE LANGUAGE"),
            _ => starts(leading, tag),
        }
    }

    /// Whether it names one of these objects.
    #[must_use]
    pub fn names_one_of(&self, touched: &Touched) -> bool {
        match &self.condition {
            Condition::Missing(path) => touched.has(path, self.makes_index()),
            Condition::None | Condition::There => touched.are_named_by(&self.names),
        }
    }

    /// Whether it had nothing to do, as what was touched instead shows: `IF [NOT] EXISTS`, and nothing of its own is
    /// among it.
    #[must_use]
    pub fn is_idle(&self, touched: &Touched) -> bool {
        self.condition != Condition::None && !touched.is_empty() && !self.names_one_of(touched)
    }

    /// An index is in the schema of its table.
    fn makes_index(&self) -> bool {
        self.leading.get(1).is_some_and(|kind| kind == "INDEX")
    }
}

impl Condition {
    fn of(words: &[Word<'_>]) -> Self {
        let outer = || words.iter().take(LEADING_WORDS + CREATE_MODIFIERS.len());
        let Some(at) = outer().position(|word| word.depth == 0 && word.is("IF")) else { return Self::None };
        let is_missing = words.get(at + 1).is_some_and(|word| word.is("NOT"));
        let at = at + if is_missing { 3 } else { 2 };
        if !words[..at.min(words.len())].last().is_some_and(|word| word.is("EXISTS")) {
            return Self::None;
        }
        // Here the object is called by other words than its name: a user mapping, the schema of a role.
        if words.get(at).is_none_or(|word| word.is("FOR") || word.is("AUTHORIZATION")) {
            return Self::None;
        }
        match names::path_at(words, at) {
            // An operator.
            None => Self::None,
            // Not a part of what is altered: ADD COLUMN IF NOT EXISTS.
            Some(path) if is_missing && words[0].is("CREATE") => Self::Missing(path),
            Some(_) if is_missing => Self::None,
            Some(_) => Self::There,
        }
    }
}

/// Whether a GRANT, REVOKE, COMMENT or SECURITY LABEL is about objects of the cluster, or about membership in a role.
fn is_global(words: &[Word<'_>]) -> bool {
    let Some(on) = words.iter().position(|word| word.depth == 0 && word.is("ON")) else { return true };
    let (Some(kind), Some(next)) = (words.get(on + 1), words.get(on + 2)) else { return false };
    // A table may be called `database`.
    let is_kind = next.name().is_some() && !next.is("TO") && !next.is("FROM");
    let of_events = kind.is("EVENT") && next.is("TRIGGER");
    of_events || is_kind && GLOBAL_KINDS.iter().any(|global| kind.is(global))
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
    fn what_is_about_the_whole_cluster_has_no_event() {
        for (sql, tag, expected) in [
            ("grant connect on database shop to app", "GRANT", false),
            ("grant select (a, b) on t to app", "GRANT", true),
            ("grant select on database to app", "GRANT", true),
            ("grant select on database.t, tablespace to app", "GRANT", true),
            ("grant usage on schema public to app", "GRANT", true),
            ("grant clerk, admin to app with admin option", "GRANT", false),
            ("grant create on tablespace fast to app", "GRANT", false),
            ("grant set on parameter work_mem to app", "GRANT", false),
            ("revoke admin option for clerk from app", "REVOKE", false),
            ("revoke grant option for select on all tables in schema public from app", "REVOKE", true),
            ("comment on role app is 'x'", "COMMENT", false),
            ("comment on event trigger e is 'x'", "COMMENT", false),
            ("comment on trigger event on t is 'x'", "COMMENT", true),
            ("security label for p on database shop is 'x'", "SECURITY LABEL", false),
            ("security label on table t is 'x'", "SECURITY LABEL", true),
        ] {
            assert_eq!(matches(sql, tag), expected, "{sql}");
        }
    }
}
