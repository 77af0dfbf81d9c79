//! Devices as they were last known, and what was left of their supplies day by day.

use std::ops::ControlFlow;

use manager_core::supply::Point;
use rusqlite::{Row, params};
use shared::device::{DeviceName, Observation};
use shared::message::{FaultChange, ReadingMark};
use shared::reading::Reading;
use shared::{AgentId, UnixMillis};

use super::faults::text_of;
use super::rows::{bad, cbor, signed, time, to_cbor, unsigned};
use super::{Tx, TxResult};

/// Devices that are kept of one agent: as many as it can watch, and those before them.
const DEVICES_MAX_COUNT: i64 = 4_000;

/// Levels that are kept of one device: 100 supplies for as many days.
const LEVELS_MAX_COUNT: i64 = 12_000;

/// A device as it was last known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRecord {
    /// Its name.
    pub device: String,
    /// What it is.
    pub class: String,
    /// Its maker and model in one text, where only a fault has said it.
    pub model: String,
    /// Its serial number.
    pub serial: String,
    /// When it was last heard of.
    pub heard_at: UnixMillis,
    /// Its last reading; `None`: there is none yet.
    pub seen: Option<Observation>,
    /// Faults that have not ended.
    pub open_faults: u64,
}

fn record(row: &Row<'_>) -> TxResult<DeviceRecord> {
    let seen: Option<Vec<u8>> = row.get("seen")?;
    Ok(DeviceRecord {
        device: row.get("device")?,
        class: row.get("class")?,
        model: row.get("model")?,
        serial: row.get("serial")?,
        heard_at: time(row, "heard_at")?,
        seen: seen.as_deref().map(|bytes| cbor("observation", bytes)).transpose()?,
        open_faults: unsigned(row, "open_faults")?,
    })
}

