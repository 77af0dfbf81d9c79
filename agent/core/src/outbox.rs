//! Reports that wait for the mail: bounded, numbered, tried oldest first, with growing pauses. The sealed
//! bytes are the shell's; here is only what must survive a restart.

use minicbor::{Decode, Encode};
use shared::limits::REPORT_LIFE;
use shared::message::Report;
use shared::{AgentId, Digest, EnvelopeId, UnixMillis};

use crate::effect::Outgoing;
use crate::limits::{
    ENROL_LONGEST, OUTBOX_MAX_COUNT, POST_FIRST, POST_LONGEST, RECOVERY_SEQUENCE_GAP, back_off,
};
use crate::rekey::KeyName;

/// Numbers the reports of one agent; only rises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct ReportSeq(#[n(0)] pub u64);

/// A report that waits.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Queued {
    /// Its number.
    #[n(0)]
    pub sequence: ReportSeq,
    /// When it was made.
    #[n(1)]
    pub created: UnixMillis,
    /// The message.
    #[n(2)]
    pub report: Report,
    /// Tries so far, the running one included.
    #[n(3)]
    pub attempts: u32,
    /// Not before this.
    #[n(4)]
    pub next_try: UnixMillis,
    /// The keys that sign it: those of when it was made, so that what is said under other keys is said after it.
    #[n(5)]
    #[cbor(default)]
    pub signer: KeyName,
}

impl Queued {
    fn expires(&self) -> UnixMillis {
        self.created.plus(REPORT_LIFE)
    }

    /// A lower number is dropped first when the outbox overflows.
    fn worth(&self) -> u8 {
        match &self.report {
            Report::Progress(_) => 0,
            Report::Versions(_) | Report::Counters(_) => 1,
            Report::Cancelled(_) | Report::Standing(_) | Report::Fetch(_) | Report::Parts(_) => 2,
            Report::DeviceUpdates(_) => 3,
            Report::Enrol(_) | Report::Rekeyed(_) => 3,
            Report::Ended(_) | Report::Faults(_) | Report::Tested(_) => 4,
        }
    }
}

/// All reports that wait.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Outbox {
    /// The next report's number.
    #[n(0)]
    pub next: ReportSeq,
    /// Oldest first.
    #[n(1)]
    pub waiting: Vec<Queued>,
    /// Reports that were dropped because they were stale or the outbox was full.
    #[n(2)]
    pub dropped: u64,
    /// What the mail said last, if it did not take a report.
    #[n(3)]
    pub last_fault: Option<shared::Label>,
}

impl Default for Outbox {
    fn default() -> Self {
        Self { next: ReportSeq(1), waiting: Vec::new(), dropped: 0, last_fault: None }
    }
}

impl Outbox {
    /// Puts a report at the end, due at once.
    pub(crate) fn push(&mut self, now: UnixMillis, signer: KeyName, report: Report) {
        let sequence = self.next;
        self.next = ReportSeq(sequence.0.saturating_add(1));
        self.waiting.push(Queued { sequence, created: now, report, attempts: 0, next_try: now, signer });
    }

    /// Drops progress that is too old to tell anyone anything, and the least worthy beyond the limit: a box that was
    /// alone for months still says how its installs ended. Returns their numbers.
    pub(crate) fn thin(&mut self, now: UnixMillis) -> Vec<ReportSeq> {
        let stale = |q: &&Queued| q.expires() < now && q.worth() == 0;
        let mut gone: Vec<ReportSeq> = self.waiting.iter().filter(stale).map(|q| q.sequence).collect();
        let mut over = self.waiting.len().saturating_sub(gone.len()).saturating_sub(OUTBOX_MAX_COUNT);
        let mut rest: Vec<&Queued> = self.waiting.iter().filter(|q| !stale(q)).collect();
        rest.sort_by_key(|q| (q.worth(), q.sequence));
        for queued in rest {
            if over == 0 {
                break;
            }
            over = over.saturating_sub(1);
            gone.push(queued.sequence);
        }
        self.waiting.retain(|q| !gone.contains(&q.sequence));
        self.dropped = self.dropped.saturating_add(gone.len() as u64);
        gone
    }

