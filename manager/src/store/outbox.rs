//! Sealed bodies, and the orders that are to be mailed: one row per envelope, one per recipient.

use manager_core::CampaignId;
use manager_core::delivery::Second;
use manager_core::parts::is_announced;
use rusqlite::{Row, params};
use shared::envelope::{ContentKey, SealedBody};
use shared::keys::SealingKey;
use shared::{AgentId, EnvelopeId, MailAddress, Spans, UnixMillis};

use super::delivery::{MailedAgain, address_in_use};
use super::rows::{agent_id, bad, cbor, digest, envelope, signed, time, to_cbor, unsigned};
use super::{Tx, TxResult};

/// Begins with the few that are due: the outbox keeps the orders of years. Bundles come last: what is said in a kilobyte does not wait
/// until gigabytes have gone out.
pub(super) const DUE_LINE: &str =
    "SELECT o.envelope FROM recipients r CROSS JOIN outbox o ON o.envelope = r.envelope
     WHERE r.state = 'queued' AND r.next_try <= ?1
     GROUP BY o.envelope ORDER BY o.kind = 'install', o.sequence LIMIT ?2";

pub(super) const DUE_OF: &str =
    "SELECT r.agent, r.attempts, r.failures, r.wanted, r.second, a.mail, a.fallback_mail, a.seal_key
     FROM recipients r JOIN agents a ON a.id = r.agent
     WHERE r.envelope = ?1 AND r.state = 'queued' AND r.next_try <= ?2 ORDER BY r.agent";

pub(super) const NEXT_TRY: &str = "SELECT min(next_try) FROM recipients WHERE state = 'queued'";

/// Begins with the few that wait for the relay.
pub(super) const DROP_QUEUED_HEARTBEATS: &str = "UPDATE recipients SET state = 'dropped'
     WHERE state = 'queued'
         AND (SELECT kind FROM outbox o WHERE o.envelope = recipients.envelope) = 'heartbeat'";

/// Begins with the agent's own rows: it is asked for each of ten thousand targets that end at once. A plan for devices stays: with its
/// target's end it only begins to count.
pub(super) const DROP_QUEUED: &str = "UPDATE recipients SET state = 'dropped'
     WHERE agent = ?2 AND state = 'queued'
         AND (SELECT campaign FROM outbox o
                  WHERE o.envelope = recipients.envelope AND o.kind <> 'device-plan') = ?1";

/// A body that was just sealed.
#[derive(Clone, Debug)]
pub struct NewBody {
    /// Its key.
    pub key: ContentKey,
    /// Its size and digest.
    pub sealed: SealedBody,
    /// Where it is.
    pub place: BodyPlace,
}

/// Where a sealed body is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyPlace {
    /// In the store: queries and the like.
    Here(Vec<u8>),
    /// In a file of this name in the home's folder `bodies`: bundles.
    File(String),
}

/// A sealed body.
#[derive(Clone, Debug)]
pub struct BodyRecord {
    /// Its key.
    pub key: ContentKey,
    /// Its size and digest.
    pub sealed: SealedBody,
    /// Where it is.
    pub place: BodyPlace,
}

/// What an order is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OrderKind {
    /// Install a bundle.
    Install,
    /// Report versions.
    Query,
    /// Withdraw an order.
    Cancel,
    /// Confirm an enrolment.
    Enrolled,
    /// Say that the manager is there.
    Heartbeat,
    /// Ask for new keys.
    Rekey,
    /// Say which faults and readings have come.
    Acknowledge,
    /// Report counters.
    Counters,
    /// Say when a bundle may be installed.
    Schedule,
    /// Run the installed bundle's test.
    Test,
    /// Say when devices get the bundle's firmware.
    DevicePlan,
}

impl OrderKind {
    const ALL: [(Self, &'static str); 11] = [
        (Self::Install, "install"),
        (Self::Query, "query"),
        (Self::Cancel, "cancel"),
        (Self::Enrolled, "enrolled"),
        (Self::Heartbeat, "heartbeat"),
        (Self::Rekey, "rekey"),
        (Self::Acknowledge, "acknowledge"),
        (Self::Counters, "counters"),
        (Self::Schedule, "schedule"),
        (Self::Test, "test"),
        (Self::DevicePlan, "device-plan"),
    ];

    /// Its name in the store and in the mail's subject.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    pub(super) fn parse(text: &str) -> TxResult<Self> {
        let found = Self::ALL.iter().find(|(_, name)| *name == text).map(|(kind, _)| *kind);
        found.ok_or_else(|| bad("order kind", text))
    }
}

