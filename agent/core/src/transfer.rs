//! Orders that come in parts (PROTOCOL 17): what is here of each body, what is asked for and when, and when all of it is opened.
//! Asking is in `ask`. Checking a part, keeping its bytes and joining them is the shell's.

mod ask;

use minicbor::{Decode, Encode};
use shared::message::{
    Hindrance, Order, Outcome, Progress, Refusal, Report, Step, WaitReason, Waiting, arrived,
};
use shared::{Digest, EnvelopeId, Label, Spans, UnixMillis};

use crate::agent::AgentCore;
use crate::effect::{Disposal, Effect};
use crate::event::{MailboxStand, OpenFault, PartFault};
use crate::facts::{EnvelopeFacts, JunkReason, MailHandle, PartFacts, Payload};
use crate::install::End;
use crate::limits::{JOIN_AGAIN, TRANSFERS_MAX_COUNT};
use crate::outbox::is_due;
use crate::rekey::KeyName;
use crate::state::State;

/// A body of which some parts are here.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Transfer {
    /// The newest envelope with this body.
    #[n(0)]
    pub facts: EnvelopeFacts,
    /// The body.
    #[n(1)]
    pub body: Digest,
    /// What of it is on the disk.
    #[n(2)]
    pub held: Spans,
    /// Times that the rest was asked for.
    #[n(3)]
    pub asks: u8,
    /// Nothing is asked for before this; if all is here, it is not opened before this.
    #[n(4)]
    pub next_try: UnixMillis,
    /// Size of the newest envelope's parts, but for the last; 0: an older agent has begun it.
    #[cbor(n(5), default)]
    pub part_bytes: u64,
    /// What was asked for last, and has not come.
    #[cbor(n(6), default)]
    pub asked: Spans,
    /// What it waits for in the line's budget; `None`: nothing, or it was not said.
    #[n(7)]
    pub told: Option<WaitReason>,
}

impl Transfer {
    fn is_complete(&self) -> bool {
        self.held.missing(self.facts.body_bytes).is_empty()
    }

    /// `7.1 of 48.0 MB are here`.
    #[must_use]
    pub fn about(&self) -> Label {
        arrived(self.held.bytes(), self.facts.body_bytes)
    }

    fn hindrance(&self) -> Hindrance {
        Hindrance { reason: self.told.unwrap_or(WaitReason::PartsMissing), about: Some(self.about()) }
    }

    /// Why it ends now, if it does. Its sequence number counts only among those of keys that are trusted.
    fn end(&self, state: &State, now: UnixMillis) -> Option<TransferEnd> {
        if state.trust.order_key(self.facts.signer).is_none() {
            return Some(TransferEnd::NoOrder);
        }
        if self.facts.sequence <= state.fresh.newest_install() {
            return Some(TransferEnd::Refused(Refusal::Superseded));
        }
        (self.facts.expires < now).then_some(TransferEnd::Expired)
    }
}

/// How a transfer ends that is not complete.
enum TransferEnd {
    /// Its key is not trusted any more: nobody has ordered it.
    NoOrder,
    Refused(Refusal),
    Expired,
}

impl AgentCore {
    /// A part with a signed header: cheap to judge, before it is copied.
    pub(crate) fn part(
        &mut self,
        now: UnixMillis,
        mail: MailHandle,
        facts: &EnvelopeFacts,
        part: &PartFacts,
        out: &mut Vec<Effect>,
    ) {
        let gathering = self.transfer_of(part.body).is_some_and(|t| t.facts.body_bytes == facts.body_bytes);
        let fresh = self.state.fresh.judge(now, facts);
        if fresh.is_ok()
            && let Some(refusal) = self.refusal_of_part(facts)
        {
            return self.refuse_part(now, mail, facts, refusal, out);
        }
        // PROTOCOL 17.4: an envelope that is late or was overtaken still brings bytes of the same body.
        if let Err(reason) = fresh
            && (!gathering || part.span.is_none())
        {
            return self.junk(now, mail, reason, out);
        }
        let held = |t: &Transfer| part.span.is_some_and(|span| t.held.has(span)) && t.facts.id == facts.id;
        if self.transfer_of(part.body).is_some_and(held) {
            return self.junk(now, mail, JunkReason::Repeated, out);
        }
        out.push(Effect::KeepPart { mail, head: fresh.is_ok() });
    }

