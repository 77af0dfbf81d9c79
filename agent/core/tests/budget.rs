//! A line with a budget (PROTOCOL 17.12, 17.13): a head announces a bundle, the agent asks for what today's budget has room for, and
//! what lies in the mailbox stays there until it may come. Mail, disk and line are played by hand.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use agent_core::{
    AgentCore, BillDays, BootId, Effect, EnvelopeFacts, Event, KeyName, MailHandle, MailboxStand,
    ModulesFound, PartFacts, Payload, PostResult, Profile, Program, Rules, State,
};
use proptest::prelude::*;
use shared::keys::{OpeningKey, SigningKey};
use shared::limits::ORDER_LIFE;
use shared::message::{
    Budget, EnrolRequest, Hours, InstallOrder, Order, Outcome, Refusal, Report, Step, WaitReason,
};
use shared::trust::Trust;
use shared::{AgentId, Digest, EnvelopeId, Label, MailAddress, SoftwareVersion, Span, Spans, UnixMillis};

/// 2025-06-15T15:06:40Z.
const T0: UnixMillis = UnixMillis(1_750_000_000_000);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const PART: u64 = 60_000;
/// About a part in base64, with its head.
const PART_MAIL: u64 = 96_000;
const SMALL_MAIL: u64 = 3_000;

fn trust() -> Trust {
    let key = |n| SigningKey::from_seed(&[n; 32]).verifying_key();
    let seal = OpeningKey::from_seed(&[3; 32]).sealing_key();
    Trust::new(1, T0, vec![key(1)], vec![key(2)], 1, seal)
}

fn id(n: u64) -> EnvelopeId {
    EnvelopeId(u128::from(n).to_be_bytes())
}

fn body(n: u64) -> Digest {
    Digest::of(&n.to_be_bytes())
}

#[derive(Clone)]
enum Mail {
    Part(EnvelopeFacts, PartFacts),
    Small(EnvelopeFacts, Order),
}

struct Site {
    budget: Option<Budget>,
    core: AgentCore,
    saved: Vec<u8>,
    now: UnixMillis,
    mailbox: BTreeMap<u64, (Mail, u64)>,
    next_mail: u64,
    may_fetch: BTreeSet<u64>,
    reports: Vec<Report>,
    saves: u64,
    /// What the line has carried, by the day.
    carried: BTreeMap<i64, u64>,
    /// Answers requests for parts.
    manager_answers: bool,
    body_bytes: u64,
}

impl Site {
    fn new(budget: Budget) -> Self {
        let mut site = Self::unlimited();
        site.budget = Some(budget);
        site.start();
        site.reports.clear();
        site
    }

    fn unlimited() -> Self {
        let request = EnrolRequest {
            agent: AgentId::parse("A1").unwrap(),
            secret: [0; 32],
            sign_key: [0; 32],
            seal_key: [0; 32],
            mail: MailAddress::parse("a@b.test").unwrap(),
            agent_version: Label::lossy("1"),
        };
        let state = State::enrolling(request, T0, trust());
        let mut site = Self {
            budget: None,
            core: AgentCore::new(profile(None), state.clone()),
            saved: state.encode(),
            now: T0,
            mailbox: BTreeMap::new(),
            next_mail: 0,
            may_fetch: BTreeSet::new(),
            reports: Vec::new(),
            saves: 0,
            carried: BTreeMap::new(),
            manager_answers: true,
            body_bytes: 0,
        };
        site.start();
        let agent = AgentId::parse("A1").unwrap();
        site.small(1, Order::Enrolled(shared::message::Enrolled { agent, heartbeat: None }));
        site.poll();
        site.carried.clear();
        site
    }

    fn start(&mut self) {
        self.core = AgentCore::new(profile(self.budget), State::decode(&self.saved).unwrap());
        let (boot, program) = (BootId::default(), Program::default());
        self.feed(Event::Started { recovered: false, boot, program });
    }

