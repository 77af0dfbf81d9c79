//! Bundles, campaigns and their targets.

use std::collections::BTreeMap;

use manager_core::consent::Standing;
use manager_core::{
    AgentFacts, BundleFacts, Campaign, CampaignId, CampaignState, Fleet, GraveFault, Rollout, Settings,
    Target, TargetState,
};
use rusqlite::{OptionalExtension as _, Row, params};
use shared::message::Reported;
use shared::{AgentId, Digest, EnvelopeId, Label, MailAddress, SoftwareVersion, UnixMillis};

use super::rows::{
    agent_id, bad, cbor, digest, duration, label, labels, lines, millis, opt_mail, opt_time, signed, time,
    to_cbor, unsigned, version, versions,
};
use super::{Tx, TxResult};

/// A bundle file that the manager keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleRecord {
    /// Digest of the file.
    pub digest: Digest,
    /// Its name in the home's folder `bundles`.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// What an agent is called afterwards.
    pub software_version: SoftwareVersion,
    /// When it was added.
    pub added_at: UnixMillis,
}

/// A campaign to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCampaign {
    /// Its name.
    pub name: Label,
    /// What it brings; the bundle must be kept already.
    pub bundle: BundleFacts,
    /// How patient it is.
    pub settings: Settings,
    /// Its way through its targets.
    pub rollout: Rollout,
    /// Release notes, for people.
    pub notes: String,
    /// Whom to tell if it halts.
    pub vendor: Option<MailAddress>,
    /// True: it is only laid out, and started later.
    pub planned: bool,
    /// For whom.
    pub targets: Vec<NewTarget>,
}

/// One agent of a campaign to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTarget {
    /// The agent.
    pub agent: AgentId,
    /// What it reported last.
    pub from_version: Option<Reported>,
    /// Its wave, from 0.
    pub wave: u32,
}

/// What a campaign says to people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CampaignWords {
    /// Release notes.
    pub notes: String,
    /// Whom to tell if it halts.
    pub vendor: Option<MailAddress>,
}

