//! The daemon's part of campaigns, with a clock and a relay of its own: carries plans out in memory.
#![allow(dead_code, reason = "each test uses a part of it")]

use core::time::Duration;
use std::collections::BTreeMap;

use manager_core::consent::Standing;
use manager_core::{
    Action, AgentFacts, Applied, BundleFacts, Campaign, CampaignId, CampaignState, Fleet, Rollout, Settings,
    Target, TargetEvent, TargetState, WaitingFor, plan,
};
use shared::bundle::Form;
use shared::message::{Cause, Ended, Failure, Outcome, Phase, Report, Reported, VersionReport, Versions};
use shared::{AgentId, Digest, EnvelopeId, Label, SoftwareVersion, UnixMillis};

pub(crate) const T0: UnixMillis = UnixMillis(1_795_000_000_000);
pub(crate) const SETTLE: Duration = Duration::from_secs(600);
pub(crate) const TIMEOUT: Duration = Duration::from_secs(1800);
pub(crate) const LIFE: Duration = Duration::from_secs(14 * 24 * 3600);

pub(crate) fn version(text: &str) -> SoftwareVersion {
    SoftwareVersion::parse(text).unwrap()
}

pub(crate) fn id(n: usize) -> AgentId {
    AgentId::parse(&format!("A{n:04}")).unwrap()
}

/// A campaign with its fleet, its clock and a counter for envelope IDs: what the daemon would hold.
pub(crate) struct Desk {
    pub(crate) campaign: Campaign,
    pub(crate) fleet: Fleet,
    pub(crate) now: UnixMillis,
    pub(crate) ids: u32,
    pub(crate) sequence: u64,
    pub(crate) mailed: Vec<(EnvelopeId, Vec<AgentId>, &'static str)>,
    /// Those whose administrators were asked.
    pub(crate) asked: Vec<AgentId>,
    /// Those whose mail was taken out of the outbox by a halt.
    pub(crate) dropped: Vec<AgentId>,
    /// The delta that fits what all have reported.
    pub(crate) fitting: Option<u8>,
}

impl Desk {
    pub(crate) fn new(agents: usize, retries: u32) -> Self {
        let facts = AgentFacts {
            classes: vec![Label::lossy("office")],
            enrolled: true,
            version: None,
            consent: Standing::Ask,
            has_admin: true,
            penalty_until: None,
            grave_faults: vec![],
        };
        Self {
            campaign: Campaign {
                id: CampaignId(1),
                name: Label::lossy("spring"),
                bundle: BundleFacts {
                    digest: Digest([0; 32]),
                    software_version: version("1.0.02-0"),
                    from: vec![],
                    classes: vec![],
                    test: None,
                },
                settings: Settings { settle: SETTLE, reply_timeout: TIMEOUT, retries, order_life: LIFE },
                rollout: Rollout::at_once_since(T0),
                state: CampaignState::Running,
                created: T0,
                targets: (1..=agents).map(|n| (id(n), Target::new(None, retries))).collect(),
            },
            fleet: (1..=agents).map(|n| (id(n), facts.clone())).collect(),
            now: T0,
            ids: 0,
            sequence: 0,
            mailed: vec![],
            asked: vec![],
            dropped: vec![],
            fitting: None,
        }
    }

    /// Plans until nothing is due; what is mailed is taken by the relay at once.
    pub(crate) fn tick(&mut self) -> BTreeMap<AgentId, WaitingFor> {
        for _ in 0..20 {
            let made = plan(&self.campaign, &self.fleet, self.now);
            assert_eq!(made, plan(&self.campaign, &self.fleet, self.now));
            if made.actions.is_empty() {
                return made.waiting;
            }
            for action in made.actions {
                self.carry_out(action);
            }
        }
        panic!("the plan does not come to rest");
    }

