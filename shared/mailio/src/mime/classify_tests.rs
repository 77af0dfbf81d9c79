//! Tests of the classes: ours, bounces, absence notes, strangers, and those that try to look like another.

use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef";

fn class(headers: &[&str]) -> Class {
    classify(&Headers::parse(headers.join("\r\n").replace("ID", ID).as_bytes()).unwrap())
}

fn ours(attachment_bytes: Option<u64>) -> Class {
    Class::Ours(Marker { id: EnvelopeId::parse_hex(ID).unwrap(), attachment_bytes })
}

#[test]
fn the_marker_makes_a_mail_ours() {
    assert_eq!(class(&["X-Mailfleet: v1; id=ID; size=12"]), ours(Some(12)));
    assert_eq!(
        class(&["x-mailfleet: v1;size=12;new=1; id=ID", "Auto-Submitted: auto-replied"]),
        ours(Some(12))
    );
    assert_eq!(class(&["X-Mailfleet: v1;\r\n id=ID;\r\n size=x"]), ours(None));
    for bad in ["v2; id=ID", "v1; id=12", "v1", ""] {
        assert_eq!(class(&[&format!("X-Mailfleet: {bad}")]), Class::Foreign, "{bad}");
    }
}

#[test]
fn the_subject_stands_in_for_a_lost_marker() {
    let mixed = "Content-Type: multipart/mixed; boundary=b";
    assert_eq!(class(&["Subject: mailfleet order\r\n [ID]", mixed]), ours(None));
    assert_eq!(class(&["Subject: mailfleet x [ID]", mixed, "Auto-Submitted: auto-generated"]), ours(None));
    assert_eq!(class(&["Subject: Re: mailfleet x [ID]", mixed]), Class::Foreign);
    assert_eq!(class(&["Subject: mailfleet x [ID]"]), Class::Foreign);
    assert_eq!(class(&["Subject: mailfleet x [12]", mixed]), Class::Foreign);
}

#[test]
fn absence_notes_that_quote_us_are_no_orders() {
    let mixed = "Content-Type: multipart/mixed; boundary=b";
    for auto in [
        "Auto-Submitted: auto-replied (vacation)",
        "Precedence: auto_reply",
        "X-Autoreply: yes",
        "X-Autorespond: on holiday",
    ] {
        assert_eq!(class(&["Subject: mailfleet x [ID]", mixed, auto]), Class::AutoReply, "{auto}");
    }
    assert_eq!(class(&["Subject: backup done", "Auto-Submitted: auto-generated"]), Class::AutoReply);
}

#[test]
fn reports_are_bounces_even_with_our_marker() {
    let report = "Content-Type: multipart/report; report-type=delivery-status; boundary=b";
    assert_eq!(class(&[report, "X-Mailfleet: v1; id=ID; size=1"]), Class::Bounce);
    assert_eq!(class(&["Content-Type: multipart/report; boundary=b"]), Class::Bounce);
    assert_eq!(class(&["Return-Path: <>", "Subject: failure"]), Class::Bounce);
    assert_eq!(class(&["X-Failed-Recipients: a@b.test"]), Class::Bounce);
    let receipt = "Content-Type: multipart/report; report-type=disposition-notification; boundary=b";
    assert_eq!(class(&[receipt]), Class::AutoReply);
    assert_eq!(class(&["Content-Type: multipart/report; report-type=feedback-report"]), Class::Foreign);
}

#[test]
fn senders_and_subjects_are_read_bounded_or_not_at_all() {
    let headers = |text: &str| Headers::parse(text.as_bytes()).unwrap();
    let read = headers(
        "From: \"A, B\" <box@Site.test>, c@d.test\r\nSubject: =?utf-8?Q?a=0D=0Ab?= =?iso-8859-1?Q?=E9?=\r\n",
    );
    assert_eq!(sender(&read).unwrap().as_str(), "box@site.test");
    assert_eq!(subject(&read).unwrap(), "a  bé");
    assert_eq!(sender(&headers("From: undisclosed:;\r\n")), None);
    assert_eq!(sender(&headers("From: x@y\"\r\n")), None);
    assert!(subject(&headers(&format!("Subject: {}\r\n", "ä".repeat(3000)))).unwrap().len() <= 500);
    let nested = "(".repeat(4000);
    assert_eq!(sender(&headers(&format!("From: {nested}\r\n"))), None);
}
