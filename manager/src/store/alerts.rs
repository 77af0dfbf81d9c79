//! Alerts (M18): which change of which fault has been told to whom, and what is still to be told. An outbox of its own:
//! its mails are for people, in clear.

use std::collections::BTreeSet;

use manager_core::alert::{Addressee, AlertFault, Change, Mail};
use rusqlite::{OptionalExtension as _, Row, params};
use shared::message::FaultChange;
use shared::{AgentId, EnvelopeId, UnixMillis};

use super::faults::record;
use super::rows::{bad, envelope, time};
use super::{Tx, TxResult};

/// Faults in one alert; the rest goes into the next one.
const FAULTS_MAX_COUNT: i64 = 2_000;

/// An alert that waits to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertRecord {
    /// Its number.
    pub id: i64,
    /// Its identity in mails and their bounces.
    pub envelope: EnvelopeId,
    /// Whom it tells.
    pub addressee: Addressee,
    /// Its subject.
    pub subject: String,
    /// Its text; for a command, JSON.
    pub text: String,
    /// The text as HTML.
    pub html: Option<String>,
    /// When it was made.
    pub created: UnixMillis,
    /// When it is given up.
    pub expires: UnixMillis,
    /// How often it was tried before.
    pub attempts: u32,
}

/// What became of an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlertOutcome {
    /// It was taken.
    Sent,
    /// It was not, and is tried again then.
    Later(UnixMillis, String),
    /// It never will be.
    Failed(String),
}

/// Alerts that could not be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertTrouble {
    /// How many wait and were tried before.
    pub waiting: u64,
    /// How many were given up.
    pub failed: u64,
    /// The last answer.
    pub answer: String,
}

fn alert(row: &Row<'_>) -> TxResult<AlertRecord> {
    let addressee: String = row.get("addressee")?;
    Ok(AlertRecord {
        id: row.get("id")?,
        envelope: envelope(row, "envelope")?,
        addressee: Addressee::parse(&addressee).ok_or_else(|| bad("addressee", addressee))?,
        subject: row.get("subject")?,
        text: row.get("text")?,
        html: row.get("html")?,
        created: time(row, "created")?,
        expires: time(row, "expires")?,
        attempts: row.get("attempts")?,
    })
}

