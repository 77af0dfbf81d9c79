//! What the manager knows of an agent's watching of devices as a whole, and the acknowledgements that it owes
//! (PROTOCOL 14.2, 14.7).

use rusqlite::{OptionalExtension as _, Row, params};
use shared::limits::ACKNOWLEDGED_MAX_COUNT;
use shared::message::{Acknowledge, CounterReport, FaultReport, ReadingMark};
use shared::{AgentId, Digest, EnvelopeId, UnixMillis};

use super::rows::{agent_id, opt_time, signed, unsigned};
use super::{Tx, TxResult};

/// What is known of an agent's devices as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchRecord {
    /// Changes of faults that the agent had no room to keep, ever.
    pub faults_dropped: u64,
    /// Readings that were kept out.
    pub refused: u64,
    /// Readings that do not follow from the one before them.
    pub broken: u64,
    /// The agent has more readings than its last report held.
    pub counters_more: bool,
    /// When its last counter report came.
    pub counters_at: Option<UnixMillis>,
    /// When it was last sent an acknowledgement.
    pub acknowledged_at: Option<UnixMillis>,
}

fn record(row: &Row<'_>) -> TxResult<WatchRecord> {
    Ok(WatchRecord {
        faults_dropped: unsigned(row, "faults_dropped")?,
        refused: unsigned(row, "refused")?,
        broken: unsigned(row, "broken")?,
        counters_more: row.get("counters_more")?,
        counters_at: opt_time(row, "counters_at")?,
        acknowledged_at: opt_time(row, "acknowledged_at")?,
    })
}

/// An acknowledgement that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    /// To whom.
    pub agent: AgentId,
    /// What it says.
    pub says: Acknowledge,
}