    /// A part is on the disk, or was not what its header says.
    pub(crate) fn part_kept(
        &mut self,
        now: UnixMillis,
        mail: MailHandle,
        facts: &EnvelopeFacts,
        part: &PartFacts,
        result: Result<(), PartFault>,
        out: &mut Vec<Effect>,
    ) {
        match result {
            Ok(()) => {}
            Err(PartFault::Open(fault)) => return self.not_opened(now, mail, fault, out),
            Err(PartFault::Refused(why)) => {
                return self.refuse_part(now, mail, facts, Refusal::BadBundle(why), out);
            }
        }
        self.dirty = true;
        self.state.last_mail = Some(now);
        let fresh = self.state.fresh.judge(now, facts).is_ok();
        let begins = self.transfer_of(part.body).is_none();
        if fresh {
            self.begin_transfer(now, facts, part, out);
        }
        let ask_after = self.profile.rules.ask_parts_after;
        if let Some(transfer) = self.state.transfers.iter_mut().find(|t| t.body == part.body) {
            match part.span {
                Some(span) => {
                    let news = !transfer.held.has(span);
                    if transfer.held.add(span) && news {
                        transfer.next_try = now.plus(ask_after);
                        transfer.told = None;
                        // Whoever may not ask for all at once asks for more when that has come.
                        let asked = !transfer.asked.is_empty();
                        transfer.asked.remove(span);
                        if asked && transfer.asked.is_empty() {
                            (transfer.next_try, transfer.asks) = (now, 0);
                        }
                    }
                    if transfer.is_complete() {
                        transfer.next_try = now;
                    }
                }
                // PROTOCOL 17.6
                None => transfer.next_try = now,
            }
            if begins {
                let Hindrance { reason, about } = transfer.hindrance();
                let (order, until) = (transfer.facts.id, transfer.facts.expires);
                let step = Step::Waiting(Waiting { reason, until, about });
                self.say(now, Report::Progress(Progress { order, step }));
            }
        }
        out.push(Effect::Dispose { mail, disposal: Disposal::Done });
    }

    fn transfer_of(&self, body: Digest) -> Option<&Transfer> {
        self.state.transfers.iter().find(|t| t.body == body)
    }

    fn refusal_of_part(&self, facts: &EnvelopeFacts) -> Option<Refusal> {
        if self.state.cancelled.contains_key(&facts.id) {
            return Some(Refusal::Cancelled);
        }
        // PROTOCOL 7.5: no byte need come of what would be refused.
        (facts.sequence <= self.state.fresh.newest_install()).then_some(Refusal::Superseded)
    }

    fn refuse_part(
        &mut self,
        now: UnixMillis,
        mail: MailHandle,
        facts: &EnvelopeFacts,
        refusal: Refusal,
        out: &mut Vec<Effect>,
    ) {
        self.state.last_mail = Some(now);
        self.state.transfers.retain(|t| t.facts.id != facts.id);
        self.refuse_transfer(now, facts, refusal, out);
        self.tidy_parts(out);
        out.push(Effect::Dispose { mail, disposal: Disposal::Done });
    }

    /// Its order is dealt with: whatever still comes of it is a repeat.
    fn refuse_transfer(
        &mut self,
        now: UnixMillis,
        facts: &EnvelopeFacts,
        refusal: Refusal,
        out: &mut Vec<Effect>,
    ) {
        self.state.fresh.take(facts);
        self.state.cancelled.remove(&facts.id);
        self.job_ended(now, End::without_change(facts.id, Outcome::Refused(refusal)), out);
    }

