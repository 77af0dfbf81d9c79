//! Updates beside the rest of an agent: whose turn it is, what is asked of devices, what comes back (PROTOCOL 18.4 to 18.10).

use shared::device::{DeviceName, Identity, Observation};
use shared::message::{DeviceAction, DevicePlan, FileState, UpdateReason};
use shared::{Digest, Label, UnixMillis};

use super::plan::When;
use super::turn::{Act, Around, PushEnd, Readiness, Shown, Signal};
use super::{Known, Stage, Update, UpdateName, Updates};
use crate::agent::AgentCore;
use crate::effect::{Effect, ReadFor};
use crate::facts::{EnvelopeFacts, ModulesFound};
use crate::limits::{FIRMWARE_READ_EVERY, FIRMWARE_READ_LIMIT};

impl AgentCore {
    /// The manager sends a plan.
    pub(crate) fn device_plan(&mut self, now: UnixMillis, facts: &EnvelopeFacts, plan: DevicePlan) {
        let trust = &self.state.trust;
        if self.state.updates.take_plan(facts, plan, |key| trust.order_key(key).is_some()) {
            self.state.updates.follow_plan(now);
            self.known.all_stale = true;
        }
    }

    /// The agent starts: who was asked is asked again, and what was under way is looked at (PROTOCOL 18.7).
    pub(crate) fn restart_updates(&mut self, now: UnixMillis) {
        self.known = Known { all_stale: true, ..Known::default() };
        let names: Vec<UpdateName> = self.state.updates.list.iter().map(Update::name).collect();
        for name in names {
            self.update_signal(now, &name, Signal::Restarted, &mut Vec::new());
        }
    }

    /// These are the site's devices, and what was last read of them.
    pub(crate) fn site_has(&mut self, devices: &[DeviceName], last: &[(DeviceName, Observation)]) {
        self.known.devices = Some(devices.iter().cloned().collect());
        let identities = last.iter().map(|(name, seen)| (name.clone(), seen.identity.clone()));
        self.known.identities.extend(identities);
        self.known.all_stale = true;
    }

    /// What the site has opened for updates.
    pub(crate) fn open_for_firmware(&mut self, devices: Vec<DeviceName>) {
        self.known.open = Some(devices.into_iter().collect());
        self.known.all_stale = true;
    }

    /// A device has said what it is.
    pub(crate) fn identified(&mut self, now: UnixMillis, device: &DeviceName, identity: &Identity) {
        let known = self.known.identities.get(device);
        let mut identity = identity.clone();
        if let Some(known) = known {
            // A short look need not ask for everything.
            identity.model = identity.model.or_else(|| known.model.clone());
            identity.vendor = identity.vendor.or_else(|| known.vendor.clone());
            if identity.firmware.is_empty() {
                identity.firmware.clone_from(&known.firmware);
            }
            if *known == identity {
                return;
            }
        }
        let updates = &self.state.updates;
        let shows = updates.list.iter().filter(|update| update.device == *device).filter_map(|update| {
            let version = updates.image(update)?.entry.shown_by(&identity)?;
            Some((update.name(), version.clone()))
        });
        for (name, version) in shows.collect::<Vec<_>>() {
            self.update_signal(now, &name, Signal::Shows(version), &mut Vec::new());
        }
        self.known.identities.insert(device.clone(), identity);
        self.known.stale.insert(device.clone());
    }

    /// A device was asked whether it is ready.
    pub(crate) fn device_answered(
        &mut self,
        now: UnixMillis,
        name: &UpdateName,
        answer: Readiness,
        out: &mut Vec<Effect>,
    ) {
        self.update_signal(now, name, Signal::Answered(answer), out);
    }

    /// An image's file was compared with its digest.
    pub(crate) fn image_read(
        &mut self,
        now: UnixMillis,
        digest: Digest,
        found: &ModulesFound,
        out: &mut Vec<Effect>,
    ) {
        let updates = &self.state.updates;
        let waiting = updates.list.iter().filter(|update| update.stage == Stage::Prechecked);
        let of_it = waiting.filter_map(|update| {
            let image = updates.image(update).filter(|image| image.digest == digest)?;
            let state = match found.files.get(&image.path) {
                Some(there) if *there == digest => FileState::Good,
                Some(_) => FileState::Altered,
                None => FileState::Missing,
            };
            Some((update.name(), state))
        });
        for (name, state) in of_it.collect::<Vec<_>>() {
            self.update_signal(now, &name, Signal::Checked(state), out);
        }
    }

