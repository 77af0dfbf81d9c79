//! What the line has carried and how fast (R6), and which mails are fetched (PROTOCOL 17.12). The shell counts bytes and tells them;
//! what of them is not saved yet is little, and counted in full by the next start if this one has no proper end.

use core::time::Duration;
use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use shared::message::{Budget, Line, Progress, Report, Step, VersionReport, WaitReason, Waiting};
use shared::{EnvelopeId, Label, UnixMillis};

use crate::agent::AgentCore;
use crate::budget::{Purse, Verdict};
use crate::effect::Effect;
use crate::event::MailboxStand;
use crate::facts::{JunkReason, MailHandle, ModulesFound};
use crate::limits::{
    LEFT_MAX_COUNT, LEFT_TOLD_MAX_COUNT, METER_DAYS_KEPT, METER_UNSAVED_MAX_BYTES, RATE_MIN_BYTES,
    SMALL_MAIL_MAX_BYTES,
};
use crate::state::{Enrolment, Owed, State};
use crate::versions::report;

/// What is kept of the line (PROTOCOL 17.14, 17.15).
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Meter {
    /// Bytes in both directions, by day: numbered from 1970-01-01, by the budget's clock. Counted only for a budget.
    #[n(0)]
    pub days: BTreeMap<i64, u64>,
    /// A mail of so many bytes is being fetched: until it is known what came, it counts as if it had come.
    #[n(1)]
    pub reserved: u64,
    /// The agent works, or was ended in the middle of it: it may have counted more than is here.
    #[n(2)]
    pub open: bool,
    /// Mails in the mailbox of which was said that they wait, and for what.
    #[n(3)]
    pub told: BTreeMap<EnvelopeId, WaitReason>,
    /// The budget that the manager was told.
    #[n(4)]
    pub said: Option<Budget>,
    /// Bytes a second in which large mails have come, the last ones most.
    #[n(5)]
    pub from_manager: Option<u64>,
}

/// How much of a budget is used, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// Bytes today.
    pub day_bytes: u64,
    /// Bytes in this month.
    pub month_bytes: u64,
    /// When the next day begins.
    pub day_anew: UnixMillis,
    /// When the next month begins.
    pub month_anew: Option<UnixMillis>,
}

impl State {
    /// How much of a budget is used.
    #[must_use]
    pub fn used(&self, budget: Budget, now: UnixMillis) -> Used {
        let purse = Purse { budget, days: &self.meter.days, beside: self.meter.reserved, now };
        let ((day_bytes, month_bytes), (day_anew, month_anew)) = (purse.used(), purse.anew());
        Used { day_bytes, month_bytes, day_anew, month_anew }
    }
}

