//! The core against a small fake disk: mails come twice and late, the power goes between any two effects,
//! scripts fail. Whatever happens, an order commits at most once, nothing is done that the saved state does
//! not explain, and in the end the files are all old or all new.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use std::collections::{BTreeMap, VecDeque};

use agent_core::{
    AgentCore, BillDays, BootId, BundleFacts, Disposal, EXIT_PROVEN, Effect, Enrolment, EnvelopeFacts, Event,
    InUse, KeyName, Lease, LeaseEnd, MailHandle, Module, ModulesFound, OpenFault, Payload, PostResult,
    Profile, Program, ReadFor, Rules, ScriptEnd, State,
};
use proptest::prelude::*;
use shared::bundle::ModuleKind;
use shared::keys::{OpeningKey, SigningKey};
use shared::limits::{ORDER_LIFE, ORDER_LIFE_MAX};
use shared::message::{
    CancelOrder, CancelResult, EnrolRequest, Enrolled, Heartbeat, InstallOrder, Order, Outcome, OutputTail,
    Phase, Refusal, Report, Reported,
};
use shared::trust::Trust;
use shared::{AgentId, Digest, EnvelopeId, Label, MailAddress, ModulePath, SoftwareVersion, UnixMillis};

const T0: UnixMillis = UnixMillis(1_750_000_000_000);

/// Whom the agent believes.
fn trust() -> Trust {
    let key = |n| SigningKey::from_seed(&[n; 32]).verifying_key();
    let seal = OpeningKey::from_seed(&[3; 32]).sealing_key();
    Trust::new(1, T0, vec![key(1)], vec![key(2)], 1, seal)
}

/// A box: what is on its disk, in its mailbox, and what went out.
struct Site {
    core: AgentCore,
    saved: Vec<u8>,
    now: UnixMillis,
    mailbox: BTreeMap<u64, (EnvelopeFacts, Order)>,
    next_mail: u64,
    files: BTreeMap<ModulePath, Digest>,
    backups: BTreeMap<EnvelopeId, BTreeMap<ModulePath, Option<Digest>>>,
    /// Exit code for a run of the script, by phase.
    exits: BTreeMap<Phase, i32>,
    mail_works: bool,
    sent: BTreeMap<u64, Report>,
    transcript: Vec<String>,
    /// Effects until the power goes.
    cut_after: Option<u32>,
    /// Runs of the box's system so far.
    boots: u32,
    /// Whether the box does what it is told, or only the agent starts again with a cut.
    restarts: bool,
    /// Looks that find a lease.
    leased: u32,
    /// Bundles bring an agent, whose trial ends with this exit code.
    agents: Option<i32>,
    /// Digest of the program that runs.
    program: Digest,
}

fn profile() -> Profile {
    Profile {
        agent: AgentId::parse("A1").unwrap(),
        classes: vec![],
        rules: Rules::default(),
        counters_every: None,
        bill: BillDays::default(),
    }
}

fn version(n: u64) -> SoftwareVersion {
    SoftwareVersion::parse(&format!("{n}-0")).unwrap()
}

fn id(n: u64) -> EnvelopeId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    EnvelopeId(bytes)
}

fn module(name: &str, n: u64) -> Module {
    Module {
        name: Label::lossy(name),
        version: Label::lossy(&n.to_string()),
        date: Label::lossy("2026-01-01"),
        path: ModulePath::parse(&format!("bin/{name}")).unwrap(),
        mode: 0o755,
        bytes: 1,
        digest: Digest::of(format!("{name}{n}").as_bytes()),
        kind: ModuleKind::Resident,
    }
}

fn modules(n: u64) -> Vec<Module> {
    ["a", "b", "c"].map(|name| module(name, n)).to_vec()
}

/// The agent of a bundle.
fn agent(n: u64) -> Module {
    Module { kind: ModuleKind::Agent, ..module("agent", n) }
}

/// Order `n` installs version `n`.
fn bundle_of(order: EnvelopeId) -> u64 {
    u64::from_be_bytes(order.0[..8].try_into().unwrap())
}

