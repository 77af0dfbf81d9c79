//! A site with devices: each says what it is, takes firmware or not, and knows what truly happened to it. The agent's power can go between any
//! two effects.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use agent_core::{
    AgentCore, BootId, Catalogue, Combination, DeviceWant, DeviceWish, Effect, EnvelopeFacts, Event, Image,
    KeyName, Look, MailHandle, Module, ModulesFound, Payload, PostResult, Profile, Program, PushEnd,
    Readiness, Rules, Shown, State, Update, UpdateName,
};
use shared::bundle::{FirmwareEntry, FirmwareHandler, ModuleKind};
use shared::device::{DeviceClass, DeviceName, Firmware, Identity, Observation, Status};
use shared::glob::Glob;
use shared::keys::{OpeningKey, SigningKey};
use shared::limits::ORDER_LIFE;
use shared::message::{
    DeviceChoice, DevicePlan, DeviceUpdates, EnrolRequest, Order, Report, UpdateReason, UpdateState,
};
use shared::trust::Trust;
use shared::{AgentId, Digest, EnvelopeId, Label, MailAddress, ModulePath, SoftwareVersion, UnixMillis};

pub(crate) const T0: UnixMillis = UnixMillis(1_750_000_000_000);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
const BYTES: u64 = 3_000_000;

pub(crate) fn minute(n: i64) -> UnixMillis {
    UnixMillis(T0.0 + n * 60_000)
}

pub(crate) fn label(text: &str) -> Label {
    Label::lossy(text)
}

pub(crate) fn device(text: &str) -> DeviceName {
    DeviceName::parse(text).unwrap()
}

pub(crate) fn named(text: &str, kind: &str) -> UpdateName {
    UpdateName { device: device(text), kind: label(kind) }
}

fn trust() -> Trust {
    let key = |n| SigningKey::from_seed(&[n; 32]).verifying_key();
    let seal = OpeningKey::from_seed(&[3; 32]).sealing_key();
    Trust::new(1, T0, vec![key(1)], vec![key(2)], 1, seal)
}

/// What a transfer does to a device, and what is said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// All is well: it is away for some minutes and comes back with the new version.
    Takes,
    /// All is sent, and it comes back with the old one.
    KeepsOld,
    /// All is sent, and it never comes back.
    Dies,
    /// It comes back with something else.
    Other,
    /// Nothing has left.
    NotBegun,
    /// It broke off, and nothing came of it.
    CutShort,
    /// All arrived, and nobody knows.
    UnclearTaken,
    /// Nobody knows, and nothing came of it.
    UnclearNot,
    /// It refuses.
    Refuses,
}

/// A device as it truly is.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a thing of its own that may be true of a device")]
pub(crate) struct Box9 {
    pub(crate) versions: BTreeMap<String, String>,
    /// Answers to `AskDevice`, before it is ready.
    pub(crate) answers: VecDeque<Readiness>,
    /// What becomes of transfers, in their order; then it takes them.
    pub(crate) fates: VecDeque<Fate>,
    pub(crate) busy: bool,
    pub(crate) silent: bool,
    /// It flashes until then.
    pub(crate) flashes_until: Option<UnixMillis>,
    pub(crate) dead: bool,
    /// Transfers that truly reached it: when each began.
    pub(crate) pushes: Vec<UnixMillis>,
}

pub(crate) struct Site {
    pub(crate) core: AgentCore,
    pub(crate) saved: Vec<u8>,
    pub(crate) now: UnixMillis,
    pub(crate) devices: BTreeMap<DeviceName, Box9>,
    pub(crate) open: Vec<DeviceName>,
    pub(crate) sent: Vec<DeviceUpdates>,
    pub(crate) faults: Vec<(DeviceName, String, bool)>,
    pub(crate) sequence: u64,
    pub(crate) cut_after: Option<u32>,
    pub(crate) effects: u32,
    pub(crate) image_is_bad: bool,
    pub(crate) repeatable: bool,
    /// Ends of transfers that are on their way.
    pending: Vec<(UnixMillis, UpdateName, PushEnd)>,
    pub(crate) cuts: u32,
    /// Bundle of the catalogue.
    pub(crate) bundle: u8,
}

fn profile() -> Profile {
    Profile {
        agent: AgentId::parse("A1").unwrap(),
        classes: vec![],
        rules: Rules::default(),
        counters_every: None,
        bill: Default::default(),
    }
}

pub(crate) fn bundle(n: u8) -> Digest {
    Digest([n; 32])
}

