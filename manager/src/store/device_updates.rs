//! How the updates of devices go, as agents have said it last (PROTOCOL 18.14).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use manager_core::CampaignId;
use manager_core::updates::{Heard, Kept, News};
use rusqlite::{Row, params};
use shared::device::DeviceName;
use shared::message::{DeviceUpdate, UpdateState};
use shared::{AgentId, UnixMillis};

use super::rows::{agent_id, bad, cbor, signed, time, to_cbor, unsigned};
use super::{Tx, TxResult};

pub(super) const OF_AGENT: &str =
    "SELECT * FROM device_updates WHERE campaign = ?1 AND agent = ?2 ORDER BY device, kind";

pub(super) const OF_CAMPAIGN: &str =
    "SELECT * FROM device_updates WHERE campaign = ?1 ORDER BY agent, device, kind";

pub(super) const COUNTS: &str =
    "SELECT state, count(*) AS n FROM device_updates WHERE campaign = ?1 GROUP BY state";

/// An update as it was last heard of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateRecord {
    /// The agent.
    pub agent: AgentId,
    /// Sequence number of the report that says so.
    pub sequence: u64,
    /// When that came.
    pub heard_at: UnixMillis,
    /// What it says.
    pub update: DeviceUpdate,
}

fn record(row: &Row<'_>) -> TxResult<UpdateRecord> {
    Ok(UpdateRecord {
        agent: agent_id(row, "agent")?,
        sequence: unsigned(row, "sequence")?,
        heard_at: time(row, "heard_at")?,
        update: cbor("device update", &row.get::<_, Vec<u8>>("detail")?)?,
    })
}

impl Tx<'_> {
    /// What was heard of an agent's updates in a campaign.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn heard_updates(&self, id: CampaignId, agent: &AgentId, all_sequence: u64) -> TxResult<Heard> {
        let mut heard = Heard { all_sequence, ..Heard::default() };
        for UpdateRecord { sequence, update, .. } in self.device_updates(id, agent)? {
            heard.rows.insert((update.device, update.kind), Kept { sequence, state: update.state });
        }
        Ok(heard)
    }

    /// Keeps what a report has changed.
    ///
    /// # Errors
    /// The database's.
    pub fn save_updates(
        &self,
        id: CampaignId,
        agent: &AgentId,
        sequence: u64,
        news: &News<'_>,
        now: UnixMillis,
    ) -> TxResult<()> {
        let mut put = self.0.prepare_cached(
            "INSERT INTO device_updates (campaign, agent, device, kind, state, sequence, heard_at, detail)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (campaign, agent, device, kind) DO UPDATE SET state = excluded.state,
                 sequence = excluded.sequence, heard_at = excluded.heard_at, detail = excluded.detail",
        )?;
        for row in &news.put {
            put.execute(params![
                id.0,
                agent.as_str(),
                row.device.as_str(),
                row.kind.as_str(),
                row.state.as_str(),
                signed(sequence),
                now.0,
                to_cbor(*row),
            ])?;
        }
        let mut drop = self.0.prepare_cached(
            "DELETE FROM device_updates WHERE campaign = ?1 AND agent = ?2 AND device = ?3 AND kind = ?4",
        )?;
        for (device, kind) in &news.drop {
            drop.execute(params![id.0, agent.as_str(), device.as_str(), kind.as_str()])?;
        }
        Ok(())
    }

    /// The box of an agent is another one now: it counts its reports anew, and knows of no plan.
    ///
    /// # Errors
    /// The database's.
    pub fn updates_of_replaced(&self, id: CampaignId, agent: &AgentId) -> TxResult<()> {
        let name = params![id.0, agent.as_str()];
        self.0
            .prepare_cached(
                "UPDATE device_plans SET all_sequence = 0, answered = 0, mailed = 0, due_at = NULL
                 WHERE campaign = ?1 AND agent = ?2",
            )?
            .execute(name)?;
        self.0
            .prepare_cached("UPDATE device_updates SET sequence = 0 WHERE campaign = ?1 AND agent = ?2")?
            .execute(name)?;
        Ok(())
    }

    /// The updates of an agent's devices, by device and type.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn device_updates(&self, id: CampaignId, agent: &AgentId) -> TxResult<Vec<UpdateRecord>> {
        let mut statement = self.0.prepare_cached(OF_AGENT)?;
        let mut rows = statement.query(params![id.0, agent.as_str()])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push(record(row)?);
        }
        Ok(all)
    }

    /// Hands over the updates of a campaign by agent, device and type, until the caller has enough.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn each_update(
        &self,
        id: CampaignId,
        mut take: impl FnMut(UpdateRecord) -> TxResult<ControlFlow<()>>,
    ) -> TxResult<()> {
        let mut statement = self.0.prepare_cached(OF_CAMPAIGN)?;
        let mut rows = statement.query([id.0])?;
        while let Some(row) = rows.next()? {
            if take(record(row)?)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The number of a campaign's updates in each state.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn update_counts(&self, id: CampaignId) -> TxResult<BTreeMap<UpdateState, u64>> {
        let mut statement = self.0.prepare_cached(COUNTS)?;
        let mut rows = statement.query([id.0])?;
        let mut counts = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let text: String = row.get("state")?;
            let state = UpdateState::parse(&text).ok_or_else(|| bad("update state", text))?;
            counts.insert(state, unsigned(row, "n")?);
        }
        Ok(counts)
    }

    /// The devices that an agent has spoken of in a campaign.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn devices_heard_of(&self, id: CampaignId, agent: &AgentId) -> TxResult<BTreeSet<DeviceName>> {
        Ok(self.device_updates(id, agent)?.into_iter().map(|record| record.update.device).collect())
    }
}
