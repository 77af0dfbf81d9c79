//! Orders that come while an install is in the middle of something: the shell may be slow to answer, and the
//! core must keep things apart.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use agent_core::{
    AgentCore, BillDays, BootId, BundleFacts, Effect, EnvelopeFacts, Event, InUse, KeyName, Lease, LeaseEnd,
    MailHandle, Module, ModulesFound, Payload, PostResult, Profile, Program, ReadFor, Rules, ScriptEnd,
    State,
};
use shared::bundle::ModuleKind;
use shared::keys::{OpeningKey, SigningKey};
use shared::limits::ORDER_LIFE;
use shared::message::{
    CancelOrder, CancelResult, EnrolRequest, InstallOrder, Order, Outcome, OutputTail, Phase, Refusal,
    Report, Reported, Step, WaitReason,
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

/// The core with nobody behind it: the test answers by hand.
struct Hand {
    core: AgentCore,
    sequence: u64,
    /// What the last event led to, posts left out: they are answered at once.
    effects: Vec<Effect>,
    sent: Vec<Report>,
}

impl Hand {
    fn new() -> Self {
        let request = EnrolRequest {
            agent: AgentId::parse("A1").unwrap(),
            secret: [0; 32],
            sign_key: [0; 32],
            seal_key: [0; 32],
            mail: MailAddress::parse("a@b.test").unwrap(),
            agent_version: Label::lossy("1"),
        };
        let profile = Profile {
            agent: request.agent.clone(),
            classes: vec![],
            rules: Rules::default(),
            counters_every: None,
            bill: BillDays::default(),
        };
        let core = AgentCore::new(profile, State::enrolling(request, T0, trust()));
        let mut hand = Self { core, sequence: 0, effects: vec![], sent: vec![] };
        hand.feed(Event::Started { recovered: false, boot: BootId::default(), program: Program::default() });
        hand
    }

    fn feed(&mut self, event: Event) {
        self.effects.clear();
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let mut effects = vec![];
            self.core.step(T0, event, &mut effects);
            for effect in effects {
                if let Effect::Post(outgoing) = effect {
                    events.push(Event::Posted { report: outgoing.sequence, result: PostResult::Done });
                    self.sent.push(outgoing.report);
                } else {
                    self.effects.push(effect);
                }
            }
        }
    }

    fn order(&mut self, order: Order) -> EnvelopeId {
        self.sequence += 1;
        let id = EnvelopeId([u8::try_from(self.sequence).unwrap(); 16]);
        let facts = EnvelopeFacts {
            id,
            created: T0,
            expires: T0.plus(ORDER_LIFE),
            sequence: self.sequence,
            body_bytes: 1,
            signer: trust().order_keys[0].key_id(),
        };
        let payload = match &order {
            Order::Install(install) => Payload::Kept { digest: install.bundle, bytes: install.bundle_bytes },
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
        self.feed(Event::Order {
            mail: MailHandle(self.sequence),
            facts,
            order,
            payload,
            key: KeyName::First,
        });
        id
    }

    fn install(&mut self) -> EnvelopeId {
        let software_version = version();
        self.order(Order::Install(InstallOrder {
            bundle: Digest::of(b"b"),
            bundle_bytes: 1,
            software_version,
            scheduled: false,
            delta: None,
        }))
    }

    fn read(&mut self, read: ReadFor, content: &[u8]) {
        let files = [(module().path, Digest::of(content))].into();
        self.feed(Event::ModulesRead { read, found: ModulesFound { files, rom_version: Label::lossy("1") } });
    }

    fn script(&mut self, order: EnvelopeId, phase: Phase, code: i32) {
        let end = ScriptEnd::Exit(code);
        self.feed(Event::ScriptEnded { order, phase, end, output: OutputTail::default() });
    }

    /// Brings an install to the point where its `check` runs.
    fn reach_check(&mut self, order: EnvelopeId) {
        self.feed(Event::Inspected {
            order,
            result: Ok(Box::new(BundleFacts {
                software_version: version(),
                from: vec![],
                classes: vec![],
                has_script: true,
                modules: vec![module()],
                unpacked_bytes: 1,
                test: None,
                firmware: vec![],
            })),
        });
        self.read(ReadFor::Install(order), b"old");
        self.feed(Event::Staged { order, result: Ok(()) });
        assert_eq!(self.phase(), "checking");
    }

    /// Answers what is in use, and by whom.
    fn in_use(&mut self, order: EnvelopeId, leases: Vec<Lease>) {
        self.feed(Event::UseRead { order, found: InUse { read_at: T0, leases, running: vec![] } });
    }

    /// Brings an install to the point where its `post` runs.
    fn reach_post(&mut self, order: EnvelopeId) {
        self.reach_check(order);
        self.script(order, Phase::Check, 0);
        self.in_use(order, vec![]);
        self.script(order, Phase::Pre, 0);
        self.in_use(order, vec![]);
        self.feed(Event::Switched { order, result: Ok(()) });
        assert_eq!(self.phase(), "post");
    }

    fn phase(&self) -> &'static str {
        self.core.state().active.as_ref().map_or("none", |install| install.name())
    }

    fn names(&self) -> Vec<&'static str> {
        self.effects.iter().map(Effect::name).collect()
    }

    fn cancel_answers(&self) -> Vec<CancelResult> {
        let answer = |r: &Report| if let Report::Cancelled(c) = r { Some(c.result) } else { None };
        self.sent.iter().filter_map(answer).collect()
    }
}

