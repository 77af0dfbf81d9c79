//! Agents' own keys: the current ones, those that were replaced, and those that were asked for.

use manager_core::rekey::FormerKey;
use rusqlite::{OptionalExtension as _, Row, params};
use shared::keys::{SealingKey, VerifyingKey};
use shared::{AgentId, EnvelopeId, KeyId, UnixMillis};

use super::rows::{agent_id, bad, opt_time, signed, time};
use super::{Tx, TxResult};

/// Who signs with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The agent.
    pub agent: AgentId,
    /// Its key.
    pub key: VerifyingKey,
    /// The key was replaced: its number, and what it is worth.
    pub former: Option<(i64, FormerKey)>,
}

/// How an agent's keys stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyAge {
    /// The agent.
    pub agent: AgentId,
    /// When new ones were asked for, if they have not come.
    pub asked: Option<UnixMillis>,
    /// When they came.
    pub since: UnixMillis,
}

fn former(row: &Row<'_>) -> TxResult<FormerKey> {
    let (below, until): (Option<i64>, Option<i64>) = (row.get("below")?, row.get("until")?);
    let below = below.map(u64::try_from).transpose().map_err(|err| bad("below", err))?;
    Ok(FormerKey { overtaken: below.zip(until.map(UnixMillis)) })
}

impl Tx<'_> {
    /// The enrolled agent that signs with the key of this ID, or did.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn sender(&self, key: KeyId) -> TxResult<Option<Sender>> {
        let mut statement = self.0.prepare_cached(
            "SELECT id AS agent, sign_key, NULL AS former, NULL AS below, NULL AS until
             FROM agents WHERE key_id = ?1 AND state = 'enrolled'
             UNION ALL
             SELECT f.agent, f.sign_key, f.id, f.below, f.until
             FROM former_keys f JOIN agents a ON a.id = f.agent WHERE f.key_id = ?1 AND a.state = 'enrolled'",
        )?;
        let mut rows = statement.query([key.0])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let sign_key: [u8; 32] = row.get("sign_key")?;
        let number: Option<i64> = row.get("former")?;
        Ok(Some(Sender {
            agent: agent_id(row, "agent")?,
            key: VerifyingKey::from_bytes(&sign_key).map_err(|err| bad("sign_key", err))?,
            former: number.map(|number| Ok::<_, super::TxError>((number, former(row)?))).transpose()?,
        }))
    }

    /// True if somebody has one of these keys: another agent, removed ones included; or if the first one was replaced.
    ///
    /// # Errors
    /// The database's.
    pub fn key_is_taken(&self, sign: KeyId, seal: &[u8; 32], except: &AgentId) -> TxResult<bool> {
        let mut statement = self.0.prepare_cached(
            "SELECT 1 FROM agents WHERE (key_id = ?1 OR seal_key = ?2) AND id <> ?3
             UNION ALL SELECT 1 FROM former_keys WHERE key_id = ?1",
        )?;
        Ok(statement.exists(params![sign.0, seal, except.as_str()])?)
    }

    /// New keys take the place of an agent's, in which nothing else changes. The old signing key is kept for reports that
    /// are on their way; what still waits for the relay is sealed to the new one.
    ///
    /// # Errors
    /// The database's.
    pub fn replace_keys(
        &self,
        agent: &AgentId,
        (sign, seal): (&VerifyingKey, &SealingKey),
        now: UnixMillis,
    ) -> TxResult<()> {
        self.0.execute(
            "INSERT INTO former_keys (agent, key_id, sign_key) SELECT id, key_id, sign_key FROM agents WHERE id = ?1",
            [agent.as_str()],
        )?;
        self.0.execute(
            "UPDATE agents SET sign_key = ?2, key_id = ?3, seal_key = ?4, keys_at = ?5, rekey_ordered = NULL
             WHERE id = ?1",
            params![agent.as_str(), sign.to_bytes(), sign.key_id().0, seal.to_bytes(), now.0],
        )?;
        Ok(())
    }

    /// An agent was heard under its current key, or under the replaced one of this number: all that are older are
    /// overtaken.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn heard_under(
        &self,
        agent: &AgentId,
        number: Option<i64>,
        sequence: u64,
        now: UnixMillis,
    ) -> TxResult<()> {
        let mut statement =
            self.0.prepare_cached("SELECT id, below, until FROM former_keys WHERE agent = ?1 AND id < ?2")?;
        let mut rows = statement.query(params![agent.as_str(), number.unwrap_or(i64::MAX)])?;
        while let Some(row) = rows.next()? {
            let mut key = former(row)?;
            key.overtake(sequence, now);
            self.0.prepare_cached("UPDATE former_keys SET below = ?2, until = ?3 WHERE id = ?1")?.execute(
                params![
                    row.get::<_, i64>("id")?,
                    key.overtaken.map(|(below, _)| signed(below)),
                    key.overtaken.map(|(_, until)| until.0)
                ],
            )?;
        }
        Ok(())
    }

    /// Forgets replaced keys whose time is over.
    ///
    /// # Errors
    /// The database's.
    pub fn forget_former_keys(&self, now: UnixMillis) -> TxResult<()> {
        self.0.execute("DELETE FROM former_keys WHERE until < ?1", [now.0])?;
        Ok(())
    }

    /// True if an agent was never heard under its current keys, which took the place of others.
    ///
    /// # Errors
    /// The database's.
    pub fn keys_are_unused(&self, agent: &AgentId) -> TxResult<bool> {
        let mut statement =
            self.0.prepare_cached("SELECT 1 FROM former_keys WHERE agent = ?1 AND below IS NULL")?;
        Ok(statement.exists([agent.as_str()])?)
    }

    /// Notes that these agents are asked for new keys now.
    ///
    /// # Errors
    /// The database's.
    pub fn rekey_ordered(&self, agents: &[AgentId], now: UnixMillis) -> TxResult<()> {
        let mut statement = self
            .0
            .prepare_cached("UPDATE agents SET rekey_ordered = ?2 WHERE id = ?1 AND state = 'enrolled'")?;
        for agent in agents {
            statement.execute(params![agent.as_str(), now.0])?;
        }
        Ok(())
    }

    /// How old the keys of all enrolled agents are; or only of those who were asked for new ones.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn key_ages(&self, all: bool) -> TxResult<Vec<KeyAge>> {
        let mut statement = self.0.prepare_cached(
            "SELECT id, rekey_ordered, coalesce(keys_at, enrolled_at) AS since FROM agents
             WHERE state = 'enrolled' AND (?1 OR rekey_ordered IS NOT NULL) ORDER BY id",
        )?;
        let mut rows = statement.query([all])?;
        let mut ages = Vec::new();
        while let Some(row) = rows.next()? {
            ages.push(KeyAge {
                agent: agent_id(row, "id")?,
                asked: opt_time(row, "rekey_ordered")?,
                since: time(row, "since")?,
            });
        }
        Ok(ages)
    }

    /// True if this order has asked this agent for new keys.
    ///
    /// # Errors
    /// The database's.
    pub fn has_asked_for_keys(&self, order: EnvelopeId, agent: &AgentId) -> TxResult<bool> {
        let found: Option<i64> = self
            .0
            .query_row(
                "SELECT 1 FROM outbox o JOIN recipients r ON r.envelope = o.envelope
                 WHERE o.envelope = ?1 AND o.kind = 'rekey' AND r.agent = ?2",
                params![order.0, agent.as_str()],
                |row| row.get(0),
            )
            .optional()?;
        Ok(found.is_some())
    }
}
