//! How updates go, for the manager: what has changed, and all of it as the answer to a plan (R6, R12, PROTOCOL 18.12).

use shared::message::{DeviceUpdate, DeviceUpdates, Report, UpdateReason, UpdateState};
use shared::{Label, UnixMillis};

use super::plan::{KeptPlan, When};
use super::{Stage, Update, Updates};
use crate::agent::AgentCore;
use crate::limits::UPDATES_GATHER;

impl AgentCore {
    /// Tells what has changed, gathered, and one report after the other.
    pub(crate) fn tell_updates(&mut self, now: UnixMillis) {
        let updates = &mut self.state.updates;
        if !updates.has_news() {
            self.dirty |= updates.tell_at.take().is_some();
            return;
        }
        // A time further ahead than that was set before the clock went back.
        let waits = |at: &UnixMillis| *at > now && at.since(now) <= UPDATES_GATHER;
        match updates.tell_at {
            None => {
                self.dirty = true;
                updates.tell_at = Some(now.plus(UPDATES_GATHER));
            }
            Some(at) if waits(&at) || self.state.outbox.holds_updates() => {}
            Some(_) => {
                updates.tell_at = None;
                let going = std::mem::take(&mut self.known.going);
                for update in updates.list.iter_mut().filter(|update| update.stage == Stage::Transferring) {
                    update.sent_bytes = going.get(&update.name()).copied().unwrap_or(update.sent_bytes);
                }
                let reports = updates.reports(now);
                self.dirty = true;
                for report in reports {
                    self.say(now, Report::DeviceUpdates(report));
                }
            }
        }
    }
}

impl Updates {
    fn has_news(&self) -> bool {
        let told = |update: &Update| update.told;
        self.plans.iter().any(|kept| !kept.answered) || (self.plan().is_some() && !self.list.iter().all(told))
    }

    /// What is to be told now; it counts as told.
    fn reports(&mut self, now: UnixMillis) -> Vec<DeviceUpdates> {
        let in_force = self.plan().map(|kept| kept.order);
        let waiting = self.plans.iter().filter(|kept| !kept.answered && Some(kept.order) != in_force);
        let mut reports: Vec<DeviceUpdates> = waiting.filter_map(|kept| kept.without_bundle(now)).collect();
        if let Some(kept) = self.plan() {
            let at_rest = self.list.iter().all(|update| update.stage.state().is_end());
            let all = !kept.answered || at_rest;
            let wanted = self.list.iter().filter(|update| all || !update.told);
            let updates: Vec<DeviceUpdate> = wanted.map(|update| self.row(kept, update, now)).collect();
            reports.push(DeviceUpdates { plan: kept.order, bundle: kept.plan.bundle, all, updates });
        }
        self.plans.iter_mut().for_each(|kept| kept.answered = true);
        self.list.iter_mut().for_each(|update| update.told = true);
        reports
    }

    /// One update, as the manager and people see it.
    #[must_use]
    pub fn row(&self, kept: &KeptPlan, update: &Update, now: UnixMillis) -> DeviceUpdate {
        let (image, why) = (self.image(update), update.stage.why());
        let takes = self.takes(update);
        let (begins, ends) = match (&update.stage, update.began) {
            (Stage::Queued(_) | Stage::Deferred(..) | Stage::Asked | Stage::Prechecked, _) => {
                let begins = match kept.when(update, now, takes) {
                    When::Now => Some(now),
                    When::At(at, _) => Some(at),
                    When::Never | When::Over | When::Held(_) => None,
                };
                (begins, begins.map(|begins| begins.plus(takes)))
            }
            (stage, Some(began)) if stage.is_under_way() => (Some(began), Some(began.plus(takes))),
            (_, Some(began)) => (Some(began), Some(update.since)),
            (_, None) => (None, None),
        };
        DeviceUpdate {
            device: update.device.clone(),
            kind: update.kind.clone(),
            vendor: update.vendor.clone(),
            model: update.model.clone(),
            serial: update.serial.clone(),
            old: update.old.clone(),
            new: image.map(|image| image.entry.version.clone()),
            state: update.stage.state(),
            reason: why.as_ref().map(|why| why.reason),
            about: why.and_then(|why| why.about),
            begins,
            ends,
            sent_bytes: update.sent_bytes,
            bytes: image.map_or(0, |image| image.bytes),
            rate: update.rate,
            transfers: update.transfers,
            since: update.since,
        }
    }
}

impl KeptPlan {
    /// The answer to a plan whose bundle is not installed: the devices that it names.
    fn without_bundle(&self, now: UnixMillis) -> Option<DeviceUpdates> {
        let row = |device: &shared::device::DeviceName| DeviceUpdate {
            device: device.clone(),
            kind: Label::default(),
            vendor: None,
            model: None,
            serial: None,
            old: None,
            new: None,
            state: UpdateState::NotRegistered,
            reason: Some(UpdateReason::NoBundle),
            about: None,
            begins: None,
            ends: None,
            sent_bytes: 0,
            bytes: 0,
            rate: None,
            transfers: 0,
            since: now,
        };
        let updates: Vec<DeviceUpdate> = self.plan.devices.keys().map(row).collect();
        let (plan, bundle) = (self.order, self.plan.bundle);
        (!updates.is_empty()).then_some(DeviceUpdates { plan, bundle, all: true, updates })
    }
}
