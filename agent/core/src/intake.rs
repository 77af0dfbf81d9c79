//! From mail to order: what is believed, what is junk, what an order asks for. Verifying signatures and
//! opening seals is the shell's; it comes here with facts.
//!
//! A mail leaves the mailbox only after the state that knows its order is saved (PROTOCOL 10.4): a crash in
//! between reads the mail again and finds the order's ID remembered.

use shared::limits::ORDER_LIFE_MAX;
use shared::message::{
    CancelAnswer, CancelOrder, CancelResult, Heartbeat, InstallOrder, Order, Outcome, Progress, Refusal,
    Report, Standing, Step,
};
use shared::trust::Statement;
use shared::{EnvelopeId, Label, UnixMillis};

use crate::agent::AgentCore;
use crate::effect::{Disposal, Effect};
use crate::event::OpenFault;
use crate::facts::{EnvelopeFacts, JunkReason, MailHandle, Payload};
use crate::install::{End, Install, Job, Signal};
use crate::limits::{
    CANCEL_MAX_COUNT, CANCELLED_MAX_COUNT, HEARTBEAT_MAX_MS, HEARTBEAT_MIN_MS, QUEUE_MAX_COUNT,
};
use crate::rekey::KeyName;
use crate::schedule::Gate;
use crate::state::{Enrolment, Owed};

impl AgentCore {
    /// A mail that is no order of ours.
    pub(crate) fn junk(
        &mut self,
        now: UnixMillis,
        mail: MailHandle,
        reason: JunkReason,
        out: &mut Vec<Effect>,
    ) {
        self.count_junk(now, reason);
        // PROTOCOL 10.3: never answered, never executed.
        let disposal = match reason {
            // A copy of an order is no junk: its first copy was dealt with.
            JunkReason::Repeated => Disposal::Done,
            JunkReason::Foreign
            | JunkReason::AutoReply
            | JunkReason::Bounce
            | JunkReason::TooLarge
            | JunkReason::Unreadable
            | JunkReason::NotSigned
            | JunkReason::NotForUs
            | JunkReason::Damaged
            | JunkReason::Expired
            | JunkReason::FromFuture
            | JunkReason::LivesTooLong
            | JunkReason::BelowFloor
            | JunkReason::WrongAgent => Disposal::Junk(reason),
        };
        out.push(Effect::Dispose { mail, disposal });
    }

    /// A signed header: cheap to judge, before megabytes are opened.
    pub(crate) fn envelope(
        &mut self,
        now: UnixMillis,
        mail: MailHandle,
        facts: &EnvelopeFacts,
        out: &mut Vec<Effect>,
    ) {
        match self.state.fresh.judge(now, facts) {
            Ok(()) => out.push(Effect::Open { mail }),
            Err(reason) => self.junk(now, mail, reason, out),
        }
    }

    pub(crate) fn not_opened(
        &mut self,
        now: UnixMillis,
        mail: MailHandle,
        fault: OpenFault,
        out: &mut Vec<Effect>,
    ) {
        match fault {
            OpenFault::Mail(reason) => self.junk(now, mail, reason, out),
            OpenFault::Local(_) => out.push(Effect::Leave { mail }),
        }
    }

    /// An opened order. It is judged again: a copy may have come first.
    pub(crate) fn order(
        &mut self,
        now: UnixMillis,
        mail: MailHandle,
        facts: &EnvelopeFacts,
        order: Order,
        (payload, key): (Payload, KeyName),
        out: &mut Vec<Effect>,
    ) {
        if let Err(reason) = self.state.fresh.judge(now, facts) {
            return self.junk(now, mail, reason, out);
        }
        if let Order::Enrolled(enrolled) = &order
            && enrolled.agent != self.profile.agent
        {
            return self.junk(now, mail, JunkReason::WrongAgent, out);
        }
        self.state.last_mail = Some(now);
        self.taken(now, facts, order, (payload, key), out);
        out.push(Effect::Dispose { mail, disposal: Disposal::Done });
    }

