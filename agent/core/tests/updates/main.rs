//! Updates of devices: the core with a site behind it whose devices accept, refuse, are busy, or never come back.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]

mod cuts;
mod fleet;
mod site;
mod stories;
mod ways;