    fn facts(&self, sequence: u64) -> EnvelopeFacts {
        EnvelopeFacts {
            id: id(sequence),
            created: self.now,
            expires: T0.plus(ORDER_LIFE),
            sequence,
            body_bytes: self.body_bytes,
            signer: trust().order_keys[0].key_id(),
        }
    }

    fn put(&mut self, mail: Mail, bytes: u64) {
        self.next_mail += 1;
        self.mailbox.insert(self.next_mail, (mail, bytes));
    }

    fn small(&mut self, sequence: u64, order: Order) {
        let facts = self.facts(sequence);
        self.put(Mail::Small(facts, order), SMALL_MAIL);
    }

    /// Announces a bundle of so many parts.
    fn announce(&mut self, sequence: u64, parts: u64) {
        self.body_bytes = parts * PART - 10;
        let facts = self.facts(sequence);
        let part = PartFacts { body: body(sequence), part_bytes: PART, span: None };
        self.put(Mail::Part(facts, part), SMALL_MAIL);
    }

    /// Mails the parts that have some of these bytes.
    fn mail_parts(&mut self, sequence: u64, wanted: &Spans) {
        let facts = self.facts(sequence);
        for number in 0..self.body_bytes.div_ceil(PART) {
            let from = number * PART;
            let span = Span { from, until: (from + PART).min(self.body_bytes) };
            if wanted.touch(span) {
                let part = PartFacts { body: body(sequence), part_bytes: PART, span: Some(span) };
                self.put(Mail::Part(facts, part), PART_MAIL);
            }
        }
    }

    fn carry(&mut self, bytes: u64) {
        *self.carried.entry(self.now.0.div_euclid(86_400_000)).or_insert(0) += bytes;
        self.feed(Event::Carried { bytes });
    }

    fn poll(&mut self) {
        self.feed(Event::MailboxStands { stand: MailboxStand::Ahead });
        for number in self.mailbox.keys().copied().collect::<Vec<_>>() {
            let Some((mail, bytes)) = self.mailbox.get(&number).cloned() else { continue };
            let handle = MailHandle(number);
            let envelope = match &mail {
                Mail::Part(facts, _) | Mail::Small(facts, _) => facts.id,
            };
            self.feed(Event::Offered { mail: handle, envelope, bytes });
            if !self.may_fetch.remove(&number) {
                continue;
            }
            self.carry(bytes);
            self.feed(Event::Fetched { bytes, took: Duration::from_secs(10) });
            self.feed(match mail {
                Mail::Part(facts, part) => Event::Part { mail: handle, facts, part },
                Mail::Small(facts, order) => {
                    let (payload, key) = (Payload::Absent, KeyName::First);
                    Event::Order { mail: handle, facts, order, payload, key }
                }
            });
        }
        self.feed(Event::MailboxStands { stand: MailboxStand::Read });
        self.feed(Event::Tick);
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now.plus(time);
        while self.now < end {
            let wake = self.core.next_wake().map_or(end, |(at, _)| at);
            self.now = wake.clamp(self.now.plus(Duration::from_secs(60)), self.now.plus(HOUR)).min(end);
            self.poll();
        }
    }