impl Tx<'_> {
    /// Notes a device that a fault names, if it is not known.
    ///
    /// # Errors
    /// The database's.
    pub fn know_device(&self, agent: &AgentId, change: &FaultChange, now: UnixMillis) -> TxResult<()> {
        self.0
            .prepare_cached(
                "INSERT INTO devices (agent, device, class, model, serial, heard_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (agent, device) DO UPDATE SET heard_at = excluded.heard_at",
            )?
            .execute(params![
                agent.as_str(),
                change.device.as_str(),
                change.class.as_str(),
                text_of(change.model.as_ref()),
                text_of(change.serial.as_ref()),
                now.0,
            ])?;
        Ok(())
    }

    /// Notes a device's state by a reading, unless a later one of the same chain is known.
    ///
    /// # Errors
    /// The database's.
    pub fn see_device(&self, reading: &Reading, now: UnixMillis) -> TxResult<()> {
        let ReadingMark { chain, index } = reading.mark;
        let identity = &reading.seen.identity;
        self.0
            .prepare_cached(
                "INSERT INTO devices (agent, device, class, model, serial, heard_at, chain, idx, seen)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                 ON CONFLICT (agent, device) DO UPDATE SET class = excluded.class, model = excluded.model,
                     serial = excluded.serial, heard_at = excluded.heard_at, chain = excluded.chain,
                     idx = excluded.idx, seen = excluded.seen
                 WHERE devices.chain IS NOT excluded.chain OR devices.idx < excluded.idx",
            )?
            .execute(params![
                reading.agent.as_str(),
                reading.device.as_str(),
                reading.seen.class.as_str(),
                text_of(identity.model.as_ref()),
                text_of(identity.serial.as_ref()),
                now.0,
                chain.cast_signed(),
                signed(index),
                to_cbor(&reading.seen),
            ])?;
        Ok(())
    }

    /// Keeps an agent's devices within their bound: who was heard of last stays.
    ///
    /// # Errors
    /// The database's.
    pub fn bound_devices(&self, agent: &AgentId) -> TxResult<()> {
        self.0.execute(
            "DELETE FROM devices WHERE agent = ?1 AND rowid NOT IN
                 (SELECT rowid FROM devices WHERE agent = ?1 ORDER BY heard_at DESC, device LIMIT ?2)",
            params![agent.as_str(), DEVICES_MAX_COUNT],
        )?;
        Ok(())
    }

    /// Notes what was left of a supply on a day; the last reading of the day counts.
    ///
    /// # Errors
    /// The database's.
    pub fn supply_level(
        &self,
        agent: &AgentId,
        device: &DeviceName,
        key: &str,
        day: i64,
        point: Point,
    ) -> TxResult<()> {
        self.0
            .prepare_cached(
                "INSERT INTO supply_levels (agent, device, key, day, taken_at, level) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (agent, device, key, day) DO UPDATE SET taken_at = excluded.taken_at,
                     level = excluded.level WHERE supply_levels.taken_at < excluded.taken_at",
            )?
            .execute(params![agent.as_str(), device.as_str(), key, day, point.at.0, point.level])?;
        Ok(())
    }

    /// Keeps a device's levels within their bound: the oldest days go.
    ///
    /// # Errors
    /// The database's.
    pub fn bound_levels(&self, agent: &AgentId, device: &DeviceName) -> TxResult<()> {
        let name = params![agent.as_str(), device.as_str()];
        let count: i64 = self
            .0
            .prepare_cached("SELECT count(*) FROM supply_levels WHERE agent = ?1 AND device = ?2")?
            .query_row(name, |row| row.get(0))?;
        let over = count.saturating_sub(LEVELS_MAX_COUNT);
        if over > 0 {
            self.0.execute(
                "DELETE FROM supply_levels WHERE agent = ?1 AND device = ?2 AND (key, day) IN
                     (SELECT key, day FROM supply_levels WHERE agent = ?1 AND device = ?2 ORDER BY day LIMIT ?3)",
                params![agent.as_str(), device.as_str(), over],
            )?;
        }
        Ok(())
    }

    /// What was left of a supply, in the order of time.
    ///
    /// # Errors
    /// The database's.
    pub fn supply_levels(&self, agent: &AgentId, device: &str, key: &str) -> TxResult<Vec<Point>> {
        let mut statement = self.0.prepare_cached(
            "SELECT taken_at, level FROM supply_levels WHERE agent = ?1 AND device = ?2 AND key = ?3 ORDER BY day",
        )?;
        let points = statement.query_map(params![agent.as_str(), device, key], |row| {
            Ok(Point { at: UnixMillis(row.get(0)?), level: row.get(1)? })
        })?;
        Ok(points.collect::<Result<_, _>>()?)
    }

    /// Hands over an agent's devices by name, until the caller has enough.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn each_device(
        &self,
        agent: &AgentId,
        mut take: impl FnMut(DeviceRecord) -> TxResult<ControlFlow<()>>,
    ) -> TxResult<()> {
        let mut statement = self.0.prepare_cached(
            "SELECT d.*, (SELECT count(*) FROM faults f
                              WHERE f.agent = d.agent AND f.device = d.device AND f.cleared_at IS NULL) AS open_faults
             FROM devices d WHERE d.agent = ?1 ORDER BY d.device",
        )?;
        let mut rows = statement.query([agent.as_str()])?;
        while let Some(row) = rows.next()? {
            if take(record(row)?)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// True if a device of an agent is known.
    ///
    /// # Errors
    /// The database's.
    pub fn knows_device(&self, agent: &AgentId, device: &DeviceName) -> TxResult<bool> {
        Ok(self
            .0
            .prepare_cached("SELECT 1 FROM devices WHERE agent = ?1 AND device = ?2")?
            .exists(params![agent.as_str(), device.as_str()])?)
    }

    /// How many devices of an agent are known.
    ///
    /// # Errors
    /// The database's.
    pub fn device_count(&self, agent: &AgentId) -> TxResult<u64> {
        let count: i64 =
            self.0.query_row("SELECT count(*) FROM devices WHERE agent = ?1", [agent.as_str()], |row| {
                row.get(0)
            })?;
        u64::try_from(count).map_err(|err| bad("count", err))
    }

    /// Forgets levels of days before this one.
    ///
    /// # Errors
    /// The database's.
    pub fn forget_levels(&self, before_day: i64) -> TxResult<()> {
        self.0.execute("DELETE FROM supply_levels WHERE day < ?1", [before_day])?;
        Ok(())
    }
}
