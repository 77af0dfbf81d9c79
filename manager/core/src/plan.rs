//! Decides what a campaign needs now. Pure: reads a campaign and what is known of the fleet, sends nothing,
//! changes nothing, and gives a typed reason for every target that waits.

mod due;
mod left_out;
mod waves;

use core::fmt;
use core::time::Duration;
use std::collections::BTreeMap;

use shared::message::{Reported, Waiting};
use shared::{AgentId, Label, UnixMillis};

use crate::campaign::{Ask, Campaign, CampaignState, Delay, Target, TargetState};
use crate::consent::Standing;
use crate::reason::Reason;
use crate::rollout::HoldReason;

pub use left_out::{asks, left_out};

/// At most this long do the first targets whose settle time has passed wait for the last, so that the
/// query goes out in one go.
const GATHER_MAX: Duration = Duration::from_secs(600);

/// What is known of the agents, apart from any campaign.
pub type Fleet = BTreeMap<AgentId, AgentFacts>;

/// What is known of one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentFacts {
    /// Its classes.
    pub classes: Vec<Label>,
    /// Whether its keys were accepted.
    pub enrolled: bool,
    /// What it reported last.
    pub version: Option<Reported>,
    /// Whether its administrator has to be asked.
    pub consent: Standing,
    /// Whether there is somebody to ask.
    pub has_admin: bool,
    /// It has failed too often: nothing is mailed to it before this.
    pub penalty_until: Option<UnixMillis>,
    /// Faults of class A and B of the devices behind it, the newest last.
    pub grave_faults: Vec<GraveFault>,
}

/// A fault of a device that makes it or one of its functions unusable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraveFault {
    /// When it was heard of.
    pub reported_at: UnixMillis,
    /// The device and what is wrong with it.
    pub what: String,
}

/// What is due, and why the rest waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What is due now, in this order.
    pub actions: Vec<Action>,
    /// Why each target without an end state waits.
    pub waiting: BTreeMap<AgentId, WaitingFor>,
    /// When to plan again at the latest, and what for.
    pub next_wake: Option<(UnixMillis, &'static str)>,
}

/// Something that is due. All agents of one action are served in one go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Mail the install order.
    Install {
        /// To whom.
        agents: Vec<AgentId>,
    },
    /// Mail the version query.
    Query {
        /// To whom.
        agents: Vec<AgentId>,
    },
    /// Mail the withdrawal of their orders.
    Withdraw {
        /// To whom.
        agents: Vec<AgentId>,
    },
    /// Give a target its end state.
    End {
        /// Which.
        agent: AgentId,
        /// The end.
        state: TargetState,
        /// Why, if it is no success.
        reason: Option<Reason>,
    },
    /// Start another round for those that failed (M13).
    Retry {
        /// Which.
        agents: Vec<AgentId>,
    },
    /// Ask their administrators (N8).
    AskConsent {
        /// Whose.
        agents: Vec<AgentId>,
    },
    /// Mail when they may install.
    Schedule {
        /// To whom.
        agents: Vec<AgentId>,
    },
    /// Mail the order to run the bundle's test.
    Test {
        /// To whom.
        agents: Vec<AgentId>,
    },
    /// From now on the targets of this wave can be mailed.
    OpenWave(u32),
    /// The gate of this wave is open.
    PassWave(u32),
    /// Stop, and call back what can be called back.
    Halt(HoldReason),
    /// Every target has its end.
    Finish,
}

