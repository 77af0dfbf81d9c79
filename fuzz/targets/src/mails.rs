//! Mails of strangers: the attachment in one, its headers, a server's report about one.

use mailio::mime::classify::{Class, Marker, classify, sender, subject};
use mailio::mime::dsn;
use mailio::mime::extract::Extractor;
use mailio::mime::header::Headers;
use mailio::{ContentError, Extracted, FetchError};

use crate::harness::{harmless, take, told};

const ATTACHMENT_MAX_BYTES: u64 = 4096;

/// A mail in pieces: `size of a piece (1)`, then the mail. What is found does not depend on the pieces.
pub(crate) fn attachment(mut data: &[u8]) -> bool {
    let [piece] = take::<1>(&mut data);
    let (whole, found) = extract(data, data.len().max(1));
    let (pieced, found_in_pieces) = extract(data, usize::from(piece).max(1));
    assert_eq!(found, found_in_pieces, "the pieces of a download make a difference");
    match found {
        Ok(extracted) => {
            assert_eq!(whole, pieced);
            assert_eq!(extracted.bytes, whole.len() as u64);
            assert!(extracted.marker.and_then(|m| m.attachment_bytes).is_none_or(|n| n == extracted.bytes));
            true
        }
        Err(err) => {
            told(&err);
            false
        }
    }
}

fn extract(mail: &[u8], piece: usize) -> (Vec<u8>, Result<Extracted, ContentError>) {
    let mut out = Vec::new();
    let mut extractor = Extractor::new(ATTACHMENT_MAX_BYTES, &mut out);
    let done = mail.chunks(piece).try_for_each(|piece| extractor.push(piece));
    let found = done.and_then(|()| extractor.finish());
    assert!(out.len() as u64 <= ATTACHMENT_MAX_BYTES, "{} bytes written", out.len());
    let found = found.map_err(|err| match err {
        FetchError::Content(err) => err,
        other => unreachable!("nothing but the mail can fail: {other}"),
    });
    (out, found)
}

/// A header block: what the mail is, whom it is from, what about.
pub(crate) fn headers(data: &[u8]) -> bool {
    let headers = match Headers::parse(data) {
        Ok(headers) => headers,
        Err(err) => {
            told(&err);
            return false;
        }
    };
    if let Some(subject) = subject(&headers) {
        harmless(&subject);
        assert!(subject.len() <= 500, "{subject}");
        if let Some(marker) = Marker::from_subject(&subject) {
            assert!(
                subject.contains(&marker.id.to_hex()) || subject.to_lowercase().contains(&marker.id.to_hex())
            );
        }
    }
    let from = sender(&headers);
    let class = classify(&headers);
    // PROTOCOL 10.1: without a marker or a subject that stands for it, nothing is ours.
    let marked = headers.field("x-mailfleet").is_some() || headers.field("subject").is_some();
    assert!(marked || !matches!(class, Class::Ours(_)), "ours without a marker");
    from.is_some() && class != Class::Foreign
}

/// A mail server's report.
pub(crate) fn bounce(data: &[u8]) -> bool {
    match dsn::parse(data) {
        Ok(Some(bounce)) => {
            assert!(bounce.recipients.len() <= 1_001);
            for recipient in &bounce.recipients {
                harmless(&recipient.text);
                harmless(&recipient.status);
                assert!(recipient.text.len() <= 300 && recipient.status.len() <= 20);
            }
            assert!(bounce.envelope.is_some() || !bounce.recipients.is_empty());
            true
        }
        Ok(None) => false,
        Err(err) => {
            told(&err);
            false
        }
    }
}
