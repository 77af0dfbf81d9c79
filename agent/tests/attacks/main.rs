//! Attacks by their names (those of Uptane and SUIT), one module each, against the real agent: whoever owns the mail
//! server, the network, another agent or one of the keys can delay this agent, never make it run anything.
//!
//! Every attack ends with [`lab::fends_off`] or [`lab::takes_an_honest_order`]: nothing ran, nothing was installed, and
//! the agent still does what its manager says. `scripts/attacks` prints modules and tests as a table.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    reason = "tests"
)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/imap.rs"]
mod imap;
mod lab;

mod alter;
mod compression_bomb;
mod delay;
mod drop;
mod duplicate;
mod eavesdrop;
mod endless_data;
mod fast_forward;
mod forged_by_a_peer;
mod freeze;
mod header_bomb;
mod mime_bomb;
mod mix_and_match;
mod reorder;
mod replay;
mod rollback;
mod slow_retrieval;
mod stolen_order_key;
mod stolen_release_key;
mod wrong_clock;
mod wrong_recipient;
