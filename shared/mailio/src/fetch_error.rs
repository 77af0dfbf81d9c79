//! Why a mail could not be fetched: the mailbox, the mail itself, or the local output. Which of them it is
//! decides whether the mail stays.

use std::io;

use thiserror::Error;

use crate::error::MailError;

/// A mail could not be fetched.
#[derive(Debug, Error)]
pub enum FetchError {
    /// The mailbox failed; the mail stays and may be fetched later.
    #[error("the mail was not fetched")]
    Transport(#[source] MailError),
    /// The mail is no longer there: somebody else removed it. Nothing to do.
    #[error("the mail is gone from the mailbox")]
    Gone,
    /// The mail is damaged or not ours. Its disposal is the caller's decision.
    #[error("the mail has no usable attachment")]
    Content(#[source] ContentError),
    /// The local output failed (disk full). The mail must stay.
    #[error("the attachment could not be written")]
    Output(#[source] io::Error),
}

impl From<MailError> for FetchError {
    fn from(err: MailError) -> Self {
        Self::Transport(err)
    }
}

impl From<ContentError> for FetchError {
    fn from(err: ContentError) -> Self {
        Self::Content(err)
    }
}

/// What is wrong with a mail's content.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ContentError {
    /// No `application/octet-stream` part: a filter may have replaced it by a note.
    #[error("no application/octet-stream part in the mail: a filter may have removed it")]
    NoAttachment,
    /// More bytes than the caller allows.
    #[error("expected at most {limit_bytes} bytes of attachment, found more")]
    TooLarge {
        /// The caller's limit.
        limit_bytes: u64,
    },
    /// The attachment is not in base64.
    #[error("expected the attachment in base64, found \"{found}\"")]
    Encoding {
        /// The encoding named.
        found: String,
    },
    /// The base64 text has other characters or a wrong end.
    #[error("the attachment's base64 text is damaged after {at_bytes} bytes")]
    BadBase64 {
        /// Decoded bytes before the damage.
        at_bytes: u64,
    },
    /// The mail ends inside the attachment.
    #[error("the mail ends inside the attachment after {at_bytes} bytes")]
    Truncated {
        /// Decoded bytes before the end.
        at_bytes: u64,
    },
    /// The attachment is whole MIME but shorter or longer than its sender said.
    #[error("expected an attachment of {expected_bytes} bytes, found {found_bytes}")]
    WrongSize {
        /// The size in the marker.
        expected_bytes: u64,
        /// The size decoded.
        found_bytes: u64,
    },
    /// Parts in parts in parts.
    #[error("expected at most {} levels of MIME parts, found more", crate::mime::DEPTH_MAX)]
    NestedTooDeep,
    /// Too many parts.
    #[error("expected at most {} MIME parts, found more", crate::mime::PARTS_MAX)]
    TooManyParts,
    /// A header block beyond the limit.
    #[error("expected at most {} bytes of headers, found more", crate::mime::HEADER_MAX_BYTES)]
    HeadersTooLarge,
}
