//! Log to replica: plan, fold, SQL, apply, cursor, sessions.

pub mod apply;
pub mod base;
pub mod catalog;
pub mod cursor;
pub mod database;
pub mod error;
pub mod fold;
pub mod plan;
pub mod session;
pub mod sql;