/// Why a target waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitingFor {
    /// Its mail is in the outbox, or with mail servers on the way; what was said last, if anything.
    Mail(Option<Delay>),
    /// The settle time (M14), and then for the others that are settling.
    Settling {
        /// Until when at the latest.
        until: UnixMillis,
    },
    /// The version query is in the outbox.
    QueryMail,
    /// The answer to the version query.
    Answer {
        /// Until when.
        until: UnixMillis,
    },
    /// The agent, which says why.
    Agent(Waiting),
    /// The answer to the withdrawal.
    CancelAnswer,
    /// It failed, and is mailed again when the others of its wave have their end.
    Round,
    /// Its administrator was asked.
    Consent {
        /// Until when the answer counts.
        until: UnixMillis,
    },
    /// The wave before it has not passed its gate.
    Wave(u32),
    /// Its wave's mails are spread over a time.
    Slot(UnixMillis),
    /// The campaign's transmission time.
    SendTime(UnixMillis),
    /// It is tried again then, or its administrator said "later".
    NotBefore(UnixMillis),
    /// It has failed too often.
    Penalty(UnixMillis),
    /// The agent asks for the bundle when its time comes.
    Fetch(UnixMillis),
    /// The campaign is planned, paused or halted.
    Held(CampaignState),
}

impl fmt::Display for WaitingFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mail(None) => f.write_str("its mail is in the outbox"),
            Self::Mail(Some(delay)) => delay.fmt(f),
            Self::Settling { until } => write!(f, "settling, asked for its version by {until}"),
            Self::QueryMail => f.write_str("the version query is in the outbox"),
            Self::Answer { until } => write!(f, "asked for its version, answer expected by {until}"),
            Self::Agent(waiting) => write!(f, "agent: {waiting}; until {}", waiting.until),
            Self::CancelAnswer => f.write_str("asked to cancel, no answer yet"),
            Self::Round => f.write_str("mailed again when the others of its wave have ended"),
            Self::Consent { until } => {
                write!(f, "its administrator is asked, and has until {until} to answer")
            }
            Self::Wave(wave) => write!(f, "mailed when wave {wave} has passed its gate"),
            Self::Slot(at) => write!(f, "mailed at {at}, its place in the wave"),
            Self::SendTime(at) => write!(f, "mailed at {at}, the campaign's transmission time"),
            Self::NotBefore(at) => write!(f, "mailed at {at} at the earliest"),
            Self::Penalty(until) => write!(f, "failed too often, mailed at {until} at the earliest"),
            Self::Fetch(at) => write!(f, "asks for the bundle when its time comes, {at}"),
            Self::Held(state) => write!(f, "the campaign is {}", state.as_str()),
        }
    }
}

/// Makes the plan. Two plans of the same arguments are equal.
#[must_use]
pub fn plan(campaign: &Campaign, fleet: &Fleet, now: UnixMillis) -> Plan {
    let mut planner = Planner { campaign, fleet, now, plan: Plan::default(), mails: Mails::default() };
    match campaign.state {
        CampaignState::Finished => return planner.plan,
        CampaignState::Planned => planner.all_held(),
        CampaignState::Running | CampaignState::Paused | CampaignState::Halted => planner.running(),
        CampaignState::Cancelled => planner.cancelled(),
    }
    planner.finish()
}

struct Planner<'a> {
    campaign: &'a Campaign,
    fleet: &'a Fleet,
    now: UnixMillis,
    plan: Plan,
    mails: Mails,
}

/// Who is mailed what.
#[derive(Default)]
struct Mails {
    consent: Vec<AgentId>,
    schedule: Vec<AgentId>,
    install: Vec<AgentId>,
    query: Vec<AgentId>,
    withdraw: Vec<AgentId>,
}

