//! What agents say of their devices, and the manager's answers to it: faults with their acknowledgement (M2, M3),
//! readings of counters (M4, M5).

use minicbor::{Decode, Encode};

use super::encode;
use crate::bounded;
use crate::device::{DeviceClass, DeviceName, Fault};
use crate::id::{Digest, EnvelopeId, Label};
use crate::limits::{ACKNOWLEDGED_MAX_COUNT, FAULT_CHANGES_MAX_COUNT, READINGS_PACKED_MAX_BYTES};
use crate::time::UnixMillis;

/// Says what the manager has and the agent need not keep any more. For one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Acknowledge {
    /// Numbers of fault reports.
    #[cbor(n(0), decode_with = "bounded::list::<_, _, ACKNOWLEDGED_MAX_COUNT>")]
    pub faults: Vec<u64>,
    /// Every reading up to this index of this chain has come. A later answer may name an earlier index: then readings
    /// are asked for again.
    #[n(1)]
    pub readings: Option<ReadingMark>,
    /// The reading that the manager has at that place. If the agent's is another one, its disk holds an older copy of what it
    /// held (PROTOCOL 14.10). `None`: the manager does not have that one any more.
    #[n(2)]
    pub there: Option<Linked>,
    /// The stamps of those fault reports that have one. An agent takes its reports by these (PROTOCOL 14.2): numbers are given
    /// out again after a disk was put back. `None`: a manager that knows of none.
    #[cbor(n(3), default, decode_with = "bounded_stamps")]
    pub stamps: Option<Vec<Digest>>,
}

/// A reading by its digest, and the one that it names as the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Linked {
    /// Its own digest.
    #[n(0)]
    pub digest: Digest,
    /// That of the one before.
    #[n(1)]
    pub previous: Digest,
}

/// A place in an agent's chain of readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(map)]
pub struct ReadingMark {
    /// The chain: an agent begins another one when it has lost the old one.
    #[n(0)]
    pub chain: u64,
    /// Index in it.
    #[n(1)]
    pub index: u64,
}

/// Faults that began or ended.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct FaultReport {
    /// The agent's number for it, which the acknowledgement names. The same when it is sent again.
    #[n(0)]
    pub number: u64,
    /// What changed.
    #[cbor(n(1), decode_with = "bounded::list::<_, _, FAULT_CHANGES_MAX_COUNT>")]
    pub changes: Vec<FaultChange>,
    /// Changes that the agent had no room to keep, ever.
    #[n(2)]
    pub dropped: u64,
    /// Tells it from another report that got the same number before a disk was put back: SHA-256 of the report as it was first
    /// made, without this. The same when it is sent again. `None`: an older agent has made it.
    #[n(3)]
    pub stamp: Option<Digest>,
}

impl FaultReport {
    /// A report that is made now.
    #[must_use]
    pub fn stamped(number: u64, changes: Vec<FaultChange>, dropped: u64) -> Self {
        let plain = Self { number, changes, dropped, stamp: None };
        let stamp = Some(Digest::of(&encode(&plain)));
        Self { stamp, ..plain }
    }
}

/// One fault of a device, from its beginning. Device, key and beginning name it: said again, it is the same one.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct FaultChange {
    /// The device.
    #[n(0)]
    pub device: DeviceName,
    /// What it is.
    #[n(1)]
    pub class: DeviceClass,
    /// Its maker and model, if it says them.
    #[n(2)]
    pub model: Option<Label>,
    /// Its serial number, if it says one.
    #[n(3)]
    pub serial: Option<Label>,
    /// The fault, as it was seen last.
    #[n(4)]
    pub fault: Fault,
    /// When it was first seen.
    #[n(5)]
    pub raised_at: UnixMillis,
    /// When it was first seen to be gone.
    #[n(6)]
    pub cleared_at: Option<UnixMillis>,
    /// How often it has come back in between, too soon to count as another one.
    #[n(7)]
    pub returns: u32,
}

/// Readings of counters, packed (`crate::reading`).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct CounterReport {
    /// The query that it answers; `None`: on schedule.
    #[n(0)]
    pub query: Option<EnvelopeId>,
    /// It holds what the agent keeps after this one; `None`: from the beginning.
    #[n(4)]
    pub after: Option<ReadingMark>,
    /// The last reading that it holds; `None`: there is none after `after`.
    #[n(1)]
    pub upto: Option<ReadingMark>,
    /// The agent keeps readings after that one, and sends them when these are acknowledged.
    #[n(2)]
    pub more: bool,
    /// The readings, in their order, as `reading::pack` has made them.
    #[cbor(n(3), encode_with = "minicbor::bytes::encode", decode_with = "bounded_bytes")]
    pub packed: Vec<u8>,
}

/// Refuses too many while they are read.
fn bounded_stamps<C>(
    d: &mut minicbor::Decoder<'_>,
    ctx: &mut C,
) -> Result<Option<Vec<Digest>>, minicbor::decode::Error> {
    if d.datatype()? == minicbor::data::Type::Null {
        d.null()?;
        return Ok(None);
    }
    bounded::list::<_, _, ACKNOWLEDGED_MAX_COUNT>(d, ctx).map(Some)
}

/// Refuses what is too long before it is copied.
fn bounded_bytes<C>(d: &mut minicbor::Decoder<'_>, _: &mut C) -> Result<Vec<u8>, minicbor::decode::Error> {
    let bytes = d.bytes()?;
    if bytes.len() > READINGS_PACKED_MAX_BYTES {
        return Err(minicbor::decode::Error::message("more readings than one report may hold"));
    }
    Ok(bytes.to_vec())
}
