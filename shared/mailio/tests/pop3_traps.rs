//! What servers and networks do to a POP3 session, each by a scripted server: nothing is downloaded that its headers do
//! not claim as ours, no mail is lost, and what a session could not delete another one does.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

mod common;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::*;
use mailio::{
    Class, ContentError, Disposal, FetchError, JunkPolicy, MailError, Mailbox, SecretSource, Timeouts, Turn,
};

const CAPABILITIES: &str = "TOP\r\nUIDL\r\nSASL PLAIN LOGIN\r\nUSER\r\n";

type Mails = Vec<(String, Vec<u8>)>;

/// A mailbox on the scripted server: mails as (unique ID, text).
#[derive(Clone)]
struct World {
    mails: Arc<Mutex<Mails>>,
    capabilities: &'static str,
}

fn text(n: usize, payload: &[u8]) -> Vec<u8> {
    let mut mail = mail(&["manager@lab.test"], payload);
    mail.envelope = shared::EnvelopeId([n as u8; 16]);
    mail.chunks().unwrap().flat_map(|c| c.unwrap()).collect()
}

fn world(count: usize) -> World {
    let mails = (0..count).map(|n| (format!("id{n}"), text(n, format!("payload {n}").as_bytes()))).collect();
    World { mails: Arc::new(Mutex::new(mails)), capabilities: CAPABILITIES }
}

impl World {
    fn ids(&self) -> Vec<String> {
        self.mails.lock().unwrap().iter().map(|(id, _)| id.clone()).collect()
    }
}

fn stuffed(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in text.split_inclusive(|b| *b == b'\n') {
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend(line);
    }
    out
}

/// A good POP3 server but for what `act` says: it sees `greeting` and each command. `Say` replaces the answer.
async fn pop3(mut conn: Conn, world: World, act: impl Fn(&str) -> Act + Send) {
    let mut deleted: BTreeSet<usize> = BTreeSet::new();
    let mails = world.mails.lock().unwrap().clone();
    let mut command = "greeting".to_owned();
    loop {
        let act = act(&command);
        match act {
            Act::Usual => {
                let answer = answer(&world, &mails, &command, &mut deleted);
                conn.say_bytes(&answer).await;
            }
            Act::Say(text) => conn.say(&text).await,
            Act::Hang => return conn.hang().await,
            Act::Drop => return,
        }
        if command == "QUIT" {
            return;
        }
        let Some(next) = conn.line().await else { return };
        command = next;
    }
}

fn answer(
    world: &World,
    mails: &[(String, Vec<u8>)],
    command: &str,
    deleted: &mut BTreeSet<usize>,
) -> Vec<u8> {
    let words: Vec<&str> = command.split(' ').collect();
    let place = words.get(1).and_then(|n| n.parse::<usize>().ok()).map(|n| n - 1);
    let there = || (0..mails.len()).filter(|n| !deleted.contains(n));
    let mut out = b"+OK\r\n".to_vec();
    match words[0] {
        "CAPA" => out.extend(world.capabilities.bytes()),
        "UIDL" => there().for_each(|n| out.extend(format!("{} {}\r\n", n + 1, mails[n].0).bytes())),
        "LIST" => there().for_each(|n| out.extend(format!("{} {}\r\n", n + 1, mails[n].1.len()).bytes())),
        "TOP" => {
            let mail = &mails[place.unwrap()].1;
            let end = mail.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
            out.extend(stuffed(&mail[..end]));
        }
        "RETR" => out.extend(stuffed(&mails[place.unwrap()].1)),
        "AUTH" => return b"+ \r\n".to_vec(),
        "DELE" => {
            deleted.insert(place.unwrap());
            return out;
        }
        "QUIT" => {
            let mut left = world.mails.lock().unwrap();
            for n in deleted.iter() {
                let place = left.iter().position(|(id, _)| *id == mails[*n].0).unwrap();
                left.remove(place);
            }
            return out;
        }
        _ => return out,
    }
    out.extend(b".\r\n");
    out
}

struct Lab {
    folder: tempfile::TempDir,
    mailbox: Mailbox,
    world: World,
    log: Log,
}

