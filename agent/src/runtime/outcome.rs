//! How a run is meant and how it ends: plain values between the loop and its callers.

use std::path::PathBuf;

use thiserror::Error;

use crate::ledger::LedgerError;

/// Whether the agent works until it is told to stop or only does what is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Daemon,
    Once,
}

/// What a run has seen that its caller wants to know.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    /// Mail could not be read or sent.
    pub(crate) unreachable: Option<String>,
    /// Installs that ended without success, mails and reports that are stuck.
    pub(crate) failed: Vec<String>,
}

/// The agent cannot go on.
#[derive(Debug, Error)]
pub(crate) enum RunError {
    /// The state cannot be saved, and without it nothing may be said or done.
    #[error("cannot go on")]
    Ledger(#[from] LedgerError),
    /// A signal said so.
    #[error("told to stop")]
    Stopped,
    /// Another program goes on from here: the one that is at this path now.
    #[error("the agent that is now at {} goes on", .0.display())]
    Become(PathBuf),
}
