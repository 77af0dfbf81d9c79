//! Mails plans for devices (PROTOCOL 18.15): beside an agent's install order, when something in one has changed, and again when no answer
//! comes. What stands in a plan is `manager_core::updates`'. Independent of the campaign's own course: its targets may long be verified.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use manager_core::updates::{DeviceTerms, PlanTimes, ask_again, device_plan, held_as};
use manager_core::{Campaign, CampaignState};
use shared::limits::ORDER_LIFE_MAX;
use shared::message::{DevicePlan, Order, encode};
use shared::{AgentId, EnvelopeId, UnixMillis};

use super::Shared;
use super::carry::{intervals, life_of};
use super::seal::{Batch, queue_batches, small_body};
use crate::store::{DuePlan, OrderKind, PlanRecord, Tx, TxResult};

/// Plans of one transaction: each reads some rows, and the other loops wait for it.
const PLANS_MAX_COUNT: usize = 500;

/// Agents that get the same plan of one campaign.
struct Group {
    plan: DevicePlan,
    agents: Vec<(AgentId, u32)>,
}

/// Mails the plans that are due. True if there was any.
pub(super) fn mail_plans(tx: &Tx<'_>, shared: &Shared, now: UnixMillis) -> TxResult<bool> {
    let due = tx.due_plans(now, PLANS_MAX_COUNT)?;
    let mut groups: BTreeMap<(i64, Vec<u8>), Group> = BTreeMap::new();
    for one in &due {
        match wanted(tx, one, now)? {
            Some((plan, mailed)) => {
                let name = (one.campaign.0, encode(&plan));
                let group = groups.entry(name).or_insert_with(|| Group { plan, agents: Vec::new() });
                group.agents.push((one.agent.clone(), mailed));
            }
            None => tx.plan_rests(one)?,
        }
    }
    for ((campaign, _), Group { plan, agents }) in groups {
        let campaign = manager_core::CampaignId(campaign);
        let body = tx.add_body(&small_body(&Order::DevicePlan(plan.clone())))?;
        let life = plan.until.since(now).min(ORDER_LIFE_MAX);
        let batch = Batch { body, kind: OrderKind::DevicePlan, campaign: Some(campaign), now, life };
        let ids: Vec<AgentId> = agents.iter().map(|(agent, _)| agent.clone()).collect();
        let made = queue_batches(tx, &batch, &ids, shared.config.recipients_per_mail)?;
        let envelopes = made.iter().flat_map(|(envelope, ids)| ids.iter().map(move |_| *envelope));
        for ((agent, mailed), envelope) in agents.into_iter().zip(envelopes) {
            note(tx, DuePlan { campaign, agent }, &plan, envelope, mailed, now)?;
        }
    }
    Ok(!due.is_empty())
}

fn note(
    tx: &Tx<'_>,
    due: DuePlan,
    plan: &DevicePlan,
    envelope: EnvelopeId,
    mailed: u32,
    now: UnixMillis,
) -> TxResult<()> {
    tx.plan_made(&due, plan, envelope, mailed, ask_again(now, mailed, plan.until))
}

/// The plan that is to be mailed, and how often it was with this time; `None`: the agent has it, or nothing is to be planned.
fn wanted(tx: &Tx<'_>, due: &DuePlan, now: UnixMillis) -> TxResult<Option<(DevicePlan, u32)>> {
    let Some(terms) = tx.device_terms(due.campaign)? else { return Ok(None) };
    let Some(campaign) = tx.campaign_for(due.campaign, &due.agent)? else { return Ok(None) };
    let Some(before) = tx.plan_record(due.campaign, &due.agent)? else { return Ok(None) };
    let Some(plan) = made(tx, &campaign, &terms, due, &before, now)? else { return Ok(None) };
    let same = before.plan.as_ref() == Some(&plan);
    if same && before.answered {
        return Ok(None);
    }
    let mailed = if same { before.mailed } else { 0 };
    Ok(Some((plan, mailed.saturating_add(1))))
}

fn made(
    tx: &Tx<'_>,
    campaign: &Campaign,
    terms: &DeviceTerms,
    due: &DuePlan,
    before: &PlanRecord,
    now: UnixMillis,
) -> TxResult<Option<DevicePlan>> {
    // The times of the first plan are kept as long as they last.
    let kept = before.plan.as_ref().filter(|plan| plan.until > now).map(PlanTimes::of);
    let Some(times) =
        kept.map_or_else(|| first_times(tx, campaign, &due.agent, now), |times| Ok(Some(times)))?
    else {
        return Ok(None);
    };
    let choices = tx.device_choices(due.campaign, &due.agent)?;
    let known = match held_as(campaign.state) {
        Some(_) => tx.devices_heard_of(due.campaign, &due.agent)?,
        None => BTreeSet::new(),
    };
    let bundle = campaign.bundle.digest;
    Ok(Some(device_plan(bundle, terms, campaign.state, &choices, &known, times)))
}

/// The times of a campaign, from now on; `None`: there are none left.
fn first_times(
    tx: &Tx<'_>,
    campaign: &Campaign,
    agent: &AgentId,
    now: UnixMillis,
) -> TxResult<Option<PlanTimes>> {
    let times = campaign.rollout.times;
    let not_before = times.install_at.unwrap_or(now).max(now);
    let until = now.plus(life_of(campaign, now));
    let Some(record) = tx.agent(agent)? else { return Ok(None) };
    let Some(intervals) = intervals(campaign, &record, not_before, until) else { return Ok(None) };
    let from = intervals.first().map_or(not_before, |first| first.from);
    let defer_until = times.defer_max_ms.map(|ms| from.plus(Duration::from_millis(ms)));
    Ok((until > now).then_some(PlanTimes { not_before, intervals, until, defer_until }))
}

/// A campaign goes from one state to another: what that means for devices is mailed.
pub(super) fn follow_state(
    tx: &Tx<'_>,
    before: CampaignState,
    campaign: &Campaign,
    now: UnixMillis,
) -> TxResult<()> {
    if held_as(before) != held_as(campaign.state) {
        tx.plans_may_change(campaign.id, None, now)?;
    }
    Ok(())
}
