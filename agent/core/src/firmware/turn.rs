//! One update's way from state to state: what may follow what, as one table (PROTOCOL 18.5 to 18.9). Pure: a signal in, at most one thing to do out.
//!
//! The rule that all else serves: a transfer follows another one only if it is known that the first did no harm, or if the manager
//! allows it. What shows the new version is done, whatever was believed before.

use core::time::Duration;

use shared::bundle::same_version;
use shared::message::{FileState, UpdateReason};
use shared::{Label, UnixMillis};

use super::{Image, Stage, Trial, Update, Why};
use crate::limits::{
    DEVICE_HOLD_MAX, DEVICE_STEP_MIN, REPEAT_FIRST, REPEAT_LONGEST, REPEATS_MAX_COUNT, back_off,
};
use crate::schedule::PutOff;

/// What a device says when it is asked whether it is ready (R7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It is, and shows this version of the firmware.
    Ready(Option<Label>),
    /// It is at work, or its state does not allow it; it may say for how long (R8).
    NotNow(Label, Option<Duration>),
    /// It holds its answer back for so long.
    Deferred(Duration),
    /// It does not take firmware this way, whenever it is asked.
    Refused(Label),
    /// It does not answer.
    Silent(Label),
}

/// How a transfer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushEnd {
    /// All was sent and, as far as the way can tell, taken.
    Sent {
        /// Bytes.
        bytes: u64,
        /// How long that took.
        took: Duration,
    },
    /// Not a byte of the image has left.
    NotBegun(Label),
    /// It broke off before the end, for certain; so many bytes had left.
    Incomplete(u64, Label),
    /// Nobody knows whether all of it arrived; so many bytes had left.
    Unclear(u64, Label),
    /// The device has refused it, and has taken nothing.
    Refused(Label),
}

/// What a device shows that is asked for its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The version of the firmware; `None`: it answers and does not say.
    pub version: Option<Label>,
    /// It is ready for work, and does none.
    pub idle: bool,
}

/// What may happen to an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// It is its turn.
    Begin,
    /// The device has answered.
    Answered(Readiness),
    /// The image's file was compared with its digest.
    Checked(FileState),
    /// The transfer has ended.
    Pushed(PushEnd),
    /// The device was told to take it, or could not be told.
    Activated(Result<(), Label>),
    /// The device was asked for its version.
    Read(Result<Shown, Label>),
    /// The device has shown this version by itself.
    Shows(Label),
    /// The agent has started.
    Restarted,
    /// It is not to begin now.
    Hold(Option<UpdateReason>),
    /// It is never to begin.
    Cancel(Why),
    /// A person at the site does not want it yet.
    PutOff(PutOff),
    /// Nothing may begin any more.
    TimeOver,
    /// It may begin anew.
    Again,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Ask the device whether it is ready.
    Ask,
    /// Compare the file with its digest.
    Check,
    /// Send the image.
    Push,
    /// Tell the device to take it.
    Activate,
}

/// What an update's step depends on beside itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around<'a> {
    pub(crate) now: UnixMillis,
    /// By how much its time moves.
    pub(crate) step: Duration,
    pub(crate) image: &'a Image,
    /// It would end in its time.
    pub(crate) may_begin: bool,
}

