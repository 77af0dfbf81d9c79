//! What the tick says about devices: acknowledgements to agents, and alerts to people and programs. Everything is in the
//! store before it is said.

use std::time::Duration;

use manager_core::alert::{Addressee, AlertFault, Mail, compose};
use serde_json::{Value, json};
use shared::UnixMillis;
use shared::message::Order;

use super::seal::{Batch, queue_batches, small_body};
use crate::store::{OrderKind, Tx, TxResult};
use crate::system::new_envelope_id;

/// An acknowledgement that is older is of no use: the agent has sent again, and gets another one.
const ACKNOWLEDGE_LIFE: Duration = Duration::from_secs(2 * 24 * 3600);

/// An alert that could not be told for so long is given up; the fault stays in the list.
const ALERT_LIFE: Duration = Duration::from_secs(3 * 24 * 3600);

/// Puts an acknowledgement for every agent that is owed one into the outbox (PROTOCOL 14.2, 14.7). True if there was one.
pub(super) fn acknowledge(tx: &Tx<'_>, now: UnixMillis) -> TxResult<bool> {
    let owed = tx.owed(now)?;
    for one in &owed {
        let body = tx.add_body(&small_body(&Order::Acknowledge(one.says.clone())))?;
        let kind = OrderKind::Acknowledge;
        let batch = Batch { body, kind, campaign: None, now, life: ACKNOWLEDGE_LIFE };
        // For one agent alone: what it has reported is no other's business.
        queue_batches(tx, &batch, core::slice::from_ref(&one.agent), 1)?;
        tx.acknowledged(one, now)?;
    }
    Ok(!owed.is_empty())
}

/// Writes one alert for everyone who is to be told of something. True if there was one.
pub(super) fn write_alerts(tx: &Tx<'_>, now: UnixMillis) -> TxResult<bool> {
    let untold = tx.untold()?;
    for addressee in &untold {
        let faults = tx.untold_faults(addressee)?;
        let mail = match addressee {
            Addressee::Mail(_) => compose(&faults),
            Addressee::Command(_) => Mail { text: json_of(&faults).to_string(), ..compose(&faults) },
        };
        tx.add_alert(new_envelope_id(), addressee, &mail, now, now.plus(ALERT_LIFE))?;
    }
    Ok(!untold.is_empty())
}

/// What a program reads: keys as the columns of CSV.
fn json_of(faults: &[AlertFault]) -> Value {
    let faults: Vec<Value> = faults
        .iter()
        .map(|fault| {
            json!({
                "changes": fault.changes.iter().map(|change| change.as_str()).collect::<Vec<_>>(),
                "agent": fault.agent,
                "site": fault.site,
                "note": fault.note,
                "device": fault.device,
                "class": fault.device_class,
                "model": fault.model,
                "serial": fault.serial,
                "code": fault.code,
                "kind": fault.kind.as_str(),
                "fault_class": fault.class.as_str(),
                "severity": fault.severity.as_str(),
                "location": fault.location,
                "text": fault.text,
                "raised_at": fault.raised_at.to_string(),
                "cleared_at": fault.cleared_at.map(|at| at.to_string()),
            })
        })
        .collect();
    json!({ "faults": faults })
}
