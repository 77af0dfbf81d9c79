//! The plan for an agent's devices: the campaign's times, the devices that the operator has named, and what the operator has said of single
//! ones since. The same values give the same plan, so that one that an agent has is not mailed again.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use minicbor::{Decode, Encode};
use shared::device::DeviceName;
use shared::limits::DEVICES_MAX_COUNT;
use shared::message::{DeviceAction, DeviceChoice, DevicePlan, DeviceUpdate, Interval, Rest, UpdateState};
use shared::{Digest, UnixMillis};
use thiserror::Error;

use crate::campaign::CampaignState;

/// A plan that an agent has not answered within this time is mailed again: it, or its answer, was lost, or the agent waits for its own
/// time to install.
pub const ASK_AGAIN_FIRST: Duration = Duration::from_secs(24 * 3600);

/// A plan is mailed so often at most, if nothing in it changes: the pauses double, so this is a month.
pub const ASK_AGAIN_MAX_COUNT: u32 = 6;

/// What a campaign wants of devices. A campaign whose bundle has no firmware has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct DeviceTerms {
    /// Whether devices are updated that the operator has not named.
    #[n(0)]
    pub rest: Rest,
    /// Milliseconds by which a device's time moves (R8).
    #[n(1)]
    pub step_ms: u64,
    /// So many devices of an agent at a time, once the first of each type is done.
    #[n(2)]
    pub at_once: u16,
}

/// What the operator has said of single devices of an agent.
pub type Choices = BTreeMap<DeviceName, DeviceChoice>;

/// When an agent's devices may be updated. Set when its first plan is made, and kept: a word on one device moves no other's time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanTimes {
    /// Not before this.
    pub not_before: UnixMillis,
    /// In one of these; none: at any time.
    pub intervals: Vec<Interval>,
    /// Not after this (R11).
    pub until: UnixMillis,
    /// The site can put it off until then (R9).
    pub defer_until: Option<UnixMillis>,
}

impl PlanTimes {
    /// Those of a plan that was made.
    #[must_use]
    pub fn of(plan: &DevicePlan) -> Self {
        Self {
            not_before: plan.not_before,
            intervals: plan.intervals.clone(),
            until: plan.until,
            defer_until: plan.defer_until,
        }
    }
}

/// What becomes of devices that have not begun when the campaign is in this state: a halted or cancelled one calls back what has
/// not begun, on devices as on agents. `None`: they go on; a pause and the campaign's end are about mails to agents.
#[must_use]
pub fn held_as(state: CampaignState) -> Option<DeviceAction> {
    match state {
        CampaignState::Halted => Some(DeviceAction::Suspend),
        CampaignState::Cancelled => Some(DeviceAction::Cancel),
        CampaignState::Planned | CampaignState::Running | CampaignState::Paused | CampaignState::Finished => {
            None
        }
    }
}

/// The plan for one agent. `known` are the devices that it has spoken of.
#[must_use]
pub fn device_plan(
    bundle: Digest,
    terms: &DeviceTerms,
    state: CampaignState,
    choices: &Choices,
    known: &BTreeSet<DeviceName>,
    times: PlanTimes,
) -> DevicePlan {
    let step = Duration::from_millis(terms.step_ms);
    let mut plan = DevicePlan::for_all(bundle, times.not_before, times.until, step);
    plan.intervals = times.intervals;
    plan.defer_until = times.defer_until;
    plan.at_once = terms.at_once;
    plan.devices = choices.iter().take(DEVICES_MAX_COUNT).map(|(name, one)| (name.clone(), *one)).collect();
    plan.rest = terms.rest;
    let Some(action) = held_as(state) else { return plan };
    // Who is not named has no word of its own to be held by: it is left alone until the campaign goes on.
    plan.rest = Rest::Leave;
    for name in known {
        if plan.devices.len() >= DEVICES_MAX_COUNT {
            break;
        }
        plan.devices.entry(name.clone()).or_default();
    }
    for choice in plan.devices.values_mut().filter(|choice| choice.action != DeviceAction::Cancel) {
        choice.action = action;
    }
    plan
}

