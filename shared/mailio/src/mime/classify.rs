//! Decides by headers alone what a mail is, before a byte of its body is downloaded. A hint, not a proof:
//! anyone can write these headers, and whether a mail is really ours only its seal tells.

use mail_parser::MessageParser;
use service::panics::caught;
use shared::{EnvelopeId, MailAddress};

use crate::mime::header::Headers;
use crate::text::clean;

/// Longest subject kept, in bytes: an answer's token stands at its end, behind what mail programs put before it.
const SUBJECT_MAX_BYTES: usize = 500;

/// The fields that [`classify`] needs, for IMAP's HEADER.FIELDS.
pub(crate) const FIELDS: &str = "FROM SUBJECT DATE RETURN-PATH CONTENT-TYPE AUTO-SUBMITTED PRECEDENCE \
                                 X-MAILFLEET X-FAILED-RECIPIENTS X-AUTOREPLY X-AUTORESPOND";

/// What a mail claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It carries an envelope of this product.
    Ours(Marker),
    /// A mail server tells what became of a mail.
    Bounce,
    /// A person's absence note or another program's automatic answer.
    AutoReply,
    /// Anything else.
    Foreign,
}

/// What the marker in a mail's headers says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The envelope inside.
    pub id: EnvelopeId,
    /// Size of the attachment in bytes; unknown if only the subject was left of the marker.
    pub attachment_bytes: Option<u64>,
}

impl Marker {
    /// Reads `v1; id=<32 hex>; size=<bytes>`. Later versions may append fields, which are passed over.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let mut words = value.split(';').map(str::trim);
        if words.next() != Some("v1") {
            return None;
        }
        let (mut id, mut attachment_bytes) = (None, None);
        for word in words {
            match word.split_once('=') {
                Some(("id", hex)) => id = EnvelopeId::parse_hex(hex).ok(),
                Some(("size", number)) => attachment_bytes = number.parse().ok(),
                _ => {}
            }
        }
        Some(Self { id: id?, attachment_bytes })
    }

    /// Reads `mailfleet … [<32 hex>]`. Answers do not match: they put "Re:" or the like before it.
    #[must_use]
    pub fn from_subject(subject: &str) -> Option<Self> {
        let words = subject.trim().strip_prefix("mailfleet ")?;
        let (_, hex) = words.strip_suffix(']')?.rsplit_once('[')?;
        Some(Self { id: EnvelopeId::parse_hex(hex).ok()?, attachment_bytes: None })
    }
}

/// Decides what a mail is.
#[must_use]
pub fn classify(headers: &Headers) -> Class {
    let kind = headers.content_type();
    let field = |name: &str| headers.field(name).unwrap_or_default().to_ascii_lowercase();
    // A report first: it may quote our headers, and some servers even copy X- fields into it.
    if kind == "multipart/report" {
        return match headers.parameter("content-type", "report-type").unwrap_or_default().to_ascii_lowercase()
        {
            t if t.is_empty() || t == "delivery-status" => Class::Bounce,
            t if t == "disposition-notification" => Class::AutoReply,
            _ => Class::Foreign,
        };
    }
    if let Some(marker) = headers.field("x-mailfleet").and_then(|v| Marker::parse(&v)) {
        return Class::Ours(marker);
    }
    let null_sender = headers.field("return-path").is_some_and(|p| p.replace(' ', "") == "<>");
    if null_sender || headers.field("x-failed-recipients").is_some() {
        return Class::Bounce;
    }
    let auto = field("auto-submitted");
    let replied = auto.starts_with("auto-replied")
        || matches!(field("precedence").as_str(), "auto_reply" | "junk")
        || headers.field("x-autoreply").is_some()
        || headers.field("x-autorespond").is_some();
    if replied {
        // Also our own answers whose marker a relay removed: an absence note that repeats our subject looks
        // the same, and answering or decoding such a note does harm while a lost receipt is asked for again.
        return Class::AutoReply;
    }
    // Ours always has an attachment; notes that quote the subject are plain text.
    let has_attachment = kind == "multipart/mixed" || kind == "application/octet-stream";
    match subject(headers).as_deref().and_then(Marker::from_subject) {
        Some(marker) if has_attachment => Class::Ours(marker),
        _ if !auto.is_empty() && auto != "no" => Class::AutoReply,
        _ => Class::Foreign,
    }
}

/// The subject, decoded, bounded, without control characters.
#[must_use]
pub fn subject(headers: &Headers) -> Option<String> {
    let raw = headers.raw("subject")?;
    let text = decoded("Subject", raw, |mail| mail.subject().map(str::to_owned))?;
    Some(clean(&text, SUBJECT_MAX_BYTES))
}

/// The address in `From`, if there is one that this product accepts.
#[must_use]
pub fn sender(headers: &Headers) -> Option<MailAddress> {
    let raw = headers.raw("from")?;
    let text = decoded("From", raw, |mail| {
        mail.from().and_then(|a| a.first()).and_then(|a| a.address()).map(str::to_owned)
    })?;
    MailAddress::parse(text.trim()).ok()
}

// One field of at most 4 KiB goes to mail-parser, as a mail of its own. Its panics (issues #120, #145, #155)
// end here; it cannot nest in one field.
fn decoded<T>(
    name: &str,
    raw: &[u8],
    read: impl FnOnce(&mail_parser::Message<'_>) -> Option<T>,
) -> Option<T> {
    let mut block = format!("{name}: ").into_bytes();
    block.extend(raw.iter().map(|b| if matches!(b, b'\r' | b'\n' | 0) { b' ' } else { *b }));
    block.extend_from_slice(b"\r\n\r\n");
    caught(|| read(&MessageParser::new().parse_headers(&block)?)).flatten()
}

#[cfg(test)]
#[path = "classify_tests.rs"]
mod tests;