impl Update {
    /// Takes a signal. What does not fit the state changes nothing.
    pub(crate) fn turn(&mut self, around: &Around<'_>, signal: Signal) -> Option<Act> {
        let now = around.now;
        let (stage, act) = match (&self.stage, signal) {
            (Stage::Queued(_) | Stage::Deferred(..), Signal::Begin) => (Stage::Asked, Some(Act::Ask)),
            (Stage::Asked, Signal::Answered(answer)) => self.answered(around, answer),
            (Stage::Prechecked, Signal::Checked(FileState::Good)) if self.barred().is_some() => {
                (self.barred().map_or(Stage::Queued(None), Stage::Unknown), None)
            }
            (Stage::Prechecked, Signal::Checked(FileState::Good)) if around.may_begin => {
                // PROTOCOL 18.7: this is saved before the first byte leaves.
                self.transfers = self.transfers.saturating_add(1);
                self.tries = self.tries.saturating_add(1);
                (self.began, self.sent_bytes) = (Some(now), 0);
                (Stage::Transferring, Some(Act::Push))
            }
            (Stage::Prechecked, Signal::Checked(FileState::Good)) => (Stage::Queued(None), None),
            (Stage::Prechecked, Signal::Checked(FileState::Altered | FileState::Missing)) => {
                (Stage::Failed(Why::of(UpdateReason::BadFile)), None)
            }
            (Stage::Transferring, Signal::Pushed(end)) => self.pushed(around, end),
            (Stage::Activating, Signal::Activated(result)) => {
                let why = Why { reason: UpdateReason::StillOld, about: result.err() };
                (Stage::Restarting(trial(around, around.image.entry.back_by(), false, why)), None)
            }
            (Stage::Restarting(trial) | Stage::Verifying(trial), Signal::Read(read)) => {
                let trial = trial.clone();
                (self.judge(around, trial, read), None)
            }
            (Stage::Restarting(_) | Stage::Verifying(_) | Stage::Unknown(_), Signal::Shows(version))
                if around.is_new(&version) =>
            {
                (Stage::Done, None)
            }
            (Stage::Queued(_) | Stage::Deferred(..), Signal::Shows(version)) if around.is_new(&version) => {
                (self.has_it(), None)
            }
            (Stage::Asked | Stage::Prechecked, Signal::Restarted) => (Stage::Queued(None), None),
            (Stage::Transferring, Signal::Restarted) => {
                self.doubt = None;
                let (entry, why) = (&around.image.entry, Why::of(UpdateReason::AgentStopped));
                (Stage::Restarting(trial(around, entry.back_by(), entry.repeatable, why)), None)
            }
            (Stage::Activating, Signal::Restarted) => {
                // It is not told again: a second word may come in the middle of flashing.
                let why = Why::of(UpdateReason::StillOld);
                (Stage::Restarting(trial(around, around.image.entry.back_by(), false, why)), None)
            }
            (Stage::Queued(_) | Stage::Asked | Stage::Prechecked, Signal::Hold(reason)) => {
                (Stage::Queued(reason), None)
            }
            // Whoever has moved its time is named until that time comes.
            (Stage::Deferred(until, _), Signal::Hold(reason)) if *until <= now => {
                (Stage::Queued(reason), None)
            }
            (stage, Signal::Cancel(why)) if stage.has_not_begun() => (Stage::Cancelled(why), None),
            (stage, Signal::TimeOver) if stage.has_not_begun() => (Stage::Expired, None),
            (stage, Signal::PutOff(put_off)) if stage.has_not_begun() => {
                let why = Why::about(UpdateReason::PutOff, put_off.by.clone());
                let until = put_off.until;
                self.put_off = Some(put_off);
                (Stage::Deferred(until, why), None)
            }
            (Stage::Failed(_) | Stage::Unknown(_) | Stage::Cancelled(_) | Stage::Expired, Signal::Again) => {
                self.tries = 0;
                (Stage::Queued(None), None)
            }
            _ => return None,
        };
        self.enter(now, stage);
        act
    }

    fn has_it(&self) -> Stage {
        let never_sent = self.transfers == 0 && self.doubt.is_none();
        if never_sent { Stage::NotRegistered(UpdateReason::HasIt) } else { Stage::Done }
    }

    fn answered(&mut self, around: &Around<'_>, answer: Readiness) -> (Stage, Option<Act>) {
        let defer = |hold: Duration, why| {
            let hold = hold.clamp(DEVICE_STEP_MIN, DEVICE_HOLD_MAX);
            (Stage::Deferred(around.now.plus(hold), why), None)
        };
        match answer {
            Readiness::Ready(Some(shown)) if around.is_new(&shown) => (self.has_it(), None),
            Readiness::Ready(Some(shown)) if !around.image.entry.goes_over(&shown) => {
                (Stage::Failed(Why::about(UpdateReason::NotOverThis, shown)), None)
            }
            Readiness::Ready(shown) => {
                self.old = shown.or_else(|| self.old.take());
                (Stage::Prechecked, Some(Act::Check))
            }
            Readiness::NotNow(why, hold) => {
                defer(hold.unwrap_or(around.step), Why::about(UpdateReason::DeviceBusy, why))
            }
            Readiness::Deferred(hold) => defer(hold, Why::of(UpdateReason::DeviceDefers)),
            Readiness::Silent(why) => defer(around.step, Why::about(UpdateReason::Silent, why)),
            Readiness::Refused(why) => (Stage::Failed(Why::about(UpdateReason::Refused, why)), None),
        }
    }

