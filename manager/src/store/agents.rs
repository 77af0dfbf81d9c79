//! Agents and their invitations.

use manager_core::consent::Language;
use manager_core::enrol::Enrolment;
use manager_core::penalty;
use manager_core::window::{Windows, Zone};
use rusqlite::{OptionalExtension as _, Row, params};
use shared::keys::{SealingKey, VerifyingKey};
use shared::message::{Budget, EnrolRequest, Standing, VersionReport};
use shared::{AgentId, Digest, KeyId, Label, MailAddress, UnixMillis};

use super::campaigns::standing;
use super::rows::{
    agent_id, bad, cbor, label, labels, lines, mail, opt_mail, opt_time, signed, time, to_cbor, unsigned,
};
use super::{Tx, TxResult};
use crate::registry::Terms;

/// An agent to add: it is invited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAgent {
    /// Its ID.
    pub id: AgentId,
    /// Where it reads its mail.
    pub mail: MailAddress,
    /// Its classes.
    pub classes: Vec<Label>,
    /// Its site.
    pub site: Label,
    /// The operator's note.
    pub note: Label,
    /// Who administers its site.
    pub admin: Option<MailAddress>,
    /// What else is written down about its site.
    pub terms: Terms,
    /// SHA-256 of the invitation's secret.
    pub secret_digest: Digest,
    /// Until when the invitation can be used.
    pub invite_expires: UnixMillis,
}

/// How far an agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AgentState {
    /// It has an invitation.
    Invited,
    /// Its keys are accepted.
    Enrolled,
    /// The operator has removed it: its reports are refused, its history stays.
    Removed,
}

impl AgentState {
    /// Its name in the store, JSON and tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invited => "invited",
            Self::Enrolled => "enrolled",
            Self::Removed => "removed",
        }
    }

    fn parse(text: &str) -> TxResult<Self> {
        [Self::Invited, Self::Enrolled, Self::Removed]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| bad("agent state", text))
    }
}

/// What is kept of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentRecord {
    /// Its ID.
    pub id: AgentId,
    /// Where it reads its mail.
    pub mail: MailAddress,
    /// Its classes.
    pub classes: Vec<Label>,
    /// Its site.
    pub site: Label,
    /// The operator's note.
    pub note: Label,
    /// Who administers its site.
    pub admin: Option<MailAddress>,
    /// What else is written down about its site.
    pub terms: Terms,
    /// How far it is.
    pub state: AgentState,
    /// When it was added.
    pub added_at: UnixMillis,
    /// Until when its invitation can be used.
    pub invite_expires: UnixMillis,
    /// When its keys were accepted.
    pub enrolled_at: Option<UnixMillis>,
    /// Version of its agent program.
    pub agent_version: String,
    /// When its last report came.
    pub last_report_at: Option<UnixMillis>,
    /// Its newest version report.
    pub versions: Option<VersionReport>,
    /// When that came.
    pub versions_at: Option<UnixMillis>,
    /// Signs its reports; `None` until enrolled.
    pub sign_key: Option<VerifyingKey>,
    /// Orders are sealed to it; `None` until enrolled.
    pub seal_key: Option<SealingKey>,
    /// The trust that it says it holds; `None`: it has not said, so that of its invitation.
    pub trust_version: Option<u32>,
    /// It has heard no heartbeat since then; `None`: it hears them.
    pub unheard_since: Option<UnixMillis>,
    /// When its keys came; `None` until enrolled.
    pub keys_at: Option<UnixMillis>,
    /// When it was asked for new keys that have not come; `None`: nothing is open.
    pub rekey_ordered: Option<UnixMillis>,
    /// It has failed too often: nothing is mailed to it before this.
    pub penalty_until: Option<UnixMillis>,
}

fn terms(row: &Row<'_>) -> TxResult<Terms> {
    let (zone, windows): (String, String) = (row.get("zone")?, row.get("windows")?);
    let (language, attributes): (String, String) = (row.get("language")?, row.get("attributes")?);
    let attribute = |line: &str| {
        let (name, value) = line.split_once('=').ok_or_else(|| bad("attributes", line))?;
        Ok((name.to_owned(), Label::parse(value).map_err(|err| bad("attributes", err))?))
    };
    Ok(Terms {
        vendor: label(row, "vendor")?,
        tags: labels(row, "tags")?,
        attributes: attributes.lines().map(attribute).collect::<TxResult<_>>()?,
        zone: if zone.is_empty() {
            Zone::utc()
        } else {
            Zone::parse(&zone).map_err(|err| bad("zone", err))?
        },
        windows: if windows.is_empty() {
            None
        } else {
            Some(Windows::parse(&windows).map_err(|err| bad("windows", err))?)
        },
        consent: standing(row)?,
        language: Language::parse(&language).ok_or_else(|| bad("language", language))?,
        fallback: opt_mail(row, "fallback_mail")?,
    })
}

