//! One request to one device, and what can come of it. The real one is in `wire`; tests bring their own.

use std::fmt;

use super::oid::Oid;
use super::rows::Value;

/// How single objects are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// These very objects.
    Get,
    /// What follows each of them.
    Next,
}

/// One object of an answer. `None`: the device has no such object, or nothing follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) oid: Oid,
    pub(crate) value: Option<Value>,
}

/// Why a request brought nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AskFault {
    /// No answer in time.
    Silent,
    /// User, password or community are not accepted.
    Refused(String),
    /// The device says that it cannot answer for one of the objects.
    Object {
        /// Which one, counted from 1; 0: not said.
        index: usize,
        /// Why.
        status: ObjectStatus,
    },
    /// An answer that makes no sense.
    Garbage(String),
    /// The network says that nothing is there.
    Unreachable(String),
    /// It answers, and has nothing that this driver reads.
    Nothing,
    /// Our own side.
    Local(String),
}

/// Why a device cannot answer for an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ObjectStatus {
    /// There is none (version 1 says it for the whole request).
    None,
    /// The answer would be too long.
    TooBig,
    /// Anything else, in SNMP's words: mostly `genErr`, a bug of the device.
    Other(String),
}

impl fmt::Display for ObjectStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no such name"),
            Self::TooBig => f.write_str("too big"),
            Self::Other(status) => f.write_str(status),
        }
    }
}

impl fmt::Display for AskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("no answer in time"),
            Self::Nothing => f.write_str("it has none of the objects that are asked for first"),
            Self::Object { status, .. } => status.fmt(f),
            Self::Refused(why) | Self::Garbage(why) | Self::Unreachable(why) | Self::Local(why) => {
                f.write_str(why)
            }
        }
    }
}

/// Asks one device, one request at a time. A request level and no "walk", because what to do when a device stumbles
/// over a request is the driver's own (`fetch`) and must be tested without a network.
pub(crate) trait Ask {
    /// Asks single objects; as many answers as questions, in their order, unless the device is broken.
    fn single(&self, how: How, objects: &[Oid])
    -> impl Future<Output = Result<Vec<Answer>, AskFault>> + Send;

    /// Asks what follows each of `objects`, `repetitions` times, interleaved (GETBULK).
    fn bulk(
        &self,
        objects: &[Oid],
        repetitions: u32,
    ) -> impl Future<Output = Result<Vec<Answer>, AskFault>> + Send;

    /// False for version 1.
    fn has_bulk(&self) -> bool;
}