impl Site {
    fn new() -> Self {
        let request = EnrolRequest {
            agent: profile().agent,
            secret: [7; 32],
            sign_key: [1; 32],
            seal_key: [2; 32],
            mail: MailAddress::parse("a1@lab.test").unwrap(),
            agent_version: Label::lossy("0"),
        };
        let state = State::enrolling(request, T0, trust());
        let mut it = Self {
            saved: state.encode(),
            core: AgentCore::new(profile(), state),
            now: T0,
            mailbox: BTreeMap::new(),
            next_mail: 0,
            files: BTreeMap::from([(agent(0).path, agent(0).digest)]),
            backups: BTreeMap::new(),
            exits: BTreeMap::new(),
            mail_works: true,
            sent: BTreeMap::new(),
            transcript: vec![],
            cut_after: None,
            boots: 0,
            restarts: true,
            leased: 0,
            agents: None,
            program: agent(0).digest,
        };
        it.start();
        it
    }

    /// The modules of version `n`.
    fn modules(&self, n: u64) -> Vec<Module> {
        let mut modules = modules(n);
        modules.extend(self.agents.map(|_| agent(n)));
        modules
    }

    fn mail(&mut self, n: u64, order: Order) {
        self.mail_living(n, T0, ORDER_LIFE, order);
    }

    fn mail_made(&mut self, n: u64, created: UnixMillis, order: Order) {
        self.mail_living(n, created, ORDER_LIFE_MAX, order);
    }

    fn mail_living(&mut self, n: u64, created: UnixMillis, life: core::time::Duration, order: Order) {
        let facts = EnvelopeFacts {
            id: id(n),
            created,
            expires: created.plus(life),
            sequence: n,
            body_bytes: 10,
            signer: trust().order_keys[0].key_id(),
        };
        self.next_mail += 1;
        self.mailbox.insert(self.next_mail, (facts, order));
    }

    fn install(&mut self, n: u64) {
        let bundle = Digest::of(&n.to_be_bytes());
        let software_version = version(n);
        let order = InstallOrder { bundle, bundle_bytes: 9, software_version, scheduled: false, delta: None };
        self.mail(n, Order::Install(order));
    }

    /// The power is back: what starts is the program that is there.
    fn start(&mut self) {
        self.program = self.files[&agent(0).path];
        self.core = AgentCore::new(profile(), State::decode(&self.saved).unwrap());
        let boot = BootId(Label::lossy(&self.boots.to_string()));
        let (digest, file) = (self.program, Some(agent(0).path));
        let program = Program { digest, file, place: Label::default() };
        self.feed(Event::Started { recovered: false, boot, program });
    }

    fn poll(&mut self) {
        for mail in self.mailbox.keys().copied().collect::<Vec<_>>() {
            let Some((facts, _)) = self.mailbox.get(&mail) else { continue };
            let event = Event::Envelope { mail: MailHandle(mail), facts: *facts };
            self.feed(event);
        }
        self.feed(Event::Tick);
    }

    /// Lets time pass in steps that the core asks for.
    fn run_for_hours(&mut self, hours: i64) {
        let end = UnixMillis(self.now.0 + hours * 3_600_000);
        while self.now < end {
            self.poll();
            let wake = self.core.next_wake().map_or(end, |(at, _)| at);
            self.now = wake.clamp(UnixMillis(self.now.0 + 1_000), UnixMillis(self.now.0 + 600_000)).min(end);
        }
        self.poll();
    }