impl Tx<'_> {
    /// What is known of an agent's devices as a whole.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn watch(&self, agent: &AgentId) -> TxResult<WatchRecord> {
        let mut statement = self.0.prepare_cached("SELECT * FROM watches WHERE agent = ?1")?;
        let mut rows = statement.query([agent.as_str()])?;
        rows.next()?.map_or_else(|| Ok(WatchRecord::default()), record)
    }

    fn watch_row(&self, agent: &AgentId) -> TxResult<()> {
        self.0
            .prepare_cached("INSERT INTO watches (agent) VALUES (?1) ON CONFLICT (agent) DO NOTHING")?
            .execute([agent.as_str()])?;
        Ok(())
    }

    /// Notes how many changes of faults an agent has had to drop. Gives how many more than it had said before.
    ///
    /// # Errors
    /// The database's.
    pub fn faults_dropped(&self, agent: &AgentId, dropped: u64) -> TxResult<u64> {
        let before = self.watch(agent)?.faults_dropped;
        if dropped > before {
            self.watch_row(agent)?;
            self.0.execute(
                "UPDATE watches SET faults_dropped = ?2 WHERE agent = ?1",
                params![agent.as_str(), signed(dropped)],
            )?;
        }
        Ok(dropped.saturating_sub(before))
    }

    /// Counts readings that were kept out, and such as do not follow from the one before.
    ///
    /// # Errors
    /// The database's.
    pub fn count_faulty_readings(&self, agent: &AgentId, refused: u64, broken: u64) -> TxResult<()> {
        self.watch_row(agent)?;
        self.0.execute(
            "UPDATE watches SET refused = refused + ?2, broken = broken + ?3 WHERE agent = ?1",
            params![agent.as_str(), signed(refused), signed(broken)],
        )?;
        Ok(())
    }

    /// Notes that a counter report came, unless a newer one has been noted (PROTOCOL 8.2).
    ///
    /// # Errors
    /// The database's.
    pub fn counters_came(
        &self,
        agent: &AgentId,
        sequence: u64,
        report: &CounterReport,
        now: UnixMillis,
    ) -> TxResult<()> {
        self.watch_row(agent)?;
        self.0.execute(
            "UPDATE watches SET counters_seq = ?2, counters_more = ?3, counters_at = ?4
             WHERE agent = ?1 AND counters_seq < ?2",
            params![agent.as_str(), signed(sequence), report.more, now.0],
        )?;
        Ok(())
    }

    /// The box of an agent is another one now: its reports are numbered from 1 again.
    ///
    /// # Errors
    /// The database's.
    pub fn counters_of_replaced(&self, agent: &AgentId) -> TxResult<()> {
        self.0.execute(
            "UPDATE watches SET counters_seq = 0, counters_more = 0 WHERE agent = ?1",
            [agent.as_str()],
        )?;
        Ok(())
    }

    /// True if this envelope of an agent is kept already.
    ///
    /// # Errors
    /// The database's.
    pub fn has_report(&self, agent: &AgentId, envelope: EnvelopeId) -> TxResult<bool> {
        let mut statement =
            self.0.prepare_cached("SELECT 1 FROM reports WHERE agent = ?1 AND envelope = ?2")?;
        Ok(statement.exists(params![agent.as_str(), envelope.0])?)
    }

    /// A fault report is to be acknowledged, at `due_at` or before.
    ///
    /// # Errors
    /// The database's.
    pub fn owe_report(&self, agent: &AgentId, report: &FaultReport, due_at: UnixMillis) -> TxResult<()> {
        let number = report.number;
        if let Some(stamp) = report.stamp {
            self.0.execute(
                "INSERT OR IGNORE INTO owed_stamps (agent, number, stamp) VALUES (?1, ?2, ?3)",
                params![agent.as_str(), number.cast_signed(), stamp.0],
            )?;
        }
        self.0.execute(
            "INSERT INTO owed_numbers (agent, number, due_at) VALUES (?1, ?2, ?3)
             ON CONFLICT (agent, number) DO UPDATE SET due_at = min(due_at, excluded.due_at)",
            params![agent.as_str(), number.cast_signed(), due_at.0],
        )?;
        Ok(())
    }

    /// Readings are to be acknowledged up to this one, at `due_at` or before.
    ///
    /// # Errors
    /// The database's.
    pub fn owe_readings(&self, agent: &AgentId, upto: ReadingMark, due_at: UnixMillis) -> TxResult<()> {
        self.watch_row(agent)?;
        self.0.execute(
            "UPDATE watches SET owed_chain = ?2, owed_index = ?3, owed_at = min(coalesce(owed_at, ?4), ?4)
             WHERE agent = ?1",
            params![agent.as_str(), upto.chain.cast_signed(), signed(upto.index), due_at.0],
        )?;
        Ok(())
    }

    /// The acknowledgements that are due: one for each agent, with all that is owed to it up to the bound of a message.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn owed(&self, now: UnixMillis) -> TxResult<Vec<Owed>> {
        let mut statement = self.0.prepare_cached(
            "SELECT id FROM agents WHERE state = 'enrolled' AND id IN (
                 SELECT agent FROM owed_numbers WHERE due_at <= ?1
                 UNION SELECT agent FROM watches WHERE owed_at <= ?1) ORDER BY id",
        )?;
        let mut rows = statement.query([now.0])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let agent = agent_id(row, "id")?;
            let readings = self.owed_mark(&agent)?;
            // PROTOCOL 14.10: so that an agent whose disk was put back finds out.
            let there = readings.map(|mark| self.linked_at(&agent, mark)).transpose()?.flatten();
            let stamps = Some(self.owed_stamps(&agent)?);
            let says = Acknowledge { faults: self.owed_numbers(&agent)?, readings, there, stamps };
            all.push(Owed { agent, says });
        }
        Ok(all)
    }

    fn owed_numbers(&self, agent: &AgentId) -> TxResult<Vec<u64>> {
        let mut statement = self
            .0
            .prepare_cached("SELECT number FROM owed_numbers WHERE agent = ?1 ORDER BY number LIMIT ?2")?;
        let most = i64::try_from(ACKNOWLEDGED_MAX_COUNT).unwrap_or(i64::MAX);
        let numbers = statement
            .query_map(params![agent.as_str(), most], |row| Ok(row.get::<_, i64>(0)?.cast_unsigned()))?;
        Ok(numbers.collect::<Result<_, _>>()?)
    }

    fn owed_stamps(&self, agent: &AgentId) -> TxResult<Vec<Digest>> {
        let mut statement = self.0.prepare_cached(
            "SELECT stamp FROM owed_stamps WHERE agent = ?1 ORDER BY number, stamp LIMIT ?2",
        )?;
        let most = i64::try_from(ACKNOWLEDGED_MAX_COUNT).unwrap_or(i64::MAX);
        let stamps = statement.query_map(params![agent.as_str(), most], |row| row.get(0).map(Digest))?;
        Ok(stamps.collect::<Result<_, _>>()?)
    }

    fn owed_mark(&self, agent: &AgentId) -> TxResult<Option<ReadingMark>> {
        let found: Option<(i64, i64)> = self
            .0
            .prepare_cached(
                "SELECT owed_chain, owed_index FROM watches WHERE agent = ?1 AND owed_chain IS NOT NULL",
            )?
            .query_row([agent.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        Ok(found
            .map(|(chain, index)| ReadingMark { chain: chain.cast_unsigned(), index: index.cast_unsigned() }))
    }

    /// Somebody else acknowledges: nothing is owed to anybody here.
    ///
    /// # Errors
    /// The database's.
    pub fn owe_nothing(&self) -> TxResult<()> {
        self.0.execute("DELETE FROM owed_numbers", [])?;
        self.0.execute(
            "UPDATE watches SET owed_chain = NULL, owed_index = NULL, owed_at = NULL WHERE owed_at IS NOT NULL",
            [],
        )?;
        Ok(())
    }

    /// An acknowledgement is in the outbox: nothing of it is owed any more.
    ///
    /// # Errors
    /// The database's.
    pub fn acknowledged(&self, owed: &Owed, now: UnixMillis) -> TxResult<()> {
        let agent = owed.agent.as_str();
        let mut paid = self.0.prepare_cached("DELETE FROM owed_numbers WHERE agent = ?1 AND number = ?2")?;
        let mut noted = self.0.prepare_cached(
            "UPDATE faults SET acknowledged_at = ?3
             WHERE agent = ?1 AND number = ?2 AND acknowledged_at IS NULL",
        )?;
        for number in &owed.says.faults {
            paid.execute(params![agent, number.cast_signed()])?;
            noted.execute(params![agent, number.cast_signed(), now.0])?;
        }
        let mut stamped = self.0.prepare_cached("DELETE FROM owed_stamps WHERE agent = ?1 AND stamp = ?2")?;
        for stamp in owed.says.stamps.iter().flatten() {
            stamped.execute(params![agent, stamp.0])?;
        }
        self.watch_row(&owed.agent)?;
        self.0.execute(
            "UPDATE watches SET acknowledged_at = ?2, owed_chain = NULL, owed_index = NULL, owed_at = NULL
             WHERE agent = ?1",
            params![agent, now.0],
        )?;
        Ok(())
    }

    /// When the next acknowledgement is due.
    ///
    /// # Errors
    /// The database's.
    pub fn next_owed(&self) -> TxResult<Option<UnixMillis>> {
        let next: Option<i64> = self.0.query_row(
            "SELECT min(t) FROM (SELECT min(n.due_at) AS t FROM owed_numbers n JOIN agents a ON a.id = n.agent
                                     WHERE a.state = 'enrolled'
                                 UNION ALL SELECT min(w.owed_at) FROM watches w JOIN agents a ON a.id = w.agent
                                     WHERE a.state = 'enrolled')",
            [],
            |row| row.get(0),
        )?;
        Ok(next.map(UnixMillis))
    }

    /// Readings that came from an agent at or after a time, and of how many devices.
    ///
    /// # Errors
    /// The database's.
    pub fn readings_since(&self, agent: &AgentId, since: UnixMillis) -> TxResult<(u64, u64)> {
        let counts = self.0.query_row(
            "SELECT count(*), count(DISTINCT device) FROM readings WHERE agent = ?1 AND received_at >= ?2",
            params![agent.as_str(), since.0],
            |row| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?.cast_unsigned())),
        )?;
        Ok(counts)
    }

    /// Agents of which readings were kept out or do not follow, and how many.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn faulty_readings(&self) -> TxResult<Vec<(AgentId, u64)>> {
        let mut statement = self.0.prepare_cached(
            "SELECT agent, refused + broken AS n FROM watches WHERE refused + broken > 0 ORDER BY agent",
        )?;
        let mut rows = statement.query([])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push((agent_id(row, "agent")?, unsigned(row, "n")?));
        }
        Ok(all)
    }
}
