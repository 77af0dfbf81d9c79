//! A campaign and its targets as values: what is known, and nothing that is done. `plan` says what is due,
//! `apply` what an event changes.

use core::fmt;
use core::time::Duration;
use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use shared::message::{Reported, TestResult, Waiting};
use shared::{AgentId, Digest, EnvelopeId, Label, SoftwareVersion, UnixMillis};

use crate::consent::Consent;
use crate::delivery::{Cause, RELAY_PATIENCE, Trouble};
use crate::probe::Expectation;
use crate::reason::Reason;
use crate::rollout::{Rollout, WaveKind};

/// Numbers a campaign in commands and files: 1, 2, 3 …
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CampaignId(pub i64);

impl fmt::Display for CampaignId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An effort to bring a set of agents to a Software Version (M12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Campaign {
    /// Its number.
    pub id: CampaignId,
    /// Its name for people.
    pub name: Label,
    /// What it brings.
    pub bundle: BundleFacts,
    /// How patient it is.
    pub settings: Settings,
    /// Its way through its targets.
    pub rollout: Rollout,
    /// Whether it still acts.
    pub state: CampaignState,
    /// When it was started.
    pub created: UnixMillis,
    /// The agents that it is for.
    pub targets: BTreeMap<AgentId, Target>,
}

/// What the planner needs to know of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleFacts {
    /// Digest of the bundle file.
    pub digest: Digest,
    /// What an agent is called afterwards.
    pub software_version: SoftwareVersion,
    /// The versions it goes over; empty: any.
    pub from: Vec<SoftwareVersion>,
    /// The classes it is for; empty: all.
    pub classes: Vec<Label>,
    /// What its test says if it works (N7); `None`: it has none.
    pub test: Option<Expectation>,
}

/// How patient a campaign is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// From the mail's acceptance by the relay to the version query (M14).
    pub settle: Duration,
    /// From the query's acceptance by the relay to the verdict "silent".
    pub reply_timeout: Duration,
    /// Automatic repetitions for those that failed (M13).
    pub retries: u32,
    /// How long an order lives.
    pub order_life: Duration,
}

/// Whether a campaign still acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CampaignState {
    /// It is laid out, and the operator has not started it.
    Planned,
    /// Some target has no end state yet, or may be tried again.
    Running,
    /// The operator has stopped it for a while: nothing new is mailed, answers are taken.
    Paused,
    /// A gate or the operator has stopped it: nothing new is mailed, and orders that agents have not begun are called back.
    Halted,
    /// Every target has an end state.
    Finished,
    /// The operator has stopped it.
    Cancelled,
}

impl CampaignState {
    /// All states with their names.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Planned, "planned"),
        (Self::Running, "running"),
        (Self::Paused, "paused"),
        (Self::Halted, "halted"),
        (Self::Finished, "finished"),
        (Self::Cancelled, "cancelled"),
    ];

    /// Its name in the store, JSON and tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(state, _)| *state == self).map_or("", |(_, name)| name)
    }

    /// The state of a name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(state, _)| *state)
    }
}

/// Where one target stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum TargetState {
    /// Nothing was done yet in this round.
    #[n(0)]
    Pending,
    /// Its order is in the outbox.
    #[n(1)]
    Queued,
    /// The relay has taken its order.
    #[n(2)]
    Mailed,
    /// The agent says that the order has arrived.
    #[n(3)]
    Received,
    /// The agent says "not now", and will try again. No failure.
    #[n(4)]
    Deferred,
    /// The agent says that it has installed the bundle; the verdict is still to come.
    #[n(5)]
    Installed,
    /// The agent reports the target version, from the digests of its files. An end.
    #[n(6)]
    Verified,
    /// It failed; the reason says how. An end.
    #[n(7)]
    Failed,
    /// It did not answer. An end.
    #[n(8)]
    Silent,
    /// The mail could not be delivered, which says nothing of an install. An end.
    #[n(9)]
    Undeliverable,
    /// The operator has withdrawn the order. An end.
    #[n(10)]
    Cancelled,
    /// The order's life ended before anything came of it. An end.
    #[n(11)]
    Expired,
    /// Its administrator was asked, and has not answered.
    #[n(12)]
    Asked,
    /// Its administrator does not want it, or did not say so in time; or a person at the site has cancelled it. An end.
    #[n(13)]
    Declined,
}