    /// Some bytes have left. Not worth a save of its own.
    pub(crate) fn push_goes(&mut self, name: UpdateName, sent_bytes: u64) {
        self.known.going.insert(name, sent_bytes);
    }

    /// A transfer has ended.
    pub(crate) fn pushed(&mut self, now: UnixMillis, name: &UpdateName, end: PushEnd, out: &mut Vec<Effect>) {
        let updates = &mut self.state.updates;
        let is_sending = |update: &Update| update.is(name) && update.stage == Stage::Transferring;
        if let PushEnd::Sent { bytes, took } = end
            && updates.list.iter().any(is_sending)
        {
            let rate = updates.measured(bytes, took);
            for update in updates.list.iter_mut().filter(|update| update.is(name)) {
                update.rate = rate.or(update.rate);
            }
        }
        self.update_signal(now, name, Signal::Pushed(end), out);
    }

    /// A device was told to take what it has.
    pub(crate) fn activated(&mut self, now: UnixMillis, name: &UpdateName, result: Result<(), Label>) {
        self.update_signal(now, name, Signal::Activated(result), &mut Vec::new());
    }

    /// A device was asked for its version.
    pub(crate) fn firmware_read(&mut self, now: UnixMillis, name: UpdateName, result: Result<Shown, Label>) {
        self.update_signal(now, &name, Signal::Read(result), &mut Vec::new());
        self.known.reads.insert((name.device, name.kind), now.plus(FIRMWARE_READ_EVERY));
    }

    /// Hands a signal to an update, and says what is to be done.
    pub(super) fn update_signal(
        &mut self,
        now: UnixMillis,
        name: &UpdateName,
        signal: Signal,
        out: &mut Vec<Effect>,
    ) {
        let updates = &self.state.updates;
        let Some(place) = updates.list.iter().position(|update| update.is(name)) else { return };
        let Some(update) = updates.list.get(place) else { return };
        let Some(image) = updates.image(update).cloned() else { return };
        let plan = updates.plan();
        let may_begin = plan.is_some_and(|kept| kept.when(update, now, updates.takes(update)) == When::Now);
        let step = plan.map(|kept| kept.plan.defer_step()).unwrap_or_default();
        // An install may end with a restart of the agent: nothing begins that it would break off.
        let may_begin = may_begin && self.state.active.is_none();
        let around = Around { now, step, image: &image, may_begin };
        let Some(update) = self.state.updates.list.get_mut(place) else { return };
        let before = update.clone();
        let act = update.turn(&around, signal);
        if *update == before {
            return;
        }
        self.dirty = true;
        let is_gone =
            |stage: &Stage| matches!(stage, Stage::Unknown(why) if why.reason == UpdateReason::NotBack);
        if is_gone(&update.stage) && !is_gone(&before.stage) {
            self.not_back(now, &name.device);
        }
        let (update, image) = (name.clone(), Box::new(image));
        out.extend(act.map(|act| match act {
            Act::Ask => Effect::AskDevice { update, image },
            Act::Check => {
                Effect::ReadModules { read: ReadFor::Firmware(image.digest), paths: vec![image.path.clone()] }
            }
            Act::Push => Effect::PushFirmware { update, image },
            Act::Activate => Effect::ActivateFirmware { update, image },
        }));
    }

    /// Whatever is due: idempotent, takes no hint from the event.
    pub(crate) fn tend_updates(&mut self, now: UnixMillis, out: &mut Vec<Effect>) {
        self.swap_catalogue(now);
        self.survey(now);
        self.begin_updates(now, out);
        self.read_firmware(now, out);
        self.tell_updates(now);
    }