    fn feed(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut effects = Vec::new();
            let before = self.core.state().encode();
            self.core.step(self.now, event, &mut effects);
            let saves = effects.iter().filter(|e| matches!(e, Effect::Save(_))).count();
            assert!(saves <= 1 && (saves == 0 || matches!(effects[0], Effect::Save(_))), "save comes first");
            if saves == 0 {
                assert_eq!(self.core.state().encode(), before, "a change was not saved");
            }
            for effect in effects {
                if let Some(left) = &mut self.cut_after {
                    if *left == 0 {
                        self.cut_after = None;
                        self.transcript.push("power cut".to_owned());
                        self.boots += u32::from(self.restarts);
                        return self.start();
                    }
                    *left -= 1;
                }
                self.transcript.push(effect.name().to_owned());
                if let Effect::RestartBox { order } = effect {
                    self.explained(order, "awaiting-restart");
                    if self.restarts {
                        self.boots += 1;
                        return self.start();
                    }
                    continue;
                }
                let starts = matches!(effect, Effect::Adopt { start: true, .. } | Effect::Become { .. });
                events.extend(self.execute(effect));
                if starts {
                    return self.start();
                }
            }
        }
    }

    fn facts(&self, order: EnvelopeId) -> BundleFacts {
        let n = bundle_of(order);
        BundleFacts {
            software_version: version(n),
            from: vec![],
            classes: vec![],
            has_script: true,
            modules: self.modules(n),
            unpacked_bytes: 3,
            test: None,
            firmware: vec![],
        }
    }

    #[allow(clippy::too_many_lines, reason = "one arm for each effect")]
    fn execute(&mut self, effect: Effect) -> Option<Event> {
        Some(match effect {
            Effect::Save(bytes) => {
                self.saved = bytes;
                return None;
            }
            Effect::Tidy { jobs, .. } => {
                self.backups.retain(|order, _| jobs.contains(order));
                return None;
            }
            Effect::Open { mail } => self.open(mail),
            Effect::Dispose { mail, disposal } => {
                let (facts, _) = self.mailbox.remove(&mail.0).unwrap();
                if disposal == Disposal::Done {
                    let saved = State::decode(&self.saved).unwrap();
                    assert!(
                        saved.fresh.seen.contains_key(&facts.id),
                        "a mail went before its order was saved"
                    );
                }
                return None;
            }
            Effect::Fetch { .. }
            | Effect::Leave { .. }
            | Effect::Forget { .. }
            | Effect::KeepReading { .. }
            | Effect::LookAgain { .. }
            | Effect::CompareReading { .. }
            | Effect::BeginChain { .. }
            | Effect::TidyParts { .. }
            | Effect::DropReadings { .. } => return None,
            Effect::MakeKeys { .. }
            | Effect::DropKeys { .. }
            | Effect::RunTest { .. }
            | Effect::AskDevice { .. }
            | Effect::PushFirmware { .. }
            | Effect::ActivateFirmware { .. }
            | Effect::ReadFirmware { .. }
            | Effect::DropDeviceWish { .. }
            | Effect::DropWish { .. }
            | Effect::KeepPart { .. }
            | Effect::Join { .. } => panic!("nobody has asked for this"),
            Effect::Inspect { order } => Event::Inspected { order, result: Ok(Box::new(self.facts(order))) },
            Effect::ReadModules { read, paths } => {
                if read == ReadFor::Reports {
                    let begun = State::decode(&self.saved).unwrap().active.is_some_and(|i| i.has_begun());
                    assert!(!begun, "files are read for a report in the middle of an install");
                }
                let files = paths.iter().filter_map(|p| Some((p.clone(), *self.files.get(p)?))).collect();
                Event::ModulesRead { read, found: ModulesFound { files, rom_version: Label::lossy("1") } }
            }
            Effect::ReadUse { order, .. } => {
                self.explained(order, "looking");
                Event::UseRead { order, found: self.in_use() }
            }
            Effect::Stage { order, .. } => Event::Staged { order, result: Ok(()) },
            Effect::RunScript { order, phase, .. } => {
                self.explained(order, phase.as_str());
                let end = ScriptEnd::Exit(self.exits.get(&phase).copied().unwrap_or(0));
                Event::ScriptEnded { order, phase, end, output: OutputTail::default() }
            }
            Effect::Switch { order, modules } => {
                self.explained(order, "switch");
                for m in &modules {
                    let old = self.files.get(&m.path).copied();
                    self.backups.entry(order).or_default().entry(m.path.clone()).or_insert(old);
                    if m.kind != ModuleKind::Agent {
                        self.files.insert(m.path.clone(), m.digest);
                    }
                }
                Event::Switched { order, result: Ok(()) }
            }
            Effect::Restore { order, switched } => {
                assert!(!switched || self.backups.contains_key(&order), "what the switch kept is gone");
                for (path, old) in self.backups.get(&order).cloned().unwrap_or_default() {
                    match old {
                        Some(digest) => self.files.insert(path, digest),
                        None => self.files.remove(&path),
                    };
                }
                Event::Restored { order, result: Ok(()) }
            }
            Effect::Try { order, module } => self.try_agent(order, &module),
            Effect::Adopt { order, module, start } => self.adopt(order, module, start),
            Effect::RestartBox { .. } | Effect::Become { .. } => return None,
            Effect::Cleanup { order } => {
                self.backups.remove(&order);
                return None;
            }
            Effect::Post(outgoing) => {
                let saved = State::decode(&self.saved).unwrap();
                let waits = saved.outbox.waiting.iter().any(|q| q.sequence == outgoing.sequence);
                assert!(waits, "a report was posted before it was saved");
                let report = outgoing.sequence;
                if !self.mail_works {
                    let result = PostResult::Later(Label::lossy("down"));
                    return Some(Event::Posted { report, result });
                }
                let older = self.sent.insert(report.0, outgoing.report.clone());
                assert!(older.is_none_or(|o| o == outgoing.report), "one number, two reports");
                Event::Posted { report, result: PostResult::Done }
            }
        })
    }

    /// PROTOCOL 6.8
    fn try_agent(&self, order: EnvelopeId, module: &Module) -> Event {
        self.explained(order, "proving");
        assert_ne!(self.program, module.digest, "what runs is tried");
        assert_eq!(self.files[&module.path], self.program, "what is not proven is where it would be started");
        let end = ScriptEnd::Exit(self.agents.unwrap());
        Event::Tried { order, end, output: OutputTail::default() }
    }

    fn adopt(&mut self, order: EnvelopeId, module: Module, start: bool) -> Event {
        self.explained(order, "adopting");
        assert_eq!(start, self.program != module.digest);
        self.files.insert(module.path, module.digest);
        Event::Adopted { order, result: Ok(()) }
    }

    fn in_use(&mut self) -> InUse {
        let leased = self.leased > 0;
        self.leased = self.leased.saturating_sub(1);
        let lease = Lease {
            owner: Label::lossy("billing"),
            reason: Label::lossy("metering run"),
            taken: self.now,
            end: LeaseEnd::Restart(BootId(Label::lossy(&self.boots.to_string()))),
            modules: vec![],
        };
        InUse { read_at: self.now, leases: if leased { vec![lease] } else { vec![] }, running: vec![] }
    }

    fn open(&self, mail: MailHandle) -> Event {
        let Some((facts, order)) = self.mailbox.get(&mail.0).cloned() else {
            return Event::NotOpened { mail, fault: OpenFault::Local(Label::lossy("gone")) };
        };
        let payload = match &order {
            Order::Install(i) => Payload::Kept { digest: i.bundle, bytes: i.bundle_bytes },
            Order::Enrolled(_)
            | Order::QueryVersions
            | Order::Cancel(_)
            | Order::Heartbeat(_)
            | Order::Rekey
            | Order::Acknowledge(_)
            | Order::QueryCounters
            | Order::Schedule(_)
            | Order::Test(_)
            | Order::DevicePlan(_) => Payload::Absent,
        };
        Event::Order { mail, facts, order, payload, key: KeyName::First }
    }

    /// What is done now is what the saved state says is being done.
    fn explained(&self, order: EnvelopeId, action: &str) {
        let saved = State::decode(&self.saved).unwrap().active.expect("an install is saved");
        assert_eq!(saved.job().order, order);
        let name = match saved.name() {
            "checking" => "check",
            "switching" => "switch",
            "verifying" => "verify",
            "undoing" => "undo",
            other => other,
        };
        assert_eq!(name, action);
    }

    fn outcomes(&self) -> Vec<(u64, Outcome)> {
        let ended = |r: &Report| match r {
            Report::Ended(e) => Some((bundle_of(e.order), e.outcome.clone())),
            Report::Enrol(_)
            | Report::Progress(_)
            | Report::Versions(_)
            | Report::Cancelled(_)
            | Report::Standing(_)
            | Report::Rekeyed(_)
            | Report::Faults(_)
            | Report::Counters(_)
            | Report::Fetch(_)
            | Report::Parts(_)
            | Report::Tested(_)
            | Report::DeviceUpdates(_) => None,
        };
        self.sent.values().filter_map(ended).collect()
    }

    fn version_answers(&self, query: u64) -> Vec<Reported> {
        let answer = |r: &Report| match r {
            Report::Versions(v) if v.query == Some(id(query)) => Some(v.versions.software.clone()),
            Report::Versions(_)
            | Report::Ended(_)
            | Report::Enrol(_)
            | Report::Progress(_)
            | Report::Cancelled(_)
            | Report::Standing(_)
            | Report::Rekeyed(_)
            | Report::Faults(_)
            | Report::Counters(_)
            | Report::Fetch(_)
            | Report::Parts(_)
            | Report::Tested(_)
            | Report::DeviceUpdates(_) => None,
        };
        self.sent.values().filter_map(answer).collect()
    }

    /// The version whose files are all there; `None`: none at all. A mix fails the test.
    fn on_disk(&self) -> Option<u64> {
        let of = |n: u64| self.modules(n).iter().all(|m| self.files.get(&m.path) == Some(&m.digest));
        if self.files.len() == 1 {
            return None;
        }
        let found = (1..100).find(|n| of(*n));
        assert!(found.is_some(), "the files are a mix: {:?}", self.files);
        found
    }
}

