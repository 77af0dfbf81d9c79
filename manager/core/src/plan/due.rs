//! Whether a target that nothing was mailed to yet is mailed now, and what it waits for if not.

use core::time::Duration;

use shared::{AgentId, UnixMillis};

use super::left_out::{asks, left_out};
use super::{Planner, WaitingFor};
use crate::campaign::{CampaignState, Target, TargetState};
use crate::consent::{Consent, Standing};
use crate::plan::AgentFacts;
use crate::reason::Reason;

impl Planner<'_> {
    /// A campaign that was only laid out.
    pub(super) fn all_held(&mut self) {
        for agent in self.campaign.targets.keys() {
            self.wait(agent, WaitingFor::Held(CampaignState::Planned));
        }
    }

    pub(super) fn pending(&mut self, agent: &AgentId, target: &Target) {
        let Some(facts) = self.fleet.get(agent) else { return };
        if target.consent.is_none()
            && let Some(reason) =
                left_out(&self.campaign.bundle, asks(self.campaign, target.wave), Some(facts))
        {
            let declined = matches!(reason, Reason::NotWanted | Reason::NobodyToAsk);
            return self.end(
                agent,
                if declined { TargetState::Declined } else { TargetState::Failed },
                reason,
            );
        }
        let times = &self.campaign.rollout.times;
        if times.expires_at.is_some_and(|at| self.now >= at) {
            return self.end(agent, TargetState::Expired, Reason::OrderExpired(None, None));
        }
        if self.campaign.state != CampaignState::Running {
            return self.wait(agent, WaitingFor::Held(self.campaign.state));
        }
        if !self.has_consent(agent, target, facts) {
            return;
        }
        let Some(slot) = self.campaign.rollout.slot(&self.campaign.seed(), target.wave, agent) else {
            return self.wait(agent, WaitingFor::Wave(target.wave));
        };
        for (at, why) in [
            (times.send_at, WaitingFor::SendTime as fn(_) -> _),
            (target.not_before, WaitingFor::NotBefore),
            (facts.penalty_until, WaitingFor::Penalty),
            (Some(slot), WaitingFor::Slot),
        ] {
            if let Some(at) = at.filter(|at| *at > self.now) {
                self.wake(at, "a target may be mailed");
                return self.wait(agent, why(at));
            }
        }
        self.mail(agent, target);
    }

    /// True if the target's administrator wants the update, or need not be asked.
    fn has_consent(&mut self, agent: &AgentId, target: &Target, facts: &AgentFacts) -> bool {
        if !asks(self.campaign, target.wave) || facts.consent == Standing::Always {
            return true;
        }
        match target.consent {
            Some(Consent::Given(_) | Consent::Later(_)) => true,
            // Nobody is asked about something that the vendor's own boxes have not shown to work.
            Some(Consent::Asked(_)) | None if !self.campaign.rollout.is_tested() => {
                self.wait(agent, WaitingFor::Wave(target.wave));
                false
            }
            Some(Consent::Asked(_)) | None => {
                self.mails.consent.push(agent.clone());
                false
            }
        }
    }

    pub(super) fn consent_asked(&mut self, agent: &AgentId, target: &Target) {
        let Some(Consent::Asked(at)) = target.consent else { return };
        let patience = self.campaign.rollout.consent.map_or(0, |terms| terms.patience_ms);
        let until = at.plus(Duration::from_millis(patience));
        if self.now >= until {
            return self.end(agent, TargetState::Declined, Reason::NoConsent { asked_at: at });
        }
        self.wake(until, "an administrator's time to answer ends");
        self.wait(agent, WaitingFor::Consent { until });
    }

    fn mail(&mut self, agent: &AgentId, target: &Target) {
        let times = &self.campaign.rollout.times;
        if times.is_scheduled() && target.schedule.is_none() {
            self.mails.schedule.push(agent.clone());
            if times.fetch {
                // How long it waits follows from the schedule, which is made now.
                return;
            }
        }
        if times.fetch && target.fetch_asked_at.is_none() {
            let from: UnixMillis = target.install_from.unwrap_or(self.now);
            // Its request may be lost, or ours was: then it gets the bundle without having asked.
            let unasked = from.plus(self.campaign.settings.reply_timeout);
            if self.now < unasked {
                self.wake(unasked, "an agent has not asked for its bundle");
                return self.wait(agent, WaitingFor::Fetch(from));
            }
        }
        self.mails.install.push(agent.clone());
    }
}
