//! What only the command line's lists ask for.

use std::collections::BTreeMap;

use manager_core::{CampaignId, TargetState};
use shared::{AgentId, SoftwareVersion};

use super::rows::{agent_id, bad, version};
use super::{Tx, TxResult};

/// What the newest campaign of an agent wants of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentTarget {
    /// The campaign.
    pub campaign: CampaignId,
    /// What the agent should report.
    pub target_version: SoftwareVersion,
    /// Where it stands.
    pub state: TargetState,
}

impl Tx<'_> {
    /// For each agent that was ever in a campaign, the newest one (M15).
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn newest_targets(&self) -> TxResult<BTreeMap<AgentId, AgentTarget>> {
        let mut statement = self.0.prepare_cached(
            "SELECT t.agent, t.campaign, t.state, c.software_version
             FROM (SELECT agent, max(campaign) AS campaign FROM targets GROUP BY agent) newest
             JOIN targets t ON t.agent = newest.agent AND t.campaign = newest.campaign
             JOIN campaigns c ON c.id = t.campaign",
        )?;
        let mut rows = statement.query([])?;
        let mut targets = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let state: String = row.get("state")?;
            let target = AgentTarget {
                campaign: CampaignId(row.get("campaign")?),
                target_version: version(row, "software_version")?,
                state: TargetState::parse(&state).ok_or_else(|| bad("target state", state))?,
            };
            targets.insert(agent_id(row, "agent")?, target);
        }
        Ok(targets)
    }
}
