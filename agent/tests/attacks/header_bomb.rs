//! Header bombs: mails whose headers are made to hurt who reads them.

use shared::EnvelopeId;

use crate::lab::are_removed;

const LIMIT_MIB: u64 = 32;

fn marker() -> String {
    format!("X-Mailfleet: v1; id={}; size=100\r\n", EnvelopeId([3; 16]))
}

/// The bomb alone, and behind a marker that claims a mail of ours; from a spool and from a server.
fn is_removed(bomb: &[u8]) {
    let end = b"
MIME-Version: 1.0

body
";
    let mails = [[bomb, end].concat(), [marker().as_bytes(), bomb, end].concat()];
    are_removed(&mails, LIMIT_MIB, "");
}

#[test]
fn a_hundred_thousand_headers() {
    is_removed("X-A: b\r\n".repeat(100_000).as_bytes());
}

#[test]
fn one_header_of_fifty_megabytes() {
    is_removed(format!("Subject: {}", "a".repeat(50_000_000)).as_bytes());
}

#[test]
fn a_header_folded_without_end() {
    is_removed(format!("Subject: a{}", "\r\n b".repeat(3_000_000)).as_bytes());
}

#[test]
fn a_header_name_of_fifty_megabytes() {
    is_removed("X".repeat(50_000_000).as_bytes());
}

#[test]
fn a_content_type_of_a_million_parameters() {
    is_removed(format!("Content-Type: multipart/mixed{}", "; boundary=\"".repeat(1_000_000)).as_bytes());
}

#[test]
fn addresses_and_encoded_words_that_break_parsers() {
    let words = "=?utf-8?B?".repeat(300);
    let comments = "(".repeat(3_000);
    let groups = "a:".repeat(1_500);
    let values = [words, comments, groups, "<".repeat(4_000), "\"\\".repeat(2_000)];
    let mails = values.map(|v| {
        format!(
            "From: {v}
Subject: {v}
Date: {v}
Content-Type: {v}

"
        )
        .into_bytes()
    });
    are_removed(&mails, LIMIT_MIB, "foreign 5");
}