    fn feed(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut effects = Vec::new();
            let before = self.core.state().encode();
            self.core.step(self.now, event, &mut effects);
            let saves = effects.iter().filter(|effect| matches!(effect, Effect::Save(_))).count();
            assert!(saves == 1 || self.core.state().encode() == before, "a change was not saved");
            for effect in effects {
                events.extend(self.execute(effect));
            }
        }
    }

    fn execute(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Save(bytes) => {
                self.saves += 1;
                self.saved = bytes;
            }
            Effect::Fetch { mail } => drop(self.may_fetch.insert(mail.0)),
            Effect::KeepPart { mail, .. } => {
                let Some((Mail::Part(facts, part), _)) = self.mailbox.get(&mail.0).cloned() else { panic!() };
                return Some(Event::PartKept { mail, facts, part, result: Ok(()) });
            }
            Effect::Join { order, .. } => {
                let install = InstallOrder {
                    bundle: Digest::of(b"bundle"),
                    bundle_bytes: 7,
                    software_version: SoftwareVersion::parse("1-0").unwrap(),
                    scheduled: false,
                    delta: None,
                };
                let payload = Payload::Kept { digest: Digest::of(b"bundle"), bytes: 7 };
                return Some(Event::Joined {
                    order,
                    result: Ok((Order::Install(install), payload, KeyName::First)),
                });
            }
            Effect::Dispose { mail, .. } => drop(self.mailbox.remove(&mail.0)),
            Effect::ReadModules { read, .. } => {
                return Some(Event::ModulesRead { read, found: ModulesFound::default() });
            }
            Effect::Post(outgoing) => {
                if let (true, Report::Parts(ask)) = (self.manager_answers, &outgoing.report) {
                    let sequence = u128::from_be_bytes(ask.order.0);
                    self.mail_parts(u64::try_from(sequence).unwrap(), &ask.missing.clone());
                }
                self.reports.push(outgoing.report);
                return Some(Event::Posted { report: outgoing.sequence, result: PostResult::Done });
            }
            _ => {}
        }
        None
    }

    fn waits(&self) -> Vec<(WaitReason, UnixMillis)> {
        let of = |report: &Report| match report {
            Report::Progress(progress) => match &progress.step {
                Step::Waiting(waiting) => Some((waiting.reason, waiting.until)),
                Step::Received => None,
            },
            _ => None,
        };
        self.reports.iter().filter_map(of).collect()
    }

    fn asked_parts(&self) -> Vec<u64> {
        let of = |report: &Report| match report {
            Report::Parts(ask) => Some(ask.missing.bytes().div_ceil(PART)),
            _ => None,
        };
        self.reports.iter().filter_map(of).collect()
    }

    fn has_received(&self) -> bool {
        self.reports.iter().any(|report| matches!(report, Report::Progress(p) if p.step == Step::Received))
    }
}

fn profile(budget: Option<Budget>) -> Profile {
    Profile {
        agent: AgentId::parse("A1").unwrap(),
        classes: vec![],
        rules: Rules { budget, ..Rules::default() },
        counters_every: None,
        bill: BillDays::default(),
    }
}

fn a_day(bytes: u64) -> Budget {
    Budget { day_bytes: Some(bytes), ..Budget::default() }
}

fn at(text: &str) -> UnixMillis {
    UnixMillis::parse(text).unwrap()
}

#[test]
fn a_bundle_comes_as_fast_as_each_day_s_budget_lets_it() {
    let mut site = Site::new(a_day(400_000));
    site.announce(10, 10);
    site.poll();
    site.poll();
    assert_eq!(site.asked_parts(), [4], "400 kB have room for four mails");
    site.pass(HOUR);
    let midnight = at("2025-06-16T00:00:00Z");
    assert_eq!(
        site.waits(),
        [(WaitReason::PartsMissing, T0.plus(ORDER_LIFE)), (WaitReason::Budget, midnight)]
    );
    site.pass(DAY * 3);
    assert!(site.has_received(), "{:?}", site.reports);
    assert_eq!(site.asked_parts().iter().sum::<u64>(), 10, "each part once");
    assert!(site.carried.values().all(|bytes| *bytes <= 400_000), "{:?}", site.carried);
    assert_eq!(site.carried.len(), 3);
}

