//! The simulated manager: the cores of the real one over a store in memory that forgets what was not
//! committed. Mail in, tick and mail out, in the order of saving and speaking that the daemon keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use agent_core::{EnvelopeFacts, KeyName};
use manager_core::consent::Standing;
use manager_core::delivery::Cause;
use manager_core::enrol::{EnrolDecision, Enrolment, decide};
use manager_core::parts::{Asked, Carriage, GATHER, Load};
use manager_core::rekey::{Belief, FormerKey, rekey_due};
use manager_core::trust::heartbeat_due;
use manager_core::window::{Windows, Zone};
use manager_core::{
    Action, AgentFacts, Campaign, CampaignState, Fleet, Target, TargetEvent, TargetState, Trouble, plan,
};
use shared::keys::SigningKey;
use shared::limits::{FORMER_SIGNING_KEY_LIFE, INTERVALS_MAX_COUNT, ORDER_LIFE};
use shared::message::{
    CancelOrder, DeviceChoice, DevicePlan, DeviceUpdate, DeviceUpdates, Enrolled, Heartbeat, InstallOrder,
    Order, PartsWanted, Progress, Rekeyed, Report, Schedule, Step, TestOrder, UpdateState, VersionReport,
};
use shared::trust::Statement;
use shared::{AgentId, Digest, EnvelopeId, SoftwareVersion, Spans, UnixMillis};

use crate::behind::Behind;
use crate::boxes::{RELEASE_SEED, trust};
use crate::dice::Dice;
use crate::post::{Answer, Content, Mail, Piece, Post, Reader};

/// Boxes expect to hear of the manager this often.
const HEARTBEAT: Heartbeat = Heartbeat { every_ms: 7 * 86_400_000 };

/// When boxes may be changed in campaigns that keep to windows.
const NIGHTS: &str = "22:00-05:00";

const RETRY_MIN: core::time::Duration = core::time::Duration::from_secs(300);

/// Bytes of a body that goes in parts, and of each part.
const BODY_BYTES: u64 = 57;
const PARTS: Carriage = Carriage::Parts(10);

/// What is in the store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    pub(crate) campaigns: Vec<Campaign>,
    /// Whether bundles go in parts, and to whom parts of which went.
    pub(crate) in_parts: bool,
    had_parts: BTreeSet<(AgentId, Digest)>,
    fleet: Fleet,
    enrolments: BTreeMap<AgentId, Enrolment>,
    versions_from: BTreeMap<AgentId, u64>,
    reports: BTreeSet<(AgentId, EnvelopeId)>,
    outbox: Vec<OutOrder>,
    sequence: u64,
    last_heartbeat: Option<UnixMillis>,
    standing_from: BTreeMap<AgentId, u64>,
    /// What each agent has told of its devices' updates, and in which report.
    updates: BTreeMap<AgentId, (u64, Vec<DeviceUpdate>)>,
    /// Agents that say that they hear no heartbeats.
    pub(crate) unheard: BTreeSet<AgentId>,
    keys: BTreeMap<AgentId, KeyRing>,
    /// What is behind each agent. Shared between the copies of a store, until one of them changes.
    behind: BTreeMap<AgentId, Rc<Behind>>,
}

/// An agent's keys, as the manager has them.
#[derive(Clone, Debug, Default)]
struct KeyRing {
    current: KeyName,
    /// The oldest first.
    former: Vec<(KeyName, FormerKey)>,
    /// When new ones were asked for, if they have not come.
    asked: Option<UnixMillis>,
    orders: BTreeSet<EnvelopeId>,
}

/// A report and what is known of it.
struct Signed<'m> {
    signer: &'m AgentId,
    key: KeyName,
    envelope: EnvelopeId,
    sequence: u64,
    report: &'m Report,
    sent: UnixMillis,
}

impl KeyRing {
    /// What a report under a key is worth, and what it says of keys that are older.
    fn hear(&mut self, signed: &Signed<'_>, now: UnixMillis) -> Belief {
        let place = self.former.iter().position(|(key, _)| *key == signed.key);
        let belief = match place {
            None if signed.key == self.current => Belief::Whole,
            None => Belief::Not,
            Some(place) => self.former[place].1.belief(signed.sequence, now),
        };
        if belief != Belief::Not {
            let older = place.unwrap_or(self.former.len());
            self.former[..older].iter_mut().for_each(|(_, key)| key.overtake(signed.sequence, now));
        }
        belief
    }
}

