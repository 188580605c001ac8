//! A primary, a replica, the product between them, and what is held after each fault.

use std::{
    collections::BTreeMap,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use ptr_testkit::{
    ClusterRole, DatabaseState, Proxy, ServerVersion, TestServer, TestServerOptions, assert_equal_states,
    wait_until,
};
use rustix::{
    io::Errno,
    process::{Pid, Resource, Rlimit, getrlimit, prlimit},
};
use serde_json::Value;

use super::{
    DATABASE, REPLICA,
    load::{Load, Moment, TABLES},
    oracle::{self, Oracle},
    support::{Chance, Product, Running, path},
};

/// So small that segments are begun and sealed all the time.
const SEGMENT_BYTES: &str = "20000";
/// How long anything may take until it is as it should be.
const PATIENCE: Duration = Duration::from_secs(120);

/// Which processes the product is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// `up`.
    Together,
    /// `listener` and `ipc`.
    Apart,
}

/// A position as the product names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    pub lsn: String,
    pub entry_index: u64,
    pub transaction: u64,
}

impl Place {
    pub fn of(position: &Value) -> Self {
        let number = |key: &str| position[key].as_u64().unwrap_or_else(|| panic!("{key} in {position}"));
        let lsn = position["lsn"].as_str().expect("an LSN").to_owned();
        Self { lsn, entry_index: number("entry_index"), transaction: number("transaction") }
    }
}

/// `X/Y` as a number.
pub fn lsn(text: &str) -> u64 {
    let (high, low) = text.split_once('/').unwrap_or_else(|| panic!("{text} is no LSN"));
    let part = |text| u64::from_str_radix(text, 16).unwrap_or_else(|_| panic!("{text} is no part of an LSN"));
    part(high) << 32 | part(low)
}

/// All of it.
pub struct World {
    pub primary: TestServer,
    pub replica: TestServer,
    pub to_primary: Proxy,
    pub to_replica: Proxy,
    pub product: Product,
    pub shape: Shape,
    /// Captures, and in one process also answers.
    pub capture: Option<Running>,
    /// Answers, where that is another process.
    pub answers: Option<Running>,
    pub load: Load,
    pub oracle: Oracle,
    /// What was answered when each checkpoint was made.
    pub checkpoints: BTreeMap<String, Place>,
    /// The last checkpoint up to which log and oracle were compared.
    pub compared: (String, u64),
    /// Where the history begins since a part of it was let go.
    pub beginning: Option<Place>,
    /// How often everything was checked.
    pub rounds: usize,
}

impl World {
    /// The primary has `test_decoding`, which the PostgreSQL 18 of the tests has not.
    pub async fn begin(replica: ServerVersion, shape: Shape, chance: &mut Chance) -> Self {
        let version = ServerVersion::Debian15;
        let options = TestServerOptions::default().with("wal_sender_timeout", "4s");
        let primary = TestServer::start(version, options).await;
        let options = TestServerOptions { role: ClusterRole::Replica, ..TestServerOptions::default() };
        let replica = TestServer::start(replica, options).await;
        primary.database(DATABASE).await;
        primary.psql(DATABASE, TABLES).await;
        let to_primary = Proxy::to(primary.cluster().port()).await;
        let to_replica = Proxy::to(replica.cluster().port()).await;
        let input = to_primary.lead(&primary.dsn(DATABASE)).to_uri_with_password();
        let output = to_replica.lead(&replica.dsn(REPLICA)).to_uri_with_password();
        // Of the newer of the two, which is the replica's.
        let programs = replica.cluster().installation().bin_dir.clone();
        let product = Product::new(Some(&input), Some(&output))
            .with("PG_BIN", path(&programs))
            .with("PTR_SEGMENT_BYTES", SEGMENT_BYTES);
        let load = Load::new(primary.dsn(DATABASE));
        let mut world = Self {
            primary,
            replica,
            to_primary,
            to_replica,
            product,
            shape,
            capture: None,
            answers: None,
            load,
            oracle: Oracle::default(),
            checkpoints: BTreeMap::new(),
            compared: (String::from("CREATION"), 0),
            beginning: None,
            rounds: 0,
        };
        // Nobody writes before, so that the oracle begins where the log begins.
        world.start(&[]).await;
        world.oracle = Oracle::begin(&world.primary).await;
        world.load.begin(chance);
        world
    }

