//! What goes on meanwhile: drawn only where a person looks on.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use ptr_server::resource::navigation::Progress as Step;

use crate::{output::Output, terminal::shown};

/// A line that moves while something takes its time, and is gone afterwards.
pub struct Progress {
    bar: ProgressBar,
    /// For what is known to end.
    with_length: ProgressStyle,
}

impl Progress {
    /// Of unknown length.
    pub fn spinner(output: &Output, doing: &str) -> Self {
        let template = "{spinner} [{bar:24}] {msg} {elapsed}";
        let with_length =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        if !output.draws_progress() {
            return Self { bar: ProgressBar::hidden(), with_length };
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(doing.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar, with_length }
    }

    /// What is being done now, and how far it is.
    pub fn step(&self, step: &Step) {
        if let Some(total) = step.total {
            self.bar.set_style(self.with_length.clone());
            self.bar.set_length(total);
            self.bar.set_position(step.done);
        }
        self.bar.set_message(message(step));
    }

    /// Lets something be written above the line.
    pub fn above(&self, write: impl FnOnce()) {
        self.bar.suspend(write);
    }

    /// Takes the line away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

/// What is drawn, which is always on a terminal: a step may name a table.
fn message(Step { step, done, total, unit }: &Step) -> String {
    let step = shown(step);
    match total {
        Some(total) => format!("{step}: {done} of {total} {unit}"),
        None if unit.is_empty() => step.into_owned(),
        None => format!("{step}: {done} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_table_is_called_is_drawn_and_not_obeyed() {
        let step = "comparing public.\"\u{1b}]0;owned\u{7}\u{9b}2J\"".to_owned();
        let step = Step { step, done: 1, total: Some(2), unit: "pages".into() };
        assert_eq!(message(&step), r#"comparing public."\u{1b}]0;owned\u{7}\u{9b}2J": 1 of 2 pages"#);
        let step = Step { step: "\u{7}".into(), ..Step::default() };
        assert_eq!(message(&step), r"\u{7}");
    }
}