/// An order in the outbox.
#[derive(Clone, Debug)]
struct OutOrder {
    envelope: EnvelopeId,
    sequence: u64,
    order: Order,
    created: UnixMillis,
    expires: UnixMillis,
    campaign: Option<usize>,
    /// Recipients that the relay has not answered for good: next try and attempts.
    queued: BTreeMap<AgentId, (UnixMillis, u32)>,
    /// Its body, if that goes in parts.
    body: Option<Digest>,
    /// What is still to be mailed of it; who is not in here: all.
    wanted: BTreeMap<AgentId, Spans>,
    asked: BTreeMap<AgentId, Asked>,
}

impl OutOrder {
    /// What the next mail brings, and to whom of those who are due.
    fn load(&self, due: &[AgentId]) -> (Load, Vec<AgentId>) {
        let carriage = if self.body.is_some() { PARTS } else { Carriage::Whole };
        let load = Load::next(carriage, BODY_BYTES, self.wanted.get(&due[0]));
        let serves = |agent: &&AgentId| load.serves(carriage, self.wanted.get(*agent));
        (load, due.iter().filter(serves).cloned().collect())
    }

    fn piece(&self, load: Load) -> Piece {
        match (load, self.body) {
            (Load::Part { span, .. }, Some(body)) => Piece::Part(body, span),
            (Load::Head { .. }, Some(body)) => Piece::Head(body),
            _ => Piece::Whole,
        }
    }
}

/// The manager.
#[derive(Debug)]
pub(crate) struct Headquarters {
    pub(crate) store: Store,
    dice: Dice,
    /// Crashes per thousand passes.
    pub(crate) crashes: u64,
    recipients_per_mail: usize,
    dead: BTreeSet<AgentId>,
    /// Install mails per agent and envelope that the relay has taken.
    pub(crate) installs_mailed: u64,
    /// Parts of them, of which none was sent twice without being asked for.
    pub(crate) parts_mailed: u64,
    /// The version of the trust in force.
    trust_version: u8,
}

impl Headquarters {
    pub(crate) fn new(agents: impl Iterator<Item = (AgentId, bool)>, dice: Dice, now: UnixMillis) -> Self {
        let mut store = Store::default();
        let mut dead = BTreeSet::new();
        for (id, dead_address) in agents {
            store.keys.insert(id.clone(), KeyRing::default());
            store.behind.insert(id.clone(), Rc::default());
            store.fleet.insert(
                id.clone(),
                AgentFacts {
                    classes: vec![],
                    enrolled: false,
                    version: None,
                    consent: Standing::Always,
                    has_admin: false,
                    penalty_until: None,
                    grave_faults: vec![],
                },
            );
            let invited = Enrolment {
                secret_digest: Digest::of(&[7; 32]),
                expires: now.plus(core::time::Duration::from_secs(90 * 86_400)),
                used_by: None,
            };
            store.enrolments.insert(id.clone(), invited);
            if dead_address {
                dead.insert(id);
            }
        }
        Self {
            store,
            dice,
            crashes: 0,
            recipients_per_mail: 50,
            dead,
            installs_mailed: 0,
            parts_mailed: 0,
            trust_version: 1,
        }
    }

    pub(crate) fn start_campaign(&mut self, mut campaign: Campaign) {
        for (agent, facts) in &self.store.fleet {
            let target = Target::new(facts.version.clone(), campaign.settings.retries);
            campaign.targets.insert(agent.clone(), target);
        }
        self.store.campaigns.push(campaign);
    }

    /// A new order key; the old one counts no more, and what it signed and is still on its way is lost.
    pub(crate) fn change_order_key(&mut self) {
        self.trust_version += 1;
    }

