//! The manager's SQLite store: every SQL statement of the product is in this folder. It keeps values and
//! gives them back; what they mean is decided in `manager-core`.
//!
//! Write-ahead log with full sync: what was committed survives a power cut. Several processes may use it at
//! once (a command beside the daemon); each write is one immediate transaction.

mod agents;
mod alerts;
mod audit;
mod campaigns;
mod cli_queries;
mod consents;
mod delivery;
mod deltas;
mod device_plans;
mod device_updates;
mod devices;
mod events;
mod faults;
mod keys;
mod outbox;
mod parts;
mod readings;
mod reports;
mod rows;
#[cfg(test)]
mod schema_tests;
#[cfg(test)]
mod tests;
mod watches;

pub use agents::{AgentRecord, AgentState, NewAgent};
pub use alerts::{AlertOutcome, AlertRecord, AlertTrouble};
pub use campaigns::{BundleRecord, NewCampaign, NewTarget};
pub use cli_queries::AgentTarget;
pub use consents::ConsentRecord;
pub use delivery::{Bounced, MailedAgain};
pub use device_plans::{DuePlan, PlanRecord};
pub use device_updates::UpdateRecord;
pub use devices::DeviceRecord;
pub use events::Event;
pub use faults::{FaultNews, FaultRecord};
pub use keys::{KeyAge, Sender};
pub use outbox::{BodyPlace, BodyRecord, Due, NewBody, NewOrder, OrderKind, Recipient, RecipientOutcome};
pub use parts::{Mailing, PartsRecord};
pub use readings::{KeptReading, NewReading, RefusedReading};
pub use reports::{NewReport, QueryProgress};
pub use watches::{Owed, WatchRecord};

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use rusqlite_migration::{M, Migrations};
use thiserror::Error;

/// How long one statement waits for another process.
const BUSY_LIMIT: Duration = Duration::from_secs(10);

/// Append only: a migration that has left the house is never edited.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_initial.sql"),
    include_str!("migrations/0002_outbox_indexes.sql"),
    include_str!("migrations/0003_standing.sql"),
    include_str!("migrations/0004_agent_keys.sql"),
    include_str!("migrations/0005_devices.sql"),
    include_str!("migrations/0006_rollouts.sql"),
    include_str!("migrations/0007_second_addresses.sql"),
    include_str!("migrations/0008_stamps.sql"),
    include_str!("migrations/0009_parts.sql"),
    include_str!("migrations/0010_deltas.sql"),
    include_str!("migrations/0011_device_updates.sql"),
];

/// The open store.
#[derive(Debug)]
pub struct Store {
    conn: Connection,
    path: PathBuf,
}

/// A store that cannot be used.
#[derive(Debug, Error)]
pub enum StoreError {
    /// It is not there.
    #[error("there is no database at {}: expected the one that init made; restore it from a copy", .0.display())]
    Missing(PathBuf),
    /// It cannot be opened, read or written.
    #[error("cannot use the database {}", .0.display())]
    Sql(PathBuf, #[source] rusqlite::Error),
    /// Another process holds it for too long.
    #[error("the database {} is locked by another process for more than {} s: look for a mailfleet that hangs, or a copy in progress, and try again", .0.display(), BUSY_LIMIT.as_secs())]
    Locked(PathBuf),
    /// Its bytes are damaged.
    #[error("the database {} is damaged: stop the daemon, put it aside with its -wal and -shm files, and restore a copy", .0.display())]
    Damaged(PathBuf, #[source] rusqlite::Error),
    /// The disk is full.
    #[error("no room to write the database {}: free some and try again; nothing was lost", .0.display())]
    Full(PathBuf),
    /// A later program has written it.
    #[error("the database {} was written by a later version of mailfleet: use that one", .0.display())]
    Newer(PathBuf),
    /// The schema cannot be brought up to date.
    #[error("cannot bring the database {} up to date", .0.display())]
    Migration(PathBuf, #[source] rusqlite_migration::Error),
    /// A row holds what no version of the program writes.
    #[error("the database {} holds a bad {what}", path.display())]
    Row {
        /// The database.
        path: PathBuf,
        /// What is bad.
        what: String,
    },
}

/// Errors inside a transaction; [`Store`] adds the file's name.
#[derive(Debug, Error)]
pub enum TxError {
    /// The database says no.
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
    /// A value in it makes no sense.
    #[error("bad {0}")]
    Row(String),
}

/// Result of work inside a transaction.
pub type TxResult<T> = Result<T, TxError>;

/// A transaction: all of it happens, or nothing.
#[derive(Debug)]
pub struct Tx<'c>(Transaction<'c>);

impl Store {
    /// Opens the store of a home, which `init` has created.
    ///
    /// # Errors
    /// It is missing, locked, damaged, or of a later program.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if !path.is_file() {
            return Err(StoreError::Missing(path.to_owned()));
        }
        Self::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
    }

