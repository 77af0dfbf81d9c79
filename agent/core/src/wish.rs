//! What a person at the site wants of an update that has not begun (R9): not yet, or not at all. The shell has read it from
//! files; what of it is granted is decided here, by what the manager's schedule allows (PROTOCOL 15.6, 15.7).

use shared::message::Refusal;
use shared::{EnvelopeId, Label, UnixMillis};
use thiserror::Error;

use crate::agent::AgentCore;
use crate::effect::Effect;
use crate::install::{Install, Signal};
use crate::schedule::{KeptSchedule, PutOff};
use crate::state::State;

/// A person's wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The install order, or the schedule that offers a bundle.
    pub order: EnvelopeId,
    /// Who.
    pub by: Label,
    /// What.
    pub want: Want,
}

/// What a person wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Not before this.
    PutOff(UnixMillis),
    /// Not at all.
    Cancel,
}

/// Why something is not put off or cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotGranted {
    /// Nothing of this name waits.
    #[error("no update of this number waits here")]
    Unknown,
    /// It has begun.
    #[error("too late: it has begun")]
    Begun,
    /// Its order is to begin as soon as it can.
    #[error("it is not scheduled: nobody has said how long it may be put off (it can be cancelled)")]
    NotScheduled,
    /// Its schedule is not here.
    #[error("its schedule, which says how long it may be put off, has not arrived")]
    NoSchedule,
    /// Its schedule allows no putting off.
    #[error("its schedule does not allow it to be put off")]
    NotAllowed,
    /// Longer than its schedule allows.
    #[error("it can be put off until {0} at the latest")]
    TooLong(UnixMillis),
    /// It could not begin after that any more.
    #[error(
        "after that it could not begin any more: its last time to begin, or its order's life, is over by then"
    )]
    Never,
    /// That time is past.
    #[error("that time is past")]
    Past,
}

impl State {
    /// The schedule of an update that has not begun, and until when it can begin.
    fn schedule_of(&self, order: EnvelopeId) -> Result<(&KeptSchedule, UnixMillis), NotGranted> {
        self.not_begun(order)?;
        let Some(job) = self.jobs().find(|job| job.order == order) else {
            let offer = self.offers().find(|kept| kept.order == order).ok_or(NotGranted::Unknown)?;
            return Ok((offer, offer.expires));
        };
        if !job.scheduled {
            return Err(NotGranted::NotScheduled);
        }
        let kept = job.bundle.and_then(|bundle| self.schedules.get(&bundle)).ok_or(NotGranted::NoSchedule)?;
        Ok((kept, job.expires.min(kept.expires)))
    }

    fn not_begun(&self, order: EnvelopeId) -> Result<(), NotGranted> {
        let running = self.active.as_ref().filter(|install| install.job().order == order);
        if running.is_some_and(Install::has_begun) { Err(NotGranted::Begun) } else { Ok(()) }
    }

    /// When an update would begin.
    ///
    /// # Errors
    /// It does not wait for a schedule, or for none that will come.
    pub fn begins_at(&self, order: EnvelopeId, now: UnixMillis) -> Result<UnixMillis, NotGranted> {
        let (kept, _) = self.schedule_of(order)?;
        kept.opening(now).ok_or(NotGranted::Never)
    }

    /// Puts an update off (PROTOCOL 15.6). Gives the first moment in which it may begin then.
    ///
    /// # Errors
    /// It has begun, or its schedule does not allow it; nothing is changed then.
    pub fn put_off(
        &mut self,
        order: EnvelopeId,
        put_off: PutOff,
        now: UnixMillis,
    ) -> Result<UnixMillis, NotGranted> {
        let (kept, expires) = self.schedule_of(order)?;
        let limit = kept.schedule.defer_until.ok_or(NotGranted::NotAllowed)?;
        if put_off.until > limit {
            return Err(NotGranted::TooLong(limit));
        }
        if put_off.until <= now {
            return Err(NotGranted::Past);
        }
        let opening = kept.opening_from(put_off.until).filter(|opens| *opens <= expires);
        let opening = opening.ok_or(NotGranted::Never)?;
        let bundle = kept.schedule.bundle;
        if let Some(kept) = self.schedules.get_mut(&bundle) {
            kept.put_off = Some(put_off);
        }
        Ok(opening)
    }

    /// Whether an update can be cancelled at the site (PROTOCOL 15.7).
    ///
    /// # Errors
    /// It has begun, or does not wait here.
    pub fn may_cancel(&self, order: EnvelopeId) -> Result<(), NotGranted> {
        self.not_begun(order)?;
        if self.jobs().any(|job| job.order == order) { Ok(()) } else { Err(NotGranted::Unknown) }
    }
}

impl AgentCore {
    /// Grants wishes, or not, and has them forgotten: what is granted is saved by then.
    pub(crate) fn wishes(&mut self, now: UnixMillis, wishes: Vec<Wish>, out: &mut Vec<Effect>) {
        for Wish { order, by, want } in wishes {
            match want {
                Want::PutOff(until) => {
                    if self.state.put_off(order, PutOff { until, by }, now).is_ok() {
                        self.dirty = true;
                        self.stand_back(order);
                    }
                }
                Want::Cancel => self.decline(now, order, out),
            }
            out.push(Effect::DropWish { order });
        }
    }

    /// An install that was to begin waits again.
    fn stand_back(&mut self, order: EnvelopeId) {
        if let Some(install) = self.state.active.take_if(|install| install.job().order == order) {
            self.put_back(install.into_job());
        }
    }

    fn decline(&mut self, now: UnixMillis, order: EnvelopeId, out: &mut Vec<Effect>) {
        if !self.take_from_queue(now, order, Refusal::Declined, out) {
            self.signal(now, Some(order), Signal::Cancel(Refusal::Declined), out);
        }
    }
}
