//! Orders that come in parts (PROTOCOL 17): any order of arrival, loss, duplicates, power cuts between any two effects, and
//! what is asked for. The mail and the disk are played by hand.
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
    AgentCore, BillDays, BootId, Effect, EnvelopeFacts, Event, JunkReason, KeyName, MailHandle, MailboxStand,
    ModulesFound, OpenFault, PartFacts, PartFault, Payload, PostResult, Profile, Program, Rules, State,
};
use proptest::prelude::*;
use shared::keys::{OpeningKey, SigningKey};
use shared::limits::ORDER_LIFE;
use shared::message::{
    CancelOrder, CancelResult, Cause, Ended, EnrolRequest, InstallOrder, Order, Outcome, PartsWanted,
    Refusal, Report, Step, WaitReason,
};
use shared::trust::Trust;
use shared::{AgentId, Digest, EnvelopeId, Label, MailAddress, SoftwareVersion, Span, Spans, UnixMillis};

const T0: UnixMillis = UnixMillis(1_750_000_000_000);
const MINUTE: Duration = Duration::from_secs(60);
/// Bytes of every body here, and of every part.
const BODY: u64 = 95;
const PART: u64 = 10;
const PARTS: u64 = 10;

fn trust() -> Trust {
    let key = |n| SigningKey::from_seed(&[n; 32]).verifying_key();
    let seal = OpeningKey::from_seed(&[3; 32]).sealing_key();
    Trust::new(1, T0, vec![key(1)], vec![key(2)], 1, seal)
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

fn id(n: u64) -> EnvelopeId {
    EnvelopeId(u128::from(n).to_be_bytes())
}

/// The body of version `n`.
fn body(n: u64) -> Digest {
    Digest::of(&n.to_be_bytes())
}

fn part(n: u64) -> Span {
    Span { from: n * PART, until: (n * PART + PART).min(BODY) }
}

/// What a mail holds.
#[derive(Clone, Debug)]
enum Mail {
    Part(EnvelopeFacts, PartFacts),
    Small(EnvelopeFacts, Order),
}

struct Site {
    core: AgentCore,
    saved: Vec<u8>,
    now: UnixMillis,
    mailbox: BTreeMap<u64, Mail>,
    next_mail: u64,
    /// Bytes that are durable, and heads.
    disk: BTreeMap<Digest, Spans>,
    heads: BTreeSet<EnvelopeId>,
    /// Which version each body brings.
    versions: BTreeMap<Digest, u64>,
    sent: BTreeMap<u64, Report>,
    mail_works: bool,
    joins: u32,
    /// What joining says, if not that it worked.
    join_fault: Option<OpenFault>,
    cut_after: Option<u32>,
    effects: u32,
}

impl Site {
    fn new() -> Self {
        let request = EnrolRequest {
            agent: profile().agent,
            secret: [0; 32],
            sign_key: [0; 32],
            seal_key: [0; 32],
            mail: MailAddress::parse("a@b.test").unwrap(),
            agent_version: Label::lossy("1"),
        };
        let state = State::enrolling(request, T0, trust());
        let mut site = Self {
            core: AgentCore::new(profile(), state.clone()),
            saved: state.encode(),
            now: T0,
            mailbox: BTreeMap::new(),
            next_mail: 0,
            disk: BTreeMap::new(),
            heads: BTreeSet::new(),
            versions: (0..100).map(|n| (body(n), n)).collect(),
            sent: BTreeMap::new(),
            mail_works: true,
            joins: 0,
            join_fault: None,
            cut_after: None,
            effects: 0,
        };
        site.start();
        let hello = Order::Enrolled(shared::message::Enrolled { agent: profile().agent, heartbeat: None });
        site.small(1, hello);
        site.poll();
        site.sent.clear();
        site
    }

    fn facts(&self, sequence: u64) -> EnvelopeFacts {
        EnvelopeFacts {
            id: id(sequence),
            created: T0,
            expires: T0.plus(ORDER_LIFE),
            sequence,
            body_bytes: BODY,
            signer: trust().order_keys[0].key_id(),
        }
    }

    fn put(&mut self, mail: Mail) {
        self.next_mail += 1;
        self.mailbox.insert(self.next_mail, mail);
    }

    /// Mails a part of the order with this sequence number, which brings version `n`; `None`: its head alone.
    fn mail(&mut self, sequence: u64, n: u64, span: Option<Span>) {
        let facts = self.facts(sequence);
        self.put(Mail::Part(facts, PartFacts { body: body(n), part_bytes: PART, span }));
    }

    fn small(&mut self, sequence: u64, order: Order) {
        let facts = self.facts(sequence);
        self.put(Mail::Small(facts, order));
    }

    fn start(&mut self) {
        self.core = AgentCore::new(profile(), State::decode(&self.saved).unwrap());
        let (boot, program) = (BootId::default(), Program::default());
        self.feed(Event::Started { recovered: false, boot, program });
    }

    /// Looks at every mail that is there.
    fn poll(&mut self) {
        for number in self.mailbox.keys().copied().collect::<Vec<_>>() {
            let Some(mail) = self.mailbox.get(&number).cloned() else { continue };
            let handle = MailHandle(number);
            self.feed(match mail {
                Mail::Part(facts, part) => Event::Part { mail: handle, facts, part },
                Mail::Small(facts, order) => {
                    let (payload, key) = (Payload::Absent, KeyName::First);
                    Event::Order { mail: handle, facts, order, payload, key }
                }
            });
        }
        self.feed(Event::Tick);
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now.plus(time);
        while self.now < end {
            let wake = self.core.next_wake().map_or(end, |(at, _)| at);
            self.now = wake.clamp(self.now.plus(Duration::from_secs(1)), end);
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
            assert!(saves <= 1 && (saves == 0 || matches!(effects[0], Effect::Save(_))), "save comes first");
            assert!(saves == 1 || self.core.state().encode() == before, "a change was not saved");
            for effect in effects {
                if self.cut_after == Some(0) {
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
        match effect {
            Effect::Save(bytes) => self.saved = bytes,
            Effect::KeepPart { mail, head } => return Some(self.keep(mail, head)),
            Effect::Join { order, body } => return Some(self.join(order, body)),
            Effect::TidyParts { keep } => {
                self.disk.retain(|body, _| keep.iter().any(|(_, kept)| kept == body));
                self.heads.retain(|head| keep.iter().any(|(kept, _)| kept == head));
            }
            Effect::Dispose { mail, .. } => self.dispose(mail),
            Effect::Post(outgoing) => {
                let report = outgoing.sequence;
                let result = if self.mail_works {
                    self.sent.insert(report.0, outgoing.report);
                    PostResult::Done
                } else {
                    PostResult::Later(Label::lossy("down"))
                };
                return Some(Event::Posted { report, result });
            }
            Effect::ReadModules { read, .. } => {
                return Some(Event::ModulesRead { read, found: ModulesFound::default() });
            }
            // Installs stay at their beginning.
            _ => {}
        }
        None
    }

    fn keep(&mut self, mail: MailHandle, head: bool) -> Event {
        let Some(Mail::Part(facts, part)) = self.mailbox.get(&mail.0).cloned() else { panic!("no part") };
        if let Some(span) = part.span {
            assert!(self.disk.entry(part.body).or_default().add(span));
        }
        if head {
            self.heads.insert(facts.id);
        }
        Event::PartKept { mail, facts, part, result: Ok(()) }
    }

    fn join(&mut self, order: EnvelopeId, body: Digest) -> Event {
        self.joins += 1;
        if let Some(fault) = self.join_fault.clone() {
            return Event::Joined { order, result: Err(fault) };
        }
        assert!(self.heads.contains(&order), "joined without its head");
        assert!(self.disk[&body].missing(BODY).is_empty(), "joined with holes");
        let install = InstallOrder {
            bundle: Digest([9; 32]),
            bundle_bytes: 9,
            delta: None,
            software_version: SoftwareVersion::parse(&format!("{}-0", self.versions[&body])).unwrap(),
            scheduled: false,
        };
        let payload = Payload::Kept { digest: install.bundle, bytes: install.bundle_bytes };
        Event::Joined { order, result: Ok((Order::Install(install), payload, KeyName::First)) }
    }

    fn dispose(&mut self, mail: MailHandle) {
        // PROTOCOL 17.3, 10.4: what a mail brought is saved, or its order dealt with, before it goes.
        if let Some(Mail::Part(facts, part)) = self.mailbox.remove(&mail.0) {
            let saved = State::decode(&self.saved).unwrap();
            let held = saved.transfers.iter().find(|t| t.body == part.body);
            let held = held.is_some_and(|t| part.span.is_none_or(|span| t.held.has(span)));
            assert!(held || saved.fresh.seen.contains_key(&facts.id), "a part went unsaved");
        }
    }

    fn received(&self) -> Vec<EnvelopeId> {
        let of = |report: &Report| match report {
            Report::Progress(p) if p.step == Step::Received => Some(p.order),
            _ => None,
        };
        self.sent.values().filter_map(of).collect()
    }

    fn asks(&self) -> Vec<PartsWanted> {
        let of = |report: &Report| if let Report::Parts(ask) = report { Some(ask.clone()) } else { None };
        self.sent.values().filter_map(of).collect()
    }

    fn refusals(&self) -> Vec<(EnvelopeId, Refusal)> {
        let of = |report: &Report| match report {
            Report::Ended(ended) => match &ended.outcome {
                Outcome::Refused(refusal) => Some((ended.order, refusal.clone())),
                _ => None,
            },
            _ => None,
        };
        self.sent.values().filter_map(of).collect()
    }

    fn holds_nothing(&self) -> bool {
        self.disk.is_empty() && self.heads.is_empty() && self.core.state().transfers.is_empty()
    }
}

fn missing(parts: &[u64]) -> Spans {
    let mut spans = Spans::default();
    parts.iter().for_each(|n| assert!(spans.add(part(*n))));
    spans
}

#[test]
fn parts_in_any_order_become_one_order_and_leave_nothing_behind() {
    let mut site = Site::new();
    for n in [3, 0, 9, 1, 1, 8, 2, 7, 4, 6, 5] {
        assert_eq!(site.received(), []);
        site.mail(10, 5, Some(part(n)));
        site.poll();
    }
    assert_eq!((site.received(), site.joins), (vec![id(10)], 1));
    assert!(site.mailbox.is_empty() && site.holds_nothing());
    // PROTOCOL 7.3: what still comes of it is a repeat.
    site.mail(10, 5, Some(part(2)));
    site.mail(10, 5, None);
    site.poll();
    assert!(site.mailbox.is_empty() && site.holds_nothing());
    assert_eq!((site.received().len(), site.core.state().junk[&JunkReason::Repeated]), (1, 3));
}

#[test]
fn the_manager_hears_at_once_that_the_rest_is_waited_for() {
    let mut site = Site::new();
    site.mail(10, 5, Some(part(3)));
    site.poll();
    let [Report::Progress(progress)] = site.sent.values().collect::<Vec<_>>()[..] else { panic!() };
    let Step::Waiting(waiting) = &progress.step else { panic!() };
    assert_eq!((progress.order, waiting.reason), (id(10), WaitReason::PartsMissing));
    assert_eq!(waiting.until, T0.plus(ORDER_LIFE));
}

#[test]
fn only_what_is_missing_is_asked_for_when_nothing_has_come_for_a_while() {
    let mut site = Site::new();
    for n in (0..PARTS).filter(|n| ![4, 5, 9].contains(n)) {
        site.mail(10, 5, Some(part(n)));
        site.poll();
        // PROTOCOL 17.5: a part that comes says that others may be behind it.
        site.pass(MINUTE * 29);
    }
    assert_eq!(site.asks(), []);
    site.pass(MINUTE);
    let ask = PartsWanted { order: id(10), body_bytes: BODY, missing: missing(&[4, 5, 9]), here: None };
    assert_eq!(site.asks(), [ask]);
    site.mail(10, 5, Some(part(4)));
    site.poll();
    site.pass(MINUTE * 30);
    assert_eq!(site.asks()[1].missing, missing(&[5, 9]));
    for n in [5, 9] {
        site.mail(10, 5, Some(part(n)));
    }
    site.poll();
    assert_eq!(site.received(), [id(10)]);
    site.pass(MINUTE * 60 * 24 * 14);
    assert_eq!(site.asks().len(), 2);
}

#[test]
fn nothing_is_asked_for_while_it_may_be_in_the_mailbox() {
    let mut site = Site::new();
    site.mail(10, 5, Some(part(0)));
    site.mail(10, 5, None);
    site.feed(Event::MailboxStands { stand: MailboxStand::Ahead });
    site.poll();
    site.pass(MINUTE * 60 * 5);
    assert_eq!(site.asks(), [], "the line is thin, and the next mail large");
    site.feed(Event::MailboxStands { stand: MailboxStand::Read });
    assert_eq!(site.asks().len(), 1);
}

#[test]
fn requests_get_rarer_and_end_with_the_order() {
    let mut site = Site::new();
    site.mail(10, 5, Some(part(0)));
    site.poll();
    let mut times = Vec::new();
    for _ in 0..14 * 24 * 4 + 1 {
        site.pass(MINUTE * 15);
        times.resize(site.asks().len(), site.now);
    }
    let pauses: Vec<u64> = times.windows(2).map(|pair| pair[1].since(pair[0]).as_secs() / 3_600).collect();
    assert!(pauses.is_sorted() && pauses.last() == Some(&12), "{pauses:?}");
    assert!(times.len() <= 32, "{}", times.len());
    // PROTOCOL 17.10: it says how it ended, and keeps nothing.
    let ends = site.sent.values().filter_map(|r| if let Report::Ended(end) = r { Some(end) } else { None });
    let [Ended { order, outcome: Outcome::RolledBack(failure), .. }] = ends.collect::<Vec<_>>()[..] else {
        panic!()
    };
    let Cause::WaitedTooLong(Some(hindrance)) = &failure.cause else { panic!("{failure}") };
    assert_eq!((*order, hindrance.reason), (id(10), WaitReason::PartsMissing));
    assert!(site.holds_nothing());
}

#[test]
fn a_request_that_cannot_be_mailed_is_made_once_and_dropped_when_the_parts_come() {
    let mut site = Site::new();
    site.mail(10, 5, Some(part(0)));
    site.poll();
    site.mail_works = false;
    site.pass(MINUTE * 60 * 48);
    let waiting = |site: &Site| {
        let waiting = &site.core.state().outbox.waiting;
        waiting.iter().filter(|queued| matches!(queued.report, Report::Parts(_))).count()
    };
    assert_eq!(waiting(&site), 1);
    (1..PARTS).for_each(|n| site.mail(10, 5, Some(part(n))));
    site.poll();
    assert_eq!(waiting(&site), 0);
}

#[test]
fn a_head_alone_is_answered_at_once_with_what_is_missing() {
    let mut site = Site::new();
    site.mail(10, 5, None);
    site.poll();
    assert_eq!(site.asks()[0].missing, Spans::all(BODY));
    for n in 0..6 {
        site.mail(10, 5, Some(part(n)));
    }
    site.poll();
    // The operator tries again: another order, the same body.
    site.mail(20, 5, None);
    site.poll();
    let ask = PartsWanted { order: id(20), body_bytes: BODY, missing: missing(&[6, 7, 8, 9]), here: None };
    assert_eq!(site.asks()[1], ask);
    assert_eq!(site.refusals(), [(id(10), Refusal::Superseded)]);
    // Parts of the first that were under way, and parts of another cut.
    site.mail(10, 5, Some(part(6)));
    site.mail(20, 5, Some(Span { from: 68, until: 81 }));
    site.mail(20, 5, Some(Span { from: 81, until: BODY }));
    site.poll();
    assert_eq!(site.received(), [id(20)]);
    assert!(site.holds_nothing());
}

#[test]
fn an_older_order_for_the_same_body_brings_its_bytes_and_is_refused() {
    let mut site = Site::new();
    (0..5).for_each(|n| site.mail(20, 5, Some(part(n))));
    (5..PARTS).for_each(|n| site.mail(10, 5, Some(part(n))));
    site.poll();
    assert_eq!((site.received(), site.refusals()), (vec![id(20)], vec![(id(10), Refusal::Superseded)]));
}

#[test]
fn a_withdrawn_order_lets_go_of_its_parts_and_takes_no_more() {
    let mut site = Site::new();
    site.mail(10, 5, Some(part(0)));
    site.small(11, Order::Cancel(CancelOrder { orders: vec![id(10), id(12)] }));
    site.poll();
    assert_eq!(site.refusals(), [(id(10), Refusal::Cancelled)]);
    assert!(site.holds_nothing());
    let answers =
        site.sent.values().filter_map(|r| if let Report::Cancelled(a) = r { Some(a.result) } else { None });
    assert_eq!(answers.collect::<Vec<_>>(), [CancelResult::BeforeStart, CancelResult::Unknown]);
    site.mail(10, 5, Some(part(1)));
    // Withdrawn before its first part came.
    site.mail(12, 6, Some(part(1)));
    site.poll();
    assert_eq!(site.refusals()[1..], [(id(12), Refusal::Cancelled)]);
    assert!(site.holds_nothing() && site.mailbox.is_empty());
}

#[test]
fn a_newer_install_ends_what_is_not_complete() {
    let mut site = Site::new();
    site.mail(10, 5, Some(part(0)));
    (0..PARTS).for_each(|n| site.mail(11, 6, Some(part(n))));
    site.mail(10, 5, Some(part(1)));
    site.mail(9, 4, Some(part(1)));
    site.poll();
    assert_eq!(site.received(), [id(11)]);
    assert_eq!(site.refusals(), [(id(10), Refusal::Superseded), (id(9), Refusal::Superseded)]);
    assert!(site.holds_nothing() && site.mailbox.is_empty());
}

#[test]
fn no_more_than_four_bodies_are_gathered() {
    let mut site = Site::new();
    for n in 1..=6 {
        site.mail(10 + n, n, Some(part(0)));
    }
    site.poll();
    assert_eq!(site.refusals(), [(id(11), Refusal::QueueFull), (id(12), Refusal::QueueFull)]);
    assert_eq!((site.disk.len(), site.heads.len()), (4, 4));
}

#[test]
fn parts_that_are_not_the_body_after_all_are_asked_for_anew() {
    let mut site = Site::new();
    site.join_fault = Some(OpenFault::Mail(JunkReason::Damaged));
    (0..PARTS).for_each(|n| site.mail(10, 5, Some(part(n))));
    site.poll();
    assert_eq!((site.asks()[0].missing.clone(), site.joins), (Spans::all(BODY), 1));
    site.join_fault = None;
    (0..PARTS).for_each(|n| site.mail(10, 5, Some(part(n))));
    site.poll();
    assert_eq!(site.received(), [id(10)]);
}

#[test]
fn a_full_disk_at_the_end_is_waited_for() {
    let mut site = Site::new();
    site.join_fault = Some(OpenFault::Local(Label::lossy("no room")));
    (0..PARTS).for_each(|n| site.mail(10, 5, Some(part(n))));
    site.poll();
    site.pass(MINUTE * 35);
    assert!((2..=5).contains(&site.joins), "{}", site.joins);
    site.join_fault = None;
    site.pass(MINUTE * 11);
    assert_eq!((site.received(), site.asks()), (vec![id(10)], vec![]));
}

#[test]
fn a_body_that_is_too_large_for_the_box_is_refused() {
    let mut site = Site::new();
    site.mail(10, 5, Some(part(0)));
    let Some(Mail::Part(facts, part)) = site.mailbox.values().next().cloned() else { panic!() };
    let why = Label::lossy("larger than this agent takes");
    let result = Err(PartFault::Refused(why.clone()));
    site.feed(Event::PartKept { mail: MailHandle(site.next_mail), facts, part, result });
    assert_eq!(site.refusals(), [(id(10), Refusal::BadBundle(why))]);
    assert!(site.holds_nothing() && site.mailbox.is_empty());
}

#[test]
fn a_power_cut_after_any_effect_loses_no_part_and_installs_once() {
    let play = |cut: Option<u32>| {
        let mut site = Site::new();
        site.cut_after = cut;
        for n in [1, 0, 2, 4, 3, 5, 6, 7, 9] {
            site.mail(10, 5, Some(part(n)));
            site.poll();
        }
        site.poll();
        site.pass(MINUTE * 31);
        site.mail(10, 5, Some(part(8)));
        site.poll();
        site.poll();
        assert_eq!(site.received(), [id(10)], "cut after {cut:?}");
        assert!(site.mailbox.is_empty() && site.holds_nothing());
        assert!(site.asks().iter().all(|ask| ask.missing == missing(&[8])), "{:?}", site.asks());
        site.effects
    };
    for cut in 0..play(None) {
        play(Some(cut));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_line_that_loses_and_repeats_and_a_box_that_falls_get_it_all_in_the_end(
        lost in prop::collection::vec(any::<bool>(), 60),
        cuts in prop::collection::vec(0u32..60, 0..6),
        twice in any::<bool>(),
    ) {
        let mut site = Site::new();
        let (mut lost, mut cuts) = (lost.into_iter(), cuts.into_iter());
        let mut wanted = Spans::all(BODY);
        let mut mailed = 0u64;
        for _ in 0..80 {
            site.cut_after = site.cut_after.or(cuts.next());
            for n in (0..PARTS).filter(|n| wanted.touch(part(*n))) {
                mailed += 1;
                if !lost.next().unwrap_or(false) {
                    (0..=u8::from(twice)).for_each(|_| site.mail(10, 5, Some(part(n))));
                }
            }
            let asked = site.asks().len();
            // A box that lost everything is told again that there is an order.
            if site.core.state().transfers.is_empty() && site.received().is_empty() {
                site.mail(10, 5, None);
            }
            site.pass(MINUTE * 60);
            if !site.received().is_empty() {
                break;
            }
            wanted = site.asks().get(asked..).and_then(<[_]>::last).map_or_else(Spans::default, |a| a.missing.clone());
        }
        prop_assert_eq!(site.received(), vec![id(10)]);
        prop_assert!(site.holds_nothing());
        // 60 chances of loss cost no more than what was lost, and a power cut costs nothing.
        prop_assert!(mailed <= PARTS + 60 + PARTS, "{}", mailed);
    }
}
