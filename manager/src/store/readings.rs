//! Signed readings (PROTOCOL 14). Their bytes stay in the report that brought them, as they came: a row here says where.
//! There is no second copy that could say something else.

use std::ops::ControlFlow;

use manager_core::chain::Refusal;
use rusqlite::{OptionalExtension as _, Row, params};
use shared::keys::VerifyingKey;
use shared::message::{Linked, ReadingMark, Report, decode_report};
use shared::reading::{SignedReading, unpack};
use shared::{AgentId, Digest, EnvelopeId, UnixMillis};

use super::rows::{bad, digest, envelope, signed, time, unsigned};
use super::{Tx, TxResult};

/// Refused readings whose bytes are kept, of each agent: evidence, not an archive.
const REFUSED_MAX_COUNT: i64 = 50;

/// A reading to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewReading<'a> {
    /// Whose it is.
    pub agent: &'a AgentId,
    /// Its place.
    pub mark: ReadingMark,
    /// The device.
    pub device: &'a str,
    /// When it came.
    pub received_at: UnixMillis,
    /// What it names as the one before it.
    pub previous: Digest,
    /// Digest of its bytes.
    pub digest: Digest,
    /// The report that brought it.
    pub envelope: EnvelopeId,
    /// How many readings stand before it there.
    pub nth: usize,
}

/// A reading as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptReading {
    /// Its place.
    pub mark: ReadingMark,
    /// Which of its agent's chains it stands in, from 1.
    pub chain_number: u64,
    /// When it came.
    pub received_at: UnixMillis,
    /// What it names as the one before it.
    pub previous: Digest,
    /// Digest of its bytes, as it was when it came.
    pub digest: Digest,
    /// The reading that is kept before it in its chain: index, digest.
    pub before: Option<(u64, Digest)>,
    /// The signed bytes.
    pub signed: SignedReading,
}

/// A reading that was kept out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedReading {
    /// When it came.
    pub received_at: UnixMillis,
    /// Why.
    pub reason: Refusal,
}

