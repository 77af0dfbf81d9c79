//! MIME bombs: mails whose parts are made to hurt who reads them.

use shared::EnvelopeId;

use crate::common::World;
use crate::lab::{are_removed, mailbox_is_empty, mailed, takes_an_honest_order, unharmed, works_within};

const LIMIT_MIB: u64 = 32;

fn head() -> String {
    let id = EnvelopeId([3; 16]);
    format!("From: <a@b.test>\r\nX-Mailfleet: v1; id={id}; size=100\r\nMIME-Version: 1.0\r\n")
}

const TEN: &str =
    "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\nQUFBQUFBQUFBQQ==\r\n";

fn is_removed(bomb: &str, reason: &str) {
    are_removed(&[format!("{}{bomb}", head()).into_bytes()], LIMIT_MIB, reason);
}

#[test]
fn ten_thousand_parts_within_each_other() {
    let level = |n| format!("Content-Type: multipart/mixed; boundary=\"b{n}\"\r\n\r\n--b{n}\r\n");
    is_removed(&format!("{}{TEN}", (0..10_000).map(level).collect::<String>()), "unreadable 1");
}

#[test]
fn ten_thousand_messages_within_each_other() {
    is_removed(&"Content-Type: message/rfc822\r\n\r\n".repeat(10_000), "unreadable 1");
}

#[test]
fn a_million_parts_beside_each_other() {
    let parts = "--b\r\n\r\nx\r\n".repeat(1_000_000);
    is_removed(
        &format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{parts}--b\r\n{TEN}"),
        "unreadable 1",
    );
}

#[test]
fn thirty_megabytes_of_almost_boundaries() {
    let lines = "--bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n".repeat(750_000);
    let boundary = "b".repeat(70);
    is_removed(&format!("Content-Type: multipart/mixed; boundary={boundary}\r\n\r\n{lines}"), "unreadable 1");
}

#[test]
fn thirty_megabytes_of_attachment_in_one_line() {
    let bomb = format!(
        "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n{}",
        "QUFB".repeat(7_500_000)
    );
    is_removed(&bomb, "damaged 1");
}

#[test]
fn boundaries_that_are_empty_endless_nested_or_not_closed() {
    let open = |boundary: &str| format!("Content-Type: multipart/mixed; boundary={boundary}\r\n\r\n");
    let inner =
        |boundary: &str| format!("--{boundary}\r\n{}--{boundary}\r\n{TEN}--{boundary}--\r\n", open("b"));
    let bombs = [
        format!("{}--\r\n{TEN}----\r\n", open("\"\"")),
        format!("{}--{}\r\n{TEN}", open(&"x".repeat(3_000)), "x".repeat(3_000)),
        format!("{}{}", open("b"), inner("b")),
        format!("{}--b\r\n{TEN}", open("b")),
        format!("{}--b--\r\n--b\r\n{TEN}--b--\r\n", open("b")),
        format!("{}--b\r\n{}", open("b"), TEN.replace("==", "==QUFB")),
        format!("{}--b\r\n{}", open("b"), TEN.replace("base64", "quoted-printable")),
        format!("{}--b\r\n{}--b--\r\n", open("b"), TEN.replace("==", "====")),
        open("b").replace("boundary", "boundary*0"),
    ];
    are_removed(&bombs.map(|bomb| format!("{}{bomb}", head()).into_bytes()), LIMIT_MIB, "unreadable");
}

#[test]
fn an_order_that_gateways_have_wrapped_is_still_one_order_and_a_second_attachment_is_none() {
    let mut w = World::enrolled();
    let mail = String::from_utf8(mailed(&mut w)).unwrap();
    let junk = mail.replacen("Content-Type: application/octet-stream", &format!("{TEN}--x"), 1);
    assert_ne!(junk, mail);
    // The first attachment counts; here it belongs to nobody.
    let boundary = mail.split("boundary=\"").nth(1).unwrap().split('"').next().unwrap();
    let first = format!("--{boundary}\r\n{TEN}--{boundary}\r\nContent-Type: application/octet-stream");
    let mail = mail.replacen(&format!("--{boundary}\r\nContent-Type: application/octet-stream"), &first, 1);
    w.deliver_raw("1", mail.as_bytes());
    works_within(&w, LIMIT_MIB, mailbox_is_empty);
    unharmed(&w, "damaged 1");
    takes_an_honest_order(&mut w);
}