fn version() -> SoftwareVersion {
    SoftwareVersion::parse("2-0").unwrap()
}

fn module() -> Module {
    Module {
        name: Label::lossy("a"),
        version: Label::lossy("2"),
        date: Label::lossy("2026-01-01"),
        path: ModulePath::parse("bin/a").unwrap(),
        mode: 0o755,
        bytes: 3,
        digest: Digest::of(b"new"),
        kind: ModuleKind::Resident,
    }
}

/// A hand whose first answers are given, so that nothing is owed.
fn enrolled() -> Hand {
    let mut hand = Hand::new();
    hand.order(Order::QueryVersions);
    hand.read(ReadFor::Reports, b"old");
    hand.sent.clear();
    hand
}

#[test]
fn a_query_in_the_middle_of_an_install_is_answered_after_it() {
    let mut hand = enrolled();
    let order = hand.install();
    hand.reach_post(order);
    let query = hand.order(Order::QueryVersions);
    assert_eq!(hand.names(), ["save", "dispose"], "no reading of half-changed files");
    hand.script(order, Phase::Post, 0);
    hand.script(order, Phase::Verify, 0);
    hand.read(ReadFor::Install(order), b"new");
    assert!(hand.names().contains(&"read-modules"), "{:?}", hand.names());
    hand.read(ReadFor::Reports, b"new");
    let answer = hand.sent.iter().find_map(|r| match r {
        Report::Versions(v) if v.query == Some(query) => Some(v.versions.software.clone()),
        Report::Versions(_)
        | Report::Enrol(_)
        | Report::Progress(_)
        | Report::Ended(_)
        | Report::Cancelled(_)
        | Report::Standing(_)
        | Report::Rekeyed(_)
        | Report::Faults(_)
        | Report::Counters(_)
        | Report::Fetch(_)
        | Report::Parts(_)
        | Report::Tested(_)
        | Report::DeviceUpdates(_) => None,
    });
    assert_eq!(answer, Some(Reported::Exact(version())));
}

#[test]
fn a_reading_that_an_install_has_overtaken_is_done_again() {
    let mut hand = enrolled();
    let order = hand.install();
    hand.reach_check(order);
    hand.order(Order::QueryVersions);
    assert_eq!(hand.names(), ["save", "dispose", "read-modules"]);
    hand.script(order, Phase::Check, 0);
    hand.in_use(order, vec![]);
    let sent = hand.sent.len();
    hand.read(ReadFor::Reports, b"half");
    assert_eq!(hand.sent.len(), sent, "what was read while `pre` ran is not reported");
    hand.script(order, Phase::Pre, 1);
    hand.feed(Event::Restored { order, result: Ok(()) });
    hand.script(order, Phase::Undo, 0);
    assert!(hand.names().contains(&"read-modules"), "{:?}", hand.names());
}

