//! Reads `PG_CONTEXT`: from where the server ran a statement.
//!
//! The text holds one frame after another, the innermost first, each on a line of its own but for the SQL
//! text in it, which may have lines. The first frames are those of our own trigger functions. Their text is
//! that of `lc_messages = C` (PostgreSQL source, `plpgsql_exec_error_callback`, `_SPI_error_callback`,
//! `sql_exec_error_callback`).

use ptr_model::OUR_SCHEMA;

use super::split::{Backslashes, split};

/// From where a statement ran.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Caller<'a> {
    /// The client sent it.
    Client,
    /// A procedural language ran it; this is its text.
    Text(&'a str),
    /// An SQL function ran it as its n-th statement, counted from 1.
    SqlFunction {
        /// The function's name, without schema.
        name: &'a str,
        /// Which statement.
        statement: usize,
    },
    /// Something else did; this is the first line of its frame.
    Unknown(&'a str),
}

const STATEMENT: &str = "SQL statement \"";
const SQL_FUNCTION: &str = "SQL function \"";

/// How a frame may begin; tells the quote that ends a statement from one inside it.
const FRAME_BEGINNINGS: [&str; 13] = [
    "PL/",
    "SQL statement \"",
    "SQL expression \"",
    "SQL function \"",
    "COPY ",
    "PL/pgSQL assignment \"",
    "PL/pgSQL expression \"",
    "unnamed portal",
    "portal \"",
    "extension script file \"",
    "while ",
    "during ",
    "remote SQL command: ",
];

/// Reads the context of one event.
#[must_use]
pub fn caller(context: &str, backslashes: Backslashes) -> Caller<'_> {
    let rest = without_our_frames(context);
    if rest.trim().is_empty() {
        return Caller::Client;
    }
    if let Some(text) = rest.strip_prefix(STATEMENT) {
        return statement_text(text, backslashes).map_or(Caller::Unknown(first_line(rest)), Caller::Text);
    }
    if let Some(function) = rest.strip_prefix(SQL_FUNCTION) {
        return sql_function(first_line(function)).unwrap_or(Caller::Unknown(first_line(rest)));
    }
    Caller::Unknown(first_line(rest))
}

/// What is left when the frames of our own functions are taken off the front. Between two of them stands the
/// statement by which one calls the other.
pub(super) fn without_our_frames(context: &str) -> &str {
    let mut rest = context;
    loop {
        if is_our_function(rest) {
            rest = after_line(rest);
        } else if let Some(next) = our_call(rest) {
            rest = next;
        } else {
            return rest;
        }
    }
}

fn is_our_function(frames: &str) -> bool {
    frames
        .strip_prefix("PL/pgSQL function ")
        .is_some_and(|name| name.strip_prefix(OUR_SCHEMA).is_some_and(|rest| rest.starts_with('.')))
}

/// Skips the frame of a statement or expression of ours: one that names our schema, followed at once by the
/// frame of the function of ours that contains it.
fn our_call(frames: &str) -> Option<&str> {
    let beginnings = [STATEMENT, "SQL expression \"", "PL/pgSQL assignment \"", "PL/pgSQL expression \""];
    let text = beginnings.iter().find_map(|beginning| frames.strip_prefix(beginning))?;
    let end = text.match_indices("\"\n").map(|(at, _)| at).find(|at| is_frame(&text[at + 2..]))?;
    let next = &text[end + 2..];
    let calls_us = text[..end].contains(OUR_SCHEMA);
    (calls_us && is_our_function(next)).then_some(next)
}

/// The text of an SQL statement frame. It may hold the quote that ends it; so each quote that a frame or
/// nothing follows is tried until what is before it is one whole statement.
fn statement_text(text: &str, backslashes: Backslashes) -> Option<&str> {
    text.match_indices('"')
        .map(|(at, _)| (&text[..at], &text[at + 1..]))
        .filter(|(_, after)| after.is_empty() || after.strip_prefix('\n').is_some_and(is_frame))
        .map(|(statement, _)| statement)
        .find(|statement| split(statement, backslashes).is_ok_and(|statements| !statements.is_empty()))
}

fn is_frame(text: &str) -> bool {
    FRAME_BEGINNINGS.iter().any(|beginning| text.starts_with(beginning))
}

/// `name" statement 2`.
fn sql_function(line: &str) -> Option<Caller<'_>> {
    let (name, number) = line.rsplit_once("\" statement ")?;
    Some(Caller::SqlFunction { name, statement: number.trim().parse().ok()? })
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn after_line(text: &str) -> &str {
    text.split_once('\n').map_or("", |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "PL/pgSQL function postgres_test_replay.capture(text,text,text) line 7 at GET DIAGNOSTICS\n\
        SQL statement \"SELECT postgres_test_replay.capture(tg_event, tg_tag,\n  current_user)\"\n\
        PL/pgSQL function postgres_test_replay.on_event() line 3 at PERFORM";

    fn caller_of(frames: &str) -> String {
        match caller(&format!("{OURS}\n{frames}"), Backslashes::Ordinary) {
            Caller::Client => "client".to_owned(),
            Caller::Text(text) => format!("text {text}"),
            Caller::SqlFunction { name, statement } => format!("function {name} {statement}"),
            Caller::Unknown(line) => format!("unknown {line}"),
        }
    }

    #[test]
    fn our_frames_alone_mean_the_client() {
        assert_eq!(caller(OURS, Backslashes::Ordinary), Caller::Client);
        assert_eq!(caller("", Backslashes::Ordinary), Caller::Client);
    }

    #[test]
    fn the_statement_of_a_procedural_language_is_found() {
        let frames = "SQL statement \"create table nested(a int)\"\n\
                      PL/pgSQL function inline_code_block line 1 at SQL statement";
        assert_eq!(caller_of(frames), "text create table nested(a int)");
    }

    #[test]
    fn a_quote_before_a_line_break_does_not_end_the_statement() {
        let statement = "create table \"a\"\n(\"PL/x\" int, b text default '\"\nPL/pgSQL function f()')";
        let frames = format!("SQL statement \"{statement}\"\nPL/pgSQL function f() line 1 at EXECUTE");
        assert_eq!(caller_of(&frames), format!("text {statement}"));
    }

    #[test]
    fn a_statement_about_our_schema_is_not_taken_for_ours() {
        let frames =
            "SQL statement \"drop table postgres_test_replay.x\"\nPL/pgSQL function f() line 1 at EXECUTE";
        assert_eq!(caller_of(frames), "text drop table postgres_test_replay.x");
    }

    #[test]
    fn a_function_and_anything_else_are_named() {
        assert_eq!(caller_of("SQL function \"my \"f\" statement 2"), "function my \"f 2");
        assert_eq!(
            caller_of("SQL function \"f\" during startup"),
            "unknown SQL function \"f\" during startup"
        );
        assert_eq!(caller_of("while doing things\nPL/x"), "unknown while doing things");
        assert_eq!(
            caller_of("SQL statement \"create table 'x\"\n"),
            "unknown SQL statement \"create table 'x\""
        );
    }
}
