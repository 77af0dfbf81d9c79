//! Mails between the manager and people.

use manager_core::Campaign;
use shared::{AgentId, UnixMillis};

use super::Shared;
use crate::store::{Tx, TxResult};

pub(super) fn ask(
    tx: &Tx<'_>,
    shared: &Shared,
    campaign: &mut Campaign,
    agents: &[AgentId],
    now: UnixMillis,
) -> TxResult<()> {
    let _ = (tx, shared, campaign, agents, now);
    Ok(())
}