    /// Starts what does not run, and waits until it captures and answers. A process that ends meanwhile, by what
    /// `environment` tells it, is left as it is: `false`.
    pub async fn start(&mut self, environment: &[(&str, &str)]) -> bool {
        if self.capture.is_none() {
            let arguments: &[&str] = match self.shape {
                Shape::Together => &["up", "--addr", "127.0.0.1:0"],
                Shape::Apart => &["listener"],
            };
            self.capture = Some(self.spawn("capture", arguments, environment));
        }
        if !self.wait_for_text(true, "capturing", environment.is_empty()).await {
            return false;
        }
        if self.shape == Shape::Apart {
            if self.answers.is_none() {
                self.answers = Some(self.spawn("answers", &["ipc", "--addr", "127.0.0.1:0"], environment));
            }
            return self.wait_for_text(false, "http://", environment.is_empty()).await;
        }
        true
    }

    fn spawn(&self, name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Running {
        let log = self.product.folder.path().join(format!("{name}.log"));
        drop(std::fs::remove_file(&log));
        let file = std::fs::File::create(&log).expect("a log file");
        let mut command = self.product.command(arguments);
        command
            .envs(environment.iter().copied())
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file);
        Running { child: command.spawn().expect("the program starts"), log }
    }

    async fn wait_for_text(&mut self, captures: bool, text: &str, must: bool) -> bool {
        let slot = if captures { &mut self.capture } else { &mut self.answers };
        let process = slot.as_mut().expect("it was started");
        let mut is_there = false;
        wait_until(&format!("{text:?} is printed"), PATIENCE, async || {
            is_there = process.printed().contains(text);
            let ended = process.child.try_wait().expect("a child can be asked");
            assert!(!must || ended.is_none(), "it ended: {ended:?}\n{}", process.printed());
            is_there || ended.is_some()
        })
        .await;
        is_there
    }

    /// Whether any of the processes has.
    pub fn has_ended(&mut self) -> bool {
        let mut running = [&mut self.capture, &mut self.answers].into_iter().filter_map(Option::as_mut);
        running.any(|one| one.child.try_wait().expect("a child can be asked").is_some())
    }

