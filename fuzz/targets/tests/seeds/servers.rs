//! Conversations with mail servers: what they say, from the greeting to the goodbye.

use crate::Seed;
use crate::mails::headers;

fn smtp(mode: u8, replies: &[&str]) -> Vec<u8> {
    [&[mode], replies.join("\r\n").as_bytes(), b"\r\n"].concat()
}

fn smtp_seeds() -> Vec<Seed> {
    let plain = [
        "220 mail.lab.test ESMTP",
        "250 mail.lab.test",
        "250 2.1.0 Ok",
        "250 Ok",
        "354 go",
        "250 2.0.0 queued",
        "221 bye",
    ];
    // Four recipients, pipelined, of which one is refused and one is one too many.
    let pipelined = [
        "220-mail.lab.test ESMTP\r\n220 ready",
        "250-mail.lab.test\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250-AUTH PLAIN LOGIN\r\n250-AUTH=LOGIN\r\n\
         250-LIMITS RCPTMAX=3 MAILMAX=9\r\n250 DSN",
        "235 2.7.0 Authentication successful",
        "250 2.1.0 Ok",
        "250 2.1.5 Ok",
        "550 5.1.1 <box1@lab.test>: unknown",
        "452 4.5.3 Error: too many recipients",
        "354 End data with <CR><LF>.<CR><LF>",
        "250 2.0.0 Ok: queued as 4F",
        "221 2.0.0 Bye",
    ];
    let login = [
        "220 exchange",
        "250-exchange\r\n250 AUTH LOGIN",
        "334 VXNlcm5hbWU6",
        "334 UGFzc3dvcmQ6",
        "235 ok",
        "250 ok",
        "450 4.2.0 greylisted",
        "250 reset",
        "221 bye",
    ];
    let token = [
        "220 x",
        "250-x\r\n250 AUTH XOAUTH2",
        "235 ok",
        "250 ok",
        "250 ok",
        "354 go",
        "552 5.2.2 full",
        "221 bye",
    ];
    vec![
        ("smtp_replies", "plain", smtp(0, &plain)),
        ("smtp_replies", "pipelined", smtp(10, &pipelined)),
        ("smtp_replies", "login", smtp(1, &login)),
        ("smtp_replies", "token", smtp(2, &token)),
    ]
}

const MAIL: &str = "From: a@b.test\r\nSubject: mailfleet x\r\nX-Mailfleet: v1; id=05050505050505050505050505050505; size=10\r\n\
    Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\nYXR0YWNobWVudA==\r\n";

const OFFERS: &str = "* CAPABILITY IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2 SASL-IR UIDPLUS MOVE\r\n";

fn fetched(seq: u32, uid: u32, mail: &[u8]) -> (String, String, String) {
    let (head, whole) = (headers(mail), String::from_utf8_lossy(mail));
    let listed = format!(
        "* {seq} FETCH (UID {uid} RFC822.SIZE {} BODY[HEADER.FIELDS (FROM SUBJECT DATE)]<0> {{{}}}\r\n{})\r\n",
        mail.len(),
        head.len(),
        String::from_utf8_lossy(&head)
    );
    let size = format!("* {seq} FETCH (UID {uid} RFC822.SIZE {})\r\n", mail.len());
    (listed, size, format!("* {seq} FETCH (UID {uid} BODY[]<0> {{{}}}\r\n{whole})\r\n", mail.len()))
}

fn imap_seeds() -> Vec<Seed> {
    let mail = MAIL.as_bytes();
    let (listed, size, body) = fetched(1, 9, mail);
    let one = format!(
        "* OK [CAPABILITY IMAP4rev1] ready\r\n{OFFERS}m1 OK done\r\nm2 OK logged in\r\n{OFFERS}m3 OK done\r\n\
         * FLAGS (\\Seen \\Deleted)\r\n* 1 EXISTS\r\n* 0 RECENT\r\n* OK [UIDVALIDITY 7] valid\r\n\
         m4 OK [READ-WRITE] selected\r\n{listed}m5 OK done\r\n{size}m6 OK done\r\n{body}m7 OK done\r\n\
         * OK [COPYUID 7 9 1] moved\r\n* 1 EXPUNGE\r\nm8 OK done\r\n* BYE\r\nm9 OK done\r\n"
    );
    let foreign = b"Subject: hello\r\nFrom: x@y.test\r\n\r\nhello";
    let (second_listed, second_size, second_body) = fetched(2, 12, foreign);
    // No MOVE, no UIDPLUS, no such folder at first; the login waits for a "+".
    let two = format!(
        "* OK ready\r\n* CAPABILITY IMAP4rev1 AUTH=XOAUTH2\r\nm1 OK done\r\n+ \r\nm2 OK logged in\r\n\
         * CAPABILITY IMAP4rev1\r\nm3 OK done\r\n* 2 EXISTS\r\nm4 OK selected\r\n{listed}{second_listed}m5 OK done\r\n\
         {size}m6 OK done\r\n{body}m7 OK done\r\n{second_size}m8 OK done\r\n{second_body}m9 OK done\r\n\
         m10 NO [TRYCREATE] no such folder\r\nm11 OK made\r\nm12 OK copied\r\nm13 OK stored\r\n* 1 EXPUNGE\r\n\
         m14 OK expunged\r\nm15 OK stored\r\n* 1 EXPUNGE\r\nm16 OK expunged\r\n* BYE\r\nm17 OK done\r\n"
    );
    let empty = format!(
        "* OK ready\r\n{OFFERS}m1 OK done\r\nm2 OK done\r\n{OFFERS}m3 OK done\r\n* 0 EXISTS\r\nm4 OK done\r\n* BYE\r\nm5 OK done\r\n"
    );
    vec![
        ("imap_responses", "one-mail", [b"\0", one.as_bytes()].concat()),
        ("imap_responses", "two-mails", [b"\x01", two.as_bytes()].concat()),
        ("imap_responses", "empty", [b"\0", empty.as_bytes()].concat()),
    ]
}

fn pop3_seeds() -> Vec<Seed> {
    let (mail, size) = (MAIL.replace("\r\n.", "\r\n.."), MAIL.len());
    let head = headers(MAIL.as_bytes());
    let head = String::from_utf8_lossy(&head).replace("\r\n.", "\r\n..");
    let offers = "+OK\r\nTOP\r\nUIDL\r\nSASL PLAIN XOAUTH2\r\nRESP-CODES\r\n.\r\n";
    let one = format!(
        "+OK ready\r\n{offers}+ \r\n+OK welcome\r\n{offers}+OK\r\n1 id-1\r\n.\r\n+OK\r\n1 {size}\r\n.\r\n\
         +OK\r\n{head}\r\n.\r\n+OK\r\n{mail}\r\n.\r\n+OK deleted\r\n+OK bye\r\n"
    );
    // An old server: it knows neither CAPA nor AUTH.
    let old = "+OK ready\r\n-ERR what\r\n+OK\r\n+OK\r\n-ERR what\r\n+OK\r\n.\r\n+OK\r\n.\r\n+OK bye\r\n";
    vec![
        ("pop3_answers", "one-mail", [b"\0", one.as_bytes()].concat()),
        ("pop3_answers", "token", [b"\x01", one.as_bytes()].concat()),
        ("pop3_answers", "old", [b"\0", old.as_bytes()].concat()),
    ]
}

pub(crate) fn seeds() -> Vec<Seed> {
    [smtp_seeds(), imap_seeds(), pop3_seeds()].concat()
}
