//! What an event changes in a campaign. Pure; the caller saves the result before it does anything about it.

use shared::message::{
    CancelResult, Outcome, PartsWanted, Refusal, Report, Reported, Step, WaitReason, Waiting,
};
use shared::{AgentId, EnvelopeId, UnixMillis};

use crate::campaign::{Ask, Campaign, CampaignState, Delay, Target, TargetState};
use crate::consent::{Answer, Consent};
use crate::delivery::Trouble;
use crate::parts::PARTS_PATIENCE;
use crate::reason::Reason;
use crate::rollout::{Forgiven, Held, HoldReason, Survey};

/// Something that happened to one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetEvent {
    /// Its install order was put into the outbox.
    OrderQueued(EnvelopeId),
    /// Its install order was put into the outbox, and brings the bundle's delta of this number.
    DeltaQueued(EnvelopeId, u8),
    /// A version query for it was put into the outbox.
    QueryQueued(EnvelopeId),
    /// The withdrawal of its order was put into the outbox.
    CancelQueued(EnvelopeId),
    /// Its schedule was put into the outbox; from when on that lets it install.
    ScheduleQueued(EnvelopeId, UnixMillis),
    /// The order to run the bundle's test was put into the outbox.
    TestQueued(EnvelopeId),
    /// Its administrator was asked for consent.
    ConsentAsked,
    /// Its administrator has answered.
    Answered(Answer),
    /// This envelope is about to be handed to the relay for it. Saved before the relay is spoken to.
    Trying(EnvelopeId),
    /// The relay has taken this envelope for it.
    Sent(EnvelopeId),
    /// The relay did not take this envelope yet; when it is asked again.
    Delayed(EnvelopeId, Trouble, UnixMillis),
    /// The relay has refused this envelope for good, and it is given up.
    Refused(EnvelopeId, Trouble),
    /// A bounce gives this envelope up for this agent. Unsigned, as the next two can be: anyone on the way can write one.
    Bounced(EnvelopeId, Trouble),
    /// A mail server on the way says that it still tries to deliver this envelope.
    Stuck(EnvelopeId, Trouble),
    /// This envelope did not reach its mailbox, and is mailed once more.
    Remailed {
        /// The envelope.
        envelope: EnvelopeId,
        /// What was wrong.
        trouble: Trouble,
        /// When.
        at: UnixMillis,
        /// To the agent's second address.
        to_second: bool,
    },
    /// The agent has new keys (its box was replaced): its reports are numbered from 1 again.
    Reenrolled,
    /// A signed report of the agent, verified and newer than its last.
    Report {
        /// The report.
        report: Box<Report>,
        /// Sequence number in its header.
        sequence: u64,
    },
}

/// What an event did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The target has changed.
    Changed,
    /// It says nothing about this target in its state.
    Ignored,
}

impl Campaign {
    /// Applies an event. Applying it twice is the same as applying it once.
    pub fn apply(&mut self, now: UnixMillis, agent: &AgentId, event: &TargetEvent) -> Applied {
        let goal = self.bundle.software_version.clone();
        let (halted, cancelled) =
            (self.state == CampaignState::Halted, self.state == CampaignState::Cancelled);
        let Some(target) = self.targets.get_mut(agent) else { return Applied::Ignored };
        let before = target.clone();
        match event {
            TargetEvent::OrderQueued(id) => target.order_queued(now, *id, None),
            TargetEvent::DeltaQueued(id, number) => target.order_queued(now, *id, Some(*number)),
            TargetEvent::QueryQueued(id) => Ask::again(&mut target.query, *id),
            TargetEvent::CancelQueued(id) => {
                Ask::again(&mut target.cancel, *id);
                target.called_back = halted;
            }
            TargetEvent::ScheduleQueued(id, from) => {
                Ask::again(&mut target.schedule, *id);
                target.install_from = Some(*from);
            }
            TargetEvent::TestQueued(id) => Ask::again(&mut target.test, *id),
            TargetEvent::ConsentAsked => target.consent_asked(now),
            TargetEvent::Answered(answer) => target.answered(now, *answer),
            TargetEvent::Trying(id) => {
                if target.order() == Some(*id) && target.state == TargetState::Queued {
                    target.tried_at = target.tried_at.or(Some(now));
                }
            }
            TargetEvent::Sent(id) => target.sent(now, *id),
            TargetEvent::Delayed(id, trouble, next_try) => {
                if target.order() == Some(*id) && target.state == TargetState::Queued {
                    target.delay = Some(Delay::new(target.delay.as_ref(), trouble, Some(*next_try), now));
                }
            }
            TargetEvent::Refused(id, trouble) => target.refused(*id, trouble),
            TargetEvent::Bounced(id, trouble) => target.bounced(*id, trouble),
            TargetEvent::Stuck(id, trouble) => target.stuck(now, *id, trouble),
            TargetEvent::Remailed { envelope, trouble, at, to_second } => {
                target.remailed(now, *envelope, trouble, *at, *to_second);
            }
            TargetEvent::Reenrolled => target.replaced(now),
            TargetEvent::Report { report, sequence } => {
                // PROTOCOL 8.2: a report that was overtaken says nothing new.
                let overtaken = *sequence <= target.heard;
                target.heard = target.heard.max(*sequence);
                match (target.turns_to_full(report, cancelled), overtaken) {
                    (true, _) => {}
                    (false, false) => target.report(now, report, |reported| reported.exact() == Some(&goal)),
                    (false, true) => target.overtaken(report),
                }
            }
        }
        if *target == before { Applied::Ignored } else { Applied::Changed }
    }