    fn pushed(&mut self, around: &Around<'_>, end: PushEnd) -> (Stage, Option<Act>) {
        let entry = &around.image.entry;
        // What was not known of the transfer before, this one has made the past, if any of it has left.
        if !matches!(end, PushEnd::NotBegun(_) | PushEnd::Refused(_)) {
            self.doubt = None;
        }
        match end {
            PushEnd::Sent { bytes, .. } => {
                self.sent_bytes = bytes;
                (Stage::Activating, Some(Act::Activate))
            }
            PushEnd::NotBegun(why) => {
                self.transfers = self.transfers.saturating_sub(1);
                let why = Why::about(UpdateReason::Interrupted, why);
                (Stage::Verifying(trial(around, Duration::ZERO, true, why)), None)
            }
            PushEnd::Incomplete(sent, why) => {
                self.sent_bytes = sent;
                let why = Why::about(UpdateReason::Interrupted, why);
                (Stage::Restarting(trial(around, entry.goes_away(), true, why)), None)
            }
            PushEnd::Unclear(sent, why) => {
                self.sent_bytes = sent;
                let why = Why::about(UpdateReason::EndNotKnown, why);
                (Stage::Restarting(trial(around, entry.back_by(), entry.repeatable, why)), None)
            }
            PushEnd::Refused(why) => {
                self.transfers = self.transfers.saturating_sub(1);
                (Stage::Failed(Why::about(UpdateReason::Refused, why)), None)
            }
        }
    }

    /// What a device shows after a transfer (PROTOCOL 18.8).
    fn judge(&self, around: &Around<'_>, trial: Trial, read: Result<Shown, Label>) -> Stage {
        let now = around.now;
        let trial = trial.not_after(now);
        let over = now >= trial.until;
        let shown = match read {
            Err(why) if over => return Stage::Unknown(Why::about(UpdateReason::NotBack, why)),
            Err(_) => return Stage::Restarting(trial),
            Ok(shown) => shown,
        };
        let Some(version) = shown.version else {
            let why = Why::of(UpdateReason::NoVersion);
            return if over { Stage::Unknown(why) } else { Stage::Verifying(trial) };
        };
        if around.is_new(&version) {
            return Stage::Done;
        }
        if now < trial.settled {
            return Stage::Verifying(trial);
        }
        if self.old.as_ref().is_some_and(|old| !same_version(old, &version)) {
            return Stage::Unknown(Why::about(UpdateReason::OtherVersion, version));
        }
        if !trial.harmless && self.transfers >= self.allowed {
            return Stage::Unknown(trial.why);
        }
        if let Some(why) = self.barred() {
            return Stage::Unknown(why);
        }
        if !shown.idle {
            return Stage::Verifying(trial);
        }
        if self.tries >= REPEATS_MAX_COUNT {
            return Stage::Failed(Why { reason: UpdateReason::TooOften, ..trial.why });
        }
        let pause = back_off(REPEAT_FIRST, REPEAT_LONGEST, self.tries.saturating_sub(1));
        Stage::Deferred(now.plus(pause), Why { reason: UpdateReason::Interrupted, ..trial.why })
    }
}

impl Around<'_> {
    fn is_new(&self, version: &Label) -> bool {
        same_version(&self.image.entry.version, version)
    }
}

fn trial(around: &Around<'_>, settles: Duration, harmless: bool, why: Why) -> Trial {
    let ended = around.now;
    let until = ended.plus(around.image.entry.back_by());
    Trial { ended, settled: ended.plus(settles), until, harmless, why }
}

impl Trial {
    /// The same, from now on, if the clock went back behind its beginning: else a device would be waited for until then.
    fn not_after(mut self, now: UnixMillis) -> Self {
        let back = self.ended.since(now);
        self.ended = self.ended.minus(back);
        self.settled = self.settled.minus(back);
        self.until = self.until.minus(back);
        self
    }
}
