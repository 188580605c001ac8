//! What goes wrong, in the midst of what.

use std::{process::Child, time::Duration};

use ptr_log::CRASH_POINTS;

use super::{
    DATABASE,
    support::Chance,
    trimming,
    world::{Shape, World},
};

/// How long a command may take that something goes wrong with.
const PATIENCE: Duration = Duration::from_secs(20);

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fault {
    KillCapture,
    KillAnswers,
    KillPrimary,
    CrashPrimary,
    KillReplica,
    CrashReplica,
    CutPrimary,
    CutReplica,
    HoldPrimary,
    HoldReplica,
    HalfOpenPrimary,
    TerminateStream,
    SecondWriter,
    /// No file of the product can be written for a while: segments, index, catalog, state, its own log.
    NoRoom,
    /// All of the product is killed while the beginning of the history is removed.
    KillTrim,
    /// The process ends at a named point.
    Point(&'static str),
}

const FAULTS: [Fault; 15] = [
    Fault::KillCapture,
    Fault::KillAnswers,
    Fault::KillPrimary,
    Fault::CrashPrimary,
    Fault::KillReplica,
    Fault::CrashReplica,
    Fault::CutPrimary,
    Fault::CutReplica,
    Fault::HoldPrimary,
    Fault::HoldReplica,
    Fault::HalfOpenPrimary,
    Fault::TerminateStream,
    Fault::SecondWriter,
    Fault::NoRoom,
    Fault::KillTrim,
];

impl Fault {
    /// One of all; every third is a named point. `PTR_TORTURE_FAULT` names the only one there is.
    pub fn pick(chance: &mut Chance) -> Self {
        if let Ok(only) = std::env::var("PTR_TORTURE_FAULT") {
            let found = FAULTS.into_iter().find(|fault| fault.name() == only);
            return found.unwrap_or_else(|| panic!("PTR_TORTURE_FAULT={only} is none of {FAULTS:?}"));
        }
        if chance.one_in(3) {
            Self::Point(CRASH_POINTS[chance.below(CRASH_POINTS.len())])
        } else {
            *chance.pick(&FAULTS)
        }
    }

    pub fn name(self) -> String {
        match self {
            Self::Point(point) => format!("ended at {point}"),
            other => format!("{other:?}"),
        }
    }
}

/// What is under way when it goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Activity {
    Nothing,
    Move,
    Rebuild,
    Checkpoint,
    Keyframe,
}

const ACTIVITIES: [Activity; 6] = [
    Activity::Nothing,
    Activity::Move,
    Activity::Move,
    Activity::Rebuild,
    Activity::Checkpoint,
    Activity::Keyframe,
];

impl Activity {
    /// By which a named point is come to.
    fn towards(point: &str) -> Self {
        match point {
            "checkpoint" | "checkpointed" => Self::Checkpoint,
            "move" | "moved" | "concluded" | "apply" | "applied" => Self::Move,
            "copied" | "swap" | "swapped" => Self::Rebuild,
            point if point.starts_with("keyframe") || point.starts_with("spare") => Self::Keyframe,
            _ => Self::Nothing,
        }
    }

    fn begin(self, world: &World, chance: &mut Chance, number: usize) -> Option<Child> {
        let checkpoint = world.some_checkpoint(chance);
        let far = format!("entry:{}", chance.below(50));
        let goal = chance.pick(&["head", "@-3", &checkpoint, &far]).to_string();
        let name = format!("in the midst {number}");
        let arguments: &[&str] = match self {
            Self::Nothing => return None,
            Self::Move => &["--json", "navigate", &goal],
            Self::Rebuild => &["--json", "navigate", "head", "--rebuild"],
            Self::Checkpoint => &["--json", "checkpoint", "create", &name],
            Self::Keyframe => &["--json", "keyframe", "create", "--at", &checkpoint],
        };
        Some(world.begin_command(arguments))
    }
}