/// An order to put into the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOrder<'a> {
    /// Its identity.
    pub envelope: EnvelopeId,
    /// Its sealed body.
    pub body: i64,
    /// What it is for.
    pub kind: OrderKind,
    /// The campaign that it belongs to, if any.
    pub campaign: Option<CampaignId>,
    /// When it is made.
    pub created: UnixMillis,
    /// From when on it must not be executed.
    pub expires: UnixMillis,
    /// For whom.
    pub agents: &'a [AgentId],
}

/// An order of which some recipients are due now.
#[derive(Clone, Debug)]
pub struct Due {
    /// Its identity.
    pub envelope: EnvelopeId,
    /// Its sequence number.
    pub sequence: u64,
    /// Its sealed body.
    pub body: i64,
    /// What it is for.
    pub kind: OrderKind,
    /// The campaign that it belongs to, if any.
    pub campaign: Option<CampaignId>,
    /// When it was made.
    pub created: UnixMillis,
    /// From when on it must not be executed.
    pub expires: UnixMillis,
    /// The recipients that are due.
    pub recipients: Vec<Recipient>,
}

/// One recipient of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The agent.
    pub agent: AgentId,
    /// The address that the mail goes to.
    pub mail: MailAddress,
    /// Its key now.
    pub seal_key: SealingKey,
    /// Whether that is its second address, or whether it has one.
    pub second: Second,
    /// How often the relay was asked, once it is asked: this time included.
    pub attempts: u32,
    /// How often in a row it did not take it.
    pub failures: u32,
    /// What is still to be mailed of the body; `None`: all.
    pub wanted: Option<Spans>,
}

/// What the relay said of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecipientOutcome {
    /// It has taken the mail.
    Sent,
    /// It has taken one part; the next follows.
    More {
        /// When: now.
        at: UnixMillis,
    },
    /// It has not, and is asked again then.
    Later {
        /// When.
        next_try: UnixMillis,
        /// What it said.
        answer: String,
    },
    /// It never will, and the mail goes to the same or the second address again.
    Again(MailedAgain),
    /// It never will.
    Refused {
        /// What it said.
        answer: String,
    },
    /// Nobody is asked any more: the order has expired.
    Dropped,
}

