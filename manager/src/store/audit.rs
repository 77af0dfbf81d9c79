//! The audit log: who did what, when. Rows are added, and never changed: the database refuses it, and the chain of digests shows it.

use manager_core::audit::{Entry, seal};
use rusqlite::{OptionalExtension as _, params};
use shared::{Digest, UnixMillis};

use super::rows::{digest, signed, time, unsigned};
use super::{Tx, TxResult};

impl Tx<'_> {
    /// Adds a row.
    ///
    /// # Errors
    /// The database's.
    pub fn audit(&self, now: UnixMillis, who: &str, what: &str) -> TxResult<()> {
        let last: Option<(i64, [u8; 32])> = self
            .0
            .query_row("SELECT number, digest FROM audit ORDER BY number DESC LIMIT 1", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let number =
            last.map_or(0, |(number, _)| u64::try_from(number).unwrap_or(u64::MAX)).saturating_add(1);
        let digest = seal(last.map(|(_, digest)| Digest(digest)), number, now, who, what);
        self.0
            .prepare_cached("INSERT INTO audit (number, at, who, what, digest) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![signed(number), now.0, who, what, digest.0])?;
        Ok(())
    }

    /// The rows from a time on, the oldest first, one after the other.
    ///
    /// # Errors
    /// The database's, a bad row, or what `each` says.
    pub fn audited(
        &self,
        since: Option<UnixMillis>,
        mut each: impl FnMut(Entry) -> TxResult<()>,
    ) -> TxResult<()> {
        let mut statement = self.0.prepare_cached("SELECT * FROM audit WHERE at >= ?1 ORDER BY number")?;
        let mut rows = statement.query([since.map_or(i64::MIN, |since| since.0)])?;
        while let Some(row) = rows.next()? {
            each(Entry {
                number: unsigned(row, "number")?,
                at: time(row, "at")?,
                who: row.get("who")?,
                what: row.get("what")?,
                digest: digest(row, "digest")?,
            })?;
        }
        Ok(())
    }
}
