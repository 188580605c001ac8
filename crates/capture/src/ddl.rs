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

use std::{collections::HashMap, sync::Arc};

use ptr_model::{
    AffectedObject, Change, DroppedObject, Environment, Gap, OUR_SCHEMA, RelationRows, SchemaChange,
    Statement, Xid,
};

pub use derive::Derivation;
use event::{Event, EventKind, RowsEvent, SchemaEvent};
pub use signature::{Secret, SecretError, SignatureError};

/// Turns the messages of one transaction after another into changes.
///
/// It holds what must be remembered between the events of one transaction; [`SchemaEvents::begin`] forgets it. What has
/// to be remembered for longer is the [`Derivation`], which outlives a connection.
#[derive(Debug)]
pub struct SchemaEvents {
    secret: Option<Secret>,
    derivation: Derivation,
    dropped: Vec<Dropped>,
    /// The strings of the client, by the number of the message that carried each, and whether each continues.
    sent: HashMap<u64, (SentStatement, bool)>,
    /// The CREATE or ALTER EXTENSION whose script is running.
    extension: Option<SentStatement>,
    /// The REFRESH MATERIALIZED VIEW that is running.
    refresh: Option<SentStatement>,
}

/// What the client sent in one go: nothing else can share both.
#[derive(Clone, PartialEq, Eq, Debug)]
struct SentStatement {
    statement_time: String,
    query: Arc<str>,
}

/// What a command dropped whose end has not come. Between the two come the whole commands that users' event triggers run.
#[derive(Debug)]
struct Dropped {
    tag: String,
    /// From where it was run, as `PG_CONTEXT` has it.
    frames: String,
    objects: Vec<DroppedObject>,
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
        Self {
            secret,
            derivation: Derivation::default(),
            dropped: Vec::new(),
            sent: HashMap::new(),
            extension: None,
            refresh: None,
        }
    }

    /// Goes on with what an earlier connection remembered.
    pub fn recall(&mut self, derivation: Derivation) {
        self.derivation = derivation;
    }

    /// What the next connection needs. `is_open`: a transaction is, and will come again.
    pub fn memory(&mut self, is_open: bool) -> Derivation {
        let mut derivation = std::mem::take(&mut self.derivation);
        if is_open {
            derivation.abort();
        }
        derivation
    }

    /// Another transaction begins.
    pub fn begin(&mut self) {
        self.derivation.begin();
        self.dropped.clear();
        self.sent.clear();
        self.extension = None;
        self.refresh = None;
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
                     the event triggers on the primary were made by another version: run teardown, then up"
                ),
                statement: event::statement_of_unreadable(json),
                sqlstate: None,
                relation: None,
            })),
        }
    }

    fn schema(&mut self, mut event: SchemaEvent) -> Reading {
        if let Err(gap) = self.resolve_query(&mut event) {
            return Reading::Change(Change::Gap(gap));
        }
        if event.event == EventKind::SqlDrop {
            // It stands just before the ddl_command_end of the same command, which then carries both.
            let frames = context::without_our_frames(&event.context).to_owned();
            self.dropped.push(Dropped { tag: event.tag, frames, objects: event.dropped });
            return Reading::Remembered;
        }
        if event.event == EventKind::DdlCommandEnd {
            let mut dropped = self.dropped_by(&event);
            dropped.append(&mut event.dropped);
            event.dropped = dropped;
        }
        let statement = self.derivation.statement(&event);
        let by_other = self.is_by_script(&event, &statement) || self.is_by_refresh(&event);
        let is_entry = event.event == EventKind::DdlCommandEnd
            && !by_other
            && !concerns_us_only(&event)
            && !came_to_nothing(&event);
        Reading::Change(Change::Schema(Box::new(schema_change(event, statement, is_entry))))
    }

    /// What the command that ends here dropped.
    fn dropped_by(&mut self, event: &SchemaEvent) -> Vec<DroppedObject> {
        let frames = context::without_our_frames(&event.context);
        let is_its_own = |dropped: &Dropped| dropped.tag == event.tag && dropped.frames == frames;
        let own = self.dropped.iter().rposition(is_its_own).map(|at| self.dropped.remove(at).objects);
        if !frames.trim().is_empty() {
            return own.unwrap_or_default();
        }
        // Of a client's command all have ended that ran within it: what is left has no end of its own.
        let left = std::mem::take(&mut self.dropped).into_iter().flat_map(|dropped| dropped.objects);
        own.unwrap_or_else(|| left.collect())
    }

    /// Puts the client's string in its place where an earlier message of the transaction carries it.
    fn resolve_query(&mut self, event: &mut SchemaEvent) -> Result<(), Gap> {
        let Some(carrier) = event.query_of else {
            let sent =
                SentStatement { statement_time: event.statement_time.clone(), query: event.query.clone() };
            self.sent.insert(event.n, (sent, event.continues));
            return Ok(());
        };
        match self.sent.get(&carrier) {
            // Numbers are kept in a setting that the client can change; the time is not.
            Some((sent, continues)) if sent.statement_time == event.statement_time => {
                event.query = Arc::clone(&sent.query);
                event.continues = *continues;
                Ok(())
            }
            _ => Err(Gap {
                reason: format!(
                    "the statement of {} {} is in message {carrier} of its transaction, which did not arrive",
                    event.event.name(),
                    event.tag
                ),
                statement: None,
                sqlstate: None,
                relation: None,
            }),
        }
    }

    /// Whether an extension's script did this, which CREATE EXTENSION does again.
    ///
    /// The start of CREATE EXTENSION opens a bracket that its end closes, but one that finds the extension there
    /// (`IF NOT EXISTS`) has no end. So inside the bracket an event is the script's only if something else says so
    /// too, and the bracket does not outlive what the client sent with it.
    fn is_by_script(&mut self, event: &SchemaEvent, statement: &Statement) -> bool {
        let sent = SentStatement { statement_time: event.statement_time.clone(), query: event.query.clone() };
        if self.extension.as_ref().is_some_and(|extension| *extension != sent) {
            self.extension = None;
        }
        let is_extension = matches!(event.tag.as_str(), "CREATE EXTENSION" | "ALTER EXTENSION");
        match event.event {
            EventKind::DdlCommandStart if is_extension => {
                self.extension = Some(sent);
                false
            }
            EventKind::DdlCommandEnd if is_extension => {
                self.extension = None;
                false
            }
            _ => self.extension.is_some() && looks_scripted(event, statement),
        }
    }

    /// Whether REFRESH MATERIALIZED VIEW CONCURRENTLY did this for itself: it makes and drops temporary tables.
    fn is_by_refresh(&mut self, event: &SchemaEvent) -> bool {
        let sent = SentStatement { statement_time: event.statement_time.clone(), query: event.query.clone() };
        if event.tag == "REFRESH MATERIALIZED VIEW" {
            self.refresh = (event.event == EventKind::DdlCommandStart).then_some(sent);
            return false;
        }
        self.refresh.as_ref() == Some(&sent) && looks_internal(event)
    }
}

