//! Faults of devices, each from its beginning to its end (PROTOCOL 14.1), and what is known of devices that have only
//! shown faults so far.

use std::ops::ControlFlow;

use manager_core::alert::Change;
use rusqlite::{OptionalExtension as _, Row, params};
use shared::device::{Fault, FaultClass, FaultKind, Severity};
use shared::message::FaultChange;
use shared::{AgentId, Label, UnixMillis};

use super::rows::{agent_id, bad, opt_time, signed, time};
use super::{Tx, TxResult};

/// Faults that are kept of one agent: 1,000 devices with 64 open ones each, and room for what is over.
const FAULTS_MAX_COUNT: i64 = 100_000;

/// A report that brings a change of a fault.
#[derive(Clone, Copy, Debug)]
pub struct FaultNews<'a> {
    /// Whose.
    pub agent: &'a AgentId,
    /// The agent's number of the report.
    pub number: u64,
    /// Sequence number of its envelope.
    pub sequence: u64,
    /// When it came.
    pub received_at: UnixMillis,
}

/// A fault as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultRecord {
    /// The agent.
    pub agent: AgentId,
    /// Its site.
    pub site: String,
    /// The operator's note on it.
    pub note: String,
    /// The device.
    pub device: String,
    /// Tells the fault from the device's others.
    pub key: String,
    /// When it began, by the agent's clock.
    pub raised_at: UnixMillis,
    /// What the device is.
    pub class: String,
    /// Its maker and model.
    pub model: String,
    /// Its serial number.
    pub serial: String,
    /// The device's code for the fault.
    pub code: String,
    /// Its kind.
    pub kind: FaultKind,
    /// Its class.
    pub fault_class: FaultClass,
    /// Its severity.
    pub severity: Severity,
    /// Where in the device.
    pub location: String,
    /// What the device says.
    pub text: String,
    /// How often it came back.
    pub returns: u32,
    /// When it ended, by the agent's clock.
    pub cleared_at: Option<UnixMillis>,
    /// When it was first reported.
    pub reported_at: UnixMillis,
    /// When the last news of it came.
    pub changed_at: UnixMillis,
    /// When its first report was acknowledged.
    pub acknowledged_at: Option<UnixMillis>,
}

pub(super) fn record(row: &Row<'_>) -> TxResult<FaultRecord> {
    let word = |column: &str| -> TxResult<String> { Ok(row.get(column)?) };
    let kind = word("kind")?;
    let fault_class = word("fault_class")?;
    let severity = word("severity")?;
    Ok(FaultRecord {
        agent: agent_id(row, "agent")?,
        site: word("site")?,
        note: word("note")?,
        device: word("device")?,
        key: word("key")?,
        raised_at: time(row, "raised_at")?,
        class: word("class")?,
        model: word("model")?,
        serial: word("serial")?,
        code: word("code")?,
        kind: FaultKind::parse(&kind).ok_or_else(|| bad("kind of fault", kind))?,
        fault_class: FaultClass::parse(&fault_class).ok_or_else(|| bad("class of fault", fault_class))?,
        severity: Severity::parse(&severity).ok_or_else(|| bad("severity", severity))?,
        location: word("location")?,
        text: word("text")?,
        returns: row.get("returns")?,
        cleared_at: opt_time(row, "cleared_at")?,
        reported_at: time(row, "reported_at")?,
        changed_at: time(row, "changed_at")?,
        acknowledged_at: opt_time(row, "acknowledged_at")?,
    })
}

