//! Schema changes where no event triggers tell them: what two announcements of one table say.
//!
//! Exact before broad. The server announces names and types, not how they came about: a column that is gone and one
//! that is new may be one renamed, a new column may have given old rows a value that is never sent, and a new type
//! rewrites rows. So only a new name of the table and a wider `varchar` are followed; everything else becomes a
//! [`Gap`], at which replay stops. A change that leaves names and types as they were (a constraint, an index, a column
//! dropped and made again) cannot be seen here at all. Pure.

use ptr_model::{AffectedObject, Change, Column, Environment, Gap, Oid, Relation, SchemaChange, Statement};
use serde_json::Value;

/// `pg_type.oid` of `character varying`, and what its modifier is more than its length.
const VARCHAR: Oid = Oid(1043);
const VARCHAR_HEADER: i32 = 4;

/// What happened to a table between two announcements of it.
pub(super) fn between(old: &Relation, new: &Relation) -> Vec<Change> {
    let mut statements = moved(old, new);
    match widened(&old.columns, &new.columns) {
        Some(actions) => {
            statements.extend(actions.iter().map(|action| format!("ALTER TABLE {} {action}", name(new))));
            statements.into_iter().map(|statement| change(statement, new)).collect()
        }
        None => vec![Change::Gap(gap(old, new))],
    }
}

/// SET SCHEMA and RENAME, as far as they are needed.
fn moved(old: &Relation, new: &Relation) -> Vec<String> {
    let mut statements = Vec::new();
    if old.schema != new.schema {
        statements.push(format!("ALTER TABLE {} SET SCHEMA {}", name(old), quoted(&new.schema)));
    }
    if old.name != new.name {
        let here = format!("{}.{}", quoted(&new.schema), quoted(&old.name));
        statements.push(format!("ALTER TABLE {here} RENAME TO {}", quoted(&new.name)));
    }
    statements
}

/// The columns that became wider, if nothing else happened to any.
fn widened(old: &[Column], new: &[Column]) -> Option<Vec<String>> {
    if old.len() != new.len() {
        return None;
    }
    let mut actions = Vec::new();
    for (old, new) in old.iter().zip(new) {
        let (before, after) = (old.type_modifier, new.type_modifier);
        if (&old.name, old.type_oid) != (&new.name, new.type_oid) {
            return None;
        }
        if before == after {
            continue;
        }
        if new.type_oid != VARCHAR || before < 0 || (0..before).contains(&after) {
            return None;
        }
        let length = if after < 0 { String::new() } else { format!("({})", after - VARCHAR_HEADER) };
        actions.push(format!("ALTER COLUMN {} TYPE character varying{length}", quoted(&new.name)));
    }
    Some(actions)
}

fn change(statement: String, relation: &Relation) -> Change {
    Change::Schema(Box::new(SchemaChange {
        tag: "ALTER TABLE".to_owned(),
        is_entry: true,
        event: "ddl_command_end".to_owned(),
        statement: Statement::Text(statement),
        environment: Environment::default(),
        objects: vec![AffectedObject {
            object_type: "table".to_owned(),
            schema: Some(relation.schema.clone()),
            identity: name(relation),
            oid: relation.oid.0,
            in_extension: false,
        }],
        dropped: Vec::new(),
        rewrites: Vec::new(),
        missing_values: Vec::new(),
        roles: None,
        details: [("inferred".to_owned(), Value::Bool(true))].into(),
    }))
}

fn gap(old: &Relation, new: &Relation) -> Gap {
    Gap {
        reason: format!(
            "table {} changed from ({}) to ({}), and without event triggers there is no telling how: set up again with \
             a superuser, so that schema changes are captured, or set up again for a new base image",
            name(new),
            columns(old),
            columns(new)
        ),
        statement: None,
        sqlstate: None,
        relation: None,
    }
}

fn columns(relation: &Relation) -> String {
    let columns = relation.columns.iter().map(|column| match column.type_modifier {
        -1 => format!("{} {}", quoted(&column.name), column.type_name),
        modifier => format!("{} {} [{modifier}]", quoted(&column.name), column.type_name),
    });
    columns.collect::<Vec<_>>().join(", ")
}

fn name(relation: &Relation) -> String {
    format!("{}.{}", quoted(&relation.schema), quoted(&relation.name))
}

fn quoted(name: &str) -> String {
    ptr_postgres::quote_identifier(name)
}

#[cfg(test)]
mod tests {
    use ptr_model::ReplicaIdentity;

    use super::*;

    fn table(name: &str, columns: &[(&str, u32, i32)]) -> Relation {
        let columns = columns.iter().map(|(name, type_oid, type_modifier)| Column {
            name: (*name).to_owned(),
            in_identity: true,
            type_oid: Oid(*type_oid),
            type_modifier: *type_modifier,
            type_name: format!("type{type_oid}"),
        });
        Relation {
            oid: Oid(16_400),
            schema: "public".into(),
            name: name.into(),
            replica_identity: ReplicaIdentity::Full,
            columns: columns.collect(),
        }
    }

    fn told(old: &Relation, new: &Relation) -> Vec<String> {
        let tell = |change: Change| match change {
            Change::Schema(change) => change.statement.text().to_owned(),
            Change::Gap(gap) => format!("gap: {}", gap.reason),
            other => panic!("{other:?}"),
        };
        between(old, new).into_iter().map(tell).collect()
    }

    #[test]
    fn a_new_name_and_a_wider_varchar_are_followed() {
        let old = table("a", &[("id", 23, -1), ("v", 1043, 14)]);
        let new = Relation { schema: "s".into(), ..table("B", &[("id", 23, -1), ("v", 1043, 24)]) };
        assert_eq!(
            told(&old, &new),
            [
                r#"ALTER TABLE "public"."a" SET SCHEMA "s""#,
                r#"ALTER TABLE "s"."a" RENAME TO "B""#,
                r#"ALTER TABLE "s"."B" ALTER COLUMN "v" TYPE character varying(20)"#,
            ]
        );
        let unlimited = table("a", &[("id", 23, -1), ("v", 1043, -1)]);
        assert_eq!(
            told(&old, &unlimited),
            [r#"ALTER TABLE "public"."a" ALTER COLUMN "v" TYPE character varying"#]
        );
        assert_eq!(told(&old, &old), [""; 0]);
    }

    #[test]
    fn whatever_could_have_come_about_in_two_ways_stops_replay() {
        let old = table("a", &[("id", 23, -1), ("v", 1043, 14)]);
        for new in [
            table("a", &[("id", 23, -1)]),
            table("a", &[("id", 23, -1), ("v", 1043, 14), ("w", 25, -1)]),
            table("a", &[("id", 23, -1), ("renamed", 1043, 14)]),
            table("a", &[("id", 20, -1), ("v", 1043, 14)]),
            table("a", &[("id", 23, -1), ("v", 1043, 9)]),
            table("b", &[("v", 1043, 14), ("id", 23, -1)]),
        ] {
            let told = told(&old, &new);
            assert!(matches!(&told[..], [gap] if gap.starts_with("gap: table")), "{told:?}");
        }
        let narrower = table("a", &[("id", 23, -1), ("v", 1043, 14)]);
        let unlimited = table("a", &[("id", 23, -1), ("v", 1043, -1)]);
        assert!(told(&unlimited, &narrower)[0].starts_with("gap"));
    }
}
