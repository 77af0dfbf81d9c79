//! The world: puts boxes, headquarters and post office on one time line, and checks what must hold for all
//! of them together.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use agent_core::{BundleFacts, Module};
use manager_core::rollout::{Gate, Times, Wave, WaveKind, WaveSize, assign};
use manager_core::{Campaign, CampaignId, CampaignState, Rollout, Settings, TargetState};
use shared::bundle::{FirmwareEntry, FirmwareHandler, ModuleKind};
use shared::glob::Glob;
use shared::limits::ORDER_LIFE;
use shared::message::{DevicePlan, UpdateState};
use shared::{AgentId, Digest, Label, ModulePath, SoftwareVersion, UnixMillis};

use crate::beside::FaultName;
use crate::boxes::{Bundles, Line, SimBox, agent_path};
use crate::dice::Dice;
use crate::flashed::KINDS;
use crate::headquarters::Headquarters;
use crate::persona::Persona;
use crate::planned::a_test;
use crate::post::{Habits, Post};

const T0: UnixMillis = UnixMillis(1_795_000_000_000);
const HQ_PERIOD: Duration = Duration::from_secs(600);

/// What happened in a run, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Simulated days.
    pub days: u64,
    /// Mails handed in.
    pub mails: u64,
    /// Bounces written.
    pub bounces: u64,
    /// Power cuts of boxes.
    pub power_cuts: u64,
    /// Installs committed.
    pub installs: u64,
    /// Effects executed by boxes.
    pub effects: u64,
    /// Times that a box began to use new keys of its own.
    pub key_changes: u64,
    /// Faults that boxes saw and saved.
    pub faults: u64,
    /// Readings that are at the manager.
    pub readings: u64,
    /// Times that a disk with readings was put back.
    pub put_back: u64,
    /// Installs that began when their schedules let them.
    pub in_time: u64,
    /// Tests that boxes ran.
    pub tests: u64,
    /// Orders that boxes put together of parts.
    pub joined: u64,
}

impl Figures {
    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        self.days += other.days;
        self.mails += other.mails;
        self.bounces += other.bounces;
        self.power_cuts += other.power_cuts;
        self.installs += other.installs;
        self.effects += other.effects;
        self.key_changes += other.key_changes;
        self.faults += other.faults;
        self.readings += other.readings;
        self.put_back += other.put_back;
        self.in_time += other.in_time;
        self.tests += other.tests;
        self.joined += other.joined;
    }
}

/// How updates of devices went in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flashings {
    /// Updates by how they ended.
    pub ends: BTreeMap<UpdateState, u64>,
    /// Transfers that reached a device.
    pub pushes: u64,
    /// Of these, such that the manager had to allow.
    pub allowed: u64,
    /// Power cuts of boxes.
    pub power_cuts: u64,
    /// Updates that the manager knows of.
    pub told: u64,
}

impl Flashings {
    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        for (state, times) in &other.ends {
            *self.ends.entry(*state).or_default() += times;
        }
        self.pushes += other.pushes;
        self.allowed += other.allowed;
        self.power_cuts += other.power_cuts;
        self.told += other.told;
    }
}

/// A simulated fleet.
#[derive(Debug)]
pub struct World {
    now: UnixMillis,
    boxes: BTreeMap<AgentId, SimBox>,
    hq: Headquarters,
    post: Post,
    bundles: Bundles,
    agenda: BTreeSet<(UnixMillis, Turn)>,
    /// Bundles bring firmware for devices.
    firmware: bool,
    /// Running digest of what happened: equal for equal seeds.
    trace: Digest,
}

fn version(n: u32) -> SoftwareVersion {
    SoftwareVersion::parse(&format!("{n}.0.00-0")).unwrap()
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Hq,
    Attacker,
    Box(AgentId),
}

