//! What truly happens to the firmware of the devices beside a simulated box, whatever is believed of it: which flash, which are lost, which only
//! say so. Checks each transfer, and what is told in the end (PROTOCOL 18).

use core::time::Duration;
use std::collections::BTreeMap;

use agent_core::{
    DeviceWant, DeviceWish, Effect, Event, Image, LookFault, PushEnd, Readiness, Shown, UpdateName,
};
use shared::device::{DeviceName, Firmware, Observation};
use shared::message::{DeviceUpdate, UpdateState};
use shared::{Label, UnixMillis};

use crate::boxes::{Bundles, SimBox};
use crate::dice::Dice;
use crate::post::Post;

/// The types that the devices of the world have; those with an odd number have the second one too.
pub(crate) const KINDS: [&str; 2] = ["main", "feeder"];

/// The version that a device comes with.
const FACTORY: &str = "0";

/// What a device is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Temper {
    Accepts,
    /// It takes no firmware by policy.
    Refuses,
    /// At work for some days.
    Busy,
    /// It takes the image, and comes back with the old version.
    KeepsOld,
    /// It takes the image and never comes back.
    Dies,
    /// The line to it breaks in the middle of a transfer.
    Breaks,
    /// Its power fails while it flashes; it comes back with the old version, or not at all.
    LosesPower,
    /// It holds its answer back.
    Defers,
    /// Nobody can tell whether it has got all of it.
    Mumbles,
}

/// What the agent knows of the last transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// There was none, or it did no harm.
    Harmless,
    /// It may have been complete.
    None,
}

#[derive(Clone, Debug)]
struct Truth {
    versions: BTreeMap<String, String>,
    temper: Temper,
    /// How often it still does what its temper says.
    times: u64,
    flashes_until: Option<UnixMillis>,
    dead: bool,
    /// Of each type.
    proofs: BTreeMap<Label, Proof>,
}

/// The devices beside one box.
#[derive(Clone, Debug)]
pub(crate) struct Flashed {
    devices: BTreeMap<DeviceName, Truth>,
    dice: Dice,
    /// Transfers that reached a device.
    pub(crate) pushes: u64,
    /// Of these, such that the manager had to allow.
    pub(crate) allowed: u64,
}

impl Flashed {
    pub(crate) fn new(devices: usize, mut dice: Dice) -> Self {
        let tempers = [
            Temper::Accepts,
            Temper::Accepts,
            Temper::Accepts,
            Temper::Refuses,
            Temper::Busy,
            Temper::KeepsOld,
            Temper::Dies,
            Temper::Breaks,
            Temper::LosesPower,
            Temper::Defers,
            Temper::Mumbles,
        ];
        let truth = |n: usize| {
            let kinds = KINDS.iter().take(1 + n % 2);
            let truth = Truth {
                versions: kinds.map(|kind| ((*kind).to_owned(), FACTORY.to_owned())).collect(),
                temper: tempers[usize::try_from(dice.below(tempers.len() as u64)).unwrap()],
                times: 1 + dice.below(3),
                flashes_until: None,
                dead: false,
                proofs: BTreeMap::new(),
            };
            (DeviceName::parse(&format!("mfp-{n}")).unwrap(), truth)
        };
        let devices = (1..=devices).map(truth).collect();
        Self { devices, dice, pushes: 0, allowed: 0 }
    }

    /// The site has opened all of them.
    pub(crate) fn open(&self) -> Event {
        Event::OpenForFirmware { devices: self.devices.keys().cloned().collect() }
    }

    fn answers(&mut self, now: UnixMillis, name: &DeviceName) -> bool {
        let truth = self.devices.get_mut(name).unwrap();
        truth.flashes_until = truth.flashes_until.filter(|until| *until > now);
        truth.flashes_until.is_none() && !truth.dead
    }

    /// Puts into a look what the device says of its firmware; one that flashes or is lost says nothing.
    pub(crate) fn dress(&mut self, now: UnixMillis, event: Event) -> Event {
        let Event::Looked { device, look, result } = event else { return event };
        if !self.answers(now, &device) {
            let fault = LookFault { silence: true, why: Label::lossy("no answer") };
            return Event::Looked { device, look, result: Err(fault) };
        }
        let truth = &self.devices[&device];
        let dressed = |mut seen: Box<Observation>| {
            seen.identity.model = Some(Label::lossy("Alpha 2500"));
            let all = truth.versions.iter();
            let firmware = |(component, version): (&String, &String)| Firmware {
                component: Label::lossy(component),
                version: Label::lossy(version),
            };
            seen.identity.firmware = all.map(firmware).collect();
            seen
        };
        Event::Looked { device, look, result: result.map(dressed) }
    }

