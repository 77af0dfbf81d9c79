//! Tests of the composed mail: its shape, its exact size, its refusal to send a file that changed.

use std::io::Write;

use proptest::prelude::*;
use shared::{EnvelopeId, MailAddress};

use super::*;
use crate::mime::classify::{self, Class, Marker};
use crate::mime::extract::Extractor;
use crate::mime::header::Headers;

pub(crate) fn mail(attachment: Attachment) -> Outgoing {
    Outgoing {
        from: MailAddress::parse("manager@hq.test").unwrap(),
        to: vec![MailAddress::parse("box@site.test").unwrap()],
        envelope: EnvelopeId([0xab; 16]),
        subject: "order for A0001".into(),
        note: "An order.\nNothing to do here.".into(),
        date: UnixMillis(1_795_000_000_000),
        in_reply_to: None,
        auto: AutoKind::Generated,
        attachment,
    }
}

fn text(mail: &Outgoing) -> String {
    String::from_utf8(mail.chunks().unwrap().map(|c| c.unwrap()).collect::<Vec<_>>().concat()).unwrap()
}

#[test]
fn a_mail_has_the_headers_that_keep_machines_and_filters_quiet() {
    let id = "ab".repeat(16);
    let text =
        text(&Outgoing { in_reply_to: Some(EnvelopeId([1; 16])), ..mail(Attachment::Bytes(vec![1, 2, 3])) });
    for line in [
        "From: manager@hq.test",
        "To: box@site.test",
        &format!("Subject: mailfleet order for A0001\r\n [{id}]"),
        "Date: Wed, 18 Nov 2026 ",
        &format!("Message-ID: <{id}@hq.test>"),
        &format!("In-Reply-To: <{}@site.test>", "01".repeat(16)),
        "Auto-Submitted: auto-generated",
        "X-Auto-Response-Suppress: All",
        "Precedence: bulk",
        &format!("X-Mailfleet: v1; id={id}; size=3"),
        "AQID",
    ] {
        assert!(text.contains(&format!("\r\n{line}")) || text.starts_with(line), "{line}\n{text}");
    }
    assert!(text.is_ascii() && text.lines().all(|l| l.len() < 200));
}

#[test]
fn many_recipients_are_not_named() {
    let to = ["a@x.test", "b@x.test"].map(|a| MailAddress::parse(a).unwrap()).to_vec();
    let text = text(&Outgoing { to, ..mail(Attachment::Bytes(vec![])) });
    assert!(text.contains("\r\nTo: undisclosed-recipients:;\r\n") && !text.contains("x.test"));
}

#[test]
fn hostile_words_cannot_add_headers_or_parts() {
    let text = text(&Outgoing {
        subject: "a\r\nBcc: x@y\r\n\r\nbody".into(),
        note: format!(".\n\r\n--{}\nContent-Type: x", boundary(&mail(Attachment::Bytes(vec![])))),
        ..mail(Attachment::Bytes(b"payload".to_vec()))
    });
    let headers = Headers::parse(text.as_bytes()).unwrap();
    assert_eq!(headers.field("bcc"), None);
    let mut out = Vec::new();
    let mut extractor = Extractor::new(100, &mut out);
    extractor.push(text.as_bytes()).unwrap();
    extractor.finish().unwrap();
    assert_eq!(out, b"payload");
}

#[test]
fn subjects_in_any_script_are_read_back_and_keep_the_marker() {
    let subject = "Drucker für 東京 und a=?b ".repeat(4);
    let text = text(&Outgoing { subject: subject.clone(), ..mail(Attachment::Bytes(vec![])) });
    let headers = Headers::parse(text.as_bytes()).unwrap();
    let read = classify::subject(&headers).unwrap();
    assert!(read.contains("für 東京 und a=?b"), "{read}");
    assert_eq!(Marker::from_subject(&read).unwrap().id, EnvelopeId([0xab; 16]));
    assert!(text.lines().all(|l| l.len() <= 100));
}

#[test]
fn a_file_that_changed_is_never_sent_as_a_whole_mail() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&[7; 100_000]).unwrap();
    let mail = mail(Attachment::HeadAndFile { head: b"head".to_vec(), file: file.path().into() });
    let chunks = mail.chunks().unwrap();
    file.as_file().set_len(90_000).unwrap();
    assert!(chunks.last().unwrap().is_err());
    file.as_file().set_len(100_000).unwrap();
    let chunks = mail.chunks().unwrap();
    file.as_file().set_len(100_001).unwrap();
    assert!(chunks.last().unwrap().is_err());
}

