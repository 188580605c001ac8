//! Diagnostics on stderr: how much by `-v` or `RUST_LOG`, as JSON lines where `LOG_FORMAT=json`.

use tracing_subscriber::{EnvFilter, fmt};

/// Begins; before it, nothing is told.
pub fn start(verbose: u8, quiet: bool) {
    let usual = match (quiet, verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "info,ptr_server=debug,ptr_capture=debug,ptr_replay=debug",
        (false, _) => "debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colour = !no_colour && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
    // Where stderr cannot be written to, its full disk for one, neither can it be told there: trying ends the task.
    let lines = lines.log_internal_errors(false);
    // Only the first call of a process can succeed, and this is the only one.
    let started = match std::env::var("LOG_FORMAT").as_deref() {
        Ok("json") => lines.json().try_init(),
        _ => lines.try_init(),
    };
    debug_assert!(started.is_ok());
}
