//! Everything goes wrong, again and again, under load: processes are killed at any moment and at every named point,
//! servers crash, ways are cut, held up and left half-open. After each fault the log has what was committed, once and in
//! commit order, as `test_decoding` says; checkpoints stand where they were; the session's database holds what the
//! primary held at the position that it names.
//!
//! An episode is a primary, a replica, the product between them, and some faults in a row, all from one seed.
//! `PTR_TEST_SEED` is the first episode's, `PTR_TORTURE_MINUTES` for how long episodes follow each other;
//! `script/torture` sets both.
#![allow(missing_docs)]

mod fault;
mod load;
mod oracle;
#[path = "../support/mod.rs"]
mod support;
mod trimming;
mod world;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use fault::Fault;
use ptr_log::CRASH_POINTS;
use ptr_testkit::ServerVersion;
use support::Chance;
use world::{Shape, World};

/// The captured database.
const DATABASE: &str = "shop";
/// The session's, on the other server.
const REPLICA: &str = "replica";

/// Faults of one episode, and of one in a normal run.
const ROUNDS: usize = 25;
const FEW_ROUNDS: usize = 8;

/// What was tried.
#[derive(Default)]
struct Tally {
    /// By fault: how often, and how often it came to what was meant.
    faults: BTreeMap<String, (usize, usize)>,
    checks: usize,
    transactions: usize,
    changes: usize,
}

impl Tally {
    fn count(&mut self, fault: Fault, happened: bool) {
        let (tried, came) = self.faults.entry(fault.name()).or_default();
        *tried += 1;
        *came += usize::from(happened);
    }

    fn end(&mut self, world: &World) {
        self.checks += world.rounds;
        self.transactions += world.oracle.commits.len();
        self.changes += world.oracle.changes();
    }

    fn print(&self) {
        for (fault, (tried, came)) in &self.faults {
            let missed =
                if tried == came { String::new() } else { format!(" ({} did not come to it)", tried - came) };
            println!("{tried:>6}  {fault}{missed}");
        }
        let tried: usize = self.faults.values().map(|(tried, _)| tried).sum();
        println!(
            "{tried} faults, {} checks, {} transactions, {} changes; losses: 0",
            self.checks, self.transactions, self.changes
        );
    }
}

async fn episode(seed: u64, rounds: usize, tally: &mut Tally) {
    let mut chance = Chance(seed);
    let replica = *chance.pick(&ServerVersion::ALL);
    let shape = fault::shape_for(&mut chance);
    println!("episode: PTR_TEST_SEED={seed}, replica {replica:?}, {shape:?}");
    let mut world = World::begin(replica, shape, &mut chance).await;
    for round in 0..=rounds {
        // In the end, with much to let go.
        let fault = if round == rounds { Fault::KillTrim } else { Fault::pick(&mut chance) };
        let since = Instant::now();
        println!("  {round}: {}", fault.name());
        let happened = fault::round(&mut world, fault, &mut chance).await;
        let recovered = since.elapsed();
        world.check(&mut chance).await;
        tally.count(fault, happened);
        println!("     over after {recovered:.1?}, checked in {:.1?}", since.elapsed() - recovered);
    }
    world.end(&mut chance).await;
    tally.end(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_repeated_or_moved_whatever_goes_wrong() {
    let Chance(mut seed) = Chance::seeded();
    let minutes: Option<f64> =
        std::env::var("PTR_TORTURE_MINUTES").ok().map(|text| text.parse().expect("a number of minutes"));
    let mut tally = Tally::default();
    let Some(minutes) = minutes else {
        episode(seed, FEW_ROUNDS, &mut tally).await;
        return tally.print();
    };
    let end = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    while Instant::now() < end {
        episode(seed, ROUNDS, &mut tally).await;
        seed += 1;
    }
    tally.print();
}

/// Each named point in turn, and it must come to each.
async fn every_point(shape: Shape) {
    let mut chance = Chance::seeded();
    let mut tally = Tally::default();
    let mut world = World::begin(ServerVersion::Debian15, shape, &mut chance).await;
    for point in CRASH_POINTS {
        let fault = Fault::Point(point);
        let since = Instant::now();
        let happened = fault::round(&mut world, fault, &mut chance).await;
        world.check(&mut chance).await;
        println!("  {point}: {:.1?}", since.elapsed());
        assert!(happened, "the product never came to {point}:\n{}", world.printed());
        tally.count(fault, happened);
    }
    world.end(&mut chance).await;
    tally.end(&world);
    tally.print();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "two minutes; script/torture runs it"]
async fn nothing_is_lost_wherever_the_product_ends() {
    every_point(Shape::Together).await;
}
