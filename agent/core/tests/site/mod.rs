//! One agent with devices, for tests: looks go in, reports and readings come out. The manager is played by hand, over a
//! mail that loses what the test wants lost.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::time::Duration;

use agent_core::{
    AgentCore, BillDays, BootId, Compared, Effect, EnvelopeFacts, Event, KeyName, Look, LookFault,
    MailHandle, Payload, PostResult, Profile, Program, Rules, State,
};
use shared::device::{
    Counter, DeviceClass, DeviceName, Fault, FaultClass, FaultKey, FaultKind, FaultsRead, Measure,
    Observation, Severity, Status, Unit,
};
use shared::keys::{OpeningKey, SigningKey};
use shared::limits::ORDER_LIFE;
use shared::message::{Acknowledge, EnrolRequest, Enrolled, FaultReport, Linked, Order, ReadingMark, Report};
use shared::reading::Anomaly;
use shared::trust::Trust;
use shared::{AgentId, Digest, EnvelopeId, Label, MailAddress, UnixMillis};

pub(crate) const T0: UnixMillis = UnixMillis(1_750_000_000_000);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn trust() -> Trust {
    let key = |n| SigningKey::from_seed(&[n; 32]).verifying_key();
    let seal = OpeningKey::from_seed(&[3; 32]).sealing_key();
    Trust::new(1, T0, vec![key(1)], vec![key(2)], 1, seal)
}

pub(crate) fn name(text: &str) -> DeviceName {
    DeviceName::parse(text).unwrap()
}

pub(crate) fn fault(code: &str) -> Fault {
    Fault {
        key: FaultKey(Label::lossy(&format!("8/1/{code}"))),
        code: Label::lossy(code),
        kind: FaultKind::Jam,
        class: FaultClass::B,
        severity: Severity::Critical,
        location: Label::lossy("tray 2"),
        text: Label::lossy("Misfeed: paper tray"),
        never_cleared: false,
    }
}

/// The reading at each place of each chain.
pub(crate) fn linked(chain: u64, index: u64) -> Linked {
    let of = |index: u64| Digest::of(&[chain.to_be_bytes(), index.to_be_bytes()].concat());
    Linked { digest: of(index), previous: of(index.saturating_sub(1)) }
}

/// One that follows the same as that one, and is another.
pub(crate) fn other(chain: u64, index: u64) -> Linked {
    Linked { digest: Digest([7; 32]), ..linked(chain, index) }
}

/// One of which not even that is the same.
pub(crate) fn strange() -> Linked {
    Linked { digest: Digest([7; 32]), previous: Digest([6; 32]) }
}

