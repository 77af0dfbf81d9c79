//! A box: what is on its disk and in its mailbox, what went out, and when its installs began. Answers every effect at once.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use agent_core::{
    AgentCore, BootId, BundleFacts, Effect, EnvelopeFacts, Event, InUse, KeyName, Lease, LeaseEnd,
    MailHandle, Module, ModulesFound, Payload, PostResult, Profile, Program, Rules, ScriptEnd, State, Want,
    Wish,
};
use shared::bundle::{BundleSpec, Compression, ModuleKind, TestEntry, pack};
use shared::keys::{OpeningKey, SigningKey};
use shared::limits::ORDER_LIFE;
use shared::message::{
    CancelOrder, EnrolRequest, InstallOrder, Interval, Order, Outcome, OutputTail, Phase, Report, Schedule,
    Step, TestOrder, TestResult, WaitReason,
};
use shared::trust::{Statement, Trust};
use shared::{AgentId, Digest, EnvelopeId, Label, MailAddress, ModulePath, SoftwareVersion, UnixMillis};

pub(crate) const T0: UnixMillis = UnixMillis(1_750_000_000_000);

/// `T0` and so many hours.
pub(crate) fn hour(n: i64) -> UnixMillis {
    UnixMillis(T0.0 + n * 3_600_000)
}

pub(crate) fn version(n: u64) -> SoftwareVersion {
    SoftwareVersion::parse(&format!("{n}-0")).unwrap()
}

fn id(n: u64) -> EnvelopeId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    EnvelopeId(bytes)
}

/// Digest of the bundle that brings version `n`.
pub(crate) fn bundle(n: u64) -> Digest {
    Digest::of(&n.to_be_bytes())
}

/// The trust of this version, which has an order key of its own.
fn trust(version: u8) -> Trust {
    let key = |n| SigningKey::from_seed(&[n; 32]).verifying_key();
    let seal = OpeningKey::from_seed(&[3; 32]).sealing_key();
    Trust::new(u32::from(version), T0, vec![key(10 + version)], vec![key(2)], 1, seal)
}

/// A test as a bundle says it: the module `abcd` says whether it works.
pub(crate) fn a_test() -> TestEntry {
    let toml = "software_version = \"1-0\"\n[test]\nmodule = \"abcd\"\nargs = [\"--self-test\"]\nlimit = \"5s\"\n\
        [[module]]\nname = \"abcd\"\nversion = \"1\"\ndate = \"2026-01-01\"\nfile = \"abcd\"\npath = \"bin/abcd\"\n\
        mode = \"0755\"\nkind = \"on-demand\"\n";
    let spec = BundleSpec::parse(toml).unwrap();
    let manifest = pack(
        &spec,
        Compression::Deflate,
        1,
        T0,
        &mut |_| Ok(std::io::Cursor::new(vec![1])),
        &mut Vec::new(),
        &mut |_| {},
    );
    manifest.unwrap().test.unwrap()
}

/// When a bundle may be installed: from the first hour on, in these intervals of hours.
pub(crate) fn times(n: u64, not_before: i64, intervals: &[(i64, i64)]) -> Schedule {
    let intervals = intervals.iter().map(|(from, until)| Interval { from: hour(*from), until: hour(*until) });
    Schedule {
        bundle: bundle(n),
        software_version: version(n),
        bundle_bytes: 9,
        not_before: hour(not_before),
        intervals: intervals.collect(),
        defer_until: None,
        fetch: false,
    }
}

pub(crate) struct Site {
    pub(crate) core: AgentCore,
    saved: Vec<u8>,
    pub(crate) now: UnixMillis,
    mailbox: BTreeMap<u64, (EnvelopeFacts, Order)>,
    wishes: BTreeMap<EnvelopeId, Wish>,
    pub(crate) files: BTreeMap<ModulePath, Digest>,
    backups: BTreeMap<EnvelopeId, BTreeMap<ModulePath, Option<Digest>>>,
    bundles: BTreeMap<EnvelopeId, u64>,
    pub(crate) sequence: u64,
    /// Version of the trust in force.
    trust: u8,
    /// Exit codes of the script.
    pub(crate) exits: BTreeMap<Phase, i32>,
    /// Looks that find a lease.
    pub(crate) leased: u32,
    /// Whether bundles say how to test them, and how that ends.
    pub(crate) test: Option<TestEntry>,
    pub(crate) test_end: ScriptEnd,
    /// Starts of a test in which the power goes.
    pub(crate) deadly_tests: u32,
    /// When each order's `pre` ran.
    pub(crate) begun: Vec<(EnvelopeId, UnixMillis)>,
    pub(crate) tests_run: Vec<Vec<Label>>,
    pub(crate) sent: BTreeMap<u64, Report>,
    pub(crate) cut_after: Option<u32>,
    pub(crate) effects: u32,
}