    /// Begins to gather a body for this envelope, or goes on with what is here of it for another one (PROTOCOL 17.4).
    fn begin_transfer(
        &mut self,
        now: UnixMillis,
        facts: &EnvelopeFacts,
        part: &PartFacts,
        out: &mut Vec<Effect>,
    ) {
        let PartFacts { body, part_bytes, .. } = *part;
        let trusted = |t: &Transfer, state: &State| state.trust.order_key(t.facts.signer).is_some();
        let place = self.state.transfers.iter().position(|t| t.body == body);
        let Some(place) = place else {
            let held = Spans::default();
            let asked = Spans::default();
            let transfer =
                Transfer { facts: *facts, body, held, asks: 0, next_try: now, part_bytes, asked, told: None };
            self.state.transfers.push(transfer);
            return self.thin_transfers(now, out);
        };
        let Some(known) = self.state.transfers.get(place).cloned() else { return };
        if known.facts.id == facts.id {
            return;
        }
        // The older of two orders for one bundle would be refused anyhow.
        let (newer, older) = if trusted(&known, &self.state) && known.facts.sequence > facts.sequence {
            (known.facts, *facts)
        } else {
            (*facts, known.facts)
        };
        if let Some(transfer) = self.state.transfers.get_mut(place).filter(|t| t.facts != newer) {
            transfer.facts = newer;
            (transfer.asks, transfer.part_bytes, transfer.asked) = (0, part_bytes, Spans::default());
        }
        self.refuse_transfer(now, &older, Refusal::Superseded, out);
        self.tidy_parts(out);
    }

    /// PROTOCOL 17.10: the disk does not fill with halves.
    fn thin_transfers(&mut self, now: UnixMillis, out: &mut Vec<Effect>) {
        while self.state.transfers.len() > TRANSFERS_MAX_COUNT {
            let lowest = self.state.transfers.iter().enumerate().min_by_key(|(_, t)| t.facts.sequence);
            let Some((place, _)) = lowest else { return };
            let facts = self.state.transfers.remove(place).facts;
            self.refuse_transfer(now, &facts, Refusal::QueueFull, out);
            self.tidy_parts(out);
        }
    }

    /// Ends what cannot become an order any more, has opened what is complete, and asks for what is missing.
    pub(crate) fn tend_transfers(&mut self, now: UnixMillis, out: &mut Vec<Effect>) {
        let mut place = 0;
        while let Some(transfer) = self.state.transfers.get(place) {
            let Some(end) = transfer.end(&self.state, now) else {
                place = place.saturating_add(1);
                continue;
            };
            let transfer = self.state.transfers.remove(place);
            self.dirty = true;
            match end {
                TransferEnd::NoOrder => {}
                TransferEnd::Refused(refusal) => self.refuse_transfer(now, &transfer.facts, refusal, out),
                TransferEnd::Expired => {
                    self.state.fresh.take(&transfer.facts);
                    self.job_ended(now, End::too_late(transfer.facts.id, Some(transfer.hindrance())), out);
                }
            }
            self.tidy_parts(out);
        }
        self.drop_answered_asks(out);
        self.join_next(now, out);
        self.ask_for_parts(now, out);
    }

    fn join_next(&mut self, now: UnixMillis, out: &mut Vec<Effect>) {
        let due = |t: &&Transfer| t.is_complete() && is_due(now, t.next_try);
        if self.joining.is_some() {
            return;
        }
        if let Some(transfer) = self.state.transfers.iter().find(due) {
            self.joining = Some(transfer.facts.id);
            out.push(Effect::Join { order: transfer.facts.id, body: transfer.body });
        }
    }