#[test]
fn an_agent_asks_until_it_is_enrolled_and_then_says_what_it_has() {
    let mut b = Site::new();
    b.run_for_hours(80);
    let asked = b.sent.values().filter(|r| matches!(r, Report::Enrol(_))).count();
    assert_eq!(asked, 8, "after 0, 1, 3, 7, 15, 31, 55 and 79 hours: the first at once");
    b.mail(1, Order::Enrolled(Enrolled { agent: profile().agent, heartbeat: None }));
    b.run_for_hours(80);
    assert_eq!(b.core.state().enrolment, Enrolment::Accepted);
    assert_eq!(b.sent.values().filter(|r| matches!(r, Report::Enrol(_))).count(), asked);
    assert!(b.sent.values().any(|r| matches!(r, Report::Versions(v) if v.query.is_none())));
}

#[test]
fn missing_heartbeats_are_reported_once_and_so_is_their_return() {
    let standing = |b: &Site| {
        let of = |r: &Report| if let Report::Standing(s) = r { Some(s.unheard_since) } else { None };
        b.sent.values().filter_map(of).collect::<Vec<_>>()
    };
    let day = 24;
    let every = Heartbeat { every_ms: 7 * 86_400_000 };
    let mut b = Site::new();
    b.mail(1, Order::Enrolled(Enrolled { agent: profile().agent, heartbeat: Some(every) }));
    b.run_for_hours(17 * day);
    assert_eq!(standing(&b), [], "two and a half periods have not passed");
    b.run_for_hours(day);
    b.run_for_hours(60 * day);
    assert_eq!(standing(&b), [Some(T0)]);
    // A heartbeat that was held back for two months is no sign of life.
    b.mail_made(2, T0.plus(core::time::Duration::from_secs(7 * 86_400)), Order::Heartbeat(every));
    b.run_for_hours(1);
    assert_eq!(standing(&b).len(), 1);
    b.mail_made(3, b.now, Order::Heartbeat(every));
    b.run_for_hours(1);
    assert_eq!(standing(&b), [Some(T0), None]);
}

