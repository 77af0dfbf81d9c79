//! What becomes of waves: they open, are judged, tried again, pass or halt the campaign.

use core::time::Duration;

use shared::{AgentId, UnixMillis};

use super::{Action, Planner, WaitingFor};
use crate::campaign::{Target, TargetState};
use crate::delivery::{Cause, FULL_PAUSE};
use crate::reason::Reason;
use crate::rollout::{Verdict, judge};

impl Planner<'_> {
    pub(super) fn waves(&mut self) {
        let rollout = &self.campaign.rollout;
        for (number, wave) in (0u32..).zip(&rollout.waves) {
            if wave.opened_at.is_none() {
                // Only the first of those that are shut: each opening is seen before the next.
                self.plan.actions.push(Action::OpenWave(number));
                return;
            }
            if wave.passed_at.is_none() {
                match judge(self.campaign, number, self.fleet, self.now) {
                    Verdict::Wait(until) => {
                        if let Some(until) = until {
                            self.wake(until, "a gate may open");
                        }
                        self.rounds();
                        return;
                    }
                    Verdict::Pass => self.plan.actions.push(Action::PassWave(number)),
                    Verdict::Halt(why) => self.plan.actions.push(Action::Halt(why)),
                    Verdict::Test(agents) => {
                        self.plan.actions.push(Action::Test { agents });
                        self.rounds();
                    }
                }
                return;
            }
        }
        self.rounds();
        let over = |target: &Target| target.state.is_end() && !self.campaign.tries_again(target);
        if self.campaign.targets.values().all(over) {
            self.plan.actions.push(Action::Finish);
        }
    }

    /// Another round for those of a wave that failed, when all others of it have their end.
    fn rounds(&mut self) {
        let campaign = self.campaign;
        for number in (0u32..).take(campaign.rollout.waves.len()) {
            let members = || campaign.targets.iter().filter(move |(_, target)| target.wave == number);
            let again: Vec<(&AgentId, UnixMillis)> = members()
                .filter(|(_, target)| campaign.tries_again(target))
                .map(|(agent, target)| (agent, self.tried_again_at(target)))
                .collect();
            let Some(last) = again.iter().map(|(_, at)| *at).max() else { continue };
            // Who waits for a mail server may do so for days, and holds up nobody.
            let ended = members().all(|(_, target)| target.state.is_end() || target.waits_for_mail(self.now));
            if ended && last <= self.now {
                let agents = again.into_iter().map(|(agent, _)| agent.clone()).collect();
                self.plan.actions.push(Action::Retry { agents });
                continue;
            }
            for (agent, _) in again {
                let why = if ended { WaitingFor::NotBefore(last) } else { WaitingFor::Round };
                self.plan.waiting.entry(agent.clone()).or_insert(why);
            }
            if ended {
                self.wake(last, "those that failed are tried again");
            }
        }
    }

    fn tried_again_at(&self, target: &Target) -> UnixMillis {
        let since = target.last_moved().unwrap_or(self.campaign.created);
        let pause = Duration::from_millis(self.campaign.rollout.retry.delay_ms);
        let full = target.reason.as_ref().and_then(Reason::mail_cause) == Some(Cause::MailboxFull);
        since.plus(if full { pause.max(FULL_PAUSE) } else { pause })
    }

    /// A halted campaign calls back what agents have not begun.
    pub(super) fn call_back(&mut self) {
        for (agent, target) in &self.campaign.targets {
            let not_begun =
                matches!(target.state, TargetState::Mailed | TargetState::Received | TargetState::Deferred)
                    || (target.state == TargetState::Queued && target.tried_at.is_some());
            if not_begun && target.cancel.is_none() {
                self.mails.withdraw.push(agent.clone());
            }
        }
    }
}
