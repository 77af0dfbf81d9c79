//! What `mailfleet-agent` keeps in files and reads back: its configuration, its saved state, leases, wishes, and the steps
//! by which a file survives a power cut. Opens no mail and decides nothing; the program is in `main`.
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "tests may overflow and fail"))]

pub mod bent;
pub mod config;
pub mod files;
pub mod lease;
pub mod ledger;
pub mod limits;
pub mod wish;