    /// Gives a target the end that the plan found.
    pub fn end(&mut self, agent: &AgentId, state: TargetState, reason: Option<Reason>) {
        if let Some(target) = self.targets.get_mut(agent).filter(|t| !t.state.is_end()) {
            target.end(state, reason);
        }
    }

    /// Starts another round for these targets, whose end allows it.
    pub fn restart(&mut self, agents: &[AgentId]) {
        for agent in agents {
            if let Some(target) = self.targets.get_mut(agent).filter(|t| t.state.is_end()) {
                target.restart();
            }
        }
        self.state = CampaignState::Running;
    }

    /// The operator's retry (M13): every target that has ended and is not verified gets one more attempt, in
    /// one go. Returns them; targets that are still on their way are left alone.
    pub fn retry(&mut self) -> Vec<AgentId> {
        let failed: Vec<AgentId> = self
            .targets
            .iter()
            .filter(|(_, t)| {
                // What a customer has declined is not mailed because an operator tries the rest again.
                t.state.is_end() && !matches!(t.state, TargetState::Verified | TargetState::Declined)
            })
            .map(|(agent, _)| agent.clone())
            .collect();
        for agent in &failed {
            if let Some(target) = self.targets.get_mut(agent) {
                target.attempts_allowed = target.attempts.saturating_add(1);
            }
        }
        if !failed.is_empty() {
            self.restart(&failed);
        }
        failed
    }

    /// A newer campaign has begun for these agents: they get this one's bundle again only if the operator says
    /// so, or the older bundle would take back what the newer one brings.
    pub fn overtaken_by_newer(&mut self, agents: &[AgentId]) {
        for agent in agents {
            if let Some(target) = self.targets.get_mut(agent) {
                target.attempts_allowed = target.attempts_allowed.min(target.attempts.max(1));
            }
        }
    }

    /// Opens a wave: its targets can be mailed.
    pub fn open_wave(&mut self, number: u32, now: UnixMillis) {
        if let Some(wave) = self.wave_mut(number) {
            wave.opened_at = wave.opened_at.or(Some(now));
        }
    }

    /// Opens a wave's gate.
    pub fn pass_wave(&mut self, number: u32, now: UnixMillis) {
        if let Some(wave) = self.wave_mut(number) {
            wave.passed_at = wave.passed_at.or(Some(now));
        }
    }

    fn wave_mut(&mut self, number: u32) -> Option<&mut crate::rollout::Wave> {
        self.rollout.waves.get_mut(usize::try_from(number).ok()?)
    }

    /// The operator starts what was planned. False if it was started before.
    pub fn start(&mut self, now: UnixMillis) -> bool {
        let planned = self.state == CampaignState::Planned;
        if planned {
            self.state = CampaignState::Running;
            self.rollout.begin(now);
        }
        planned
    }

    /// The operator stops it for a while: what is on its way goes on. False if it does not run.
    pub fn pause(&mut self, words: &str, now: UnixMillis) -> bool {
        let runs = self.state == CampaignState::Running;
        if runs {
            self.state = CampaignState::Paused;
            self.rollout.held = Some(Held { why: HoldReason::Operator(words.to_owned()), since: now });
        }
        runs
    }

