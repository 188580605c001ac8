//! Statements about nothing but temporary objects.
//!
//! They run because permanent objects may come from what they make. But the session of the primary that they are of may
//! have made its objects before this connection began, or they were discarded here since (another session's statements
//! came between): then there is nothing for the statement to be about. It is passed over and said, for nothing
//! temporary is part of what a replica holds. A permanent table of the same name is never taken for the temporary one.

use ptr_model::{AffectedObject, DroppedObject, SchemaChange};

use super::{Applier, Notice};
use crate::{database::Doing, error::ReplayError, stop::passes};

/// The schema of temporary objects, as event triggers name it.
const TEMPORARY: &str = "pg_temp";

const REASON: &str = "it, and what else of this kind comes on the way, is about temporary objects of a session of the \
                      primary that the replica does not have";

/// SQLSTATEs where what is to be made is there: `duplicate_table`, `duplicate_object`, `duplicate_function`.
const PRESENT: [&str; 3] = ["42P07", "42710", "42723"];

/// Whether a change makes, alters or drops temporary objects, and no others.
pub(super) fn is_only_temporary(change: &SchemaChange) -> bool {
    let on_temporary = |kind: &str, identity: &str| is_part(kind) && temporary_table(identity).is_some();
    let altered = |object: &AffectedObject| {
        object.schema.as_deref() == Some(TEMPORARY) || on_temporary(&object.object_type, &object.identity)
    };
    let dropped =
        |object: &DroppedObject| object.is_temporary || on_temporary(&object.object_type, &object.identity);
    !(change.objects.is_empty() && change.dropped.is_empty())
        && change.objects.iter().all(altered)
        && change.dropped.iter().all(dropped)
}

/// Kinds of objects that are not in a schema, but on a table.
fn is_part(kind: &str) -> bool {
    matches!(kind, "trigger" | "rule" | "policy" | "table constraint")
}

/// The temporary table in an identity such as `"a name" on pg_temp.x`; `None` where it is on another.
fn temporary_table(identity: &str) -> Option<&str> {
    let (_, after) = first_name(identity)?;
    after.strip_prefix(" on ").filter(|table| table.starts_with("pg_temp."))
}

/// The relation in the identity of a temporary relation's column, such as `pg_temp.x.a`.
fn relation_of_column(identity: &str) -> Option<&str> {
    let (name, _) = first_name(identity.strip_prefix("pg_temp.")?)?;
    identity.get(.."pg_temp.".len() + name.len())
}

/// The name, quoted or not, that an identity begins with, and what follows.
fn first_name(identity: &str) -> Option<(&str, &str)> {
    let end = match identity.strip_prefix('"') {
        None => identity.find([' ', '.'])?,
        Some(quoted) => identity.len() - after_quote(quoted)?.len(),
    };
    Some(identity.split_at(end))
}

/// What comes after the quote that ends a quoted name; two of them are one in it.
fn after_quote(mut rest: &str) -> Option<&str> {
    loop {
        let (_, after) = rest.split_once('"')?;
        match after.strip_prefix('"') {
            Some(more) => rest = more,
            None => return Some(after),
        }
    }
}

/// What to look for, to see whether an object is here: for a part, what it is a part of.
fn whole<'o>((kind, identity): (&'o str, &'o str)) -> (&'o str, &'o str) {
    let found = if is_part(kind) {
        temporary_table(identity)
    } else if kind.ends_with(" column") {
        relation_of_column(identity)
    } else {
        return (kind, identity);
    };
    found.map_or((kind, identity), |relation| ("table", relation))
}

/// An identity without the number that a temporary schema had on the primary: from 16 on functions come with it, as
/// `pg_temp_3.f()`.
fn without_number(identity: &str) -> String {
    let mut plain = String::with_capacity(identity.len());
    for (number, part) in identity.split('"').enumerate() {
        if number > 0 {
            plain.push('"');
        }
        let is_quoted = number % 2 == 1;
        let mut rest = part;
        while let Some(at) = rest.find("pg_temp_").filter(|_| !is_quoted) {
            let (before, numbered) = rest.split_at(at);
            let after = numbered["pg_temp_".len()..].trim_start_matches(|c: char| c.is_ascii_digit());
            let is_whole = !before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '$'));
            let name = &numbered[..numbered.len() - after.len()];
            plain.push_str(before);
            plain.push_str(if is_whole && after.starts_with('.') { "pg_temp" } else { name });
            rest = after;
        }
        plain.push_str(rest);
    }
    plain
}

