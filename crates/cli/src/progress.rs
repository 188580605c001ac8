//! What goes on meanwhile: drawn only where a person looks on.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use ptr_server::resource::navigation::Progress as Step;

use crate::output::Output;

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
        let Step { step, done, total, unit } = step;
        match total {
            Some(total) => {
                self.bar.set_style(self.with_length.clone());
                self.bar.set_length(*total);
                self.bar.set_position(*done);
                self.bar.set_message(format!("{step}: {done} of {total} {unit}"));
            }
            None if unit.is_empty() => self.bar.set_message(step.clone()),
            None => self.bar.set_message(format!("{step}: {done} {unit}")),
        }
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
