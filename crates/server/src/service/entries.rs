//! Entries of the log, as they are shown.

use std::sync::Arc;

use ptr_log::{Direction, Entry, EntryQuery as LogQuery, Log};
use ptr_model::{Change, Operation, Position, Relation};
use serde_json::{Value, json};

use super::{
    Captured, Service, ServiceError,
    search::{Each, Search},
    values,
};
use crate::resource::{
    LONGEST_PAGE, USUAL_PAGE,
    entry::{EntryAnswer, EntryPage, EntryQuery},
};

/// Which entries of which part of the log.
pub(super) struct Wanted {
    pub(super) table: Option<String>,
    pub(super) operations: Vec<Operation>,
    pub(super) since: Position,
    pub(super) until: Position,
    pub(super) cursor: Option<u64>,
    pub(super) limit: usize,
    pub(super) direction: Direction,
}

impl Wanted {
    /// The first entries between two positions.
    pub(super) fn between(since: Position, until: Position, limit: usize, cursor: Option<u64>) -> Self {
        let direction = Direction::Forward;
        Self { table: None, operations: Vec::new(), since, until, cursor, limit, direction }
    }

    pub(super) fn query(&self) -> LogQuery {
        LogQuery {
            table: self.table.clone(),
            operations: self.operations.clone(),
            since: self.since,
            until: self.until,
            after: self.cursor,
            limit: self.limit,
            direction: self.direction,
        }
    }
}

impl Service {
    /// `GET /api/wal-logs`.
    ///
    /// # Errors
    /// A filter or position that means nothing.
    pub async fn entries(&self, query: EntryQuery) -> Result<EntryPage, ServiceError> {
        let captured = self.captured_or_active(query.database.as_deref()).await?;
        let (since, until) = self.range(&captured, query.since.as_deref(), query.until.as_deref()).await?;
        let wanted = Wanted {
            table: query.table,
            operations: operations(query.operation.as_deref())?,
            since,
            until,
            cursor: cursor(query.cursor.as_deref())?,
            limit: page_length(query.limit)?,
            direction: direction(query.order.as_deref())?,
        };
        let all = LogQuery { after: None, ..wanted.query() };
        let total_count = captured.read(move |log| log.count_entries(&all)).await?;
        let (entries, next, searched) = match self.search(&captured, query.text, query.key).await {
            Some(search) => {
                let backward = wanted.direction == Direction::Backward;
                let (query, limit) = (wanted.query(), wanted.limit);
                let mut found =
                    captured.read(move |log| search.look(log, &query, limit, Each::Entry)).await?;
                if backward {
                    found.entries.reverse();
                }
                (found.entries.iter().map(answer).collect(), found.next, Some(found.looked_at))
            }
            None => {
                let (entries, next) = captured.entries(wanted).await?;
                (entries, next, None)
            }
        };
        Ok(EntryPage {
            returned: entries.len(),
            entries,
            total_count,
            next_cursor: next.map(|next| next.to_string()),
            searched,
        })
    }

    /// What is looked for, with what the primary knows about keys.
    pub(super) async fn search(
        &self,
        captured: &Arc<Captured>,
        text: Option<String>,
        key: Option<String>,
    ) -> Option<Search> {
        let search = Search::of(text.as_deref(), key.as_deref())?;
        Some(match search.wants_keys() {
            true => search.with_keys(self.primary_keys(captured).await),
            false => search,
        })
    }

    /// The positions that `since` and `until` mean, the whole log where they are left out.
    pub(super) async fn range(
        &self,
        captured: &Arc<Captured>,
        since: Option<&str>,
        until: Option<&str>,
    ) -> Result<(Position, Position), ServiceError> {
        let since = match since {
            Some(text) => self.resolve(captured, text, None).await?,
            None => captured.log.creation(),
        };
        let until = match until {
            Some(text) => self.resolve(captured, text, None).await?,
            None => captured.read(Log::head).await?,
        };
        Ok((since, until))
    }
}

impl Captured {
    /// A page of entries, oldest first, and what continues it.
    pub(super) async fn entries(
        &self,
        wanted: Wanted,
    ) -> Result<(Vec<EntryAnswer>, Option<u64>), ServiceError> {
        let query = wanted.query();
        self.read(move |log| {
            let page = log.entries(&query)?;
            Ok((page.entries.iter().map(answer).collect(), page.next))
        })
        .await
    }
}

