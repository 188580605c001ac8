//! Random histories, and random walks over them in windows of any size, with the connection of the move before where
//! there is one, cut at any message or dropped at any moment. Wherever a session is then, it holds what the primary held
//! there, and goes on from there.
//!
//! The seed is printed; `PTR_TEST_SEED` (a number, or `random`), `PTR_WALK_TRANSACTIONS` and `PTR_WALK_STEPS` are others.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::time::Duration;

use ptr_model::Position;
use ptr_postgres::Dsn;
use ptr_replay::{Limits, NavigateProgress, Strategy, navigate::Kept};
use ptr_testkit::{Chance, DatabaseState, Proxy, ServerVersion, assert_equal_states};
use support::{World, ddl_in};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const SCHEMA: &str = "
    CREATE TABLE keyed (id int PRIMARY KEY, u int UNIQUE, v text);
    CREATE TABLE pairs (a int, b int, n int NOT NULL, big text, PRIMARY KEY (a, b));
    CREATE TABLE bag (a int, t text);
    CREATE TABLE by_key (id int PRIMARY KEY, n int, big text);
    ALTER TABLE by_key ALTER big SET STORAGE EXTERNAL, REPLICA IDENTITY USING INDEX by_key_pkey;
    INSERT INTO keyed SELECT i, i, 'v' || i FROM generate_series(1, 40) i;
    INSERT INTO pairs SELECT i % 5, i, 0, repeat('x', i) FROM generate_series(1, 40) i;
    INSERT INTO bag SELECT i % 7, 'x' FROM generate_series(1, 40) i;
    INSERT INTO by_key SELECT i, 0, repeat(md5(i::text), 100) FROM generate_series(1, 10) i;";

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

/// A statement that no state of the tables makes fail; `fresh` is a number that was never used.
fn statement(chance: &mut Chance, fresh: usize) -> String {
    let (some, few) = (chance.below(45), chance.below(6));
    match chance.below(14) {
        0 => format!("INSERT INTO keyed VALUES ({some}, {fresh}, 'new {fresh}') ON CONFLICT DO NOTHING"),
        1 => format!("UPDATE keyed SET v = v || '{few}' WHERE id % 6 = {few}"),
        2 => format!("UPDATE keyed SET id = {fresh} WHERE id = {some}"),
        3 => format!("UPDATE keyed SET u = NULL WHERE id = {some}; UPDATE keyed SET u = {fresh} WHERE id = {some}"),
        4 => format!("DELETE FROM keyed WHERE id = {some}"),
        // Two rows exchange what is unique.
        5 => "UPDATE keyed SET u = NULL WHERE id IN (1, 2); UPDATE keyed SET u = -2 WHERE id = 1; UPDATE keyed SET u = -1 WHERE id = 2".into(),
        6 => format!("INSERT INTO pairs VALUES ({few}, {fresh}, {some}, NULL)"),
        7 => format!("UPDATE pairs SET n = n + 1, big = big || 'y' WHERE a = {few}"),
        8 => format!("DELETE FROM pairs WHERE b % 11 = {few}"),
        9 => format!("INSERT INTO bag VALUES ({few}, 'x'), ({few}, NULL)"),
        10 => format!("UPDATE bag SET t = 'y{few}' WHERE ctid IN (SELECT ctid FROM bag WHERE a = {few} LIMIT 3)"),
        11 => format!("DELETE FROM bag WHERE ctid IN (SELECT ctid FROM bag WHERE a = {few} LIMIT 2)"),
        12 => format!("UPDATE by_key SET n = n + 1 WHERE id % 3 = {}", few % 3),
        _ => format!("DELETE FROM by_key WHERE id = {few}; INSERT INTO by_key VALUES ({few}, 1, repeat('z', 3000))"),
    }
}

/// The positions of a random history, and what the primary held there.
async fn history(world: &mut World, chance: &mut Chance) -> Vec<(Position, DatabaseState)> {
    let mut kept = vec![(world.log.creation(), world.primary_state().await)];
    for number in 0..setting("PTR_WALK_TRANSACTIONS", 16) {
        let statements: Vec<String> =
            (0..=chance.below(6)).map(|index| statement(chance, 1_000 + number * 10 + index)).collect();
        let mut transaction = statements.join("; ");
        match chance.below(16) {
            0 => {
                let ddl = format!("ALTER TABLE bag ADD COLUMN c{number} int DEFAULT {number}");
                transaction = format!("{transaction}; {}", ddl_in(&ddl));
            }
            1 => transaction.push_str("; TRUNCATE bag; INSERT INTO bag VALUES (1, 'after')"),
            _ => {}
        }
        world.sql(&format!("BEGIN; {transaction}; COMMIT")).await;
        let position = world.capture().await;
        kept.push((position, world.primary_state().await));
    }
    kept
}

