//! A restart of the box in the middle of an install: the script asks for it with exit code 76, and the install
//! goes on in the next run of the box's system. A planned restart is no interruption, and never a loop: each
//! install has a number of them, and each has a deadline.

use minicbor::{Decode, Encode};
use shared::UnixMillis;
use shared::message::{Cause, Phase};

use super::moves::{Back, finished, interrupted, roll_back};
use super::{After, Install, Planned, Surroundings, Turn};
use crate::busy::BootId;
use crate::limits::{RESTART_FIRST, RESTART_LONGEST, RESTARTS_MAX_COUNT, back_off};

/// A restart that is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Restart {
    /// The run of the box's system that is to end.
    #[n(0)]
    pub during: BootId,
    /// Past this it is given up.
    #[n(1)]
    pub deadline: UnixMillis,
    /// How often the box was told.
    #[n(2)]
    pub told: u32,
    /// When it is told again.
    #[n(3)]
    pub next: UnixMillis,
    /// What comes after it.
    #[n(4)]
    pub then: Then,
}

/// What comes after a restart of the box.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Then {
    /// `post` asked for it: does it work?
    #[n(0)]
    Verify,
    /// `undo` asked for it: the way back is at its end. The flag: not all old files are back.
    #[n(1)]
    Back(#[n(0)] After, #[n(1)] bool),
}

/// The script asks for a restart.
pub(super) fn asked(mut p: Box<Planned>, around: &Surroundings<'_>, then: Then) -> Turn {
    if p.restarts >= RESTARTS_MAX_COUNT {
        return failed(p, around, then, Cause::TooManyRestarts);
    }
    p.restarts = p.restarts.saturating_add(1);
    let restart = Restart {
        during: around.boot.clone(),
        deadline: around.now.plus(around.rules.restart_limit),
        told: 1,
        next: around.now.plus(back_off(RESTART_FIRST, RESTART_LONGEST, 0)),
        then,
    };
    Turn::Go(Install::AwaitingRestart(p, restart))
}

/// The restart will not come.
fn failed(p: Box<Planned>, around: &Surroundings<'_>, then: Then, cause: Cause) -> Turn {
    match then {
        Then::Verify => roll_back(p, Phase::Post, cause),
        Then::Back(after, damaged) => finished(p, after, around, Back { damaged, undo_failed: true }),
    }
}

/// Time has passed, and the box still runs.
pub(super) fn still_up(p: Box<Planned>, mut restart: Restart, around: &Surroundings<'_>) -> Turn {
    let now = around.now;
    if now > restart.deadline {
        return failed(p, around, restart.then, Cause::NotRestarted);
    }
    // Longer than it can last: the clock went back, or the operator has set a shorter limit.
    let limit = around.rules.restart_limit;
    let moved = restart.deadline.since(now) > limit || restart.next.since(now) > RESTART_LONGEST;
    if restart.next > now && !moved {
        return Turn::Ignored(Install::AwaitingRestart(p, restart));
    }
    restart.deadline = restart.deadline.min(now.plus(limit));
    restart.next = now.plus(back_off(RESTART_FIRST, RESTART_LONGEST, restart.told));
    restart.told = restart.told.saturating_add(1);
    Turn::Go(Install::AwaitingRestart(p, restart))
}

/// The agent has started: with the box, or alone.
pub(super) fn started(p: Box<Planned>, restart: Restart, around: &Surroundings<'_>, recovered: bool) -> Turn {
    match restart.then {
        // An older copy of the state may hide that more was begun.
        Then::Verify if recovered => interrupted(p, Phase::Post),
        Then::Back(after, _) if recovered => Turn::Go(Install::Restoring(p, after)),
        _ if restart.during == *around.boot => Turn::Ignored(Install::AwaitingRestart(p, restart)),
        Then::Verify => Turn::Go(Install::Verifying(p)),
        Then::Back(after, damaged) => finished(p, after, around, Back { damaged, undo_failed: false }),
    }
}
