//! What manager and agents say to each other: orders go down, reports come up. CBOR with integer keys
//! (RFC 8949), so that a field can be added without breaking boxes that were shipped years ago.
//!
//! Not here: how a message is sealed (`envelope`), and what anyone does about it (the cores).
//!
//! ```text
//! message = order / report            ; told apart by who signed the envelope (PROTOCOL 5.1)
//! order   = [0, {…}] enrolled / [1, {…}] install / [2, {}] query-versions / [3, {…}] cancel / [4, {…}] heartbeat
//!         / [5, {}] rekey / [6, {…}] acknowledge / [7, {}] query-counters / [8, {…}] schedule / [9, {…}] test
//!         / [10, {…}] device plan
//! report  = [0, {…}] enrol / [1, {…}] progress / [2, {…}] ended / [3, {…}] versions / [4, {…}] cancelled
//!         / [5, {…}] standing / [6, {…}] rekeyed / [7, {…}] faults / [8, {…}] counters
//!         / [9, {…}] fetch / [10, {…}] tested / [11, {…}] parts / [12, {…}] device updates
//! ```
//!
//! Why not JSON: every byte is paid for on some line, and binary digests would grow by half.

mod device_plan;
mod device_updates;
mod ended;
mod line;
mod observed;
mod orders;
mod parts;
mod planned;
mod progress;
mod standing;
#[cfg(test)]
mod tests;
mod versions;

use minicbor::{Decode, Encode};

use crate::limits::MESSAGE_MAX_BYTES;

pub use device_plan::{DeviceAction, DeviceChoice, DevicePlan, Rest};
pub use device_updates::{DeviceUpdate, DeviceUpdates, UpdateReason, UpdateState};
pub use ended::{Cause, EXIT_NOT_NOW, EXIT_RESTART, Ended, Failure, Outcome, OutputTail, Phase, Refusal};
pub use line::{Budget, Hours, Line};
pub use observed::{Acknowledge, CounterReport, FaultChange, FaultReport, Linked, ReadingMark};
pub use orders::{CancelOrder, DeltaHere, Enrolled, Heartbeat, InstallOrder};
pub use parts::{PartsWanted, arrived};
pub use planned::{Fetch, Interval, Schedule, TestOrder, TestResult, Tested};
pub use progress::{Hindrance, Progress, Step, WaitReason, Waiting};
pub use standing::{CancelAnswer, CancelResult, EnrolRequest, Rekeyed, Standing};
pub use versions::{FileState, ModuleVersion, Reported, VersionReport, Versions};

/// An instruction of the manager. Its identity, sequence and expiry are those of the envelope's header.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Order {
    /// The manager has accepted the agent's keys.
    #[n(0)]
    Enrolled(#[n(0)] Enrolled),
    /// Install the bundle that follows the message.
    #[n(1)]
    Install(#[n(0)] InstallOrder),
    /// Report every module's version (M10).
    #[n(2)]
    QueryVersions,
    /// Do not begin these orders if they have not begun.
    #[n(3)]
    Cancel(#[n(0)] CancelOrder),
    /// The manager is there; its time is the envelope's.
    #[n(4)]
    Heartbeat(#[n(0)] Heartbeat),
    /// Make new keys of your own (PROTOCOL 13).
    #[n(5)]
    Rekey,
    /// The manager has these fault reports and readings (M3).
    #[n(6)]
    Acknowledge(#[n(0)] Acknowledge),
    /// Report the counters that are collected (M5).
    #[n(7)]
    QueryCounters,
    /// When a bundle may be installed (PROTOCOL 15).
    #[n(8)]
    Schedule(#[n(0)] Schedule),
    /// Run the installed bundle's test (PROTOCOL 16).
    #[n(9)]
    Test(#[n(0)] TestOrder),
    /// When the devices get the firmware of a bundle (PROTOCOL 18).
    #[n(10)]
    DevicePlan(#[n(0)] DevicePlan),
}

/// A statement of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Report {
    /// Asks to be accepted, with the secret of the invitation.
    #[n(0)]
    Enrol(#[n(0)] EnrolRequest),
    /// An install order arrived, or waits.
    #[n(1)]
    Progress(#[n(0)] Progress),
    /// An install order has ended, one way or the other.
    #[n(2)]
    Ended(#[n(0)] Ended),
    /// Answer to a version query, or sent unasked.
    #[n(3)]
    Versions(#[n(0)] Versions),
    /// Answer to a cancel order, one for each order that it named.
    #[n(4)]
    Cancelled(#[n(0)] CancelAnswer),
    /// Whom the agent trusts, and whether it hears the manager. Sent when one of them changes.
    #[n(5)]
    Standing(#[n(0)] Standing),
    /// Answer to a rekey order: the agent's new keys.
    #[n(6)]
    Rekeyed(#[n(0)] Rekeyed),
    /// Faults of devices that began or ended (M2). Acknowledged.
    #[n(7)]
    Faults(#[n(0)] FaultReport),
    /// Readings of counters (M4): an answer, or on schedule. Acknowledged.
    #[n(8)]
    Counters(#[n(0)] CounterReport),
    /// The time of a schedule has come: the bundle is wanted.
    #[n(9)]
    Fetch(#[n(0)] Fetch),
    /// How a test ended.
    #[n(10)]
    Tested(#[n(0)] Tested),
    /// Parts of an order's body are missing (PROTOCOL 17).
    #[n(11)]
    Parts(#[n(0)] PartsWanted),
    /// How the updates of devices go (PROTOCOL 18).
    #[n(12)]
    DeviceUpdates(#[n(0)] DeviceUpdates),
}

/// A message that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// Larger than [`MESSAGE_MAX_BYTES`].
    #[error("message of {found} bytes, expected at most {MESSAGE_MAX_BYTES}")]
    TooLarge {
        /// Its size in bytes.
        found: usize,
    },
    /// Not the CBOR of a message.
    #[error("not a message of this protocol version")]
    Decode(#[source] minicbor::decode::Error),
    /// Bytes after the message's end.
    #[error("{extra} bytes after the message's end")]
    Trailing {
        /// How many.
        extra: usize,
    },
}

/// CBOR of a message.
#[must_use]
pub fn encode<T: Encode<()>>(message: &T) -> Vec<u8> {
    // Encoding into memory cannot fail: minicbor's `Vec` writer is infallible.
    minicbor::to_vec(message).unwrap_or_default()
}

fn decode<'b, T: Decode<'b, ()>>(bytes: &'b [u8]) -> Result<T, MessageError> {
    if bytes.len() > MESSAGE_MAX_BYTES {
        return Err(MessageError::TooLarge { found: bytes.len() });
    }
    let mut decoder = minicbor::Decoder::new(bytes);
    let message = decoder.decode().map_err(MessageError::Decode)?;
    match bytes.len().saturating_sub(decoder.position()) {
        0 => Ok(message),
        extra => Err(MessageError::Trailing { extra }),
    }
}

/// Reads an order.
///
/// # Errors
/// Too large, not an order, or bytes after it.
pub fn decode_order(bytes: &[u8]) -> Result<Order, MessageError> {
    decode(bytes)
}

/// Reads a report.
///
/// # Errors
/// Too large, not a report, too many modules, or bytes after it.
pub fn decode_report(bytes: &[u8]) -> Result<Report, MessageError> {
    decode(bytes)
}
