//! Asking for parts: when, and how many at a time the line's budget has room for (PROTOCOL 17.5, 17.12). What is here and what becomes of it
//! is in `transfer`.

use shared::limits::{PARTS_MAX_COUNT, mail_bytes_for_attachment};
use shared::message::{PartsWanted, Progress, Refusal, Report, Step, WaitReason, Waiting};
use shared::{EnvelopeId, Label, Span, Spans, UnixMillis};

use super::Transfer;
use crate::agent::AgentCore;
use crate::budget::Verdict;
use crate::effect::Effect;
use crate::event::MailboxStand;
use crate::limits::{ASK_LONGEST, ASKS_MAX_COUNT, PART_HEAD_BYTES, PART_INFO_BYTES, back_off};
use crate::outbox::is_due;

/// What may be asked for now.
enum Share {
    /// This.
    Ask(Spans),
    /// Nothing until then.
    Wait(WaitReason, UnixMillis),
    /// The rest can never come in time.
    Never,
}

impl Transfer {
    /// The parts that have some of these bytes.
    fn parts_of(&self, bytes: &Spans) -> Vec<Span> {
        let body = self.facts.body_bytes;
        let part_bytes = if self.part_bytes == 0 { body } else { self.part_bytes };
        let starts = (0..PARTS_MAX_COUNT as u64).map(|index| index.saturating_mul(part_bytes));
        let parts = starts.take_while(|from| *from < body);
        let parts = parts.map(|from| Span { from, until: from.saturating_add(part_bytes).min(body) });
        parts.filter(|part| bytes.touch(*part)).collect()
    }

    /// About the size of a part's mail; never less than it is for 50 recipients.
    fn mail_bytes(&self) -> u64 {
        let body = self.facts.body_bytes;
        let part_bytes = if self.part_bytes == 0 { body } else { self.part_bytes };
        let infos = body.div_ceil(part_bytes.max(1)).saturating_mul(PART_INFO_BYTES);
        mail_bytes_for_attachment(part_bytes.saturating_add(PART_HEAD_BYTES).saturating_add(infos))
    }

    /// Bytes of the mails that were asked for and have not come.
    fn on_their_way(&self) -> u64 {
        (self.parts_of(&self.asked).len() as u64).saturating_mul(self.mail_bytes())
    }
}

impl AgentCore {
    /// PROTOCOL 17.5
    pub(super) fn ask_for_parts(&mut self, now: UnixMillis, out: &mut Vec<Effect>) {
        if self.mailbox == MailboxStand::Ahead {
            return;
        }
        let due: Vec<EnvelopeId> =
            self.state.transfers.iter().filter(|t| self.may_ask(t, now)).map(|t| t.facts.id).collect();
        for order in due {
            let Some(place) = self.state.transfers.iter().position(|t| t.facts.id == order) else { continue };
            match self.share(order, now) {
                Share::Ask(wanted) => self.ask(now, place, wanted),
                Share::Wait(reason, until) => self.wait_for_budget(now, place, reason, until),
                Share::Never => {
                    let transfer = self.state.transfers.remove(place);
                    let mails = transfer.parts_of(&transfer.held.missing(transfer.facts.body_bytes)).len();
                    let text = format!("{mails} mails of {} bytes", transfer.mail_bytes());
                    let refusal = Refusal::OverBudget(Label::lossy(&text));
                    self.refuse_transfer(now, &transfer.facts, refusal, out);
                    self.tidy_parts(out);
                }
            }
        }
    }

    fn may_ask(&self, transfer: &Transfer, now: UnixMillis) -> bool {
        self.wants_to_ask(transfer) && !transfer.is_complete() && is_due(now, transfer.next_try)
    }

    /// True if nothing that is here or on its way out keeps it from asking.
    pub(super) fn wants_to_ask(&self, transfer: &Transfer) -> bool {
        let order = transfer.facts.id;
        // What lies in the mailbox for later need not be sent again.
        transfer.asks < ASKS_MAX_COUNT
            && !self.state.outbox.holds_ask(order)
            && !self.left.contains_key(&order)
    }

    /// What of the missing parts the line's budget has room for now (PROTOCOL 17.12).
    fn share(&self, order: EnvelopeId, now: UnixMillis) -> Share {
        let transfers = &self.state.transfers;
        let Some(transfer) = transfers.iter().find(|t| t.facts.id == order) else { return Share::Never };
        let missing = transfer.held.missing(transfer.facts.body_bytes);
        let others = transfers.iter().filter(|t| t.facts.id != order);
        let others = others.fold(0u64, |sum, t| sum.saturating_add(t.on_their_way()));
        let Some(purse) = self.purse(now, others) else { return Share::Ask(missing) };
        let (parts, bytes) = (transfer.parts_of(&missing), transfer.mail_bytes());
        if purse.mails_until(bytes, transfer.facts.expires) < parts.len() as u64 {
            return Share::Never;
        }
        match purse.verdict(bytes) {
            Verdict::Never => Share::Never,
            Verdict::Wait(reason, until) => Share::Wait(reason, until),
            Verdict::Take => {
                let count = purse.left().checked_div(bytes).unwrap_or(u64::MAX);
                let mut wanted = missing;
                let beyond = parts.into_iter().skip(usize::try_from(count).unwrap_or(usize::MAX));
                beyond.for_each(|part| wanted.remove(part));
                Share::Ask(wanted)
            }
        }
    }

    fn ask(&mut self, now: UnixMillis, place: usize, wanted: Spans) {
        let first = self.profile.rules.ask_parts_after;
        let budgeted = self.profile.rules.budget.is_some();
        let Some(transfer) = self.state.transfers.get_mut(place) else { return };
        let facts = transfer.facts;
        transfer.next_try = now.plus(back_off(first, ASK_LONGEST, u32::from(transfer.asks)));
        transfer.asks = transfer.asks.saturating_add(1);
        transfer.told = None;
        if budgeted {
            transfer.asked = wanted.clone();
        }
        let here = budgeted.then(|| transfer.held.bytes());
        let (order, body_bytes) = (facts.id, facts.body_bytes);
        self.say(now, Report::Parts(PartsWanted { order, body_bytes, missing: wanted, here }));
    }

    /// A wait is worth one mail for each reason.
    fn wait_for_budget(&mut self, now: UnixMillis, place: usize, reason: WaitReason, until: UnixMillis) {
        let Some(transfer) = self.state.transfers.get_mut(place) else { return };
        let news = transfer.told != Some(reason);
        self.dirty |= news || transfer.next_try != until;
        transfer.told = Some(reason);
        transfer.next_try = until;
        if news {
            let (order, about) = (transfer.facts.id, Some(transfer.about()));
            let step = Step::Waiting(Waiting { reason, until, about });
            self.say(now, Report::Progress(Progress { order, step }));
        }
    }
}
