//! The pauses of an install: something is in the way, and it tries again with growing pauses until its order
//! expires. Waiting is no failure.

use minicbor::{Decode, Encode};
use shared::UnixMillis;
use shared::message::{Cause, Hindrance, Phase, WaitReason};

use super::moves::given_up;
use super::{After, Install, Planned, Surroundings, Turn};
use crate::busy::{Before, InUse, hindrance};
use crate::limits::{WAIT_FIRST, WAIT_LONGEST, back_off};

/// A pause.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Wait {
    /// Why.
    #[n(0)]
    pub hindrance: Hindrance,
    /// Until when.
    #[n(1)]
    pub until: UnixMillis,
    /// Where it goes on.
    #[n(2)]
    pub resume: Resume,
}

/// Where an install goes on after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Resume {
    /// Unpack again.
    #[n(0)]
    Staging,
    /// Ask the script again.
    #[n(1)]
    Checking,
    /// Look again what is in use; there is no script to ask.
    #[n(2)]
    Looking,
}

/// M9: nothing is replaced under its user, and nothing that must not be interrupted is.
pub(super) fn looked(p: Box<Planned>, before: Before, around: &Surroundings<'_>, found: &InUse) -> Turn {
    let begins = before == Before::Pre || !p.facts.has_script;
    if begins && !around.may_begin {
        return Turn::Back(p);
    }
    let Some(hindrance) = hindrance(&p.facts.modules, before, found, around.boot, around.rules.lease_max)
    else {
        return Turn::Go(match before {
            Before::Pre => Install::Pre(p),
            Before::Switch => Install::Switching(p),
        });
    };
    match before {
        Before::Pre => pause(p, around.now, hindrance, Resume::Checking),
        // What `pre` has stopped must not stay so for the length of a pause.
        Before::Switch if p.facts.has_script => Turn::Go(Install::Restoring(p, After::Wait(hindrance))),
        Before::Switch => pause(p, around.now, hindrance, Resume::Looking),
    }
}

pub(super) fn pause(mut p: Box<Planned>, now: UnixMillis, hindrance: Hindrance, resume: Resume) -> Turn {
    let pause = back_off(WAIT_FIRST, WAIT_LONGEST, p.waits);
    p.waits = p.waits.saturating_add(1);
    // Not past the expiry: the manager wants to know then, not an hour later.
    let until = now.plus(pause).min(p.job.expires.plus(core::time::Duration::from_millis(1)));
    Turn::Go(Install::Waiting(p, Wait { hindrance, until, resume }))
}

pub(super) fn resumed(p: Box<Planned>, wait: Wait, around: &Surroundings<'_>) -> Turn {
    let now = around.now;
    if now > p.job.expires {
        let phase = match wait.resume {
            Resume::Staging => Phase::Stage,
            Resume::Checking => Phase::Check,
            Resume::Looking => Phase::Switch,
        };
        return given_up(p, phase, Cause::WaitedTooLong(Some(wait.hindrance)));
    }
    // What else has to wait is not held up until the next interval.
    if !around.may_begin {
        return Turn::Back(p);
    }
    // A pause that lasts longer than any was begun before the clock went back.
    if wait.until > now && wait.until.since(now) <= WAIT_LONGEST {
        return Turn::Ignored(Install::Waiting(p, wait));
    }
    Turn::Go(match wait.resume {
        Resume::Staging => Install::Staging(p),
        Resume::Checking => Install::Checking(p),
        Resume::Looking => Install::Looking(p, Before::Switch),
    })
}

/// The agent has started. What was in use may not be so any more ("put off until the box restarts" ends here):
/// the next tick looks again.
pub(super) fn started(p: Box<Planned>, mut wait: Wait, now: UnixMillis) -> Turn {
    if matches!(wait.hindrance.reason, WaitReason::Leased | WaitReason::ModuleRunning) {
        wait.until = now;
    }
    Turn::Go(Install::Waiting(p, wait))
}
