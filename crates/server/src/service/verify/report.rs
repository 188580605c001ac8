//! What was found, for people and for programs. Pure.

use ptr_replay::verify::{
    ColumnDifference, RowDifference, SchemaDifference, Side, TableReport, VerifyReport,
    sequences::SequenceDifference,
};

use crate::resource::verification::{ColumnValues, Difference};

/// Every difference for programs.
pub(super) fn details(report: &VerifyReport, sequences: &[SequenceDifference]) -> Vec<Difference> {
    let tables = report.tables.iter().filter(|table| !table.is_equal());
    let tables = tables.flat_map(|table| {
        let rows = table.first_differences.iter().map(|row| of_row(table, row));
        std::iter::once(of_table(table)).chain(rows)
    });
    report.schema.iter().map(of_schema).chain(tables).chain(sequences.iter().map(of_sequence)).collect()
}

fn side(side: Side) -> String {
    match side {
        Side::Primary => "primary".into(),
        Side::Replica => "replica".into(),
    }
}

fn of_schema(one: &SchemaDifference) -> Difference {
    let SchemaDifference { only_on, entry, primary, replica } = one.clone();
    Difference::Schema { entry, only_on: only_on.map(side), primary, replica }
}

fn of_table(table: &TableReport) -> Difference {
    Difference::Table {
        table: table.table.clone(),
        primary_rows: table.primary_rows,
        replica_rows: table.replica_rows,
    }
}

fn of_row(table: &TableReport, row: &RowDifference) -> Difference {
    let columns = row.columns.iter().cloned();
    let columns = columns.map(|ColumnDifference { column, primary, replica }| ColumnValues {
        column,
        primary,
        replica,
    });
    Difference::Row {
        table: table.table.clone(),
        key: row.key.clone(),
        only_on: row.only_on.map(side),
        columns: columns.collect(),
    }
}

fn of_sequence(one: &SequenceDifference) -> Difference {
    let SequenceDifference { sequence, found, expected, exactly } = one.clone();
    Difference::Sequence { sequence, expected, found, exactly }
}

/// A difference as a line. `first` is what the first side is called.
pub(super) fn line(difference: &Difference, first: &str) -> String {
    let called = |side: &str| if side == "primary" { first.to_owned() } else { "the replica".to_owned() };
    match difference {
        Difference::Schema { entry, only_on: Some(side), .. } => format!("only {} has {entry}", called(side)),
        Difference::Schema { entry, only_on: None, .. } => format!("{entry} is defined differently"),
        Difference::Table { table, primary_rows, replica_rows } => match (primary_rows, replica_rows) {
            (Some(one), Some(other)) if one == other => {
                format!("table {table} has {one} rows on both sides, with other contents")
            }
            (Some(one), Some(other)) => {
                format!("table {table} has {one} rows on {first}, {other} on the replica")
            }
            (Some(one), None) => {
                format!(
                    "table {table} ({one} rows on {first}) is missing on the replica, or without contents"
                )
            }
            (None, _) => format!("table {table} is missing on {first}, or without contents"),
        },
        Difference::Row { table, key, only_on: Some(side), columns } => {
            let value = |one: &ColumnValues| {
                let value = if side == "primary" { &one.primary } else { &one.replica };
                format!("{}={}", one.column, shown(value.as_deref()))
            };
            let values: Vec<String> = columns.iter().map(value).collect();
            let key = key.as_ref().map_or(String::new(), |key| format!("{key} "));
            format!("{table}: only {} has {key}({})", called(side), values.join(", "))
        }
        Difference::Row { table, key, only_on: None, columns } => {
            let value = |one: &ColumnValues| {
                let (here, there) = (shown(one.primary.as_deref()), shown(one.replica.as_deref()));
                format!("{} is {here} on {first}, {there} on the replica", one.column)
            };
            let values: Vec<String> = columns.iter().map(value).collect();
            let key = key.as_deref().unwrap_or("a row");
            format!("{table}: {key}: {}", values.join("; "))
        }
        Difference::Sequence { sequence, expected, found, exactly } => {
            let least = if *exactly { "" } else { "at least " };
            format!("sequence {sequence} is at {found} on the replica, expected {least}{expected}")
        }
    }
}

fn shown(value: Option<&str>) -> String {
    value.map_or("NULL".to_owned(), |text| format!("'{text}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_reads_as_a_sentence() {
        let columns = |primary: Option<&str>, replica: Option<&str>| {
            vec![ColumnValues {
                column: "v".into(),
                primary: primary.map(Into::into),
                replica: replica.map(Into::into),
            }]
        };
        let row = |key: Option<&str>, only_on: Option<&str>, columns| Difference::Row {
            table: "t".into(),
            key: key.map(Into::into),
            only_on: only_on.map(Into::into),
            columns,
        };
        let changed = row(Some("id=7"), None, columns(Some("a"), None));
        assert_eq!(line(&changed, "the primary"), "t: id=7: v is 'a' on the primary, NULL on the replica");
        let missing = row(None, Some("primary"), columns(Some("a"), None));
        assert_eq!(line(&missing, "checkpoint c"), "t: only checkpoint c has (v='a')");
        let sequence = Difference::Sequence { sequence: "s".into(), expected: 9, found: 3, exactly: false };
        assert_eq!(line(&sequence, ""), "sequence s is at 3 on the replica, expected at least 9");
    }
}
