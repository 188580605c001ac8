//! What was typed, made ready for the parser: the first step of every run.
//!
//! Two habits do not fit clap and are rewritten before it looks: the single-dash flags of the tool's first
//! version (`-mode listener`, `-addr :8080`), and times written as `-5m`, which look like a flag. Pure.

use std::ffi::{OsStr, OsString};

use ptr_model::PositionExpression;

/// The arguments as the parser wants them; the program's name comes first and stays.
pub fn rewrite(typed: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut typed = typed.into_iter();
    let mut rewritten: Vec<OsString> = typed.next().into_iter().collect();
    let mut mode = None;
    while let Some(argument) = typed.next() {
        match seed_flag(&argument) {
            Some(("mode", Some(value))) => mode = Some(value),
            Some(("mode", None)) => match typed.next() {
                Some(value) => mode = Some(value),
                None => rewritten.push(argument),
            },
            Some((name, value)) => {
                rewritten.push(format!("--{name}").into());
                rewritten.extend(value);
            }
            None => rewritten.push(span_as_words(&argument).unwrap_or(argument)),
        }
    }
    if let Some(mode) = mode {
        for (place, word) in command_of_mode(&mode).into_iter().enumerate() {
            rewritten.insert(1 + place, word);
        }
    }
    rewritten
}

/// `-mode`, `-addr` and `-config`, alone or with `=value`.
fn seed_flag(argument: &OsStr) -> Option<(&'static str, Option<OsString>)> {
    let text = argument.to_str()?.strip_prefix('-')?;
    // `--mode` was accepted too: Go's flags take one dash or two. `--addr` and `--config` are flags of ours.
    let text = if text.starts_with("-mode") { &text[1..] } else { text };
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(OsString::from(value))),
        None => (text, None),
    };
    ["mode", "addr", "config"].into_iter().find(|known| *known == name).map(|known| (known, value))
}

/// The command that a mode has become.
fn command_of_mode(mode: &OsStr) -> Vec<OsString> {
    match mode.to_str() {
        Some("backup") => vec!["backup".into(), "create".into()],
        // A mode that never was becomes an unknown command, and the parser names those that exist.
        _ => vec![mode.to_owned()],
    }
}

/// `-5m` as `5m ago`, which means the same and does not look like a flag.
fn span_as_words(argument: &OsStr) -> Option<OsString> {
    let text = argument.to_str()?;
    let span = text.strip_prefix('-').filter(|span| span.starts_with(|c: char| c.is_ascii_digit()))?;
    matches!(text.parse(), Ok(PositionExpression::Ago(_))).then(|| format!("{span} ago").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(line: &str) -> Vec<String> {
        let typed = std::iter::once("ptr").chain(line.split(' ')).map(OsString::from);
        rewrite(typed).into_iter().skip(1).map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn the_first_versions_modes_are_commands() {
        assert_eq!(rewritten("-mode listener"), ["listener"]);
        assert_eq!(rewritten("-mode=ipc -addr :8080"), ["ipc", "--addr", ":8080"]);
        assert_eq!(rewritten("-addr=:9090 -mode ipc"), ["ipc", "--addr", ":9090"]);
        assert_eq!(
            rewritten("-config config.json -mode backup"),
            ["backup", "create", "--config", "config.json"]
        );
        assert_eq!(rewritten("--mode listener"), ["listener"]);
    }

    #[test]
    fn a_mode_without_a_value_is_left_for_the_parser_to_refuse() {
        assert_eq!(rewritten("-mode"), ["-mode"]);
    }

    #[test]
    fn a_time_span_does_not_look_like_a_flag() {
        assert_eq!(rewritten("navigate -5m --dry-run"), ["navigate", "5m ago", "--dry-run"]);
        assert_eq!(rewritten("navigate -1h30m"), ["navigate", "1h30m ago"]);
        assert_eq!(rewritten("log -v -n -7"), ["log", "-v", "-n", "-7"]);
    }

    #[test]
    fn everything_else_stays_as_typed() {
        assert_eq!(rewritten("up --addr :8080 -v"), ["up", "--addr", ":8080", "-v"]);
        assert_eq!(rewritten("navigate @-3"), ["navigate", "@-3"]);
    }
}
