//! `keyword=value` strings, read as `conninfo_parse` in libpq's `fe-connect.c` reads them.

use super::error::{DsnError, QUOTE};
use super::parameters::Parameters;
use std::iter::Peekable;
use std::str::CharIndices;

/// Parses the whole string; an empty one means all defaults.
pub(super) fn parse(text: &str) -> Result<Parameters, DsnError> {
    let mut parser = Parser { text, chars: text.char_indices().peekable() };
    let mut parameters = Parameters::default();
    let mut previous = String::new();
    while let Some((at, _)) = parser.skip_space() {
        let name = parser.name(at)?;
        let value = parser.value()?;
        parameters.set(&name, value).map_err(|error| match error {
            // The unknown word may be the second half of a password that is not in quotes.
            DsnError::UnknownOption { .. } if previous == "password" => {
                malformed(text, at, "an option that is not known, just behind the password")
            }
            error => error,
        })?;
        previous = name;
    }
    Ok(parameters)
}

struct Parser<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
}

impl Parser<'_> {
    fn skip_space(&mut self) -> Option<(usize, char)> {
        while self.chars.next_if(|(_, c)| c.is_ascii_whitespace()).is_some() {}
        self.chars.peek().copied()
    }

    fn name(&mut self, at: usize) -> Result<String, DsnError> {
        let mut name = String::new();
        while let Some((_, c)) = self.chars.next_if(|(_, c)| *c != '=' && !c.is_ascii_whitespace()) {
            name.push(c);
        }
        match self.skip_space() {
            Some((_, '=')) if !name.is_empty() => {
                self.chars.next();
                Ok(name)
            }
            _ => Err(malformed(self.text, at, "a word without = behind it")),
        }
    }

    fn value(&mut self) -> Result<String, DsnError> {
        match self.skip_space() {
            Some((at, '\'')) => {
                self.chars.next();
                self.quoted(at)
            }
            _ => Ok(self.bare()),
        }
    }

    fn bare(&mut self) -> String {
        let mut value = String::new();
        while let Some((_, c)) = self.chars.next_if(|(_, c)| !c.is_ascii_whitespace()) {
            match c {
                '\\' => value.extend(self.chars.next().map(|(_, escaped)| escaped)),
                c => value.push(c),
            }
        }
        value
    }

    fn quoted(&mut self, start: usize) -> Result<String, DsnError> {
        let mut value = String::new();
        while let Some((_, c)) = self.chars.next() {
            match c {
                '\'' => return Ok(value),
                '\\' => value.extend(self.chars.next().map(|(_, escaped)| escaped)),
                c => value.push(c),
            }
        }
        Err(malformed(self.text, start, "a quote that is not closed"))
    }
}

fn malformed(text: &str, byte: usize, problem: &'static str) -> DsnError {
    DsnError::Malformed { at: text[..byte].chars().count() + 1, problem, hint: QUOTE }
}
