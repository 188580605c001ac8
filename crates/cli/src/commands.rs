//! The commands, one file each.

pub mod backup;
pub mod checkpoint;
pub mod completions;
pub mod config;
pub mod decision;
pub mod demo;
pub mod diff;
pub mod doctor;
pub mod down;
pub mod dsn;
pub mod gc;
pub mod keyframe;
pub mod listener;
pub mod log;
pub mod man;
pub mod navigate;
pub mod replay;
pub mod service;
pub mod session;
pub mod show;
pub mod status;
pub mod teardown;
pub mod undo;
pub mod up;
pub mod verify;