async fn lab(
    world: World,
    limit: Duration,
    act: impl Fn(usize, &str) -> Act + Send + Sync + Clone + 'static,
) -> Lab {
    let shown = world.clone();
    let (port, log) = serve(move |n, conn| {
        let act = act.clone();
        pop3(conn, shown.clone(), move |command| act(n, command))
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings("maildir:/nowhere", &format!("pop3://box@127.0.0.1:{port}"));
    settings.secret = SecretSource::File(secret_file(folder.path(), "hunter2"));
    settings.timeouts = Timeouts::all(limit);
    Lab { folder, mailbox: Mailbox::new(settings), world, log }
}

const LONG: Duration = Duration::from_secs(5);

fn ids(found: &[mailio::Found]) -> Vec<u8> {
    found.iter().map(|f| if let Class::Ours(m) = f.class { m.id.0[0] } else { 255 }).collect()
}

#[tokio::test]
async fn mails_are_listed_fetched_and_deleted_when_the_session_ends() {
    let mut lab = lab(world(3), LONG, |_, _| Act::Usual).await;
    let found = lab.mailbox.look(10).await.unwrap();
    assert_eq!(ids(&found), [0, 1, 2]);
    for (n, mail) in found.iter().enumerate() {
        let mut out = Vec::new();
        lab.mailbox.fetch(&mail.key, 100, &mut out).await.unwrap();
        assert_eq!(out, format!("payload {n}").as_bytes());
    }
    lab.mailbox.dispose(&[(found[0].key.clone(), Disposal::Done)]).await.unwrap();
    lab.mailbox.dispose(&[(found[2].key.clone(), Disposal::Done)]).await.unwrap();
    assert_eq!(count(&lab.log, "AUTH PLAIN"), 1, "one session for all of it: {:?}", heard(&lab.log));
    assert!(matches!(lab.mailbox.fetch(&found[0].key, 9, &mut Vec::new()).await, Err(FetchError::Gone)));
    assert_eq!(lab.world.ids().len(), 3, "nothing is deleted before QUIT");
    lab.mailbox.close().await;
    assert_eq!(lab.world.ids(), ["id1"]);
    assert_eq!(ids(&lab.mailbox.look(10).await.unwrap()), [1]);
    assert!(!heard(&lab.log).iter().any(|l| l.contains("hunter2")));
}

#[tokio::test]
async fn only_what_its_headers_claim_as_ours_is_downloaded() {
    let world = world(2);
    let bomb = [b"Subject: hello\r\n\r\n".as_slice(), &b"bomb\r\n".repeat(100_000)].concat();
    world.mails.lock().unwrap().insert(1, ("bomb".into(), bomb));
    let mut lab = lab(world, LONG, |_, _| Act::Usual).await;
    let found = lab.mailbox.look(10).await.unwrap();
    assert_eq!(ids(&found), [0, 255, 1]);
    assert_eq!(found[1].size, 600_018);
    assert_eq!((count(&lab.log, "TOP"), count(&lab.log, "RETR")), (3, 0));
    // One that says that it is ours but is too large costs nothing either.
    let err = lab.mailbox.fetch(&found[1].key, 1_000, &mut Vec::new()).await.unwrap_err();
    assert!(matches!(err, FetchError::Content(ContentError::TooLarge { .. })), "{err:?}");
    assert_eq!(count(&lab.log, "RETR"), 0);
}

#[tokio::test]
async fn a_lost_session_deletes_nothing_and_the_next_one_does_it_unasked() {
    // It drops the first session at its end.
    let mut lab =
        lab(world(2), LONG, |n, c| if n == 0 && c == "QUIT" { Act::Drop } else { Act::Usual }).await;
    let found = lab.mailbox.look(10).await.unwrap();
    lab.mailbox.dispose(&[(found[0].key.clone(), Disposal::Done)]).await.unwrap();
    assert_eq!(ids(&lab.mailbox.look(10).await.unwrap()), [1], "what is disposed of is not shown again");
    assert_eq!(lab.world.ids().len(), 2);
    lab.mailbox.close().await;
    assert_eq!(lab.world.ids(), ["id1"]);
}

#[tokio::test]
async fn a_process_that_ends_before_quit_sees_the_mail_again() {
    let mut lab = lab(world(1), LONG, |_, _| Act::Usual).await;
    let found = lab.mailbox.look(10).await.unwrap();
    lab.mailbox.dispose(&[(found[0].key.clone(), Disposal::Done)]).await.unwrap();
    let world = lab.world.clone();
    drop(lab);
    assert_eq!(world.ids(), ["id0"]);
}

#[tokio::test]
async fn junk_that_is_not_to_be_deleted_stays_and_is_not_looked_at_again() {
    let mut lab = lab(world(2), LONG, |_, _| Act::Usual).await;
    let found = lab.mailbox.look(10).await.unwrap();
    lab.mailbox.dispose(&[(found[0].key.clone(), Disposal::Junk)]).await.unwrap();
    assert_eq!(ids(&lab.mailbox.look(10).await.unwrap()), [1]);
    assert_eq!((count(&lab.log, "DELE"), count(&lab.log, "TOP")), (0, 3));
    let mut settings = settings(
        "maildir:/nowhere",
        &format!("pop3://box@127.0.0.1:{}", {
            let world = lab.world.clone();
            serve(move |_, conn| pop3(conn, world.clone(), |_| Act::Usual)).await.0
        }),
    );
    settings.secret = SecretSource::File(secret_file(lab.folder.path(), "x"));
    settings.junk = JunkPolicy::Delete;
    let mut other = Mailbox::new(settings);
    let found = other.look(10).await.unwrap();
    other.dispose(&[(found[0].key.clone(), Disposal::Junk)]).await.unwrap();
    other.close().await;
    assert_eq!(lab.world.ids(), ["id1"]);
}

#[tokio::test]
async fn servers_without_unique_ids_or_top_are_refused_in_clear_words() {
    for (capabilities, refused, what) in [
        ("TOP\r\nUSER\r\n", "none", "UIDL"),
        ("UIDL\r\nUSER\r\n", "none", "TOP"),
        ("", "UIDL", "UIDL"),
        ("", "TOP", "TOP"),
    ] {
        let world = World { capabilities, ..world(1) };
        let mut lab = lab(world, LONG, move |_, c| match c {
            "CAPA" if capabilities.is_empty() => say("-ERR what?"),
            c if c.starts_with(refused) => say("-ERR unknown command"),
            _ => Act::Usual,
        })
        .await;
        let probed = lab.mailbox.probe().await.unwrap_err();
        let looked = lab.mailbox.look(10).await.unwrap_err();
        for err in [probed, looked] {
            assert!(matches!(&err, MailError::Unsupported { what: found, .. } if *found == what), "{err:?}");
            assert_eq!(err.turn(), Turn::Operator);
            assert!(err.to_string().contains("use IMAP"), "{err}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_fails_in_any_way_is_never_an_empty_mailbox() {
    for (step, answer) in [
        ("UIDL", "+OK\r\n1 id0\r\n"),
        ("UIDL", "+OK\r\n1\r\n.\r\n"),
        ("UIDL", "+OK\r\nid0 1\r\n.\r\n"),
        ("UIDL", "+OK\r\n1 \x07\r\n.\r\n"),
        ("UIDL", "* OK\r\n"),
        ("UIDL", "+\r\n"),
        ("LIST", "-ERR try later\r\n"),
        ("LIST", "+OK\r\n1 5\r\n"),
        ("TOP", "-ERR cannot read it\r\n"),
        ("TOP", "+OK\r\nSubject: x\r\n"),
        ("TOP", "hello\r\n"),
    ] {
        let mut lab =
            lab(
                world(2),
                SHORT,
                move |_, c| {
                    if c.starts_with(step) { Act::Say(answer.into()) } else { Act::Usual }
                },
            )
            .await;
        let got = lab.mailbox.look(10).await;
        assert!(got.is_err(), "{step}: {answer}: {got:?}");
    }
}

#[tokio::test]
async fn endless_lines_lists_and_headers_end() {
    let long = format!("+OK\r\n{}", "x".repeat(20_000));
    let words = format!("+OK {}\r\n", "x".repeat(20_000));
    for (step, answer) in [("UIDL", long.clone()), ("UIDL", words.clone()), ("greeting", words)] {
        let mut lab =
            lab(
                world(1),
                LONG,
                move |_, c| {
                    if c.starts_with(step) { Act::Say(answer.clone()) } else { Act::Usual }
                },
            )
            .await;
        let started = Instant::now();
        assert!(lab.mailbox.look(10).await.is_err(), "{step}");
        assert!(started.elapsed() < LONG, "it is refused when it is too long, not when it is late");
    }
    // A mail of headers alone is shown by its first ones, and the others are shown all the same.
    let world = world(2);
    let spam = b"X-Spam: aaaaaaaaaaaaaaaaaaaa\r\n".repeat(100_000);
    let long = [b"Subject: long\r\n".as_slice(), &spam, b"\r\n"].concat();
    world.mails.lock().unwrap().insert(1, ("long".into(), long));
    let mut lab = lab(world, LONG, |_, _| Act::Usual).await;
    let found = lab.mailbox.look(10).await.unwrap();
    assert_eq!(ids(&found), [0, 255, 1]);
    assert_eq!(found[1].subject, "long");
    assert_eq!(count(&lab.log, "AUTH PLAIN"), 2);
}

#[tokio::test]
async fn a_line_of_any_length_and_dots_at_line_starts_pass_through_a_download() {
    let world = world(0);
    let payload: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    let mail = String::from_utf8(text(7, &payload)).unwrap();
    // The note has a line with a dot, and one that is longer than any line may be.
    let dots = format!("\r\n..\r\n.\r\n.x\r\n{}\r\n", "y".repeat(100_000));
    let mail = mail.replacen("A test.\r\n", &format!("A test.{dots}"), 1);
    assert!(mail.contains("\r\n.\r\n"));
    world.mails.lock().unwrap().push(("dots".into(), mail.into_bytes()));
    let mut lab = lab(world, LONG, |_, _| Act::Usual).await;
    let key = lab.mailbox.look(1).await.unwrap()[0].key.clone();
    let mut out = Vec::new();
    lab.mailbox.fetch(&key, 300_000, &mut out).await.unwrap();
    assert!(out == payload);
    assert_eq!(lab.mailbox.look(1).await.unwrap().len(), 1, "the session is in step");
}

#[tokio::test]
async fn a_download_without_end_is_left_when_it_is_longer_than_the_server_said() {
    let mut lab = lab(world(1), LONG, |_, c| {
        if c.starts_with("RETR") {
            let mail = [text(0, b"payload 0"), b"filler\r\n".repeat(300_000)].concat();
            Act::Say(format!("+OK\r\n{}", String::from_utf8(mail).unwrap()))
        } else {
            Act::Usual
        }
    })
    .await;
    let key = lab.mailbox.look(1).await.unwrap()[0].key.clone();
    // The attachment is whole; what follows it is not waited for.
    let started = Instant::now();
    assert_eq!(lab.mailbox.fetch(&key, 1_000_000, &mut Vec::new()).await.unwrap().bytes, 9);
    assert!(started.elapsed() < LONG);
    let mut out = Vec::new();
    let err = lab.mailbox.fetch(&key, 4, &mut out).await.unwrap_err();
    assert!(matches!(err, FetchError::Content(ContentError::TooLarge { limit_bytes: 4 })), "{err:?}");
}

#[tokio::test]
async fn one_mail_that_the_server_cannot_read_does_not_stop_the_others() {
    for act in ["drop", "refuse"] {
        let mut lab = lab(world(4), LONG, move |_, c| match c {
            "TOP 3 0" if act == "drop" => Act::Drop,
            "TOP 3 0" => say("-ERR cannot read it"),
            _ => Act::Usual,
        })
        .await;
        for _ in 0..4 {
            assert_eq!(ids(&lab.mailbox.look(10).await.unwrap()), [0, 1, 3], "{act}");
        }
        let asked = count(&lab.log, "TOP 3");
        lab.mailbox.look(10).await.unwrap();
        assert_eq!(count(&lab.log, "TOP 3"), asked, "it is passed over by now");
    }
}

#[tokio::test]
async fn refused_deletions_are_errors_and_copies_with_one_id_go_one_by_one() {
    let mut lab =
        lab(world(1), LONG, |_, c| if c.starts_with("DELE") { say("-ERR read-only") } else { Act::Usual })
            .await;
    let key = lab.mailbox.look(10).await.unwrap()[0].key.clone();
    let err = lab.mailbox.dispose(&[(key, Disposal::Done)]).await.unwrap_err();
    assert!(matches!(err, MailError::Refused { command: "DELE", .. }), "{err:?}");
    assert!(lab.mailbox.look(10).await.unwrap().is_empty(), "it is done with, and stops no other mail");
    let world = world(1);
    world.mails.lock().unwrap().push(("id0".into(), text(0, b"payload 0")));
    let mut lab = self::lab(world, LONG, |_, _| Act::Usual).await;
    for left in [1, 0] {
        let found = lab.mailbox.look(10).await.unwrap();
        assert_eq!(found.len(), 1);
        lab.mailbox.dispose(&[(found[0].key.clone(), Disposal::Done)]).await.unwrap();
        lab.mailbox.close().await;
        assert_eq!(lab.world.ids().len(), left);
    }
}

#[tokio::test]
async fn each_form_of_login_is_spoken_and_its_refusals_are_typed() {
    let forms: [(&str, &[&str]); 2] = [
        ("UIDL\r\nTOP\r\nSASL PLAIN\r\n", &["AUTH PLAIN", "AGJveABodW50ZXIy"]),
        ("UIDL\r\nTOP\r\n", &["USER box", "PASS hunter2"]),
    ];
    for (capabilities, lines) in forms {
        let mut lab = lab(World { capabilities, ..world(1) }, LONG, |_, _| Act::Usual).await;
        assert_eq!(lab.mailbox.look(10).await.unwrap().len(), 1, "{capabilities}");
        assert!(lines.iter().all(|line| heard(&lab.log).iter().any(|l| l == line)), "{:?}", heard(&lab.log));
    }
    for (words, turn) in [
        ("-ERR [AUTH] wrong", Turn::Operator),
        ("-ERR wrong", Turn::Operator),
        ("-ERR [IN-USE] locked by another session", Turn::RetryLater),
        ("-ERR [LOGIN-DELAY] too soon", Turn::RetryLater),
    ] {
        let mut lab =
            lab(world(1), LONG, move |_, c| if c.starts_with("AGJ") { say(words) } else { Act::Usual }).await;
        for _ in 0..2 {
            let err = lab.mailbox.look(10).await.unwrap_err();
            assert!(matches!(err, MailError::AuthRefused { .. }) && err.turn() == turn, "{words}: {err:?}");
        }
        assert!(matches!(lab.mailbox.look(10).await, Err(MailError::Throttled { .. })));
        assert_eq!(count(&lab.log, "AUTH PLAIN"), 2);
    }
}

#[tokio::test]
async fn starttls_that_is_refused_or_fails_is_no_reason_to_go_on_in_clear() {
    for answer in ["-ERR unknown command\r\n", "+OK go\r\n+OK injected\r\n"] {
        let (port, log) = serve(move |_, conn| {
            pop3(conn, world(1), move |c| if c == "STLS" { Act::Say(answer.into()) } else { Act::Usual })
        })
        .await;
        let mut settings = settings("maildir:/nowhere", &format!("pop3+starttls://box@127.0.0.1:{port}"));
        settings.timeouts = Timeouts::all(SHORT);
        let err = Mailbox::new(settings).look(1).await.unwrap_err();
        assert!(matches!(err, MailError::Tls(_) | MailError::Unreachable(_)), "{answer}: {err:?}");
        assert!(!heard(&log).iter().any(|l| l.contains("AUTH") || l.contains("USER")));
    }
}

const PHASES: [&str; 9] = ["greeting", "CAPA", "AUTH", "AGJ", "UIDL", "LIST", "TOP", "RETR", "DELE"];

async fn one_round(lab: &mut Lab) -> Result<(), String> {
    let text = |err: &dyn std::fmt::Debug| format!("{err:?}");
    let found = lab.mailbox.look(10).await.map_err(|e| text(&e))?;
    let key = found.first().ok_or("empty")?.key.clone();
    lab.mailbox.fetch(&key, 100, &mut Vec::new()).await.map_err(|e| text(&e))?;
    lab.mailbox.dispose(&[(key, Disposal::Done)]).await.map_err(|e| text(&e))
}

#[tokio::test]
async fn a_silent_server_is_left_at_every_step_within_its_limit() {
    for phase in PHASES {
        let mut lab =
            lab(world(1), SHORT, move |_, c| if c.starts_with(phase) { Act::Hang } else { Act::Usual }).await;
        let started = Instant::now();
        let err = one_round(&mut lab).await.unwrap_err();
        assert!(err.contains("Timeout"), "{phase}: {err}");
        assert!(started.elapsed() < LONG, "{phase}: {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn a_connection_lost_at_any_step_is_an_error_or_replaced() {
    for phase in PHASES {
        let act = move |n, c: &str| if n == 0 && c.starts_with(phase) { Act::Drop } else { Act::Usual };
        let mut lab = lab(world(1), LONG, act).await;
        let _lost_or_replaced = one_round(&mut lab).await;
        // Whatever became of the first round, the mail is read and gone after a second.
        let again = one_round(&mut lab).await;
        assert!(again.is_ok() || phase == "DELE" || phase == "RETR", "{phase}: {again:?}");
        lab.mailbox.close().await;
        assert!(lab.world.ids().is_empty(), "{phase}");
    }
}

#[tokio::test]
async fn a_cancelled_call_never_leaves_its_answer_to_the_next() {
    let mut lab =
        lab(world(2), LONG, |n, c| if n == 0 && c.starts_with("RETR") { Act::Hang } else { Act::Usual })
            .await;
    let keys: Vec<_> = lab.mailbox.look(10).await.unwrap().into_iter().map(|f| f.key).collect();
    let mut sink = Vec::new();
    let cancelled = tokio::time::timeout(SHORT, lab.mailbox.fetch(&keys[0], 100, &mut sink)).await;
    assert!(cancelled.is_err());
    let mut out = Vec::new();
    lab.mailbox.fetch(&keys[1], 100, &mut out).await.unwrap();
    assert_eq!(out, b"payload 1");
}