    /// Stops it: nothing more is mailed, and the plan calls back what agents have not begun. Gives those whose mail waits in the
    /// outbox and is to be dropped there; `None` if it is over or halted already.
    pub fn halt(&mut self, why: HoldReason, now: UnixMillis) -> Option<Vec<AgentId>> {
        if !matches!(self.state, CampaignState::Running | CampaignState::Paused) {
            return None;
        }
        self.state = CampaignState::Halted;
        self.rollout.held = Some(Held { why, since: now });
        let mut dropped = Vec::new();
        for (agent, target) in &mut self.targets {
            let schedule_waits = target.schedule.as_ref().is_some_and(|ask| ask.sent_at.is_none());
            let unsent = (target.state == TargetState::Queued && target.tried_at.is_none())
                || (target.state == TargetState::Pending && schedule_waits);
            if unsent {
                if target.state == TargetState::Queued {
                    target.attempts = target.attempts.saturating_sub(1);
                }
                target.restart();
                dropped.push(agent.clone());
            }
        }
        Some(dropped)
    }

    /// The operator lets it go on. Failures up to now are taken into account: the gate halts it at the next one. What was called back
    /// is mailed again. False if it is neither paused nor halted.
    pub fn resume(&mut self, now: UnixMillis) -> bool {
        if !matches!(self.state, CampaignState::Paused | CampaignState::Halted) {
            return false;
        }
        if let Some(number) = self.rollout.current().and_then(|at| u32::try_from(at).ok()) {
            let survey = Survey::of(self, number);
            let halted = self.state == CampaignState::Halted;
            if let Some(wave) = self.wave_mut(number).filter(|_| halted) {
                wave.forgiven = Forgiven { failed: survey.failed, silent: survey.silent, until: Some(now) };
            }
        }
        self.state = CampaignState::Running;
        self.rollout.held = None;
        for target in self.targets.values_mut() {
            if target.called_back && target.state == TargetState::Cancelled {
                target.attempts = target.attempts.saturating_sub(1);
                target.restart();
            }
        }
        true
    }

    /// The operator opens the gate that is awaited. Gives its wave; `None` if there is none, or the campaign does not act.
    pub fn skip(&mut self, now: UnixMillis) -> Option<u32> {
        if matches!(self.state, CampaignState::Finished | CampaignState::Cancelled | CampaignState::Planned) {
            return None;
        }
        let number = u32::try_from(self.rollout.current()?).ok()?;
        self.resume(now);
        self.open_wave(number, now);
        self.pass_wave(number, now);
        Some(number)
    }

    /// The operator's cancel: targets whose mail the relay was never asked to take end at once; the plan
    /// withdraws the other orders.
    pub fn cancel(&mut self) {
        if matches!(self.state, CampaignState::Finished | CampaignState::Cancelled) {
            return;
        }
        self.state = CampaignState::Cancelled;
        self.rollout.held = None;
        for target in self.targets.values_mut() {
            let spoken_of = matches!(
                target.state,
                TargetState::Received | TargetState::Deferred | TargetState::Installed
            );
            let may_be_out = spoken_of || target.mailed_at.is_some() || target.tried_at.is_some();
            if !target.state.is_end() && !may_be_out {
                target.end(TargetState::Cancelled, Some(Reason::Cancelled(Some(CancelResult::BeforeStart))));
            }
        }
    }
}

impl Target {
    /// What the old box had put off is not known to the new one, which cannot even open it: it is asked for
    /// its version, and its answer ends the round.
    fn replaced(&mut self, now: UnixMillis) {
        self.heard = 0;
        if self.state == TargetState::Deferred {
            self.state = TargetState::Mailed;
            self.waiting = None;
            self.query = None;
            self.settle_from = Some(now);
        }
    }

    fn order_queued(&mut self, now: UnixMillis, id: EnvelopeId, delta: Option<u8>) {
        if self.state == TargetState::Pending && !self.orders.contains(&id) {
            self.orders.push(id);
            self.ordered_at = Some(now);
            self.delta = delta;
            self.attempts = self.attempts.saturating_add(1);
            self.state = TargetState::Queued;
        }
    }