#[test]
fn an_order_for_another_agent_is_junk() {
    let mut b = Site::new();
    b.mail(1, Order::Enrolled(Enrolled { agent: AgentId::parse("B2").unwrap(), heartbeat: None }));
    b.poll();
    assert!(matches!(b.core.state().enrolment, Enrolment::Requested(_)));
    assert!(b.mailbox.is_empty());
}

#[test]
fn an_install_commits_and_the_version_is_that_of_the_files() {
    let mut b = Site::new();
    b.install(1);
    b.poll();
    assert_eq!(b.outcomes(), [(1, Outcome::Installed)]);
    b.mail(2, Order::QueryVersions);
    b.poll();
    assert_eq!(b.version_answers(2), [Reported::Exact(version(1))]);
    b.files.insert(ModulePath::parse("bin/b").unwrap(), Digest::of(b"edited by hand"));
    b.mail(3, Order::QueryVersions);
    b.poll();
    assert_eq!(b.version_answers(3), [Reported::Mixed(version(1))]);
}

#[test]
fn an_older_install_order_that_comes_late_is_refused() {
    let mut b = Site::new();
    b.install(5);
    b.install(4);
    b.poll();
    assert_eq!(b.outcomes(), [(5, Outcome::Installed), (4, Outcome::Refused(Refusal::Superseded))]);
    assert_eq!(b.on_disk(), Some(5));
}

