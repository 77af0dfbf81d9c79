//! What an agent says of itself: that it asks to be accepted, whom it trusts, its new keys, and what became of orders that were
//! withdrawn.

use core::fmt;

use minicbor::{Decode, Encode};

use crate::address::MailAddress;
use crate::id::{AgentId, EnvelopeId, Label};
use crate::time::UnixMillis;

/// How an agent stands to its manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Standing {
    /// Version of the trust that it holds.
    #[n(0)]
    pub trust_version: u32,
    /// The last heartbeat came then, and several that should have followed did not: somebody may keep the
    /// manager's mails from this agent. `None`: heartbeats come.
    #[n(1)]
    pub unheard_since: Option<UnixMillis>,
}

/// The first mail of an agent.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct EnrolRequest {
    /// The ID in the invitation.
    #[n(0)]
    pub agent: AgentId,
    /// The one-time secret in the invitation.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub secret: [u8; 32],
    /// Ed25519 key that will sign this agent's reports; it has signed this envelope.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub sign_key: [u8; 32],
    /// X25519 key that orders for this agent are sealed to.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub seal_key: [u8; 32],
    /// Where the agent reads its mail.
    #[n(4)]
    pub mail: MailAddress,
    /// Version of the agent program.
    #[n(5)]
    pub agent_version: Label,
}

impl fmt::Debug for EnrolRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrolRequest")
            .field("agent", &self.agent)
            .field("mail", &self.mail)
            .finish_non_exhaustive()
    }
}

/// New keys of an agent, under its old one. Made and checked in [`rekey`](crate::rekey).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Rekeyed {
    /// The order that asked for them.
    #[n(0)]
    pub order: EnvelopeId,
    /// Ed25519 key that will sign this agent's reports.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub sign_key: [u8; 32],
    /// X25519 key that orders for this agent are to be sealed to.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub seal_key: [u8; 32],
    /// The new signing key's signature: whoever names it holds it.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub proof: [u8; 64],
}

/// What became of a withdrawn order.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct CancelAnswer {
    /// The withdrawn order.
    #[n(0)]
    pub order: EnvelopeId,
    /// What became of it.
    #[n(1)]
    pub result: CancelResult,
}

/// What became of a withdrawn order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum CancelResult {
    /// It had not begun and will not.
    #[n(0)]
    BeforeStart,
    /// It had begun or ended.
    #[n(1)]
    TooLate,
    /// It was never seen; if it comes, it is refused.
    #[n(2)]
    Unknown,
}

impl fmt::Display for CancelResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::BeforeStart => "cancelled before it began",
            Self::TooLate => "too late to cancel",
            Self::Unknown => "cancelled before it arrived",
        })
    }
}