    /// Says of each that waits why, and begins those whose time and turn have come.
    fn begin_updates(&mut self, now: UnixMillis, out: &mut Vec<Effect>) {
        for place in 0..self.state.updates.list.len() {
            let updates = &self.state.updates;
            let Some(update) = updates.list.get(place).filter(|update| update.stage.waits()) else {
                continue;
            };
            let when = updates.plan().map(|kept| kept.when(update, now, updates.takes(update)));
            let name = update.name();
            let signal = match when {
                None => Signal::Hold(Some(UpdateReason::Superseded)),
                Some(When::Over) => Signal::TimeOver,
                Some(When::Never) => Signal::Hold(Some(UpdateReason::TooShort)),
                Some(When::Held(reason) | When::At(_, reason)) => Signal::Hold(Some(reason)),
                Some(When::Now) => match self.stands_behind(update) {
                    Some(reason) => Signal::Hold(Some(reason)),
                    None => Signal::Begin,
                },
            };
            self.update_signal(now, &name, signal, out);
        }
    }

    /// Why it is not an update's turn although its time has come (PROTOCOL 18.6).
    fn stands_behind(&self, update: &Update) -> Option<UpdateReason> {
        let updates = &self.state.updates;
        let installed = self.state.installed.as_ref().and_then(|installed| installed.catalogue.as_ref());
        if self.state.active.is_some() || installed != updates.catalogue.as_ref() {
            return Some(UpdateReason::OthersFirst);
        }
        let others = || updates.list.iter().filter(|other| !other.is(&update.name()));
        let is_open = |other: &Update| other.stage.is_busy() || updates.is_unsolved(other);
        if others().any(|other| other.device == update.device && is_open(other)) {
            return Some(UpdateReason::OtherTypeFirst);
        }
        let of_it = || others().filter(|other| other.image == update.image);
        let proven = of_it().any(|other| other.stage == Stage::Done);
        let busy = others().filter(|other| other.stage.is_busy()).count();
        let at_once = updates.plan().map_or(1, |kept| usize::from(kept.plan.at_once.max(1)));
        let first_is_out = !proven && of_it().any(is_open);
        (first_is_out || busy >= at_once).then_some(UpdateReason::OthersFirst)
    }

    /// Asks devices for their versions after a transfer (R10).
    fn read_firmware(&mut self, now: UnixMillis, out: &mut Vec<Effect>) {
        let Updates { catalogue, list, .. } = &self.state.updates;
        let reads = &mut self.known.reads;
        reads.retain(|(device, kind), _| {
            list.iter().any(|update| update.device == *device && update.kind == *kind && update.reads())
        });
        for update in list.iter().filter(|update| update.reads()) {
            let next = reads.entry((update.device.clone(), update.kind.clone())).or_insert(now);
            // A time further ahead than any wait lasts was set before the clock went back.
            if *next > now && next.since(now) <= FIRMWARE_READ_LIMIT {
                continue;
            }
            let image = update.image.and_then(|at| usize::try_from(at).ok());
            let Some(image) = image.and_then(|at| catalogue.as_ref()?.images.get(at)) else { continue };
            *next = now.plus(FIRMWARE_READ_LIMIT);
            out.push(Effect::ReadFirmware { update: update.name(), image: Box::new(image.clone()) });
        }
    }

    /// When something is due about updates.
    pub(crate) fn updates_wake(&self, now: UnixMillis) -> Option<UnixMillis> {
        let updates = &self.state.updates;
        let reads = self.known.reads.values().copied();
        let tell = updates.tell_at.filter(|_| !self.state.outbox.holds_updates());
        let soon = core::time::Duration::from_millis(1);
        let begins = updates.plan().into_iter().flat_map(|kept| {
            let over = kept.plan.until.plus(soon);
            let waiting = updates.list.iter().filter(|update| update.stage.waits());
            waiting.map(move |update| match kept.when(update, now, updates.takes(update)) {
                When::At(at, _) => at.min(over),
                When::Now | When::Never | When::Over | When::Held(_) => over,
            })
        });
        reads.chain(tell).chain(begins).min()
    }
}

impl Updates {
    /// True if nobody knows what became of it, and the manager has not taken it out.
    fn is_unsolved(&self, update: &Update) -> bool {
        let choice = self.plan().and_then(|kept| kept.plan.choice(&update.device));
        let is_out = choice.is_some_and(|choice| choice.action == DeviceAction::Cancel);
        update.doubt.is_some() && !is_out
    }
}

impl Update {
    /// True if the device is to be asked for its version.
    fn reads(&self) -> bool {
        matches!(self.stage, Stage::Restarting(_) | Stage::Verifying(_))
    }
}
