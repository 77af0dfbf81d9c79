//! The manager's shell: home folder, store, and the daemon's three loops. It loads values, asks
//! `manager-core` what to do about them, saves, and only then speaks. The command line is in `main`.
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "tests may overflow and fail"))]

pub mod config;
pub mod daemon;
pub mod home;
pub mod import;
pub mod registry;
pub mod store;
pub mod system;
