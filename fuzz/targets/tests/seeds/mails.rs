//! Mails: our own as they are composed, wrapped by a gateway, and servers' reports about them.

use std::fmt::Write as _;

use mailio::{Attachment, AutoKind, Outgoing};
use shared::{EnvelopeId, MailAddress, UnixMillis};

use crate::Seed;
use crate::sealed::envelope;

fn outgoing(attachment: Vec<u8>) -> Outgoing {
    Outgoing {
        from: MailAddress::parse("manager@lab.test").unwrap(),
        to: vec![MailAddress::parse("a0001@lab.test").unwrap()],
        envelope: EnvelopeId([5; 16]),
        subject: "mailfleet Auftrag für A0001".to_owned(),
        note: "An order for a machine.\nNothing to do.".to_owned(),
        date: UnixMillis(1_795_000_000_000),
        in_reply_to: Some(EnvelopeId([6; 16])),
        auto: AutoKind::Generated,
        attachment: Attachment::Bytes(attachment),
    }
}

fn text(mail: &Outgoing) -> Vec<u8> {
    mail.chunks().unwrap().map(Result::unwrap).collect::<Vec<_>>().concat()
}

pub(crate) fn headers(mail: &[u8]) -> Vec<u8> {
    let end = mail.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    mail.get(..end + 4).unwrap().to_vec()
}

fn wrapped(mail: &str) -> String {
    format!(
        "Received: from relay by lab.test; Sat, 21 Nov 2026 06:10:00 +0000\nSubject: x\nContent-Type: \
         multipart/mixed; boundary=outer\n\n--outer\nContent-Type: text/plain\n\nExternal mail!\n--outer\n{mail}\n\
         --outer--\nThis mail is confidential.\n"
    )
}

fn postfix_report(id: &str, headers: &str) -> String {
    let mut text = "Return-Path: <>\r\nFrom: MAILER-DAEMON@lab.test\r\nSubject: Undelivered Mail\r\nAuto-Submitted: auto-replied\r\n\
         Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"4F/x=y\"\r\n\r\n"
        .to_owned();
    let status = format!(
        "Reporting-MTA: dns; mail.lab.test\r\nOriginal-Envelope-Id: {id}\r\n\r\n\
         Final-Recipient: rfc822; gone@lab.test\r\nOriginal-Recipient: rfc822;Gone@lab.test\r\nAction: failed\r\n\
         Status: 5.1.1\r\nDiagnostic-Code: smtp; 550 5.1.1 <gone@lab.test>\r\n    unknown\r\n\r\n\
         Final-Recipient: rfc822; late@lab.test\r\nAction: delayed (will retry)\r\nStatus: 4.4.1\r\n"
    );
    let parts = [
        ("text/plain", "I'm sorry.\r\n"),
        ("message/delivery-status", status.as_str()),
        ("text/rfc822-headers", headers),
    ];
    for (kind, body) in parts {
        write!(text, "--4F/x=y\r\nContent-Type: {kind}\r\n\r\n{body}\r\n").unwrap();
    }
    text + "--4F/x=y--\r\n"
}

pub(crate) fn seeds() -> Vec<Seed> {
    let mail = text(&outgoing(envelope(b"\x82\x02\x80")));
    let mail_text = String::from_utf8(mail.clone()).unwrap();
    let own_headers = headers(&mail);
    let id = EnvelopeId([5; 16]).to_hex();
    let returned = format!(
        "From: a@lab.test\r\nSubject: mailfleet x\r\n [{id}]\r\nX-Mailfleet: v1; id={id}; size=3\r\n"
    );
    let qmail = format!(
        "Return-Path: <>\nFrom: MAILER-DAEMON@lab.test\nSubject: failure notice\n\nHi. This is the qmail-send program.\n\n\
         --- Below this line is a copy of the message.\n\nX-Mailfleet: v1; id={id}; size=3\n"
    );
    let stripped = format!(
        "From: \"Manager, A\" <manager@lab.test>\r\nSubject: =?utf-8?Q?mailfleet_a=C3=A4?=\r\n =?utf-8?B?eA==?= [{id}]\r\n\
         Content-Type: multipart/mixed; boundary=\"a\\\"b\"\r\nPrecedence: bulk\r\nAuto-Submitted: auto-generated\r\n\r\n"
    );
    let absence = "From: Bob <bob@lab.test>\r\nSubject: Re: holiday\r\nAuto-Submitted: auto-replied (vacation)\r\n\
                   X-Autoreply: yes\r\nX-Autorespond: yes\r\nReturn-Path: <>\r\nX-Failed-Recipients: a@b.test\r\n\r\n";
    vec![
        ("mail_attachment", "own", [&[60], mail.as_slice()].concat()),
        ("mail_attachment", "wrapped", [&[7], wrapped(&mail_text.replace("\r\n", "\n")).as_bytes()].concat()),
        ("mail_headers", "own", own_headers),
        ("mail_headers", "marker-stripped", stripped.into_bytes()),
        ("mail_headers", "absence", absence.as_bytes().to_vec()),
        ("mail_bounce", "postfix", postfix_report(&id, "").into_bytes()),
        ("mail_bounce", "returned-headers", postfix_report("?", &returned).into_bytes()),
        ("mail_bounce", "qmail", qmail.into_bytes()),
    ]
}