impl World {
    /// A world of `count` boxes with personas and a post office rolled from the seed.
    #[must_use]
    pub fn seeded(seed: u64, count: usize) -> Self {
        let mut dice = Dice::new(seed);
        let habits = Habits::roll(&mut dice);
        let personas = (0..count).map(|_| Persona::roll(&mut dice)).collect();
        let mut world = Self::new(seed, personas, habits);
        world.hq.crashes = dice.below(100);
        world
    }

    /// A fleet whose devices get firmware, over whatever the seed brings: lossy mail, power cuts, people, devices that take it, refuse it, break off
    /// or never come back (PROTOCOL 18). Gives how the updates ended, and what happened.
    ///
    /// # Panics
    /// A device got two transfers at once, or one out of its time, in the middle of flashing or without a proof; or what is said of it is not so.
    #[must_use]
    pub fn flash(seed: u64, count: usize) -> Flashings {
        let day = Duration::from_secs(86_400);
        let mut dice = Dice::new(seed);
        let habits = Habits::roll(&mut dice);
        let mut personas: Vec<Persona> = (0..count).map(|_| Persona::roll(&mut dice)).collect();
        personas.iter_mut().for_each(|persona| persona.devices = 1 + usize::try_from(dice.below(4)).unwrap());
        let mut world = Self::new(seed, personas, habits);
        world.firmware = true;
        world.run_for(2 * day);
        world.start_campaign(1, 3);
        let digest = Digest::of(&1u32.to_be_bytes());
        let mut plan =
            DevicePlan::for_all(digest, world.now, world.now.plus(21 * day), Duration::from_secs(1_800));
        plan.defer_until = Some(world.now.plus(14 * day));
        plan.at_once = u16::try_from(1 + dice.below(3)).unwrap();
        for round in 0..9 {
            world.hq.plan_devices(world.now, &plan, round % 3 == 2);
            world.run_for(2 * day);
            if round == 4 {
                world.boxes.values_mut().for_each(|site| site.flashed.repair());
            }
        }
        world.mend_post();
        world.run_for(5 * day);
        // What was lost on its way is answered again.
        world.hq.plan_devices(world.now, &plan, false);
        world.run_for(2 * day);
        let mut flashings = Flashings::default();
        for site in world.boxes.values() {
            flashings.pushes += site.flashed.pushes;
            flashings.allowed += site.flashed.allowed;
            flashings.power_cuts += site.power_cuts;
            if site.persona.off {
                continue;
            }
            for (state, times) in site.check_updates(world.now) {
                *flashings.ends.entry(state).or_default() += times;
            }
            flashings.told += world.hq.updates_of(&site.id).len() as u64;
        }
        flashings
    }

    /// A world of these boxes, A0001 and on.
    #[must_use]
    pub fn new(seed: u64, personas: Vec<Persona>, habits: Habits) -> Self {
        let dice = |stream: u64| Dice::new(seed.wrapping_mul(1_000_003).wrapping_add(stream));
        let ids: Vec<AgentId> =
            (1..=personas.len()).map(|n| AgentId::parse(&format!("A{n:04}")).unwrap()).collect();
        let dead = ids.iter().zip(&personas).map(|(id, p)| (id.clone(), p.dead_address));
        let hq = Headquarters::new(dead.collect::<Vec<_>>().into_iter(), dice(1), T0);
        let mut world = Self {
            now: T0,
            boxes: BTreeMap::new(),
            hq,
            post: Post::new(habits, dice(2)),
            bundles: BTreeMap::new(),
            agenda: BTreeSet::from([(T0, Turn::Hq), (T0, Turn::Attacker)]),
            firmware: false,
            trace: Digest([0; 32]),
        };
        for (n, (id, persona)) in ids.into_iter().zip(personas).enumerate() {
            let mut site = SimBox::new(id.clone(), persona, T0, dice(100 + n as u64));
            site.start(T0, &mut world.post, &world.bundles);
            world.agenda.insert((T0, Turn::Box(id.clone())));
            world.boxes.insert(id, site);
        }
        world
    }