    /// The operator asks all agents for new keys.
    pub(crate) fn ask_for_keys(&mut self, now: UnixMillis) {
        let enrolled = self.store.fleet.iter().filter(|(_, facts)| facts.enrolled);
        let agents: Vec<AgentId> = enrolled.map(|(agent, _)| agent.clone()).collect();
        self.store.order_keys(now, &agents, self.recipients_per_mail, &mut self.dice);
    }

    /// The operator has all agents run the test of what they should have.
    pub(crate) fn order_tests(&mut self, now: UnixMillis, version: &SoftwareVersion) {
        let enrolled = self.store.fleet.iter().filter(|(_, facts)| facts.enrolled);
        let agents: Vec<AgentId> = enrolled.map(|(agent, _)| agent.clone()).collect();
        let order = Order::Test(TestOrder { software_version: version.clone() });
        for batch in agents.chunks(self.recipients_per_mail) {
            self.store.queue(now, order.clone(), None, batch, &mut self.dice);
        }
    }

    /// Plans a bundle's firmware for all devices of each agent; what is unknown by its last report is allowed once more if `permit` says so.
    pub(crate) fn plan_devices(&mut self, now: UnixMillis, plan: &DevicePlan, permit: bool) {
        let enrolled = self.store.fleet.iter().filter(|(_, facts)| facts.enrolled);
        for agent in enrolled.map(|(agent, _)| agent.clone()).collect::<Vec<_>>() {
            let mut plan = plan.clone();
            let rows = self.store.updates.get(&agent).map(|(_, rows)| rows.as_slice()).unwrap_or_default();
            for row in rows.iter().filter(|row| permit && row.state == UpdateState::Unknown) {
                let transfers_allowed = row.transfers + 1;
                plan.devices.insert(
                    row.device.clone(),
                    DeviceChoice { transfers_allowed, ..DeviceChoice::default() },
                );
            }
            self.store.queue(now, Order::DevicePlan(plan), None, &[agent], &mut self.dice);
        }
    }

    /// What an agent has last told of its devices' updates.
    pub(crate) fn updates_of(&self, agent: &AgentId) -> &[DeviceUpdate] {
        self.store.updates.get(agent).map(|(_, rows)| rows.as_slice()).unwrap_or_default()
    }

    /// The keys that an agent's orders are sealed to.
    pub(crate) fn key_of(&self, agent: &AgentId) -> KeyName {
        self.store.keys[agent].current
    }

    /// True if an agent was asked for keys that have not come.
    pub(crate) fn waits_for_keys(&self, agent: &AgentId) -> bool {
        self.store.keys[agent].asked.is_some()
    }

    /// What is behind an agent.
    pub(crate) fn behind(&self, agent: &AgentId) -> &Behind {
        &self.store.behind[agent]
    }

    fn introduction(&self) -> Vec<Statement> {
        if self.trust_version == 1 {
            return vec![];
        }
        let mut statement = Statement::unsigned(&trust(self.trust_version));
        statement.sign(&SigningKey::from_seed(&[RELEASE_SEED; 32]));
        vec![statement]
    }

    pub(crate) fn enrolled_count(&self) -> usize {
        self.store.fleet.values().filter(|facts| facts.enrolled).count()
    }

    /// One pass of the daemon; it may die at any of the marked places.
    pub(crate) fn pass(&mut self, now: UnixMillis, post: &mut Post) {
        self.mail_in(now, post);
        self.tick(now);
        self.mail_out(now, post);
    }

    fn dies(&mut self) -> bool {
        self.dice.chance(self.crashes)
    }

    fn mail_in(&mut self, now: UnixMillis, post: &mut Post) {
        let numbers = post.look(&Reader::Manager);
        let mut tx = self.store.clone();
        for number in &numbers {
            if let Some(mail) = post.fetch(&Reader::Manager, *number) {
                tx.take(now, mail, &mut self.dice);
            }
        }
        if self.dies() {
            return;
        }
        self.store = tx;
        if self.dies() {
            return;
        }
        for number in numbers {
            post.delete(&Reader::Manager, number);
        }
    }