    /// Creates the store, or opens one that is there.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        // Made here, so that it is never readable by others, nor are the files that SQLite puts beside it.
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|err| sort(path, rusqlite::Error::ToSqlConversionFailure(Box::new(err))))?;
        Self::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
    }

    fn connect(path: &Path, flags: OpenFlags) -> Result<Self, StoreError> {
        let error = |err| sort(path, err);
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut conn = Connection::open_with_flags(path, flags).map_err(error)?;
        conn.busy_timeout(BUSY_LIMIT).map_err(error)?;
        conn.pragma_update(None, "journal_mode", "WAL").map_err(error)?;
        conn.pragma_update(None, "synchronous", "FULL").map_err(error)?;
        conn.pragma_update(None, "foreign_keys", "ON").map_err(error)?;
        // Content keys and secrets' digests are in there.
        fs::set_permissions(path, Permissions::from_mode(0o600))
            .map_err(|err| error(rusqlite::Error::ToSqlConversionFailure(Box::new(err))))?;
        let migrations = Migrations::new(MIGRATIONS.iter().map(|sql| M::up(sql)).collect());
        migrations.to_latest(&mut conn).map_err(|err| match err {
            rusqlite_migration::Error::MigrationDefinition(
                rusqlite_migration::MigrationDefinitionError::DatabaseTooFarAhead,
            ) => StoreError::Newer(path.to_owned()),
            rusqlite_migration::Error::RusqliteError { err, .. } => sort(path, err),
            other => StoreError::Migration(path.to_owned(), other),
        })?;
        Ok(Self { conn, path: path.to_owned() })
    }

    /// The database file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads: all that `work` sees is of one moment.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn read<T>(&mut self, work: impl FnOnce(&Tx<'_>) -> TxResult<T>) -> Result<T, StoreError> {
        self.run(TransactionBehavior::Deferred, work)
    }

    /// Writes: all of `work` happens, durably, or nothing of it.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn write<T>(&mut self, work: impl FnOnce(&Tx<'_>) -> TxResult<T>) -> Result<T, StoreError> {
        self.run(TransactionBehavior::Immediate, work)
    }

    fn run<T>(
        &mut self,
        behavior: TransactionBehavior,
        work: impl FnOnce(&Tx<'_>) -> TxResult<T>,
    ) -> Result<T, StoreError> {
        let path = &self.path;
        let tx = Tx(self.conn.transaction_with_behavior(behavior).map_err(|err| sort(path, err))?);
        let value = work(&tx).map_err(|err| match err {
            TxError::Sql(err) => sort(path, err),
            TxError::Row(what) => StoreError::Row { path: path.clone(), what },
        })?;
        tx.0.commit().map_err(|err| sort(path, err))?;
        Ok(value)
    }

    /// Lets SQLite check the whole file. For `doctor`.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&mut self) -> Result<(), StoreError> {
        let result: rusqlite::Result<String> =
            self.conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0));
        match result.map_err(|err| sort(&self.path, err))?.as_str() {
            "ok" => Ok(()),
            text => {
                let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
                let err = rusqlite::Error::SqliteFailure(code, Some(text.to_owned()));
                Err(StoreError::Damaged(self.path.clone(), err))
            }
        }
    }
}

fn sort(path: &Path, err: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    match err.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Locked(path),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged(path, err),
        Some(ErrorCode::DiskFull) => StoreError::Full(path),
        _ => StoreError::Sql(path, err),
    }
}