impl Tx<'_> {
    /// Somebody is to be told of a change. Said again, it changes nothing.
    ///
    /// # Errors
    /// The database's.
    pub fn to_tell(
        &self,
        addressee: &Addressee,
        agent: &AgentId,
        fault: &FaultChange,
        change: Change,
    ) -> TxResult<()> {
        self.0
            .prepare_cached(
                "INSERT INTO alerted (addressee, agent, device, key, raised_at, change)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
            )?
            .execute(params![
                addressee.to_text(),
                agent.as_str(),
                fault.device.as_str(),
                fault.fault.key.0.as_str(),
                fault.raised_at.0,
                change.as_str(),
            ])?;
        Ok(())
    }

    /// Who is to be told of something.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn untold(&self) -> TxResult<Vec<Addressee>> {
        let mut statement = self.0.prepare_cached(
            "SELECT DISTINCT addressee FROM alerted WHERE alert IS NULL ORDER BY addressee",
        )?;
        let texts = statement.query_map([], |row| row.get::<_, String>(0))?;
        texts
            .map(|text| text.map(|text| Addressee::parse(&text).ok_or_else(|| bad("addressee", text)))?)
            .collect()
    }

    /// The faults that somebody is to be told of, as many as fit one alert.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn untold_faults(&self, addressee: &Addressee) -> TxResult<Vec<AlertFault>> {
        let mut statement = self.0.prepare_cached(
            "SELECT f.*, a.site, a.note, w.changes FROM (
                 SELECT agent, device, key, raised_at, group_concat(change) AS changes FROM alerted
                 WHERE addressee = ?1 AND alert IS NULL
                 GROUP BY agent, device, key, raised_at
                 ORDER BY agent, device, key, raised_at LIMIT ?2) w
             JOIN faults f USING (agent, device, key, raised_at) JOIN agents a ON a.id = f.agent
             ORDER BY a.site, f.agent, f.device, f.raised_at, f.key",
        )?;
        let mut rows = statement.query(params![addressee.to_text(), FAULTS_MAX_COUNT])?;
        let mut faults = Vec::new();
        while let Some(row) = rows.next()? {
            let fault = record(row)?;
            let changes: String = row.get("changes")?;
            let changes: Option<BTreeSet<Change>> = changes.split(',').map(Change::parse).collect();
            faults.push(AlertFault {
                changes: changes.ok_or_else(|| bad("change", "of a fault"))?,
                agent: fault.agent.to_string(),
                site: fault.site,
                note: fault.note,
                device: fault.device,
                device_class: fault.class,
                model: fault.model,
                serial: fault.serial,
                class: fault.fault_class,
                severity: fault.severity,
                kind: fault.kind,
                code: fault.code,
                location: fault.location,
                text: fault.text,
                raised_at: fault.raised_at,
                cleared_at: fault.cleared_at,
            });
        }
        Ok(faults)
    }

    /// Puts an alert into its outbox: it tells what [`Tx::untold_faults`] gives at this moment.
    ///
    /// # Errors
    /// The database's.
    pub fn add_alert(
        &self,
        envelope: EnvelopeId,
        addressee: &Addressee,
        mail: &Mail,
        now: UnixMillis,
        expires: UnixMillis,
    ) -> TxResult<()> {
        self.0.execute(
            "INSERT INTO alerts (envelope, addressee, subject, text, state, created, expires, next_try)
             VALUES (?1, ?2, ?3, ?4, 'queued', ?5, ?6, ?5)",
            params![envelope.0, addressee.to_text(), mail.subject, mail.text, now.0, expires.0],
        )?;
        self.0.execute(
            "UPDATE alerted SET alert = ?2 WHERE addressee = ?1 AND alert IS NULL
                 AND (agent, device, key, raised_at) IN (
                     SELECT DISTINCT agent, device, key, raised_at FROM alerted WHERE addressee = ?1 AND alert IS NULL
                     ORDER BY agent, device, key, raised_at LIMIT ?3)",
            params![addressee.to_text(), self.0.last_insert_rowid(), FAULTS_MAX_COUNT],
        )?;
        Ok(())
    }

    /// The next alert that is due, `mail` or `command`, counted as tried.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn claim_alert(&self, way: &str, now: UnixMillis) -> TxResult<Option<AlertRecord>> {
        let mut statement = self.0.prepare_cached(
            "SELECT * FROM alerts WHERE state = 'queued' AND next_try <= ?1 AND addressee LIKE ?2 || ' %'
             ORDER BY id LIMIT 1",
        )?;
        let mut rows = statement.query(params![now.0, way])?;
        let Some(found) = rows.next()?.map(alert).transpose()? else { return Ok(None) };
        self.0.execute("UPDATE alerts SET attempts = attempts + 1 WHERE id = ?1", [found.id])?;
        Ok(Some(found))
    }

    /// True if an alert is due this way.
    ///
    /// # Errors
    /// The database's.
    pub fn alert_is_due(&self, way: &str, now: UnixMillis) -> TxResult<bool> {
        let mut statement = self.0.prepare_cached(
            "SELECT 1 FROM alerts WHERE state = 'queued' AND next_try <= ?1 AND addressee LIKE ?2 || ' %'",
        )?;
        Ok(statement.exists(params![now.0, way])?)
    }

    /// When the next alert is due this way.
    ///
    /// # Errors
    /// The database's.
    pub fn next_alert(&self, way: &str) -> TxResult<Option<UnixMillis>> {
        let next: Option<i64> = self.0.query_row(
            "SELECT min(next_try) FROM alerts WHERE state = 'queued' AND addressee LIKE ?1 || ' %'",
            [way],
            |row| row.get(0),
        )?;
        Ok(next.map(UnixMillis))
    }

    /// Notes what became of an alert.
    ///
    /// # Errors
    /// The database's.
    pub fn alert_outcome(&self, id: i64, outcome: &AlertOutcome) -> TxResult<()> {
        let (state, next_try, answer) = match outcome {
            AlertOutcome::Sent => ("sent", None, ""),
            AlertOutcome::Later(next_try, answer) => ("queued", Some(next_try.0), answer.as_str()),
            AlertOutcome::Failed(answer) => ("failed", None, answer.as_str()),
        };
        self.0.execute(
            "UPDATE alerts SET state = ?2, next_try = coalesce(?3, next_try), answer = ?4 WHERE id = ?1",
            params![id, state, next_try, answer],
        )?;
        Ok(())
    }

    /// Whom the alert of this envelope was for: for bounces.
    ///
    /// # Errors
    /// The database's.
    pub fn alert_of(&self, envelope: EnvelopeId) -> TxResult<Option<String>> {
        Ok(self
            .0
            .query_row("SELECT addressee FROM alerts WHERE envelope = ?1", [envelope.0], |row| row.get(0))
            .optional()?)
    }

    /// Alerts that could not be told. For `doctor`.
    ///
    /// # Errors
    /// The database's.
    pub fn alert_trouble(&self) -> TxResult<AlertTrouble> {
        let count = |sql: &str| -> TxResult<u64> {
            let n: i64 = self.0.query_row(sql, [], |row| row.get(0))?;
            u64::try_from(n).map_err(|err| bad("count", err))
        };
        let answer = self
            .0
            .query_row("SELECT answer FROM alerts WHERE answer <> '' ORDER BY id DESC LIMIT 1", [], |row| {
                row.get(0)
            })
            .optional()?;
        Ok(AlertTrouble {
            waiting: count("SELECT count(*) FROM alerts WHERE state = 'queued' AND attempts > 0")?,
            failed: count("SELECT count(*) FROM alerts WHERE state = 'failed'")?,
            answer: answer.unwrap_or_default(),
        })
    }

    /// Forgets alerts that were made before `before` and are through with. That their faults were told is remembered for
    /// as long as the faults are.
    ///
    /// # Errors
    /// The database's.
    pub fn forget_alerts(&self, before: UnixMillis) -> TxResult<()> {
        self.0.execute(
            "UPDATE alerts SET text = '', subject = '', html = NULL WHERE created < ?1 AND state <> 'queued' AND text <> ''",
            [before.0],
        )?;
        self.0.execute(
            "DELETE FROM alerts WHERE created < ?1 AND state <> 'queued'
                 AND NOT EXISTS (SELECT 1 FROM alerted WHERE alert = alerts.id)",
            [before.0],
        )?;
        Ok(())
    }
}