impl TargetState {
    /// All states with their names.
    pub const ALL: [(Self, &'static str); 14] = [
        (Self::Pending, "pending"),
        (Self::Queued, "queued"),
        (Self::Mailed, "mailed"),
        (Self::Received, "received"),
        (Self::Deferred, "deferred"),
        (Self::Installed, "installed"),
        (Self::Verified, "verified"),
        (Self::Failed, "failed"),
        (Self::Silent, "silent"),
        (Self::Undeliverable, "undeliverable"),
        (Self::Cancelled, "cancelled"),
        (Self::Expired, "expired"),
        (Self::Asked, "asked"),
        (Self::Declined, "declined"),
    ];

    /// Its name in the store, JSON, CSV and tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(state, _)| *state == self).map_or("", |(_, name)| name)
    }

    /// The state of a name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(state, _)| *state)
    }

    /// True if nothing more is expected in this round.
    #[must_use]
    pub fn is_end(self) -> bool {
        match self {
            Self::Verified
            | Self::Failed
            | Self::Silent
            | Self::Undeliverable
            | Self::Cancelled
            | Self::Expired
            | Self::Declined => true,
            Self::Pending
            | Self::Asked
            | Self::Queued
            | Self::Mailed
            | Self::Received
            | Self::Deferred
            | Self::Installed => false,
        }
    }
}

impl fmt::Display for TargetState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One agent in a campaign.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Target {
    /// Where it stands.
    #[n(0)]
    pub state: TargetState,
    /// Why it ended as it did.
    #[n(1)]
    pub reason: Option<Reason>,
    /// What it reported before the campaign.
    #[n(2)]
    pub from_version: Option<Reported>,
    /// What it reported last, since the campaign began.
    #[n(3)]
    pub reported: Option<Reported>,
    /// When that report came, by the manager's clock.
    #[n(4)]
    pub reported_at: Option<UnixMillis>,
    /// Install orders sent so far.
    #[n(5)]
    pub attempts: u32,
    /// Install orders that may be sent without asking the operator.
    #[n(6)]
    pub attempts_allowed: u32,
    /// Install orders made for it, the newest last.
    #[n(7)]
    pub orders: Vec<EnvelopeId>,
    /// When the newest order was made.
    #[n(8)]
    pub ordered_at: Option<UnixMillis>,
    /// When the relay took the newest order.
    #[n(9)]
    pub mailed_at: Option<UnixMillis>,
    /// From when on the settle time counts.
    #[n(10)]
    pub settle_from: Option<UnixMillis>,
    /// Why its mail is not sent yet.
    #[n(11)]
    pub delay: Option<Delay>,
    /// Why the agent waits.
    #[n(12)]
    pub waiting: Option<Waiting>,
    /// The version query of this round.
    #[n(13)]
    pub query: Option<Ask>,
    /// The withdrawal of its order.
    #[n(14)]
    pub cancel: Option<Ask>,
    /// Highest sequence number among its reports that were applied here.
    #[n(15)]
    pub heard: u64,
    /// When the newest order was first about to be handed to the relay: from then on it may be out there,
    /// whether or not the relay's answer was ever written down.
    #[n(16)]
    pub tried_at: Option<UnixMillis>,
    /// Its wave, from 0.
    #[cbor(n(17), default)]
    pub wave: u32,
    /// It is not mailed before this: a retry that was put off, or an administrator who said "later".
    #[n(18)]
    pub not_before: Option<UnixMillis>,
    /// How its administrator was asked, and what the answer was.
    #[n(19)]
    pub consent: Option<Consent>,
    /// The schedule of this round.
    #[n(20)]
    pub schedule: Option<Ask>,
    /// From when on the schedule lets it install.
    #[n(21)]
    pub install_from: Option<UnixMillis>,
    /// When the agent asked for the bundle.
    #[n(22)]
    pub fetch_asked_at: Option<UnixMillis>,
    /// The order to run the bundle's test.
    #[n(23)]
    pub test: Option<Ask>,
    /// What came of the test.
    #[n(24)]
    pub tested: Option<TestResult>,
    /// When that came.
    #[n(25)]
    pub tested_at: Option<UnixMillis>,
    /// Its order was called back because the campaign halted: it is mailed again when that goes on.
    #[cbor(n(26), default)]
    pub called_back: bool,
    /// What was wrong with its first address; since then its order goes to the second.
    #[n(27)]
    pub rerouted: Option<Trouble>,
    /// The delta that its newest order brings; `None`: the whole bundle.
    #[n(28)]
    pub delta: Option<u8>,
    /// Its agent could not use a delta: it gets the whole bundle in this campaign.
    #[cbor(n(29), default)]
    pub needs_full: bool,
}