/// When a plan that was mailed so often without an answer is mailed again (PROTOCOL 18.15); `None`: not any more.
#[must_use]
pub fn ask_again(mailed_at: UnixMillis, times_mailed: u32, until: UnixMillis) -> Option<UnixMillis> {
    if times_mailed >= ASK_AGAIN_MAX_COUNT {
        return None;
    }
    let factor = 1u32.checked_shl(times_mailed.saturating_sub(1)).unwrap_or(u32::MAX);
    Some(mailed_at.plus(ASK_AGAIN_FIRST.saturating_mul(factor))).filter(|at| *at < until)
}

/// What an operator says of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nothing begins on it.
    Suspend,
    /// It may begin again, after a suspension or a cancellation.
    Resume,
    /// It never begins.
    Cancel,
    /// One more transfer may begin without a proof that it is safe (PROTOCOL 18.9).
    Permit,
}

/// A transfer that there is no point in permitting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotPermitted {
    /// The agent has not spoken of it yet.
    #[error("nothing was heard of it yet")]
    NotHeard,
    /// None of its updates has failed or is unknown.
    #[error("none of its updates has failed or is unknown")]
    Nothing,
}

/// What is said of the device from now on; the same value: nothing changes. `rows` are its updates as last heard of.
///
/// # Errors
/// Permitting something that does not wait for it.
pub fn permitted(
    choice: DeviceChoice,
    wish: Wish,
    rows: &[&DeviceUpdate],
) -> Result<DeviceChoice, NotPermitted> {
    let action = match wish {
        Wish::Suspend => DeviceAction::Suspend,
        Wish::Cancel => DeviceAction::Cancel,
        Wish::Resume => DeviceAction::Run,
        Wish::Permit => {
            if rows.is_empty() {
                return Err(NotPermitted::NotHeard);
            }
            if !rows.iter().any(|row| matches!(row.state, UpdateState::Failed | UpdateState::Unknown)) {
                return Err(NotPermitted::Nothing);
            }
            // More than it has had of any type, and than was allowed before.
            let had = rows.iter().map(|row| row.transfers).max().unwrap_or_default();
            let allowed = had.max(choice.transfers_allowed).saturating_add(1);
            return Ok(DeviceChoice { action: DeviceAction::Run, transfers_allowed: allowed, ..choice });
        }
    };
    Ok(DeviceChoice { action, ..choice })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use shared::Label;

    const DAY: i64 = 86_400_000;

    fn name(text: &str) -> DeviceName {
        DeviceName::parse(text).unwrap()
    }

    fn terms(rest: Rest) -> DeviceTerms {
        DeviceTerms { rest, step_ms: 60_000, at_once: 2 }
    }

    fn made(rest: Rest, state: CampaignState, choices: &Choices, known: &[&str]) -> DevicePlan {
        let times = PlanTimes {
            not_before: UnixMillis(1),
            intervals: vec![Interval { from: UnixMillis(2), until: UnixMillis(3) }],
            until: UnixMillis(9),
            defer_until: Some(UnixMillis(8)),
        };
        let known = known.iter().map(|text| name(text)).collect();
        device_plan(Digest([7; 32]), &terms(rest), state, choices, &known, times)
    }

    fn suspended() -> DeviceChoice {
        DeviceChoice { action: DeviceAction::Suspend, ..DeviceChoice::default() }
    }

    fn row(state: UpdateState, transfers: u32) -> DeviceUpdate {
        DeviceUpdate {
            device: name("mfp"),
            kind: Label::lossy("main"),
            vendor: None,
            model: None,
            serial: None,
            old: None,
            new: None,
            state,
            reason: None,
            about: None,
            begins: None,
            ends: None,
            sent_bytes: 0,
            bytes: 0,
            rate: None,
            transfers,
            since: UnixMillis(0),
        }
    }

    #[test]
    fn a_plan_has_the_times_of_the_campaign_and_the_words_on_single_devices() {
        let choices = Choices::from([(name("mfp"), suspended())]);
        let plan = made(Rest::Run, CampaignState::Running, &choices, &["other"]);
        assert_eq!(
            (plan.not_before, plan.until, plan.defer_until),
            (UnixMillis(1), UnixMillis(9), Some(UnixMillis(8)))
        );
        assert_eq!((plan.at_once, plan.defer_step(), plan.intervals.len()), (2, Duration::from_secs(60), 1));
        assert_eq!(plan.choice(&name("mfp")).unwrap().action, DeviceAction::Suspend);
        assert_eq!(plan.choice(&name("other")).unwrap().action, DeviceAction::Run);
        assert_eq!(PlanTimes::of(&plan).until, UnixMillis(9));
    }

    #[test]
    fn who_is_not_named_is_left_alone_where_the_operator_has_named_devices() {
        let choices = Choices::from([(name("mfp"), DeviceChoice::default())]);
        let plan = made(Rest::Leave, CampaignState::Finished, &choices, &["other"]);
        assert_eq!(plan.choice(&name("mfp")), Some(DeviceChoice::default()));
        assert_eq!(plan.choice(&name("other")), None);
    }

    #[test]
    fn a_halt_suspends_and_a_cancellation_cancels_what_has_not_begun_and_a_pause_does_neither() {
        let cancelled = DeviceChoice { action: DeviceAction::Cancel, ..DeviceChoice::default() };
        let choices = Choices::from([(name("mfp"), cancelled)]);
        for (state, action) in
            [(CampaignState::Halted, DeviceAction::Suspend), (CampaignState::Cancelled, DeviceAction::Cancel)]
        {
            let plan = made(Rest::Run, state, &choices, &["mfp", "other"]);
            assert_eq!(plan.choice(&name("other")).unwrap().action, action);
            assert_eq!(plan.choice(&name("mfp")).unwrap().action, DeviceAction::Cancel, "stays cancelled");
            assert_eq!(plan.choice(&name("never-heard-of")), None, "{state:?}");
        }
        let running = made(Rest::Run, CampaignState::Running, &choices, &["mfp", "other"]);
        for state in [CampaignState::Paused, CampaignState::Finished] {
            assert_eq!(made(Rest::Run, state, &choices, &["mfp", "other"]), running);
        }
    }

    #[test]
    fn a_plan_names_no_more_devices_than_an_agent_can_have() {
        let known: Vec<String> = (0..DEVICES_MAX_COUNT * 2).map(|n| format!("d{n}")).collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let plan = made(Rest::Run, CampaignState::Cancelled, &Choices::new(), &known);
        assert_eq!(plan.devices.len(), DEVICES_MAX_COUNT);
    }

    #[test]
    fn a_plan_without_an_answer_is_mailed_again_after_pauses_that_double_and_not_for_ever() {
        let never = UnixMillis(DAY * 1_000);
        let mut at = UnixMillis(0);
        let mut pauses = Vec::new();
        for times in 1..=ASK_AGAIN_MAX_COUNT {
            let Some(next) = ask_again(at, times, never) else { break };
            pauses.push((next.0 - at.0) / DAY);
            at = next;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16]);
        assert_eq!(ask_again(UnixMillis(0), 1, UnixMillis(DAY)), None, "its time is over by then");
    }

    #[test]
    fn what_is_permitted_is_more_than_the_device_has_had_of_any_type() {
        let (unknown, done) = (row(UpdateState::Unknown, 1), row(UpdateState::Done, 3));
        let choice = permitted(suspended(), Wish::Permit, &[&unknown, &done]).unwrap();
        assert_eq!(choice, DeviceChoice { transfers_allowed: 4, ..DeviceChoice::default() });
        let again = permitted(choice, Wish::Permit, &[&unknown]).unwrap();
        assert_eq!(again.transfers_allowed, 5, "one for each word");
        assert_eq!(permitted(choice, Wish::Permit, &[&done]), Err(NotPermitted::Nothing));
        assert_eq!(permitted(choice, Wish::Permit, &[]), Err(NotPermitted::NotHeard));
    }

    #[test]
    fn a_resumed_device_keeps_what_was_permitted() {
        let choice = DeviceChoice { transfers_allowed: 3, ..suspended() };
        let resumed = permitted(choice, Wish::Resume, &[]).unwrap();
        assert_eq!((resumed.action, resumed.transfers_allowed), (DeviceAction::Run, 3));
        assert_eq!(permitted(resumed, Wish::Cancel, &[]).unwrap().action, DeviceAction::Cancel);
        assert_eq!(permitted(resumed, Wish::Suspend, &[]).unwrap().action, DeviceAction::Suspend);
    }
}