    /// Waits until one of them has ended, but no longer than this.
    pub async fn wait_for_the_end(&mut self, patience: Duration) {
        let since = Instant::now();
        while !self.has_ended() && since.elapsed() < patience {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sets how large a file may be that the product writes, in bytes; `None` is as before.
    pub fn limit_files(&self, current: Option<u64>) {
        for process in [&self.capture, &self.answers].into_iter().flatten() {
            let pid = Pid::from_child(&process.child);
            // Only the soft limit: a hard one could not be taken back. The product has ours.
            let ours = getrlimit(Resource::Fsize);
            let limit = Rlimit { current: current.or(ours.current), ..ours };
            match prlimit(Some(pid), Resource::Fsize, limit) {
                // One that has ended has no limits.
                Ok(_) | Err(Errno::SRCH) => {}
                Err(error) => panic!("the limit on files cannot be set: {error}"),
            }
        }
    }

    /// Kills all of the product.
    pub fn kill(&mut self) {
        for mut process in [self.capture.take(), self.answers.take()].into_iter().flatten() {
            process.kill();
        }
    }

    /// Forgets processes that have ended.
    pub fn bury(&mut self) {
        for slot in [&mut self.capture, &mut self.answers] {
            if slot.as_mut().is_some_and(|one| one.child.try_wait().expect("a child can be asked").is_some())
            {
                *slot = None;
            }
        }
    }

    /// Everything runs again, the ways are free, and the log has what the primary has.
    pub async fn recover(&mut self) {
        self.to_primary.heal();
        self.to_replica.heal();
        for (server, way) in [(&mut self.primary, &self.to_primary), (&mut self.replica, &self.to_replica)] {
            if !server.cluster().is_running() {
                server.start_again().await;
            }
            way.lead_to(server.cluster().port());
        }
        self.load.lead_to(self.primary.dsn(DATABASE));
        self.bury();
        self.start(&[]).await;
    }

    /// Starts a command that may go wrong.
    pub fn begin_command(&self, arguments: &[&str]) -> Child {
        let mut command = self.product.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
    }

    /// What a command that began came to; one that does not come to an end is ended.
    pub async fn end_command(&self, mut command: Child, patience: Duration) -> Option<(bool, String)> {
        let since = Instant::now();
        while command.try_wait().expect("a child can be asked").is_none() {
            if since.elapsed() > patience {
                drop(command.kill());
                drop(command.wait());
                return None;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let output = command.wait_with_output().expect("a child can be waited for");
        let text = if output.status.success() { &output.stdout } else { &output.stderr };
        Some((output.status.success(), String::from_utf8_lossy(text).into_owned()))
    }

    /// Holds the promises against what the servers say.
    pub async fn check(&mut self, chance: &mut Chance) {
        self.rounds += 1;
        let before = self.load.moment();
        let name = format!("round {}", self.rounds);
        let place = self.checkpoint(&name).await;
        let after = self.load.moment();
        self.oracle.read(&self.primary).await;
        self.now_is_exact(&place, &before, &after);
        self.log_is_exact(&name, &place);
        self.checkpoints_stand();
        self.session_is_exact().await;
        let goal = match chance.below(4) {
            0 => "head".to_owned(),
            1 => {
                let first = self.beginning.as_ref().map_or(0, |beginning| beginning.entry_index);
                let entries = usize::try_from(place.entry_index + 1 - first).expect("small");
                format!("entry:{}", first + chance.below(entries) as u64)
            }
            2 => "@-5".to_owned(),
            _ => self.some_checkpoint(chance),
        };
        let output = self.product.output(&["--json", "navigate", &goal]);
        // From the very beginning there is nothing further back.
        if output.status.success() || goal != "@-5" {
            assert!(output.status.success(), "navigate {goal}: {}", super::support::both(&output));
            let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
            let at = self.session_is_exact().await;
            assert_eq!(Place::of(&answer["to"]), at, "navigate {goal} says that it is elsewhere");
            if let Some(expected) = self.checkpoints.get(&goal) {
                assert_eq!(*expected, at, "checkpoint {goal} leads elsewhere");
            }
        }
    }

    pub fn some_checkpoint(&self, chance: &mut Chance) -> String {
        let names: Vec<&String> = self.checkpoints.keys().collect();
        names.get(chance.below(names.len().max(1))).map_or("CREATION", |name| name.as_str()).to_owned()
    }

    /// Makes a checkpoint of now, as soon as that can be done.
    async fn checkpoint(&mut self, name: &str) -> Place {
        let since = Instant::now();
        loop {
            let output = self.product.output(&["--json", "checkpoint", "create", name]);
            if output.status.success() {
                let made: Value = serde_json::from_slice(&output.stdout).expect("JSON");
                let place = Place::of(&made);
                self.checkpoints.insert(name.to_owned(), place.clone());
                return place;
            }
            let said = super::support::both(&output);
            for one in [&mut self.capture, &mut self.answers].into_iter().flatten() {
                let ended = one.child.try_wait().expect("a child can be asked");
                assert!(ended.is_none(), "it ended by itself: {ended:?}\n{}", one.printed());
            }
            assert!(since.elapsed() < PATIENCE, "no checkpoint can be made: {said}\n{}", self.printed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn printed(&self) -> String {
        let all = [&self.capture, &self.answers];
        all.iter().filter_map(|one| one.as_ref()).map(Running::printed).collect::<Vec<_>>().join("\n---\n")
    }

    /// Every transaction whose commit returned before is in, none that began after is.
    fn now_is_exact(&self, place: &Place, before: &Moment, after: &Moment) {
        let inside = self.oracle.entries_until(lsn(&place.lsn));
        let missing: Vec<_> = before.acknowledged.iter().filter(|entry| !inside.contains(entry)).collect();
        assert!(missing.is_empty(), "committed before {place:?} and not in it: {missing:?}");
        let late: Vec<_> = inside.iter().filter(|entry| Load::is_after(after, **entry)).collect();
        assert!(late.is_empty(), "begun after {place:?} and in it: {late:?}");
    }

    /// The log has every committed change once, in commit order, up to a checkpoint.
    fn log_is_exact(&mut self, name: &str, place: &Place) {
        let (since, after) = std::mem::replace(&mut self.compared, (name.to_owned(), lsn(&place.lsn)));
        self.log_is_exact_between(&since, after, name, lsn(&place.lsn));
    }

    fn log_is_exact_between(&self, since: &str, after: u64, name: &str, upto: u64) {
        let logged = self.product.run(&["log", "--json", "--since", since, "--until", name]);
        let logged = logged.lines().filter_map(|line| {
            let entry: Value = serde_json::from_str(line).expect("JSON");
            let text = |key: &str| entry[key].as_str().expect("text").to_owned();
            let id = || {
                entry["data"]["id"]
                    .as_str()
                    .map_or_else(|| entry["data"]["id"].as_i64(), |id| id.parse().ok())
            };
            (text("operation") != "DDL")
                .then(|| (lsn(&text("lsn")), text("table"), text("operation"), id().expect("an id")))
        });
        let mut logged: Vec<(u64, String, String, i64)> = logged.collect();
        let commits = self.oracle.between(after, upto);
        let expected = commits.iter().flat_map(|commit| {
            commit.changes.iter().map(|one| (commit.end, one.table.clone(), one.operation.clone(), one.id))
        });
        let expected: Vec<(u64, String, String, i64)> = expected.collect();
        let first = expected.iter().zip(&logged).position(|(a, b)| a != b);
        let shown = |list: &[(u64, String, String, i64)]| format!("{:?}", first.and_then(|at| list.get(at)));
        assert_eq!(first, None, "the log departs: {} instead of {}", shown(&logged), shown(&expected));
        assert_eq!(logged.len(), expected.len(), "between {since} and {name}, after {:?}", logged.pop());
    }

    /// Every checkpoint that was made is there, at the position that was answered.
    fn checkpoints_stand(&mut self) {
        let listed = self.product.json(&["checkpoint", "list"]);
        let listed: BTreeMap<String, Place> = listed
            .as_array()
            .expect("a list")
            .iter()
            .map(|one| (one["name"].as_str().expect("a name").to_owned(), Place::of(one)))
            .collect();
        for (name, place) in &self.checkpoints {
            assert_eq!(listed.get(name), Some(place), "checkpoint {name}");
        }
        for (name, place) in listed {
            // MIGRATION is found by itself, and may be found later.
            if !["CREATION", "MIGRATION"].contains(&name.as_str()) {
                let is_one = lsn(&place.lsn) <= self.compared.1;
                assert!(is_one, "checkpoint {name} is at {place:?}, beyond what there is");
                self.checkpoints.entry(name).or_insert(place);
            }
        }
    }

    /// The session's database holds what the primary held at the position that it names.
    pub async fn session_is_exact(&mut self) -> Place {
        let closed =
            format!("SELECT count(*) FROM pg_database WHERE NOT datallowconn AND datname = '{REPLICA}'");
        if self.replica.psql("postgres", &closed).await.trim() != "0" {
            // Broken off between closing it and exchanging it: nobody can look at it, and the next move opens it.
            self.product.run(&["navigate", "@"]);
        }
        let client = self.replica.client(REPLICA).await;
        let sql = "SELECT lsn::text, entry_index, ordinal, state FROM postgres_test_replay.cursor";
        let row = client.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        client.close().await;
        let number = |at| u64::try_from(row.get::<_, i64>(at)).expect("not negative");
        let place = Place { lsn: row.get(0), entry_index: number(1), transaction: number(2) };
        assert_eq!(row.get::<_, &str>(3), "settled", "the session is between positions, at {place:?}");
        self.oracle.read(&self.primary).await;
        let expected = self.oracle.contents_at(lsn(&place.lsn));
        let held = oracle::contents(&self.replica, REPLICA, expected.keys().map(String::as_str)).await;
        for (table, rows) in &expected {
            let there = &held[table];
            let differs = rows.iter().find(|(id, row)| there.get(id) != Some(row));
            let more = there.keys().find(|id| !rows.contains_key(id));
            assert!(
                differs.is_none() && more.is_none(),
                "at {place:?} the session's {table} differs: {differs:?} is missing or another, {more:?} too many"
            );
        }
        place
    }

    /// All of it once more, when nobody writes any more: the whole log, both databases by `pg_dump`, and nothing that
    /// was begun and is left lying about.
    pub async fn end(&mut self, chance: &mut Chance) {
        self.load.end().await;
        self.check(chance).await;
        let name = format!("round {}", self.rounds);
        let end = lsn(&self.checkpoints[&name].lsn);
        let begins = self.beginning.as_ref().map_or(0, |beginning| lsn(&beginning.lsn));
        self.log_is_exact_between("CREATION", begins, &name, end);
        self.product.run(&["navigate", "head"]);
        let primary = DatabaseState::capture(&self.primary.dsn(DATABASE)).await;
        assert_equal_states(&primary, &DatabaseState::capture(&self.replica.dsn(REPLICA)).await);
        wait_until("nothing unfinished is left on the output server", PATIENCE, async || {
            let sql = "SELECT coalesce(string_agg(datname, ', '), '') FROM pg_database
                       WHERE datname ~ '__(next|verify)$' OR datname ~ '_old_[0-9]+$'
                          OR shobj_description(oid, 'pg_database') LIKE '%unfinished%'";
            self.replica.psql("postgres", sql).await.trim().is_empty()
        })
        .await;
    }
}