    /// Starts a campaign that brings version `n`.0.00-0 to all boxes; three modules, a script, and with each even version an
    /// agent.
    pub fn start_campaign(&mut self, n: u32, retries: u32) {
        self.start_campaign_at(n, retries, Times::default());
    }

    /// The same, with times that boxes have to keep to.
    pub fn start_campaign_at(&mut self, n: u32, retries: u32, times: Times) {
        let version = version(n);
        let module = |name: &str| Module {
            name: Label::lossy(name),
            version: Label::lossy(&n.to_string()),
            date: Label::lossy("2026-01-01"),
            path: ModulePath::parse(&format!("bin/{name}")).unwrap(),
            mode: 0o755,
            bytes: 1,
            digest: Digest::of(format!("{name}{n}").as_bytes()),
            kind: ModuleKind::Resident,
        };
        let mut modules = ["a", "b", "c"].map(module).to_vec();
        if n.is_multiple_of(2) {
            modules.push(Module { path: agent_path(), kind: ModuleKind::Agent, ..module("agent") });
        }
        let mut firmware = vec![];
        for kind in KINDS.iter().filter(|_| self.firmware) {
            modules.push(Module { kind: ModuleKind::Firmware, bytes: 3_000_000, ..module(kind) });
            let (name, version) = (Label::lossy(kind), Label::lossy(&n.to_string()));
            let model = Glob::new(Label::lossy("Alpha*"));
            firmware.push(FirmwareEntry::new(name.clone(), name, model, version, FirmwareHandler::Raw9100));
        }
        let digest = Digest::of(&n.to_be_bytes());
        let facts = BundleFacts {
            software_version: version.clone(),
            from: vec![],
            classes: vec![],
            has_script: true,
            unpacked_bytes: modules.len() as u64,
            modules,
            test: Some(a_test()),
            firmware,
        };
        self.bundles.insert(digest, facts);
        let id = i64::try_from(self.hq.store.campaigns.len()).unwrap() + 1;
        self.hq.start_campaign(Campaign {
            id: CampaignId(id),
            name: Label::default(),
            bundle: manager_core::BundleFacts {
                digest,
                software_version: version,
                from: vec![],
                classes: vec![],
                test: None,
            },
            rollout: Rollout { times, ..Rollout::at_once() },
            settings: Settings {
                settle: Duration::from_secs(1800),
                reply_timeout: Duration::from_secs(6 * 3600),
                retries,
                order_life: ORDER_LIFE,
            },
            state: CampaignState::Running,
            created: self.now,
            targets: BTreeMap::new(),
        });
    }

    /// The same in waves of these sizes, each behind this gate.
    ///
    /// # Panics
    /// Never: a campaign was started.
    pub fn start_rollout(&mut self, n: u32, sizes: &[WaveSize], gate: Gate) {
        self.start_campaign(n, 2);
        let campaign = self.hq.store.campaigns.last_mut().unwrap();
        let agents: Vec<AgentId> = campaign.targets.keys().cloned().collect();
        let waves = assign(&campaign.bundle.digest.0, &agents, sizes);
        let count = waves.iter().max().map_or(0, |last| last + 1);
        campaign.rollout.waves = (0..count).map(|_| Wave::new(WaveKind::Customers, gate)).collect();
        for (target, wave) in campaign.targets.values_mut().zip(waves) {
            target.wave = wave;
        }
    }

    /// How a campaign stands.
    #[must_use]
    pub fn state(&self, campaign: usize) -> CampaignState {
        self.hq.store.campaigns[campaign].state
    }

    /// Targets of a campaign that were mailed its bundle.
    #[must_use]
    pub fn reached(&self, campaign: usize) -> usize {
        self.hq.store.campaigns[campaign].targets.values().filter(|target| target.attempts > 0).count()
    }

    /// Waves of a campaign that have begun.
    #[must_use]
    pub fn waves_begun(&self, campaign: usize) -> usize {
        let waves = &self.hq.store.campaigns[campaign].rollout.waves;
        waves.iter().filter(|wave| wave.opened_at.is_some()).count()
    }

