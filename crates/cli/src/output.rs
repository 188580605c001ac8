//! Where results go: stdout, as a table, as lines, or as JSON. Prose goes to stderr.
//!
//! Everything written here can fail because the reader has gone (`log | head`), so every write is checked.

use std::{
    cell::RefCell,
    io::{self, IsTerminal, Write},
};

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::terminal::{shown, shown_in_json};

/// A line on stderr.
pub fn tell(text: &str) {
    if io::stderr().is_terminal() { tell_as_it_is(&shown(text)) } else { tell_as_it_is(text) }
}

/// A line of JSON on stderr.
pub fn tell_json(json: &str) {
    if io::stderr().is_terminal() { tell_as_it_is(&shown_in_json(json)) } else { tell_as_it_is(json) }
}

/// Where stderr is closed or its disk is full, nobody can be told.
fn tell_as_it_is(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// How results are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON document, or one a line where there are many.
    Json,
}

/// What a sign stands for; the sign is always there, the colour only on a terminal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Paint {
    /// Insert, good.
    Green,
    /// Update, attention.
    Yellow,
    /// Delete, bad.
    Red,
    /// Truncate.
    Magenta,
    /// Schema changes.
    Blue,
    /// Of less weight.
    Dim,
}

/// The two streams and how to write on them.
pub struct Output {
    format: Format,
    quiet: bool,
    colour: bool,
    on_terminal: bool,
    stdout: RefCell<io::BufWriter<io::Stdout>>,
}

impl Output {
    /// As the global flags and the environment say.
    pub fn new(format: Format, quiet: bool) -> Self {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let on_terminal = io::stdout().is_terminal();
        let colour = !no_colour && on_terminal;
        Self { format, quiet, colour, on_terminal, stdout: RefCell::new(io::BufWriter::new(io::stdout())) }
    }

    /// Whether results are JSON.
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether prose is unwanted.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether progress may be drawn: a person looks on and has not asked for silence.
    pub fn draws_progress(&self) -> bool {
        !self.quiet && !self.is_json() && io::stderr().is_terminal()
    }

    /// A line of the result.
    pub fn line(&self, text: impl std::fmt::Display) -> io::Result<()> {
        if self.on_terminal {
            return writeln!(self.stdout.borrow_mut(), "{}", shown(&text.to_string()));
        }
        writeln!(self.stdout.borrow_mut(), "{text}")
    }

    /// Begins a result that takes the place of the one before: on an empty screen, elsewhere after an empty line.
    pub fn begin_anew(&self) -> io::Result<()> {
        // Home, then erase the screen (ECMA-48).
        self.raw(if io::stdout().is_terminal() { b"\x1b[H\x1b[2J" } else { b"\n" })
    }

    /// The result as a JSON document of its own.
    pub fn json(&self, value: &impl Serialize) -> io::Result<()> {
        if self.on_terminal {
            return self.shown_json(&serde_json::to_string_pretty(value)?);
        }
        serde_json::to_writer_pretty(&mut *self.stdout.borrow_mut(), value)?;
        self.line("")
    }

    /// One of many results, as a line.
    pub fn json_line(&self, value: &impl Serialize) -> io::Result<()> {
        if self.on_terminal {
            return self.shown_json(&serde_json::to_string(value)?);
        }
        serde_json::to_writer(&mut *self.stdout.borrow_mut(), value)?;
        self.line("")
    }

    /// JSON on a terminal.
    fn shown_json(&self, json: &str) -> io::Result<()> {
        writeln!(self.stdout.borrow_mut(), "{}", shown_in_json(json))
    }

    /// Bytes as they are.
    pub fn raw(&self, bytes: &[u8]) -> io::Result<()> {
        self.stdout.borrow_mut().write_all(bytes)
    }

    /// Hands over what was written so far.
    pub fn flush(&self) -> io::Result<()> {
        self.stdout.borrow_mut().flush()
    }

    /// A list: aligned columns, a heading only on a terminal so that scripts can cut it.
    pub fn table(&self, heading: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> io::Result<()> {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
        if io::stdout().is_terminal() {
            table.set_header(heading.iter().map(|name| name.to_uppercase()));
        }
        let mut empty = true;
        for row in rows {
            empty = false;
            table.add_row(row);
        }
        if empty {
            self.prose("none");
            return Ok(());
        }
        for line in table.lines() {
            self.line(line.strip_prefix(' ').unwrap_or(&line).trim_end())?;
        }
        Ok(())
    }

    /// Something to tell the person, not a result.
    pub fn prose(&self, text: impl std::fmt::Display) {
        if !self.quiet {
            tell(&text.to_string());
        }
    }

    /// The text, coloured where that is seen.
    pub fn paint(&self, paint: Paint, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match paint {
            Paint::Green => 32,
            Paint::Yellow => 33,
            Paint::Red => 31,
            Paint::Magenta => 35,
            Paint::Blue => 34,
            Paint::Dim => 2,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}
