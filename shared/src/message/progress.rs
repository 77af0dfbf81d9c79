//! How far an install order is, and what it waits for.

use core::fmt;

use minicbor::{Decode, Encode};

use crate::id::{EnvelopeId, Label};
use crate::time::UnixMillis;

/// How far an install order is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Progress {
    /// The order.
    #[n(0)]
    pub order: EnvelopeId,
    /// What it does now.
    #[n(1)]
    pub step: Step,
}

/// A step of an install order that is worth a mail.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Step {
    /// The bundle is here and kept.
    #[n(0)]
    Received,
    /// It cannot go on now, and tries again.
    #[n(1)]
    Waiting(#[n(0)] Waiting),
}

/// Why an install waits, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Waiting {
    /// The reason.
    #[n(0)]
    pub reason: WaitReason,
    /// The next try; for a restart of the box: when the wait for it is given up.
    #[n(1)]
    pub until: UnixMillis,
    /// What exactly is in the way: an owner and its reason, a module and a process.
    #[n(2)]
    pub about: Option<Label>,
}

/// `a lease is held (billing: metering run)`: why, without until when.
impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hindrance(f, self.reason, self.about.as_ref())
    }
}

/// What is in the way of an install.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Hindrance {
    /// The kind.
    #[n(0)]
    pub reason: WaitReason,
    /// What exactly.
    #[n(1)]
    pub about: Option<Label>,
}

impl Hindrance {
    /// One of which the kind says all.
    #[must_use]
    pub fn of(reason: WaitReason) -> Self {
        Self { reason, about: None }
    }
}

impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hindrance(f, self.reason, self.about.as_ref())
    }
}

fn write_hindrance(f: &mut fmt::Formatter<'_>, reason: WaitReason, about: Option<&Label>) -> fmt::Result {
    match about {
        Some(about) => write!(f, "{reason} ({about})"),
        None => write!(f, "{reason}"),
    }
}

/// Why an install waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum WaitReason {
    /// The bundle's script said "not now" (exit code 75).
    #[n(0)]
    ScriptSaysNotNow,
    /// Another install is running.
    #[n(1)]
    OtherInstall,
    /// The disk has too little room.
    #[n(2)]
    NoSpace,
    /// Somebody does work that must not be interrupted.
    #[n(3)]
    Leased,
    /// A module is in use, and nothing is replaced under its user.
    #[n(4)]
    ModuleRunning,
    /// The box is to restart, and the install goes on after that.
    #[n(5)]
    BoxRestarts,
    /// Its time has not come, or its window is closed.
    #[n(6)]
    NotYet,
    /// A person at the site has put it off.
    #[n(7)]
    PutOff,
    /// It comes with a schedule, which has not arrived.
    #[n(8)]
    NoSchedule,
    /// It comes in parts, and some are still on their way.
    #[n(9)]
    PartsMissing,
    /// The line's budget has no room for what is to come (PROTOCOL 17.12).
    #[n(10)]
    Budget,
    /// What is to come is fetched at other hours.
    #[n(11)]
    Hours,
}

impl WaitReason {
    /// True if parts of the order are still to come, whatever they wait for.
    #[must_use]
    pub fn is_of_parts(self) -> bool {
        matches!(self, Self::PartsMissing | Self::Budget | Self::Hours)
    }
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ScriptSaysNotNow => "the script says not now",
            Self::OtherInstall => "another install is running",
            Self::NoSpace => "too little room on the disk",
            Self::Leased => "a lease is held",
            Self::ModuleRunning => "a module is in use",
            Self::BoxRestarts => "the box is to restart",
            Self::NotYet => "its time has not come",
            Self::PutOff => "put off at the site",
            Self::NoSchedule => "its schedule has not arrived",
            Self::PartsMissing => "parts are on their way",
            Self::Budget => "the budget of its line is used up",
            Self::Hours => "large mails are fetched at other hours",
        })
    }
}