    /// Boxes that what they switched to has killed.
    #[must_use]
    pub fn dead(&self) -> usize {
        self.boxes.values().filter(|site| site.persona.bricks && site.persona.off).count()
    }

    /// Lets time pass.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now.plus(time);
        while let Some((at, turn)) = self.agenda.first().cloned().filter(|(at, _)| *at <= end) {
            self.agenda.pop_first();
            self.now = at;
            self.post.deliver(at);
            let again = self.take_turn(&turn);
            self.agenda.insert((at.plus(again), turn));
        }
        self.now = end;
    }

    fn take_turn(&mut self, turn: &Turn) -> Duration {
        match turn {
            Turn::Hq => {
                self.hq.pass(self.now, &mut self.post);
                self.check_verdicts();
                self.check_keys();
                HQ_PERIOD
            }
            Turn::Attacker => {
                self.post.attack(self.now);
                Duration::from_secs(3600)
            }
            Turn::Box(id) => {
                let site = self.boxes.get_mut(id).unwrap();
                site.poll(self.now, &mut self.post, &self.bundles);
                let line = format!("{} {} {} {}", self.now.0, id, site.effects, self.post.mails);
                self.trace = Digest::of(&[self.trace.0.as_slice(), line.as_bytes()].concat());
                site.persona.poll
            }
        }
    }

    /// PROTOCOL 8.3: `verified` only if the box said so truly.
    fn check_verdicts(&self) {
        for (at, campaign) in self.hq.store.campaigns.iter().enumerate() {
            for agent in self.hq.store.in_state(at, TargetState::Verified) {
                let truly = &self.boxes[&agent].true_versions;
                let goal = &campaign.bundle.software_version;
                assert!(truly.contains(goal), "{agent} is verified for {goal}, which it never had");
            }
        }
    }

    /// PROTOCOL 13.4: whatever the manager seals now, its box can open.
    fn check_keys(&self) {
        for (agent, site) in &self.boxes {
            let key = self.hq.key_of(agent);
            assert!(site.opens(key), "{agent} is locked out: the manager has {key:?}");
        }
    }

    /// Runs until no campaign acts any more.
    ///
    /// # Panics
    /// It takes longer than an order can live, plus a month.
    pub fn run_until_settled(&mut self) {
        let limit = self.now.plus(ORDER_LIFE).plus(Duration::from_secs(30 * 86_400));
        while self.hq.store.is_busy() {
            assert!(self.now < limit, "a campaign does not end: {:?}", self.stuck());
            self.run_for(Duration::from_secs(6 * 3600));
        }
    }

    fn stuck(&self) -> Vec<String> {
        let targets = self.hq.store.campaigns.iter().flat_map(|c| &c.targets);
        targets.filter(|(_, t)| !t.state.is_end()).map(|(agent, t)| format!("{agent} {}", t.state)).collect()
    }

    /// The post office mends its ways; what is on its way still comes.
    pub fn mend_post(&mut self) {
        self.post.habits = Habits::good();
        self.hq.crashes = 0;
    }

    /// Devices change no more, so that all that has changed is told in the end.
    pub fn let_devices_rest(&mut self) {
        self.boxes.values_mut().for_each(|site| site.beside.at_rest = true);
    }

    /// The disk with a box's readings is put back to a copy without the last ones.
    ///
    /// # Panics
    /// There are not more readings than that.
    pub fn put_disk_back(&mut self, agent: &AgentId, lacks: u64) {
        let site = self.boxes.get_mut(agent).unwrap();
        assert!(site.beside.put_disk_back(lacks), "{agent} has too few readings");
        site.start(self.now, &mut self.post, &self.bundles);
    }

    /// Time passes for a box, and then its whole disk is put back to what it was before.
    pub fn put_whole_disk_back_after(&mut self, agent: &AgentId, time: Duration) {
        let copy = self.boxes[agent].copy_of_disk();
        self.run_for(time);
        let site = self.boxes.get_mut(agent).unwrap();
        site.put_whole_disk_back(&copy, self.now, &mut self.post, &self.bundles);
    }

    /// The post office has these faults from now on.
    pub fn set_habits(&mut self, habits: Habits) {
        self.post.habits = habits;
    }

    /// Runs until these boxes have told all of their devices, which are at rest.
    ///
    /// # Panics
    /// It takes longer than several days, with a good post office.
    pub fn run_until_devices_are_told(&mut self, agents: &BTreeSet<AgentId>) {
        let limit = self.now.plus(Duration::from_secs(21 * 86_400));
        while let Some(agent) = agents.iter().find(|agent| !self.devices_are_told(agent)) {
            let watch = &self.boxes[agent].core.state().watch;
            assert!(self.now < limit, "{agent} does not tell of its devices: {watch:?}");
            self.run_for(Duration::from_secs(6 * 3600));
        }
    }

    fn devices_are_told(&self, agent: &AgentId) -> bool {
        let (site, behind) = (&self.boxes[agent], self.hq.behind(agent));
        let telling = &site.core.state().watch.telling;
        let told = telling.changes.is_empty() && telling.gathering.is_none();
        told && site.beside.on_disk().all(|(mark, _)| behind.readings.contains_key(&mark))
    }

    /// PROTOCOL 14: all that a box has saved of its devices has come to the manager, once, and nothing else has.
    ///
    /// # Panics
    /// Something is missing, or is there twice, or never was.
    pub fn check_devices(&self, agent: &AgentId) {
        let (site, behind) = (&self.boxes[agent], self.hq.behind(agent));
        let watch = &site.core.state().watch;
        self.check_faults(agent);
        assert!(watch.telling.changes.is_empty() && watch.telling.reports.is_empty(), "{agent}: {watch:?}");
        let open = watch.devices.values().map(|device| device.open.len()).sum::<usize>();
        let last = behind.faults.values().filter(|end| end.is_none()).count();
        assert!(open == last || !site.beside.forgotten().is_empty(), "{agent}: open faults");
        let mut said = BTreeSet::new();
        for (mark, known) in &behind.readings {
            let made = site.beside.made(*mark, known.linked.digest);
            assert_eq!(made, Some(&known.said), "{agent}: reading {mark:?}");
            // Who cannot know where the chains part says again what is not acknowledged.
            let again = !said.insert(&known.said);
            assert!(!again || site.beside.put_back > 0, "{agent}: {:?} is billed twice", known.said);
        }
        let lost: Vec<_> = site.beside.kept().iter().filter(|kept| !said.contains(kept)).collect();
        assert!(lost.is_empty(), "{agent}: not at the manager: {lost:?}");
        for (mark, digest) in site.beside.on_disk() {
            let known = behind.readings.get(&mark).map(|known| known.linked.digest);
            assert_eq!(known, Some(digest), "{agent}: reading {mark:?} is not at the manager");
        }
        let mut next = BTreeMap::new();
        for mark in behind.readings.keys() {
            let expected = next.entry(mark.chain).or_insert(1);
            assert_eq!(mark.index, *expected, "{agent}: a gap in {mark:?}");
            *expected += 1;
        }
        let put_back = site.beside.put_back > 0;
        assert!(
            behind.broken == 0 && (put_back || behind.refused == 0),
            "{agent}: broken or refused readings"
        );
        assert!(put_back || next.len() <= 1, "{agent}: {} chains", next.len());
    }

    /// The manager knows each fault that the box knows, and no other, but for those that the box has forgotten.
    fn check_faults(&self, agent: &AgentId) {
        let (beside, behind) = (&self.boxes[agent].beside, self.hq.behind(agent));
        let forgotten = |name: &FaultName| beside.forgotten().contains(name);
        for (name, end) in beside.faults() {
            let known = behind.faults.get(name);
            assert!(
                known == Some(end) || (known.is_some() && forgotten(name)),
                "{agent}: {name:?} {known:?}"
            );
        }
        let more = behind.faults.keys().find(|name| !beside.faults().contains_key(*name) && !forgotten(name));
        assert_eq!(more, None, "{agent}: a fault that never was");
    }

    /// The operator's retry of a campaign.
    pub fn retry(&mut self, campaign: usize) {
        self.hq.store.campaigns[campaign].retry();
    }

    /// The operator's cancel of a campaign.
    pub fn cancel(&mut self, campaign: usize) {
        self.hq.store.campaigns[campaign].cancel();
    }

    /// Agents of a campaign in a state.
    #[must_use]
    pub fn in_state(&self, campaign: usize, state: TargetState) -> BTreeSet<AgentId> {
        self.hq.store.in_state(campaign, state)
    }

    /// Boxes that can do what they are told in the end.
    #[must_use]
    pub fn recovering(&self) -> BTreeSet<AgentId> {
        self.boxes.values().filter(|b| b.persona.recovers()).map(|b| b.id.clone()).collect()
    }

    /// The operator changes the order key, and drops the old one.
    pub fn change_order_key(&mut self) {
        self.hq.change_order_key();
    }

    /// The operator asks all agents for new keys of their own.
    pub fn ask_for_keys(&mut self) {
        self.hq.ask_for_keys(self.now);
    }

    /// True if the manager and this box have the same keys in use, and nothing is open.
    #[must_use]
    pub fn keys_are_settled(&self, agent: &AgentId) -> bool {
        let keys = &self.boxes[agent].core.state().keys;
        let same = keys.current == self.hq.key_of(agent);
        same && keys.next.is_none() && keys.asked.is_none() && !self.hq.waits_for_keys(agent)
    }

    /// Takes a box's line to the mail servers down, or up again.
    pub fn set_line(&mut self, agent: &AgentId, line: Line) {
        self.boxes.get_mut(agent).unwrap().line = line;
    }

    /// Somebody keeps all orders back (the freeze attack), or lets them through again.
    pub fn keep_orders_back(&mut self, keeps: bool) {
        self.post.keeps_orders = keeps;
    }

    /// Agents that have said that heartbeats stay out.
    #[must_use]
    pub fn unheard(&self) -> &BTreeSet<AgentId> {
        &self.hq.store.unheard
    }

    /// Reports that wait in a box.
    #[must_use]
    pub fn reports_waiting(&self, agent: &AgentId) -> usize {
        self.boxes[agent].core.state().outbox.waiting.len()
    }

    /// How many agents have enrolled.
    #[must_use]
    pub fn enrolled_count(&self) -> usize {
        self.hq.enrolled_count()
    }

    /// Bundles go in parts from now on.
    pub fn send_in_parts(&mut self) {
        self.hq.store.in_parts = true;
    }

    /// Mails with parts that the relay has taken.
    #[must_use]
    pub fn parts_mailed(&self) -> u64 {
        self.hq.parts_mailed
    }

    /// Install mails that the relay has taken.
    #[must_use]
    pub fn installs_mailed(&self) -> u64 {
        self.hq.installs_mailed
    }

    /// The operator has all agents run the test of version `n`.0.00-0.
    pub fn order_tests(&mut self, n: u32) {
        self.hq.order_tests(self.now, &version(n));
    }

    /// Times of a campaign: none mostly, else an update time, the sites' nights, or bundles that are asked for.
    fn times(&self, seed: u64) -> Times {
        let hours = |n: u64| Some(self.now.plus(Duration::from_secs(n * 3600)));
        let times = Times { expires_at: hours(72), ..Times::default() };
        match seed % 8 {
            1 => Times { install_at: hours(6), defer_max_ms: Some(8 * 3_600_000), ..times },
            3 => Times { windows: true, defer_max_ms: Some(30 * 3_600_000), ..times },
            5 => Times { install_at: hours(6), fetch: true, ..times },
            _ => Times::default(),
        }
    }

    /// True if the box has exactly the files of version `n`.0.00-0.
    #[must_use]
    pub fn has_version(&self, agent: &AgentId, n: u32) -> bool {
        self.boxes[agent].has(&self.bundles[&Digest::of(&n.to_be_bytes())])
    }

    /// Cuts the power of a box after so many more of its effects.
    pub fn cut_power_after(&mut self, agent: &AgentId, effects: u64) {
        self.boxes.get_mut(agent).unwrap().cut_after = Some(effects);
    }

    /// The whole life of a fleet under a seed: enrolment, two campaigns over each other, a cancelled one, and
    /// then better times, in which every box that can must become verified.
    ///
    /// # Panics
    /// Something that must hold did not.
    #[must_use]
    pub fn live(seed: u64, count: usize) -> (Figures, Digest) {
        let mut world = Self::seeded(seed, count);
        world.hq.store.in_parts = seed % 3 == 1;
        world.run_for(Duration::from_secs(2 * 86_400));
        world.start_campaign_at(1, 2, world.times(seed));
        world.run_for(Duration::from_secs(86_400));
        world.start_campaign(2, 1);
        world.ask_for_keys();
        world.run_until_settled();
        world.ask_for_keys();
        world.order_tests(2);
        world.start_campaign(3, 0);
        world.run_for(Duration::from_secs(3600 * (1 + seed % 24)));
        // The order key was stolen, say; what it has signed and is on its way counts no more.
        world.change_order_key();
        world.cancel(2);
        world.run_until_settled();

        world.mend_post();
        world.let_devices_rest();
        world.ask_for_keys();
        // Old mail arrives, and what boxes owe is sent.
        world.run_for(Duration::from_secs(6 * 86_400));
        let update_time = Some(world.now.plus(Duration::from_secs(3600 * (seed % 5))));
        world.start_campaign_at(4, 3, Times { install_at: update_time, ..Times::default() });
        for _ in 0..6 {
            world.run_until_settled();
            world.retry(3);
        }
        world.run_until_settled();
        let tests = seed.is_multiple_of(2);
        if tests {
            world.order_tests(4);
            // Long enough for who looks at the mailbox once a day.
            world.run_for(Duration::from_secs(26 * 3600));
        }
        world.run_until_devices_are_told(&world.recovering());
        let verified = world.in_state(3, TargetState::Verified);
        for agent in world.recovering() {
            assert!(
                verified.contains(&agent),
                "{agent} is not verified in the end: {:?}",
                world.boxes[&agent].persona
            );
            assert!(world.has_version(&agent, 4));
            let site = &world.boxes[&agent];
            let passed = site.tests.passed(&version(4), site.persona.power_cuts > 0);
            assert!(passed || !tests, "{agent} has not passed its test: {site:?}");
            let keys = &world.boxes[&agent].core.state().keys;
            assert!(world.keys_are_settled(&agent), "{agent}: keys are not settled in the end: {keys:?}");
            world.check_devices(&agent);
        }
        world.check_end();
        (world.figures(), world.trace)
    }

    /// What must hold in the end.
    ///
    /// # Panics
    /// It does not.
    pub fn check_end(&self) {
        self.boxes.values().for_each(SimBox::check_end);
    }

    /// What happened so far.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let sum = |of: fn(&SimBox) -> u64| self.boxes.values().map(of).sum();
        Figures {
            days: self.now.since(T0).as_secs() / 86_400,
            mails: self.post.mails,
            bounces: self.post.bounces,
            power_cuts: sum(|b| b.power_cuts),
            installs: sum(|b| b.installs),
            effects: sum(|b| b.effects),
            key_changes: sum(|b| b.key_changes),
            faults: sum(|b| b.beside.faults().len() as u64),
            readings: self.boxes.keys().map(|agent| self.hq.behind(agent).readings.len() as u64).sum(),
            put_back: sum(|b| b.beside.put_back),
            in_time: sum(|b| b.in_time),
            tests: sum(|b| b.tests.ran),
            joined: sum(|b| b.joined),
        }
    }
}