impl Applier {
    /// Runs a statement about temporary objects, if they are here.
    pub(super) async fn run_temporary(
        &mut self,
        change: &SchemaChange,
        sql: &str,
    ) -> Result<(), ReplayError> {
        let dropped = change.dropped.iter().map(|object| (&*object.object_type, &*object.identity)).collect();
        if !self.has(dropped).await? {
            self.pass_over(change);
            return Ok(());
        }
        self.client.batch_execute("SAVEPOINT temporary").await.doing("set a savepoint")?;
        let mut outcome = self.execute(change, sql).await;
        let made = || change.objects.iter().map(|object| (&*object.object_type, &*object.identity)).collect();
        if outcome.as_ref().err().and_then(refusal).is_some_and(|code| PRESENT.contains(&code)) {
            self.back_before_temporary().await?;
            if self.has(made()).await? {
                // The session has discarded what it had, which fires no event.
                self.client.batch_execute("DISCARD TEMP").await.doing("discard temporary objects")?;
                self.forget_schema();
                outcome = self.execute(change, sql).await;
            }
        }
        let refused = match outcome {
            Err(error) if refusal(&error).is_none() => return Err(error),
            outcome => outcome.err(),
        };
        if refused.is_some() {
            self.back_before_temporary().await?;
        }
        if !self.has(made()).await? {
            // There was nothing that it could be about, or something permanent of that name.
            self.back_before_temporary().await?;
            self.pass_over(change);
        } else if let Some(error) = refused {
            return Err(error);
        }
        Ok(self.client.batch_execute("RELEASE temporary").await.doing("release a savepoint")?)
    }

    async fn back_before_temporary(&self) -> Result<(), ReplayError> {
        Ok(self.client.batch_execute("ROLLBACK TO temporary").await.doing("go back to a savepoint")?)
    }

    fn pass_over(&mut self, change: &SchemaChange) {
        let is_said = |notice: &Notice| matches!(notice, Notice::Skipped { reason, .. } if reason == REASON);
        if !self.applied.notices.iter().any(is_said) {
            let statement = change.statement.shown();
            self.applied.notices.push(Notice::Skipped { statement, reason: REASON.to_owned() });
        }
    }

    /// Whether all these objects are here. Those of kinds that cannot be looked for are taken not to be: what is about
    /// them is never run on something else.
    async fn has(&self, objects: Vec<(&str, &str)>) -> Result<bool, ReplayError> {
        let objects: Vec<(&str, String)> =
            objects.into_iter().map(|(kind, identity)| (kind, without_number(identity))).collect();
        let (kinds, identities): (Vec<&str>, Vec<&str>) =
            objects.iter().map(|(kind, identity)| whole((*kind, identity))).unzip();
        if kinds.is_empty() {
            return Ok(true);
        }
        let sql = "SELECT pg_catalog.bool_and(CASE
                       WHEN kind IN ('table', 'view', 'index', 'sequence', 'composite type')
                           THEN pg_catalog.to_regclass(identity) IS NOT NULL
                       WHEN kind IN ('function', 'procedure', 'aggregate')
                           THEN pg_catalog.to_regprocedure(identity) IS NOT NULL
                       WHEN kind IN ('type', 'domain') THEN pg_catalog.to_regtype(identity) IS NOT NULL
                       ELSE false END)
                   FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]))
                        AS looked_for(kind, identity)";
        let row = self.client.query_one(sql, &[&kinds, &identities]).await;
        Ok(row.doing("look for temporary objects")?.get(0))
    }
}

/// The SQLSTATE with which the server refused the statement for good.
fn refusal(error: &ReplayError) -> Option<&str> {
    let ReplayError::Stopped(stop) = error else { return None };
    stop.sqlstate.as_deref().filter(|state| !passes(state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_schema_has_another_number_here() {
        for (identity, plain) in [
            ("pg_temp_12.f(pg_temp_12.pair,integer)", "pg_temp.f(pg_temp.pair,integer)"),
            (r#"pg_temp_0."pg_temp_0.x"()"#, r#"pg_temp."pg_temp_0.x"()"#),
            ("public.my_pg_temp_3.x", "public.my_pg_temp_3.x"),
            ("pg_temp.pg_temp_x", "pg_temp.pg_temp_x"),
        ] {
            assert_eq!(without_number(identity), plain);
        }
    }

    #[test]
    fn what_is_on_a_temporary_table_is_told_from_what_is_named_as_if_it_were() {
        assert_eq!(temporary_table("t on pg_temp.x"), Some("pg_temp.x"));
        assert_eq!(whole(("table column", r#"pg_temp."a.""b".c"#)), ("table", r#"pg_temp."a.""b""#));
        assert_eq!(whole(("table column", "pg_temp.x.y")), ("table", "pg_temp.x"));
        assert_eq!(whole(("policy", "p on pg_temp.x")), ("table", "pg_temp.x"));
        assert_eq!(temporary_table(r#""a ""b"" c" on pg_temp."on y""#), Some(r#"pg_temp."on y""#));
        for identity in [
            "t on public.x",
            r#""a on pg_temp.b" on public.x"#,
            r#"t on public."a on pg_temp.b""#,
            r#""a"" on pg_temp.x"#,
            "t",
            "",
        ] {
            assert_eq!(temporary_table(identity), None, "{identity}");
        }
    }
}