    fn ask(&mut self, now: UnixMillis, update: &UpdateName, image: &Image) -> Readiness {
        if !self.answers(now, &update.device) {
            return Readiness::Silent(Label::lossy("no answer"));
        }
        let truth = self.devices.get_mut(&update.device).unwrap();
        let left = truth.times > 0;
        truth.times =
            truth.times.saturating_sub(u64::from(matches!(truth.temper, Temper::Busy | Temper::Defers)));
        match truth.temper {
            Temper::Busy if left => Readiness::NotNow(Label::lossy("printing"), None),
            Temper::Defers if left => Readiness::Deferred(Duration::from_secs(20 * 60)),
            Temper::Refuses => Readiness::Refused(Label::lossy("disabled by policy")),
            _ => {
                Readiness::Ready(truth.versions.get(image.entry.component.as_str()).map(|v| Label::lossy(v)))
            }
        }
    }

    /// The image goes to the device. `cut`: the agent loses its power on the way.
    fn push(&mut self, now: UnixMillis, update: &UpdateName, image: &Image, cut: bool) -> PushEnd {
        let Self { devices, dice, pushes, .. } = self;
        let truth = devices.get_mut(&update.device).unwrap();
        let why = Label::lossy("connection lost");
        *pushes += 1;
        let strikes = truth.times > 0 || matches!(truth.temper, Temper::Dies);
        truth.times = truth.times.saturating_sub(1);
        let breaks = strikes && truth.temper == Temper::Breaks;
        let proof = if breaks && !cut { Proof::Harmless } else { Proof::None };
        truth.proofs.insert(update.kind.clone(), proof);
        // Who is cut off in the middle has sent some of it, or all.
        if breaks || (cut && dice.chance(500)) {
            return PushEnd::Incomplete(1, why);
        }
        truth.flashes_until = Some(now.plus(Duration::from_secs(60 * (3 + dice.below(9)))));
        let fails = match truth.temper {
            Temper::KeepsOld => strikes,
            Temper::LosesPower => strikes,
            _ => false,
        };
        truth.dead = (truth.temper == Temper::Dies && strikes)
            || (truth.temper == Temper::LosesPower && strikes && dice.chance(300));
        if !fails && !truth.dead {
            truth.versions.insert(image.entry.component.to_string(), image.entry.version.to_string());
        }
        if truth.temper == Temper::Mumbles {
            return PushEnd::Unclear(1, why);
        }
        PushEnd::Sent { bytes: image.bytes, took: Duration::from_secs(20) }
    }

    fn read(&mut self, now: UnixMillis, update: &UpdateName) -> Result<Shown, Label> {
        if !self.answers(now, &update.device) {
            return Err(Label::lossy("no answer"));
        }
        let version = self.devices[&update.device].versions.get(update.kind.as_str());
        Ok(Shown { version: version.map(|version| Label::lossy(version)), idle: true })
    }

    /// Whoever was lost has been repaired: it has its old firmware.
    pub(crate) fn repair(&mut self) {
        for truth in self.devices.values_mut() {
            (truth.dead, truth.times) = (false, 0);
            if matches!(truth.temper, Temper::Dies | Temper::Refuses) {
                truth.temper = Temper::Accepts;
            }
        }
    }

    /// What is said of a device is so. What ends well is known by the device alone.
    fn check_row(&self, of: &impl core::fmt::Display, row: &DeviceUpdate) {
        let Some(truth) = self.devices.get(&row.device).filter(|_| !row.kind.as_str().is_empty()) else {
            return;
        };
        let has = truth.versions.get(row.kind.as_str()).map(String::as_str);
        let is = |version: &Option<Label>| version.as_ref().map(Label::as_str) == has;
        let told =
            format!("{of}: {} {} {} {:?}, and has {has:?}", row.device, row.kind, row.state, row.reason);
        match row.state {
            UpdateState::Done => assert!(is(&row.new), "{told}"),
            UpdateState::Failed | UpdateState::Cancelled | UpdateState::Expired => {
                assert!(is(&row.old), "{told}")
            }
            _ => {}
        }
    }
}