/// Lets it go wrong, and everything be as it should be again; whether what was meant did happen.
pub async fn round(world: &mut World, fault: Fault, chance: &mut Chance) -> bool {
    if let Fault::Point(point) = fault {
        return at_point(world, point, chance).await;
    }
    if fault == Fault::KillTrim {
        return trimming::round(world, chance).await;
    }
    let activity = chance.pick(&ACTIVITIES).begin(world, chance, world.rounds);
    // Not a wait for something: the moment is what is tried.
    tokio::time::sleep(Duration::from_millis(chance.below(250) as u64)).await;
    inject(world, fault, chance).await;
    world.recover().await;
    if let Some(command) = activity {
        // What it says of itself is checked by what is there.
        let _ = world.end_command(command, PATIENCE).await;
    }
    true
}

async fn inject(world: &mut World, fault: Fault, chance: &mut Chance) {
    let moment = Duration::from_millis(chance.below(1_500) as u64);
    match fault {
        Fault::KillCapture => world.capture.as_mut().expect("it runs").kill(),
        Fault::KillAnswers => match (&mut world.answers, &mut world.capture) {
            (Some(answers), _) => answers.kill(),
            (None, capture) => capture.as_mut().expect("it runs").kill(),
        },
        Fault::KillPrimary => world.primary.kill().await,
        Fault::CrashPrimary => world.primary.crash().await,
        Fault::KillReplica => world.replica.kill().await,
        Fault::CrashReplica => world.replica.crash().await,
        Fault::CutPrimary => world.to_primary.cut(),
        Fault::CutReplica => world.to_replica.cut_after(chance.below(40) as u64),
        Fault::HoldPrimary => {
            world.to_primary.hold_up();
            // Not a wait for something: how long it is held up is what is tried.
            tokio::time::sleep(moment).await;
        }
        Fault::HoldReplica => {
            world.to_replica.hold_up();
            // As above.
            tokio::time::sleep(moment).await;
        }
        Fault::HalfOpenPrimary => world.to_primary.silence(),
        Fault::TerminateStream => {
            let sql = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active";
            world.primary.psql(DATABASE, sql).await;
        }
        Fault::SecondWriter => {
            let second = world.product.output(&["listener"]);
            assert!(!second.status.success(), "a second listener was let in");
            assert!(
                world
                    .capture
                    .as_mut()
                    .expect("it runs")
                    .child
                    .try_wait()
                    .expect("a child can be asked")
                    .is_none()
            );
        }
        Fault::NoRoom => {
            world.limit_files(Some(0));
            // As above.
            tokio::time::sleep(moment).await;
            world.limit_files(None);
            assert!(!world.has_ended(), "it ended for want of room:\n{}", world.printed());
        }
        Fault::KillTrim | Fault::Point(_) => unreachable!("it is a round of its own"),
    }
}

/// Ends the process at a named point; `false` where it did not come there in time.
async fn at_point(world: &mut World, point: &'static str, chance: &mut Chance) -> bool {
    let activity = Activity::towards(point);
    let is_seldom = ["recover", "rotate", "seal"].iter().any(|seldom| point.starts_with(seldom));
    let times = if activity == Activity::Nothing && !is_seldom { 1 + chance.below(12) } else { 1 };
    let wanted = format!("{point}:{times}");
    world.kill();
    let mut came = !world.start(&[("PTR_CRASH_AT", &wanted)]).await;
    for number in 0.. {
        if came || number == 4 {
            break;
        }
        match activity.begin(world, chance, world.rounds * 10 + number) {
            Some(command) => {
                // What it says of itself is checked by what is there.
                drop(world.end_command(command, PATIENCE).await);
            }
            // What the program does by itself is waited for: that it comes to the point.
            None => world.wait_for_the_end(Duration::from_secs(1)).await,
        }
        came = world.has_ended();
    }
    world.kill();
    world.recover().await;
    came
}

/// With the processes that suit a point.
pub fn shape_for(chance: &mut Chance) -> Shape {
    *chance.pick(&[Shape::Together, Shape::Apart])
}
