//! Installs whose time others decide, and tests of what is installed: the core with a small box behind it, whose clock the
//! test holds.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]

mod chance;
mod schedules;
mod site;
mod test_runs;
mod wishes;