impl AgentCore {
    /// The budget as it stands, if there is one. `asked`: bytes that are on their way.
    pub(crate) fn purse(&self, now: UnixMillis, asked: u64) -> Option<Purse<'_>> {
        let beside = self.carried.saturating_add(self.state.meter.reserved).saturating_add(asked);
        let budget = self.profile.rules.budget?;
        Some(Purse { budget, days: &self.state.meter.days, beside, now })
    }

    /// The connections to mail servers have carried bytes.
    pub(crate) fn carried(&mut self, bytes: u64) {
        if self.profile.rules.budget.is_none() {
            return;
        }
        self.carried = self.carried.saturating_add(bytes);
        // Not at each look: flash does not like it.
        self.dirty |= self.carried >= METER_UNSAVED_MAX_BYTES;
    }

    /// Puts what was counted into the state, which is about to be saved.
    pub(crate) fn settle_meter(&mut self, now: UnixMillis) {
        let Some(purse) = self.purse(now, 0) else { return };
        let today = purse.today();
        let bytes = core::mem::take(&mut self.carried);
        let days = &mut self.state.meter.days;
        if bytes > 0 {
            let of_day = days.entry(today).or_insert(0);
            *of_day = of_day.saturating_add(bytes);
        }
        // Also of days to come: a clock that was wrong has made them.
        days.retain(|day, _| day.saturating_sub(today).saturating_abs() <= METER_DAYS_KEPT);
    }

    /// The agent starts: what the last run may have carried without having saved it counts as carried.
    pub(crate) fn open_meter(&mut self) {
        let meter = &mut self.state.meter;
        let Some(budget) = self.profile.rules.budget else {
            meter.open = false;
            return self.tell_budget(None);
        };
        let lost = core::mem::take(&mut meter.reserved);
        if meter.open {
            self.carried = self.carried.saturating_add(lost).saturating_add(METER_UNSAVED_MAX_BYTES);
        }
        meter.open = true;
        self.tell_budget(Some(budget));
    }

    /// The manager mails to each agent as its budget wants it (PROTOCOL 17.13), so it has to know of it.
    fn tell_budget(&mut self, budget: Option<Budget>) {
        let known = self.state.meter.said == budget || self.state.owed.contains(&Owed::Versions(None));
        if self.state.enrolment == Enrolment::Accepted && !known {
            self.owe(Owed::Versions(None));
        }
    }

    /// The agent ends, and says so.
    pub(crate) fn close_meter(&mut self) {
        self.dirty |= self.carried > 0 || self.state.meter.open;
        self.state.meter.open = false;
    }

    /// A mail that claims to be the manager's lies in the mailbox.
    pub(crate) fn offered(
        &mut self,
        now: UnixMillis,
        mail: MailHandle,
        (envelope, bytes): (EnvelopeId, u64),
        out: &mut Vec<Effect>,
    ) {
        let Some(purse) = self.purse(now, 0).filter(|_| bytes > SMALL_MAIL_MAX_BYTES) else {
            return out.push(Effect::Fetch { mail });
        };
        match purse.verdict(bytes) {
            Verdict::Take => {
                self.state.meter.reserved = bytes;
                self.dirty = true;
                out.push(Effect::Fetch { mail });
            }
            Verdict::Wait(reason, until) if self.left_count() < LEFT_MAX_COUNT => {
                let of_mail = self.left.entry(envelope).or_insert(0);
                *of_mail = of_mail.saturating_add(1);
                self.tell_left(now, envelope, (reason, until), bytes);
                out.push(Effect::Leave { mail });
            }
            // A flood must not hide the mails behind it; parts that are missed are asked for again.
            Verdict::Wait(..) | Verdict::Never => self.junk(now, mail, JunkReason::TooLarge, out),
        }
    }

    fn left_count(&self) -> usize {
        self.left.values().fold(0, |sum: usize, count| sum.saturating_add(*count))
    }

    /// Says once what a mail waits for. Nobody has checked whose mail it is, so that this is bounded.
    fn tell_left(
        &mut self,
        now: UnixMillis,
        order: EnvelopeId,
        (reason, until): (WaitReason, UnixMillis),
        bytes: u64,
    ) {
        let transfer = self.state.transfers.iter_mut().find(|transfer| transfer.facts.id == order);
        let (known, about) = match transfer {
            Some(transfer) => (transfer.told.replace(reason) == Some(reason), transfer.about()),
            None => {
                let told = &mut self.state.meter.told;
                let full = told.len() >= LEFT_TOLD_MAX_COUNT && !told.contains_key(&order);
                let known = full || told.insert(order, reason) == Some(reason);
                (known, Label::lossy(&format!("a mail of {bytes} bytes waits")))
            }
        };
        if !known {
            let step = Step::Waiting(Waiting { reason, until, about: Some(about) });
            self.say(now, Report::Progress(Progress { order, step }));
        }
    }

    /// A look at the mailbox begins, or is over.
    pub(crate) fn stands_at(&mut self, stand: MailboxStand) {
        match (self.mailbox, stand) {
            (MailboxStand::Read, MailboxStand::Ahead) => self.left.clear(),
            (MailboxStand::Ahead, MailboxStand::Read) => {
                let (before, left) = (self.state.meter.told.len(), &self.left);
                self.state.meter.told.retain(|envelope, _| left.contains_key(envelope));
                self.dirty |= self.state.meter.told.len() != before;
            }
            (MailboxStand::Read, MailboxStand::Read) | (MailboxStand::Ahead, MailboxStand::Ahead) => {}
        }
        self.mailbox = stand;
    }

    /// A mail was fetched, or was not: so many bytes have come in that time.
    pub(crate) fn fetched(&mut self, bytes: u64, took: Duration) {
        let meter = &mut self.state.meter;
        self.dirty |= core::mem::take(&mut meter.reserved) > 0;
        // What is small tells more of the server's answers than of the line.
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
        let Some(rate) = bytes.saturating_mul(1_000).checked_div(took_ms) else { return };
        if bytes >= RATE_MIN_BYTES {
            let smoothed = |old: u64| old.saturating_mul(3).saturating_add(rate).checked_div(4);
            meter.from_manager = Some(meter.from_manager.and_then(smoothed).unwrap_or(rate));
            self.dirty = true;
        }
    }

    /// The version report, with what is known of the line.
    pub(crate) fn report_of(&mut self, found: &ModulesFound, now: UnixMillis) -> VersionReport {
        let budget = self.profile.rules.budget;
        self.state.meter.said = budget;
        // Nothing is sent to devices in a size that could be measured.
        let line =
            Line { from_manager: self.state.meter.from_manager, to_devices: self.state.updates.rate, budget };
        VersionReport { line: Some(line), ..report(self.state.installed.as_ref(), found, now) }
    }
}