    pub(crate) fn carry_out(&mut self, action: Action) {
        match action {
            Action::Install { agents } => {
                let full = |agent: &AgentId| self.campaign.targets[agent].form(self.fitting) == Form::Full;
                let (full, delta): (Vec<_>, Vec<_>) = agents.into_iter().partition(full);
                if !full.is_empty() {
                    self.mail(full, "install", TargetEvent::OrderQueued);
                }
                if let Some(number) = self.fitting.filter(|_| !delta.is_empty()) {
                    self.mail(delta, "delta", |order| TargetEvent::DeltaQueued(order, number));
                }
            }
            Action::Query { agents } => self.mail(agents, "query", TargetEvent::QueryQueued),
            Action::Withdraw { agents } => self.mail(agents, "cancel", TargetEvent::CancelQueued),
            Action::End { agent, state, reason } => self.campaign.end(&agent, state, reason),
            Action::Retry { agents } => self.campaign.restart(&agents),
            Action::Finish => self.campaign.state = CampaignState::Finished,
            Action::OpenWave(number) => self.campaign.open_wave(number, self.now),
            Action::PassWave(number) => self.campaign.pass_wave(number, self.now),
            Action::Halt(why) => self.dropped.extend(self.campaign.halt(why, self.now).unwrap()),
            Action::Test { agents } => self.mail(agents, "test", TargetEvent::TestQueued),
            Action::Schedule { agents } => self.schedule(agents),
            Action::AskConsent { agents } => {
                for agent in agents {
                    self.campaign.apply(self.now, &agent, &TargetEvent::ConsentAsked);
                    self.asked.push(agent);
                }
            }
        }
    }

    /// A schedule that lets everybody install an hour from now.
    pub(crate) fn schedule(&mut self, agents: Vec<AgentId>) {
        let envelope = self.envelope();
        let from = self.now.plus(Duration::from_secs(3_600));
        for agent in &agents {
            self.campaign.apply(self.now, agent, &TargetEvent::ScheduleQueued(envelope, from));
            self.campaign.apply(self.now, agent, &TargetEvent::Sent(envelope));
        }
        self.mailed.push((envelope, agents, "schedule"));
    }

    pub(crate) fn envelope(&mut self) -> EnvelopeId {
        self.ids += 1;
        let mut id = [0; 16];
        id[..4].copy_from_slice(&self.ids.to_be_bytes());
        EnvelopeId(id)
    }

    pub(crate) fn mail(
        &mut self,
        agents: Vec<AgentId>,
        what: &'static str,
        queued: impl Fn(EnvelopeId) -> TargetEvent,
    ) {
        let envelope = self.envelope();
        for agent in &agents {
            self.campaign.apply(self.now, agent, &queued(envelope));
            self.campaign.apply(self.now, agent, &TargetEvent::Sent(envelope));
        }
        self.mailed.push((envelope, agents, what));
    }

    pub(crate) fn report(&mut self, n: usize, report: Report) -> Applied {
        self.sequence += 1;
        let event = TargetEvent::Report { report: Box::new(report), sequence: self.sequence };
        self.campaign.apply(self.now, &id(n), &event)
    }

    pub(crate) fn versions(&mut self, n: usize, software: Reported) -> Applied {
        let query = self.target(n).query.as_ref().and_then(|ask| ask.ids.first().copied());
        self.report(n, Report::Versions(Versions { query, versions: report_of(software) }))
    }

    pub(crate) fn ended(&mut self, n: usize, outcome: Outcome, software: Reported) -> Applied {
        let order = self.target(n).order().unwrap();
        self.report(n, Report::Ended(Ended { order, outcome, output: None, versions: report_of(software) }))
    }

    pub(crate) fn target(&self, n: usize) -> &Target {
        &self.campaign.targets[&id(n)]
    }

    pub(crate) fn state(&self, n: usize) -> TargetState {
        self.target(n).state
    }

    pub(crate) fn pass(&mut self, d: Duration) -> BTreeMap<AgentId, WaitingFor> {
        self.now = self.now.plus(d);
        self.tick()
    }

    pub(crate) fn mails(&self, what: &str) -> Vec<usize> {
        self.mailed.iter().filter(|(_, _, w)| *w == what).map(|(_, agents, _)| agents.len()).collect()
    }
}

pub(crate) fn report_of(software: Reported) -> VersionReport {
    VersionReport { software, rom_version: Label::default(), modules: vec![], taken_at: T0, line: None }
}

pub(crate) fn goal() -> Reported {
    Reported::Exact(version("1.0.02-0"))
}

pub(crate) fn trouble(cause: manager_core::delivery::Cause) -> manager_core::Trouble {
    manager_core::Trouble { cause, text: "said a mail server".to_owned() }
}

pub(crate) fn failure() -> Outcome {
    Outcome::RolledBack(Failure { phase: Phase::Verify, cause: Cause::ScriptExit(1), undo_failed: false })
}