/// One entry as it is shown.
fn answer(entry: &Entry) -> EntryAnswer {
    let Entry { transaction, index, change } = entry;
    let shown = shown(change);
    let header = &transaction.header;
    EntryAnswer {
        index: *index,
        id: format!("{}:{index}", header.commit_lsn),
        timestamp: header.commit_time.to_string(),
        lsn: header.end_lsn.to_string(),
        commit_lsn: header.commit_lsn.to_string(),
        xid: header.xid.0,
        operation: change.operation().map_or("", Operation::name).to_owned(),
        schema: shown.schema,
        table: shown.table,
        data: shown.data,
        old_data: shown.old_data,
        sql: shown.sql,
    }
}

#[derive(Default)]
struct Shown {
    schema: String,
    table: String,
    data: Value,
    old_data: Option<Value>,
    sql: Option<String>,
}

impl Shown {
    fn of(relation: &Relation, data: Value) -> Self {
        Self { schema: relation.schema.clone(), table: relation.name.clone(), data, ..Self::default() }
    }
}

fn shown(change: &Change) -> Shown {
    match change {
        Change::Insert { relation, new } => Shown::of(relation, values::row(relation, new)),
        Change::Update { relation, old, new } => Shown {
            old_data: values::old_row(relation, old),
            ..Shown::of(relation, values::row(relation, new))
        },
        Change::Delete { relation, old } => {
            Shown::of(relation, values::old_row(relation, old).unwrap_or_else(|| json!({})))
        }
        Change::Truncate { relations, options } => {
            let schemas: Vec<&str> = relations.iter().map(|relation| relation.schema.as_str()).collect();
            let one_schema = schemas.windows(2).all(|pair| pair[0] == pair[1]);
            let name = |relation: &Arc<Relation>| match one_schema {
                true => relation.name.clone(),
                false => format!("{}.{}", relation.schema, relation.name),
            };
            Shown {
                schema: schemas.first().filter(|_| one_schema).map_or_else(String::new, ToString::to_string),
                table: relations.iter().map(name).collect::<Vec<_>>().join(", "),
                data: json!({"cascade": options.cascade, "restart_identity": options.restart_identity}),
                ..Shown::default()
            }
        }
        Change::Schema(change) => Shown {
            data: json!({
                "tag": change.tag,
                "objects": change.objects.iter().map(|object| &object.identity).collect::<Vec<_>>(),
                "dropped": change.dropped.iter().map(|object| &object.identity).collect::<Vec<_>>(),
                "user": change.environment.current_user,
            }),
            sql: Some(change.statement.shown()),
            ..Shown::default()
        },
        Change::Message(message) => Shown {
            data: json!({
                "prefix": message.prefix,
                "content": match std::str::from_utf8(&message.content) {
                    Ok(text) => text.to_owned(),
                    Err(_) => values::hexadecimal(&message.content),
                },
                "transactional": message.transactional,
            }),
            ..Shown::default()
        },
        // Neither is an entry, so neither is asked for.
        Change::Rows(_) | Change::Gap(_) => Shown::default(),
    }
}

/// Operations of a filter such as `insert,update`.
pub(super) fn operations(text: Option<&str>) -> Result<Vec<Operation>, ServiceError> {
    let names = text.unwrap_or_default().split(',').map(str::trim).filter(|name| !name.is_empty());
    names
        .map(|name| {
            Operation::from_name(name).ok_or_else(|| {
                let all = Operation::ALL.map(Operation::name).join(", ");
                ServiceError::usage(format!("{name:?} is no operation"), format!("operations are {all}"))
            })
        })
        .collect()
}

/// A page's length, within bounds.
pub(super) fn page_length(limit: Option<usize>) -> Result<usize, ServiceError> {
    match limit {
        None => Ok(USUAL_PAGE),
        Some(limit) if (1..=LONGEST_PAGE).contains(&limit) => Ok(limit),
        Some(limit) => Err(ServiceError::usage(
            format!("a page of {limit} cannot be given"),
            format!("ask for 1 to {LONGEST_PAGE}, and for the next page with next_cursor"),
        )),
    }
}

pub(super) fn cursor(text: Option<&str>) -> Result<Option<u64>, ServiceError> {
    let parse = |text: &str| {
        text.parse().map_err(|_| {
            ServiceError::usage(
                format!("{text:?} is no cursor"),
                "give next_cursor of the page before, or none",
            )
        })
    };
    text.filter(|text| !text.is_empty()).map(parse).transpose()
}

pub(super) fn direction(text: Option<&str>) -> Result<Direction, ServiceError> {
    match text {
        None | Some("asc") => Ok(Direction::Forward),
        Some("desc") => Ok(Direction::Backward),
        Some(other) => Err(ServiceError::usage(format!("{other:?} is no order"), "the order is asc or desc")),
    }
}
