//! Plans for devices (PROTOCOL 18.3): what a campaign wants of them, what the operator has said of single ones, and what agents were told.

use std::collections::BTreeMap;

use manager_core::CampaignId;
use manager_core::updates::{Choices, DeviceTerms};
use rusqlite::{OptionalExtension as _, Row, params};
use shared::device::DeviceName;
use shared::message::{DeviceChoice, DevicePlan};
use shared::{AgentId, Digest, EnvelopeId, UnixMillis};

use super::rows::{agent_id, bad, cbor, opt_time, signed, to_cbor, unsigned};
use super::{Tx, TxResult};

pub(super) const DUE: &str =
    "SELECT campaign, agent FROM device_plans WHERE due_at <= ?1 ORDER BY due_at, campaign, agent LIMIT ?2";

pub(super) const NEXT: &str =
    "SELECT due_at FROM device_plans WHERE due_at IS NOT NULL AND due_at > ?1 ORDER BY due_at LIMIT 1";

/// The campaign of a plan, if it is one for the agent and for the bundle.
pub(super) const SENT: &str = "SELECT o.campaign FROM outbox o
     JOIN recipients r ON r.envelope = o.envelope JOIN campaigns c ON c.id = o.campaign
     WHERE o.envelope = ?1 AND o.kind = 'device-plan' AND r.agent = ?2 AND c.bundle = ?3";

pub(super) const CHOICES: &str =
    "SELECT device, choice FROM device_choices WHERE campaign = ?1 AND agent = ?2";

/// A plan that is to be made, or mailed again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DuePlan {
    /// Of which campaign.
    pub campaign: CampaignId,
    /// For whom.
    pub agent: AgentId,
}

/// What an agent was told of its devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanRecord {
    /// The newest plan; `None`: none was made yet.
    pub plan: Option<DevicePlan>,
    /// The order that brought it.
    pub envelope: Option<EnvelopeId>,
    /// When it is made or mailed again.
    pub due_at: Option<UnixMillis>,
    /// How often it was mailed since it has changed.
    pub mailed: u32,
    /// The agent has answered it.
    pub answered: bool,
    /// When a report of its devices' updates came last.
    pub heard_at: Option<UnixMillis>,
    /// Sequence number of the newest report of all of them.
    pub all_sequence: u64,
}

fn record(row: &Row<'_>) -> TxResult<PlanRecord> {
    let plan: Option<Vec<u8>> = row.get("plan")?;
    let envelope: Option<[u8; 16]> = row.get("envelope")?;
    Ok(PlanRecord {
        plan: plan.as_deref().map(|bytes| cbor("device plan", bytes)).transpose()?,
        envelope: envelope.map(EnvelopeId),
        due_at: opt_time(row, "due_at")?,
        mailed: row.get("mailed")?,
        answered: row.get("answered")?,
        heard_at: opt_time(row, "heard_at")?,
        all_sequence: unsigned(row, "all_sequence")?,
    })
}