    /// Takes up the oldest report that is due and counts the attempt before it is made: a report whose
    /// sending kills the agent must not be tried without pause.
    pub(crate) fn take_due(&mut self, now: UnixMillis, agent: &AgentId) -> Option<Outgoing> {
        let queued = self.waiting.iter_mut().find(|q| is_due(now, q.next_try))?;
        let pause = back_off(POST_FIRST, POST_LONGEST, queued.attempts);
        queued.next_try = now.plus(pause).plus(jitter(agent, queued, pause));
        queued.attempts = queued.attempts.saturating_add(1);
        Some(Outgoing {
            sequence: queued.sequence,
            created: queued.created,
            expires: queued.expires(),
            signer: queued.signer,
            report: queued.report.clone(),
        })
    }

    /// The relay has taken a report.
    pub(crate) fn done(&mut self, sequence: ReportSeq) -> Option<Report> {
        self.last_fault = None;
        let at = self.waiting.iter().position(|q| q.sequence == sequence)?;
        Some(self.waiting.remove(at).report)
    }

    /// The mail is not reachable or refuses: whatever else is due waits with the report that was tried,
    /// or a dead server would be asked once for each report.
    pub(crate) fn failed(&mut self, now: UnixMillis, sequence: ReportSeq, never: bool, why: shared::Label) {
        let Some(tried) = self.waiting.iter_mut().find(|q| q.sequence == sequence) else { return };
        if never {
            tried.next_try = now.plus(POST_LONGEST);
        }
        let resume = tried.next_try;
        if !never {
            for queued in self.waiting.iter_mut().filter(|q| q.next_try < resume) {
                queued.next_try = resume;
            }
        }
        self.last_fault = Some(why);
    }

    /// The agent starts: everything is worth a try at once.
    pub(crate) fn restart(&mut self, now: UnixMillis, recovered: bool) {
        for queued in &mut self.waiting {
            queued.next_try = queued.next_try.min(now);
        }
        if recovered {
            self.next = ReportSeq(self.next.0.saturating_add(RECOVERY_SEQUENCE_GAP));
        }
    }

    /// The first time at which a report is due.
    pub(crate) fn next_wake(&self) -> Option<UnixMillis> {
        self.waiting.iter().map(|q| q.next_try).min()
    }

    /// True if an enrolment request waits.
    pub(crate) fn holds_enrol(&self) -> bool {
        self.waiting.iter().any(|q| matches!(q.report, Report::Enrol(_)))
    }

    /// True if faults wait to be told.
    pub(crate) fn holds_faults(&self) -> bool {
        self.waiting.iter().any(|q| matches!(q.report, Report::Faults(_)))
    }

    /// True if counters wait to be sent.
    pub(crate) fn holds_counters(&self) -> bool {
        self.waiting.iter().any(|q| matches!(q.report, Report::Counters(_)))
    }

    /// True if a word on updates of devices waits.
    pub(crate) fn holds_updates(&self) -> bool {
        self.waiting.iter().any(|q| matches!(q.report, Report::DeviceUpdates(_)))
    }

    /// True if a request for parts of this order waits.
    pub(crate) fn holds_ask(&self, order: EnvelopeId) -> bool {
        self.waiting.iter().any(|q| matches!(&q.report, Report::Parts(ask) if ask.order == order))
    }

    /// Removes requests for parts of all other orders. Returns their numbers.
    pub(crate) fn drop_asks(&mut self, wanting: &[EnvelopeId]) -> Vec<ReportSeq> {
        let is_over = |q: &Queued| matches!(&q.report, Report::Parts(ask) if !wanting.contains(&ask.order));
        let gone = self.waiting.iter().filter(|q| is_over(q)).map(|q| q.sequence).collect();
        self.waiting.retain(|q| !is_over(q));
        gone
    }

