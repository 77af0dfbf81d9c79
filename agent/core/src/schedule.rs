//! When an install may begin (PROTOCOL 15): schedules, which the manager mails apart from the orders that wait for them,
//! and what people at the site have put off. Says when, and asks for bundles that are offered; `queue` begins them.

use minicbor::{Decode, Encode};
use shared::message::{Fetch, Hindrance, Report, Schedule, WaitReason, Waiting};
use shared::{EnvelopeId, KeyId, Label, UnixMillis};

use crate::agent::AgentCore;
use crate::facts::EnvelopeFacts;
use crate::install::{Install, Job};
use crate::limits::{FETCH_AGAIN, FETCHES_MAX_COUNT, SCHEDULES_MAX_COUNT};
use crate::outbox::is_due;
use crate::state::State;

/// A schedule that counts here.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct KeptSchedule {
    /// The order that brought it.
    #[n(0)]
    pub order: EnvelopeId,
    /// That order's sequence number.
    #[n(1)]
    pub sequence: u64,
    /// The key that signed it.
    #[n(2)]
    pub signer: KeyId,
    /// Past this it does not count any more.
    #[n(3)]
    pub expires: UnixMillis,
    /// What it says.
    #[n(4)]
    pub schedule: Schedule,
    /// A person has put the install off.
    #[n(5)]
    pub put_off: Option<PutOff>,
    /// Times that the bundle was asked for.
    #[n(6)]
    pub fetches: u8,
    /// It is not asked for before this.
    #[n(7)]
    pub next_fetch: UnixMillis,
    /// An order has been installed since it came: its bundle is offered no more.
    #[cbor(n(8), default)]
    pub served: bool,
}

/// A person at the site does not want it yet (R9).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct PutOff {
    /// Not before this.
    #[n(0)]
    pub until: UnixMillis,
    /// Who.
    #[n(1)]
    pub by: Label,
}

/// Whether an install may begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// It may.
    Open,
    /// Not now.
    Closed(Waiting),
    /// Never any more.
    Past(Hindrance),
}

impl KeptSchedule {
    fn new(facts: &EnvelopeFacts, schedule: Schedule) -> Self {
        Self {
            order: facts.id,
            sequence: facts.sequence,
            signer: facts.signer,
            expires: facts.expires,
            schedule,
            put_off: None,
            fetches: 0,
            next_fetch: UnixMillis(0),
            served: false,
        }
    }

    /// The first moment from `from` on in which an install may begin, if there is one. What is put off is not looked at.
    pub(crate) fn opening_from(&self, from: UnixMillis) -> Option<UnixMillis> {
        let from = from.max(self.schedule.not_before);
        let intervals = &self.schedule.intervals;
        if intervals.is_empty() {
            return Some(from);
        }
        let openings = intervals.iter().map(|interval| (interval.from.max(from), interval.until));
        openings.filter(|(opens, until)| opens < until).map(|(opens, _)| opens).min()
    }

    /// The first moment from now on in which an install may begin, if there is one.
    pub(crate) fn opening(&self, now: UnixMillis) -> Option<UnixMillis> {
        self.opening_from(self.put_off.as_ref().map_or(now, |put_off| put_off.until.max(now)))
    }

    /// Whether an install may begin, for an order that lives until `expires`.
    fn gate(&self, now: UnixMillis, expires: UnixMillis) -> Gate {
        let put_off = self.put_off.as_ref().filter(|put_off| put_off.until > now);
        let hindrance = match put_off {
            Some(put_off) => Hindrance { reason: WaitReason::PutOff, about: Some(put_off.by.clone()) },
            None => Hindrance::of(WaitReason::NotYet),
        };
        match self.opening(now) {
            None => Gate::Past(hindrance),
            Some(opens) if opens <= now => Gate::Open,
            Some(opens) => Gate::Closed(Waiting {
                reason: hindrance.reason,
                until: opens.min(expires),
                about: hindrance.about,
            }),
        }
    }

    /// Takes over what a person has put off, as far as this schedule allows it.
    fn inherit(&mut self, older: Self) {
        let Some(limit) = self.schedule.defer_until else { return };
        let put_off = older.put_off.map(|put_off| PutOff { until: put_off.until.min(limit), ..put_off });
        // Putting off is no way to make it never begin.
        self.put_off = put_off.filter(|put_off| self.opening_from(put_off.until).is_some());
    }
}

impl State {
    /// Whether a job may begin (PROTOCOL 15.2).
    pub(crate) fn gate(&self, job: &Job, now: UnixMillis) -> Gate {
        if !job.scheduled {
            return Gate::Open;
        }
        match job.bundle.and_then(|bundle| self.schedules.get(&bundle)) {
            Some(kept) => kept.gate(now, job.expires),
            None => {
                let reason = WaitReason::NoSchedule;
                Gate::Closed(Waiting { reason, until: job.expires, about: None })
            }
        }
    }