impl Tx<'_> {
    /// Notes what a campaign that was just entered wants of its agents' devices. Nothing is due by that.
    ///
    /// # Errors
    /// The database's.
    pub fn add_device_terms(&self, id: CampaignId, terms: &DeviceTerms) -> TxResult<()> {
        self.0.execute(
            "INSERT INTO device_terms (campaign, terms) VALUES (?1, ?2)",
            params![id.0, to_cbor(terms)],
        )?;
        self.0.execute(
            "INSERT INTO device_plans (campaign, agent) SELECT campaign, agent FROM targets WHERE campaign = ?1",
            [id.0],
        )?;
        Ok(())
    }

    /// What a campaign wants of devices; `None`: its bundle has no firmware.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn device_terms(&self, id: CampaignId) -> TxResult<Option<DeviceTerms>> {
        let bytes: Option<Vec<u8>> = self
            .0
            .prepare_cached("SELECT terms FROM device_terms WHERE campaign = ?1")?
            .query_row([id.0], |row| row.get(0))
            .optional()?;
        bytes.as_deref().map(|bytes| cbor("device terms", bytes)).transpose()
    }

    /// What the operator has said of an agent's devices.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn device_choices(&self, id: CampaignId, agent: &AgentId) -> TxResult<Choices> {
        let mut statement = self.0.prepare_cached(CHOICES)?;
        let mut rows = statement.query(params![id.0, agent.as_str()])?;
        let mut choices = Choices::new();
        while let Some(row) = rows.next()? {
            let name: String = row.get("device")?;
            let name = DeviceName::parse(&name).map_err(|err| bad("device", err))?;
            choices.insert(name, cbor("device choice", &row.get::<_, Vec<u8>>("choice")?)?);
        }
        Ok(choices)
    }

    /// The agents of whose devices the operator has said something.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn all_device_choices(&self, id: CampaignId) -> TxResult<BTreeMap<AgentId, Choices>> {
        let mut statement =
            self.0.prepare_cached("SELECT DISTINCT agent FROM device_choices WHERE campaign = ?1")?;
        let mut rows = statement.query([id.0])?;
        let mut all = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let agent = agent_id(row, "agent")?;
            let choices = self.device_choices(id, &agent)?;
            all.insert(agent, choices);
        }
        Ok(all)
    }

    /// Notes what the operator says of a device.
    ///
    /// # Errors
    /// The database's.
    pub fn choose_device(
        &self,
        id: CampaignId,
        agent: &AgentId,
        device: &DeviceName,
        choice: DeviceChoice,
    ) -> TxResult<()> {
        self.0
            .prepare_cached(
                "INSERT INTO device_choices (campaign, agent, device, choice) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (campaign, agent, device) DO UPDATE SET choice = excluded.choice",
            )?
            .execute(params![id.0, agent.as_str(), device.as_str(), to_cbor(&choice)])?;
        Ok(())
    }

    /// What an agent was told of its devices; `None`: it is no target, or the bundle has no firmware.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn plan_record(&self, id: CampaignId, agent: &AgentId) -> TxResult<Option<PlanRecord>> {
        let mut statement =
            self.0.prepare_cached("SELECT * FROM device_plans WHERE campaign = ?1 AND agent = ?2")?;
        let mut rows = statement.query(params![id.0, agent.as_str()])?;
        rows.next()?.map(record).transpose()
    }

    /// What all agents of a campaign were told of their devices.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn plan_records(&self, id: CampaignId) -> TxResult<BTreeMap<AgentId, PlanRecord>> {
        let mut statement = self.0.prepare_cached("SELECT * FROM device_plans WHERE campaign = ?1")?;
        let mut rows = statement.query([id.0])?;
        let mut all = BTreeMap::new();
        while let Some(row) = rows.next()? {
            all.insert(agent_id(row, "agent")?, record(row)?);
        }
        Ok(all)
    }

    /// The agent is mailed its plan at the next pass, the first time or anew: its install order is on its way.
    ///
    /// # Errors
    /// The database's.
    pub fn plan_is_due(&self, id: CampaignId, agent: &AgentId, now: UnixMillis) -> TxResult<()> {
        self.0
            .prepare_cached("UPDATE device_plans SET due_at = ?3 WHERE campaign = ?1 AND agent = ?2")?
            .execute(params![id.0, agent.as_str(), now.0])?;
        Ok(())
    }

    /// Plans that were made are looked at anew at the next pass, those of one agent or of all: something that they follow from has
    /// changed. Gives how many.
    ///
    /// # Errors
    /// The database's.
    pub fn plans_may_change(
        &self,
        id: CampaignId,
        agent: Option<&AgentId>,
        now: UnixMillis,
    ) -> TxResult<usize> {
        let changed = match agent {
            Some(agent) => self.0.execute(
                "UPDATE device_plans SET due_at = ?3 WHERE campaign = ?1 AND agent = ?2 AND plan IS NOT NULL",
                params![id.0, agent.as_str(), now.0],
            )?,
            None => self.0.execute(
                "UPDATE device_plans SET due_at = ?2 WHERE campaign = ?1 AND plan IS NOT NULL",
                params![id.0, now.0],
            )?,
        };
        Ok(changed)
    }

    /// Plans that are due, at most so many, the oldest first.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn due_plans(&self, now: UnixMillis, most: usize) -> TxResult<Vec<DuePlan>> {
        let mut statement = self.0.prepare_cached(DUE)?;
        let mut rows = statement.query(params![now.0, i64::try_from(most).unwrap_or(i64::MAX)])?;
        let mut due = Vec::new();
        while let Some(row) = rows.next()? {
            due.push(DuePlan { campaign: CampaignId(row.get("campaign")?), agent: agent_id(row, "agent")? });
        }
        Ok(due)
    }

    /// When the next plan is due after now.
    ///
    /// # Errors
    /// The database's.
    pub fn next_due_plan(&self, now: UnixMillis) -> TxResult<Option<UnixMillis>> {
        let next = self.0.prepare_cached(NEXT)?.query_row([now.0], |row| row.get(0)).optional()?;
        Ok(next.map(UnixMillis))
    }

    /// The agent is not mailed its plan by itself.
    ///
    /// # Errors
    /// The database's.
    pub fn plan_rests(&self, due: &DuePlan) -> TxResult<()> {
        self.0
            .prepare_cached("UPDATE device_plans SET due_at = NULL WHERE campaign = ?1 AND agent = ?2")?
            .execute(params![due.campaign.0, due.agent.as_str()])?;
        Ok(())
    }

    /// Notes a plan that was put into the outbox.
    ///
    /// # Errors
    /// The database's.
    pub fn plan_made(
        &self,
        due: &DuePlan,
        plan: &DevicePlan,
        envelope: EnvelopeId,
        mailed: u32,
        again_at: Option<UnixMillis>,
    ) -> TxResult<()> {
        self.0
            .prepare_cached(
                "UPDATE device_plans SET plan = ?3, envelope = ?4, mailed = ?5, due_at = ?6, answered = 0
                 WHERE campaign = ?1 AND agent = ?2",
            )?
            .execute(params![
                due.campaign.0,
                due.agent.as_str(),
                to_cbor(plan),
                envelope.0,
                mailed,
                again_at.map(|at| at.0)
            ])?;
        Ok(())
    }

    /// The campaign of a plan that was sent to this agent for this bundle; `None`: there is no such plan.
    ///
    /// # Errors
    /// The database's.
    pub fn plan_sent(
        &self,
        agent: &AgentId,
        plan: EnvelopeId,
        bundle: Digest,
    ) -> TxResult<Option<CampaignId>> {
        let found = self
            .0
            .prepare_cached(SENT)?
            .query_row(params![plan.0, agent.as_str(), bundle.0], |row| row.get(0))
            .optional()?;
        Ok(found.map(CampaignId))
    }

    /// The agent has spoken of its devices' updates. With the answer to the newest plan that is mailed no more.
    ///
    /// # Errors
    /// The database's.
    pub fn updates_heard(
        &self,
        id: CampaignId,
        agent: &AgentId,
        answers: EnvelopeId,
        all_sequence: Option<u64>,
        now: UnixMillis,
    ) -> TxResult<()> {
        self.0
            .prepare_cached(
                "UPDATE device_plans SET heard_at = ?4, all_sequence = max(all_sequence, ?5),
                     due_at = CASE WHEN envelope = ?3 AND mailed > 0 AND plan IS NOT NULL AND due_at > ?4
                                   THEN NULL ELSE due_at END,
                     answered = CASE WHEN envelope = ?3 THEN 1 ELSE answered END
                 WHERE campaign = ?1 AND agent = ?2",
            )?
            .execute(params![id.0, agent.as_str(), answers.0, now.0, all_sequence.map_or(0, signed)])?;
        Ok(())
    }
}