#[test]
fn an_install_that_has_begun_cannot_be_withdrawn_and_one_that_has_not_can() {
    let mut hand = enrolled();
    let order = hand.install();
    hand.reach_post(order);
    hand.order(Order::Cancel(CancelOrder { orders: vec![order] }));
    assert_eq!((hand.cancel_answers(), hand.phase()), (vec![CancelResult::TooLate], "post"));

    let mut hand = enrolled();
    let order = hand.install();
    hand.reach_check(order);
    hand.order(Order::Cancel(CancelOrder { orders: vec![order] }));
    assert_eq!((hand.cancel_answers(), hand.phase()), (vec![CancelResult::BeforeStart], "none"));
    assert!(hand.names().contains(&"cleanup"));
    hand.script(order, Phase::Check, 0);
    assert!(hand.effects.is_empty(), "a late answer of its script means nothing: {:?}", hand.names());
    hand.read(ReadFor::Reports, b"old");
    let Some(Report::Ended(ended)) = hand.sent.last() else { panic!("{:?}", hand.sent) };
    assert_eq!(ended.outcome, Outcome::Refused(Refusal::Cancelled));
}

#[test]
fn the_ninth_install_in_the_queue_is_refused_and_the_others_wait_behind_a_pause() {
    let mut hand = enrolled();
    let first = hand.install();
    hand.reach_check(first);
    hand.script(first, Phase::Check, 75);
    hand.sent.clear();
    let orders: Vec<EnvelopeId> = (0..8).map(|_| hand.install()).collect();
    let behind = hand.sent.iter().filter(|r| {
        matches!(r, Report::Progress(p) if matches!(&p.step, Step::Waiting(w) if w.reason == WaitReason::OtherInstall))
    });
    assert_eq!(behind.count(), 8);
    let ninth = hand.install();
    hand.read(ReadFor::Reports, b"old");
    let Some(Report::Ended(ended)) = hand.sent.last() else { panic!("{:?}", hand.sent) };
    assert_eq!((ended.order, &ended.outcome), (ninth, &Outcome::Refused(Refusal::QueueFull)));
    let queue: Vec<EnvelopeId> = hand.core.state().queue.iter().map(|job| job.order).collect();
    assert_eq!(queue, orders);
}

#[test]
fn answers_of_other_jobs_and_phases_change_nothing() {
    let mut hand = enrolled();
    let order = hand.install();
    hand.reach_post(order);
    let before = hand.core.state().clone();
    let other = EnvelopeId([99; 16]);
    hand.script(other, Phase::Post, 0);
    hand.script(order, Phase::Check, 0);
    hand.feed(Event::Staged { order, result: Ok(()) });
    hand.feed(Event::Restored { order, result: Ok(()) });
    hand.feed(Event::Switched { order: other, result: Ok(()) });
    assert_eq!(hand.core.state(), &before);
}

#[test]
fn a_lease_is_told_to_the_manager_with_owner_and_reason_once() {
    let mut hand = enrolled();
    let order = hand.install();
    hand.reach_check(order);
    let lease = Lease {
        owner: Label::lossy("billing"),
        reason: Label::lossy("metering run"),
        taken: T0,
        end: LeaseEnd::At(T0.plus(core::time::Duration::from_secs(600))),
        modules: vec![],
    };
    for _ in 0..2 {
        hand.script(order, Phase::Check, 0);
        hand.in_use(order, vec![lease.clone()]);
    }
    let told: Vec<String> = hand
        .sent
        .iter()
        .filter_map(|r| if let Report::Progress(p) = r { Some(&p.step) } else { None })
        .filter_map(|step| if let Step::Waiting(waiting) = step { Some(waiting.to_string()) } else { None })
        .collect();
    assert_eq!(told, ["a lease is held (billing: metering run)"]);
    assert_eq!(hand.phase(), "waiting");
}

#[test]
fn an_order_that_comes_while_the_box_is_to_restart_waits_behind_it() {
    let mut hand = enrolled();
    let order = hand.install();
    hand.reach_post(order);
    hand.script(order, Phase::Post, 76);
    assert!(hand.names().starts_with(&["save", "restart-box"]), "{:?}", hand.names());
    assert_eq!(hand.phase(), "awaiting-restart");
    hand.sent.clear();
    hand.install();
    let behind = hand.sent.iter().any(|r| {
        matches!(r, Report::Progress(p) if matches!(&p.step, Step::Waiting(w) if w.reason == WaitReason::OtherInstall))
    });
    assert!(behind, "{:?}", hand.sent);
    hand.feed(Event::Started {
        recovered: false,
        boot: BootId(Label::lossy("next")),
        program: Program::default(),
    });
    assert_eq!(hand.phase(), "verifying");
}