    fn sent(&mut self, now: UnixMillis, id: EnvelopeId) {
        if self.order() == Some(id) && self.mailed_at.is_none() {
            self.mailed_at = Some(now);
            self.settle_from = Some(now);
            self.delay = None;
            match self.state {
                TargetState::Queued => self.state = TargetState::Mailed,
                // The operator cancelled while the mail was being handed over: it must be called back.
                TargetState::Cancelled if self.tried_at.is_none() => {
                    self.state = TargetState::Mailed;
                    self.reason = None;
                }
                // A report may have come before the mail server's word for its order was written down.
                TargetState::Pending
                | TargetState::Asked
                | TargetState::Declined
                | TargetState::Mailed
                | TargetState::Received
                | TargetState::Deferred
                | TargetState::Installed
                | TargetState::Verified
                | TargetState::Failed
                | TargetState::Silent
                | TargetState::Undeliverable
                | TargetState::Cancelled
                | TargetState::Expired => {}
            }
        }
        for ask in
            [&mut self.query, &mut self.cancel, &mut self.schedule, &mut self.test].into_iter().flatten()
        {
            if ask.ids.contains(&id) && ask.sent_at.is_none() {
                ask.sent_at = Some(now);
            }
        }
    }

    fn refused(&mut self, id: EnvelopeId, trouble: &Trouble) {
        let reason = Reason::MailRefused(trouble.text.clone(), trouble.cause);
        let unsent = |ask: &Option<Ask>| {
            ask.as_ref().is_some_and(|ask| ask.ids.contains(&id) && ask.sent_at.is_none())
        };
        let asks = [&self.query, &self.cancel, &self.schedule];
        if asks.into_iter().any(unsent) && !self.state.is_end() {
            // What cannot be mailed is not answered, so there is nothing to wait for.
            self.end(TargetState::Undeliverable, Some(reason));
        } else if self.order() == Some(id) && self.state == TargetState::Queued {
            self.end(TargetState::Undeliverable, Some(reason));
        }
    }

    /// PROTOCOL 8.4: a mail server's word counts only while nothing was heard from the agent itself. That may be known long after the
    /// verdict: relays try for days.
    fn is_unheard(&self) -> bool {
        match self.state {
            TargetState::Queued | TargetState::Mailed => true,
            TargetState::Silent => matches!(self.reason, Some(Reason::NoAnswer { received: false, .. })),
            TargetState::Pending
            | TargetState::Asked
            | TargetState::Received
            | TargetState::Deferred
            | TargetState::Installed
            | TargetState::Verified
            | TargetState::Failed
            | TargetState::Undeliverable
            | TargetState::Cancelled
            | TargetState::Expired
            | TargetState::Declined => false,
        }
    }

    fn bounced(&mut self, id: EnvelopeId, trouble: &Trouble) {
        if self.order() == Some(id) && self.is_unheard() {
            let reason = Reason::Bounced(trouble.text.clone(), trouble.cause);
            self.end(TargetState::Undeliverable, Some(reason));
        }
    }

    fn stuck(&mut self, now: UnixMillis, id: EnvelopeId, trouble: &Trouble) {
        if self.order() != Some(id) || !self.is_unheard() {
            return;
        }
        if self.state == TargetState::Mailed {
            self.delay = Some(Delay::new(self.delay.as_ref(), trouble, None, now));
        }
        // The verdict stays, and is explained.
        if let Some(Reason::NoAnswer { mail, .. }) = &mut self.reason {
            *mail = Some(trouble.clone());
        }
    }

    fn remailed(
        &mut self,
        now: UnixMillis,
        id: EnvelopeId,
        trouble: &Trouble,
        at: UnixMillis,
        to_second: bool,
    ) {
        if self.order() != Some(id) || !self.is_unheard() {
            return;
        }
        if to_second {
            self.rerouted = Some(trouble.clone());
        }
        let delay = Delay::new(self.delay.as_ref(), trouble, Some(at), now);
        // Who was called silent stays it until a report says more; the mail goes out all the same.
        if self.state == TargetState::Silent || self.delay.as_ref() == Some(&delay) {
            return;
        }
        self.delay = Some(delay);
        self.state = TargetState::Queued;
        self.tried_at = self.tried_at.or(Some(now));
        if !to_second {
            self.attempts = self.attempts.saturating_add(1);
        }
        self.mailed_at = None;
        self.settle_from = None;
        self.query = None;
    }

    /// The order has arrived after all: only now its time to settle begins.
    fn arrived(&mut self, now: UnixMillis) {
        if self.delay.take().is_some() {
            self.query = None;
            self.settle_from = Some(now);
        }
    }