/// What a bundle brings: `main` and `feeder` for the Alphas, from 1 to `n`.
pub(crate) fn combination(n: u8, repeatable: bool) -> Combination {
    let kinds = ["main", "feeder"];
    let module = |kind: &&str| Module {
        name: label(kind),
        version: label("1"),
        date: label("2026-01-01"),
        path: ModulePath::parse(&format!("firmware/{kind}")).unwrap(),
        mode: 0o644,
        bytes: BYTES,
        digest: Digest::of(format!("{kind}{n}").as_bytes()),
        kind: ModuleKind::Firmware,
    };
    let modules: Vec<Module> = kinds.iter().map(module).collect();
    let entry = |kind: &&str| {
        let model = Glob::new(label("Alpha*"));
        let mut entry = FirmwareEntry::new(
            label(kind),
            label(kind),
            model,
            label(&n.to_string()),
            FirmwareHandler::Raw9100,
        );
        entry.repeatable = repeatable;
        entry
    };
    let entries: Vec<FirmwareEntry> = kinds.iter().map(entry).collect();
    let catalogue = Catalogue::of(bundle(n), &entries, &modules);
    let software_version = SoftwareVersion::parse(&format!("{n}-0")).unwrap();
    Combination { software_version, modules, test: None, catalogue }
}

impl Site {
    /// A site with these devices, of which each has `main` alone unless its name begins with "two".
    pub(crate) fn new(names: &[&str]) -> Self {
        Self::with(names, false)
    }

    pub(crate) fn with(names: &[&str], repeatable: bool) -> Self {
        let request = EnrolRequest {
            agent: AgentId::parse("A1").unwrap(),
            secret: [7; 32],
            sign_key: [1; 32],
            seal_key: [2; 32],
            mail: MailAddress::parse("a1@lab.test").unwrap(),
            agent_version: label("0"),
        };
        let mut state = State::enrolling(request, T0, trust());
        state.installed = Some(combination(2, repeatable));
        let of = |name: &&str| {
            let mut versions = BTreeMap::from([("main".to_owned(), "1".to_owned())]);
            if name.starts_with("two") {
                versions.insert("feeder".to_owned(), "1".to_owned());
            }
            let fresh = Box9 {
                versions,
                answers: VecDeque::new(),
                fates: VecDeque::new(),
                busy: false,
                silent: false,
                flashes_until: None,
                dead: false,
                pushes: vec![],
            };
            (device(name), fresh)
        };
        let mut site = Self {
            saved: state.encode(),
            core: AgentCore::new(profile(), state),
            now: T0,
            devices: names.iter().map(of).collect(),
            open: names.iter().map(|name| device(name)).collect(),
            sent: vec![],
            faults: vec![],
            sequence: 0,
            cut_after: None,
            effects: 0,
            image_is_bad: false,
            repeatable,
            pending: vec![],
            cuts: 0,
            bundle: 2,
        };
        site.start();
        site.order(Order::QueryVersions);
        site.look();
        site
    }

    pub(crate) fn plan(&self) -> DevicePlan {
        DevicePlan::for_all(bundle(self.bundle), T0, minute(24 * 60), 10 * MINUTE)
    }

    /// A plan for all devices, at once.
    pub(crate) fn begin(&mut self) {
        let plan = self.plan();
        self.order(Order::DevicePlan(plan));
    }

    /// The manager allows this device so many transfers.
    pub(crate) fn permit(&mut self, name: &str, transfers_allowed: u32) {
        let mut plan = self.plan();
        plan.devices.insert(device(name), DeviceChoice { transfers_allowed, ..DeviceChoice::default() });
        self.order(Order::DevicePlan(plan));
    }

