//! Log to replica: plan, fold, SQL, apply, cursor, sessions.
//!
//! The way of a move: [`navigate`] asks [`plan`] for the cheapest way, a `feed` reads the log on a thread,
//! [`apply`] folds changes ([`fold`]) with what the replica's [`catalog`] says, turns net effects into
//! statements ([`sql`]) and commits them with the [`cursor`]. [`base`] makes the template database that
//! [`session`] clones, [`keyframe`] others at later positions. [`verify`] compares a session with the primary, in a [`snapshot`] tied to a position.
//!
//! `plan`, `fold` and `sql` are pure. Capture is not known here: the two meet at the log.

pub mod apply;
pub mod base;
pub mod catalog;
pub mod cursor;
pub mod database;
pub mod decisions;
pub mod error;
mod feed;
pub mod fold;
pub mod inventory;
pub mod keyframe;
pub mod navigate;
pub mod plan;
pub mod resync;
mod sequences;
pub mod session;
pub mod snapshot;
pub mod sql;
pub mod stop;
pub mod temporary;
pub mod verify;

pub use apply::{Applier, Limits, Notice};
pub use base::{BaseError, BaseOptions, BaseProgress, InstalledBase, Manifest, install_base};
pub use cursor::{Cursor, CursorState};
pub use decisions::Decisions;
pub use error::{Mismatch, ReplayError};
pub use keyframe::{Images, Keyframe, KeyframeError, Keyframes};
pub use navigate::{
    NavigateError, NavigateOutcome, NavigateProgress, NavigateRequest, follow, navigate, plan_for,
    whereabouts,
};
pub use plan::{Alternative, Plan, PlanFacts, Rates, Strategy};
pub use session::{Access, Consent, SessionDatabase, SessionError, TargetState};
pub use stop::{Choice, Stop};
pub use verify::{VerifyError, VerifyReport, verify};