impl Tx<'_> {
    /// Keeps a bundle's facts; nothing changes if they are kept already.
    ///
    /// # Errors
    /// The database's.
    pub fn add_bundle(&self, bundle: &BundleRecord) -> TxResult<()> {
        self.0.execute(
            "INSERT INTO bundles (digest, file, bytes, software_version, added_at) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (digest) DO NOTHING",
            params![
                bundle.digest.0,
                bundle.file,
                signed(bundle.bytes),
                bundle.software_version.as_str(),
                bundle.added_at.0
            ],
        )?;
        Ok(())
    }

    /// A bundle by its digest.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn bundle(&self, wanted: Digest) -> TxResult<Option<BundleRecord>> {
        let mut statement = self.0.prepare_cached("SELECT * FROM bundles WHERE digest = ?1")?;
        let mut rows = statement.query([wanted.0])?;
        rows.next()?
            .map(|row| {
                Ok(BundleRecord {
                    digest: digest(row, "digest")?,
                    file: row.get("file")?,
                    bytes: unsigned(row, "bytes")?,
                    software_version: version(row, "software_version")?,
                    added_at: time(row, "added_at")?,
                })
            })
            .transpose()
    }

    /// Starts a campaign: it and all its targets, or nothing.
    ///
    /// # Errors
    /// The database's; an agent or bundle that is not kept.
    pub fn start_campaign(&self, new: &NewCampaign, now: UnixMillis) -> TxResult<CampaignId> {
        self.0.execute(
            "INSERT INTO campaigns (name, bundle, software_version, from_versions, classes, settle_ms,
                 reply_timeout_ms, retries, order_life_ms, state, created, rollout, test, notes, vendor)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
            params![
                new.name.as_str(),
                new.bundle.digest.0,
                new.bundle.software_version.as_str(),
                lines(&new.bundle.from),
                lines(&new.bundle.classes),
                millis(new.settings.settle),
                millis(new.settings.reply_timeout),
                new.settings.retries,
                millis(new.settings.order_life),
                if new.planned { CampaignState::Planned } else { CampaignState::Running }.as_str(),
                now.0,
                to_cbor(&new.rollout),
                new.bundle.test.as_ref().map(to_cbor),
                new.notes,
                new.vendor.as_ref().map_or("", MailAddress::as_str),
            ],
        )?;
        let id = CampaignId(self.0.last_insert_rowid());
        for target in &new.targets {
            let fresh = Target::new(target.from_version.clone(), new.settings.retries).in_wave(target.wave);
            self.save_target(id, &target.agent, &fresh)?;
        }
        Ok(id)
    }

    /// A campaign with all its targets.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn campaign(&self, id: CampaignId) -> TxResult<Option<Campaign>> {
        let Some(mut campaign) = self.campaign_head(id)? else { return Ok(None) };
        let mut statement = self.0.prepare_cached("SELECT agent, detail FROM targets WHERE campaign = ?1")?;
        let mut rows = statement.query([id.0])?;
        while let Some(row) = rows.next()? {
            campaign.targets.insert(agent_id(row, "agent")?, target(row)?);
        }
        Ok(Some(campaign))
    }

    /// A campaign with one of its targets only; none if the agent is not one. Enough to apply an event.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn campaign_for(&self, id: CampaignId, agent: &AgentId) -> TxResult<Option<Campaign>> {
        let mut statement =
            self.0.prepare_cached("SELECT detail FROM targets WHERE campaign = ?1 AND agent = ?2")?;
        let mut rows = statement.query(params![id.0, agent.as_str()])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let one = target(row)?;
        let head = self.campaign_head(id)?;
        Ok(head.map(|head| Campaign { targets: BTreeMap::from([(agent.clone(), one)]), ..head }))
    }

    fn campaign_head(&self, id: CampaignId) -> TxResult<Option<Campaign>> {
        let mut statement = self.0.prepare_cached("SELECT * FROM campaigns WHERE id = ?1")?;
        let mut rows = statement.query([id.0])?;
        rows.next()?.map(head).transpose()
    }

    /// All campaigns without their targets, with the number of targets in each state.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn campaigns(&self) -> TxResult<Vec<(Campaign, BTreeMap<TargetState, u64>)>> {
        let mut statement = self.0.prepare_cached("SELECT * FROM campaigns ORDER BY id")?;
        let mut rows = statement.query([])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let campaign = head(row)?;
            let counts = self.target_counts(campaign.id)?;
            all.push((campaign, counts));
        }
        Ok(all)
    }

    /// The number of a campaign's targets in each state.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn target_counts(&self, id: CampaignId) -> TxResult<BTreeMap<TargetState, u64>> {
        let mut statement = self
            .0
            .prepare_cached("SELECT state, count(*) AS n FROM targets WHERE campaign = ?1 GROUP BY state")?;
        let mut rows = statement.query([id.0])?;
        let mut counts = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let text: String = row.get("state")?;
            let state = TargetState::parse(&text).ok_or_else(|| bad("target state", text))?;
            counts.insert(state, unsigned(row, "n")?);
        }
        Ok(counts)
    }

    /// Campaigns that the daemon works on: running ones, and cancelled ones that still wait for answers.
    ///
    /// # Errors
    /// The database's.
    pub fn live_campaigns(&self) -> TxResult<Vec<CampaignId>> {
        let mut statement = self.0.prepare_cached(
            "SELECT id FROM campaigns WHERE state IN ('running', 'paused', 'halted') OR (state = 'cancelled' AND EXISTS (
                 SELECT 1 FROM targets WHERE campaign = campaigns.id
                     AND state IN ('pending', 'asked', 'queued', 'mailed', 'received', 'deferred', 'installed')))
             ORDER BY id",
        )?;
        let ids = statement.query_map([], |row| row.get(0).map(CampaignId))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }

    /// Campaigns that a report of an agent may be about: the live ones that it is in, and the one of the
    /// order that the report answers.
    ///
    /// # Errors
    /// The database's.
    pub fn campaigns_of(&self, agent: &AgentId, answers: Option<EnvelopeId>) -> TxResult<Vec<CampaignId>> {
        let mut statement = self.0.prepare_cached(
            "SELECT c.id FROM campaigns c JOIN targets t ON t.campaign = c.id
             WHERE t.agent = ?1 AND (c.state <> 'finished'
                 OR c.id = (SELECT campaign FROM outbox WHERE envelope = ?2))
             ORDER BY c.id",
        )?;
        let answered = answers.map(|id| id.0);
        let ids = statement.query_map(params![agent.as_str(), answered], |row| row.get(0).map(CampaignId))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }

    /// Every campaign that an agent was ever in.
    ///
    /// # Errors
    /// The database's.
    pub fn all_campaigns_of(&self, agent: &AgentId) -> TxResult<Vec<CampaignId>> {
        let mut statement =
            self.0.prepare_cached("SELECT campaign FROM targets WHERE agent = ?1 ORDER BY campaign")?;
        let ids = statement.query_map([agent.as_str()], |row| row.get(0).map(CampaignId))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }

    /// Saves a campaign's state and its way through its targets.
    ///
    /// # Errors
    /// The database's.
    pub fn save_campaign(&self, campaign: &Campaign) -> TxResult<()> {
        self.0.execute(
            "UPDATE campaigns SET state = ?2, rollout = ?3 WHERE id = ?1",
            params![campaign.id.0, campaign.state.as_str(), to_cbor(&campaign.rollout)],
        )?;
        Ok(())
    }

    /// What a campaign says to people.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn campaign_words(&self, id: CampaignId) -> TxResult<CampaignWords> {
        let mut statement = self.0.prepare_cached("SELECT notes, vendor FROM campaigns WHERE id = ?1")?;
        let mut rows = statement.query([id.0])?;
        let Some(row) = rows.next()? else { return Ok(CampaignWords::default()) };
        Ok(CampaignWords { notes: row.get("notes")?, vendor: opt_mail(row, "vendor")? })
    }

    /// Saves a target.
    ///
    /// # Errors
    /// The database's.
    pub fn save_target(&self, id: CampaignId, agent: &AgentId, target: &Target) -> TxResult<()> {
        self.0
            .prepare_cached(
                "INSERT INTO targets (campaign, agent, state, detail) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (campaign, agent) DO UPDATE SET state = excluded.state, detail = excluded.detail",
            )?
            .execute(params![id.0, agent.as_str(), target.state.as_str(), to_cbor(target)])?;
        Ok(())
    }

    /// What the planner needs to know of a campaign's agents.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn fleet(&self, campaign: &Campaign) -> TxResult<Fleet> {
        let mut statement = self.0.prepare_cached(
            "SELECT a.id, a.classes, a.state, a.versions, a.consent, a.admin, a.penalty_until
             FROM agents a JOIN targets t ON t.agent = a.id WHERE t.campaign = ?1",
        )?;
        let mut rows = statement.query([campaign.id.0])?;
        let mut fleet = Fleet::new();
        while let Some(row) = rows.next()? {
            let report: Option<Vec<u8>> = row.get("versions")?;
            let report: Option<shared::message::VersionReport> =
                report.as_deref().map(|bytes| cbor("version report", bytes)).transpose()?;
            let facts = AgentFacts {
                classes: labels(row, "classes")?,
                enrolled: row.get::<_, String>("state")? == "enrolled",
                version: report.map(|report| report.software),
                consent: standing(row)?,
                has_admin: !row.get::<_, String>("admin")?.is_empty(),
                penalty_until: opt_time(row, "penalty_until")?,
                grave_faults: Vec::new(),
            };
            fleet.insert(agent_id(row, "id")?, facts);
        }
        for agent in campaign.agents_to_try_first() {
            if let Some(facts) = fleet.get_mut(agent) {
                facts.grave_faults = self.grave_faults(agent, campaign.created)?;
            }
        }
        Ok(fleet)
    }

    /// Faults of class A and B behind an agent that were reported after a time, the newest last.
    fn grave_faults(&self, agent: &AgentId, after: UnixMillis) -> TxResult<Vec<GraveFault>> {
        let mut statement = self.0.prepare_cached(
            "SELECT device, text, code, reported_at FROM faults
             WHERE agent = ?1 AND reported_at > ?2 AND fault_class IN ('A', 'B') ORDER BY reported_at, device, key",
        )?;
        let mut rows = statement.query(params![agent.as_str(), after.0])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let (device, text, code): (String, String, String) =
                (row.get("device")?, row.get("text")?, row.get("code")?);
            let what = format!("{device}: {}", if text.is_empty() { code } else { text });
            found.push(GraveFault { reported_at: time(row, "reported_at")?, what });
        }
        Ok(found)
    }

    /// The sealed body of a campaign's orders, once it is made.
    ///
    /// # Errors
    /// The database's.
    pub fn campaign_body(&self, id: CampaignId) -> TxResult<Option<i64>> {
        let body: Option<Option<i64>> = self
            .0
            .query_row("SELECT body FROM campaigns WHERE id = ?1", [id.0], |row| row.get(0))
            .optional()?;
        Ok(body.flatten())
    }

    /// Notes the sealed body of a campaign's orders.
    ///
    /// # Errors
    /// The database's.
    pub fn set_campaign_body(&self, id: CampaignId, body: i64) -> TxResult<()> {
        self.0.execute("UPDATE campaigns SET body = ?2 WHERE id = ?1", params![id.0, body])?;
        Ok(())
    }
}

