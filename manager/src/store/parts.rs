//! Which bytes of their bodies recipients still lack, and how large a mail may be on the way to them.

use manager_core::CampaignId;
use manager_core::parts::Asked;
use manager_core::path::Path;
use rusqlite::{OptionalExtension as _, params};
use shared::{AgentId, EnvelopeId, MailAddress, Spans, UnixMillis};

use super::delivery::address_in_use;
use super::rows::{bad, cbor, opt_time, signed, time, to_cbor, unsigned};
use super::{Tx, TxResult};

/// One recipient of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartsRecord {
    /// The campaign of the order, if any.
    pub campaign: Option<CampaignId>,
    /// From when on the order must not be executed.
    pub expires: UnixMillis,
    /// When it was made.
    pub created: UnixMillis,
    /// Size of the body.
    pub body_bytes: u64,
    /// The body is a file, and so can go in parts.
    pub is_file: bool,
    /// The address that mails go to.
    pub mail: MailAddress,
    /// What is still to be mailed of the body; `None`: all.
    pub wanted: Option<Spans>,
    /// About the size of the mails of it.
    pub mail_bytes: u64,
    /// How often the agent has asked for parts.
    pub asked: Asked,
    /// Whether mails of it go out.
    pub mailing: Mailing,
}

/// Whether mails of a body go out to a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mailing {
    /// One waits for the relay.
    Queued,
    /// All that were asked for are out.
    Out,
    /// Never again: the order was cancelled or has expired.
    Dropped,
}

impl Tx<'_> {
    /// A recipient of an order, if it is one.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn parts_of(&self, envelope: EnvelopeId, agent: &AgentId) -> TxResult<Option<PartsRecord>> {
        let mut statement = self.0.prepare_cached(
            "SELECT r.*, a.mail, a.fallback_mail, o.campaign, o.created, o.expires, b.bytes, b.file
             FROM recipients r JOIN outbox o ON o.envelope = r.envelope
                 JOIN agents a ON a.id = r.agent JOIN bodies b ON b.id = o.body
             WHERE r.envelope = ?1 AND r.agent = ?2",
        )?;
        let mut rows = statement.query(params![envelope.0, agent.as_str()])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let (wanted, state): (Option<Vec<u8>>, String) = (row.get("wanted")?, row.get("state")?);
        Ok(Some(PartsRecord {
            campaign: row.get::<_, Option<i64>>("campaign")?.map(CampaignId),
            expires: time(row, "expires")?,
            created: time(row, "created")?,
            body_bytes: unsigned(row, "bytes")?,
            is_file: row.get::<_, Option<String>>("file")?.is_some(),
            mail: address_in_use(row)?.0,
            wanted: wanted.map(|bytes| cbor("wanted", &bytes)).transpose()?,
            mail_bytes: unsigned(row, "mail_bytes")?,
            asked: Asked { count: row.get("asks")?, since: time(row, "asks_since")? },
            mailing: match state.as_str() {
                "queued" => Mailing::Queued,
                "dropped" => Mailing::Dropped,
                _ => Mailing::Out,
            },
        }))
    }

    /// Notes what is still to be mailed of a body to a recipient.
    ///
    /// # Errors
    /// The database's.
    pub fn want_parts(&self, envelope: EnvelopeId, agent: &AgentId, wanted: &Spans) -> TxResult<()> {
        self.0
            .prepare_cached("UPDATE recipients SET wanted = ?3 WHERE envelope = ?1 AND agent = ?2")?
            .execute(params![envelope.0, agent.as_str(), to_cbor(wanted)])?;
        Ok(())
    }

    /// Notes a request for parts: they are mailed after `at`, together with those that other agents have asked for by then.
    ///
    /// # Errors
    /// The database's.
    pub fn parts_asked(
        &self,
        envelope: EnvelopeId,
        agent: &AgentId,
        wanted: &Spans,
        asked: Asked,
        (now, at): (UnixMillis, UnixMillis),
    ) -> TxResult<()> {
        let soon: Option<i64> = self.0.query_row(
            "SELECT min(next_try) FROM recipients WHERE envelope = ?1 AND state = 'queued' AND next_try > ?2",
            params![envelope.0, now.0],
            |row| row.get(0),
        )?;
        let at = soon.map_or(at, |soon| at.min(UnixMillis(soon)));
        self.0.execute(
            "UPDATE recipients SET wanted = ?3, asks = ?4, asks_since = ?5, failures = 0,
                 next_try = CASE state WHEN 'queued' THEN next_try ELSE ?6 END, state = 'queued'
             WHERE envelope = ?1 AND agent = ?2",
            params![envelope.0, agent.as_str(), to_cbor(wanted), asked.count, asked.since.0, at.0],
        )?;
        Ok(())
    }

    /// The agent has all of the body: nothing of it is mailed any more.
    ///
    /// # Errors
    /// The database's.
    pub fn parts_arrived(&self, envelope: EnvelopeId, agent: &AgentId) -> TxResult<()> {
        self.0.execute(
            "UPDATE recipients SET wanted = ?3, state = CASE state WHEN 'queued' THEN 'sent' ELSE state END
             WHERE envelope = ?1 AND agent = ?2 AND wanted IS NOT NULL",
            params![envelope.0, agent.as_str(), to_cbor(&Spans::default())],
        )?;
        Ok(())
    }

    /// What is known of the way to a domain; `""`: of the way to the manager's own relay.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn path(&self, domain: &str) -> TxResult<Path> {
        let mut statement = self.0.prepare_cached("SELECT * FROM paths WHERE domain = ?1")?;
        let mut rows = statement.query([domain.to_ascii_lowercase()])?;
        let Some(row) = rows.next()? else { return Ok(Path::default()) };
        let most: Option<i64> = row.get("mail_max")?;
        let most = most.map(|most| u64::try_from(most).map_err(|err| bad("mail_max", err))).transpose()?;
        Ok(Path { taken_bytes: unsigned(row, "taken")?, limit: most.zip(opt_time(row, "learned_at")?) })
    }

    /// Keeps what is known of a way.
    ///
    /// # Errors
    /// The database's.
    pub fn save_path(&self, domain: &str, path: &Path) -> TxResult<()> {
        let (most, at) = path.limit.map(|(most, at)| (signed(most), at.0)).unzip();
        self.0.execute(
            "INSERT INTO paths (domain, taken, mail_max, learned_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (domain) DO UPDATE SET taken = excluded.taken, mail_max = excluded.mail_max,
                 learned_at = excluded.learned_at",
            params![domain.to_ascii_lowercase(), signed(path.taken_bytes), most, at],
        )?;
        Ok(())
    }

    /// True if some body has gone to an agent in parts, under another envelope.
    ///
    /// # Errors
    /// The database's.
    pub(super) fn had_parts(&self, body: i64, agent: &AgentId) -> TxResult<bool> {
        let mut statement = self.0.prepare_cached(
            "SELECT 1 FROM recipients r JOIN outbox o ON o.envelope = r.envelope
             WHERE r.agent = ?2 AND o.body = ?1 AND r.wanted IS NOT NULL LIMIT 1",
        )?;
        Ok(statement.query_row(params![body, agent.as_str()], |_| Ok(())).optional()?.is_some())
    }
}
