//! Finds the exact statement that an event is about.
//!
//! Where nothing but our own frames stands in the context, the client sent the statement: `current_query()` is
//! its whole string, which may hold several statements; the events of one string come in the order of its
//! statements, so each is told by its tag, by the objects it touched, and by coming after the one before.
//! Where a procedural language ran it, the context holds its text. An SQL function names itself and the number
//! of the statement.
//!
//! Pure, with a memory of one transaction: how far into each string the events have come.

use std::collections::HashMap;

use ptr_model::Statement;

use super::{
    context::{Caller, caller},
    event::{EventKind, SchemaEvent},
    split::{Backslashes, SqlStatement, split},
    tag::{has_tag, names_object},
};

/// How far the events of one transaction have come in the strings that they are about.
#[derive(Debug, Default)]
pub struct Derivation {
    next: HashMap<Source, usize>,
}

/// One string that was sent or run at one time.
#[derive(PartialEq, Eq, Hash, Clone, Debug)]
struct Source {
    statement_time: String,
    text: String,
}

impl Derivation {
    /// The statement of `event`.
    pub fn statement(&mut self, event: &SchemaEvent) -> Statement {
        let backslashes = backslashes(event);
        let (text, found) = match caller(&event.context, backslashes) {
            Caller::Client => (event.query.as_str(), self.pick(event, &event.query, backslashes)),
            Caller::Text(text) => (text, self.pick(event, text, backslashes)),
            Caller::SqlFunction { name, statement } => {
                (event.query.as_str(), of_function(event, name, statement, backslashes))
            }
            Caller::Unknown(frame) => (
                event.query.as_str(),
                Err(format!("it was run from a place that shows no statement: {frame}")),
            ),
        };
        match found {
            Ok(statement) => Statement::Text(statement),
            Err(reason) => Statement::Underivable { reason, text: text.to_owned() },
        }
    }

    /// The statement among those of `text` that `event` is about.
    fn pick(&mut self, event: &SchemaEvent, text: &str, backslashes: Backslashes) -> Result<String, String> {
        let statements = split(text, backslashes)
            .map_err(|error| format!("the text it was sent in cannot be split into statements: {error}"))?;
        let statements: Vec<_> = statements.into_iter().map(prepared).collect::<Result<_, _>>()?;
        let source = Source { statement_time: event.statement_time.clone(), text: text.to_owned() };
        let begin = self.next.get(&source).copied().unwrap_or(0);
        let candidate = |index: &usize| has_tag(&statements[*index], &event.tag);
        let later: Vec<_> = (begin..statements.len()).filter(candidate).collect();
        // A procedure may run the same text again in a loop, within one statement of the client.
        let candidates = if later.is_empty() { (0..begin).filter(candidate).collect() } else { later };
        let chosen = choose(event, &statements, &candidates)?;
        if event.event == EventKind::DdlCommandEnd {
            self.next.insert(source, chosen + 1);
        }
        Ok(statements[chosen].text.to_owned())
    }
}

/// The first candidate that names an object that the event touched, else the first: a statement may touch
/// objects that it does not name, and one in between may have had nothing to do (`IF NOT EXISTS`).
fn choose(
    event: &SchemaEvent,
    statements: &[SqlStatement<'_>],
    candidates: &[usize],
) -> Result<usize, String> {
    let touched: Vec<&str> = event
        .objects
        .iter()
        .map(|object| object.identity.as_str())
        .chain(event.dropped.iter().map(|object| object.identity.as_str()))
        .collect();
    let names = |index: &&usize| touched.iter().any(|identity| names_object(&statements[**index], identity));
    let chosen = candidates.iter().find(names).or(candidates.first());
    chosen.copied().ok_or_else(|| match statements {
        [_] => format!("the statement does not do {} itself; something that it called did", event.tag),
        _ => format!("none of the {} statements sent together is a {}", statements.len(), event.tag),
    })
}

/// The statement that a PREPARE holds: `current_query()` of an EXECUTE is its PREPARE.
fn prepared(statement: SqlStatement<'_>) -> Result<SqlStatement<'_>, String> {
    if !statement.words.first().is_some_and(|first| first.is("PREPARE")) {
        return Ok(statement);
    }
    let body = statement.words.iter().position(|word| word.depth == 0 && word.is("AS")).map(|at| at + 1);
    let Some((words, first)) =
        body.and_then(|at| Some((statement.words.get(at..)?, statement.words.get(at)?)))
    else {
        return Err("it was prepared in a form that is not understood".to_owned());
    };
    // Both are slices of one string, so the distance of their addresses is an offset in it.
    let offset = first.text.as_ptr() as usize - statement.text.as_ptr() as usize;
    Ok(SqlStatement { text: &statement.text[offset..], words: words.to_vec() })
}

/// Statement `number`, from 1, of the SQL function `name`.
fn of_function(
    event: &SchemaEvent,
    name: &str,
    number: usize,
    backslashes: Backslashes,
) -> Result<String, String> {
    let mut found: Vec<String> = event
        .functions
        .iter()
        .filter(|function| function.name == name)
        .filter_map(|function| {
            let statements = split(&function.source, backslashes).ok()?;
            let statement = statements.get(number.checked_sub(1)?)?;
            has_tag(statement, &event.tag).then(|| statement.text.to_owned())
        })
        .collect();
    found.sort();
    found.dedup();
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(format!("the text of statement {number} of SQL function {name} is not known")),
        several => Err(format!("{several} SQL functions are called {name}, and any of them may have run it")),
    }
}

fn backslashes(event: &SchemaEvent) -> Backslashes {
    match event.settings.get("standard_conforming_strings").map(String::as_str) {
        Some("off") => Backslashes::Escape,
        _ => Backslashes::Ordinary,
    }
}

#[cfg(test)]
mod tests;