fn target(row: &Row<'_>) -> TxResult<Target> {
    cbor("target", &row.get::<_, Vec<u8>>("detail")?)
}

pub(super) fn standing(row: &Row<'_>) -> TxResult<Standing> {
    let text: String = row.get("consent")?;
    Standing::parse(&text).ok_or_else(|| bad("consent", text))
}

fn head(row: &Row<'_>) -> TxResult<Campaign> {
    let state: String = row.get("state")?;
    let (rollout, test): (Option<Vec<u8>>, Option<Vec<u8>>) = (row.get("rollout")?, row.get("test")?);
    let created = time(row, "created")?;
    Ok(Campaign {
        id: CampaignId(row.get("id")?),
        name: label(row, "name")?,
        bundle: BundleFacts {
            digest: digest(row, "bundle")?,
            software_version: version(row, "software_version")?,
            from: versions(row, "from_versions")?,
            classes: labels(row, "classes")?,
            test: test.as_deref().map(|bytes| cbor("test", bytes)).transpose()?,
        },
        settings: Settings {
            settle: duration(row, "settle_ms")?,
            reply_timeout: duration(row, "reply_timeout_ms")?,
            retries: row.get("retries")?,
            order_life: duration(row, "order_life_ms")?,
        },
        rollout: match rollout {
            Some(bytes) => cbor("rollout", &bytes)?,
            None => Rollout::at_once_since(created),
        },
        state: CampaignState::parse(&state).ok_or_else(|| bad("campaign state", state))?,
        created,
        targets: BTreeMap::new(),
    })
}