#[test]
fn a_withdrawn_order_is_refused_when_it_comes_later() {
    let mut b = Site::new();
    b.mail(2, Order::Cancel(CancelOrder { orders: vec![id(1)] }));
    b.poll();
    b.install(1);
    b.poll();
    assert_eq!(b.outcomes(), [(1, Outcome::Refused(Refusal::Cancelled))]);
    assert_eq!(b.on_disk(), None);
}

#[test]
fn an_order_that_waits_can_be_withdrawn_and_one_that_ended_cannot() {
    let mut b = Site::new();
    b.exits.insert(Phase::Check, 75);
    b.install(1);
    b.poll();
    b.mail(2, Order::QueryVersions);
    b.poll();
    assert_eq!(b.version_answers(2), [Reported::Nothing], "a pause does not hold answers back");
    for n in [3, 4] {
        b.mail(n, Order::Cancel(CancelOrder { orders: vec![id(1)] }));
        b.poll();
    }
    assert_eq!(b.outcomes(), [(1, Outcome::Refused(Refusal::Cancelled))]);
    let results: Vec<CancelResult> = b
        .sent
        .values()
        .filter_map(|r| if let Report::Cancelled(c) = r { Some(c.result) } else { None })
        .collect();
    assert_eq!(results, [CancelResult::BeforeStart, CancelResult::TooLate]);
}

#[test]
fn not_now_in_pre_is_undone_and_tried_again() {
    let mut b = Site::new();
    b.exits.insert(Phase::Pre, 75);
    b.install(1);
    b.run_for_hours(2);
    assert_eq!((b.on_disk(), b.outcomes().len()), (None, 0));
    b.exits.clear();
    b.run_for_hours(2);
    assert_eq!(b.outcomes(), [(1, Outcome::Installed)]);
    let waits = b.sent.values().filter(|r| matches!(r, Report::Progress(_))).count();
    assert_eq!(waits, 2, "received and waiting, each once");
}

#[test]
fn reports_survive_weeks_without_mail() {
    let mut b = Site::new();
    b.mail_works = false;
    b.install(1);
    b.run_for_hours(24 * 20);
    assert_eq!(b.sent.len(), 1, "the enrolment request of the first day");
    b.mail_works = true;
    b.run_for_hours(24);
    assert_eq!(b.outcomes(), [(1, Outcome::Installed)]);
}

#[test]
fn a_power_cut_between_any_two_effects_of_an_install_loses_nothing() {
    let effects = {
        let mut b = Site::new();
        b.install(1);
        b.poll();
        b.install(2);
        let before = b.transcript.len();
        b.poll();
        b.transcript.len() - before
    };
    for fail in [None, Some(Phase::Pre), Some(Phase::Post), Some(Phase::Verify)] {
        for cut in 0..u32::try_from(effects).unwrap() + 8 {
            let mut b = Site::new();
            b.install(1);
            b.poll();
            b.exits.extend(fail.map(|phase| (phase, 3)));
            b.install(2);
            b.cut_after = Some(cut);
            b.run_for_hours(3);
            let outcomes = b.outcomes();
            assert_eq!(outcomes.len(), 2, "cut {cut}, {fail:?}: {:?}\n{outcomes:?}", b.transcript);
            let installed = outcomes[1].1 == Outcome::Installed;
            assert_eq!(installed, fail.is_none(), "cut {cut}, {fail:?}: {:?}", b.transcript);
            assert_eq!(b.on_disk(), Some(if installed { 2 } else { 1 }), "cut {cut}, {fail:?}");
        }
    }
}

