//! When updates may begin: the manager's plans (PROTOCOL 18.3, 18.4), and what they change of updates that are there.

use core::time::Duration;

use minicbor::{Decode, Encode};
use shared::message::{DeviceAction, DevicePlan, UpdateReason};
use shared::{EnvelopeId, KeyId, UnixMillis};

use super::turn::{Around, Signal};
use super::{Stage, Update, Updates, Why};
use crate::facts::EnvelopeFacts;
use crate::limits::PLANS_MAX_COUNT;

/// A plan that counts here.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct KeptPlan {
    /// The order that brought it.
    #[n(0)]
    pub order: EnvelopeId,
    /// That order's sequence number.
    #[n(1)]
    pub sequence: u64,
    /// The key that signed it.
    #[n(2)]
    pub signer: KeyId,
    /// What it says.
    #[n(3)]
    pub plan: DevicePlan,
    /// The manager was told what follows from it.
    #[n(4)]
    pub answered: bool,
}

/// Whether an update may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Now.
    Now,
    /// Not before this, for this reason.
    At(UnixMillis, UpdateReason),
    /// What is left of all times is too short.
    Never,
    /// The plan's time is over.
    Over,
    /// The manager has suspended it, or nobody plans it.
    Held(UpdateReason),
}

impl KeptPlan {
    /// The first moment from `from` on in which something may begin that takes so long (PROTOCOL 18.4).
    pub(super) fn opening(&self, from: UnixMillis, takes: Duration) -> Option<UnixMillis> {
        let from = from.max(self.plan.not_before);
        let fits = |opens: UnixMillis, until: UnixMillis| opens.plus(takes) <= until.min(self.plan.until);
        if self.plan.intervals.is_empty() {
            return Some(from).filter(|opens| fits(*opens, self.plan.until));
        }
        let openings = self.plan.intervals.iter().map(|interval| (interval.from.max(from), interval.until));
        openings.filter(|(opens, until)| fits(*opens, *until)).map(|(opens, _)| opens).min()
    }

    /// Whether an update may begin that takes so long.
    pub(crate) fn when(&self, update: &Update, now: UnixMillis, takes: Duration) -> When {
        let Some(choice) = self.plan.choice(&update.device) else {
            return When::Held(UpdateReason::Superseded);
        };
        if now > self.plan.until {
            return When::Over;
        }
        if choice.action == DeviceAction::Suspend {
            return When::Held(UpdateReason::Suspended);
        }
        let put_off = update.put_off.as_ref().map(|put_off| put_off.until);
        let deferred = update.stage.deferred_until(now);
        let from = [choice.not_before, put_off, deferred].into_iter().flatten().max().unwrap_or(now);
        match self.opening(from.max(now), takes) {
            Some(opens) if opens <= now => When::Now,
            Some(opens) => When::At(opens, UpdateReason::NotYet),
            None => When::Never,
        }
    }
}

impl Updates {
    /// The manager says when the devices get a bundle's firmware. True if it counts (PROTOCOL 18.3).
    pub(crate) fn take_plan(
        &mut self,
        facts: &EnvelopeFacts,
        plan: DevicePlan,
        counts: impl Fn(KeyId) -> bool,
    ) -> bool {
        let bundle = plan.bundle;
        let newer = |kept: &KeptPlan| kept.plan.bundle == bundle && kept.sequence > facts.sequence;
        // PROTOCOL 11.6: what a dropped key has signed gives way to anything.
        if self.plans.iter().any(|kept| newer(kept) && counts(kept.signer)) {
            return false;
        }
        self.plans.retain(|kept| kept.plan.bundle != bundle);
        self.plans.push(KeptPlan {
            order: facts.id,
            sequence: facts.sequence,
            signer: facts.signer,
            plan,
            answered: false,
        });
        self.plans.sort_by_key(|kept| kept.sequence);
        let over = self.plans.len().saturating_sub(PLANS_MAX_COUNT);
        let in_force = self.catalogue.as_ref().map(|catalogue| catalogue.bundle);
        for _ in 0..over {
            let idle = self.plans.iter().position(|kept| Some(kept.plan.bundle) != in_force);
            self.plans.remove(idle.unwrap_or_default());
        }
        true
    }

    /// What a new plan changes of updates that are there already: what is cancelled, and what may begin anew.
    pub(crate) fn follow_plan(&mut self, now: UnixMillis) {
        let Some(kept) = self.plan().cloned() else { return };
        let step = kept.plan.defer_step();
        let Self { catalogue, list, .. } = self;
        for update in list {
            let Some(choice) = kept.plan.choice(&update.device) else { continue };
            let image = update.image.and_then(|at| usize::try_from(at).ok());
            let Some(image) = image.and_then(|at| catalogue.as_ref()?.images.get(at)) else { continue };
            let around = Around { now, step, image, may_begin: false };
            let raised = choice.transfers_allowed > update.allowed;
            update.allowed = choice.transfers_allowed;
            // PROTOCOL 18.9: what was allowed and has not begun can be taken back.
            if let Some(why) = update.barred().filter(|_| update.stage.has_not_begun()) {
                update.enter(now, Stage::Unknown(why));
                continue;
            }
            let signal = match (&update.stage, choice.action) {
                (_, DeviceAction::Cancel) => Signal::Cancel(Why::of(UpdateReason::CancelledByManager)),
                (_, DeviceAction::Suspend) => Signal::Hold(Some(UpdateReason::Suspended)),
                // PROTOCOL 18.9: the manager answers for what follows.
                (Stage::Unknown(_), DeviceAction::Run) if choice.transfers_allowed > update.transfers => {
                    Signal::Again
                }
                (Stage::Failed(_), DeviceAction::Run)
                    if raised && choice.transfers_allowed > update.transfers =>
                {
                    Signal::Again
                }
                (Stage::Cancelled(why), DeviceAction::Run)
                    if why.reason == UpdateReason::CancelledByManager =>
                {
                    Signal::Again
                }
                (Stage::Expired, DeviceAction::Run) if now <= kept.plan.until => Signal::Again,
                (_, DeviceAction::Run) => continue,
            };
            update.turn(&around, signal);
        }
    }
}
