//! Opens what came by mail: verify, unwrap, decrypt, decode, in that order. Knows nothing of campaigns.

use std::io::Read as _;

use shared::envelope::{EnvelopeError, RawHead, check_body, open_body};
use shared::keys::{KeyError, OpeningKey, VerifyingKey};
use shared::limits::STRANGER_MAX_BYTES;
use shared::message::{EnrolRequest, MessageError, Report, decode_report};
use shared::{EnvelopeId, KeyId};
use thiserror::Error;

/// A report whose sender and content are certain.
#[derive(Debug)]
pub(super) struct Opened {
    /// The key that signed it.
    pub(super) sender: KeyId,
    /// Identity of its envelope.
    pub(super) envelope: EnvelopeId,
    /// The sender's sequence number.
    pub(super) sequence: u64,
    /// The report.
    pub(super) report: Report,
    /// Its bytes.
    pub(super) message: Vec<u8>,
}

/// Why an attachment is no report for us.
#[derive(Debug, Error)]
pub(super) enum UnsealError {
    /// Not a sound envelope.
    #[error("no sound envelope")]
    Envelope(#[from] EnvelopeError),
    /// Not a report.
    #[error("no report")]
    Message(#[from] MessageError),
    /// Bytes where no payload belongs.
    #[error("bytes after the report")]
    Payload,
    /// Signed by a key that no enrolled agent has, and no enrolment request.
    #[error("signed by {0}, which is no enrolled agent's key")]
    UnknownSender(KeyId),
    /// Too large for what a stranger may send.
    #[error("{found} bytes from an unknown sender, expected at most {STRANGER_MAX_BYTES}")]
    StrangerTooLarge {
        /// Its size.
        found: usize,
    },
    /// An enrolment request with a key that is none.
    #[error("an enrolment request with an unusable key")]
    Key(#[from] KeyError),
}

/// Opens a report of a known sender. `key_of` looks the sender's key up.
pub(super) fn open_report(
    attachment: &[u8],
    ours: &[OpeningKey],
    key: &VerifyingKey,
) -> Result<Opened, UnsealError> {
    let mut rest = attachment;
    let head = RawHead::read(&mut rest)?;
    let header = head.verify(key)?;
    open(&head, &header, rest, ours)
}

/// Opens an enrolment request of an unknown sender (PROTOCOL 9.3).
pub(super) fn open_stranger(
    attachment: &[u8],
    ours: &[OpeningKey],
) -> Result<(Opened, EnrolRequest), UnsealError> {
    if attachment.len() as u64 > STRANGER_MAX_BYTES {
        return Err(UnsealError::StrangerTooLarge { found: attachment.len() });
    }
    let mut rest = attachment;
    let head = RawHead::read(&mut rest)?;
    let header = head.decode_unverified()?;
    let opened = open(&head, &header, rest, ours)?;
    let Report::Enrol(request) = &opened.report else {
        return Err(UnsealError::UnknownSender(head.sender()));
    };
    // Only now is there a key to verify with; `verify` also compares its ID with the envelope's.
    head.verify(&VerifyingKey::from_bytes(&request.sign_key)?)?;
    let request = request.clone();
    Ok((opened, request))
}

/// The sender that an attachment claims.
pub(super) fn claimed_sender(attachment: &[u8]) -> Result<KeyId, UnsealError> {
    Ok(RawHead::read(&mut &*attachment)?.sender())
}

fn open(
    head: &RawHead,
    header: &shared::envelope::Header,
    body: &[u8],
    ours: &[OpeningKey],
) -> Result<Opened, UnsealError> {
    // PROTOCOL 3.7
    header.in_one_part()?;
    // Reports that were sealed before the opening key changed are still on their way.
    let slots = ours.iter().map(|ours| header.open_slot(ours, head.sender()));
    let key = slots.reduce(|first, next| match first {
        Err(EnvelopeError::NotForUs) => next,
        other => other,
    });
    let key = key.unwrap_or(Err(EnvelopeError::NotForUs))?;
    check_body(header, &mut &*body)?;
    let (message, mut payload) = open_body(header, &key, body)?;
    // PROTOCOL 5.3
    if payload.read(&mut [0u8; 1]).map_err(EnvelopeError::Read)? != 0 {
        return Err(UnsealError::Payload);
    }
    let report = decode_report(&message)?;
    Ok(Opened { sender: head.sender(), envelope: header.id, sequence: header.sequence, report, message })
}
