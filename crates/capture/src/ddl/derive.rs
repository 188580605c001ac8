//! Finds the exact statement that an event is about.
//!
//! Where nothing but our own frames stands in the context, the client sent the statement: `current_query()` is
//! its whole string, which may hold several statements; the events of one string come in the order of its
//! statements, so each is told by its tag, by the objects it touched, and by coming after the one before.
//! Where a procedural language ran it, the context holds its text. An SQL function names itself and the number
//! of the statement.
//!
//! Pure, with a memory of what each server process is running: how far into it the events have come. It lasts from one
//! transaction to the next, because one string may hold, or one procedure run, several; and from one connection to the
//! next. A process of ours that ends loses it. Events say whether their string had transactions before, so that then
//! only what is certain without it is derived, and anything else stops replay.

mod script;

use std::{collections::HashMap, sync::Arc};

use ptr_model::Statement;

use super::{
    context::{Caller, caller},
    event::{EventKind, SchemaEvent},
    split::{Backslashes, split},
    tag::{Outline, Touched},
};
use script::Script;

/// Processes whose last string is remembered; far more than a server has connections.
const PROCESSES: usize = 4096;

/// How far events have come in the strings that they are about.
#[derive(Debug, Default)]
pub struct Derivation {
    running: HashMap<i32, Running>,
    /// Processes that the open transaction had events of.
    touched: Vec<i32>,
}

/// What a server process was sent last, and what that ran.
#[derive(Debug, Default)]
struct Running {
    statement_time: String,
    scripts: Vec<Script>,
    /// Where the string's events are in it: now, and where its last whole transaction left them.
    place: Place,
    settled: Place,
}

/// What is known of where a string's events have come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Place {
    /// As far as its scripts say.
    #[default]
    Known,
    /// The string had transactions with events that are not remembered.
    Forgotten,
}

impl Derivation {
    /// Another transaction begins; the one before is whole.
    pub fn begin(&mut self) {
        for pid in self.touched.drain(..) {
            let Some(running) = self.running.get_mut(&pid) else { continue };
            // What holds one statement can be split again at no cost, and a procedure may run many such texts.
            running.scripts.retain(Script::holds_several);
            running.scripts.iter_mut().for_each(Script::settle);
            running.settled = running.place;
        }
        if self.running.len() > PROCESSES {
            self.running.clear();
        }
    }

    /// The open transaction was not whole and will come again.
    pub fn abort(&mut self) {
        for pid in self.touched.drain(..) {
            let Some(running) = self.running.get_mut(&pid) else { continue };
            running.scripts.iter_mut().for_each(Script::go_back);
            running.place = running.settled;
        }
    }

    /// The statement of `event`.
    pub fn statement(&mut self, event: &SchemaEvent) -> Statement {
        self.meet(event);
        let backslashes = backslashes(event);
        let (text, found) = match caller(&event.context, backslashes) {
            Caller::Client => (&*event.query, self.pick(event, &event.query, false, backslashes)),
            Caller::Text(text) => (text, self.pick(event, &Arc::from(text), true, backslashes)),
            Caller::SqlFunction { name, statement } => {
                (&*event.query, of_function(event, name, statement, backslashes))
            }
            Caller::Unknown(frame) => {
                (&*event.query, Err(format!("it was run from a place that shows no statement: {frame}")))
            }
        };
        match found {
            Ok(statement) => Statement::Text(statement),
            Err(reason) => Statement::Underivable { reason, text: text.to_owned() },
        }
    }

    /// The statement among those of `text` that `event` is about. `repeats`: it may be run again within one
    /// statement of the client, as by a loop in a procedure.
    fn pick(
        &mut self,
        event: &SchemaEvent,
        text: &Arc<str>,
        repeats: bool,
        backslashes: Backslashes,
    ) -> Result<String, String> {
        let (script, place) = self.script(event, text, backslashes)?;
        // What a language runs begins in the transaction in which it ends.
        let chosen = match place {
            Place::Forgotten if !repeats => script.only(&event.tag)?,
            _ => script.choose(&event.tag, &Touched::by(event), repeats)?,
        };
        if event.event == EventKind::DdlCommandEnd {
            script.advance_past(chosen);
            if !repeats {
                *place = Place::Known;
            }
        }
        Ok(script.statement(chosen).to_owned())
    }

    /// Remembers what the process of `event` runs.
    fn meet(&mut self, event: &SchemaEvent) {
        let running = self.running.entry(event.pid).or_default();
        if running.statement_time != event.statement_time {
            let place = if event.continues { Place::Forgotten } else { Place::Known };
            let statement_time = event.statement_time.clone();
            *running = Running { statement_time, scripts: Vec::new(), place, settled: place };
        }
        if !self.touched.contains(&event.pid) {
            self.touched.push(event.pid);
        }
    }

    fn script(
        &mut self,
        event: &SchemaEvent,
        text: &Arc<str>,
        backslashes: Backslashes,
    ) -> Result<(&mut Script, &mut Place), String> {
        let running = self.running.get_mut(&event.pid).expect("the event was met before its text is split");
        let at = match running.scripts.iter().rposition(|script| script.is_of(text, backslashes)) {
            Some(at) => at,
            None => {
                running.scripts.push(Script::split(text, backslashes)?);
                running.scripts.len() - 1
            }
        };
        Ok((&mut running.scripts[at], &mut running.place))
    }
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
            Outline::of(statement).has_tag(&event.tag).then(|| statement.text.to_owned())
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