fn record(row: &Row<'_>) -> TxResult<AgentRecord> {
    let admin: String = row.get("admin")?;
    let sign_key: Option<[u8; 32]> = row.get("sign_key")?;
    let seal_key: Option<[u8; 32]> = row.get("seal_key")?;
    let report: Option<Vec<u8>> = row.get("versions")?;
    Ok(AgentRecord {
        id: agent_id(row, "id")?,
        mail: mail(row, "mail")?,
        classes: labels(row, "classes")?,
        site: label(row, "site")?,
        note: label(row, "note")?,
        admin: if admin.is_empty() { None } else { Some(mail(row, "admin")?) },
        terms: terms(row)?,
        state: AgentState::parse(&row.get::<_, String>("state")?)?,
        added_at: time(row, "added_at")?,
        invite_expires: time(row, "invite_expires")?,
        enrolled_at: opt_time(row, "enrolled_at")?,
        agent_version: row.get("agent_version")?,
        last_report_at: opt_time(row, "last_report_at")?,
        versions: report.as_deref().map(|bytes| cbor("version report", bytes)).transpose()?,
        versions_at: opt_time(row, "versions_at")?,
        sign_key: sign_key
            .as_ref()
            .map(VerifyingKey::from_bytes)
            .transpose()
            .map_err(|e| bad("sign_key", e))?,
        seal_key: seal_key
            .as_ref()
            .map(SealingKey::from_bytes)
            .transpose()
            .map_err(|e| bad("seal_key", e))?,
        trust_version: Some(row.get("trust_version")?).filter(|version| *version > 0),
        unheard_since: opt_time(row, "unheard_since")?,
        keys_at: opt_time(row, "keys_at")?.or(opt_time(row, "enrolled_at")?),
        rekey_ordered: opt_time(row, "rekey_ordered")?,
        penalty_until: opt_time(row, "penalty_until")?,
    })
}