/// An agent with devices, a manager's hand, and a clock that the test moves.
pub(crate) struct Site {
    pub(crate) core: AgentCore,
    pub(crate) now: UnixMillis,
    pub(crate) saved: Vec<u8>,
    pub(crate) mail_works: bool,
    pub(crate) orders: u64,
    pub(crate) chain: u64,
    pub(crate) kept: Vec<(DeviceName, Observation, Vec<Anomaly>)>,
    /// What `BeginChain` has left behind.
    pub(crate) left_behind: Vec<u64>,
    pub(crate) asked_again: Vec<DeviceName>,
    pub(crate) sent: Vec<Report>,
    /// So many of `sent` were answered.
    pub(crate) answered: usize,
    /// The last fault report of each number.
    pub(crate) reports: BTreeMap<u64, FaultReport>,
    /// `KeepReading` does nothing.
    pub(crate) disk_full: bool,
    profile: Profile,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::with(Some(Duration::from_secs(24 * 3_600)), BillDays::default())
    }

    /// One whose counters are sent so often, and on these days.
    pub(crate) fn with(counters_every: Option<Duration>, bill: BillDays) -> Self {
        let request = EnrolRequest {
            agent: AgentId::parse("A1").unwrap(),
            secret: [0; 32],
            sign_key: [0; 32],
            seal_key: [0; 32],
            mail: MailAddress::parse("a@b.test").unwrap(),
            agent_version: Label::lossy("1"),
        };
        let agent = request.agent.clone();
        let profile =
            Profile { agent: agent.clone(), classes: vec![], rules: Rules::default(), counters_every, bill };
        let core = AgentCore::new(profile.clone(), State::enrolling(request, T0, trust()));
        let mut site = Self {
            core,
            now: T0,
            saved: vec![],
            mail_works: true,
            orders: 0,
            chain: 9,
            kept: vec![],
            left_behind: vec![],
            asked_again: vec![],
            sent: vec![],
            answered: 0,
            reports: BTreeMap::new(),
            disk_full: false,
            profile,
        };
        site.feed(Event::Started { recovered: false, boot: BootId::default(), program: Program::default() });
        site.order(Order::Enrolled(Enrolled { agent, heartbeat: None }));
        site.watching();
        site.sent.clear();
        site
    }

    pub(crate) fn head(&self) -> Option<ReadingMark> {
        let index = self.kept.len() as u64;
        (index > 0).then_some(ReadingMark { chain: self.chain, index })
    }

    pub(crate) fn watching(&mut self) {
        let last: BTreeMap<_, _> = self.kept.iter().map(|(n, seen, _)| (n.clone(), seen.clone())).collect();
        let devices = ["mfp", "ups"].map(name).to_vec();
        self.feed(Event::Watching { devices, head: self.head(), last: last.into_iter().collect() });
    }

    /// A power cut.
    pub(crate) fn restart(&mut self) {
        self.core = AgentCore::new(self.profile.clone(), State::decode(&self.saved).unwrap());
        self.feed(Event::Started { recovered: false, boot: BootId::default(), program: Program::default() });
        self.watching();
    }

    pub(crate) fn feed(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let mut effects = vec![];
            self.core.step(self.now, event, &mut effects);
            for effect in effects {
                match effect {
                    Effect::Save(bytes) => self.saved = bytes,
                    Effect::Post(outgoing) => {
                        if let Report::Faults(faults) = &outgoing.report {
                            self.reports.insert(faults.number, faults.clone());
                        }
                        let result = if self.mail_works {
                            self.sent.push(outgoing.report);
                            PostResult::Done
                        } else {
                            PostResult::Later(Label::lossy("down"))
                        };
                        events.push(Event::Posted { report: outgoing.sequence, result });
                    }
                    Effect::KeepReading { .. } if self.disk_full => {}
                    Effect::KeepReading { device, seen, anomalies } => {
                        self.kept.push((device.clone(), *seen, anomalies));
                        events.push(Event::ReadingKept { device, mark: self.head().unwrap() });
                    }
                    Effect::LookAgain { device } => self.asked_again.push(device),
                    Effect::CompareReading { mark, there } => {
                        let here = Some(linked(self.chain, mark.index));
                        events.push(Event::ReadingCompared { mark, compared: Compared::of(here, there) });
                    }
                    Effect::BeginChain { after } => {
                        self.kept.drain(..usize::try_from(after).unwrap());
                        self.chain += 1;
                        self.left_behind.push(after);
                        events.push(Event::ChainBegun { head: self.head() });
                    }
                    _ => {}
                }
            }
        }
    }

    pub(crate) fn order(&mut self, order: Order) {
        self.orders += 1;
        let facts = EnvelopeFacts {
            id: EnvelopeId(u128::from(self.orders).to_be_bytes()),
            created: self.now,
            expires: self.now.plus(ORDER_LIFE),
            sequence: self.orders,
            body_bytes: 1,
            signer: trust().order_keys[0].key_id(),
        };
        self.feed(Event::Order {
            mail: MailHandle(self.orders),
            facts,
            key: KeyName::First,
            order,
            payload: Payload::Absent,
        });
    }

    /// The manager has the last reports of these numbers.
    pub(crate) fn acknowledge(&mut self, numbers: &[u64]) {
        let reports: Vec<_> = numbers.iter().filter_map(|number| self.reports.get(number)).cloned().collect();
        self.acknowledge_reports(&reports);
    }

    /// The manager has these reports.
    pub(crate) fn acknowledge_reports(&mut self, reports: &[FaultReport]) {
        let faults = reports.iter().map(|report| report.number).collect();
        let stamps = Some(reports.iter().filter_map(|report| report.stamp).collect());
        self.order(Order::Acknowledge(Acknowledge { faults, stamps, ..Acknowledge::default() }));
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
        self.feed(Event::Tick);
    }

    pub(crate) fn observation(&self, faults: &[Fault]) -> Observation {
        let mut seen = Observation::of(DeviceClass::Mfp, self.now);
        seen.status = Status::Idle;
        seen.faults = faults.to_vec();
        seen.identity.serial = Some(Label::lossy("S1"));
        seen
    }

    pub(crate) fn look(&mut self, faults: &[Fault]) {
        self.look_at("mfp", faults);
    }

    pub(crate) fn look_at(&mut self, device: &str, faults: &[Fault]) {
        let result = Ok(Box::new(self.observation(faults)));
        self.feed(Event::Looked { device: name(device), look: Look::Faults, result });
    }

    /// A look that could not read all that is wrong.
    pub(crate) fn half_look(&mut self, faults: &[Fault]) {
        let mut seen = self.observation(faults);
        seen.faults_read = FaultsRead::Unreadable;
        self.feed(Event::Looked { device: name("mfp"), look: Look::Faults, result: Ok(Box::new(seen)) });
    }

    pub(crate) fn silent(&mut self) {
        let result = Err(LookFault { silence: true, why: Label::lossy("no answer") });
        self.feed(Event::Looked { device: name("mfp"), look: Look::Faults, result });
    }

    pub(crate) fn read(&mut self, device: &str, serial: &str, pages: u64) {
        let mut seen = self.observation(&[]);
        seen.identity.serial = Some(Label::lossy(serial));
        seen.counters = vec![Counter {
            name: Label::lossy("pages"),
            labels: vec![],
            value: pages,
            unit: Unit::Impressions,
            measure: Measure::Cumulative,
        }];
        self.feed(Event::Looked { device: name(device), look: Look::Full, result: Ok(Box::new(seen)) });
    }

    pub(crate) fn told(&mut self) -> Vec<FaultReport> {
        let faults = |r: Report| if let Report::Faults(f) = r { Some(f) } else { None };
        self.answered = 0;
        self.sent.drain(..).filter_map(faults).collect()
    }

    /// The manager acknowledges whatever has reached it.
    pub(crate) fn answer(&mut self) {
        let number = |r: &Report| if let Report::Faults(f) = r { Some(f.number) } else { None };
        let numbers: Vec<_> = self.sent.iter().skip(self.answered).filter_map(number).collect();
        self.answered = self.sent.len();
        if !numbers.is_empty() {
            self.acknowledge(&numbers);
        }
    }

    /// One look each minute, as a pattern of `x` (jam) and `.` (none), everything acknowledged.
    pub(crate) fn minutes(&mut self, pattern: &str) {
        for shown in pattern.chars() {
            self.pass(MINUTE);
            self.answer();
            if shown == 'x' { self.look(&[fault("8")]) } else { self.look(&[]) }
        }
    }
}

/// The counter reports that were sent: the query that each answers, and after which reading it begins.
pub(crate) fn counters(site: &mut Site) -> Vec<(Option<EnvelopeId>, Option<u64>)> {
    let of = |r: Report| {
        if let Report::Counters(c) = r { Some((c.query, c.after.map(|m| m.index))) } else { None }
    };
    site.sent.drain(..).filter_map(of).collect()
}
