//! What an agent is and what its operator has decided: plain values from its configuration.

use core::time::Duration;

use shared::message::Budget;
use shared::{AgentId, Label};

use crate::limits::{ASK_PARTS_AFTER_DEFAULT, LEASE_MAX_DEFAULT, RESTART_LIMIT_DEFAULT};
use crate::watch::BillDays;

/// What the agent is, from its configuration. Does not change while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its ID.
    pub agent: AgentId,
    /// Its classes.
    pub classes: Vec<Label>,
    /// What its operator has decided about installs.
    pub rules: Rules,
    /// How often counters are sent without being asked for; `None`: never.
    pub counters_every: Option<Duration>,
    /// On which days they are read and sent for a bill.
    pub bill: BillDays,
}

/// What an operator decides about installs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long a restart of the box is waited for.
    pub restart_limit: Duration,
    /// The longest that a lease counts.
    pub lease_max: Duration,
    /// Whether a module may have a set-user-ID, set-group-ID or sticky bit.
    pub allow_setuid: bool,
    /// How long no part of an order must have come before the missing ones are asked for.
    pub ask_parts_after: Duration,
    /// What the line may carry; `None`: whatever comes.
    pub budget: Option<Budget>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            restart_limit: RESTART_LIMIT_DEFAULT,
            lease_max: LEASE_MAX_DEFAULT,
            allow_setuid: false,
            ask_parts_after: ASK_PARTS_AFTER_DEFAULT,
            budget: None,
        }
    }
}
