//! Diagnostics on stderr: how much by `-v` or `RUST_LOG`, as JSON lines where `LOG_FORMAT=json`.

use tracing_subscriber::{Layer, filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Begins; before it, nothing is told.
pub fn start(verbose: u8, quiet: bool) {
    let usual = match (quiet, verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "info,ptr_server=debug,ptr_capture=debug,ptr_replay=debug",
        (false, _) => "debug",
    };
    let asked = std::env::var("RUST_LOG").ok().filter(|asked| !asked.is_empty());
    let parsed = asked.as_deref().map(str::parse::<Targets>);
    let unusable = matches!(parsed, Some(Err(_)));
    let filter = match parsed {
        Some(Ok(filter)) => filter,
        _ => usual.parse().expect("one of the texts above"),
    };
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colour = !no_colour && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(colour);
    // Where stderr cannot be written to, its full disk for one, neither can it be told there: trying ends the task.
    let lines = lines.log_internal_errors(false);
    let lines = match std::env::var("LOG_FORMAT").as_deref() {
        Ok("json") => lines.json().boxed(),
        _ => lines.boxed(),
    };
    // Only the first call of a process can succeed, and this is the only one.
    let started = tracing_subscriber::registry().with(lines.with_filter(filter)).try_init();
    debug_assert!(started.is_ok());
    if unusable {
        tracing::warn!(
            "RUST_LOG is not understood and not used; give a level, or targets: info,ptr_capture=debug"
        );
    }
}
