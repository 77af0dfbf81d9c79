//! What each order says.

use minicbor::{Decode, Encode};

use crate::id::{AgentId, Digest, EnvelopeId};
use crate::version::SoftwareVersion;

/// Confirms an enrolment, or new keys.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Enrolled {
    /// The agent that was accepted.
    #[n(0)]
    pub agent: AgentId,
    /// When to expect heartbeats; `None`: there are none.
    #[n(1)]
    pub heartbeat: Option<Heartbeat>,
}

/// Says that another one comes after so long (PROTOCOL 12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Heartbeat {
    /// Milliseconds between two heartbeats.
    #[n(0)]
    pub every_ms: u64,
}

/// Brings the bundle in the envelope's payload.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct InstallOrder {
    /// Digest of the bundle in full.
    #[n(0)]
    pub bundle: Digest,
    /// Size of the bundle in full.
    #[n(1)]
    pub bundle_bytes: u64,
    /// What the agent is called afterwards.
    #[n(2)]
    pub software_version: SoftwareVersion,
    /// It waits for a schedule of this bundle, which is mailed by itself.
    #[cbor(n(3), default, skip_if = "core::ops::Not::not")]
    pub scheduled: bool,
    /// What comes is a delta of that bundle, and not the bundle itself (PROTOCOL 6.9).
    #[n(4)]
    pub delta: Option<DeltaHere>,
}

impl InstallOrder {
    /// Digest and size of what follows the order.
    #[must_use]
    pub fn payload(&self) -> (Digest, u64) {
        self.delta.map_or((self.bundle, self.bundle_bytes), |delta| (delta.digest, delta.bytes))
    }
}

/// A delta that follows an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct DeltaHere {
    /// Digest of what comes.
    #[n(0)]
    pub digest: Digest,
    /// Its size.
    #[n(1)]
    pub bytes: u64,
}

/// Names orders that are withdrawn. Idempotent.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct CancelOrder {
    /// The withdrawn orders.
    #[n(0)]
    pub orders: Vec<EnvelopeId>,
}
