//! Random changes of rows.

use super::{
    support::Chance,
    values::value,
    world::{Column, Table, World},
};

/// A statement that changes rows, if there is a table for it.
pub fn change(chance: &mut Chance, world: &World) -> Option<String> {
    if world.tables.is_empty() {
        return None;
    }
    let table = chance.pick(&world.tables).clone();
    Some(match chance.below(22) {
        0..=9 => insert(chance, &table),
        10..=13 => update(chance, &table)?,
        14..=15 => delete(chance, &table),
        16 => upsert(chance, &table)?,
        17 if world.version >= 15 => merge(chance, &table)?,
        18 => copy(chance, &table)?,
        19 if chance.one_in(2) => truncate(chance, &table, world),
        20 => key_update(chance, &table)?,
        21 => again(chance, &table),
        _ => insert(chance, &table),
    })
}

fn writable(table: &Table) -> Vec<&Column> {
    table.columns.iter().filter(|column| !column.is_generated && column.identity != "a").collect()
}

fn insert(chance: &mut Chance, table: &Table) -> String {
    let columns: Vec<&Column> = writable(table)
        .into_iter()
        .filter(|column| column.identity.is_empty() && !chance.one_in(7))
        .collect();
    if columns.is_empty() {
        return format!("INSERT INTO {} DEFAULT VALUES", table.name);
    }
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let rows: Vec<String> = (0..=chance.below(4))
        .map(|_| {
            let values: Vec<String> = columns.iter().map(|column| value(chance, column)).collect();
            format!("({})", values.join(", "))
        })
        .collect();
    format!("INSERT INTO {} ({}) VALUES {}", table.name, names.join(", "), rows.join(", "))
}

/// A condition that holds of some rows, whatever the columns are.
fn some_rows(chance: &mut Chance) -> String {
    match chance.below(6) {
        0 => "true".to_owned(),
        remainder => format!("abs(hashtext(t::text)) % 5 = {}", remainder % 5),
    }
}

fn only(chance: &mut Chance, table: &Table) -> &'static str {
    if table.kind == "r" && chance.one_in(3) { "ONLY " } else { "" }
}

fn update(chance: &mut Chance, table: &Table) -> Option<String> {
    let columns = writable(table);
    if columns.is_empty() {
        return None;
    }
    let mut sets: Vec<String> = Vec::new();
    for _ in 0..=chance.below(2) {
        let column = *chance.pick(&columns);
        let set = format!("{} = {}", column.name, value(chance, column));
        if !sets.iter().any(|other| other.starts_with(&format!("{} = ", column.name))) {
            sets.push(set);
        }
    }
    let only = only(chance, table);
    Some(format!("UPDATE {only}{} t SET {} WHERE {}", table.name, sets.join(", "), some_rows(chance)))
}

fn key_update(chance: &mut Chance, table: &Table) -> Option<String> {
    let numbers = ["integer", "bigint", "numeric"];
    let column = writable(table)
        .into_iter()
        .find(|column| table.keys.contains(&column.name) && numbers.contains(&column.type_name.as_str()))?;
    let by = chance.pick(&["+ 1", "+ 1000", "* -1", "- 3"]);
    Some(format!("UPDATE {} SET {name} = {name} {by}", table.name, name = column.name))
}

fn delete(chance: &mut Chance, table: &Table) -> String {
    let only = only(chance, table);
    format!("DELETE FROM {only}{} t WHERE {}", table.name, some_rows(chance))
}

/// Doubles rows, keys or not: without a key there are then duplicates.
fn again(chance: &mut Chance, table: &Table) -> String {
    let names: Vec<&str> = writable(table)
        .into_iter()
        .filter(|column| column.identity.is_empty() && !table.keys.contains(&column.name))
        .map(|column| column.name.as_str())
        .collect();
    if names.is_empty() {
        return format!("INSERT INTO {} DEFAULT VALUES", table.name);
    }
    let names = names.join(", ");
    let some = some_rows(chance);
    format!("INSERT INTO {0} ({names}) SELECT {names} FROM {0} t WHERE {some} LIMIT 5", table.name)
}

fn upsert(chance: &mut Chance, table: &Table) -> Option<String> {
    let key = table.keys.first()?;
    let column = writable(table).into_iter().find(|column| column.name != *key)?.clone();
    let insert = insert(chance, table);
    let value = value(chance, &column);
    let action =
        if chance.one_in(3) { "NOTHING".to_owned() } else { format!("UPDATE SET {} = {value}", column.name) };
    Some(format!("{insert} ON CONFLICT ({key}) DO {action}"))
}

fn merge(chance: &mut Chance, table: &Table) -> Option<String> {
    let key = table.keys.first()?;
    let number = table.columns.iter().find(|column| column.name == *key && column.type_name == "integer")?;
    let column = writable(table).into_iter().find(|column| column.name != *key)?.clone();
    let (low, value) = (chance.below(30), value(chance, &column));
    let matched =
        if chance.one_in(3) { "DELETE".to_owned() } else { format!("UPDATE SET {} = {value}", column.name) };
    let overriding = if number.identity == "a" { "OVERRIDING SYSTEM VALUE " } else { "" };
    Some(format!(
        "MERGE INTO {} t USING generate_series({low}, {low} + 5) s(i) ON t.{key} = s.i
         WHEN MATCHED THEN {matched} WHEN NOT MATCHED THEN INSERT ({key}) {overriding}VALUES (s.i)",
        table.name
    ))
}

fn copy(chance: &mut Chance, table: &Table) -> Option<String> {
    let column = writable(table)
        .into_iter()
        .find(|column| matches!(column.type_name.as_str(), "integer" | "bigint" | "text" | "numeric"))?;
    let low = chance.below(500);
    Some(format!("COPY {} ({}) FROM PROGRAM 'seq {low} {}'", table.name, column.name, low + 3))
}

fn truncate(chance: &mut Chance, table: &Table, world: &World) -> String {
    let mut names = table.name.clone();
    if chance.one_in(3) {
        names = format!("{names}, {}", chance.pick(&world.tables).name);
    }
    let only = only(chance, table);
    let restart = chance.pick(&["", " RESTART IDENTITY", " CONTINUE IDENTITY"]);
    let cascade = chance.pick(&["", " CASCADE"]);
    format!("TRUNCATE {only}{names}{restart}{cascade}")
}
