//! The one table of `script/bench`: each bench adds its rows to the file that it is told.
#![allow(dead_code, reason = "each bench uses its own part")]

use std::{fs::OpenOptions, io::Write, time::Duration};

/// Adds a row: what was measured, beside what, what came out, and what it should be. Without `BENCH_TABLE` nothing is
/// written; it was printed already.
pub fn figure(what: &str, peer: &str, ours: &str, goal: &str) {
    let Some(table) = std::env::var_os("BENCH_TABLE") else { return };
    let file = OpenOptions::new().create(true).append(true).open(&table);
    let mut file = file.unwrap_or_else(|error| panic!("{}: {error}", table.display()));
    writeln!(file, "{what}\t{peer}\t{ours}\t{goal}").expect("a row is written");
}

/// A duration as people write it.
pub fn time(duration: Duration) -> String {
    match duration.as_secs_f64() {
        seconds if seconds < 0.1 => format!("{:.1} ms", seconds * 1e3),
        seconds if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
        seconds => format!("{seconds:.2} s"),
    }
}
