//! How long it takes to tell the statements of one script apart, by the number of statements in it.
//!
//! `cargo run -p ptr-capture --example script_rate [STATEMENTS ..]`. The time for one statement should not grow with the
//! script.

use std::{sync::Arc, time::Instant};

use ptr_capture::ddl::{
    derive::Derivation,
    event::{Event, SchemaEvent, parse},
};
use ptr_model::Statement;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut sizes = std::env::args().skip(1).map(|size| size.parse()).collect::<Result<Vec<usize>, _>>()?;
    if sizes.is_empty() {
        sizes = vec![1_000, 10_000, 100_000];
    }
    for size in sizes {
        let script: String =
            (0..size).map(|n| format!("ALTER TABLE app.t{} ADD c{n} int DEFAULT 1;\n", n % 50)).collect();
        let script: Arc<str> = Arc::from(script);
        let mut events = Vec::with_capacity(size);
        for n in 0..size {
            events.push(event(&script, n)?);
        }
        let mut derivation = Derivation::default();
        let started = Instant::now();
        for (n, event) in events.iter().enumerate() {
            let expected = format!("ALTER TABLE app.t{} ADD c{n} int DEFAULT 1", n % 50);
            if derivation.statement(event) != Statement::Text(expected) {
                return Err(format!("statement {n} of {size} was mistaken").into());
            }
        }
        let elapsed = started.elapsed();
        println!("{size:>8} statements: {elapsed:>10.1?}, {:.2?} each", elapsed / u32::try_from(size)?);
    }
    Ok(())
}

/// The event of statement `n`.
fn event(script: &Arc<str>, n: usize) -> Result<SchemaEvent, Box<dyn std::error::Error>> {
    let json = serde_json::json!({
        "v": 1, "event": "ddl_command_end", "tag": "ALTER TABLE", "statement_time": "2026-05-01 12:00:00+00",
        "objects": [{"type": "table", "identity": format!("app.t{}", n % 50)}],
    });
    match parse(json.to_string().as_bytes())? {
        Event::Schema(event) => Ok(SchemaEvent { query: Arc::clone(script), ..*event }),
        _ => Err("a schema event reads as something else".into()),
    }
}