impl Site {
    pub(crate) fn new() -> Self {
        let request = EnrolRequest {
            agent: AgentId::parse("A1").unwrap(),
            secret: [7; 32],
            sign_key: [1; 32],
            seal_key: [2; 32],
            mail: MailAddress::parse("a1@lab.test").unwrap(),
            agent_version: Label::lossy("0"),
        };
        let state = State::enrolling(request, T0, trust(1));
        let mut it = Self {
            saved: state.encode(),
            core: AgentCore::new(profile(), state),
            now: T0,
            mailbox: BTreeMap::new(),
            wishes: BTreeMap::new(),
            files: BTreeMap::new(),
            backups: BTreeMap::new(),
            bundles: BTreeMap::new(),
            sequence: 0,
            trust: 1,
            exits: BTreeMap::new(),
            leased: 0,
            test: None,
            test_end: ScriptEnd::Exit(0),
            deadly_tests: 0,
            begun: vec![],
            tests_run: vec![],
            sent: BTreeMap::new(),
            cut_after: None,
            effects: 0,
        };
        it.start();
        it.order(Order::QueryVersions);
        it.poll();
        it.sent.clear();
        it
    }

    /// Mails an order, made now.
    pub(crate) fn order(&mut self, order: Order) -> EnvelopeId {
        self.sequence += 1;
        self.order_numbered(self.sequence, order)
    }

    /// Mails an order with this sequence number.
    pub(crate) fn order_numbered(&mut self, sequence: u64, order: Order) -> EnvelopeId {
        let facts = EnvelopeFacts {
            id: id(sequence),
            created: self.now,
            expires: self.now.plus(ORDER_LIFE),
            sequence,
            body_bytes: 10,
            signer: trust(self.trust).order_keys[0].key_id(),
        };
        let place = self.mailbox.keys().last().map_or(0, |last| last + 1);
        self.mailbox.insert(place, (facts, order));
        facts.id
    }

    /// The manager has another order key from now on, and the old one is dropped.
    pub(crate) fn change_order_key(&mut self) {
        self.trust += 1;
        let mut statement = Statement::unsigned(&trust(self.trust));
        statement.sign(&SigningKey::from_seed(&[2; 32]));
        self.feed(Event::Introduced { statements: vec![statement] });
    }

    /// Mails version `n`.
    pub(crate) fn install(&mut self, n: u64, scheduled: bool) -> EnvelopeId {
        let software_version = version(n);
        let order = Order::Install(InstallOrder {
            bundle: bundle(n),
            bundle_bytes: 9,
            software_version,
            scheduled,
            delta: None,
        });
        let order = self.order(order);
        self.bundles.insert(order, n);
        order
    }

    pub(crate) fn schedule(&mut self, schedule: Schedule) -> EnvelopeId {
        self.order(Order::Schedule(schedule))
    }

    pub(crate) fn order_test(&mut self, n: u64) -> EnvelopeId {
        self.order(Order::Test(TestOrder { software_version: version(n) }))
    }

    pub(crate) fn cancel(&mut self, order: EnvelopeId) {
        self.order(Order::Cancel(CancelOrder { orders: vec![order] }));
    }

    /// A person at the site wants something.
    pub(crate) fn wish(&mut self, order: EnvelopeId, want: Want) {
        self.wishes.insert(order, Wish { order, by: Label::lossy("tanaka"), want });
    }

    pub(crate) fn start(&mut self) {
        self.core = AgentCore::new(profile(), State::decode(&self.saved).unwrap());
        let (boot, program) = (BootId::default(), Program::default());
        self.feed(Event::Started { recovered: false, boot, program });
    }

