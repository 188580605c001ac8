//! What publishing means for each of the user's tables.

use ptr_log::TableName;
use ptr_postgres::Connection;

use super::{
    Finding,
    finding::{list, size},
};
use crate::source::{
    Doing, ServerFacts, SourceError, SourceOptions, SourceRecord, Step, Table, due, due_of, tables,
};

/// WAL that FULL would have added since statistics began, from where on it is worth a word.
const MUCH_WAL: u64 = 100 << 20;

pub(super) async fn check(
    connection: &Connection,
    facts: &ServerFacts,
    options: &SourceOptions,
) -> Result<Vec<Finding>, SourceError> {
    let tables = tables(connection, facts.version).await?;
    let record = SourceRecord::load(&options.record_path)?;
    let is_set_up = record.is_some_and(|record| record.began(Step::Complete));
    let mut findings = Vec::new();
    findings.extend(breaking(&tables, options));
    findings.extend(keyless(&tables, options));
    findings.extend(exceptions(&tables, options));
    findings.extend(in_part(&tables, facts, options));
    findings.extend(cost(&tables, options));
    findings.extend(unpublished(connection, &tables, facts, options, is_set_up).await?);
    if is_set_up {
        findings.extend(without_full(&tables, options));
    }
    Ok(findings)
}

fn names<'a>(tables: impl IntoIterator<Item = &'a Table>) -> Vec<String> {
    tables.into_iter().map(|table| table.name.to_string()).collect()
}

/// The publication leaves them out, so that it harms nobody.
fn breaking(tables: &[Table], options: &SourceOptions) -> Option<Finding> {
    let breaking: Vec<&Table> = tables.iter().filter(|table| table.would_break(options)).collect();
    if breaking.is_empty() {
        return None;
    }
    let reasons: Vec<String> = breaking
        .iter()
        .map(|table| match &table.exception {
            Some(exception) => format!("{} ({exception})", table.name),
            None => format!("{} (REPLICA IDENTITY FULL is turned off for it)", table.name),
        })
        .collect();
    let title = format!("{} tables have no key, and cannot have REPLICA IDENTITY FULL", breaking.len());
    Some(
        Finding::warning("unpublishable_tables", title)
            .means(format!(
                "they are not captured, because UPDATE and DELETE on them would fail (55000) if they were published: {}",
                list(&reasons)
            ))
            .fix(format!(
                "ALTER TABLE {} ADD PRIMARY KEY (...): with event triggers a table is captured from then on; else set up \
                 again",
                breaking[0].name
            )),
    )
}

fn keyless(tables: &[Table], options: &SourceOptions) -> Option<Finding> {
    let keyless = tables.iter().filter(|table| {
        !table.has_key && table.identity != 'f' && !table.is_partitioned && table.gets_full(options)
    });
    let keyless = names(keyless);
    (!keyless.is_empty()).then(|| {
        Finding::info("keyless_tables", format!("{} tables have no primary key", keyless.len()))
            .means(format!(
                "without REPLICA IDENTITY FULL a publication would make UPDATE and DELETE on them fail; set-up sets it \
                 before it publishes: {}",
                list(&keyless)
            ))
            .fix("nothing needs to be done")
    })
}

fn exceptions(tables: &[Table], options: &SourceOptions) -> Option<Finding> {
    let excepted = tables.iter().filter(|table| {
        table.identity != 'f'
            && !table.gets_full(options)
            && !table.would_break(options)
            && !table.is_partitioned
    });
    let excepted: Vec<String> = excepted
        .map(|table| match &table.exception {
            Some(exception) => format!("{} ({exception})", table.name),
            None if !table.is_owned => format!("{} (owned by another role)", table.name),
            None => format!("{} (turned off)", table.name),
        })
        .collect();
    (!excepted.is_empty()).then(|| {
        Finding::warning("identity_exceptions", format!("{} tables keep their replica identity", excepted.len()))
            .means(format!(
                "REPLICA IDENTITY FULL would make UPDATE and DELETE fail, or is not wanted; going back over changes of \
                 these tables takes a keyframe: {}",
                list(&excepted)
            ))
            .fix("nothing needs to be done; undo is faster without what stands against FULL")
    })
}

/// Nobody can tell by what is sent which row was meant.
fn in_part(tables: &[Table], facts: &ServerFacts, options: &SourceOptions) -> Option<Finding> {
    let in_part = tables.iter().filter(|table| {
        facts.version.major < 18
            && table.has_generated_key
            && !table.gets_full(options)
            && !table.is_partitioned
    });
    let in_part = names(in_part);
    let first = in_part.first()?;
    let title = format!(
        "{} tables have a generated column in their key, and keep their replica identity",
        in_part.len()
    );
    let found = Finding::warning("identity_in_part", title)
        .means(format!(
            "before PostgreSQL 18 no generated column is sent, so that replay stops at UPDATE and DELETE on: {}",
            list(&in_part)
        ))
        .fix(format!("ALTER TABLE {first} REPLICA IDENTITY FULL, on each"));
    Some(found)
}

