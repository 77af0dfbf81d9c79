//! A campaign as people and programs see it: its targets, one reason for each that is not verified, and what
//! happens next. Reads; changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use mailfleet::home::Home;
use mailfleet::store::{AgentRecord, Store, Tx, TxResult};
use mailfleet::system::now;
use manager_core::rollout::Survey;
use manager_core::{Action, Campaign, CampaignId, CampaignState, Plan, Target, TargetState, plan};
use serde_json::{Value, json};
use shared::time::format_duration;
use shared::{AgentId, UnixMillis};

use super::fail::Fail;
use super::names::{colour, mark};
use super::preview::gate_text;
use super::show::{Colour, Listing, cell, paint_stdout};
use super::{open, show};

/// A campaign at one moment.
pub(crate) struct View {
    pub(crate) campaign: Campaign,
    pub(crate) plan: Plan,
    pub(crate) at: UnixMillis,
}

impl View {
    /// The campaign with its plan, or an error that says which there are.
    pub(crate) fn load(store: &mut Store, id: CampaignId) -> Result<Self, Fail> {
        let found = store.read(|tx| Self::read(tx, id)).map_err(open::store_failed)?;
        found.ok_or_else(|| {
            Fail::usage(format!("there is no campaign {id}")).next("`mailfleet campaign list` shows all")
        })
    }

    pub(crate) fn read(tx: &Tx<'_>, id: CampaignId) -> TxResult<Option<Self>> {
        let Some(campaign) = tx.campaign(id)? else { return Ok(None) };
        let (fleet, at) = (tx.fleet(&campaign)?, now());
        let plan = plan(&campaign, &fleet, at);
        Ok(Some(Self { campaign, plan, at }))
    }

    /// True if nothing more happens by itself.
    pub(crate) fn is_over(&self) -> bool {
        let ended = self.campaign.targets.values().all(|t| t.state.is_end());
        match self.campaign.state {
            CampaignState::Finished => true,
            CampaignState::Cancelled => ended,
            // A person has to say how it goes on.
            CampaignState::Planned | CampaignState::Paused | CampaignState::Halted => true,
            CampaignState::Running => false,
        }
    }

    /// Targets that have an end state.
    pub(crate) fn ended(&self) -> usize {
        self.campaign.targets.values().filter(|t| t.state.is_end()).count()
    }

    /// Targets that are not verified.
    pub(crate) fn unverified(&self) -> usize {
        self.campaign.targets.values().filter(|t| t.state != TargetState::Verified).count()
    }

    fn reason(&self, agent: &AgentId, target: &Target) -> Option<String> {
        let waits = || self.plan.waiting.get(agent).map(ToString::to_string);
        let mailed_soon = || (target.state == TargetState::Pending).then(|| "not mailed yet".to_owned());
        target.why(waits().or_else(mailed_soon))
    }

    fn counts(&self) -> BTreeMap<TargetState, usize> {
        let mut counts = BTreeMap::new();
        for target in self.campaign.targets.values() {
            let n: &mut usize = counts.entry(target.state).or_default();
            *n = n.saturating_add(1);
        }
        counts
    }

    /// `2 verified, 1 failed`.
    pub(crate) fn counts_text(&self) -> String {
        let counts = self.counts();
        let texts: Vec<String> = counts.iter().map(|(state, n)| format!("{n} {state}")).collect();
        texts.join(", ")
    }

    /// What happens next by itself, and when.
    pub(crate) fn next(&self) -> String {
        let id = self.campaign.id;
        match self.campaign.state {
            CampaignState::Planned => {
                return format!("nothing before `mailfleet campaign start --plan {id}`");
            }
            CampaignState::Paused | CampaignState::Halted => {
                return format!("nothing new before `mailfleet campaign resume {id}`");
            }
            CampaignState::Running | CampaignState::Finished | CampaignState::Cancelled => {}
        }
        if self.is_over() {
            return "nothing, the campaign is over".to_owned();
        }
        let due: Vec<String> = self.plan.actions.iter().map(action_text).collect();
        match (due.first(), self.plan.next_wake) {
            (Some(due), _) => format!("now, {due}"),
            (None, Some((at, why))) => format!("{at} (in {}): {why}", show::duration(at.since(self.at))),
            (None, None) => "when mail comes or goes".to_owned(),
        }
    }

    /// What happens next, short, for a line that is written anew all the time.
    pub(crate) fn next_short(&self) -> String {
        match self.plan.next_wake {
            Some((at, why)) if !self.is_over() && self.plan.actions.is_empty() => {
                format!("{why} in {}", show::duration(at.since(self.at)))
            }
            Some(_) | None => self.next(),
        }
    }