/// Mail that has not reached its mailbox yet.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Delay {
    /// What a mail server said.
    #[n(0)]
    pub text: String,
    /// When it is tried again; `None`: mail servers on the way do so when they like.
    #[n(1)]
    pub next_try: Option<UnixMillis>,
    /// What the words mean.
    #[cbor(n(2), default)]
    pub cause: Cause,
    /// Since when it is so; `None`: it was not written down.
    #[n(3)]
    pub since: Option<UnixMillis>,
}

impl Delay {
    /// The same trouble as before goes on; another one begins now.
    pub(crate) fn new(
        before: Option<&Self>,
        trouble: &Trouble,
        next_try: Option<UnixMillis>,
        now: UnixMillis,
    ) -> Self {
        let Trouble { cause, text } = trouble.clone();
        let since = before.filter(|before| before.cause == cause).and_then(|before| before.since);
        Self { text, next_try, cause, since: Some(since.unwrap_or(now)) }
    }

    /// When what mail servers on the way say is not believed any more; `None`: it is tried again from here.
    pub(crate) fn over_at(&self) -> Option<UnixMillis> {
        self.since.filter(|_| self.next_try.is_none()).map(|since| since.plus(RELAY_PATIENCE))
    }

    /// What is wrong, without since when.
    pub(crate) fn trouble(&self) -> Trouble {
        Trouble { cause: self.cause, text: self.text.clone() }
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.cause.name().unwrap_or("mail server"))?;
        if let Some(since) = self.since {
            write!(f, " since {since}")?;
        }
        write!(f, ": {}; ", self.text)?;
        match self.next_try {
            Some(at) => write!(f, "next try {at}"),
            None => f.write_str("mail servers go on trying"),
        }
    }
}

/// Something that was asked of an agent and waits for its answer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Ask {
    /// The envelopes that asked, the newest last.
    #[n(0)]
    pub ids: Vec<EnvelopeId>,
    /// When the relay took the first of them.
    #[n(1)]
    pub sent_at: Option<UnixMillis>,
}

impl Ask {
    fn new(id: EnvelopeId) -> Self {
        Self { ids: vec![id], sent_at: None }
    }

    /// Asks once more, or for the first time.
    pub(crate) fn again(slot: &mut Option<Self>, id: EnvelopeId) {
        match slot {
            Some(ask) => ask.ids.push(id),
            None => *slot = Some(Self::new(id)),
        }
    }
}

impl Target {
    /// True if what has become of it speaks against the bundle. An agent that still has what it had before, and has not said why,
    /// has not begun: its order is on its way.
    #[must_use]
    pub fn blames_release(&self) -> bool {
        match &self.reason {
            Some(Reason::OtherVersion(reported)) => {
                *reported != *self.from_version.as_ref().unwrap_or(&Reported::Nothing)
            }
            Some(reason) => reason.blames_release(),
            None => false,
        }
    }

    /// A target that nothing was done for yet.
    #[must_use]
    pub fn new(from_version: Option<Reported>, retries: u32) -> Self {
        Self {
            state: TargetState::Pending,
            reason: None,
            from_version,
            reported: None,
            reported_at: None,
            attempts: 0,
            attempts_allowed: retries.saturating_add(1),
            orders: Vec::new(),
            ordered_at: None,
            mailed_at: None,
            settle_from: None,
            delay: None,
            waiting: None,
            query: None,
            cancel: None,
            heard: 0,
            tried_at: None,
            wave: 0,
            not_before: None,
            consent: None,
            schedule: None,
            install_from: None,
            fetch_asked_at: None,
            test: None,
            tested: None,
            tested_at: None,
            called_back: false,
            rerouted: None,
            delta: None,
            needs_full: false,
        }
    }

    /// The same in another wave.
    #[must_use]
    pub fn in_wave(mut self, wave: u32) -> Self {
        self.wave = wave;
        self
    }

    /// The order of this round.
    #[must_use]
    pub fn order(&self) -> Option<EnvelopeId> {
        self.orders.last().copied()
    }

    /// True if its order comes in parts, and some had not come when it last spoke.
    #[must_use]
    pub(crate) fn lacks_parts(&self) -> bool {
        let lacks = |waiting: &Waiting| waiting.reason.is_of_parts();
        self.state == TargetState::Deferred && self.waiting.as_ref().is_some_and(lacks)
    }