impl Tx<'_> {
    /// The keys that an agent has signed readings with, or may: the one that it has, and those that it had.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn reading_keys(&self, agent: &AgentId) -> TxResult<Vec<VerifyingKey>> {
        let mut statement =
            self.0.prepare_cached("SELECT sign_key FROM reading_keys WHERE agent = ?1 ORDER BY key_id")?;
        let mut rows = statement.query([agent.as_str()])?;
        let mut keys = Vec::new();
        while let Some(row) = rows.next()? {
            let key = VerifyingKey::from_bytes(&row.get("sign_key")?).map_err(|err| bad("sign_key", err))?;
            keys.push(key);
        }
        Ok(keys)
    }

    /// Digest of the reading that has this place.
    ///
    /// # Errors
    /// The database's.
    pub fn reading_at(&self, agent: &AgentId, mark: ReadingMark) -> TxResult<Option<Digest>> {
        let found = self
            .0
            .prepare_cached("SELECT digest FROM readings WHERE agent = ?1 AND chain = ?2 AND idx = ?3")?
            .query_row(params![agent.as_str(), mark.chain.cast_signed(), signed(mark.index)], |row| {
                row.get(0)
            })
            .optional()?;
        Ok(found.map(Digest))
    }

    /// The reading that has this place, and the one that it names as the one before it.
    ///
    /// # Errors
    /// The database's.
    pub fn linked_at(&self, agent: &AgentId, mark: ReadingMark) -> TxResult<Option<Linked>> {
        let Some(digest) = self.reading_at(agent, mark)? else { return Ok(None) };
        let previous = self.named_before(agent, mark)?;
        Ok(previous.map(|previous| Linked { digest, previous }))
    }

    /// What the reading at this place names as the one before it.
    ///
    /// # Errors
    /// The database's.
    pub fn named_before(&self, agent: &AgentId, mark: ReadingMark) -> TxResult<Option<Digest>> {
        let found = self
            .0
            .prepare_cached("SELECT previous FROM readings WHERE agent = ?1 AND chain = ?2 AND idx = ?3")?
            .query_row(params![agent.as_str(), mark.chain.cast_signed(), signed(mark.index)], |row| {
                row.get(0)
            })
            .optional()?;
        Ok(found.map(Digest))
    }

    /// Keeps a reading whose place is free.
    ///
    /// # Errors
    /// The database's.
    pub fn keep_reading(&self, new: &NewReading<'_>) -> TxResult<()> {
        self.0
            .prepare_cached(
                "INSERT INTO readings (agent, chain, idx, device, received_at, previous, digest, envelope, nth)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                new.agent.as_str(),
                new.mark.chain.cast_signed(),
                signed(new.mark.index),
                new.device,
                new.received_at.0,
                new.previous.0,
                new.digest.0,
                new.envelope.0,
                signed(new.nth as u64),
            ])?;
        Ok(())
    }

    /// Keeps the bytes of a reading that is kept out, the newest of each agent. False if it was there already.
    ///
    /// # Errors
    /// The database's.
    pub fn refuse_reading(
        &self,
        agent: &AgentId,
        reading: &SignedReading,
        reason: Refusal,
        now: UnixMillis,
    ) -> TxResult<bool> {
        let added = self.0.execute(
            "INSERT INTO refused_readings (agent, digest, received_at, reason, content, signature)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (agent, digest) DO NOTHING",
            params![
                agent.as_str(),
                Digest::of(&reading.framed()).0,
                now.0,
                reason.as_str(),
                reading.bytes(),
                reading.signature()
            ],
        )?;
        self.0.execute(
            "DELETE FROM refused_readings WHERE agent = ?1 AND id NOT IN
                 (SELECT id FROM refused_readings WHERE agent = ?1 ORDER BY id DESC LIMIT ?2)",
            params![agent.as_str(), REFUSED_MAX_COUNT],
        )?;
        Ok(added == 1)
    }

    /// The readings of an agent that were kept out, as far as their bytes are kept, the newest last.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn refused_readings(&self, agent: &AgentId) -> TxResult<Vec<RefusedReading>> {
        let mut statement = self.0.prepare_cached(
            "SELECT received_at, reason FROM refused_readings WHERE agent = ?1 ORDER BY id",
        )?;
        let mut rows = statement.query([agent.as_str()])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let reason: String = row.get("reason")?;
            let reason = Refusal::parse(&reason).ok_or_else(|| bad("reason", reason))?;
            all.push(RefusedReading { received_at: time(row, "received_at")?, reason });
        }
        Ok(all)
    }

    /// Up to which index a chain is complete; `None`: nothing of it has come.
    ///
    /// # Errors
    /// The database's.
    pub fn chain_complete(&self, agent: &AgentId, chain: u64) -> TxResult<Option<u64>> {
        let found: Option<i64> = self
            .0
            .prepare_cached("SELECT complete FROM chains WHERE agent = ?1 AND chain = ?2")?
            .query_row(params![agent.as_str(), chain.cast_signed()], |row| row.get(0))
            .optional()?;
        Ok(found.map(i64::cast_unsigned))
    }

    /// Notes up to where a chain is complete. If it is new, gives which of the agent's it is, from 1.
    ///
    /// # Errors
    /// The database's.
    pub fn set_chain_complete(
        &self,
        agent: &AgentId,
        chain: u64,
        complete: u64,
        now: UnixMillis,
    ) -> TxResult<Option<u64>> {
        let is_new = self.chain_complete(agent, chain)?.is_none();
        self.0.execute(
            "INSERT INTO chains (agent, chain, number, begun_at, complete)
             VALUES (?1, ?2, (SELECT coalesce(max(number), 0) + 1 FROM chains WHERE agent = ?1), ?3, ?4)
             ON CONFLICT (agent, chain) DO UPDATE SET complete = excluded.complete",
            params![agent.as_str(), chain.cast_signed(), now.0, signed(complete)],
        )?;
        let number = || {
            self.0.query_row(
                "SELECT number FROM chains WHERE agent = ?1 AND chain = ?2",
                params![agent.as_str(), chain.cast_signed()],
                |row| Ok(row.get::<_, i64>(0)?.cast_unsigned()),
            )
        };
        Ok(is_new.then(number).transpose()?)
    }

    /// Hands over an agent's readings in the order of its chains, those that came at or after `since`, until the caller
    /// has enough. One report is in memory at a time.
    ///
    /// # Errors
    /// The database's, or a row whose report is not there.
    pub fn each_reading(
        &self,
        agent: &AgentId,
        since: Option<UnixMillis>,
        mut take: impl FnMut(KeptReading) -> ControlFlow<()>,
    ) -> TxResult<()> {
        let mut chains =
            self.0.prepare_cached("SELECT chain, number FROM chains WHERE agent = ?1 ORDER BY number")?;
        let chains: Vec<(i64, i64)> = chains
            .query_map([agent.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        let mut statement = self.0.prepare_cached(
            "SELECT idx, received_at, previous, digest, envelope, nth FROM readings
             WHERE agent = ?1 AND chain = ?2 ORDER BY idx",
        )?;
        let mut opened = Opened::default();
        for (chain, number) in chains {
            let chain_number = number.cast_unsigned();
            let mut before = None;
            let mut rows = statement.query(params![agent.as_str(), chain])?;
            while let Some(row) = rows.next()? {
                let (index, digest) = (unsigned(row, "idx")?, digest(row, "digest")?);
                let received_at = time(row, "received_at")?;
                let before = before.replace((index, digest));
                if since.is_some_and(|since| received_at < since) {
                    continue;
                }
                let mark = ReadingMark { chain: chain.cast_unsigned(), index };
                let signed = opened.reading(self, agent, row)?;
                let previous = super::rows::digest(row, "previous")?;
                let kept = KeptReading { mark, chain_number, received_at, previous, digest, before, signed };
                if take(kept).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn packed(&self, agent: &AgentId, envelope: EnvelopeId) -> TxResult<Vec<SignedReading>> {
        let message: Vec<u8> = self
            .0
            .prepare_cached("SELECT message FROM reports WHERE agent = ?1 AND envelope = ?2")?
            .query_row(params![agent.as_str(), envelope.0], |row| row.get(0))?;
        match decode_report(&message) {
            Ok(Report::Counters(report)) => unpack(&report.packed).map_err(|err| bad("packed readings", err)),
            _ => Err(bad("report of readings", envelope)),
        }
    }

    /// A report has brought nothing that is kept: only that it came is remembered.
    ///
    /// # Errors
    /// The database's.
    pub fn forget_message(&self, agent: &AgentId, envelope: EnvelopeId) -> TxResult<()> {
        self.0.execute(
            "UPDATE reports SET message = x'' WHERE agent = ?1 AND envelope = ?2",
            params![agent.as_str(), envelope.0],
        )?;
        Ok(())
    }

    /// Forgets readings that came before `before`, with the reports that hold nothing else. What they proved can be
    /// exported before.
    ///
    /// # Errors
    /// The database's.
    pub fn forget_readings(&self, before: UnixMillis) -> TxResult<()> {
        let mut statement =
            self.0.prepare_cached("SELECT DISTINCT agent, envelope FROM readings WHERE received_at < ?1")?;
        let old: Vec<(String, [u8; 16])> = statement
            .query_map([before.0], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        self.0.execute("DELETE FROM readings WHERE received_at < ?1", [before.0])?;
        self.0.execute("DELETE FROM refused_readings WHERE received_at < ?1", [before.0])?;
        let mut forget = self.0.prepare_cached(
            "UPDATE reports SET message = x'' WHERE agent = ?1 AND envelope = ?2
                 AND NOT EXISTS (SELECT 1 FROM readings r WHERE r.agent = ?1 AND r.envelope = ?2)",
        )?;
        for (agent, envelope) in old {
            forget.execute(params![agent, envelope])?;
        }
        Ok(())
    }
}

/// The report that was unpacked last: the readings of one stand together in their chain.
#[derive(Default)]
struct Opened {
    envelope: Option<EnvelopeId>,
    readings: Vec<SignedReading>,
}

impl Opened {
    fn reading(&mut self, tx: &Tx<'_>, agent: &AgentId, row: &Row<'_>) -> TxResult<SignedReading> {
        let envelope = envelope(row, "envelope")?;
        if self.envelope != Some(envelope) {
            self.readings = tx.packed(agent, envelope)?;
            self.envelope = Some(envelope);
        }
        let nth = usize::try_from(unsigned(row, "nth")?).map_err(|err| bad("nth", err))?;
        self.readings.get(nth).cloned().ok_or_else(|| bad("nth", nth))
    }
}
