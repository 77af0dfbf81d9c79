//! A mail to be sent and what became of it, recipient by recipient. How it looks as text is in `compose`.

use core::fmt;
use std::io;
use std::path::PathBuf;

use shared::{EnvelopeId, MailAddress, UnixMillis};

use crate::error::Turn;
use crate::text::{SERVER_TEXT_MAX_BYTES, clean};

/// One mail for one or more recipients.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Sender, in the envelope and in `From`.
    pub from: MailAddress,
    /// Recipients. With more than one, none is named in the mail's text.
    pub to: Vec<MailAddress>,
    /// The envelope this mail carries; in headers as a marker, and the ENVID of bounces.
    pub envelope: EnvelopeId,
    /// A few words; `mailfleet` before and the envelope's ID behind are added.
    pub subject: String,
    /// A short plain text for a person who opens the mail; cut at 2,000 bytes, without an attachment at 100,000.
    pub note: String,
    /// The `Date` header.
    pub date: UnixMillis,
    /// The envelope that this one answers: mail programs show both in one thread.
    pub in_reply_to: Option<EnvelopeId>,
    /// What `Auto-Submitted` says (RFC 3834), so that no autoresponder answers.
    pub auto: AutoKind,
    /// The payload.
    pub attachment: Attachment,
}

/// Why a machine wrote this mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoKind {
    /// On its own account: orders, scheduled reports.
    Generated,
    /// As an answer to a mail: receipts, results.
    Replied,
}

/// The payload of a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// Bytes in memory.
    Bytes(Vec<u8>),
    /// Some bytes, then a whole file, which is read while it is sent.
    HeadAndFile {
        /// What comes first.
        head: Vec<u8>,
        /// What follows.
        file: PathBuf,
    },
    /// Some bytes, then a piece of a file, which is read while it is sent.
    HeadAndSlice {
        /// What comes first.
        head: Vec<u8>,
        /// Of which file.
        file: PathBuf,
        /// Where in it the piece begins.
        from: u64,
        /// How many bytes.
        bytes: u64,
    },
    /// None: a plain mail for people, without any mark of ours.
    Nothing,
    /// None: a mail for people whose note also comes as this HTML.
    Html(String),
}

impl Attachment {
    /// True for a mail that only people read.
    #[must_use]
    pub fn is_for_people(&self) -> bool {
        match self {
            Self::Nothing | Self::Html(_) => true,
            Self::Bytes(_) | Self::HeadAndFile { .. } | Self::HeadAndSlice { .. } => false,
        }
    }

    /// Size in bytes.
    ///
    /// # Errors
    /// The file cannot be asked.
    pub fn len_bytes(&self) -> io::Result<u64> {
        let len = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(match self {
            Self::Bytes(bytes) => len(bytes),
            Self::HeadAndFile { head, file } => len(head).saturating_add(std::fs::metadata(file)?.len()),
            Self::HeadAndSlice { head, bytes, .. } => len(head).saturating_add(*bytes),
            Self::Nothing | Self::Html(_) => 0,
        })
    }
}

/// What became of a mail for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The server has taken it. That is no proof of delivery.
    Done,
    /// Not now; the same may work later.
    Later(Why),
    /// Not as long as this recipient, sender or mail stays what it is.
    Never(Why),
}

/// A server's reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Why {
    /// SMTP reply code, if a server spoke.
    pub code: Option<u16>,
    /// Enhanced status code (RFC 3463) such as `5.1.1`, if the server gave one.
    pub enhanced: Option<String>,
    /// The words: bounded, without control characters.
    pub text: String,
}

impl Why {
    /// A reason of our own.
    pub(crate) fn local(text: impl AsRef<str>) -> Self {
        Self { code: None, enhanced: None, text: clean(text.as_ref(), SERVER_TEXT_MAX_BYTES) }
    }

    /// Whose turn it is: codes from 500 are permanent.
    #[must_use]
    pub fn turn(&self) -> Turn {
        if self.code.is_some_and(|c| c >= 500) { Turn::Operator } else { Turn::RetryLater }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(code) = self.code {
            write!(f, "{code} ")?;
        }
        if let Some(enhanced) = &self.enhanced {
            write!(f, "{enhanced} ")?;
        }
        f.write_str(&self.text)
    }
}