impl Tx<'_> {
    /// Adds an agent. False if its ID is taken, also by a removed agent: IDs are never reused.
    ///
    /// # Errors
    /// The database's.
    pub fn add_agent(&self, agent: &NewAgent, now: UnixMillis) -> TxResult<bool> {
        let mut statement = self.0.prepare_cached(
            "INSERT INTO agents (id, mail, classes, site, note, admin, state, added_at, secret_digest, invite_expires)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'invited', ?7, ?8, ?9) ON CONFLICT (id) DO NOTHING",
        )?;
        let added = statement.execute(params![
            agent.id.as_str(),
            agent.mail.as_str(),
            lines(&agent.classes),
            agent.site.as_str(),
            agent.note.as_str(),
            agent.admin.as_ref().map_or("", MailAddress::as_str),
            now.0,
            agent.secret_digest.0,
            agent.invite_expires.0,
        ])?;
        if added == 1 {
            self.set_terms(&agent.id, &agent.terms)?;
        }
        Ok(added == 1)
    }

    /// Writes down other terms of an agent's site.
    ///
    /// # Errors
    /// The database's.
    pub fn set_terms(&self, id: &AgentId, terms: &Terms) -> TxResult<()> {
        let attributes: Vec<String> =
            terms.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
        self.0
            .prepare_cached(
                "UPDATE agents SET vendor = ?2, tags = ?3, attributes = ?4, zone = ?5, windows = ?6, consent = ?7,
                     language = ?8, fallback_mail = ?9 WHERE id = ?1",
            )?
            .execute(params![
                id.as_str(),
                terms.vendor.as_str(),
                lines(&terms.tags),
                lines(&attributes),
                terms.zone.as_str(),
                terms.windows.as_ref().map_or("", Windows::as_str),
                terms.consent.as_str(),
                terms.language.as_str(),
                terms.fallback.as_ref().map_or("", MailAddress::as_str),
            ])?;
        Ok(())
    }

    /// Writes down another site, note, administrator or other classes.
    ///
    /// # Errors
    /// The database's.
    pub fn set_names(
        &self,
        id: &AgentId,
        classes: &[Label],
        site: &Label,
        note: &Label,
        admin: Option<&MailAddress>,
    ) -> TxResult<()> {
        self.0.execute(
            "UPDATE agents SET classes = ?2, site = ?3, note = ?4, admin = ?5 WHERE id = ?1",
            params![
                id.as_str(),
                lines(classes),
                site.as_str(),
                note.as_str(),
                admin.map_or("", MailAddress::as_str)
            ],
        )?;
        Ok(())
    }

    /// Forgets the failures of an agent.
    ///
    /// # Errors
    /// The database's.
    pub fn pardon(&self, id: &AgentId) -> TxResult<()> {
        self.0.execute(
            "UPDATE agents SET failures = 0, penalty_until = NULL WHERE id = ?1 AND penalty_until IS NOT NULL",
            [id.as_str()],
        )?;
        Ok(())
    }

    /// Counts a campaign's end for or against an agent.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn count_end(&self, id: &AgentId, counts: penalty::Counts, now: UnixMillis) -> TxResult<()> {
        let against: u32 = match counts {
            penalty::Counts::For => 0,
            penalty::Counts::Against => {
                let before: u32 =
                    self.0.query_row("SELECT failures FROM agents WHERE id = ?1", [id.as_str()], |row| {
                        row.get(0)
                    })?;
                before.saturating_add(1)
            }
        };
        let until = penalty::until(against, now).map(|at| at.0);
        self.0.execute(
            "UPDATE agents SET failures = ?2, penalty_until = ?3 WHERE id = ?1",
            params![id.as_str(), against, until],
        )?;
        Ok(())
    }

    /// Gives an agent a new invitation: for a box that was replaced, or a file that was lost. Its keys stay
    /// valid until the new invitation is used. False if there is no such agent.
    ///
    /// # Errors
    /// The database's.
    pub fn renew_invitation(&self, id: &AgentId, secret: Digest, expires: UnixMillis) -> TxResult<bool> {
        let changed = self.0.execute(
            "UPDATE agents SET secret_digest = ?2, invite_expires = ?3 WHERE id = ?1 AND state <> 'removed'",
            params![id.as_str(), secret.0, expires.0],
        )?;
        Ok(changed == 1)
    }

    /// Removes an agent: nothing is sent to it any more, its reports are refused. False if there is none.
    ///
    /// # Errors
    /// The database's.
    pub fn remove_agent(&self, id: &AgentId) -> TxResult<bool> {
        let changed = self.0.execute(
            "UPDATE agents SET state = 'removed' WHERE id = ?1 AND state <> 'removed'",
            [id.as_str()],
        )?;
        self.0.execute(
            "UPDATE recipients SET state = 'dropped' WHERE agent = ?1 AND state = 'queued'",
            [id.as_str()],
        )?;
        self.0.execute("DELETE FROM former_keys WHERE agent = ?1", [id.as_str()])?;
        Ok(changed == 1)
    }

    /// One agent.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn agent(&self, id: &AgentId) -> TxResult<Option<AgentRecord>> {
        let mut statement = self.0.prepare_cached("SELECT * FROM agents WHERE id = ?1")?;
        let mut rows = statement.query([id.as_str()])?;
        rows.next()?.map(record).transpose()
    }

    /// The budget of an agent's line, if it has one.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn budget(&self, id: &AgentId) -> TxResult<Option<Budget>> {
        let mut statement = self.0.prepare_cached("SELECT versions FROM agents WHERE id = ?1")?;
        let report: Option<Vec<u8>> =
            statement.query_row([id.as_str()], |row| row.get(0)).optional()?.flatten();
        let report: Option<VersionReport> =
            report.as_deref().map(|bytes| cbor("version report", bytes)).transpose()?;
        Ok(report.and_then(|report| report.line).and_then(|line| line.budget))
    }

    /// All agents but the removed, by ID.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn agents(&self) -> TxResult<Vec<AgentRecord>> {
        let mut statement =
            self.0.prepare_cached("SELECT * FROM agents WHERE state <> 'removed' ORDER BY id")?;
        let mut rows = statement.query([])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push(record(row)?);
        }
        Ok(all)
    }

    /// The agents of an administrator, but the removed, by ID.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn agents_of_admin(&self, admin: &MailAddress) -> TxResult<Vec<AgentRecord>> {
        let mut statement = self.0.prepare_cached(
            "SELECT * FROM agents WHERE admin = ?1 COLLATE NOCASE AND admin <> '' AND state <> 'removed' ORDER BY id",
        )?;
        let mut rows = statement.query([admin.as_str()])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push(record(row)?);
        }
        Ok(all)
    }

    /// All agents, also the removed, by ID: what they have reported stays.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn agents_ever(&self) -> TxResult<Vec<AgentRecord>> {
        let mut statement = self.0.prepare_cached("SELECT * FROM agents ORDER BY id")?;
        let mut rows = statement.query([])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push(record(row)?);
        }
        Ok(all)
    }

    /// What is kept of an agent's invitation.
    ///
    /// # Errors
    /// The database's.
    pub fn enrolment(&self, id: &AgentId) -> TxResult<Option<Enrolment>> {
        let mut statement = self.0.prepare_cached(
            "SELECT secret_digest, invite_expires, sign_key, seal_key, enrolled_with IS secret_digest
             FROM agents WHERE id = ?1 AND state <> 'removed'",
        )?;
        let found = statement
            .query_row([id.as_str()], |row| {
                let keys: (Option<[u8; 32]>, Option<[u8; 32]>) = (row.get(2)?, row.get(3)?);
                let used: bool = row.get(4)?;
                Ok(Enrolment {
                    secret_digest: Digest(row.get(0)?),
                    expires: UnixMillis(row.get(1)?),
                    used_by: if used { keys.0.zip(keys.1) } else { None },
                })
            })
            .optional()?;
        Ok(found)
    }

    /// Accepts an agent's keys, and notes which secret was used for it. With a new key it is another box: what
    /// the old one had installed says nothing of it, and its keys are worth nothing.
    ///
    /// # Errors
    /// The database's.
    pub fn enrol(&self, request: &EnrolRequest, key_id: KeyId, now: UnixMillis) -> TxResult<()> {
        self.0.execute("DELETE FROM former_keys WHERE agent = ?1", [request.agent.as_str()])?;
        self.0.execute(
            "UPDATE agents SET state = 'enrolled', sign_key = ?2, key_id = ?3, seal_key = ?4, mail = ?5,
                 agent_version = ?6, enrolled_at = ?7, enrolled_with = secret_digest, last_report_at = ?7,
                 keys_at = ?7, rekey_ordered = NULL, versions_seq = 0, trust_version = 0, unheard_since = NULL, standing_seq = 0,
                 versions = CASE WHEN sign_key = ?2 THEN versions END,
                 versions_at = CASE WHEN sign_key = ?2 THEN versions_at END
             WHERE id = ?1",
            params![
                request.agent.as_str(),
                request.sign_key,
                key_id.0,
                request.seal_key,
                request.mail.as_str(),
                request.agent_version.as_str(),
                now.0,
            ],
        )?;
        Ok(())
    }

    /// Notes that an agent was heard, and its version report if it brought a newer one.
    ///
    /// # Errors
    /// The database's.
    pub fn heard(
        &self,
        id: &AgentId,
        sequence: u64,
        versions: Option<&VersionReport>,
        now: UnixMillis,
    ) -> TxResult<()> {
        self.0
            .prepare_cached("UPDATE agents SET last_report_at = ?2 WHERE id = ?1")?
            .execute(params![id.as_str(), now.0])?;
        if let Some(report) = versions {
            // PROTOCOL 8.2: a report that was overtaken on its way does not replace the newer one.
            self.0
                .prepare_cached(
                    "UPDATE agents SET versions = ?2, versions_seq = ?3, versions_at = ?4
                     WHERE id = ?1 AND versions_seq < ?3",
                )?
                .execute(params![id.as_str(), to_cbor(report), signed(sequence), now.0])?;
        }
        Ok(())
    }

    /// Notes how an agent stands to us. False if a newer report has said so already (PROTOCOL 8.2).
    ///
    /// # Errors
    /// The database's.
    pub fn stands(&self, id: &AgentId, sequence: u64, standing: &Standing) -> TxResult<bool> {
        let changed = self.0.execute(
            "UPDATE agents SET trust_version = ?2, unheard_since = ?3, standing_seq = ?4
             WHERE id = ?1 AND standing_seq < ?4",
            params![
                id.as_str(),
                standing.trust_version,
                standing.unheard_since.map(|at| at.0),
                signed(sequence)
            ],
        )?;
        Ok(changed == 1)
    }

    /// Every agent that gets orders.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn enrolled_agents(&self) -> TxResult<Vec<AgentId>> {
        let mut statement =
            self.0.prepare_cached("SELECT id FROM agents WHERE state = 'enrolled' ORDER BY id")?;
        let mut rows = statement.query([])?;
        let mut agents = Vec::new();
        while let Some(row) = rows.next()? {
            agents.push(agent_id(row, "id")?);
        }
        Ok(agents)
    }

    /// Newest report times and creation times that the store knows: a clock behind them is wrong. For `doctor`.
    ///
    /// # Errors
    /// The database's.
    pub fn newest_time(&self) -> TxResult<Option<UnixMillis>> {
        let newest: Option<i64> = self.0.query_row(
            "SELECT max(t) FROM (SELECT max(last_report_at) AS t FROM agents UNION SELECT max(created) FROM outbox)",
            [],
            |row| row.get(0),
        )?;
        Ok(newest.map(UnixMillis))
    }

    /// Agents by state.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn agent_counts(&self) -> TxResult<Vec<(AgentState, u64)>> {
        let mut statement =
            self.0.prepare_cached("SELECT state, count(*) AS n FROM agents GROUP BY state ORDER BY state")?;
        let mut rows = statement.query([])?;
        let mut counts = Vec::new();
        while let Some(row) = rows.next()? {
            counts.push((AgentState::parse(&row.get::<_, String>("state")?)?, unsigned(row, "n")?));
        }
        Ok(counts)
    }
}