/// Whether an event is about nothing but temporary tables as REFRESH ... CONCURRENTLY names them: `pg_temp_`, the
/// view's OID, and from the second on `_2` (`make_temptable_name_n` in `matview.c`).
fn looks_internal(event: &SchemaEvent) -> bool {
    let internal = |identity: &str| {
        let name = identity.rsplit('.').next().unwrap_or_default();
        let number = name.strip_prefix("pg_temp_").map(|rest| rest.strip_suffix("_2").unwrap_or(rest));
        number.is_some_and(|oid| !oid.is_empty() && oid.bytes().all(|byte| byte.is_ascii_digit()))
    };
    event.objects.is_empty()
        && !event.dropped.is_empty()
        && event.dropped.iter().all(|object| object.is_temporary && internal(&object.identity))
}

/// What tells an extension's script from the client: its objects belong to the extension, the client sent no such
/// statement, or (from PostgreSQL 18 on) the context names the script.
fn looks_scripted(event: &SchemaEvent, statement: &Statement) -> bool {
    let objects_belong = !event.objects.is_empty() && event.objects.iter().all(|object| object.in_extension);
    objects_belong
        || matches!(statement, Statement::Underivable { .. })
        || event.context.lines().any(|line| line.starts_with("extension script file \""))
}

/// Whether a statement found nothing to do (`IF EXISTS`): it is told of so that others which were sent with it are told
/// apart from it. It must not run again, because a replica is at the commit, where another session may have made what
/// was not there yet. What ALTER PUBLICATION takes out is in no list, nor are the rights that DROP OWNED takes.
fn came_to_nothing(event: &SchemaEvent) -> bool {
    let is_told = match event.tag.as_str() {
        "ALTER PUBLICATION" | "DROP OWNED" => false,
        "CREATE INDEX" => true,
        tag => tag.starts_with("ALTER ") || tag.starts_with("DROP "),
    };
    is_told && event.objects.is_empty() && event.dropped.is_empty()
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