#[test]
fn a_power_cut_between_any_two_effects_of_an_install_with_restarts_and_leases_loses_nothing() {
    for fail in [false, true] {
        // The power takes the box or only the agent, which then waits for the restart until it is given up.
        for restarts in [true, false] {
            for cut in 0..60 {
                let mut b = Site::new();
                b.install(1);
                b.poll();
                b.exits.insert(Phase::Post, 76);
                if fail {
                    b.exits.extend([(Phase::Verify, 3), (Phase::Undo, 76)]);
                }
                b.leased = 2;
                b.restarts = restarts;
                b.install(2);
                b.cut_after = Some(cut);
                b.run_for_hours(6);
                let outcomes = b.outcomes();
                let when = format!("cut {cut}, fail {fail}, restarts {restarts}");
                assert_eq!(outcomes.len(), 2, "{when}: {:?}", b.transcript);
                let installed = outcomes[1].1 == Outcome::Installed;
                assert_eq!(installed, restarts && !fail, "{when}: {outcomes:?} {:?}", b.transcript);
                assert_eq!(b.on_disk(), Some(if installed { 2 } else { 1 }), "{when}");
                // Three that the script may ask for, and the cut itself.
                assert!(b.boots <= 4, "{when}: the box restarted {} times", b.boots);
            }
        }
    }
}

#[test]
fn an_update_that_is_put_off_by_a_lease_goes_on_when_the_box_has_restarted() {
    let mut b = Site::new();
    b.leased = 1;
    b.install(1);
    b.poll();
    assert_eq!(b.core.state().active.as_ref().map(|i| i.name()), Some("waiting"));
    b.boots += 1;
    b.start();
    b.poll();
    assert_eq!(b.outcomes(), [(1, Outcome::Installed)], "{:?}", b.transcript);
}

/// PROTOCOL 6.8
#[test]
fn a_power_cut_between_any_two_effects_of_an_agent_s_own_update_leaves_the_old_one_or_the_new_one() {
    for trial in [EXIT_PROVEN, 1] {
        for cut in 0..60 {
            let mut b = Site::new();
            b.agents = Some(EXIT_PROVEN);
            b.install(1);
            b.poll();
            assert_eq!((b.on_disk(), b.program), (Some(1), agent(1).digest));
            b.agents = Some(trial);
            b.install(2);
            b.cut_after = Some(cut);
            b.run_for_hours(3);
            let proven = trial == EXIT_PROVEN;
            let outcomes = b.outcomes();
            assert_eq!(outcomes.len(), 2, "cut {cut}, {trial}: {:?}", b.transcript);
            assert_eq!(outcomes[1].1 == Outcome::Installed, proven, "cut {cut}: {outcomes:?}");
            let left = if proven { 2 } else { 1 };
            assert_eq!((b.on_disk(), b.program), (Some(left), agent(left).digest), "cut {cut}, {trial}");
            b.agents = Some(EXIT_PROVEN);
            b.install(3);
            b.run_for_hours(3);
            assert_eq!((b.on_disk(), b.program), (Some(3), agent(3).digest), "it can be updated again");
        }
    }
}

#[test]
fn an_agent_that_fails_is_tried_three_times_and_never_becomes_what_the_box_starts() {
    let mut b = Site::new();
    b.agents = Some(101);
    b.install(1);
    b.poll();
    let trials = |b: &Site| b.transcript.iter().filter(|name| *name == "try").count();
    let [(1, Outcome::RolledBack(failure))] = &b.outcomes()[..] else { panic!("{:?}", b.outcomes()) };
    assert_eq!(failure.to_string(), "prove: the new agent has not proven itself: exit code 101");
    assert_eq!((trials(&b), b.on_disk(), b.program), (3, None, agent(0).digest));
}