    /// All jobs, the running one first.
    pub(crate) fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.active.iter().map(Install::job).chain(&self.queue)
    }

    fn is_here(&self, kept: &KeptSchedule) -> bool {
        self.jobs().any(|job| job.bundle == Some(kept.schedule.bundle))
    }

    /// What keeps a job from beginning: its time. `None`: nothing, or what runs before it.
    #[must_use]
    pub fn waiting_of(&self, job: &Job, now: UnixMillis) -> Option<Waiting> {
        match self.gate(job, now) {
            Gate::Open => None,
            Gate::Closed(waiting) => Some(waiting),
            Gate::Past(Hindrance { reason, about }) => Some(Waiting { reason, until: job.expires, about }),
        }
    }

    /// True if something waits that a person could put off or cancel.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        let pauses = self.active.as_ref().is_some_and(|install| !install.has_begun());
        pauses || !self.queue.is_empty() || self.offers().next().is_some()
    }

    /// Schedules that offer a bundle which is not here.
    pub fn offers(&self) -> impl Iterator<Item = &KeptSchedule> {
        let offered = |kept: &&KeptSchedule| kept.schedule.fetch && !kept.served;
        self.schedules.values().filter(offered).filter(|kept| !self.is_here(kept))
    }
}

impl AgentCore {
    /// The manager says when a bundle may be installed.
    pub(crate) fn scheduled(&mut self, facts: &EnvelopeFacts, schedule: Schedule) {
        let bundle = schedule.bundle;
        let mut kept = KeptSchedule::new(facts, schedule);
        if let Some(older) = self.state.schedules.remove(&bundle) {
            // PROTOCOL 15.1, 11.6: what a dropped key has signed gives way to anything.
            let counts = self.state.trust.order_key(older.signer).is_some();
            if counts && older.sequence > kept.sequence {
                kept = older;
            } else {
                kept.inherit(older);
            }
        }
        self.state.schedules.insert(bundle, kept);
        while self.state.schedules.len() > SCHEDULES_MAX_COUNT {
            let idle = self.state.schedules.values().filter(|kept| !self.state.is_here(kept));
            let Some(first) = idle.min_by_key(|kept| kept.expires).map(|kept| kept.schedule.bundle) else {
                break;
            };
            self.state.schedules.remove(&first);
        }
    }

    /// A schedule of an order that is withdrawn. True if there was one.
    pub(crate) fn drop_schedule(&mut self, order: EnvelopeId) -> bool {
        let before = self.state.schedules.len();
        self.state.schedules.retain(|_, kept| kept.order != order);
        self.state.schedules.len() != before
    }

    /// A job has ended: its bundle's schedule goes with the last of them, unless it was sent after that job's order. Then it may be
    /// for an order that is still on its way, which would wait without it until it expires (PROTOCOL 15.3).
    pub(crate) fn job_is_over(&mut self, job: &Job, installed: bool) {
        let Some(bundle) = job.bundle else { return };
        if self.state.jobs().any(|other| other.bundle == job.bundle) {
            return;
        }
        match self.state.schedules.get_mut(&bundle) {
            Some(kept) if kept.sequence > job.sequence => kept.served |= installed,
            Some(_) | None => drop(self.state.schedules.remove(&bundle)),
        }
    }

    /// Drops schedules that have expired, and asks for bundles whose time has come (PROTOCOL 15.5).
    pub(crate) fn tend_schedules(&mut self, now: UnixMillis) {
        let before = self.state.schedules.len();
        self.state.schedules.retain(|_, kept| kept.expires >= now);
        self.dirty |= self.state.schedules.len() != before;
        let due = self.state.offers().filter(|kept| is_fetch_due(kept, now));
        let due: Vec<_> = due.map(|kept| (kept.order, kept.schedule.bundle)).collect();
        for (schedule, bundle) in due {
            if let Some(kept) = self.state.schedules.get_mut(&bundle) {
                kept.fetches = kept.fetches.saturating_add(1);
                kept.next_fetch = now.plus(FETCH_AGAIN);
            }
            self.say(now, Report::Fetch(Fetch { schedule, bundle }));
        }
    }

    /// When a bundle is asked for next.
    pub(crate) fn fetch_wake(&self, now: UnixMillis) -> Option<UnixMillis> {
        self.state.offers().filter_map(|kept| next_fetch(kept, now)).min()
    }
}

fn next_fetch(kept: &KeptSchedule, now: UnixMillis) -> Option<UnixMillis> {
    match kept.fetches {
        0 => kept.opening(now),
        1..FETCHES_MAX_COUNT => Some(kept.next_fetch),
        _ => None,
    }
}

fn is_fetch_due(kept: &KeptSchedule, now: UnixMillis) -> bool {
    match kept.fetches {
        0 => kept.opening(now).is_some_and(|opens| opens <= now),
        1..FETCHES_MAX_COUNT => is_due(now, kept.next_fetch),
        _ => false,
    }
}