    fn tick(&mut self, now: UnixMillis) {
        let mut tx = self.store.clone();
        for at in 0..tx.campaigns.len() {
            for _ in 0..8 {
                let due = plan(&tx.campaigns[at], &tx.fleet, now);
                assert_eq!(due, plan(&tx.campaigns[at], &tx.fleet, now), "two plans of one moment differ");
                if due.actions.is_empty() {
                    break;
                }
                for action in due.actions {
                    tx.act(now, at, action, self.recipients_per_mail, &mut self.dice);
                }
            }
        }
        tx.acknowledge(now, &mut self.dice);
        tx.beat(now, self.recipients_per_mail, &mut self.dice);
        let due = tx.keys.iter().filter(|(_, ring)| {
            ring.asked.is_some() && rekey_due(ring.asked, now, None, now).is_some_and(|at| at <= now)
        });
        let again: Vec<AgentId> = due.map(|(agent, _)| agent.clone()).collect();
        tx.order_keys(now, &again, self.recipients_per_mail, &mut self.dice);
        if !self.dies() {
            self.store = tx;
        }
    }

    fn mail_out(&mut self, now: UnixMillis, post: &mut Post) {
        for at in 0..self.store.outbox.len() {
            // A body in parts goes out in several mails.
            while let Some(alive) = self.mail_next(now, at, post) {
                if !alive {
                    return;
                }
            }
        }
        // Parts are asked for as long as their order lives.
        self.store.outbox.retain(|out| !out.queued.is_empty() || (out.body.is_some() && out.expires > now));
    }

    /// Mails the next thing of an order. `None`: nothing is due. False: the daemon died when it was sent.
    fn mail_next(&mut self, now: UnixMillis, at: usize, post: &mut Post) -> Option<bool> {
        let out = self.store.outbox[at].clone();
        let due = out.queued.iter().filter(|(_, (next, _))| *next <= now);
        let due: Vec<AgentId> = due.map(|(agent, _)| agent.clone()).collect();
        if due.is_empty() {
            return None;
        }
        if out.expires <= now {
            self.store.outbox[at].queued.clear();
            return None;
        }
        let (load, due) = out.load(&due);
        // Sent, but not written down: it is sent again under the same envelope ID.
        let dies = self.dies();
        let facts = EnvelopeFacts {
            id: out.envelope,
            created: out.created,
            expires: out.expires,
            sequence: out.sequence,
            body_bytes: if out.body.is_some() { BODY_BYTES } else { 1 },
            signer: trust(self.trust_version).order_keys[0].key_id(),
        };
        let recipients: BTreeMap<AgentId, KeyName> =
            due.iter().map(|agent| (agent.clone(), self.key_of(agent))).collect();
        for agent in &due {
            let content = Content::Order {
                genuine: true,
                statements: self.introduction(),
                facts,
                recipients: recipients.clone(),
                order: out.order.clone(),
                piece: out.piece(load),
            };
            let answer = post.submit(now, &Reader::Agent(agent.clone()), content, self.dead.contains(agent));
            if answer == Answer::Taken && matches!(out.order, Order::Install(_)) {
                self.installs_mailed += u64::from(load == Load::Whole);
                self.parts_mailed += u64::from(matches!(load, Load::Part { .. }));
            }
            if !dies {
                self.store.answered(now, at, agent, answer, load);
            }
        }
        Some(!dies)
    }
}

impl Store {
    fn take(&mut self, now: UnixMillis, mail: &Mail, dice: &mut Dice) {
        match &mail.content {
            Content::Report { signer, key, envelope, sequence, report } if mail.intact => {
                let (key, envelope, sequence, sent) = (*key, *envelope, *sequence, mail.sent);
                self.take_report(now, &Signed { signer, key, envelope, sequence, report, sent }, dice);
            }
            Content::Bounce { envelope, agent } => {
                // Some servers only say that they still try, whatever has become of the mail.
                let event = match envelope.0[0] % 3 {
                    0 => TargetEvent::Stuck(*envelope, trouble(Cause::NoRoute)),
                    _ => TargetEvent::Bounced(*envelope, trouble(Cause::NoRoute)),
                };
                for campaign in &mut self.campaigns {
                    campaign.apply(now, agent, &event);
                }
            }
            Content::Report { .. } | Content::Order { .. } | Content::OutOfOffice | Content::Junk => {}
        }
    }