    /// How it ended.
    pub(crate) fn end_text(&self) -> String {
        let title = title(&self.campaign);
        let mut text = format!("{title}: {}, {}\n", self.campaign.state.as_str(), self.counts_text());
        text.push_str(&self.reasons());
        if self.unverified() > 0 && self.campaign.state == CampaignState::Finished {
            text.push_str(&format!("Try again with those: mailfleet campaign retry {}\n", self.campaign.id));
        }
        text
    }

    /// For people.
    pub(crate) fn text(&self, agents: &BTreeMap<AgentId, AgentRecord>, daemon: &str) -> String {
        let campaign = &self.campaign;
        let settings = campaign.settings;
        let mut text = format!(
            "{}: {}, to {}, started {}\n\
             Settle time {}, answers awaited for {}, {}\n{}{}\n\n{}",
            title(campaign),
            campaign.state.as_str(),
            campaign.bundle.software_version,
            campaign.created,
            format_duration(settings.settle),
            format_duration(settings.reply_timeout),
            retries(settings.retries),
            self.rollout_text(),
            self.counts_text(),
            self.table(agents),
        );
        let reasons = self.reasons();
        if !reasons.is_empty() {
            text.push_str(&format!("\nNot verified:\n{reasons}"));
        }
        text.push_str(&format!("\nNext: {}\n", self.next()));
        if !self.is_over() {
            text.push_str(&format!("{daemon}\n"));
        }
        text
    }

    /// Why it is held, and how far its waves are; empty for a campaign of one wave.
    fn rollout_text(&self) -> String {
        let rollout = &self.campaign.rollout;
        let mut text = String::new();
        if let Some(held) = &rollout.held {
            let state = paint_stdout(Colour::Red, self.campaign.state.as_str());
            text.push_str(&format!(
                "{state} since {}: {}\n",
                held.since,
                show::harmless(&held.why.to_string())
            ));
        }
        if rollout.waves.len() < 2 {
            return text;
        }
        for (number, wave) in (0u32..).zip(&rollout.waves) {
            let survey = Survey::of(&self.campaign, number);
            let state = match (wave.opened_at, wave.passed_at) {
                (_, Some(at)) => format!("passed {at}"),
                (Some(at), None) => format!("since {at}"),
                (None, None) => "waits".to_owned(),
            };
            text.push_str(&format!(
                "Wave {}: {state}; {} of {} verified, {} failed, {} silent; gate: {}\n",
                number.saturating_add(1),
                survey.verified,
                survey.targets,
                survey.failed,
                survey.silent,
                gate_text(wave.kind, &wave.gate)
            ));
        }
        text
    }

    fn table(&self, agents: &BTreeMap<AgentId, AgentRecord>) -> String {
        let mut listing =
            Listing::new(&["!", "AGENT", "~ADDRESS", "STATE", "VERSION", "REPORTED", "~NOTE", "TARGET"]);
        for (id, target) in &self.campaign.targets {
            let plain = |text: String| cell(text, Colour::Plain);
            let agent = agents.get(id);
            let versions = agent.and_then(|a| a.versions.as_ref());
            let reported_at = agent.and_then(|a| a.versions_at);
            listing.row(vec![
                cell(mark(target.state), Colour::Red),
                plain(id.to_string()),
                plain(agent.map_or("-".to_owned(), |a| a.mail.to_string())),
                cell(target.state, colour(target.state)),
                plain(versions.map_or("-".to_owned(), |v| v.software.to_string())),
                plain(reported_at.map_or("-".to_owned(), |at| at.to_string())),
                plain(agent.map_or(String::new(), |a| a.note.to_string())),
                plain(self.campaign.bundle.software_version.to_string()),
            ]);
        }
        listing.text()
    }

    /// One reason for each target that is not verified; never cut.
    fn reasons(&self) -> String {
        let waiting = self.campaign.targets.iter().filter(|(_, t)| t.state != TargetState::Verified);
        let width = self.campaign.targets.keys().map(|id| id.as_str().len()).max().unwrap_or(0);
        waiting
            .map(|(id, target)| {
                let state = paint_stdout(colour(target.state), &format!("{:<13}", target.state.as_str()));
                let reason = self.reason(id, target).unwrap_or_else(|| "on its way".to_owned());
                let reason = show::harmless(&reason).replace('\n', " ");
                format!("  {id:<width$}  {state}  {reason} ({})\n", attempts(target))
            })
            .collect()
    }

    fn waves_json(&self) -> Vec<Value> {
        let time = |t: Option<UnixMillis>| t.map(|t| t.to_string());
        (0u32..)
            .zip(&self.campaign.rollout.waves)
            .map(|(number, wave)| {
                let survey = Survey::of(&self.campaign, number);
                json!({
                    "wave": number.saturating_add(1),
                    "opened_at": time(wave.opened_at),
                    "passed_at": time(wave.passed_at),
                    "targets": survey.targets,
                    "verified": survey.verified,
                    "failed": survey.failed,
                    "silent": survey.silent,
                })
            })
            .collect()
    }