    fn report(&mut self, now: UnixMillis, report: &Report, reaches_goal: impl Fn(&Reported) -> bool) {
        match report {
            Report::Progress(progress) if self.order() == Some(progress.order) => {
                self.progress(now, &progress.step);
            }
            Report::Ended(ended) if self.orders.contains(&ended.order) => {
                self.reported = Some(ended.versions.software.clone());
                self.reported_at = Some(now);
                let good = reaches_goal(&ended.versions.software);
                self.ended(now, ended.order, &ended.outcome, good);
            }
            Report::Versions(answer) => {
                let software = &answer.versions.software;
                self.reported = Some(software.clone());
                self.reported_at = Some(now);
                let asked =
                    answer.query.filter(|id| self.query.as_ref().is_some_and(|ask| ask.ids.contains(id)));
                self.versions(software, asked, reaches_goal(software));
            }
            Report::Cancelled(answer) if self.order() == Some(answer.order) => self.cancelled(answer.result),
            Report::Fetch(fetch) if asked_by(&self.schedule, fetch.schedule) => {
                self.fetch_asked_at = self.fetch_asked_at.or(Some(now));
            }
            Report::Parts(ask) if self.order() == Some(ask.order) => self.parts_missing(now, ask),
            Report::Tested(tested) if asked_by(&self.test, tested.order) && self.tested.is_none() => {
                self.tested = Some(tested.result.clone());
                self.tested_at = Some(now);
            }
            Report::Enrol(_)
            | Report::Progress(_)
            | Report::Ended(_)
            | Report::Cancelled(_)
            | Report::Standing(_)
            | Report::Rekeyed(_)
            | Report::Faults(_)
            | Report::Counters(_)
            | Report::Fetch(_)
            | Report::Parts(_)
            | Report::Tested(_)
            | Report::DeviceUpdates(_) => {}
        }
    }

    /// The order is on its way in parts, and this much of it has come.
    fn parts_missing(&mut self, now: UnixMillis, ask: &PartsWanted) {
        let before = self.waiting.as_ref().filter(|waiting| waiting.reason == WaitReason::PartsMissing);
        // After a wait for the budget the agent does not say anew until when.
        let until = before.map_or(now.plus(PARTS_PATIENCE), |waiting| waiting.until);
        let waiting = Waiting { reason: WaitReason::PartsMissing, until, about: Some(ask.about()) };
        // What has arrived whole cannot lack parts: the request was overtaken.
        if self.state != TargetState::Received {
            self.progress(now, &Step::Waiting(waiting));
        }
    }

    fn consent_asked(&mut self, now: UnixMillis) {
        if self.state == TargetState::Pending {
            self.state = TargetState::Asked;
            self.consent = Some(Consent::Asked(now));
        }
    }

    /// The first answer counts, and a "no" as long as nothing was mailed.
    fn answered(&mut self, now: UnixMillis, answer: Answer) {
        let not_mailed = self.state == TargetState::Asked
            || (self.state == TargetState::Pending && self.attempts == 0 && self.consent.is_some());
        match answer {
            Answer::No if not_mailed => self.end(TargetState::Declined, Some(Reason::SaysNo)),
            Answer::Yes | Answer::Always if not_mailed => {
                self.state = TargetState::Pending;
                self.consent = Some(Consent::Given(now));
                self.not_before = None;
            }
            Answer::Later(until) if not_mailed => {
                self.state = TargetState::Pending;
                self.consent = Some(Consent::Later(now));
                self.not_before = Some(until);
            }
            Answer::Yes | Answer::Always | Answer::No | Answer::Later(_) => {}
        }
    }

    fn progress(&mut self, now: UnixMillis, step: &Step) {
        if self.state.is_end() || self.state == TargetState::Installed {
            return;
        }
        self.arrived(now);
        match step {
            Step::Received => {
                // It came in parts, and only now can be installed.
                if self.waiting.take_if(|waiting| waiting.reason.is_of_parts()).is_some() {
                    self.query = None;
                    self.settle_from = Some(now);
                }
                self.state = TargetState::Received;
            }
            Step::Waiting(waiting) => {
                self.state = TargetState::Deferred;
                self.waiting = Some(waiting.clone());
                // The question for the version comes after the install that is put off.
                self.query = None;
                if self.lacks_parts() {
                    // Who says nothing more has them all, or is gone: then it is asked.
                    let next =
                        if waiting.reason == WaitReason::PartsMissing { now } else { waiting.until.max(now) };
                    self.settle_from = Some(next.plus(PARTS_PATIENCE));
                }
            }
        }
        self.settle_from = self.settle_from.or(Some(now));
    }

