//! What the manager decides: who is mailed what and when, what a report means for a campaign, whether an
//! enrolment or an agent's new keys are accepted, which agents an expression selects, whom the agents trust, which
//! readings of devices are believed, who gets a delta of a bundle, which devices get its firmware, who is told of a fault, when a supply runs out, what a mail server's words mean, what
//! stands in a row of CSV.
//!
//! Not here: clock, randomness, files, sockets, database. The shell (`mailfleet`) loads values, calls these
//! functions, saves what they changed, and only then speaks.
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "tests may overflow and fail"))]
#![warn(clippy::wildcard_enum_match_arm)]

pub mod alert;
pub mod apply;
pub mod audit;
pub mod campaign;
pub mod chain;
pub mod consent;
pub mod counter_rows;
pub mod delivery;
pub mod delta;
pub mod device_rows;
pub mod enrol;
pub mod letter;
pub mod line;
pub mod notice;
pub mod parts;
pub mod path;
pub mod penalty;
pub mod plan;
pub mod probe;
pub mod reason;
pub mod rekey;
pub mod rollout;
pub mod rows;
pub mod select;
pub mod supply;
pub mod trust;
pub mod updates;
pub mod window;

pub use apply::{Applied, TargetEvent};
pub use campaign::{
    Ask, BundleFacts, Campaign, CampaignId, CampaignState, Delay, Settings, Target, TargetState,
};
pub use delivery::Trouble;
pub use enrol::{EnrolDecision, EnrolRefusal, Enrolment};
pub use plan::{Action, AgentFacts, Fleet, GraveFault, Plan, WaitingFor, asks, left_out, plan};
pub use reason::Reason;
pub use rollout::Rollout;