    pub(crate) fn order(&mut self, order: Order) -> EnvelopeId {
        self.sequence += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.sequence.to_be_bytes());
        let facts = EnvelopeFacts {
            id: EnvelopeId(id),
            created: self.now,
            expires: self.now.plus(ORDER_LIFE),
            sequence: self.sequence,
            body_bytes: 10,
            signer: trust().order_keys[0].key_id(),
        };
        let mail = MailHandle(self.sequence);
        loop {
            let (order, payload) = (order.clone(), Payload::Absent);
            self.feed(Event::Order { mail, facts, order, payload, key: KeyName::First });
            // What the power has taken away is still in the mailbox.
            if self.core.state().fresh.seen.contains_key(&facts.id) {
                return facts.id;
            }
        }
    }

    pub(crate) fn wish(&mut self, name: &str, want: DeviceWant) {
        let wish = DeviceWish { device: device(name), by: label("tanaka"), want };
        self.feed(Event::DeviceWishes { wishes: vec![wish] });
    }

    pub(crate) fn start(&mut self) {
        // A transfer ends with the agent that made it; what it has done to the device stays.
        self.pending.clear();
        self.core = AgentCore::new(profile(), State::decode(&self.saved).unwrap());
        let (boot, program) = (BootId::default(), Program::default());
        let cuts = self.cuts;
        self.feed(Event::Started { recovered: false, boot, program });
        if self.cuts == cuts {
            let devices = self.devices.keys().cloned().collect();
            self.feed(Event::Watching { devices, head: None, last: vec![] });
        }
        if self.cuts == cuts {
            self.feed(Event::OpenForFirmware { devices: self.open.clone() });
        }
    }

    /// Looks at every device, as the agent does each minute.
    pub(crate) fn look(&mut self) {
        for name in self.devices.keys().cloned().collect::<Vec<_>>() {
            self.settle(&name);
            let result = match self.identity(&name) {
                Some(identity) => {
                    let mut seen = Observation::of(DeviceClass::Mfp, self.now);
                    seen.identity = identity;
                    seen.status = Status::Idle;
                    Ok(Box::new(seen))
                }
                None => Err(agent_core::LookFault { silence: true, why: label("no answer") }),
            };
            self.feed(Event::Looked { device: name, look: Look::Faults, result });
        }
    }

    fn identity(&self, name: &DeviceName) -> Option<Identity> {
        let truly = &self.devices[name];
        if truly.silent || truly.dead || truly.flashes_until.is_some() {
            return None;
        }
        let firmware = truly.versions.iter();
        let firmware = firmware
            .map(|(component, version)| Firmware { component: label(component), version: label(version) });
        Some(Identity {
            vendor: Some(label("Alpha Ltd")),
            model: Some(label("Alpha 2500")),
            firmware: firmware.collect(),
            ..Identity::default()
        })
    }

    fn settle(&mut self, name: &DeviceName) {
        let now = self.now;
        let truly = self.devices.get_mut(name).unwrap();
        if truly.flashes_until.is_some_and(|until| until <= now) {
            truly.flashes_until = None;
        }
    }

    /// Lets time pass.
    pub(crate) fn run_until(&mut self, end: UnixMillis) {
        while self.now < end {
            self.feed(Event::Tick);
            self.look();
            self.now = self.next_moment().min(end);
            let (ended, pending): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.pending).into_iter().partition(|(at, ..)| *at <= self.now);
            self.pending = pending;
            for (_, update, end) in ended {
                let cuts = self.cuts;
                self.feed(Event::Pushed { update, end });
                if self.cuts > cuts {
                    break;
                }
            }
        }
        self.feed(Event::Tick);
    }

    /// Half a minute on while a device is being updated, else when the core wants.
    fn next_moment(&self) -> UnixMillis {
        let soon = self.now.plus(MINUTE / 2);
        if !self.pending.is_empty()
            || self.core.state().updates.list.iter().any(|one| one.stage.is_under_way())
        {
            return soon;
        }
        let wake = self.core.next_wake().map_or(UnixMillis(i64::MAX), |(at, _)| at);
        wake.clamp(soon, self.now.plus(20 * MINUTE))
    }

    pub(crate) fn feed(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut effects = Vec::new();
            let before = self.core.state().updates.clone();
            self.core.step(self.now, event, &mut effects);
            let saves = effects.iter().filter(|effect| matches!(effect, Effect::Save(_))).count();
            assert!(saves <= 1 && (saves == 0 || matches!(effects[0], Effect::Save(_))), "save comes first");
            assert!(saves == 1 || self.core.state().updates == before, "a change was not saved");
            for effect in effects {
                if self.cut_after == Some(0) {
                    self.cut_after = None;
                    self.cuts += 1;
                    return self.start();
                }
                self.cut_after = self.cut_after.map(|left| left - 1);
                self.effects += 1;
                events.extend(self.execute(effect));
            }
        }
    }

    fn execute(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Save(bytes) => {
                self.saved = bytes;
                None
            }
            Effect::Post(outgoing) => {
                match outgoing.report {
                    Report::DeviceUpdates(updates) => self.sent.push(updates),
                    Report::Faults(faults) => {
                        for change in faults.changes {
                            let code = change.fault.code.as_str().to_owned();
                            self.faults.push((change.device, code, change.cleared_at.is_none()));
                        }
                    }
                    _ => {}
                }
                Some(Event::Posted { report: outgoing.sequence, result: PostResult::Done })
            }
            Effect::ReadModules { read, paths } => {
                let good = |path: &ModulePath| {
                    let modules = &self.core.state().installed.as_ref().unwrap().modules;
                    modules.iter().find(|module| module.path == *path).unwrap().digest
                };
                let digest = |path: &ModulePath| if self.image_is_bad { Digest([0; 32]) } else { good(path) };
                let files = paths.iter().map(|path| (path.clone(), digest(path))).collect();
                Some(Event::ModulesRead { read, found: ModulesFound { files, rom_version: label("1") } })
            }
            Effect::AskDevice { update, image } => {
                self.settle(&update.device);
                let answer = self.answer(&update, &image);
                Some(Event::DeviceAnswered { update, answer })
            }
            Effect::PushFirmware { update, image } => {
                self.push(update, &image);
                None
            }
            Effect::ActivateFirmware { update, .. } => Some(Event::Activated { update, result: Ok(()) }),
            Effect::ReadFirmware { update, .. } => {
                self.settle(&update.device);
                let identity = self.identity(&update.device);
                let idle = !self.devices[&update.device].busy;
                let shown = |identity: Identity| Shown {
                    version: identity.version_of(update.kind.as_str()).cloned(),
                    idle,
                };
                let result = identity.map(shown).ok_or_else(|| label("no answer"));
                Some(Event::FirmwareRead { update, result })
            }
            _ => None,
        }
    }

    fn answer(&mut self, update: &UpdateName, image: &Image) -> Readiness {
        let identity = self.identity(&update.device);
        let truly = self.devices.get_mut(&update.device).unwrap();
        if let Some(answer) = truly.answers.pop_front() {
            return answer;
        }
        match identity {
            None => Readiness::Silent(label("no answer")),
            Some(_) if truly.busy => Readiness::NotNow(label("printing"), None),
            Some(identity) => Readiness::Ready(image.entry.shown_by(&identity).cloned()),
        }
    }

    /// The saved state explains the transfer, and it is safe (PROTOCOL 18.6 to 18.8).
    fn push(&mut self, update: UpdateName, image: &Image) {
        let saved = State::decode(&self.saved).unwrap().updates;
        let of =
            saved.list.iter().find(|one| one.name() == update).expect("an update is saved before it is sent");
        assert_eq!(of.stage.state(), UpdateState::Transferring, "{update:?} is sent before it is saved");
        let others = saved.list.iter().filter(|one| one.device == update.device && one.stage.is_under_way());
        assert_eq!(others.count(), 1, "{}: two at once", update.device);
        assert!(self.now <= saved.plan().unwrap().plan.until, "{update:?} begins after its time");
        let truly = self.devices.get_mut(&update.device).unwrap();
        assert!(truly.flashes_until.is_none() && !truly.dead, "{update:?} is sent in the middle of flashing");
        let fate = truly.fates.pop_front().unwrap_or(Fate::Takes);
        let (component, version) = (image.entry.component.to_string(), image.entry.version.to_string());
        let later = self.now.plus(MINUTE);
        let away = self.now.plus(8 * MINUTE);
        let why = || label("connection lost");
        let sent = PushEnd::Sent { bytes: image.bytes, took: Duration::from_secs(30) };
        if fate != Fate::NotBegun && fate != Fate::Refuses {
            truly.pushes.push(self.now);
        }
        let end = match fate {
            Fate::Takes | Fate::UnclearTaken => {
                truly.versions.insert(component, version);
                truly.flashes_until = Some(away);
                if fate == Fate::Takes { sent } else { PushEnd::Unclear(image.bytes, why()) }
            }
            Fate::KeepsOld => {
                truly.flashes_until = Some(away);
                sent
            }
            Fate::Dies => {
                truly.dead = true;
                sent
            }
            Fate::Other => {
                truly.versions.insert(component, "recovery".to_owned());
                truly.flashes_until = Some(away);
                sent
            }
            Fate::NotBegun => PushEnd::NotBegun(why()),
            Fate::CutShort => PushEnd::Incomplete(1_000, why()),
            Fate::UnclearNot => PushEnd::Unclear(2_000, why()),
            Fate::Refuses => PushEnd::Refused(label("firmware by print job is disabled")),
        };
        self.pending.push((later, update, end));
    }

    pub(crate) fn update(&self, name: &str) -> &Update {
        let name = named(name, "main");
        self.core.state().updates.list.iter().find(|update| update.name() == name).unwrap()
    }

    pub(crate) fn state(&self, name: &str) -> UpdateState {
        self.update(name).stage.state()
    }

    pub(crate) fn why(&self, name: &str) -> Option<UpdateReason> {
        self.update(name).stage.why().map(|why| why.reason)
    }

    pub(crate) fn pushes(&self, name: &str) -> usize {
        self.devices[&device(name)].pushes.len()
    }

    pub(crate) fn fates(&mut self, name: &str, fates: &[Fate]) {
        self.devices.get_mut(&device(name)).unwrap().fates = fates.iter().copied().collect();
    }

    /// Rows of the manager's: the last word on each update.
    pub(crate) fn told(&self) -> BTreeMap<(String, String), (UpdateState, Option<UpdateReason>)> {
        let mut told = BTreeMap::new();
        for report in &self.sent {
            if report.all {
                told.clear();
            }
            for row in &report.updates {
                told.insert((row.device.to_string(), row.kind.to_string()), (row.state, row.reason));
            }
        }
        told
    }
}
