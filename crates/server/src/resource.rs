//! What travels over the REST API: one file a resource, each with its requests and answers.
//!
//! The shapes are the contract with scripts, the page and the command line, so they hold texts and numbers
//! rather than our own types: an LSN is a text, a time is RFC 3339, and no number exceeds what a browser holds
//! exactly. A request with a field that it does not know is refused, because a misspelt option that is silently
//! ignored does something else than was asked.

pub mod backup;
pub mod checkpoint;
pub mod decision;
pub mod diff;
pub mod entry;
pub mod event;
pub mod histogram;
pub mod keyframe;
pub mod navigation;
pub mod position;
pub mod retention;
pub mod session;
pub mod status;
pub mod transaction;
pub mod verification;

/// The longest page that a list gives.
pub const LONGEST_PAGE: usize = 1000;

/// The page length when none is asked for.
pub const USUAL_PAGE: usize = 100;
