//! Carries out what a campaign's plan says is due: orders into the outbox, ends into the store, all in the caller's transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use manager_core::penalty;
use manager_core::{
    Action, Campaign, CampaignId, CampaignState, Reason, Target, TargetEvent, TargetState, plan,
};
use shared::bundle::Form;
use shared::limits::INTERVALS_MAX_COUNT;
use shared::message::{CancelOrder, Interval, Order, Schedule, TestOrder};
use shared::{AgentId, EnvelopeId, UnixMillis};

use super::forms::Forms;
use super::seal::{Batch, queue_batches, small_body};
use super::{Shared, device_plans, people};
use crate::store::{AgentRecord, OrderKind, Tx, TxResult};

/// Who the audit log names for what follows from rules.
pub(super) const BY_ITSELF: &str = "mailfleet";

/// A plan's actions can make new ones due (a round ends, another begins). More rounds than this in one
/// moment would be a fault of the planner; the next pass goes on.
const ROUNDS_MAX: usize = 16;

/// Gives the time of the next thing that is due by itself, and whether anything was due now.
pub(super) fn carry_out(
    tx: &Tx<'_>,
    shared: &Shared,
    id: CampaignId,
    now: UnixMillis,
) -> TxResult<(Option<UnixMillis>, bool)> {
    let Some(mut campaign) = tx.campaign(id)? else { return Ok((None, false)) };
    let before = campaign.clone();
    let fleet = tx.fleet(&campaign)?;
    let forms = Forms::of(tx, &campaign, tx.campaign_bodies(id)?)?;
    let (mut wake, mut acted) = (None, false);
    for _ in 0..ROUNDS_MAX {
        let due = plan(&campaign, &fleet, now);
        wake = due.next_wake.map(|(at, _)| at);
        let actions: Vec<Action> = due
            .actions
            .into_iter()
            // Between the look outside and this transaction an install can become due: the next pass seals.
            .filter_map(|action| forms.sealed(&campaign, action))
            .collect();
        if actions.is_empty() {
            break;
        }
        acted = true;
        for action in actions {
            act(tx, shared, &mut campaign, action, &forms, now)?;
        }
    }
    for (agent, target) in &campaign.targets {
        match before.targets.get(agent) {
            Some(before) if before == target => {}
            before => save_changed(tx, shared, id, agent, before, target, now)?,
        }
    }
    if before.state != campaign.state || before.rollout != campaign.rollout {
        tracing::info!(campaign = %id, state = campaign.state.as_str(), "campaign");
        tx.save_campaign(&campaign)?;
        device_plans::follow_state(tx, before.state, &campaign, now)?;
    }
    Ok((wake, acted))
}

fn act(
    tx: &Tx<'_>,
    shared: &Shared,
    campaign: &mut Campaign,
    action: Action,
    forms: &Forms,
    now: UnixMillis,
) -> TxResult<()> {
    let id = campaign.id;
    let life = life_of(campaign, now);
    let per_mail = shared.config.recipients_per_mail;
    let batch = |body, kind| Batch { body, kind, campaign: Some(id), now, life };
    match action {
        Action::Install { agents } => {
            for ((form, body), agents) in forms.groups(campaign, agents) {
                let made = queue_batches(tx, &batch(body, OrderKind::Install), &agents, per_mail)?;
                let event = |order| match form {
                    Form::Full => TargetEvent::OrderQueued(order),
                    Form::Delta(number) => TargetEvent::DeltaQueued(order, number),
                };
                note(campaign, &made, event, now);
                agents.iter().try_for_each(|agent| tx.plan_is_due(id, agent, now))?;
            }
        }
        Action::Query { agents } => {
            let body = tx.add_body(&small_body(&Order::QueryVersions))?;
            let made = queue_batches(tx, &batch(body, OrderKind::Query), &agents, per_mail)?;
            note(campaign, &made, TargetEvent::QueryQueued, now);
        }
        Action::Withdraw { agents } => {
            tx.drop_queued(id, &agents)?;
            for agents in agents.chunks(per_mail.max(1)) {
                let targets = agents.iter().filter_map(|agent| campaign.targets.get(agent));
                let orders: BTreeSet<EnvelopeId> = targets.filter_map(|target| target.order()).collect();
                let order = Order::Cancel(CancelOrder { orders: orders.into_iter().collect() });
                let body = tx.add_body(&small_body(&order))?;
                let made = queue_batches(tx, &batch(body, OrderKind::Cancel), agents, per_mail)?;
                note(campaign, &made, TargetEvent::CancelQueued, now);
            }
        }
        Action::End { agent, state, reason } => {
            tx.drop_queued(id, core::slice::from_ref(&agent))?;
            campaign.end(&agent, state, reason);
        }
        Action::Retry { agents } => campaign.restart(&agents),
        Action::Finish => {
            campaign.state = CampaignState::Finished;
            people::tell_finished(tx, shared, campaign, now)?;
        }
        Action::OpenWave(number) => {
            campaign.open_wave(number, now);
            tx.log(now, "", &format!("campaign {id}: wave {} begins", number.saturating_add(1)))?;
        }
        Action::PassWave(number) => {
            campaign.pass_wave(number, now);
            let text = format!("campaign {id}: wave {} has passed its gate", number.saturating_add(1));
            if campaign.rollout.waves.len() > 1 {
                tx.audit(now, BY_ITSELF, &text)?;
            }
            tx.log(now, "", &text)?;
        }
        Action::Halt(why) => {
            tracing::warn!(campaign = %id, %why, "campaign halted");
            let text = format!("campaign {id} halted: {why}");
            tx.audit(now, BY_ITSELF, &text)?;
            tx.log(now, "", &text)?;
            people::tell_halted(tx, shared, campaign, &why, now)?;
            if let Some(unsent) = campaign.halt(why, now) {
                tx.drop_queued(id, &unsent)?;
            }
        }
        Action::Schedule { agents } => schedule(tx, campaign, &agents, per_mail, now)?,
        Action::Test { agents } => {
            let order = Order::Test(TestOrder { software_version: campaign.bundle.software_version.clone() });
            let body = tx.add_body(&small_body(&order))?;
            let made = queue_batches(tx, &batch(body, OrderKind::Test), &agents, per_mail)?;
            note(campaign, &made, TargetEvent::TestQueued, now);
        }
        Action::AskConsent { agents } => people::ask(tx, shared, campaign, &agents, now)?,
    }
    Ok(())
}