impl Tx<'_> {
    /// Takes a change of a fault; gives what is new by it. The same fault said again changes nothing, what was said
    /// earlier does not replace what was said later, and an end stays an end (PROTOCOL 14.1, 8.2).
    ///
    /// # Errors
    /// The database's.
    pub fn take_fault(&self, news: &FaultNews<'_>, change: &FaultChange) -> TxResult<Vec<Change>> {
        let mut statement = self.0.prepare_cached(
            "SELECT sequence, cleared_at FROM faults
             WHERE agent = ?1 AND device = ?2 AND key = ?3 AND raised_at = ?4",
        )?;
        let name = params![
            news.agent.as_str(),
            change.device.as_str(),
            change.fault.key.0.as_str(),
            change.raised_at.0
        ];
        let known: Option<(i64, Option<i64>)> =
            statement.query_row(name, |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let ended = change.cleared_at.map(|_| Change::Cleared);
        let Some((sequence, cleared_at)) = known else {
            self.end_earlier(news, change)?;
            self.add_fault(news, change)?;
            return Ok([Some(Change::Raised), ended].into_iter().flatten().collect());
        };
        let newer = signed(news.sequence) > sequence;
        if newer {
            self.describe_fault(news, change)?;
        }
        if change.cleared_at.is_some() {
            self.end_fault(news, change)?;
        }
        Ok(match (cleared_at, ended) {
            (None, Some(ended)) => vec![ended],
            // It may have become worse, and so the matter of somebody who was not told before.
            (None, None) if newer => vec![Change::Raised],
            _ => Vec::new(),
        })
    }

    fn add_fault(&self, news: &FaultNews<'_>, change: &FaultChange) -> TxResult<()> {
        let FaultChange { fault, .. } = change;
        self.0
            .prepare_cached(
                "INSERT INTO faults (agent, device, key, raised_at, class, model, serial, code, kind, fault_class,
                     severity, location, text, returns, cleared_at, number, sequence, reported_at, changed_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?18)",
            )?
            .execute(params![
                news.agent.as_str(),
                change.device.as_str(),
                fault.key.0.as_str(),
                change.raised_at.0,
                change.class.as_str(),
                text_of(change.model.as_ref()),
                text_of(change.serial.as_ref()),
                fault.code.as_str(),
                fault.kind.as_str(),
                fault.class.as_str(),
                fault.severity.as_str(),
                fault.location.as_str(),
                fault.text.as_str(),
                change.returns,
                change.cleared_at.map(|at| at.0),
                news.number.cast_signed(),
                signed(news.sequence),
                news.received_at.0,
            ])?;
        Ok(())
    }

    fn describe_fault(&self, news: &FaultNews<'_>, change: &FaultChange) -> TxResult<()> {
        let Fault { key, code, kind, class, severity, location, text, .. } = &change.fault;
        self.0
            .prepare_cached(
                "UPDATE faults SET code = ?5, kind = ?6, fault_class = ?7, severity = ?8, location = ?9, text = ?10,
                     returns = ?11, sequence = ?12, changed_at = ?13
                 WHERE agent = ?1 AND device = ?2 AND key = ?3 AND raised_at = ?4",
            )?
            .execute(params![
                news.agent.as_str(),
                change.device.as_str(),
                key.0.as_str(),
                change.raised_at.0,
                code.as_str(),
                kind.as_str(),
                class.as_str(),
                severity.as_str(),
                location.as_str(),
                text.as_str(),
                change.returns,
                signed(news.sequence),
                news.received_at.0,
            ])?;
        Ok(())
    }

    fn end_fault(&self, news: &FaultNews<'_>, change: &FaultChange) -> TxResult<()> {
        self.0
            .prepare_cached(
                "UPDATE faults SET cleared_at = min(coalesce(cleared_at, ?5), ?5), changed_at = ?6
                 WHERE agent = ?1 AND device = ?2 AND key = ?3 AND raised_at = ?4",
            )?
            .execute(params![
                news.agent.as_str(),
                change.device.as_str(),
                change.fault.key.0.as_str(),
                change.raised_at.0,
                change.cleared_at.map(|at| at.0),
                news.received_at.0,
            ])?;
        Ok(())
    }

    /// An agent that ran out of room forgets first what is over: a fault that begins anew had ended before.
    fn end_earlier(&self, news: &FaultNews<'_>, change: &FaultChange) -> TxResult<()> {
        self.0
            .prepare_cached(
                "UPDATE faults SET cleared_at = ?4, changed_at = ?5
                 WHERE agent = ?1 AND device = ?2 AND key = ?3 AND raised_at < ?4 AND cleared_at IS NULL",
            )?
            .execute(params![
                news.agent.as_str(),
                change.device.as_str(),
                change.fault.key.0.as_str(),
                change.raised_at.0,
                news.received_at.0,
            ])?;
        Ok(())
    }

    /// Keeps an agent's faults within their bound: what ended first goes first.
    ///
    /// # Errors
    /// The database's.
    pub fn bound_faults(&self, agent: &AgentId) -> TxResult<()> {
        let count: i64 =
            self.0.query_row("SELECT count(*) FROM faults WHERE agent = ?1", [agent.as_str()], |row| {
                row.get(0)
            })?;
        let over = count.saturating_sub(FAULTS_MAX_COUNT);
        if over > 0 {
            let oldest = "SELECT rowid FROM faults WHERE agent = ?1
                          ORDER BY cleared_at IS NULL, raised_at LIMIT ?2";
            let named = "SELECT agent, device, key, raised_at FROM faults WHERE rowid IN";
            self.0.execute(
                &format!("DELETE FROM alerted WHERE (agent, device, key, raised_at) IN ({named} ({oldest}))"),
                params![agent.as_str(), over],
            )?;
            self.0.execute(
                &format!("DELETE FROM faults WHERE rowid IN ({oldest})"),
                params![agent.as_str(), over],
            )?;
        }
        Ok(())
    }

    /// The box of an agent is another one now: it knows nothing of these faults and will never say that they are over.
    /// What is still wrong it reports anew. Gives how many there were.
    ///
    /// # Errors
    /// The database's.
    pub fn end_faults_of_replaced(&self, agent: &AgentId, now: UnixMillis) -> TxResult<usize> {
        self.0.execute("UPDATE faults SET sequence = 0 WHERE agent = ?1", [agent.as_str()])?;
        Ok(self.0.execute(
            "UPDATE faults SET cleared_at = ?2, changed_at = ?2 WHERE agent = ?1 AND cleared_at IS NULL",
            params![agent.as_str(), now.0],
        )?)
    }

    /// Hands over every fault, or those that last at agents that are not removed, by agent, device and time, until the
    /// caller has enough.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn each_fault(
        &self,
        open_only: bool,
        mut take: impl FnMut(FaultRecord) -> ControlFlow<()>,
    ) -> TxResult<()> {
        let mut statement = self.0.prepare_cached(
            "SELECT f.*, a.site, a.note FROM faults f JOIN agents a ON a.id = f.agent
             WHERE NOT ?1 OR (f.cleared_at IS NULL AND a.state <> 'removed')
             ORDER BY f.agent, f.device, f.raised_at, f.key",
        )?;
        let mut rows = statement.query([open_only])?;
        while let Some(row) = rows.next()? {
            if take(record(row)?).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Faults of an agent that have not ended, and changes that it had no room to keep, ever.
    ///
    /// # Errors
    /// The database's.
    pub fn open_faults(&self, agent: &AgentId) -> TxResult<u64> {
        let count: i64 = self.0.query_row(
            "SELECT count(*) FROM faults WHERE agent = ?1 AND cleared_at IS NULL",
            [agent.as_str()],
            |row| row.get(0),
        )?;
        u64::try_from(count).map_err(|err| bad("count", err))
    }

    /// Forgets faults that ended before `before`.
    ///
    /// # Errors
    /// The database's.
    pub fn forget_faults(&self, before: UnixMillis) -> TxResult<()> {
        self.0.execute(
            "DELETE FROM alerted WHERE (agent, device, key, raised_at) IN
                 (SELECT agent, device, key, raised_at FROM faults WHERE cleared_at < ?1 AND changed_at < ?1)",
            [before.0],
        )?;
        self.0.execute("DELETE FROM faults WHERE cleared_at < ?1 AND changed_at < ?1", [before.0])?;
        Ok(())
    }
}

pub(super) fn text_of(label: Option<&Label>) -> &str {
    label.map_or("", Label::as_str)
}