    fn take_report(&mut self, now: UnixMillis, signed: &Signed<'_>, dice: &mut Dice) {
        let &Signed { signer, envelope, report, .. } = signed;
        if let Report::Enrol(request) = report {
            let decision = decide(self.enrolments.get(&request.agent), request, now);
            if decision == EnrolDecision::Accept {
                self.enrolments.get_mut(signer).unwrap().used_by = Some((request.sign_key, request.seal_key));
                self.fleet.get_mut(signer).unwrap().enrolled = true;
            }
            if !matches!(decision, EnrolDecision::Refuse(_)) {
                let order = Order::Enrolled(Enrolled { agent: signer.clone(), heartbeat: Some(HEARTBEAT) });
                self.queue(now, order, None, core::slice::from_ref(signer), dice);
            }
            return;
        }
        if !self.fleet[signer].enrolled {
            return;
        }
        if self.reports.contains(&(signer.clone(), envelope)) {
            if let Report::Faults(faults) = report {
                self.behind_of(signer).copy_came(now, faults);
            }
            return;
        }
        let belief = self.keys.get_mut(signer).unwrap().hear(signed, now);
        if belief == Belief::Not {
            // PROTOCOL 13.6. An order for keys that was overtaken has its answer already.
            let old = now.since(signed.sent) >= FORMER_SIGNING_KEY_LIFE;
            assert!(old || matches!(report, Report::Rekeyed(_)), "{signer}: a report is lost: {report:?}");
            return;
        }
        self.reports.insert((signer.clone(), envelope));
        let sequence = if belief == Belief::Whole { signed.sequence } else { 0 };
        if let Report::Rekeyed(rekeyed) = report {
            self.take_keys(now, signed, rekeyed, dice);
        }
        match report {
            Report::Faults(faults) => self.behind_of(signer).take_faults(now, faults),
            Report::Counters(counters) => self.behind_of(signer).take_counters(counters),
            Report::Parts(ask) => self.take_ask(now, signer, ask),
            Report::DeviceUpdates(updates) => self.take_updates(signer, sequence, updates),
            Report::Progress(Progress { order, step: Step::Received }) => self.arrived(signer, *order),
            Report::Ended(ended) => self.arrived(signer, ended.order),
            _ => {}
        }
        let newest = self.standing_from.entry(signer.clone()).or_default();
        if let Report::Standing(standing) = report
            && sequence > *newest
        {
            *newest = sequence;
            let unheard = standing.unheard_since.is_some();
            let _ = if unheard { self.unheard.insert(signer.clone()) } else { self.unheard.remove(signer) };
        }
        if let Some(versions) = versions(report) {
            let newest = self.versions_from.entry(signer.clone()).or_default();
            if sequence > *newest {
                *newest = sequence;
                self.fleet.get_mut(signer).unwrap().version = Some(versions.software.clone());
            }
        }
        let event = TargetEvent::Report { report: Box::new(report.clone()), sequence };
        for campaign in &mut self.campaigns {
            campaign.apply(now, signer, &event);
        }
    }

    /// Parts that an agent lacks go out again, if its order still counts (PROTOCOL 17.7).
    fn take_ask(&mut self, now: UnixMillis, agent: &AgentId, ask: &PartsWanted) {
        let Self { outbox, campaigns, .. } = self;
        let Some(out) = outbox.iter_mut().find(|out| out.envelope == ask.order) else { return };
        let wants = out.campaign.is_some_and(|at| campaigns[at].wants_parts(agent, ask.order));
        let Some(asked) = out.asked.get(agent).copied().unwrap_or_default().again(now) else { return };
        let waits_for_all = out.queued.contains_key(agent) && !out.wanted.contains_key(agent);
        if !wants || waits_for_all {
            return;
        }
        out.asked.insert(agent.clone(), asked);
        let wanted = out.wanted.entry(agent.clone()).or_default();
        wanted.add_all(&ask.missing);
        wanted.cut_at(BODY_BYTES);
        out.queued.entry(agent.clone()).or_insert((now.plus(GATHER), 0));
    }

