//! What goes on meanwhile: drawn only where a person looks on.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use ptr_server::resource::navigation::Progress as Step;

use crate::output::Output;

/// A line that moves while something takes its time, and is gone afterwards.
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Of unknown length.
    pub fn spinner(output: &Output, doing: &str) -> Self {
        if !output.draws_progress() {
            return Self { bar: ProgressBar::hidden() };
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(doing.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar }
    }

    /// What is being done now, and how far it is.
    pub fn step(&self, step: &Step) {
        let Step { step, done, total, unit } = step;
        self.bar.set_message(match total {
            Some(total) => format!("{step}: {done} of {total} {unit}"),
            None => format!("{step}: {done} {unit}"),
        });
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