    /// Removes enrolment requests: they are answered. Returns their numbers.
    pub(crate) fn drop_enrol(&mut self) -> Vec<ReportSeq> {
        let is_enrol = |q: &Queued| matches!(q.report, Report::Enrol(_));
        let gone = self.waiting.iter().filter(|q| is_enrol(q)).map(|q| q.sequence).collect();
        self.waiting.retain(|q| !is_enrol(q));
        gone
    }
}

/// Whether `time` has come. A time further ahead than any pause lasts was set before the clock went back.
pub(crate) fn is_due(now: UnixMillis, time: UnixMillis) -> bool {
    let longest = ENROL_LONGEST.saturating_mul(2);
    time <= now || time.since(now) > longest
}

/// Up to a quarter of the pause, other for each agent, so that a fleet does not come back in one second.
fn jitter(agent: &AgentId, queued: &Queued, pause: core::time::Duration) -> core::time::Duration {
    let seed = format!("{agent} {} {}", queued.sequence.0, queued.attempts);
    let Digest([byte, ..]) = Digest::of(seed.as_bytes());
    pause.saturating_mul(u32::from(byte)).checked_div(1024).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use shared::Label;
    use shared::message::{CancelAnswer, CancelResult, Progress, Step};

    const T0: UnixMillis = UnixMillis(1_750_000_000_000);

    fn agent() -> AgentId {
        AgentId::parse("A1").unwrap()
    }

    fn progress() -> Report {
        Report::Progress(Progress { order: EnvelopeId([1; 16]), step: Step::Received })
    }

    fn answer() -> Report {
        Report::Cancelled(CancelAnswer { order: EnvelopeId([1; 16]), result: CancelResult::Unknown })
    }

    #[test]
    fn a_full_outbox_drops_the_oldest_progress_first() {
        let mut outbox = Outbox::default();
        outbox.push(T0, KeyName::First, answer());
        for _ in 0..OUTBOX_MAX_COUNT {
            outbox.push(T0, KeyName::First, progress());
        }
        assert_eq!(outbox.thin(T0), vec![ReportSeq(2)]);
        assert_eq!((outbox.waiting.len(), outbox.dropped), (OUTBOX_MAX_COUNT, 1));
        // The progress is worth nothing after a month; the answer is.
        let after = T0.plus(REPORT_LIFE + Duration::from_secs(1));
        assert_eq!(outbox.thin(after).len(), OUTBOX_MAX_COUNT - 1);
        assert_eq!(outbox.thin(after.plus(REPORT_LIFE * 12)), []);
    }

    #[test]
    fn one_failure_holds_back_all_reports_and_pauses_grow() {
        let mut outbox = Outbox::default();
        outbox.push(T0, KeyName::First, progress());
        outbox.push(T0, KeyName::First, progress());
        let first = outbox.take_due(T0, &agent()).unwrap();
        outbox.failed(T0, first.sequence, false, Label::lossy("no route"));
        assert!(outbox.take_due(T0, &agent()).is_none());
        let mut waits = Vec::new();
        for _ in 0..12 {
            let now = outbox.next_wake().unwrap();
            let out = outbox.take_due(now, &agent()).unwrap();
            outbox.failed(now, out.sequence, false, Label::lossy("no route"));
            waits.push(outbox.next_wake().unwrap().since(now));
        }
        assert!(waits.iter().all(|w| *w <= POST_LONGEST * 2), "{waits:?}");
        assert!(waits[11] >= POST_LONGEST);
    }

    #[test]
    fn a_refused_report_does_not_hold_back_the_others() {
        let mut outbox = Outbox::default();
        outbox.push(T0, KeyName::First, progress());
        outbox.push(T0, KeyName::First, progress());
        let first = outbox.take_due(T0, &agent()).unwrap();
        outbox.failed(T0, first.sequence, true, Label::lossy("550"));
        assert_eq!(outbox.take_due(T0, &agent()).unwrap().sequence, ReportSeq(2));
    }

    #[test]
    fn a_clock_that_went_back_years_does_not_stop_the_mail() {
        let mut outbox = Outbox::default();
        outbox.push(T0, KeyName::First, progress());
        assert!(outbox.take_due(T0.minus(Duration::from_secs(86_400 * 400)), &agent()).is_some());
    }
}
