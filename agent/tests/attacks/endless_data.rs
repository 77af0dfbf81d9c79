//! Endless data: a server that never stops sending, or lies about sizes.

use crate::common::World;
use crate::imap::{Imap, Mail, Trick};
use crate::lab::{mailed, takes_an_honest_mail, unharmed, works_within};

/// A mail of ours up to the attachment's first byte.
fn beginning(w: &mut World) -> Vec<u8> {
    let mail = mailed(w);
    let text = String::from_utf8(mail).unwrap();
    let (before, _) = text.split_once("filename=").unwrap();
    format!("{before}filename=x\r\n\r\n").into_bytes()
}

#[test]
fn a_mail_that_never_ends_is_given_up_at_the_largest_size_that_an_order_can_have() {
    let mut w = World::enrolled();
    w.set_config("max_bundle_bytes = 1000000");
    let server = Imap::before(&w);
    let endless = beginning(&mut w);
    for claimed in [0, 1_000, u64::from(u32::MAX)] {
        server.deliver(Mail::Endless(endless.clone(), claimed));
    }
    works_within(&w, 32, |_| server.unread() == 0);
    let mib = server.sent_bytes() / 1024 / 1024;
    println!("figure: {mib} MiB were read");
    assert!(mib < 40, "{mib} MiB");
    unharmed(&w, "too large 3");
    takes_an_honest_mail(&mut w, &server);
}

#[test]
fn headers_that_never_end_are_junk() {
    let mut w = World::enrolled();
    let server = Imap::before(&w);
    let marker = format!("X-Mailfleet: v1; id={}; size=100\r\nX-Long: ", shared::EnvelopeId([3; 16]));
    server.deliver(Mail::Endless(marker.into_bytes(), 1_000));
    works_within(&w, 32, |_| server.unread() == 0);
    unharmed(&w, "unreadable 1");
    takes_an_honest_mail(&mut w, &server);
}

#[test]
fn a_marker_that_lies_about_the_size_is_junk() {
    let mut w = World::enrolled();
    let server = Imap::before(&w);
    let honest = String::from_utf8(mailed(&mut w)).unwrap();
    let (before, after) = honest.split_once("; size=").unwrap();
    let (_, after) = after.split_once("\r\n").unwrap();
    for size in ["1", "99999999999999999999999", "18446744073709551615", "-1"] {
        server.deliver(Mail::Whole(format!("{before}; size={size}\r\n{after}").into_bytes()));
    }
    works_within(&w, 32, |_| server.unread() == 0);
    unharmed(&w, "damaged 1");
    assert_eq!(crate::lab::ran(&w), 0);
    takes_an_honest_mail(&mut w, &server);
}

#[test]
fn answers_that_never_end_cost_the_server_its_connection() {
    let row = "* 1 FETCH (UID 1 RFC822.SIZE 5 BODY[HEADER.FIELDS (FROM)]<0> {4}\r\na: b)\r\n";
    let literal = "* 1 FETCH (UID 1 BODY[]<0> {4000000000}\r\n";
    for (command, flood) in [
        ("greeting", "x".repeat(4_096)),
        ("CAPABILITY", "* CAPABILITY IMAP4rev1\r\n".to_owned()),
        ("SELECT", "* 4294967295 EXISTS\r\n".to_owned()),
        ("FETCH", row.to_owned()),
        ("FETCH", literal.to_owned()),
        ("UID FETCH", literal.to_owned()),
        ("UID FETCH", format!("* 1 FETCH (UID 1 BODY[]<0> {{200000}}\r\n{})\r\n", "a".repeat(200_000))),
    ] {
        let mut w = World::enrolled();
        let server = Imap::before(&w);
        server.deliver(Mail::Whole(mailed(&mut w)));
        server.misbehave(command, Trick::Flood(flood));
        let out = w.agent(&["run", "--once"]);
        assert_eq!(out.status.code(), Some(3), "{command}: {}", crate::common::text(&out));
        let mib = server.sent_bytes() / 1024 / 1024;
        assert!(mib < 16, "{command}: {mib} MiB");
        server.behave();
        takes_an_honest_mail(&mut w, &server);
    }
}