    /// An agent has all parts of an order.
    fn arrived(&mut self, agent: &AgentId, order: EnvelopeId) {
        for out in self.outbox.iter_mut().filter(|out| out.envelope == order && out.body.is_some()) {
            out.queued.remove(agent);
            out.wanted.insert(agent.clone(), Spans::default());
        }
    }

    fn behind_of(&mut self, agent: &AgentId) -> &mut Behind {
        Rc::make_mut(self.behind.get_mut(agent).unwrap())
    }

    /// An acknowledgement to each agent that is owed one, and to it alone.
    fn acknowledge(&mut self, now: UnixMillis, dice: &mut Dice) {
        let owed = self.behind.iter().filter(|(_, behind)| behind.owes(now));
        let agents: Vec<AgentId> = owed.map(|(agent, _)| agent.clone()).collect();
        for agent in agents {
            let says = self.behind_of(&agent).acknowledgement(now);
            self.queue(now, Order::Acknowledge(says), None, core::slice::from_ref(&agent), dice);
        }
    }

    /// The newest word on each device counts (PROTOCOL 8.2, 18.12).
    fn take_updates(&mut self, agent: &AgentId, sequence: u64, report: &DeviceUpdates) {
        let (newest, rows) = self.updates.entry(agent.clone()).or_default();
        if sequence <= *newest {
            return;
        }
        *newest = sequence;
        let again = |row: &DeviceUpdate| {
            report.all
                || report.updates.iter().any(|one| (&one.device, &one.kind) == (&row.device, &row.kind))
        };
        rows.retain(|row| !again(row));
        rows.extend(report.updates.iter().cloned());
    }

    fn queue(
        &mut self,
        now: UnixMillis,
        order: Order,
        campaign: Option<usize>,
        agents: &[AgentId],
        dice: &mut Dice,
    ) -> EnvelopeId {
        self.sequence += 1;
        let envelope = dice.envelope_id();
        let queued = agents.iter().map(|agent| (agent.clone(), (now, 0))).collect();
        let (created, expires) = (now, now.plus(self.life(now, campaign)));
        self.outbox.push(OutOrder {
            envelope,
            sequence: self.sequence,
            order,
            created,
            expires,
            campaign,
            queued,
            body: None,
            wanted: BTreeMap::new(),
            asked: BTreeMap::new(),
        });
        envelope
    }

    /// How long an order lives: no longer than its campaign (R11).
    fn life(&self, now: UnixMillis, campaign: Option<usize>) -> core::time::Duration {
        let expiry = campaign.and_then(|at| self.campaigns[at].rollout.times.expires_at);
        expiry.map_or(ORDER_LIFE, |at| at.since(now).min(ORDER_LIFE))
    }

    /// New keys, from the current ones only (PROTOCOL 13.5). Proofs are not simulated.
    fn take_keys(&mut self, now: UnixMillis, signed: &Signed<'_>, rekeyed: &Rekeyed, dice: &mut Dice) {
        let ring = self.keys.get_mut(signed.signer).unwrap();
        let new = KeyName::Later(EnvelopeId(rekeyed.sign_key[..EnvelopeId::LEN].try_into().unwrap()));
        if new == ring.current || signed.key != ring.current || !ring.orders.contains(&rekeyed.order) {
            return;
        }
        let old = std::mem::replace(&mut ring.current, new);
        ring.former.push((old, FormerKey::default()));
        ring.asked = None;
        self.enrolments.get_mut(signed.signer).unwrap().used_by = Some((rekeyed.sign_key, rekeyed.seal_key));
        let order = Order::Enrolled(Enrolled { agent: signed.signer.clone(), heartbeat: Some(HEARTBEAT) });
        self.queue(now, order, None, core::slice::from_ref(signed.signer), dice);
    }

    /// Asks these agents for new keys.
    fn order_keys(&mut self, now: UnixMillis, agents: &[AgentId], per_mail: usize, dice: &mut Dice) {
        for batch in agents.chunks(per_mail) {
            let order = self.queue(now, Order::Rekey, None, batch, dice);
            for agent in batch {
                let ring = self.keys.get_mut(agent).unwrap();
                ring.asked = Some(now);
                ring.orders.insert(order);
            }
        }
    }