impl Tx<'_> {
    /// Keeps a sealed body; gives its number.
    ///
    /// # Errors
    /// The database's.
    pub fn add_body(&self, body: &NewBody) -> TxResult<i64> {
        let (content, file) = match &body.place {
            BodyPlace::Here(bytes) => (Some(bytes), None),
            BodyPlace::File(name) => (None, Some(name)),
        };
        self.0.execute(
            "INSERT INTO bodies (content_key, bytes, digest, content, file) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![body.key.as_bytes(), signed(body.sealed.bytes), body.sealed.digest.0, content, file],
        )?;
        Ok(self.0.last_insert_rowid())
    }

    /// A sealed body by its number.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn body(&self, id: i64) -> TxResult<BodyRecord> {
        let mut statement = self.0.prepare_cached("SELECT * FROM bodies WHERE id = ?1")?;
        let mut rows = statement.query([id])?;
        let row = rows.next()?.ok_or_else(|| bad("body number", id))?;
        let (content, file): (Option<Vec<u8>>, Option<String>) = (row.get("content")?, row.get("file")?);
        let place = match (content, file) {
            (Some(bytes), None) => BodyPlace::Here(bytes),
            (None, Some(name)) => BodyPlace::File(name),
            _ => return Err(bad("body", id)),
        };
        Ok(BodyRecord {
            key: ContentKey::from_bytes(row.get("content_key")?),
            sealed: SealedBody { bytes: unsigned(row, "bytes")?, digest: digest(row, "digest")? },
            place,
        })
    }

    /// Names of the body files that the store knows.
    ///
    /// # Errors
    /// The database's.
    pub fn body_files(&self) -> TxResult<Vec<String>> {
        let mut statement = self.0.prepare_cached("SELECT file FROM bodies WHERE file IS NOT NULL")?;
        let names = statement.query_map([], |row| row.get(0))?;
        Ok(names.collect::<Result<_, _>>()?)
    }

    /// Puts an order into the outbox, with the next sequence number. Agents that are not enrolled are left out.
    ///
    /// # Errors
    /// The database's.
    pub fn queue(&self, order: &NewOrder<'_>) -> TxResult<()> {
        let sequence: i64 = self.0.query_row(
            "UPDATE counters SET value = value + 1 WHERE name = 'order_sequence' RETURNING value",
            [],
            |row| row.get(0),
        )?;
        self.0.execute(
            "INSERT INTO outbox (envelope, sequence, body, kind, campaign, created, expires)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                order.envelope.0,
                sequence,
                order.body,
                order.kind.as_str(),
                order.campaign.map(|id| id.0),
                order.created.0,
                order.expires.0
            ],
        )?;
        let mut statement = self.0.prepare_cached(
            "INSERT INTO recipients (envelope, agent, state, next_try, wanted)
             SELECT ?1, id, 'queued', ?3, ?4 FROM agents WHERE id = ?2 AND state = 'enrolled'",
        )?;
        for agent in order.agents {
            let install = order.kind == OrderKind::Install;
            // PROTOCOL 17.6: who may hold parts of it already is not sent them again, but asked.
            // PROTOCOL 17.13: nor is anything sent to a line with a budget before it was asked for.
            let asks = install
                && (self.had_parts(order.body, agent)?
                    || (self.is_announced(order.body)? && self.budget(agent)?.is_some()));
            let wanted = asks.then(|| to_cbor(&Spans::default()));
            statement.execute(params![order.envelope.0, agent.as_str(), order.created.0, wanted])?;
        }
        Ok(())
    }

    fn is_announced(&self, body: i64) -> TxResult<bool> {
        let mut statement = self.0.prepare_cached("SELECT bytes FROM bodies WHERE id = ?1")?;
        let mut rows = statement.query([body])?;
        let row = rows.next()?.ok_or_else(|| bad("body number", body))?;
        Ok(is_announced(unsigned(row, "bytes")?))
    }

    /// The orders with recipients that are due, at most so many, in the order in which they are to be mailed.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn due_line(&self, now: UnixMillis, most: usize) -> TxResult<Vec<EnvelopeId>> {
        let mut statement = self.0.prepare_cached(DUE_LINE)?;
        let mut rows = statement.query(params![now.0, i64::try_from(most).unwrap_or(i64::MAX)])?;
        let mut line = Vec::new();
        while let Some(row) = rows.next()? {
            line.push(envelope(row, "envelope")?);
        }
        Ok(line)
    }

    /// An order with its recipients that are due; `None` if there are none.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn due_of(&self, envelope: EnvelopeId, now: UnixMillis) -> TxResult<Option<Due>> {
        let mut statement = self.0.prepare_cached("SELECT * FROM outbox WHERE envelope = ?1")?;
        let mut rows = statement.query([envelope.0])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let mut due = due(row)?;
        let mut statement = self.0.prepare_cached(DUE_OF)?;
        let mut rows = statement.query(params![due.envelope.0, now.0])?;
        while let Some(row) = rows.next()? {
            let (mail, second) = address_in_use(row)?;
            let wanted: Option<Vec<u8>> = row.get("wanted")?;
            due.recipients.push(Recipient {
                agent: agent_id(row, "agent")?,
                mail,
                second,
                seal_key: SealingKey::from_bytes(&row.get::<_, [u8; 32]>("seal_key")?)
                    .map_err(|err| bad("seal_key", err))?,
                attempts: row.get("attempts")?,
                failures: row.get("failures")?,
                wanted: wanted.map(|bytes| cbor("wanted", &bytes)).transpose()?,
            });
        }
        Ok((!due.recipients.is_empty()).then_some(due))
    }

    /// The first of [`Tx::due_line`].
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn next_due(&self, now: UnixMillis) -> TxResult<Option<Due>> {
        self.due_line(now, 1)?.first().map_or(Ok(None), |envelope| self.due_of(*envelope, now))
    }

    /// When the next recipient is due.
    ///
    /// # Errors
    /// The database's.
    pub fn next_try(&self) -> TxResult<Option<UnixMillis>> {
        let next: Option<i64> = self.0.query_row(NEXT_TRY, [], |row| row.get(0))?;
        Ok(next.map(UnixMillis))
    }

    /// Counts an attempt with a mail of about this size (0: too small to tell anything), before the relay is spoken to.
    ///
    /// # Errors
    /// The database's.
    pub fn count_attempt(&self, envelope: EnvelopeId, agent: &AgentId, mail_bytes: u64) -> TxResult<()> {
        self.0
            .prepare_cached(
                "UPDATE recipients SET attempts = attempts + 1, mail_bytes = CASE ?3 WHEN 0 THEN mail_bytes ELSE ?3 END
                 WHERE envelope = ?1 AND agent = ?2",
            )?
            .execute(params![envelope.0, agent.as_str(), signed(mail_bytes)])?;
        Ok(())
    }

    /// Notes what the relay said at the attempt of this number. False if a bounce has set the mail on its way anew meanwhile: what the
    /// relay said is about the attempt before then.
    ///
    /// # Errors
    /// The database's.
    pub fn recipient_outcome(
        &self,
        envelope: EnvelopeId,
        agent: &AgentId,
        attempt: u32,
        outcome: &RecipientOutcome,
    ) -> TxResult<bool> {
        let (state, next_try, answer) = match outcome {
            RecipientOutcome::Sent => ("sent", None, ""),
            RecipientOutcome::More { at } => ("queued", Some(at.0), ""),
            RecipientOutcome::Later { next_try, answer } => ("queued", Some(next_try.0), answer.as_str()),
            RecipientOutcome::Again(again) => {
                return self.mail_again(envelope, agent, attempt, again);
            }
            RecipientOutcome::Refused { answer } => ("refused", None, answer.as_str()),
            RecipientOutcome::Dropped => ("dropped", None, "expired"),
        };
        let failed = matches!(outcome, RecipientOutcome::Later { .. });
        let changed = self
            .0
            .prepare_cached(
                "UPDATE recipients SET state = ?4, next_try = coalesce(?5, next_try), answer = ?6,
                     failures = CASE ?7 WHEN 1 THEN failures + 1 ELSE 0 END
                 WHERE envelope = ?1 AND agent = ?2 AND attempts = ?3",
            )?
            .execute(params![envelope.0, agent.as_str(), attempt, state, next_try, answer, failed])?;
        Ok(changed == 1)
    }

    /// Takes what is still queued of a campaign out of the outbox, for these agents.
    ///
    /// # Errors
    /// The database's.
    pub fn drop_queued(&self, campaign: CampaignId, agents: &[AgentId]) -> TxResult<()> {
        let mut statement = self.0.prepare_cached(DROP_QUEUED)?;
        for agent in agents {
            statement.execute(params![campaign.0, agent.as_str()])?;
        }
        Ok(())
    }

    /// Takes the heartbeats that still wait for the relay out of the outbox.
    ///
    /// # Errors
    /// The database's.
    pub fn drop_queued_heartbeats(&self) -> TxResult<()> {
        self.0.execute(DROP_QUEUED_HEARTBEATS, [])?;
        Ok(())
    }

    /// When the last heartbeat was made.
    ///
    /// # Errors
    /// The database's.
    pub fn last_heartbeat(&self) -> TxResult<Option<UnixMillis>> {
        let made: i64 = self.0.query_row(
            "SELECT coalesce(max(value), 0) FROM counters WHERE name = 'heartbeat_made'",
            [],
            |row| row.get(0),
        )?;
        Ok((made > 0).then_some(UnixMillis(made)))
    }

    /// A heartbeat is made now.
    ///
    /// # Errors
    /// The database's.
    pub fn heartbeat_made(&self, now: UnixMillis) -> TxResult<()> {
        self.0.execute(
            "INSERT INTO counters (name, value) VALUES ('heartbeat_made', ?1)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            [now.0],
        )?;
        Ok(())
    }

    /// Forgets orders that expired before `before`, with their bodies; but not installs, whose bodies a
    /// campaign's retry needs. Queries are asked daily, and a store must not grow by them for ever.
    ///
    /// # Errors
    /// The database's.
    pub fn forget_orders(&self, before: UnixMillis) -> TxResult<()> {
        let old = "SELECT envelope FROM outbox WHERE kind <> 'install' AND expires < ?1";
        self.0.execute(&format!("DELETE FROM recipients WHERE envelope IN ({old})"), [before.0])?;
        self.0.execute("DELETE FROM outbox WHERE kind <> 'install' AND expires < ?1", [before.0])?;
        self.0.execute(
            "DELETE FROM bodies WHERE content IS NOT NULL AND id NOT IN (SELECT body FROM outbox)",
            [],
        )?;
        Ok(())
    }

    /// When the newest order of a kind was made for an agent.
    ///
    /// # Errors
    /// The database's.
    pub fn last_order_at(&self, agent: &AgentId, kind: OrderKind) -> TxResult<Option<UnixMillis>> {
        let newest: Option<i64> = self.0.query_row(
            "SELECT max(o.created) FROM outbox o JOIN recipients r ON r.envelope = o.envelope
             WHERE r.agent = ?1 AND o.kind = ?2",
            params![agent.as_str(), kind.as_str()],
            |row| row.get(0),
        )?;
        Ok(newest.map(UnixMillis))
    }

    /// How many recipients are waiting for the relay.
    ///
    /// # Errors
    /// The database's.
    pub fn queued_count(&self) -> TxResult<u64> {
        let n: i64 =
            self.0
                .query_row("SELECT count(*) FROM recipients WHERE state = 'queued'", [], |row| row.get(0))?;
        u64::try_from(n).map_err(|err| bad("count", err))
    }
}

impl Due {
    /// True for a bundle: everything else goes before it.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.kind == OrderKind::Install
    }
}

fn due(row: &Row<'_>) -> TxResult<Due> {
    Ok(Due {
        envelope: envelope(row, "envelope")?,
        sequence: unsigned(row, "sequence")?,
        body: row.get("body")?,
        kind: OrderKind::parse(&row.get::<_, String>("kind")?)?,
        campaign: row.get::<_, Option<i64>>("campaign")?.map(CampaignId),
        created: time(row, "created")?,
        expires: time(row, "expires")?,
        recipients: Vec::new(),
    })
}