    /// An order that is fresh and for this agent.
    pub(crate) fn taken(
        &mut self,
        now: UnixMillis,
        facts: &EnvelopeFacts,
        order: Order,
        (payload, key): (Payload, KeyName),
        out: &mut Vec<Effect>,
    ) {
        self.dirty = true;
        self.state.fresh.take(facts);
        let floor = self.state.fresh.clock_floor();
        self.state.cancelled.retain(|_, until| *until >= floor);
        // Whoever can seal an order to our key has our key: any order shows that we are enrolled.
        self.enrolled(out);
        self.opened_with(now, key);
        match order {
            Order::Enrolled(enrolled) => self.expect(enrolled.heartbeat),
            Order::Install(install) => {
                // It may come whole after its head came alone: a way was widened, or a budget lifted.
                self.drop_transfer(facts.id, out);
                self.install(now, facts, &install, payload, out);
            }
            Order::QueryVersions => self.owe(Owed::Versions(Some(facts.id))),
            Order::Cancel(cancel) => self.cancel(now, facts, &cancel, out),
            Order::Heartbeat(heartbeat) => self.expect(Some(heartbeat)),
            Order::Rekey => self.rekey(facts.id, key),
            Order::Acknowledge(answer) => self.acknowledged(now, &answer, out),
            Order::QueryCounters => self.query_counters(now, facts.id),
            Order::Schedule(schedule) => self.scheduled(facts, schedule),
            Order::Test(test) => self.order_test(now, facts, test),
            Order::DevicePlan(plan) => self.device_plan(now, facts, plan),
        }
        self.contact(now);
    }

    /// A mail brings trust statements: whatever its envelope is worth, they speak for themselves.
    pub(crate) fn introduced(&mut self, clock: UnixMillis, statements: &[Statement]) {
        for statement in statements {
            // PROTOCOL 11.1 to 11.4; what is not newer is the usual case.
            let Ok(trust) = statement.accept(&self.state.trust) else { continue };
            self.state.fresh.trust(trust.made, &trust.order_keys);
            self.state.trust = trust;
            self.stands(self.state.fresh.effective(clock));
        }
    }

    /// From now on heartbeats are to come.
    fn expect(&mut self, heartbeat: Option<Heartbeat>) {
        let every_ms = |h: Heartbeat| h.every_ms.clamp(HEARTBEAT_MIN_MS, HEARTBEAT_MAX_MS);
        self.state.heartbeat_every_ms = heartbeat.map(every_ms);
    }

    /// Notices that heartbeats stay out, or come again (PROTOCOL 12.3). By the manager's signed time: heartbeats
    /// that somebody holds back and lets through one by one are missing all the same.
    pub(crate) fn listen(&mut self, now: UnixMillis) {
        let unheard = self.unheard_at().is_some_and(|at| now > at);
        if unheard != self.state.unheard {
            self.state.unheard = unheard;
            self.stands(now);
        }
    }

    /// When the next missing heartbeat is one too many.
    pub(crate) fn unheard_at(&self) -> Option<UnixMillis> {
        let patience = self.state.heartbeat_every_ms?.saturating_mul(5).checked_div(2)?;
        Some(self.state.fresh.clock_floor().plus(core::time::Duration::from_millis(patience)))
    }

    pub(crate) fn stands(&mut self, now: UnixMillis) {
        let unheard_since = self.state.unheard.then(|| self.state.fresh.clock_floor());
        let trust_version = self.state.trust.version;
        self.say(now, Report::Standing(Standing { trust_version, unheard_since }));
    }

    fn enrolled(&mut self, out: &mut Vec<Effect>) {
        if self.state.enrolment == Enrolment::Accepted {
            return;
        }
        self.state.enrolment = Enrolment::Accepted;
        out.extend(self.state.outbox.drop_enrol().into_iter().map(|report| Effect::Forget { report }));
        // The manager does not know yet what is installed here.
        self.owe(Owed::Versions(None));
    }

