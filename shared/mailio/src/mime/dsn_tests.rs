//! Tests of bounces in the forms that servers give them.

use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef";

fn report(status: &str, returned: &str) -> Vec<u8> {
    format!(
        "Return-Path: <>\r\nContent-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"x/y=z\"\r\n\r\n\
         This is a MIME-encapsulated message.\r\n\r\n--x/y=z\r\nContent-Type: text/plain\r\n\r\nI'm sorry.\r\n\
         --x/y=z\r\nContent-Type: message/delivery-status\r\n\r\n{status}\r\n--x/y=z\r\n\
         Content-Type: text/rfc822-headers\r\n\r\n{returned}\r\n--x/y=z--\r\n"
    )
    .replace("ID", ID)
    .into_bytes()
}

#[test]
fn a_postfix_report_gives_envelope_recipients_and_reasons() {
    let status = "Reporting-MTA: dns; mail.lab.test\r\nOriginal-Envelope-Id: ID\r\nX-Postfix-Queue-ID: 4F\r\n\
                  Arrival-Date: Sat, 21 Nov 2026 06:00:00 +0000\r\n\r\n\
                  Final-Recipient: rfc822; gone@lab.test\r\nOriginal-Recipient: rfc822;Gone@lab.test\r\nAction: failed\r\n\
                  Status: 5.1.1\r\nDiagnostic-Code: smtp; 550 5.1.1 <gone@lab.test>\r\n    User doesn't exist\r\n\r\n\
                  Final-Recipient: rfc822; late@lab.test\r\nAction: delayed (will retry)\r\nStatus: 4.4.1 (x)\r\n";
    let bounce = parse(&report(status, "")).unwrap().unwrap();
    assert_eq!(bounce.envelope.unwrap().to_hex(), ID);
    let [gone, late] = bounce.recipients.as_slice() else { panic!("{bounce:?}") };
    assert_eq!(
        (gone.address.as_str(), gone.action, gone.status.as_str()),
        ("Gone@lab.test", BounceAction::Failed, "5.1.1")
    );
    assert!(gone.text.contains("User doesn't exist"));
    assert_eq!(
        (late.address.as_str(), late.action, late.status.as_str()),
        ("late@lab.test", BounceAction::Delayed, "4.4.1")
    );
}

#[test]
fn the_envelope_is_found_in_returned_headers_too() {
    let status =
        "Reporting-MTA: dns; x\r\nFinal-Recipient: rfc822;a@b.test\r\nAction: failed\r\nStatus: 5.0.0\r\n";
    for returned in ["From: a@b\r\nX-Mailfleet: v1; id=ID; size=3\r\n", "Subject: mailfleet x\r\n [ID]\r\n"] {
        let bounce = parse(&report(status, returned)).unwrap().unwrap();
        assert_eq!(bounce.envelope.unwrap().to_hex(), ID, "{returned}");
        assert_eq!(bounce.recipients.len(), 1);
    }
    let qmail = format!(
        "Return-Path: <>\n\nHi. This is the qmail-send program.\n<a@b.test>: no such user\n\n\
                         --- Below this line is a copy of the message.\n\nX-Mailfleet: v1; id={ID}; size=3\n"
    );
    assert_eq!(parse(qmail.as_bytes()).unwrap().unwrap().envelope.unwrap().to_hex(), ID);
}

#[test]
fn reports_about_others_and_nonsense_are_nothing() {
    assert_eq!(parse(b"Subject: hello\r\n\r\nno report"), Ok(None));
    assert_eq!(parse(&report("Action: failed\r\nFinal-Recipient: x", "")), Ok(None));
    assert_eq!(parse(&report("Final-Recipient: rfc822; a@b.test\r\nAction: eaten", "")), Ok(None));
}

#[test]
fn a_report_with_nested_messages_is_read_flat() {
    let nested = "Content-Type: message/rfc822\r\n\r\n".repeat(8_000);
    let status = "Original-Envelope-Id: ID\r\n";
    let bounce = parse(&report(status, &nested)).unwrap().unwrap();
    assert_eq!(bounce.envelope.unwrap().to_hex(), ID);
}
