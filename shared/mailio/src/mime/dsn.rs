//! Reads what a mail server reports about a mail of ours: RFC 3464 delivery status, or at least the returned
//! headers. Bounces are unauthenticated: they end no install and revoke no agent, they only explain silence.

use shared::{EnvelopeId, MailAddress};

use crate::error::ContentError;
use crate::mime::classify::Marker;
use crate::mime::header::Headers;
use crate::mime::walk::{Sink, Walker};
use crate::text::{SERVER_TEXT_MAX_BYTES, clean};

/// A bounce is read up to this size; with RET=HDRS they have some kB.
pub const BOUNCE_MAX_BYTES: u64 = 256 * 1024;

/// Body bytes kept of each interesting part.
const PART_MAX_BYTES: usize = 64 * 1024;

/// Recipients read from one report.
const RECIPIENTS_MAX: usize = 1_000;

/// What a bounce says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounce {
    /// The envelope that it is about: from `Original-Envelope-Id`, or from the returned headers.
    pub envelope: Option<EnvelopeId>,
    /// The recipients; empty if the server only returned headers.
    pub recipients: Vec<BouncedRecipient>,
}

/// What happened to one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BouncedRecipient {
    /// The address we sent to, if the report has it, else the final one.
    pub address: MailAddress,
    /// What the server did.
    pub action: BounceAction,
    /// Enhanced status code such as `5.1.1`; empty if the report lacks it.
    pub status: String,
    /// The server's words, bounded.
    pub text: String,
}

/// RFC 3464 §2.3.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BounceAction {
    /// Given up.
    Failed,
    /// Still trying.
    Delayed,
    /// Delivered.
    Delivered,
    /// Handed to a server that reports no further.
    Relayed,
    /// Handed to a list's members.
    Expanded,
}

/// Reads a report; `None` if it names neither an envelope of ours nor a recipient.
///
/// # Errors
/// The mail's structure is refused.
pub fn parse(mail: &[u8]) -> Result<Option<Bounce>, ContentError> {
    let mut walker = Walker::new(Collector::default());
    walker.push(mail)?;
    let (parts, _) = walker.finish()?;
    let mut groups = groups(&parts.status)?.into_iter();
    let message = groups.next().unwrap_or_default();
    let mut recipients: Vec<_> = groups.take(RECIPIENTS_MAX).filter_map(|g| recipient(&g)).collect();
    // Some servers forget the empty line between the message's and the first recipient's fields.
    recipients.extend(recipient(&message));
    let returned = Headers::parse(&parts.returned).unwrap_or_default();
    let original = message.field("original-envelope-id").and_then(|id| envelope_id(&id));
    let envelope = original
        .or_else(|| Some(Marker::parse(&returned.field("x-mailfleet")?)?.id))
        .or_else(|| Some(Marker::from_subject(&crate::mime::classify::subject(&returned)?)?.id))
        .or_else(|| quoted_marker(&parts.returned));
    if envelope.is_none() && recipients.is_empty() {
        return Ok(None);
    }
    Ok(Some(Bounce { envelope, recipients }))
}

fn envelope_id(text: &str) -> Option<EnvelopeId> {
    EnvelopeId::parse_hex(text.trim()).ok()
}

// In a plain text bounce the returned headers stand somewhere below the words for people.
fn quoted_marker(text: &[u8]) -> Option<EnvelopeId> {
    text.split(|b| *b == b'\n').find_map(|line| {
        let line = core::str::from_utf8(line).ok()?.trim();
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("x-mailfleet").then(|| Marker::parse(value.trim()))?.map(|m| m.id)
    })
}

// Field groups are separated by empty lines (RFC 3464 §2.1).
fn groups(status: &[u8]) -> Result<Vec<Headers>, ContentError> {
    let mut groups = Vec::new();
    let mut group = Headers::default();
    for line in status.split(|b| *b == b'\n') {
        let line = line.trim_ascii_end();
        if !line.is_empty() {
            group.line(line)?;
        } else if group != Headers::default() {
            groups.push(core::mem::take(&mut group));
        }
    }
    if group != Headers::default() {
        groups.push(group);
    }
    Ok(groups)
}

fn recipient(group: &Headers) -> Option<BouncedRecipient> {
    // "rfc822;box@site.test", with or without blanks.
    let address = |name: &str| {
        let field = group.field(name)?;
        let text = field.split_once(';').map_or(field.as_str(), |(_, address)| address);
        MailAddress::parse(text.trim().trim_start_matches('<').trim_end_matches('>')).ok()
    };
    let action = match group.field("action")?.to_ascii_lowercase().split_whitespace().next()? {
        "failed" => BounceAction::Failed,
        "delayed" => BounceAction::Delayed,
        "delivered" => BounceAction::Delivered,
        "relayed" => BounceAction::Relayed,
        "expanded" => BounceAction::Expanded,
        _ => return None,
    };
    let status = group.field("status").unwrap_or_default();
    let status = status.split_whitespace().next().unwrap_or_default();
    Some(BouncedRecipient {
        address: address("original-recipient").or_else(|| address("final-recipient"))?,
        action,
        status: clean(status, 20),
        text: clean(&group.field("diagnostic-code").unwrap_or_default(), SERVER_TEXT_MAX_BYTES),
    })
}

#[derive(Default)]
struct Collector {
    status: Vec<u8>,
    returned: Vec<u8>,
    in_status: bool,
}

impl Sink for Collector {
    type Error = ContentError;

    fn part(&mut self, headers: &Headers, depth: usize) -> Result<bool, ContentError> {
        match headers.content_type().as_str() {
            "message/delivery-status" | "message/global-delivery-status" if self.status.is_empty() => {
                self.in_status = true;
                Ok(true)
            }
            // The returned message is only read as far as its headers go.
            "message/rfc822" | "text/rfc822-headers" | "message/global" | "message/global-headers"
                if self.returned.is_empty() =>
            {
                self.in_status = false;
                Ok(true)
            }
            // Bounces that are one plain text (qmail, old Exim) quote the headers at its end.
            "text/plain" if depth == 0 => {
                self.in_status = false;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), ContentError> {
        let kept = if self.in_status { &mut self.status } else { &mut self.returned };
        let room = PART_MAX_BYTES.saturating_sub(kept.len());
        kept.extend(bytes.iter().take(room));
        Ok(())
    }

    fn end(&mut self, _whole: bool) -> Result<(), ContentError> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "dsn_tests.rs"]
mod tests;