    fn install(
        &mut self,
        now: UnixMillis,
        facts: &EnvelopeFacts,
        order: &InstallOrder,
        payload: Payload,
        out: &mut Vec<Effect>,
    ) {
        let refusal = self.refusal_of(facts, order, payload);
        self.state.fresh.take_install(facts);
        self.state.cancelled.remove(&facts.id);
        if let Some(refusal) = refusal {
            return self.job_ended(now, End::without_change(facts.id, Outcome::Refused(refusal)), out);
        }
        self.say(now, Report::Progress(Progress { order: facts.id, step: Step::Received }));
        let job = Job {
            order: facts.id,
            expires: facts.expires,
            target: order.software_version.clone(),
            taken: now,
            bundle: Some(order.bundle),
            scheduled: order.scheduled,
            told: None,
            overtaken_by: None,
            interruptions: 0,
            sequence: facts.sequence,
        };
        let may_begin = self.state.gate(&job, now) == Gate::Open;
        if let Some(waiting) = self.wait_behind().filter(|_| may_begin) {
            self.say(now, Report::Progress(Progress { order: facts.id, step: Step::Waiting(waiting) }));
        }
        self.state.queue.push(job);
    }

    /// Why an install order is not even queued, if so. The cheap and certain reasons come first.
    fn refusal_of(&self, facts: &EnvelopeFacts, order: &InstallOrder, payload: Payload) -> Option<Refusal> {
        if self.state.cancelled.contains_key(&facts.id) {
            return Some(Refusal::Cancelled);
        }
        // PROTOCOL 7.5: a delayed old update never undoes a newer one.
        if facts.sequence <= self.state.fresh.newest_install() {
            return Some(Refusal::Superseded);
        }
        match payload {
            Payload::Kept { digest, bytes } if (digest, bytes) == order.payload() => {}
            Payload::Kept { .. } => {
                return Some(Refusal::BadBundle(Label::lossy("not the bundle that the order names")));
            }
            Payload::Absent => return Some(Refusal::BadBundle(Label::lossy("the order brings no bundle"))),
            Payload::Refused(why) => return Some(Refusal::BadBundle(why)),
        }
        (self.state.queue.len() >= QUEUE_MAX_COUNT).then_some(Refusal::QueueFull)
    }

    /// Withdraws orders. Each named order gets its own answer.
    fn cancel(
        &mut self,
        now: UnixMillis,
        facts: &EnvelopeFacts,
        cancel: &CancelOrder,
        out: &mut Vec<Effect>,
    ) {
        for order in cancel.orders.iter().take(CANCEL_MAX_COUNT) {
            let result = self.cancel_one(now, facts, *order, out);
            self.say(now, Report::Cancelled(CancelAnswer { order: *order, result }));
        }
        while self.state.cancelled.len() > CANCELLED_MAX_COUNT {
            let oldest = self.state.cancelled.iter().min_by_key(|(_, until)| **until).map(|(id, _)| *id);
            let Some(oldest) = oldest else { break };
            self.state.cancelled.remove(&oldest);
        }
    }

    fn cancel_one(
        &mut self,
        now: UnixMillis,
        facts: &EnvelopeFacts,
        order: EnvelopeId,
        out: &mut Vec<Effect>,
    ) -> CancelResult {
        if self.state.active.as_ref().is_some_and(|i| i.job().order == order) {
            let too_late = self.state.active.as_ref().is_some_and(Install::has_begun);
            self.signal(now, Some(order), Signal::Cancel(Refusal::Cancelled), out);
            return if too_late { CancelResult::TooLate } else { CancelResult::BeforeStart };
        }
        if self.take_from_queue(now, order, Refusal::Cancelled, out)
            || self.cancel_transfer(now, order, out)
            || self.drop_schedule(order)
        {
            return CancelResult::BeforeStart;
        }
        if self.state.fresh.seen.contains_key(&order) {
            return CancelResult::TooLate;
        }
        // It was made before it was withdrawn, so it is dead for certain when this time has passed.
        self.state.cancelled.insert(order, facts.created.plus(ORDER_LIFE_MAX));
        CancelResult::Unknown
    }
}