#[derive(Clone, Debug)]
enum Move {
    Install(u64),
    Query(u64),
    Cancel(u64, u64),
    Poll,
    Wait(i64),
    Cut(u32),
    Restarts(bool),
    Leased(u32),
    Trial(bool),
    Exit(Phase, i32),
    Mail(bool),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let phase = prop_oneof![
        Just(Phase::Check),
        Just(Phase::Pre),
        Just(Phase::Post),
        Just(Phase::Verify),
        Just(Phase::Undo)
    ];
    let one = prop_oneof![
        3 => (1u64..12).prop_map(Move::Install),
        2 => (20u64..30).prop_map(Move::Query),
        1 => (30u64..40, 1u64..12).prop_map(|(n, order)| Move::Cancel(n, order)),
        3 => Just(Move::Poll),
        2 => (1i64..30).prop_map(Move::Wait),
        3 => (0u32..40).prop_map(Move::Cut),
        1 => any::<bool>().prop_map(Move::Restarts),
        1 => (1u32..4).prop_map(Move::Leased),
        1 => any::<bool>().prop_map(Move::Trial),
        2 => (phase, prop_oneof![Just(0), Just(1), Just(75), Just(76)]).prop_map(|(p, code)| Move::Exit(p, code)),
        1 => any::<bool>().prop_map(Move::Mail),
    ];
    prop::collection::vec(one, 1..40)
}

fn play(moves: &[Move], copies: usize, agents: bool) -> Site {
    let mut b = Site::new();
    b.agents = agents.then_some(EXIT_PROVEN);
    for step in moves {
        for _ in 0..copies {
            match step {
                Move::Install(n) => b.install(*n),
                Move::Query(n) => b.mail(*n, Order::QueryVersions),
                Move::Cancel(n, order) => b.mail(*n, Order::Cancel(CancelOrder { orders: vec![id(*order)] })),
                Move::Poll
                | Move::Wait(_)
                | Move::Cut(_)
                | Move::Restarts(_)
                | Move::Leased(_)
                | Move::Trial(_)
                | Move::Exit(..)
                | Move::Mail(_) => {}
            }
        }
        match step {
            Move::Poll => b.poll(),
            Move::Wait(hours) => b.run_for_hours(*hours),
            Move::Cut(after) => b.cut_after = Some(*after),
            Move::Restarts(restarts) => b.restarts = *restarts,
            Move::Leased(looks) => b.leased = *looks,
            Move::Trial(passes) => {
                b.agents = agents.then_some(if *passes { EXIT_PROVEN } else { 1 });
            }
            Move::Exit(phase, code) => drop(b.exits.insert(*phase, *code)),
            Move::Mail(works) => b.mail_works = *works,
            Move::Install(_) | Move::Query(_) | Move::Cancel(..) => {}
        }
    }
    b.exits.clear();
    b.agents = agents.then_some(EXIT_PROVEN);
    b.mail_works = true;
    b.cut_after = None;
    b.leased = 0;
    b.run_for_hours(48);
    b
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn whatever_happens_each_order_ends_once_and_the_files_are_no_mix(moves in moves(), agents: bool) {
        let b = play(&moves, 1, agents);
        b.on_disk();
        prop_assert_eq!(b.program, b.files[&agent(0).path], "what runs is what is there");
        let mut ends = BTreeMap::new();
        for (order, outcome) in b.outcomes() {
            prop_assert!(ends.insert(order, outcome).is_none(), "order {order} ended twice");
        }
        for step in &moves {
            if let Move::Install(n) = step {
                prop_assert!(ends.contains_key(n), "order {n} never ended: {:?}", b.core.state().active);
            }
            if let Move::Query(n) = step {
                prop_assert_eq!(b.version_answers(*n).len(), 1);
            }
        }
        prop_assert!(b.mailbox.is_empty());
    }

    #[test]
    fn delivering_every_order_twice_changes_nothing(moves in moves(), agents: bool) {
        let calm: Vec<Move> = moves.into_iter().filter(|m| !matches!(m, Move::Cut(_))).collect();
        let (once, twice) = (play(&calm, 1, agents), play(&calm, 2, agents));
        prop_assert_eq!(once.outcomes(), twice.outcomes());
        prop_assert_eq!(once.files, twice.files);
        prop_assert_eq!(once.sent.len(), twice.sent.len());
    }
}
