//! Exit codes: 0 done, 1 something failed, 2 wrong usage or configuration, 3 the outside is not reachable.
//! An error carries its code as a type in its chain.

use thiserror::Error;

use shared::error::chain;

/// Exit code 2.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// Exit code 3.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct Outside(pub(crate) String);

impl Usage {
    /// Wraps any error whose cause is the command line or the configuration.
    pub(crate) fn because(err: impl std::error::Error) -> Self {
        Self(chain(&err))
    }
}

/// The exit code of an error.
pub(crate) fn code(err: &anyhow::Error) -> u8 {
    let has = |test: fn(&(dyn std::error::Error + 'static)) -> bool| err.chain().any(test);
    if has(|err| err.is::<Usage>()) {
        2
    } else if has(|err| err.is::<Outside>()) {
        3
    } else {
        1
    }
}