#[test]
fn what_lies_in_the_mailbox_stays_there_until_it_may_come() {
    let mut site = Site::new(a_day(600_000));
    site.manager_answers = false;
    site.announce(10, 8);
    site.poll();
    // A manager that does not know of the budget sends everything.
    let all = Spans::all(site.body_bytes);
    site.mail_parts(10, &all);
    site.pass(HOUR);
    assert_eq!(site.mailbox.len(), 2, "six have come today");
    let asked = site.asked_parts().len();
    site.small(2, Order::QueryVersions);
    site.pass(HOUR);
    assert!(site.reports.iter().any(|r| matches!(r, Report::Versions(_))), "what is small passes");
    assert_eq!(site.asked_parts().len(), asked, "what lies in the mailbox is not asked for");
    site.pass(DAY);
    assert!(site.mailbox.is_empty() && site.has_received());
    assert!(site.carried.values().all(|bytes| *bytes <= 610_000), "{:?}", site.carried);
}

#[test]
fn large_mails_come_in_their_hours() {
    let hours = Some(Hours { from: 22 * 60, until: 5 * 60 });
    let mut site = Site::new(Budget { hours, ..Budget::default() });
    site.announce(10, 3);
    site.poll();
    assert_eq!(site.waits()[1], (WaitReason::Hours, at("2025-06-15T22:00:00Z")));
    assert_eq!(site.asked_parts(), [] as [u64; 0]);
    site.pass(HOUR * 7);
    assert!(site.has_received());
    assert_eq!(site.waits().len(), 2, "each reason is said once");
}

#[test]
fn what_can_never_come_in_time_is_said_at_once() {
    let mut site = Site::new(a_day(400_000));
    // Today has room for four parts, as has each of the 14 days that the order lives.
    site.announce(10, 61);
    site.poll();
    let ended = |r: &Report| {
        if let Report::Ended(ended) = r { Some(ended.outcome.clone()) } else { None }
    };
    let outcome = site.reports.iter().find_map(ended).unwrap();
    assert!(matches!(&outcome, Outcome::Refused(Refusal::OverBudget(_))), "{outcome:?}");
    assert!(site.core.state().transfers.is_empty());
    let mut site = Site::new(a_day(400_000));
    site.announce(10, 59);
    site.poll();
    site.pass(DAY * 15);
    assert!(site.has_received(), "{:?}", site.reports);
}

#[test]
fn a_mail_that_nobody_announced_waits_and_is_told_once() {
    let mut site = Site::new(a_day(400_000));
    site.carry(350_000);
    site.body_bytes = PART;
    let order = Order::Install(InstallOrder {
        bundle: Digest::of(b"x"),
        bundle_bytes: 1,
        software_version: SoftwareVersion::parse("1-0").unwrap(),
        scheduled: false,
        delta: None,
    });
    let facts = site.facts(10);
    site.put(Mail::Small(facts, order), PART_MAIL);
    for _ in 0..5 {
        site.poll();
    }
    site.start();
    site.poll();
    assert_eq!(site.waits(), [(WaitReason::Budget, at("2025-06-16T00:00:00Z"))]);
    assert_eq!(site.core.state().meter.told.len(), 1);
    site.pass(HOUR * 10);
    assert!(site.mailbox.is_empty());
    assert!(site.core.state().meter.told.is_empty(), "nothing waits any more");
}

#[test]
fn a_flood_of_large_mails_hides_nothing_and_says_little() {
    let mut site = Site::new(a_day(400_000));
    site.carry(390_000);
    for n in 0..1_000 {
        let facts = site.facts(1_000 + n);
        site.put(Mail::Small(facts, Order::QueryVersions), PART_MAIL);
    }
    site.poll();
    assert_eq!(site.mailbox.len(), agent_core::LEFT_MAX_COUNT);
    assert!(site.waits().len() <= 16, "{}", site.waits().len());
    let facts = site.facts(9_000);
    site.put(Mail::Small(facts, Order::QueryVersions), 500_000);
    site.poll();
    assert_eq!(site.mailbox.len(), agent_core::LEFT_MAX_COUNT, "what is larger than the budget is junk");
}

