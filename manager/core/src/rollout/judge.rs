//! Whether a wave's gate opens, stays shut, or halts the campaign. Silence counts as much as failure: a release that kills the box
//! cannot say so.

use shared::{AgentId, UnixMillis};

use super::{HoldReason, Wave, WaveKind};
use crate::campaign::{Campaign, Target, TargetState};
use crate::plan::{AgentFacts, Fleet};
use crate::reason::Reason;

/// How the targets of a wave stand. Those that nobody wants it on, or that could not be mailed (wrong class), are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// All that count.
    pub targets: u64,
    /// They report the version.
    pub verified: u64,
    /// The release did not work there.
    pub failed: u64,
    /// They do not answer.
    pub silent: u64,
    /// They may have the release, and have not said how it went.
    pub outstanding: u64,
    /// Nothing can have happened there yet: not mailed, or put off.
    pub waiting: u64,
    /// They ended in a way that says nothing of the release: mail that bounced, an order that was called back.
    pub other: u64,
}

/// What follows from a wave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not decided yet; when it is looked at again at the latest, if time alone can change it.
    Wait(Option<UnixMillis>),
    /// The gate opens.
    Pass,
    /// The campaign halts.
    Halt(HoldReason),
    /// These have to be tested first.
    Test(Vec<AgentId>),
}

impl Survey {
    /// Counts the targets of a wave.
    #[must_use]
    pub fn of(campaign: &Campaign, wave: u32) -> Self {
        let mut survey = Self::default();
        for target in campaign.targets.values().filter(|target| target.wave == wave) {
            survey.count(target);
        }
        survey
    }

    fn count(&mut self, target: &Target) {
        let place = match target.state {
            TargetState::Pending | TargetState::Asked | TargetState::Deferred => &mut self.waiting,
            TargetState::Queued if target.tried_at.is_none() => &mut self.waiting,
            TargetState::Queued | TargetState::Mailed | TargetState::Received | TargetState::Installed => {
                &mut self.outstanding
            }
            TargetState::Verified => &mut self.verified,
            TargetState::Failed if target.attempts == 0 => return,
            TargetState::Failed if target.blames_release() => &mut self.failed,
            TargetState::Failed => &mut self.other,
            TargetState::Silent => &mut self.silent,
            // Nobody was there to say "not now" either. What is known not to have arrived has broken nothing.
            TargetState::Expired => match &target.reason {
                Some(Reason::OrderExpired(Some(_), _) | Reason::OrderExpired(_, Some(_))) => &mut self.other,
                _ => &mut self.silent,
            },
            TargetState::Undeliverable | TargetState::Cancelled => &mut self.other,
            TargetState::Declined => return,
        };
        *place = place.saturating_add(1);
        self.targets = self.targets.saturating_add(1);
    }
}

/// Judges an open wave.
#[must_use]
pub fn judge(campaign: &Campaign, number: u32, fleet: &Fleet, now: UnixMillis) -> Verdict {
    let Some(wave) = campaign.rollout.wave(number) else { return Verdict::Wait(None) };
    let Some(opened_at) = wave.opened_at else { return Verdict::Wait(None) };
    let survey = Survey::of(campaign, number);
    if let Some(why) = too_bad(wave, number, &survey) {
        return Verdict::Halt(why);
    }
    let members = || campaign.targets.iter().filter(|(_, target)| target.wave == number);
    if wave.kind == WaveKind::Test {
        if let Some(why) = new_fault(members(), wave, opened_at, fleet) {
            return Verdict::Halt(why);
        }
        if let Some(verdict) = tests(campaign, members(), wave, now) {
            return verdict;
        }
    }
    let gate = &wave.gate;
    // Who has begun and not answered may be a box that is dead by now.
    let may_be_silent = survey.silent.saturating_add(survey.outstanding).saturating_sub(wave.forgiven.silent);
    let enough = survey.verified.saturating_add(wave.forgiven.failed).saturating_add(wave.forgiven.silent)
        >= gate.success_min.ceil_of(survey.targets);
    let somebody = survey.targets > 0 || gate.success_min.ceil_of(1) == 0;
    if somebody && enough && may_be_silent <= gate.silence_max.floor_of(survey.targets) {
        let asked = members().any(|(_, target)| target.state == TargetState::Asked);
        let until = watched_from(members(), wave, opened_at).plus(gate.observe());
        return match (asked, now >= until) {
            (false, true) => Verdict::Pass,
            (true, _) => Verdict::Wait(None),
            (false, false) => Verdict::Wait(Some(until)),
        };
    }
    let ended = survey.waiting == 0 && survey.outstanding == 0;
    if ended && !members().any(|(_, target)| campaign.tries_again(target)) {
        let (verified, of) = (survey.verified, survey.targets);
        return Verdict::Halt(HoldReason::TooFew { wave: number, verified, of });
    }
    Verdict::Wait(None)
}