    /// A heartbeat to everyone, when one is due (PROTOCOL 12.1).
    fn beat(&mut self, now: UnixMillis, per_mail: usize, dice: &mut Dice) {
        let every = core::time::Duration::from_millis(HEARTBEAT.every_ms);
        let last = *self.last_heartbeat.get_or_insert(now);
        if heartbeat_due(last, every, now) > now {
            return;
        }
        self.last_heartbeat = Some(now);
        self.outbox.retain(|out| !matches!(out.order, Order::Heartbeat(_)));
        let enrolled = self.fleet.iter().filter(|(_, facts)| facts.enrolled);
        let agents: Vec<AgentId> = enrolled.map(|(agent, _)| agent.clone()).collect();
        for batch in agents.chunks(per_mail) {
            self.queue(now, Order::Heartbeat(HEARTBEAT), None, batch, dice);
        }
    }

    fn act(&mut self, now: UnixMillis, at: usize, action: Action, per_mail: usize, dice: &mut Dice) {
        match action {
            Action::Install { agents } => {
                let bundle = &self.campaigns[at].bundle;
                let order = Order::Install(InstallOrder {
                    bundle: bundle.digest,
                    bundle_bytes: 1,
                    software_version: bundle.software_version.clone(),
                    scheduled: self.campaigns[at].rollout.times.is_scheduled(),
                    delta: None,
                });
                self.mail(now, at, &order, &agents, TargetEvent::OrderQueued, (per_mail, dice));
            }
            Action::Query { agents } => {
                self.mail(
                    now,
                    at,
                    &Order::QueryVersions,
                    &agents,
                    TargetEvent::QueryQueued,
                    (per_mail, dice),
                );
            }
            Action::Withdraw { agents } => {
                let targets = agents.iter().filter_map(|agent| self.campaigns[at].targets[agent].order());
                let order = Order::Cancel(CancelOrder {
                    orders: targets.collect::<BTreeSet<_>>().into_iter().collect(),
                });
                self.mail(now, at, &order, &agents, TargetEvent::CancelQueued, (per_mail, dice));
            }
            Action::End { agent, state, reason } => {
                for out in self.outbox.iter_mut().filter(|out| out.campaign == Some(at)) {
                    out.queued.remove(&agent);
                }
                self.campaigns[at].end(&agent, state, reason);
            }
            Action::Retry { agents } => self.campaigns[at].restart(&agents),
            Action::Finish => self.campaigns[at].state = CampaignState::Finished,
            Action::OpenWave(number) => self.campaigns[at].open_wave(number, now),
            Action::PassWave(number) => self.campaigns[at].pass_wave(number, now),
            Action::Halt(why) => {
                let unsent = self.campaigns[at].halt(why, now).unwrap_or_default();
                for out in self.outbox.iter_mut().filter(|out| out.campaign == Some(at)) {
                    out.queued.retain(|agent, _| !unsent.contains(agent));
                }
            }
            Action::Schedule { agents } => self.schedule(now, at, &agents, (per_mail, dice)),
            Action::Test { agents } => {
                let software_version = self.campaigns[at].bundle.software_version.clone();
                let order = Order::Test(TestOrder { software_version });
                self.mail(now, at, &order, &agents, TargetEvent::TestQueued, (per_mail, dice));
            }
            Action::AskConsent { agents } => panic!("nobody is to be asked in this world: {agents:?}"),
        }
    }

