//! What an operator should be able to read later: refused enrolments, bounces, odd mail.

use rusqlite::params;
use shared::UnixMillis;

use super::rows::time;
use super::{Tx, TxResult};

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: UnixMillis,
    /// About which agent, as claimed; empty if about none.
    pub agent: String,
    /// What.
    pub text: String,
}

/// Lines kept: a stranger who writes mails must not fill the disk.
const EVENTS_MAX_COUNT: i64 = 10_000;

impl Tx<'_> {
    /// Adds a line; the oldest beyond the limit go.
    ///
    /// # Errors
    /// The database's.
    pub fn log(&self, now: UnixMillis, agent: &str, text: &str) -> TxResult<()> {
        self.0
            .prepare_cached("INSERT INTO events (at, agent, text) VALUES (?1, ?2, ?3)")?
            .execute(params![now.0, agent, text])?;
        self.0
            .prepare_cached("DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?1")?
            .execute([EVENTS_MAX_COUNT])?;
        Ok(())
    }

    /// The newest lines, the newest last.
    ///
    /// # Errors
    /// The database's.
    pub fn events(&self, most: u32) -> TxResult<Vec<Event>> {
        let mut statement = self.0.prepare_cached(
            "SELECT * FROM (SELECT id, at, agent, text FROM events ORDER BY id DESC LIMIT ?1) ORDER BY id",
        )?;
        let mut rows = statement.query([most])?;
        let mut events = Vec::new();
        while let Some(row) = rows.next()? {
            events.push(Event { at: time(row, "at")?, agent: row.get("agent")?, text: row.get("text")? });
        }
        Ok(events)
    }
}