fn too_bad(wave: &Wave, number: u32, survey: &Survey) -> Option<HoldReason> {
    let of = survey.targets;
    let Survey { failed, silent, .. } = *survey;
    if failed > wave.gate.failure_max.floor_of(of).max(wave.forgiven.failed) {
        return Some(HoldReason::Failures { wave: number, failed, of });
    }
    if silent > wave.gate.silence_max.floor_of(of).max(wave.forgiven.silent) {
        return Some(HoldReason::Silence { wave: number, silent, of });
    }
    None
}

/// From when on a wave is watched: its last mail; for test agents, when the last of them was verified.
fn watched_from<'a>(
    members: impl Iterator<Item = (&'a AgentId, &'a Target)>,
    wave: &Wave,
    opened_at: UnixMillis,
) -> UnixMillis {
    members
        .filter_map(|(_, target)| match wave.kind {
            WaveKind::Test => target.reported_at,
            WaveKind::Customers => target.mailed_at,
        })
        .fold(opened_at, UnixMillis::max)
}

fn new_fault<'a>(
    mut members: impl Iterator<Item = (&'a AgentId, &'a Target)>,
    wave: &Wave,
    opened_at: UnixMillis,
    fleet: &Fleet,
) -> Option<HoldReason> {
    let known = wave.forgiven.until.unwrap_or(opened_at).max(opened_at);
    members.find_map(|(agent, target)| {
        target.mailed_at?;
        let facts: &AgentFacts = fleet.get(agent)?;
        let fault = facts.grave_faults.iter().find(|fault| fault.reported_at > known)?;
        Some(HoldReason::NewFault { agent: agent.clone(), what: fault.what.clone() })
    })
}

/// What the tests of the verified test agents say; `None`: nothing against going on.
fn tests<'a>(
    campaign: &Campaign,
    members: impl Iterator<Item = (&'a AgentId, &'a Target)>,
    wave: &Wave,
    now: UnixMillis,
) -> Option<Verdict> {
    let expected = campaign.bundle.test.as_ref()?;
    let known =
        |at: Option<UnixMillis>| wave.forgiven.until.is_some_and(|until| at.is_some_and(|at| at <= until));
    let (mut untested, mut due) = (Vec::new(), None::<UnixMillis>);
    let mut waits = false;
    for (agent, target) in members.filter(|(_, target)| target.state == TargetState::Verified) {
        match (&target.tested, &target.test) {
            (Some(result), _) => {
                if let Err(found) = expected.compare(result)
                    && !known(target.tested_at)
                {
                    return Some(Verdict::Halt(HoldReason::TestFailed { agent: agent.clone(), found }));
                }
            }
            (None, None) => untested.push(agent.clone()),
            (None, Some(ask)) => {
                let Some(sent_at) = ask.sent_at else {
                    waits = true;
                    continue;
                };
                let until = sent_at.plus(campaign.settings.reply_timeout.saturating_add(expected.limit()));
                if now >= until {
                    if !known(Some(until)) {
                        return Some(Verdict::Halt(HoldReason::TestUnanswered { agent: agent.clone() }));
                    }
                } else {
                    waits = true;
                    due = Some(due.map_or(until, |due| due.min(until)));
                }
            }
        }
    }
    if !untested.is_empty() {
        return Some(Verdict::Test(untested));
    }
    waits.then_some(Verdict::Wait(due))
}
