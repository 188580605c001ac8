//! Owners, which REASSIGN OWNED changes without an event.
//!
//! DROP OWNED BY a role drops what the role owns. REASSIGN OWNED before it, as PostgreSQL's manual advises, spares what
//! the role should not take along; here, where nothing told of that, it would all be dropped. So the log holds who owned
//! what when DROP OWNED had ended on the primary, and what it dropped: this is put right before it runs.

use std::collections::BTreeMap;

use ptr_model::SchemaChange;
use ptr_postgres::{OWNERS, quote_identifier, quote_literal};

use super::{Applier, Notice, roles, text};
use crate::{database::Doing, error::ReplayError};

/// Type and identity, as event triggers print them.
type Object = (String, String);

impl Applier {
    /// Gives what a DROP OWNED dropped on the primary to the role that it names, and everything else to its owner there.
    pub(super) async fn take_owners(&mut self, change: &SchemaChange) -> Result<(), ReplayError> {
        let Some(owners) = change.details.get("owners") else { return Ok(()) };
        let owners: Vec<(String, String, String)> = serde_json::from_value(owners.clone())
            .map_err(|error| self.stop(format!("the log's owners cannot be read: {error}")))?;
        let mut wanted: BTreeMap<Object, String> =
            owners.into_iter().map(|(kind, identity, owner)| ((kind, identity), owner)).collect();
        if let Some(role) = dropped_role(change) {
            let dropped =
                change.dropped.iter().map(|object| (object.object_type.clone(), object.identity.clone()));
            wanted.extend(dropped.map(|object| (object, role.clone())));
        }
        let rows = self.client.query(OWNERS, &[]).await.doing("look at who owns what")?;
        for row in rows {
            let (object, owner): (Object, String) = ((row.get(0), row.get(1)), row.get(2));
            if let Some(wanted) = wanted.get(&object).filter(|wanted| **wanted != owner) {
                self.give(&object, wanted).await?;
            }
        }
        Ok(())
    }

    async fn give(&mut self, (kind, identity): &Object, owner: &str) -> Result<(), ReplayError> {
        let created = roles::create_missing(&self.client, &[roles::named(owner)]).await?;
        self.applied.notices.extend(created.into_iter().map(|role| Notice::RoleCreated { role }));
        let mut sql = format!("ALTER {} {identity} OWNER TO {}", keyword(kind), quote_identifier(owner));
        if kind == "type" {
            // A multirange follows its range on newer servers, and then has no owner of its own to be altered.
            let body = format!("BEGIN {sql}; EXCEPTION WHEN wrong_object_type THEN NULL; END");
            sql = format!("DO {}", quote_literal(&body));
        }
        let doing = || format!("give {kind} {identity} to {owner}, who owns it on the primary");
        Ok(self.client.batch_execute(&sql).await.doing_with(doing)?)
    }
}

/// The first role that a DROP OWNED names. Where it names several, what they own is dropped together.
fn dropped_role(change: &SchemaChange) -> Option<String> {
    let sql = change.statement.text();
    let words = text::words(sql);
    let by = words.iter().position(|(_, word)| word == "BY")?;
    let rest = sql[words[by].0 + "BY".len()..].trim_start();
    if let Some(quoted) = rest.strip_prefix('"') {
        let end = quoted.replace("\"\"", "\0\0").find('"')?;
        return Some(quoted[..end].replace("\"\"", "\""));
    }
    Some(match words.get(by + 1)?.1.as_str() {
        "CURRENT_USER" | "CURRENT_ROLE" => change.environment.current_user.clone(),
        "SESSION_USER" => change.environment.session_user.clone(),
        _ => {
            rest.split(|c: char| c.is_whitespace() || c == ',' || c == ';' || c == '/').next()?.to_lowercase()
        }
    })
}

/// What ALTER calls an object type.
fn keyword(kind: &str) -> String {
    match kind {
        "statistics object" => "STATISTICS".to_owned(),
        "foreign-data wrapper" => "FOREIGN DATA WRAPPER".to_owned(),
        kind => kind.to_uppercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::schema::tests::altered;

    #[test]
    fn the_role_of_a_drop_owned_is_read_as_the_server_reads_it() {
        let of = |sql: &str| dropped_role(&altered(sql, serde_json::json!({})));
        for (sql, expected) in [
            ("DROP OWNED BY App, other CASCADE", "app"),
            ("drop owned by\n app/* x */", "app"),
            ("drop owned by \"The \"\"App\", b", "The \"App"),
            ("DROP OWNED BY current_user", "who it is"),
            ("DROP OWNED BY SESSION_USER", "who logged in"),
        ] {
            assert_eq!(of(sql).as_deref(), Some(expected), "{sql}");
        }
    }
}
