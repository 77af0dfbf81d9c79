//! Agents that keep failing are left alone for a while: each try costs their line, and may be what breaks them.

use core::time::Duration;

use shared::UnixMillis;

use crate::campaign::{Target, TargetState};

/// So many ends in a row that were no success.
const PATIENCE: u32 = 3;

const FIRST: Duration = Duration::from_secs(24 * 3600);
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// What an end says of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// It works.
    For,
    /// Its install failed, or it fell silent.
    Against,
}

/// What the state of a target says of its agent; `None`: nothing.
#[must_use]
pub fn counts(target: &Target) -> Option<Counts> {
    match target.state {
        TargetState::Verified => Some(Counts::For),
        TargetState::Silent => Some(Counts::Against),
        TargetState::Failed => target.blames_release().then_some(Counts::Against),
        TargetState::Pending
        | TargetState::Asked
        | TargetState::Queued
        | TargetState::Mailed
        | TargetState::Received
        | TargetState::Deferred
        | TargetState::Installed
        | TargetState::Undeliverable
        | TargetState::Cancelled
        | TargetState::Expired
        | TargetState::Declined => None,
    }
}

/// Until when nothing is mailed to an agent with so many ends in a row against it, the last of them now. `None`: it is not held up.
#[must_use]
pub fn until(against: u32, now: UnixMillis) -> Option<UnixMillis> {
    let over = against.checked_sub(PATIENCE)?;
    let factor = 1u32.checked_shl(over).unwrap_or(u32::MAX);
    Some(now.plus(FIRST.saturating_mul(factor).min(LONGEST)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_failure_in_a_row_costs_a_day_and_each_further_one_twice_as_long_up_to_a_week() {
        let hours = |n| until(n, UnixMillis(0)).map(|at| at.0 / 3_600_000);
        assert_eq!(
            [0, 2, 3, 4, 5, 6, 60].map(hours),
            [None, None, Some(24), Some(48), Some(96), Some(168), Some(168)]
        );
    }
}