    /// For programs.
    pub(crate) fn json(&self, agents: &BTreeMap<AgentId, AgentRecord>) -> Value {
        let campaign = &self.campaign;
        let time = |t: Option<UnixMillis>| t.map(|t| t.to_string());
        let targets: Vec<Value> = campaign
            .targets
            .iter()
            .map(|(id, target)| {
                let agent = agents.get(id);
                json!({
                    "agent": id.as_str(),
                    "mail": agent.map(|a| a.mail.to_string()),
                    "note": agent.map(|a| a.note.to_string()),
                    "state": target.state.as_str(),
                    "wave": target.wave.saturating_add(1),
                    "reason": self.reason(id, target).filter(|_| target.state != TargetState::Verified),
                    "from_version": target.from_version.as_ref().map(ToString::to_string),
                    "target_version": campaign.bundle.software_version.as_str(),
                    "reported_version": target.reported.as_ref().map(ToString::to_string),
                    "attempts": target.attempts,
                    "second_address": target.rerouted.is_some(),
                    "mailed_at": time(target.mailed_at),
                    "reported_at": time(target.reported_at),
                })
            })
            .collect();
        let counts: BTreeMap<&str, usize> =
            self.counts().into_iter().map(|(state, n)| (state.as_str(), n)).collect();
        json!({
            "campaign": campaign.id.0,
            "name": campaign.name.as_str(),
            "target_version": campaign.bundle.software_version.as_str(),
            "state": campaign.state.as_str(),
            "started_at": campaign.created.to_string(),
            "settle": format_duration(campaign.settings.settle),
            "reply_timeout": format_duration(campaign.settings.reply_timeout),
            "retries": campaign.settings.retries,
            "bundle_sha256": campaign.bundle.digest.to_hex(),
            "counts": counts,
            "held": campaign.rollout.held.as_ref().map(|held| held.why.to_string()),
            "waves": self.waves_json(),
            "next": self.next(),
            "targets": targets,
        })
    }
}

/// `Campaign 1 "spring"`.
pub(crate) fn title(campaign: &Campaign) -> String {
    let name = if campaign.name.is_empty() { String::new() } else { format!(" \"{}\"", campaign.name) };
    format!("Campaign {}{name}", campaign.id)
}

pub(crate) fn retries(n: u32) -> String {
    match n {
        0 => "no automatic retry".to_owned(),
        1 => "1 automatic retry".to_owned(),
        n => format!("{n} automatic retries"),
    }
}

fn attempts(target: &Target) -> String {
    match target.attempts {
        1 => "1 attempt".to_owned(),
        n => format!("{n} attempts"),
    }
}

fn action_text(action: &Action) -> String {
    let of = |agents: &Vec<AgentId>| show::count(agents.len(), "agent");
    match action {
        Action::Install { agents } => format!("the bundle is mailed to {}", of(agents)),
        Action::Query { agents } => format!("{} asked for the version", of(agents)),
        Action::Withdraw { agents } => format!("the orders of {} are called back", of(agents)),
        Action::End { agent, state, .. } => format!("{agent} ends as {state}"),
        Action::Retry { agents } => format!("another round for {}", of(agents)),
        Action::AskConsent { agents } => format!("the administrators of {} are asked", of(agents)),
        Action::Schedule { agents } => format!("{} told when to install", of(agents)),
        Action::Test { agents } => format!("the test is run on {}", of(agents)),
        Action::OpenWave(wave) => format!("wave {} begins", wave.saturating_add(1)),
        Action::PassWave(wave) => format!("wave {} passes its gate", wave.saturating_add(1)),
        Action::Halt(why) => format!("the campaign halts: {why}"),
        Action::Finish => "the campaign ends".to_owned(),
    }
}

/// Whether a daemon works on this home, in words. Does not try the lock: that could keep a daemon from
/// starting in the same moment.
pub(crate) fn daemon_text(home: &Home) -> &'static str {
    match daemon_runs(home) {
        Some(true) => "The daemon is running.",
        Some(false) => {
            "No daemon is running: start `mailfleet run`, or follow with `mailfleet campaign watch`."
        }
        None => "The daemon (mailfleet run) does it.",
    }
}

/// True if the process that is named in the lock file has that very file open; `None` if that cannot be seen.
fn daemon_runs(home: &Home) -> Option<bool> {
    let lock = home.dir().join("daemon.lock");
    let (Ok(file), Ok(text)) = (fs::metadata(&lock), fs::read_to_string(&lock)) else { return Some(false) };
    let Ok(pid) = text.trim().parse::<u32>() else { return Some(false) };
    match fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(open) => Some(open.flatten().any(|fd| {
            // Follows the link to the open file.
            fs::metadata(fd.path()).is_ok_and(|m| (m.dev(), m.ino()) == (file.dev(), file.ino()))
        })),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Some(false),
        Err(_) => None,
    }
}