fn note(
    campaign: &mut Campaign,
    made: &[(EnvelopeId, &[AgentId])],
    event: impl Fn(EnvelopeId) -> TargetEvent,
    now: UnixMillis,
) {
    for (envelope, agents) in made {
        for agent in *agents {
            campaign.apply(now, agent, &event(*envelope));
        }
    }
}

/// How long an order that is made now lives: no longer than the campaign's expiry (R11).
pub(super) fn life_of(campaign: &Campaign, now: UnixMillis) -> Duration {
    let life = campaign.settings.order_life;
    campaign.rollout.times.expires_at.map_or(life, |at| at.since(now).min(life))
}

/// Mails agents when they may install: one order for all whose times are the same.
fn schedule(
    tx: &Tx<'_>,
    campaign: &mut Campaign,
    agents: &[AgentId],
    per_mail: usize,
    now: UnixMillis,
) -> TxResult<()> {
    let life = life_of(campaign, now);
    let not_before = campaign.rollout.times.install_at.unwrap_or(now).max(now);
    let until = now.plus(life);
    let mut groups: BTreeMap<Vec<Interval>, Vec<AgentId>> = BTreeMap::new();
    for agent in agents {
        let Some(record) = tx.agent(agent)? else { continue };
        match intervals(campaign, &record, not_before, until) {
            Some(intervals) => groups.entry(intervals).or_default().push(agent.clone()),
            None => campaign.end(agent, TargetState::Expired, Some(Reason::NoWindow)),
        }
    }
    let Some(bundle) = tx.bundle(campaign.bundle.digest)? else { return Ok(()) };
    for (intervals, agents) in groups {
        let from = intervals.first().map_or(not_before, |first| first.from);
        let times = campaign.rollout.times;
        let order = Order::Schedule(Schedule {
            bundle: campaign.bundle.digest,
            software_version: campaign.bundle.software_version.clone(),
            bundle_bytes: bundle.bytes,
            not_before,
            intervals,
            defer_until: times.defer_max_ms.map(|ms| from.plus(Duration::from_millis(ms))),
            fetch: times.fetch,
        });
        let body = tx.add_body(&small_body(&order))?;
        let batch = Batch { body, kind: OrderKind::Schedule, campaign: Some(campaign.id), now, life };
        let made = queue_batches(tx, &batch, &agents, per_mail)?;
        note(campaign, &made, |id| TargetEvent::ScheduleQueued(id, from), now);
    }
    Ok(())
}

/// The moments in which an agent may install; none: at any time. `None` if its window does not open in time.
pub(super) fn intervals(
    campaign: &Campaign,
    agent: &AgentRecord,
    not_before: UnixMillis,
    until: UnixMillis,
) -> Option<Vec<Interval>> {
    let Some(windows) = agent.terms.windows.as_ref().filter(|_| campaign.rollout.times.windows) else {
        return Some(Vec::new());
    };
    let intervals = windows.intervals(&agent.terms.zone, not_before, until, INTERVALS_MAX_COUNT);
    (!intervals.is_empty()).then_some(intervals)
}

/// Saves a target. Its end counts for or against its agent, and its administrator may have to be told.
pub(super) fn save_changed(
    tx: &Tx<'_>,
    shared: &Shared,
    id: CampaignId,
    agent: &AgentId,
    before: Option<&Target>,
    target: &Target,
    now: UnixMillis,
) -> TxResult<()> {
    tx.save_target(id, agent, target)?;
    if before.is_none_or(|before| before.state == target.state) || !target.state.is_end() {
        return Ok(());
    }
    if let Some(counts) = penalty::counts(target) {
        tx.count_end(agent, counts, now)?;
    }
    match tx.agent(agent)?.and_then(|record| record.admin) {
        Some(admin) => people::tell_done(tx, shared, id, &admin, now),
        None => Ok(()),
    }
}