    /// Reads mail and wishes.
    pub(crate) fn poll(&mut self) {
        if !self.wishes.is_empty() {
            self.feed(Event::Wishes { wishes: self.wishes.values().cloned().collect() });
        }
        for mail in self.mailbox.keys().copied().collect::<Vec<_>>() {
            let Some((facts, order)) = self.mailbox.get(&mail).cloned() else { continue };
            let payload = match &order {
                Order::Install(i) => Payload::Kept { digest: i.bundle, bytes: i.bundle_bytes },
                _ => Payload::Absent,
            };
            let mail = MailHandle(mail);
            self.feed(Event::Order { mail, facts, order, payload, key: KeyName::First });
        }
        self.feed(Event::Tick);
    }

    /// Lets time pass until then, in the steps that the core asks for.
    pub(crate) fn run_until(&mut self, end: UnixMillis) {
        while self.now < end {
            self.poll();
            let wake = self.core.next_wake().map_or(end, |(at, _)| at);
            // What a power cut has left in the mailbox is found with the next look.
            let minutes = if self.mailbox.is_empty() && self.wishes.is_empty() { 360 } else { 5 };
            let latest = UnixMillis(self.now.0 + minutes * 60_000);
            self.now = wake.clamp(UnixMillis(self.now.0 + 1_000), latest).min(end);
        }
        self.poll();
    }