    /// What waits for the mail and is not wanted any more need not be said.
    fn drop_answered_asks(&mut self, out: &mut Vec<Effect>) {
        let wanting = self.state.transfers.iter().filter(|t| !t.is_complete());
        let wanting: Vec<EnvelopeId> = wanting.map(|t| t.facts.id).collect();
        let gone = self.state.outbox.drop_asks(&wanting);
        self.dirty |= !gone.is_empty();
        out.extend(gone.into_iter().map(|report| Effect::Forget { report }));
    }

    /// All parts of an order were put together.
    pub(crate) fn joined(
        &mut self,
        now: UnixMillis,
        order: EnvelopeId,
        result: Result<(Order, Payload, KeyName), OpenFault>,
        out: &mut Vec<Effect>,
    ) {
        self.joining = None;
        let Some(place) = self.state.transfers.iter().position(|t| t.facts.id == order) else { return };
        self.dirty = true;
        match result {
            Ok((message, payload, key)) => {
                let facts = self.state.transfers.remove(place).facts;
                match (self.state.fresh.judge(now, &facts), &message) {
                    (Ok(()), Order::Install(_)) => self.taken(now, &facts, message, (payload, key), out),
                    // PROTOCOL 17.2
                    (Ok(()), _) => self.no_order(now, &facts, JunkReason::Unreadable),
                    (Err(reason), _) => self.count_junk(now, reason),
                }
                self.tidy_parts(out);
            }
            // PROTOCOL 17.9: a disk that was put back, say. How often is bounded by the asks.
            Err(OpenFault::Mail(JunkReason::Damaged)) => {
                if let Some(transfer) = self.state.transfers.get_mut(place) {
                    transfer.held = Spans::default();
                    transfer.next_try = now;
                }
            }
            Err(OpenFault::Mail(reason)) => {
                let facts = self.state.transfers.remove(place).facts;
                self.no_order(now, &facts, reason);
                self.tidy_parts(out);
            }
            Err(OpenFault::Local(_)) => {
                if let Some(transfer) = self.state.transfers.get_mut(place) {
                    transfer.next_try = now.plus(JOIN_AGAIN);
                }
            }
        }
    }

    fn no_order(&mut self, now: UnixMillis, facts: &EnvelopeFacts, reason: JunkReason) {
        self.state.fresh.take(facts);
        self.count_junk(now, reason);
    }

    /// Ends a transfer whose order is withdrawn. False if there is none.
    pub(crate) fn cancel_transfer(
        &mut self,
        now: UnixMillis,
        order: EnvelopeId,
        out: &mut Vec<Effect>,
    ) -> bool {
        let Some(place) = self.state.transfers.iter().position(|t| t.facts.id == order) else { return false };
        let facts = self.state.transfers.remove(place).facts;
        self.refuse_transfer(now, &facts, Refusal::Cancelled, out);
        self.tidy_parts(out);
        true
    }

    /// Nothing more is gathered for an order that has come.
    pub(crate) fn drop_transfer(&mut self, order: EnvelopeId, out: &mut Vec<Effect>) {
        let before = self.state.transfers.len();
        self.state.transfers.retain(|t| t.facts.id != order);
        if self.state.transfers.len() != before {
            self.tidy_parts(out);
        }
    }

    /// Removes the parts of all bodies that are not gathered any more.
    pub(crate) fn tidy_parts(&mut self, out: &mut Vec<Effect>) {
        self.dirty = true;
        let keep = self.state.transfers.iter().map(|t| (t.facts.id, t.body)).collect();
        out.push(Effect::TidyParts { keep });
    }

    /// When something of the transfers is due.
    pub(crate) fn transfer_wake(&self) -> Option<UnixMillis> {
        let wakes = self.state.transfers.iter().map(|t| {
            let over = t.facts.expires.plus(core::time::Duration::from_millis(1));
            let asks = self.wants_to_ask(t) && self.mailbox == MailboxStand::Read;
            let joins = t.is_complete() && !self.state.outbox.holds_ask(t.facts.id);
            let waits = self.joining.is_none() && (joins || asks);
            if waits { t.next_try.min(over) } else { over }
        });
        wakes.min()
    }
}