#[test]
fn a_piece_of_a_file_is_sent_and_nothing_around_it() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let content: Vec<u8> = (0..200_000u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    file.write_all(&content).unwrap();
    let (from, bytes) = (70_001, 60_000);
    let slice = Attachment::HeadAndSlice { head: b"head".to_vec(), file: file.path().into(), from, bytes };
    let mail = mail(slice);
    let text = text(&mail);
    assert_eq!(mail.mail_bytes().unwrap(), text.len() as u64);
    let mut out = Vec::new();
    let mut extractor = Extractor::new(100_000, &mut out);
    extractor.push(text.as_bytes()).unwrap();
    extractor.finish().unwrap();
    assert_eq!(out, [b"head", &content[70_001..130_001]].concat());
    // A file that has become too short for its piece is never sent as a whole mail.
    file.as_file().set_len(100_000).unwrap();
    assert!(mail.chunks().unwrap().last().unwrap().is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_composed_is_extracted_whatever_the_size_and_the_pieces(
        head in proptest::collection::vec(any::<u8>(), 0..200),
        file_len in prop_oneof![0usize..200, 46_000usize..48_000, 93_000usize..94_500],
        piece in 1usize..5000,
        note in "\\PC{0,300}",
    ) {
        let body: Vec<u8> = (0..251u8).cycle().take(file_len).collect();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&body).unwrap();
        let attachment = Attachment::HeadAndFile { head: head.clone(), file: file.path().into() };
        let mail = Outgoing { note, ..mail(attachment) };
        let text = text(&mail);
        prop_assert_eq!(mail.mail_bytes().unwrap(), text.len() as u64);
        prop_assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
        let headers = Headers::parse(text.as_bytes()).unwrap();
        let size = (head.len() + body.len()) as u64;
        let marker = Marker { id: mail.envelope, attachment_bytes: Some(size) };
        prop_assert_eq!(classify::classify(&headers), Class::Ours(marker));
        let mut out = Vec::new();
        let mut extractor = Extractor::new(size, &mut out);
        for piece in text.as_bytes().chunks(piece) {
            extractor.push(piece).unwrap();
        }
        prop_assert_eq!(extractor.finish().unwrap().bytes, size);
        prop_assert_eq!(out, [head, body].concat());
    }
}

#[test]
fn a_mail_for_people_is_plain_and_bears_no_mark_of_ours() {
    let mut mail = mail(Attachment::Nothing);
    mail.subject = "class A jam at Zürich: mfp-2\r\nBcc: x@y.test".into();
    mail.note = "FAULT\n    Device  mfp-2\n".repeat(1_000);
    let plain = text(&mail);
    assert_eq!(plain.len() as u64, mail.mail_bytes().unwrap());
    assert!(plain.contains("\r\nContent-Type: text/plain; charset=utf-8\r\n"), "{plain}");
    assert_eq!(plain.matches("\r\nFAULT\r\n    Device  mfp-2").count(), 1_000);
    for banned in ["X-Mailfleet", "multipart", "Precedence", "\r\nBcc", "octet-stream"] {
        assert!(!plain.contains(banned), "{banned}");
    }
    assert!(plain.contains("Subject: =?utf-8?B?") && plain.contains("Auto-Submitted: auto-generated\r\n"));
    assert!(!matches!(classify::classify(&Headers::parse(plain.as_bytes()).unwrap()), Class::Ours(_)));
}

#[test]
fn a_letter_has_its_text_plain_and_as_html_and_both_can_be_read() {
    let mut mail = mail(Attachment::Html("<p>アップデート &amp; more</p>\n".to_owned()));
    mail.note = "アップデート & more\n".to_owned();
    mail.subject = format!("Update for {} [mf-ABCDEFGHIJKLMNOPQRSTUVWXYZ]", "サイト".repeat(20));
    let letter = text(&mail);
    assert_eq!(letter.len() as u64, mail.mail_bytes().unwrap());
    assert!(letter.contains("multipart/alternative") && !letter.contains("X-Mailfleet"), "{letter}");
    assert_eq!(crate::mime::reply::text(letter.as_bytes()).unwrap().trim(), "アップデート & more");
    let html_only = letter.replace("Content-Type: text/plain", "Content-Type: text/calendar");
    assert_eq!(crate::mime::reply::text(html_only.as_bytes()).unwrap().trim(), "アップデート & more");
    let headers = Headers::parse(letter.as_bytes()).unwrap();
    assert!(classify::subject(&headers).unwrap().ends_with("[mf-ABCDEFGHIJKLMNOPQRSTUVWXYZ]"));
    assert!(letter.lines().all(|line| line.len() <= 998 && line.is_ascii()));
}