    fn feed(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut effects = Vec::new();
            let before = self.core.state().encode();
            self.core.step(self.now, event, &mut effects);
            let saves = effects.iter().filter(|effect| matches!(effect, Effect::Save(_))).count();
            assert!(saves <= 1 && (saves == 0 || matches!(effects[0], Effect::Save(_))), "save comes first");
            assert!(saves == 1 || self.core.state().encode() == before, "a change was not saved");
            for effect in effects {
                let deadly = matches!(effect, Effect::RunTest { .. }) && self.deadly_tests > 0;
                self.deadly_tests -= u32::from(deadly);
                if deadly || self.cut_after == Some(0) {
                    self.cut_after = None;
                    return self.start();
                }
                self.cut_after = self.cut_after.map(|left| left - 1);
                self.effects += 1;
                events.extend(self.execute(effect));
            }
        }
    }

    fn execute(&mut self, effect: Effect) -> Option<Event> {
        Some(match effect {
            Effect::Save(bytes) => {
                self.saved = bytes;
                return None;
            }
            Effect::Dispose { mail, .. } => {
                self.mailbox.remove(&mail.0);
                return None;
            }
            Effect::DropWish { order } => {
                self.wishes.remove(&order);
                return None;
            }
            Effect::Inspect { order } => Event::Inspected { order, result: Ok(Box::new(self.facts(order))) },
            Effect::ReadModules { read, paths } => {
                let files = paths.iter().filter_map(|p| Some((p.clone(), *self.files.get(p)?))).collect();
                Event::ModulesRead { read, found: ModulesFound { files, rom_version: Label::lossy("1") } }
            }
            Effect::Stage { order, .. } => Event::Staged { order, result: Ok(()) },
            Effect::ReadUse { order, .. } => Event::UseRead { order, found: self.in_use() },
            Effect::RunScript { order, phase, .. } => {
                let code = self.exits.get(&phase).copied().unwrap_or(0);
                if phase == Phase::Pre {
                    self.begun.push((order, self.now));
                }
                Event::ScriptEnded { order, phase, end: ScriptEnd::Exit(code), output: OutputTail::default() }
            }
            Effect::Switch { order, modules } => {
                for m in modules {
                    let old = self.files.insert(m.path.clone(), m.digest);
                    self.backups.entry(order).or_default().entry(m.path).or_insert(old);
                }
                Event::Switched { order, result: Ok(()) }
            }
            Effect::Restore { order, .. } => {
                for (path, old) in self.backups.remove(&order).unwrap_or_default() {
                    match old {
                        Some(digest) => self.files.insert(path, digest),
                        None => self.files.remove(&path),
                    };
                }
                Event::Restored { order, result: Ok(()) }
            }
            Effect::RunTest { order, path, args, limit } => {
                let saved = State::decode(&self.saved).unwrap();
                assert!(saved.active.is_none(), "a test runs in the middle of an install");
                assert!(saved.tests.iter().any(|test| test.order == order && test.starts > 0), "not saved");
                assert_eq!((path.as_str(), limit), ("bin/abcd", Duration::from_secs(5)));
                self.tests_run.push(args);
                let output = OutputTail::of(b"ready\n");
                Event::TestEnded { order, end: self.test_end.clone(), output }
            }
            Effect::Post(outgoing) => {
                let saved = State::decode(&self.saved).unwrap();
                let waits = saved.outbox.waiting.iter().any(|q| q.sequence == outgoing.sequence);
                assert!(waits, "a report was posted before it was saved");
                let report = outgoing.sequence;
                self.sent.insert(report.0, outgoing.report);
                Event::Posted { report, result: PostResult::Done }
            }
            Effect::Cleanup { order } => {
                self.backups.remove(&order);
                return None;
            }
            // The box does not restart.
            _ => return None,
        })
    }

    fn facts(&self, order: EnvelopeId) -> BundleFacts {
        let n = self.bundles[&order];
        let module = Module {
            name: Label::lossy("abcd"),
            version: Label::lossy("1"),
            date: Label::lossy("2026-01-01"),
            path: ModulePath::parse("bin/abcd").unwrap(),
            mode: 0o755,
            bytes: 1,
            digest: Digest::of(&[u8::try_from(n).unwrap()]),
            kind: ModuleKind::OnDemand,
        };
        BundleFacts {
            software_version: version(n),
            from: vec![],
            classes: vec![],
            has_script: true,
            modules: vec![module],
            unpacked_bytes: 1,
            test: self.test.clone(),
            firmware: vec![],
        }
    }

    fn in_use(&mut self) -> InUse {
        let leased = self.leased > 0;
        self.leased = self.leased.saturating_sub(1);
        let lease = Lease {
            owner: Label::lossy("billing"),
            reason: Label::lossy("metering"),
            taken: self.now,
            end: LeaseEnd::At(self.now.plus(Duration::from_secs(60))),
            modules: vec![],
        };
        InUse { read_at: self.now, leases: if leased { vec![lease] } else { vec![] }, running: vec![] }
    }

    /// How an order ended, and when; fails the test if more than once.
    pub(crate) fn outcome(&self, order: EnvelopeId) -> Option<Outcome> {
        let mut ends = self.sent.values().filter_map(|report| match report {
            Report::Ended(ended) if ended.order == order => Some(ended.outcome.clone()),
            _ => None,
        });
        let end = ends.next();
        assert_eq!(ends.next(), None, "{order} ended twice");
        end
    }

    /// What an order was told to wait for, and until which hour.
    pub(crate) fn waits(&self, order: EnvelopeId) -> Vec<(WaitReason, i64)> {
        let waits = self.sent.values().filter_map(|report| match report {
            Report::Progress(progress) if progress.order == order => match &progress.step {
                Step::Waiting(waiting) => Some((waiting.reason, (waiting.until.0 - T0.0) / 3_600_000)),
                Step::Received => None,
            },
            _ => None,
        });
        waits.collect()
    }

    /// In which hours `pre` ran.
    pub(crate) fn hours_of(&self, order: EnvelopeId) -> Vec<i64> {
        let of = self.begun.iter().filter(|(begun, _)| *begun == order);
        of.map(|(_, at)| (at.0 - T0.0) / 3_600_000).collect()
    }

    /// The schedules for which a bundle was asked, and the minutes of it.
    pub(crate) fn fetches(&self) -> Vec<EnvelopeId> {
        let fetch = |report: &Report| if let Report::Fetch(f) = report { Some(f.schedule) } else { None };
        self.sent.values().filter_map(fetch).collect()
    }

    pub(crate) fn results_of(&self, order: EnvelopeId) -> Vec<TestResult> {
        let result = |report: &Report| match report {
            Report::Tested(tested) if tested.order == order => Some(tested.result.clone()),
            _ => None,
        };
        self.sent.values().filter_map(result).collect()
    }
}

fn profile() -> Profile {
    Profile {
        agent: AgentId::parse("A1").unwrap(),
        classes: vec![],
        rules: Rules::default(),
        counters_every: None,
        bill: agent_core::BillDays::default(),
    }
}