    fn ended(&mut self, now: UnixMillis, order: EnvelopeId, outcome: &Outcome, good: bool) {
        let current = self.order() == Some(order);
        match outcome {
            Outcome::Installed | Outcome::AlreadyInstalled => {
                if self.state.is_end() {
                    if good && self.may_still_turn_out_well() {
                        self.end(TargetState::Verified, None);
                    }
                    return;
                }
                // After a wait, the settle time begins with the install, not with the mail.
                if self.state == TargetState::Deferred || self.settle_from.is_none() {
                    self.settle_from = Some(now);
                }
                self.waiting = None;
                self.delay = None;
                self.state = TargetState::Installed;
            }
            // An earlier round's failure says nothing of the order that is on its way now.
            Outcome::RolledBack(_) | Outcome::Refused(_) | Outcome::Damaged(_) if !current => {}
            Outcome::Refused(Refusal::Cancelled) => self.cancelled(CancelResult::BeforeStart),
            Outcome::RolledBack(failure) => self.fail(Reason::RolledBack(failure.clone())),
            Outcome::Damaged(failure) => self.fail(Reason::Damaged(failure.clone())),
            Outcome::Refused(refusal) => self.turned_down(refusal),
        }
    }

    fn fail(&mut self, reason: Reason) {
        self.end_by_report(TargetState::Failed, reason);
    }

    /// PROTOCOL 15.7: what a person at the site does not want is no failure, and not sent again.
    fn turned_down(&mut self, refusal: &Refusal) {
        let state = if *refusal == Refusal::Declined { TargetState::Declined } else { TargetState::Failed };
        self.end_by_report(state, Reason::Refused(refusal.clone()));
    }

    fn end_by_report(&mut self, state: TargetState, reason: Reason) {
        if !self.state.is_end() || self.may_still_turn_out_well() {
            self.end(state, Some(reason));
        }
    }

    /// A report that a newer one has overtaken. What the agent has was said by the newer one; but why the
    /// order failed is said only here, and an agent that asked the relay again a little later must not turn
    /// "rolled back: script ended with exit code 3" into "reports 1.0.00-1".
    fn overtaken(&mut self, report: &Report) {
        let Report::Ended(ended) = report else { return };
        if self.order() != Some(ended.order) || self.state == TargetState::Pending {
            return;
        }
        match &ended.outcome {
            // The newer report knows the versions of after this.
            Outcome::Installed | Outcome::AlreadyInstalled | Outcome::Refused(Refusal::Cancelled) => {}
            Outcome::RolledBack(failure) => self.fail(Reason::RolledBack(failure.clone())),
            Outcome::Damaged(failure) => self.fail(Reason::Damaged(failure.clone())),
            Outcome::Refused(refusal) => self.turned_down(refusal),
        }
    }

    /// The verdict of M12: only the Software Version counts, and only as the files have it (PROTOCOL 8.3).
    fn versions(&mut self, software: &Reported, our_query: Option<EnvelopeId>, good: bool) {
        let settles =
            matches!(self.state, TargetState::Mailed | TargetState::Received | TargetState::Installed);
        let verdict_due = our_query.is_some() && (settles || self.lacks_parts());
        if good && (verdict_due || self.may_still_turn_out_well()) {
            self.end(TargetState::Verified, None);
        } else if verdict_due {
            self.end(TargetState::Failed, Some(Reason::OtherVersion(software.clone())));
        }
    }

    fn cancelled(&mut self, result: CancelResult) {
        match result {
            CancelResult::BeforeStart | CancelResult::Unknown => {
                // An agent that has installed the order meanwhile may have forgotten it: its install counts.
                let installed = self.state == TargetState::Installed;
                if !installed && (!self.state.is_end() || self.may_still_turn_out_well()) {
                    self.end(TargetState::Cancelled, Some(Reason::Cancelled(Some(result))));
                }
            }
            // Its end comes by its own report.
            CancelResult::TooLate => {}
        }
    }

    /// Ends that were concluded from silence or from somebody else's word: a signed report outweighs them.
    fn may_still_turn_out_well(&self) -> bool {
        match self.state {
            TargetState::Silent | TargetState::Undeliverable | TargetState::Expired => true,
            TargetState::Failed => matches!(self.reason, Some(Reason::OtherVersion(_))),
            TargetState::Cancelled => matches!(self.reason, Some(Reason::Cancelled(None))),
            TargetState::Pending
            | TargetState::Asked
            | TargetState::Declined
            | TargetState::Queued
            | TargetState::Mailed
            | TargetState::Received
            | TargetState::Deferred
            | TargetState::Installed
            | TargetState::Verified => false,
        }
    }
}

fn asked_by(ask: &Option<Ask>, id: EnvelopeId) -> bool {
    ask.as_ref().is_some_and(|ask| ask.ids.contains(&id))
}