/// FULL writes the whole old row, TOAST included, for every UPDATE and DELETE.
fn cost(tables: &[Table], options: &SourceOptions) -> Option<Finding> {
    let mut costs: Vec<(u64, &Table)> = tables
        .iter()
        .filter(|table| table.gets_full(options))
        .map(|table| (table.mean_row_bytes().saturating_mul(table.rewritten_rows), table))
        .filter(|(bytes, _)| *bytes >= MUCH_WAL)
        .collect();
    costs.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
    let costs: Vec<String> = costs
        .iter()
        .map(|(bytes, table)| {
            format!(
                "{} ({} for {} rows changed since statistics began)",
                table.name,
                size(*bytes),
                table.rewritten_rows
            )
        })
        .collect();
    (!costs.is_empty()).then(|| {
        Finding::warning("identity_cost", "REPLICA IDENTITY FULL costs much WAL on some tables")
            .means(format!("every UPDATE and DELETE writes the old row too; an estimate: {}", list(&costs)))
            .fix("EXCLUDE_TABLES=schema.table spares it; going back over its changes then takes a keyframe")
    })
}

async fn unpublished(
    connection: &Connection,
    tables: &[Table],
    facts: &ServerFacts,
    options: &SourceOptions,
    is_set_up: bool,
) -> Result<Option<Finding>, SourceError> {
    let missing: Vec<&Table> = if is_set_up {
        let rows = connection
            .query(
                "SELECT pg_catalog.format('%I.%I', schemaname, tablename)::regclass::oid
                   FROM pg_catalog.pg_publication_tables WHERE pubname = $1",
                &[&options.publication],
            )
            .await
            .doing(|| "listing the published tables".to_owned())?;
        let published: Vec<u32> = rows.iter().map(|row| row.get(0)).collect();
        let missing = tables.iter().filter(|table| {
            !table.is_partitioned && !published.contains(&table.oid) && !table.would_break(options)
        });
        missing.collect()
    } else if facts.is_superuser {
        Vec::new()
    } else {
        tables.iter().filter(|table| !table.is_owned && !table.is_partitioned).collect()
    };
    if !is_set_up && !facts.is_superuser && !tables.iter().any(|table| table.is_owned) {
        return Ok(Some(
            Finding::error("nothing_to_publish", format!("role {:?} owns no table", facts.user))
                .means("there is nothing that it may capture")
                .fix("set INPUT_DSN to the tables' owner, or to a superuser"),
        ));
    }
    Ok((!missing.is_empty()).then(|| {
        Finding::warning("unpublished_tables", format!("{} tables are not captured", missing.len()))
            .means(format!("their changes are not in the log: {}", list(&names(missing.iter().copied()))))
            .fix(if is_set_up { take_in(&missing, options) } else { give(&missing, options) })
    }))
}

/// Tables in a fix; the next look names those behind them.
const NAMED: usize = 10;

/// Before set-up: it publishes what the role owns.
fn give(missing: &[&Table], options: &SourceOptions) -> String {
    let role = ptr_postgres::quote_identifier(options.dsn.user());
    let give = |table: &&Table| format!("ALTER TABLE {} OWNER TO {role}", table.name);
    let statements: Vec<String> = missing.iter().take(NAMED).map(give).collect();
    format!("set INPUT_DSN to a superuser; or: {}", statements.join("; "))
}

/// After set-up. A table without a key needs its identity first, else its next UPDATE would fail.
fn take_in(missing: &[&Table], options: &SourceOptions) -> String {
    let missing = &missing[..missing.len().min(NAMED)];
    let mut statements: Vec<String> = due_of(missing.iter().copied(), options)
        .map(|table| format!("ALTER TABLE {} REPLICA IDENTITY FULL", table.name))
        .collect();
    statements.push(format!(
        "ALTER PUBLICATION {} ADD TABLE {}",
        ptr_postgres::quote_identifier(&options.publication),
        names(missing.iter().copied()).join(", ")
    ));
    // As a shell takes it.
    let command = |table: &&Table| {
        let name = TableName::new(&table.name.schema, &table.name.name).to_string().replace('\'', r"'\''");
        format!("`session resync '{name}'`")
    };
    let commands: Vec<String> = missing.iter().map(command).collect();
    format!(
        "as a superuser, or as the owner of both: {}; then {} for the rows that are there already",
        statements.join("; "),
        commands.join(", ")
    )
}

/// After set-up: tables that lost FULL, or got it never.
fn without_full(tables: &[Table], options: &SourceOptions) -> Option<Finding> {
    let without = names(due(tables, options));
    (!without.is_empty()).then(|| {
        Finding::warning(
            "replica_identity",
            format!("{} tables have no REPLICA IDENTITY FULL any more", without.len()),
        )
        .means(format!("going back over their changes takes a keyframe: {}", list(&without)))
        .fix("ALTER TABLE ... REPLICA IDENTITY FULL on each")
        .fixable(true)
    })
}