    /// From when on this round's time counts: its order, or, if a report of the order before came first, that.
    pub(crate) fn began_at(&self) -> Option<UnixMillis> {
        self.ordered_at.or(self.settle_from)
    }

    pub(crate) fn end(&mut self, state: TargetState, reason: Option<Reason>) {
        self.state = state;
        self.reason = reason;
        self.delay = None;
        self.waiting = None;
        self.cancel = None;
    }

    /// Back to the start of a round.
    pub(crate) fn restart(&mut self) {
        self.end(TargetState::Pending, None);
        self.ordered_at = None;
        self.mailed_at = None;
        self.settle_from = None;
        self.query = None;
        self.tried_at = None;
        self.schedule = None;
        self.install_from = None;
        self.fetch_asked_at = None;
        self.test = None;
        self.tested = None;
        self.tested_at = None;
        self.called_back = false;
        self.rerouted = None;
    }

    /// True if its order is known not to have reached its mailbox yet: nothing can be asked or judged before it has.
    pub(crate) fn waits_for_mail(&self, now: UnixMillis) -> bool {
        let waits = |delay: &Delay| delay.over_at().is_none_or(|over| now < over);
        matches!(self.state, TargetState::Queued | TargetState::Mailed)
            && self.delay.as_ref().is_some_and(waits)
    }

    /// Why it is not verified: its reason, or what it waits for, and by which way its mail goes if not by the first.
    #[must_use]
    pub fn why(&self, waits: Option<String>) -> Option<String> {
        let why = self.reason.as_ref().map(ToString::to_string).or(waits);
        match &self.rerouted {
            Some(trouble) if self.state != TargetState::Verified => {
                let why = why.map_or(String::new(), |why| format!("{why}; "));
                Some(format!("{why}mailed to the second address, as the first did not take it ({trouble})"))
            }
            Some(_) | None => why,
        }
    }

    /// When something was last done for it or heard of it in this round.
    pub(crate) fn last_moved(&self) -> Option<UnixMillis> {
        let asked = self.query.as_ref().and_then(|ask| ask.sent_at);
        [self.ordered_at, self.mailed_at, asked, self.reported_at].into_iter().flatten().max()
    }
}

impl Campaign {
    /// What decides who comes first.
    #[must_use]
    pub fn seed(&self) -> [u8; 32] {
        self.bundle.digest.0
    }

    /// The vendor's own agents, on which it is tried first.
    pub fn agents_to_try_first(&self) -> impl Iterator<Item = &AgentId> {
        let is_test = |wave: u32| self.rollout.wave(wave).is_some_and(|wave| wave.kind == WaveKind::Test);
        self.targets.iter().filter(move |(_, target)| is_test(target.wave)).map(|(agent, _)| agent)
    }

    /// True if its install orders are still to reach their agents, by whatever address: also those of agents that were called silent.
    #[must_use]
    pub fn wants_mail(&self) -> bool {
        matches!(self.state, CampaignState::Running | CampaignState::Paused | CampaignState::Finished)
    }

    /// True if parts of this order that an agent asks for are to be mailed to it (PROTOCOL 17.7): it is the one that counts, and nothing
    /// has ended it but silence.
    #[must_use]
    pub fn wants_parts(&self, agent: &AgentId, order: EnvelopeId) -> bool {
        self.wants_mail()
            && self.targets.get(agent).is_some_and(|target| {
                let lost = matches!(target.state, TargetState::Silent | TargetState::Undeliverable);
                target.order() == Some(order) && (lost || !target.state.is_end())
            })
    }

    /// True if the order of a target whose mailbox was full may be mailed once more: the campaign goes on, and so does the patience
    /// with targets that cannot be reached.
    #[must_use]
    pub fn may_mail_again(&self, agent: &AgentId) -> bool {
        self.state == CampaignState::Running
            && self.rollout.retry.after.contains(&TargetState::Undeliverable)
            && self.targets.get(agent).is_some_and(|target| {
                matches!(target.state, TargetState::Queued | TargetState::Mailed)
                    && target.attempts < target.attempts_allowed
            })
    }

    /// True if a target that has ended is mailed again without the operator.
    #[must_use]
    pub fn tries_again(&self, target: &Target) -> bool {
        self.rollout.retry.after.contains(&target.state)
            && target.attempts < target.attempts_allowed
            && target.reason.as_ref().is_some_and(Reason::allows_automatic_retry)
    }
}
