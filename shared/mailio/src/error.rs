//! The errors of this crate, sorted so that a caller knows whose turn it is. Texts do not repeat their cause.

use core::time::Duration;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

pub use crate::fetch_error::{ContentError, FetchError};
use crate::outgoing::Why;
use crate::secret::SecretError;
use crate::settings::SettingsError;

/// Whose turn it is after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nobody's: the same may work later.
    RetryLater,
    /// The operator's: it stays like this until a setting, account or certificate changes.
    Operator,
}

/// What went wrong on a connection.
#[derive(Debug, Error)]
pub enum NetError {
    /// The server could not be connected to.
    #[error("cannot connect to {host}:{port}")]
    Connect {
        /// Host.
        host: String,
        /// Port.
        port: u16,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A step took too long.
    #[error("{host} took longer than {} ms for {phase}", limit.as_millis())]
    Timeout {
        /// Host.
        host: String,
        /// The step.
        phase: &'static str,
        /// Its limit.
        limit: Duration,
    },
    /// The connection ended in a step.
    #[error("{host} closed the connection during {phase}{}", said(.text))]
    Closed {
        /// Host.
        host: String,
        /// The step.
        phase: &'static str,
        /// The server's last words, if any.
        text: String,
    },
    /// Reading or writing failed in a step.
    #[error("the connection to {host} broke during {phase}")]
    Io {
        /// Host.
        host: String,
        /// The step.
        phase: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No trusted TLS session.
    #[error("no trusted TLS connection with {host}")]
    Tls {
        /// Host.
        host: String,
        /// Why not, such as an unknown issuer or a wrong name.
        #[source]
        source: io::Error,
    },
    /// The file with trusted authorities is unusable.
    #[error("cannot use the certificate file {}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The server's words are not the protocol.
    #[error("{host} broke the protocol during {phase}: expected {expected}, found \"{found}\"")]
    Protocol {
        /// Host.
        host: String,
        /// The step.
        phase: &'static str,
        /// What should have come.
        expected: &'static str,
        /// What came, cut.
        found: String,
    },
}

fn said(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(", saying \"{text}\"") }
}

impl NetError {
    /// Whose turn it is.
    #[must_use]
    pub fn turn(&self) -> Turn {
        match self {
            Self::Tls { .. } | Self::CaFile { .. } => Turn::Operator,
            Self::Connect { .. }
            | Self::Timeout { .. }
            | Self::Closed { .. }
            | Self::Io { .. }
            | Self::Protocol { .. } => Turn::RetryLater,
        }
    }
}

/// A mail was not handed over, or nobody knows whether it was.
#[derive(Debug, Error)]
pub enum SendError {
    /// The connection failed before the mail was complete: the server has not taken it.
    #[error("the mail was not handed over")]
    Unreachable(#[source] NetError),
    /// TLS failed: certificate, host name, or STARTTLS not offered.
    #[error("the mail server cannot be trusted")]
    Tls(#[source] NetError),
    /// The login was refused. `why.code` below 500 means the server had a temporary problem.
    #[error("{host} refused the login of {user}: {why}")]
    AuthRefused {
        /// Host.
        host: String,
        /// Login name.
        user: String,
        /// The server's words.
        why: Why,
    },
    /// Too many failed logins lately; this process waits by itself, so as not to lock the account.
    #[error("not logging in to {host} for another {} s after failed logins", wait.as_secs())]
    Throttled {
        /// Host.
        host: String,
        /// How long.
        wait: Duration,
    },
    /// The mail is larger than a limit. Nothing was sent.
    #[error("the mail has {size_bytes} bytes, {whose} allows {limit_bytes}")]
    TooLarge {
        /// Size as composed.
        size_bytes: u64,
        /// The limit.
        limit_bytes: u64,
        /// `the setting mail_max_bytes` or the server's name.
        whose: String,
    },
    /// The server refused the sender or the mail as a whole before any recipient.
    #[error("{host} refused {phase}: {why}")]
    Refused {
        /// Host.
        host: String,
        /// The step.
        phase: &'static str,
        /// The server's words.
        why: Why,
    },
    /// The connection was lost after the mail's end was sent: it may or may not have been taken. Sending it
    /// again is safe, as receivers ignore repeats.
    #[error("it is unknown whether the mail was taken")]
    UnknownOutcome(#[source] NetError),
    /// The server does not speak SMTP as we know it.
    #[error("the mail server is not understood")]
    Protocol(#[source] NetError),
    /// No password or token.
    #[error("no login is possible")]
    Secret(#[source] SecretError),
    /// The settings do not fit together.
    #[error("the mail settings are refused")]
    Settings(#[source] SettingsError),
    /// A local file or program failed.
    #[error("{what} failed")]
    Io {
        /// What was done.
        what: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl SendError {
    /// Whose turn it is.
    #[must_use]
    pub fn turn(&self) -> Turn {
        match self {
            Self::AuthRefused { why, .. } | Self::Refused { why, .. } => why.turn(),
            Self::Tls(_) | Self::TooLarge { .. } | Self::Secret(_) | Self::Settings(_) => Turn::Operator,
            Self::Unreachable(err) | Self::UnknownOutcome(err) | Self::Protocol(err) => err.turn(),
            Self::Throttled { .. } | Self::Io { .. } => Turn::RetryLater,
        }
    }

    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io { what: what.into(), source }
    }
}

/// Before the mail's end was sent, every broken connection means: not taken.
impl From<NetError> for SendError {
    fn from(err: NetError) -> Self {
        match err {
            NetError::Tls { .. } | NetError::CaFile { .. } => Self::Tls(err),
            NetError::Protocol { .. } => Self::Protocol(err),
            NetError::Connect { .. }
            | NetError::Timeout { .. }
            | NetError::Closed { .. }
            | NetError::Io { .. } => Self::Unreachable(err),
        }
    }
}

/// The mailbox could not be read or changed.
#[derive(Debug, Error)]
pub enum MailError {
    /// The connection failed.
    #[error("the mailbox is not reachable")]
    Unreachable(#[source] NetError),
    /// TLS failed: certificate, host name, or STARTTLS not offered.
    #[error("the mail server cannot be trusted")]
    Tls(#[source] NetError),
    /// The login was refused.
    #[error("{host} refused the login of {user}: {text}")]
    AuthRefused {
        /// Host.
        host: String,
        /// Login name.
        user: String,
        /// The server's words.
        text: String,
        /// Whose turn it is: a server out of order says so.
        turn: Turn,
    },
    /// Too many failed logins lately; this process waits by itself, so as not to lock the account.
    #[error("not logging in to {host} for another {} s after failed logins", wait.as_secs())]
    Throttled {
        /// Host.
        host: String,
        /// How long.
        wait: Duration,
    },
    /// The server answered a command with NO or BAD, or with -ERR.
    #[error("{host} refused {command}: {text}")]
    Refused {
        /// Host.
        host: String,
        /// The command.
        command: &'static str,
        /// The server's words.
        text: String,
    },
    /// The folder's numbering changed since the mail was seen: look again. Nothing was done.
    #[error("the mailbox on {host} was renumbered: expected UIDVALIDITY {expected}, found {found}")]
    Renumbered {
        /// Host.
        host: String,
        /// The key's.
        expected: u32,
        /// The folder's.
        found: u32,
    },
    /// The server lacks what reading its mail takes.
    #[error(
        "{host} does not offer {what}, without which its mails cannot be told apart or looked at: use IMAP"
    )]
    Unsupported {
        /// Host.
        host: String,
        /// The command.
        what: &'static str,
    },
    /// The server does not speak IMAP or POP3 as we know it.
    #[error("the mail server is not understood")]
    Protocol(#[source] NetError),
    /// The key is not from this mailbox.
    #[error("mail {key} is not of this kind of mailbox")]
    ForeignKey {
        /// The key.
        key: String,
    },
    /// No password or token.
    #[error("no login is possible")]
    Secret(#[source] SecretError),
    /// The settings do not fit together.
    #[error("the mail settings are refused")]
    Settings(#[source] SettingsError),
    /// A local mailbox failed.
    #[error("{what} failed")]
    Io {
        /// What was done.
        what: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl MailError {
    /// Whose turn it is.
    #[must_use]
    pub fn turn(&self) -> Turn {
        match self {
            Self::AuthRefused { turn, .. } => *turn,
            Self::Tls(_)
            | Self::Secret(_)
            | Self::Settings(_)
            | Self::Unsupported { .. }
            | Self::ForeignKey { .. } => Turn::Operator,
            Self::Unreachable(err) | Self::Protocol(err) => err.turn(),
            Self::Throttled { .. } | Self::Refused { .. } | Self::Renumbered { .. } | Self::Io { .. } => {
                Turn::RetryLater
            }
        }
    }

    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io { what: what.into(), source }
    }
}

impl From<NetError> for MailError {
    fn from(err: NetError) -> Self {
        match err {
            NetError::Tls { .. } | NetError::CaFile { .. } => Self::Tls(err),
            NetError::Protocol { .. } => Self::Protocol(err),
            NetError::Connect { .. }
            | NetError::Timeout { .. }
            | NetError::Closed { .. }
            | NetError::Io { .. } => Self::Unreachable(err),
        }
    }
}