impl SimBox {
    /// Does an effect about firmware.
    pub(crate) fn about_firmware(&mut self, now: UnixMillis, effect: Effect) -> Option<Event> {
        match effect {
            Effect::AskDevice { update, image } => {
                let answer = self.flashed.ask(now, &update, &image);
                Some(Event::DeviceAnswered { update, answer })
            }
            Effect::PushFirmware { update, image } => {
                self.check_push(now, &update);
                let end = self.flashed.push(now, &update, &image, false);
                Some(Event::Pushed { update, end })
            }
            Effect::ActivateFirmware { update, .. } => Some(Event::Activated { update, result: Ok(()) }),
            Effect::ReadFirmware { update, .. } => {
                let result = self.flashed.read(now, &update);
                Some(Event::FirmwareRead { update, result })
            }
            _ => None,
        }
    }

    /// The power goes while the image is on its way, or just before.
    pub(crate) fn cut_off_push(&mut self, now: UnixMillis, update: &UpdateName, image: &Image) {
        if self.flashed.dice.chance(500) {
            self.check_push(now, update);
            self.flashed.push(now, update, image, true);
        } else {
            // The agent cannot know that nothing has left.
            let truth = self.flashed.devices.get_mut(&update.device).unwrap();
            truth.proofs.insert(update.kind.clone(), Proof::None);
        }
    }

    /// PROTOCOL 18.4, 18.6, 18.7, 18.8: saved before, alone, in its time, and with a proof or a permission.
    fn check_push(&mut self, now: UnixMillis, name: &UpdateName) {
        let state = self.saved_state();
        let time = state.fresh.effective(self.clock(now));
        let under_way: Vec<_> = state
            .updates
            .list
            .iter()
            .filter(|one| one.device == name.device && one.stage.is_under_way())
            .collect();
        let [update] = under_way[..] else { panic!("{}: {under_way:?} at once", self.id) };
        assert!(
            update.name() == *name && update.stage.state() == UpdateState::Transferring,
            "{}: {update:?}",
            self.id
        );
        let plan = &state.updates.plan().expect("a plan").plan;
        assert!(time >= plan.not_before && time <= plan.until, "{}: {name:?} out of its time", self.id);
        let answers = self.flashed.answers(now, &name.device);
        assert!(answers, "{}: {name:?} in the middle of flashing", self.id);
        let truth = &self.flashed.devices[&name.device];
        let of_it = state.updates.list.iter().filter(|other| other.device == name.device);
        let unknown = of_it.filter(|other| other.stage.state() == UpdateState::Unknown).count();
        assert_eq!(unknown, 0, "{}: {name:?}, and what became of another type is unknown", self.id);
        if truth.proofs.get(&name.kind) == Some(&Proof::None) {
            let allowed = plan.choice(&name.device).unwrap_or_default().transfers_allowed;
            assert!(allowed >= update.transfers, "{}: {update:?} has no proof: {truth:?}", self.id);
            self.flashed.allowed += 1;
        }
    }

    /// Somebody at the site puts off what waits for a device, or does not want it.
    pub(crate) fn device_people(&mut self, now: UnixMillis, post: &mut Post, bundles: &Bundles) {
        if !self.dice.chance(self.persona.people) {
            return;
        }
        let waiting = self.core.state().updates.list.iter().find(|update| update.stage.waits());
        let Some(device) = waiting.map(|update| update.device.clone()) else { return };
        let hours = i64::try_from(self.dice.below(6)).unwrap();
        let put_off = DeviceWant::PutOff(UnixMillis(self.clock(now).0 + hours * 3_600_000));
        let want = if self.dice.chance(100) { DeviceWant::Cancel } else { put_off };
        let wishes = vec![DeviceWish { device, by: Label::lossy("somebody"), want }];
        self.feed(now, Event::DeviceWishes { wishes }, post, bundles);
    }

    /// What is told of devices is so when it is said.
    pub(crate) fn check_rows(&self, rows: &[DeviceUpdate]) {
        rows.iter().for_each(|row| self.flashed.check_row(&self.id, row));
    }

    /// Every update has ended in a state that is true.
    pub(crate) fn check_updates(&self, now: UnixMillis) -> BTreeMap<UpdateState, u64> {
        let updates = &self.core.state().updates;
        let mut ends = BTreeMap::new();
        let Some(kept) = updates.plan() else { return ends };
        for update in &updates.list {
            let row = updates.row(kept, update, now);
            assert!(row.state.is_end(), "{}: {row:?} after the plan's end", self.id);
            self.flashed.check_row(&self.id, &row);
            *ends.entry(row.state).or_default() += 1;
        }
        ends
    }
}