impl Planner<'_> {
    fn running(&mut self) {
        for (agent, target) in &self.campaign.targets {
            if !target.state.is_end() && !is_enrolled(self.fleet, agent) {
                // Removed on the way: nothing is mailed to it any more, and its reports are refused.
                self.end(agent, TargetState::Failed, Reason::NotEnrolled);
                continue;
            }
            match target.state {
                TargetState::Pending => self.pending(agent, target),
                TargetState::Asked => self.consent_asked(agent, target),
                TargetState::Queued => {
                    if !self.expires(agent, target) {
                        self.wait(agent, WaitingFor::Mail(target.delay.clone()));
                    }
                }
                TargetState::Deferred if target.lacks_parts() && target.query.is_some() => {
                    if let (false, Some(ask)) = (self.expires(agent, target), &target.query) {
                        self.asked(agent, target, ask);
                    }
                }
                TargetState::Deferred => {
                    if let (false, Some(waiting)) = (self.expires(agent, target), &target.waiting) {
                        self.wait(agent, WaitingFor::Agent(waiting.clone()));
                    }
                }
                // PROTOCOL 8.6: nobody is called silent whose order is known not to have arrived.
                TargetState::Mailed if target.waits_for_mail(self.now) => {
                    if !self.expires(agent, target) {
                        if let Some(over) = target.delay.as_ref().and_then(Delay::over_at) {
                            self.wake(over, "a mail server has had its time");
                        }
                        self.wait(agent, WaitingFor::Mail(target.delay.clone()));
                    }
                }
                TargetState::Mailed | TargetState::Received | TargetState::Installed => {
                    if let Some(ask) = &target.query {
                        self.asked(agent, target, ask);
                    }
                }
                TargetState::Verified
                | TargetState::Failed
                | TargetState::Silent
                | TargetState::Undeliverable
                | TargetState::Cancelled
                | TargetState::Expired
                | TargetState::Declined => {}
            }
        }
        self.settle();
        match self.campaign.state {
            CampaignState::Running => self.waves(),
            CampaignState::Halted => self.call_back(),
            CampaignState::Planned
            | CampaignState::Paused
            | CampaignState::Finished
            | CampaignState::Cancelled => {}
        }
    }

    /// Ends a target whose order's life is over.
    fn expires(&mut self, agent: &AgentId, target: &Target) -> bool {
        let Some(began_at) = target.began_at() else { return false };
        let life_ends = began_at.plus(self.campaign.settings.order_life);
        let expiry = self.campaign.rollout.times.expires_at.map_or(life_ends, |at| at.min(life_ends));
        if self.now < expiry {
            self.wake(expiry, "an order expires");
            return false;
        }
        let mail = target.delay.as_ref().map(Delay::trouble);
        self.end(agent, TargetState::Expired, Reason::OrderExpired(target.waiting.clone(), mail));
        true
    }

    /// A target that was asked for its version: silent, asked once more, or waiting.
    fn asked(&mut self, agent: &AgentId, target: &Target, ask: &Ask) {
        let Some(sent_at) = ask.sent_at else {
            if !self.expires(agent, target) {
                self.wait(agent, WaitingFor::QueryMail);
            }
            return;
        };
        let timeout = self.campaign.settings.reply_timeout;
        let until = sent_at.plus(timeout);
        if self.now >= until {
            let received = target.state != TargetState::Mailed;
            let mail = target.delay.as_ref().map(Delay::trouble);
            let reason = Reason::NoAnswer { asked_at: sent_at, received, mail };
            self.end(agent, TargetState::Silent, reason);
            return;
        }
        // One mail in a thousand is lost; asking again costs less than sending the bundle again.
        let again = sent_at.plus(timeout.checked_div(2).unwrap_or(timeout));
        if ask.ids.len() == 1 {
            if self.now >= again {
                self.mails.query.push(agent.clone());
            } else {
                self.wake(again, "those without an answer are asked again");
            }
        }
        self.wake(until, "an answer is due");
        self.wait(agent, WaitingFor::Answer { until });
    }

    /// Asks all targets whose settle time has passed, in one go: when all have settled, or when the first
    /// of them has waited long enough for the last (M12).
    fn settle(&mut self) {
        let settle = self.campaign.settings.settle;
        let gather = settle.checked_div(10).unwrap_or(settle).min(GATHER_MAX);
        let settling: Vec<(&AgentId, UnixMillis)> = self
            .campaign
            .targets
            .iter()
            .filter(|(agent, t)| {
                let settles =
                    matches!(t.state, TargetState::Mailed | TargetState::Received | TargetState::Installed);
                (settles || t.lacks_parts())
                    && t.query.is_none()
                    && !t.waits_for_mail(self.now)
                    && is_enrolled(self.fleet, agent)
            })
            .filter_map(|(agent, t)| {
                // What may only be installed tonight is not asked about at noon.
                let from = t.settle_from?.max(t.install_from.unwrap_or(t.settle_from?));
                Some((agent, from.plus(settle)))
            })
            .collect();
        let Some(first_due) = settling.iter().map(|(_, due)| *due).min() else { return };
        let last_due = settling.iter().map(|(_, due)| *due).max().unwrap_or(first_due);
        let send_at = last_due.min(first_due.plus(gather));
        for (agent, due) in settling {
            if self.now >= send_at && due <= self.now {
                self.mails.query.push(agent.clone());
                self.wait(agent, WaitingFor::QueryMail);
            } else {
                // What the agent itself has said that it waits for says more.
                let until = due.max(send_at);
                self.plan.waiting.entry(agent.clone()).or_insert(WaitingFor::Settling { until });
                self.wake(due.max(send_at), "the settle time ends");
            }
        }
    }

    /// Mailed targets of a cancelled campaign are told, and closed without an answer after a while.
    fn cancelled(&mut self) {
        for (agent, target) in &self.campaign.targets {
            if target.state.is_end() {
                continue;
            }
            if target.state == TargetState::Installed {
                // Too late to withdraw: it ends as what its signed report says it has (PROTOCOL 8.3).
                let goal = &self.campaign.bundle.software_version;
                match &target.reported {
                    Some(reported) if reported.exact() == Some(goal) => self.verified(agent),
                    Some(other) => self.end(agent, TargetState::Failed, Reason::OtherVersion(other.clone())),
                    None => self.end(agent, TargetState::Cancelled, Reason::Cancelled(None)),
                }
                continue;
            }
            if !is_enrolled(self.fleet, agent) {
                self.end(agent, TargetState::Cancelled, Reason::Cancelled(None));
                continue;
            }
            let Some(ask) = &target.cancel else {
                self.mails.withdraw.push(agent.clone());
                self.wait(agent, WaitingFor::CancelAnswer);
                continue;
            };
            let since = ask.sent_at.or(target.began_at()).unwrap_or(self.campaign.created);
            let patience = if ask.sent_at.is_some() {
                self.campaign.settings.reply_timeout
            } else {
                self.campaign.settings.order_life
            };
            let until = since.plus(patience);
            if self.now >= until {
                self.end(agent, TargetState::Cancelled, Reason::Cancelled(None));
            } else {
                self.wake(until, "an answer is due");
                self.wait(agent, WaitingFor::CancelAnswer);
            }
        }
    }

    fn finish(mut self) -> Plan {
        let Mails { consent, schedule, install, query, withdraw } = core::mem::take(&mut self.mails);
        for (agents, action) in [
            (consent, (|agents| Action::AskConsent { agents }) as fn(_) -> _),
            // PROTOCOL 15.8: the schedule first, an agent that has the order waits for it.
            (schedule, |agents| Action::Schedule { agents }),
            (install, |agents| Action::Install { agents }),
            (query, |agents| Action::Query { agents }),
            (withdraw, |agents| Action::Withdraw { agents }),
        ] {
            if !agents.is_empty() {
                self.plan.actions.push(action(agents));
            }
        }
        self.plan
    }

    fn end(&mut self, agent: &AgentId, state: TargetState, reason: Reason) {
        self.plan.actions.push(Action::End { agent: agent.clone(), state, reason: Some(reason) });
    }

    fn verified(&mut self, agent: &AgentId) {
        let (agent, state) = (agent.clone(), TargetState::Verified);
        self.plan.actions.push(Action::End { agent, state, reason: None });
    }

    fn wait(&mut self, agent: &AgentId, reason: WaitingFor) {
        self.plan.waiting.insert(agent.clone(), reason);
    }

    fn wake(&mut self, at: UnixMillis, why: &'static str) {
        if self.plan.next_wake.is_none_or(|(earlier, _)| at < earlier) {
            self.plan.next_wake = Some((at, why));
        }
    }
}

fn is_enrolled(fleet: &Fleet, agent: &AgentId) -> bool {
    fleet.get(agent).is_some_and(|facts| facts.enrolled)
}