    /// Says when agents may install: all sites have the same nights.
    fn schedule(
        &mut self,
        now: UnixMillis,
        at: usize,
        agents: &[AgentId],
        (per_mail, dice): (usize, &mut Dice),
    ) {
        let Campaign { bundle, rollout, .. } = &self.campaigns[at];
        let times = rollout.times;
        let not_before = times.install_at.unwrap_or(now).max(now);
        let nights = Windows::parse(NIGHTS).unwrap();
        let nights = nights.intervals(
            &Zone::utc(),
            not_before,
            now.plus(self.life(now, Some(at))),
            INTERVALS_MAX_COUNT,
        );
        let intervals = if times.windows { nights } else { vec![] };
        let from = intervals.first().map_or(not_before, |first| first.from);
        let order = Order::Schedule(Schedule {
            bundle: bundle.digest,
            software_version: bundle.software_version.clone(),
            bundle_bytes: 1,
            not_before,
            intervals,
            defer_until: times.defer_max_ms.map(|ms| from.plus(core::time::Duration::from_millis(ms))),
            fetch: times.fetch,
        });
        for batch in agents.chunks(per_mail) {
            let envelope = self.queue(now, order.clone(), Some(at), batch, dice);
            for agent in batch {
                self.campaigns[at].apply(now, agent, &TargetEvent::ScheduleQueued(envelope, from));
            }
        }
    }

    fn mail(
        &mut self,
        now: UnixMillis,
        at: usize,
        order: &Order,
        agents: &[AgentId],
        event: fn(EnvelopeId) -> TargetEvent,
        (per_mail, dice): (usize, &mut Dice),
    ) {
        for batch in agents.chunks(per_mail) {
            let envelope = self.queue(now, order.clone(), Some(at), batch, dice);
            if let (Order::Install(install), true) = (order, self.in_parts) {
                self.send_in_parts(install.bundle, batch);
            }
            for agent in batch {
                self.campaigns[at].apply(now, agent, &event(envelope));
            }
        }
    }

    /// The order that was just queued goes in parts. Who may hold some is asked first (PROTOCOL 17.6).
    fn send_in_parts(&mut self, body: Digest, agents: &[AgentId]) {
        let Some(out) = self.outbox.last_mut() else { return };
        out.body = Some(body);
        for agent in agents.iter().filter(|agent| self.had_parts.contains(&((*agent).clone(), body))) {
            out.wanted.insert(agent.clone(), Spans::default());
        }
    }

    fn answered(&mut self, now: UnixMillis, at: usize, agent: &AgentId, answer: Answer, load: Load) {
        let out = &mut self.outbox[at];
        let attempts = out.queued[agent].1;
        let event = match answer {
            Answer::Taken => {
                if let Some(body) = out.body {
                    self.had_parts.insert((agent.clone(), body));
                }
                if load != Load::Whole {
                    let rest = load.rest(BODY_BYTES, out.wanted.get(agent));
                    out.wanted.insert(agent.clone(), rest.clone().unwrap_or_default());
                    if rest.is_some() {
                        out.queued.insert(agent.clone(), (now, 0));
                        return;
                    }
                }
                out.queued.remove(agent);
                TargetEvent::Sent(out.envelope)
            }
            Answer::Never => {
                out.queued.remove(agent);
                TargetEvent::Refused(out.envelope, trouble(Cause::UnknownMailbox))
            }
            Answer::Later => {
                let next_try = now.plus(RETRY_MIN * 2u32.pow(attempts.min(6)));
                out.queued.insert(agent.clone(), (next_try, attempts + 1));
                TargetEvent::Delayed(out.envelope, trouble(Cause::Greylisted), next_try)
            }
        };
        if let Some(campaign) = out.campaign {
            self.campaigns[campaign].apply(now, agent, &event);
        }
    }

    /// True if some campaign still acts.
    pub(crate) fn is_busy(&self) -> bool {
        self.campaigns.iter().any(|c| {
            c.state == CampaignState::Running
                || (c.state == CampaignState::Cancelled && c.targets.values().any(|t| !t.state.is_end()))
        })
    }

    /// Targets of a campaign in a state.
    pub(crate) fn in_state(&self, campaign: usize, state: TargetState) -> BTreeSet<AgentId> {
        let targets = self.campaigns[campaign].targets.iter();
        targets.filter(|(_, t)| t.state == state).map(|(agent, _)| agent.clone()).collect()
    }
}

fn trouble(cause: Cause) -> Trouble {
    Trouble { cause, text: "said a mail server".to_owned() }
}

fn versions(report: &Report) -> Option<&VersionReport> {
    match report {
        Report::Ended(ended) => Some(&ended.versions),
        Report::Versions(versions) => Some(&versions.versions),
        Report::Enrol(_)
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
    }
}
