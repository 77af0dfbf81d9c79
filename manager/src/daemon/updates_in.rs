//! Takes in what agents say of their devices' updates (PROTOCOL 18.14), in the transaction that keeps the report.

use manager_core::updates::{take, why};
use shared::message::{DeviceUpdate, DeviceUpdates};

use super::devices_in::From;
use crate::store::{Tx, TxResult};

/// Updates that went wrong and are written down of one report: the list itself says all of them.
const EVENTS_MAX_COUNT: usize = 20;

/// Takes a report in. One about a plan that the agent was not sent changes nothing.
pub(super) fn take_updates(tx: &Tx<'_>, from: From<'_>, report: &DeviceUpdates) -> TxResult<()> {
    let From { agent, sequence, now, .. } = from;
    let Some(campaign) = tx.plan_sent(agent, report.plan, report.bundle)? else {
        tracing::info!(%agent, plan = %report.plan, "speaks of a plan that it was not sent");
        return tx.log(now, agent.as_str(), "speaks of a plan for devices that it was not sent");
    };
    let Some(record) = tx.plan_record(campaign, agent)? else { return Ok(()) };
    let heard = tx.heard_updates(campaign, agent, record.all_sequence)?;
    let Some(news) = take(&heard, sequence, report) else { return Ok(()) };
    tx.save_updates(campaign, agent, sequence, &news, now)?;
    tx.updates_heard(campaign, agent, report.plan, report.all.then_some(sequence), now)?;
    for update in news.bad.iter().take(EVENTS_MAX_COUNT) {
        let text = format!("campaign {campaign}: {}", sentence(update));
        tracing::warn!(%agent, text, "update of a device");
        tx.log(now, agent.as_str(), &text)?;
    }
    Ok(())
}

/// `mfp, main 1.0 to 2.0: unknown, the device did not come back`.
fn sentence(update: &DeviceUpdate) -> String {
    let version = |label: &Option<shared::Label>| label.as_ref().map_or("?".to_owned(), ToString::to_string);
    let (old, new) = (version(&update.old), version(&update.new));
    let why = why(update).map_or(String::new(), |why| format!(", {why}"));
    format!("{}, {} {old} to {new}: {}{why}", update.device, update.kind, update.state)
}
