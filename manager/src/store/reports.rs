//! Reports as they came, and how far a version query is.

use std::collections::BTreeSet;

use rusqlite::params;
use shared::message::{Report, decode_report};
use shared::{AgentId, EnvelopeId, UnixMillis};

use super::rows::{agent_id, signed};
use super::{Tx, TxResult};

/// A report to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewReport<'a> {
    /// Who sent it.
    pub agent: &'a AgentId,
    /// Its identity.
    pub envelope: EnvelopeId,
    /// Its sequence number.
    pub sequence: u64,
    /// When it came.
    pub received_at: UnixMillis,
    /// The order that it answers.
    pub answers: Option<EnvelopeId>,
    /// The message.
    pub message: &'a [u8],
}

/// How far a version query is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryProgress {
    /// Those who have answered.
    pub answered: BTreeSet<AgentId>,
    /// Those who have not.
    pub missing: BTreeSet<AgentId>,
    /// How many of the missing the relay has not taken yet.
    pub unsent: u64,
    /// Parts of answers that have come so far; 0 where an answer has one part.
    pub parts: u64,
}

impl Tx<'_> {
    /// Keeps a report. False if it is kept already: a copy, which says nothing new (PROTOCOL 8.1).
    ///
    /// # Errors
    /// The database's.
    pub fn keep_report(&self, report: &NewReport<'_>) -> TxResult<bool> {
        let kept = self
            .0
            .prepare_cached(
                "INSERT INTO reports (agent, envelope, sequence, received_at, answers, message)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (agent, envelope) DO NOTHING",
            )?
            .execute(params![
                report.agent.as_str(),
                report.envelope.0,
                signed(report.sequence),
                report.received_at.0,
                report.answers.map(|id| id.0),
                report.message
            ])?;
        Ok(kept == 1)
    }

    /// What an agent said at the end of an order; `None`: nothing yet.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn ended_report(&self, agent: &AgentId, order: EnvelopeId) -> TxResult<Option<Report>> {
        let mut statement = self.0.prepare_cached(
            "SELECT message FROM reports WHERE answers = ?1 AND agent = ?2 ORDER BY sequence DESC",
        )?;
        let mut rows = statement.query(params![order.0, agent.as_str()])?;
        while let Some(row) = rows.next()? {
            let message: Vec<u8> = row.get("message")?;
            if let Ok(report @ Report::Ended(_)) = decode_report(&message) {
                return Ok(Some(report));
            }
        }
        Ok(None)
    }

    /// Who has answered the orders of these envelopes, and who has not.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn query_progress(&self, envelopes: &[EnvelopeId]) -> TxResult<QueryProgress> {
        let mut progress = QueryProgress::default();
        let mut statement = self.0.prepare_cached(
            "SELECT r.agent, r.state, EXISTS (
                 SELECT 1 FROM reports p WHERE p.answers = r.envelope AND p.agent = r.agent) AS answered
             FROM recipients r WHERE r.envelope = ?1",
        )?;
        for envelope in envelopes {
            let mut rows = statement.query([envelope.0])?;
            while let Some(row) = rows.next()? {
                let agent = agent_id(row, "agent")?;
                if row.get("answered")? {
                    progress.answered.insert(agent);
                } else {
                    let queued = row.get::<_, String>("state")? == "queued";
                    progress.unsent = progress.unsent.saturating_add(u64::from(queued));
                    progress.missing.insert(agent);
                }
            }
        }
        Ok(progress)
    }
}
