//! Why a device could not be asked. Each kind leads a person, or the agent, to another next step.

use thiserror::Error;

/// Why a device could not be asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PollFault {
    /// Nothing is there: no route, connection refused, unknown name.
    #[error("cannot reach {address}: {why}")]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// What the network said.
        why: String,
    },
    /// It does not answer in time: switched off, asleep, or the community is wrong (SNMP answers neither).
    #[error("no answer from {address} within {limit_ms} ms{hint}")]
    NoAnswer {
        /// Where it was asked.
        address: String,
        /// How long it was waited for.
        limit_ms: u64,
        /// What else may be the reason: begins with a semicolon, or is empty.
        hint: &'static str,
    },
    /// It answers and refuses: user, password or community.
    #[error("{address} refuses: {why}")]
    Refused {
        /// Who refuses.
        address: String,
        /// What it says.
        why: String,
    },
    /// Who it is cannot be told.
    #[error("{address} is not trusted: {why}")]
    Untrusted {
        /// Who was asked.
        address: String,
        /// What is wrong with its certificate.
        why: String,
    },
    /// It answers, but has nothing that this driver understands.
    #[error("{address} has nothing that the driver {driver} understands: {why}")]
    Unsupported {
        /// Who was asked.
        address: String,
        /// The driver.
        driver: &'static str,
        /// What is missing.
        why: String,
    },
    /// It answers without sense.
    #[error("{address} answers without sense: {why}")]
    Garbage {
        /// Who was asked.
        address: String,
        /// What is wrong.
        why: String,
    },
    /// The agent's own side: a file, a program, the network of the box.
    #[error("cannot ask: {0}")]
    Local(String),
}

impl PollFault {
    /// True if the device may be switched off or asleep: nothing came from it at all.
    #[must_use]
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::NoAnswer { .. })
    }
}
