//! Agents' own keys: asks for new ones, takes them in, confirms them (PROTOCOL 13). Which ones count is decided in the core.

use manager_core::rekey::{KeyFacts, rekey_due, take_keys};
use shared::keys::VerifyingKey;
use shared::limits::ORDER_LIFE;
use shared::message::{Enrolled, Order, Rekeyed};
use shared::{AgentId, EnvelopeId, UnixMillis};

use super::Shared;
use super::seal::{Batch, heartbeat, queue_batches, small_body};
use crate::config::Config;
use crate::store::{OrderKind, Sender, Tx, TxResult};

/// Puts an order for new keys into the outbox. Gives its envelopes.
///
/// # Errors
/// The store's.
pub fn queue_rekey(
    tx: &Tx<'_>,
    agents: &[AgentId],
    recipients_per_mail: usize,
    now: UnixMillis,
) -> TxResult<Vec<EnvelopeId>> {
    let body = tx.add_body(&small_body(&Order::Rekey))?;
    let batch = Batch { body, kind: OrderKind::Rekey, campaign: None, now, life: ORDER_LIFE };
    let made = queue_batches(tx, &batch, agents, recipients_per_mail)?;
    tx.rekey_ordered(agents, now)?;
    Ok(made.into_iter().map(|(envelope, _)| envelope).collect())
}

/// Asks the agents whose keys are old, and again those who have not answered. Gives how many.
pub(super) fn ask_for_keys(tx: &Tx<'_>, config: &Config, now: UnixMillis) -> TxResult<usize> {
    let every = config.rotate_agent_keys;
    let ages = tx.key_ages(every.is_some())?;
    let due =
        ages.into_iter().filter(|a| rekey_due(a.asked, a.since, every, now).is_some_and(|at| at <= now));
    let agents: Vec<AgentId> = due.map(|age| age.agent).collect();
    if !agents.is_empty() {
        queue_rekey(tx, &agents, config.recipients_per_mail, now)?;
    }
    Ok(agents.len())
}

/// Says to an agent that its keys are accepted, those of its enrolment or later ones.
pub(super) fn confirm_keys(tx: &Tx<'_>, shared: &Shared, agent: &AgentId, now: UnixMillis) -> TxResult<()> {
    let enrolled = Enrolled { agent: agent.clone(), heartbeat: heartbeat(&shared.config) };
    let body = tx.add_body(&small_body(&Order::Enrolled(enrolled)))?;
    let batch = Batch { body, kind: OrderKind::Enrolled, campaign: None, now, life: ORDER_LIFE };
    queue_batches(tx, &batch, core::slice::from_ref(agent), shared.config.recipients_per_mail)?;
    Ok(())
}

/// An agent names its new keys.
pub(super) fn take(
    tx: &Tx<'_>,
    shared: &Shared,
    sender: &Sender,
    rekeyed: &Rekeyed,
    now: UnixMillis,
) -> TxResult<()> {
    let agent = &sender.agent;
    let Some(known) = tx.agent(agent)?.and_then(|record| record.sign_key.zip(record.seal_key)) else {
        return Ok(());
    };
    let taken = match VerifyingKey::from_bytes(&rekeyed.sign_key) {
        Ok(key) => tx.key_is_taken(key.key_id(), &rekeyed.seal_key, agent)?,
        Err(_) => false,
    };
    let asked = tx.has_asked_for_keys(rekeyed.order, agent)?;
    let facts = KeyFacts { known, signed_by: sender.key.clone(), asked, taken };
    match take_keys(agent, rekeyed, &facts) {
        Ok(Some((sign, seal))) => {
            tx.replace_keys(agent, (&sign, &seal), now)?;
            let text = format!("has new keys: signs as {} from now on", sign.key_id());
            tracing::info!(%agent, text, "new keys");
            tx.log(now, agent.as_str(), &text)?;
            // PROTOCOL 13.4: sealed to the new key, so that the agent learns that we have it.
            confirm_keys(tx, shared, agent, now)
        }
        Ok(None) => Ok(()),
        Err(why) => {
            tracing::warn!(%agent, %why, "new keys refused");
            tx.log(now, agent.as_str(), &format!("new keys refused: {why}"))
        }
    }
}