struct Walker {
    world: World,
    proxy: Proxy,
    output: Dsn,
    kept: Option<Kept>,
}

impl Walker {
    /// Makes a move, through the proxy, over the connection of the move before where there is one.
    async fn go(&mut self, to: Position, limits: Limits) -> Result<Strategy, String> {
        let mut request = self.world.request(to);
        request.session.output = self.output.clone();
        request.limits = limits;
        let (progress, _) = watch::channel(NavigateProgress::default());
        let departure = ptr_replay::navigate::depart(&request, self.kept.take()).await;
        let departure = departure.map_err(|error| error.to_string())?;
        let cancel = CancellationToken::new();
        let (outcome, kept) = ptr_replay::navigate::travel(&request, departure, &progress, &cancel).await;
        self.kept = kept;
        outcome.map(|outcome| outcome.strategy).map_err(|error| error.to_string())
    }

    /// The session is at a position, and holds what the primary held there.
    async fn is_exact(&self, states: &[(Position, DatabaseState)]) -> Position {
        let cursor = self.world.cursor().await;
        let (_, expected) =
            states.iter().find(|(position, _)| *position == cursor).expect("a position of the log");
        assert_equal_states(expected, &self.world.session_state().await);
        cursor
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_cuts_a_move_the_session_is_at_a_position_and_goes_on_from_there() {
    let mut chance = Chance::seeded();
    let mut world = World::new(ServerVersion::Debian15, SCHEMA).await;
    let states = history(&mut world, &mut chance).await;
    world.go(states[0].0).await;
    let proxy = Proxy::to(world.server.cluster().port()).await;
    let output = proxy.lead(&world.session.output);
    let mut walker = Walker { world, proxy, output, kept: None };
    let (mut cut, mut arrived, mut warm) = (0, Vec::new(), 0);
    let (steps, mut here) = (setting("PTR_WALK_STEPS", 24), 0);
    for step in 0..steps {
        // The last third of the way is gone in small steps, undisturbed.
        let is_disturbed = step < steps * 2 / 3;
        let target = match is_disturbed {
            true => chance.below(states.len()),
            false => (here + chance.below(7)).saturating_sub(3).min(states.len() - 1),
        };
        let (to, _) = &states[target];
        let limits = match chance.below(3) {
            0 => Limits { window_rows: 1 + chance.below(4), commit_changes: 1, ..Limits::default() },
            1 => Limits { window_bytes: 1 + chance.below(4_000), ..Limits::default() },
            _ => Limits::default(),
        };
        warm += u32::from(walker.kept.is_some());
        let outcome = match if is_disturbed { chance.below(4) } else { 3 } {
            0 | 1 => {
                walker.proxy.cut_after(chance.below(90) as u64);
                walker.go(*to, limits).await
            }
            2 => {
                let soon = Duration::from_millis(chance.below(60) as u64);
                let dropped = tokio::time::timeout(soon, walker.go(*to, limits)).await;
                dropped.unwrap_or_else(|_| Err("dropped".to_owned()))
            }
            _ => walker.go(*to, limits).await,
        };
        walker.proxy.heal();
        // A cut between closing the session's database to newcomers and exchanging it leaves it closed until then.
        walker.world.session.remove_leftovers().await.unwrap();
        println!("step {step}: to {to}: {outcome:?}");
        let at = walker.is_exact(&states).await;
        here = states.iter().position(|(position, _)| *position == at).expect("a position of the log");
        match outcome {
            Ok(strategy) => {
                assert_eq!(at, *to);
                arrived.push(strategy);
            }
            Err(_) => cut += 1,
        }
    }
    walker.go(states[states.len() / 2].0, Limits::default()).await.expect("nothing is in the way any more");
    walker.is_exact(&states).await;
    assert!(cut > 0, "no move was cut");
    assert!(warm > 0, "no move went over the connection of the one before");
    for strategy in [Strategy::Redo, Strategy::Undo, Strategy::Keyframe] {
        assert!(arrived.contains(&strategy), "{strategy:?} was never used");
    }
}
