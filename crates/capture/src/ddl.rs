//! Schema changes: from the messages of our event triggers to [`Change`]s of the log.
//!
//! Between assemble and the log. [`event`] is the format of a message, [`signature`] proves that our trigger
//! made it, [`derive`] finds the exact statement ([`split`] cuts strings of several, [`tag`] matches them
//! with command tags, [`context`] reads `PG_CONTEXT`).
//!
//! Invariants: pure; what is not signed with the secret never becomes a schema change; what is signed never
//! gets lost: a signed message that cannot be understood becomes a [`Gap`], at which replay stops.

pub mod context;
pub mod derive;
pub mod event;
pub mod signature;
pub mod split;
pub mod tag;

use ptr_model::{
    AffectedObject, Change, DroppedObject, Environment, Gap, OUR_SCHEMA, RelationRows, SchemaChange, Statement,
    Xid,
};

use derive::Derivation;
use event::{Event, EventKind, RowsEvent, SchemaEvent};
pub use signature::{Secret, SecretError, SignatureError};

/// Turns the messages of one transaction after another into changes.
///
/// It holds what must be remembered between the events of one transaction; [`SchemaEvents::begin`] forgets it.
#[derive(Debug)]
pub struct SchemaEvents {
    secret: Option<Secret>,
    derivation: Derivation,
    dropped: Vec<DroppedObject>,
    extensions: u32,
}

/// What a logical message with our prefix turned out to be.
#[derive(Clone, PartialEq, Debug)]
pub enum Reading {
    /// Something for the log.
    Change(Change),
    /// A true event that is remembered for the next one.
    Remembered,
    /// Not ours: unsigned, or signed with another secret or for another transaction.
    Forged(SignatureError),
}

impl SchemaEvents {
    /// Believes what is signed with `secret`; without one nothing is believed.
    #[must_use]
    pub fn new(secret: Option<Secret>) -> Self {
        Self { secret, derivation: Derivation::default(), dropped: Vec::new(), extensions: 0 }
    }

    /// Another transaction begins.
    pub fn begin(&mut self) {
        self.derivation = Derivation::default();
        self.dropped.clear();
        self.extensions = 0;
    }

    /// Reads the content of one message of transaction `xid`.
    pub fn read(&mut self, content: &[u8], xid: Xid) -> Reading {
        let json = match signature::verify(self.secret.as_ref(), content, xid) {
            Ok(json) => json,
            Err(error) => return Reading::Forged(error),
        };
        match event::parse(json) {
            Ok(Event::Schema(event)) => self.schema(*event),
            Ok(Event::Rows(rows)) => Reading::Change(Change::Rows(Box::new(relation_rows(rows)))),
            Ok(Event::Gap(gap)) => Reading::Change(Change::Gap(gap)),
            Err(error) => Reading::Change(Change::Gap(Gap {
                reason: format!(
                    "a schema change arrived in a form that this version cannot read ({error}); \
                     the event triggers on the primary were made by another version: run doctor --fix"
                ),
                statement: event::statement_of_unreadable(json),
                sqlstate: None,
            })),
        }
    }

    fn schema(&mut self, mut event: SchemaEvent) -> Reading {
        if event.event == EventKind::SqlDrop {
            // It stands just before the ddl_command_end of the same command, which then carries both.
            self.dropped.append(&mut event.dropped);
            return Reading::Remembered;
        }
        if event.event == EventKind::DdlCommandEnd {
            let mut dropped = std::mem::take(&mut self.dropped);
            dropped.append(&mut event.dropped);
            event.dropped = dropped;
        }
        let inside_extension = self.bracket(&event);
        let statement = self.derivation.statement(&event);
        let is_entry = event.event == EventKind::DdlCommandEnd && !inside_extension && !concerns_us_only(&event);
        Reading::Change(Change::Schema(Box::new(schema_change(event, statement, is_entry))))
    }

    /// Keeps count of open CREATE and ALTER EXTENSION; true for what their scripts do.
    fn bracket(&mut self, event: &SchemaEvent) -> bool {
        let is_extension = matches!(event.tag.as_str(), "CREATE EXTENSION" | "ALTER EXTENSION");
        match event.event {
            EventKind::DdlCommandStart if is_extension => {
                self.extensions += 1;
                self.extensions > 1
            }
            EventKind::DdlCommandEnd if is_extension => {
                self.extensions = self.extensions.saturating_sub(1);
                self.extensions > 0
            }
            _ => self.extensions > 0,
        }
    }
}

/// Whether everything that an event touched is ours.
fn concerns_us_only(event: &SchemaEvent) -> bool {
    let ours = |schema: Option<&str>, identity: &str| {
        schema == Some(OUR_SCHEMA)
            || identity == OUR_SCHEMA
            || identity.strip_prefix(OUR_SCHEMA).is_some_and(|rest| rest.starts_with('.'))
    };
    let touched = event.objects.len() + event.dropped.len();
    touched > 0
        && event.objects.iter().all(|object| ours(object.schema.as_deref(), &object.identity))
        && event.dropped.iter().all(|object| ours(None, &object.identity))
}

fn schema_change(event: SchemaEvent, statement: Statement, is_entry: bool) -> SchemaChange {
    let mut details = event.details;
    details.insert("n".to_owned(), event.n.into());
    if !event.table_as.is_null() {
        details.insert("table_as".to_owned(), event.table_as);
    }
    SchemaChange {
        tag: event.tag,
        is_entry,
        event: event.event.name().to_owned(),
        statement,
        environment: Environment {
            session_user: event.session_user,
            current_user: event.current_user,
            search_path: event.search_path,
            settings: event.settings,
            backend_pid: event.pid,
        },
        objects: event.objects.into_iter().map(affected_object).collect(),
        dropped: event.dropped,
        rewrites: event.rewrites,
        missing_values: event.missing,
        roles: event.roles,
        details,
    }
}

fn affected_object(object: event::Object) -> AffectedObject {
    AffectedObject {
        object_type: object.object_type,
        schema: object.schema,
        identity: object.identity,
        oid: object.oid,
        in_extension: object.in_extension,
    }
}

fn relation_rows(rows: RowsEvent) -> RelationRows {
    RelationRows { relation: rows.relation, columns: rows.columns, first: rows.first, rows: rows.rows }
}

#[cfg(test)]
mod tests;