#[test]
fn no_power_cut_makes_the_budget_larger_and_no_poll_wears_the_disk() {
    let mut site = Site::new(a_day(4_000_000));
    let used = |site: &Site| site.core.state().used(a_day(4_000_000), site.now).day_bytes;
    let (before, saves) = (used(&site), site.saves);
    for _ in 0..30 {
        site.carry(5_000);
    }
    assert!(site.saves - saves <= 10, "{}", site.saves - saves);
    site.start();
    let counted = used(&site) - before;
    assert!((150_000..=185_000).contains(&counted), "{counted}");
    // A proper end loses nothing and adds nothing.
    let before = used(&site);
    site.carry(100);
    site.feed(Event::Closing);
    site.start();
    assert_eq!(used(&site), before + 100);
    // A mail whose download a power cut ends has come, as far as anybody knows.
    let before = used(&site);
    let facts = site.facts(10);
    site.put(Mail::Small(facts, Order::QueryVersions), PART_MAIL);
    site.feed(Event::Offered { mail: MailHandle(site.next_mail), envelope: id(10), bytes: PART_MAIL });
    site.start();
    assert!(used(&site) >= before + PART_MAIL);
}

#[test]
fn the_manager_is_told_of_a_budget_and_of_the_rate() {
    let mut site = Site::unlimited();
    site.reports.clear();
    let lines = |site: &Site| -> Vec<_> {
        let of = |r: &Report| if let Report::Versions(v) = r { v.versions.line } else { None };
        site.reports.iter().filter_map(of).collect()
    };
    site.start();
    site.poll();
    assert_eq!(lines(&site), [], "nothing is new");
    site.budget = Some(a_day(4_000_000));
    site.start();
    site.start();
    site.poll();
    assert_eq!(lines(&site).len(), 1);
    assert_eq!(lines(&site)[0].budget, site.budget);
    assert_eq!(lines(&site)[0].from_manager, None, "not measured yet");
    site.feed(Event::Fetched { bytes: 1_000_000, took: Duration::from_secs(10) });
    site.feed(Event::Fetched { bytes: 1_000, took: Duration::from_secs(10) });
    site.feed(Event::Fetched { bytes: 500_000, took: Duration::from_secs(10) });
    site.small(2, Order::QueryVersions);
    site.poll();
    let line = lines(&site)[1];
    assert_eq!((line.from_manager, line.to_devices), (Some(87_500), None), "small mails say nothing");
    site.budget = None;
    site.start();
    assert_eq!(lines(&site).last().unwrap().budget, None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever the line carries beside, and whenever the power goes: no day has more than its budget but for small mails, and the
    /// bundle comes or is refused.
    #[test]
    fn every_day_stays_within_its_budget_and_everything_ends(
        day_bytes in 200_000u64..1_500_000,
        parts in 2u64..30,
        other in prop::collection::vec(0u64..30_000, 1..20),
        cuts in prop::collection::btree_set(0usize..200, 0..6),
        answers_late in any::<bool>(),
    ) {
        let mut site = Site::new(a_day(day_bytes));
        site.announce(10, parts);
        site.manager_answers = !answers_late;
        let mut beside = BTreeMap::new();
        for step in 0..(15 * 24) {
            if cuts.contains(&step) {
                site.start();
            }
            if answers_late && step == 30 {
                let all = Spans::all(site.body_bytes);
                site.mail_parts(10, &all);
            }
            if let Some(bytes) = other.get(step % 24) {
                // What is small is not held back: it comes even when nothing is left.
                *beside.entry(site.now.0.div_euclid(86_400_000)).or_insert(0) += bytes;
                site.carry(*bytes);
            }
            site.pass(HOUR);
        }
        for (day, bytes) in &site.carried {
            let small = beside.get(day).copied().unwrap_or(0) + 40 * SMALL_MAIL;
            prop_assert!(*bytes <= day_bytes.max(small) + small, "{bytes} on a day, {small} of them small");
        }
        prop_assert!(site.core.state().transfers.is_empty());
        prop_assert!(site.mailbox.is_empty());
        let refused = site.reports.iter().any(|r| matches!(r, Report::Ended(_)));
        prop_assert!(site.has_received() != refused);
    }
}
