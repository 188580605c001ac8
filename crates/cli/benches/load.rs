//! What a great deal of everything does to the service: memory, lag, disk and answers.
//!
//! `script/bench load`, or a part of it: `LOAD_SECTIONS="day large tables checkpoints sessions clients"`. Each section has
//! servers, a service (`up`) and a history of its own, and prints what it measured and what held:
//!
//! - `day`: `LOAD_DAY_TRANSACTIONS` (432,000; a day of 100 a second is 8,640,000) of pgbench at full speed, a session at head;
//! - `large`: one transaction of `LOAD_ROWS` (10,000,000) rows;
//! - `tables`: `LOAD_TABLES` (10,000), changed in transactions of their own and in one;
//! - `checkpoints`: `LOAD_CHECKPOINTS` (1,000), made, listed, gone to;
//! - `sessions`: `LOAD_SESSIONS` (100), moved at once;
//! - `clients`: `LOAD_CLIENTS` (200) for `LOAD_SECONDS` (20): pages, statistics, event streams, moves.
//!
//! What is unequal, lost or an error is WRONG, and the exit code is 1 then; what is slow is printed. PostgreSQL says what is equal, by
//! counts and sums of hashes over both sides.
#![allow(missing_docs)]

#[path = "shared/api.rs"]
mod api;
#[path = "load/checkpoints.rs"]
mod checkpoints;
#[path = "load/clients.rs"]
mod clients;
#[path = "load/day.rs"]
mod day;
#[path = "load/large.rs"]
mod large;
#[path = "shared/report.rs"]
mod report;
#[path = "shared/servers.rs"]
mod servers;
#[path = "load/sessions.rs"]
mod sessions;
#[path = "load/stage.rs"]
mod stage;
#[path = "../tests/support/mod.rs"]
mod support;
#[path = "load/tables.rs"]
mod tables;

use std::process::ExitCode;

const ALL: &str = "day large tables checkpoints sessions clients";

fn main() -> ExitCode {
    let sections = std::env::var("LOAD_SECTIONS").unwrap_or_else(|_| ALL.to_owned());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let mut wrong = 0;
    for section in sections.split_whitespace() {
        println!("\n{section}");
        wrong += runtime.block_on(async {
            match section {
                "day" => day::run().await,
                "large" => large::run().await,
                "tables" => tables::run().await,
                "checkpoints" => checkpoints::run().await,
                "sessions" => sessions::run().await,
                "clients" => clients::run().await,
                other => panic!("LOAD_SECTIONS names {other:?}; there are: {ALL}"),
            }
        });
    }
    println!("\n{wrong} WRONG");
    ExitCode::from(u8::from(wrong > 0))
}
