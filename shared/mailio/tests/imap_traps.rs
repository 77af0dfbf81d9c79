//! What servers and networks do to an IMAP session, each by a scripted server: a failed command never looks
//! like an empty mailbox, and no mail is lost, mixed up or able to stop the others.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

mod common;

use std::time::{Duration, Instant};

use common::imap::{World, answer, imap, numbers, world};
use common::*;
use mailio::{Class, ContentError, Disposal, FetchError, MailError, Mailbox, SecretSource, Timeouts, Turn};

struct Lab {
    _folder: tempfile::TempDir,
    mailbox: Mailbox,
    log: Log,
}

async fn lab(
    world: World,
    limit: Duration,
    act: impl Fn(usize, &str) -> Act + Send + Sync + Clone + 'static,
) -> Lab {
    let (port, log) = serve(move |n, conn| {
        let act = act.clone();
        imap(conn, world.clone(), move |command| act(n, command))
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings("maildir:/nowhere", &format!("imap://box@127.0.0.1:{port}/INBOX"));
    settings.secret = SecretSource::File(secret_file(folder.path(), "hunter2"));
    settings.timeouts = Timeouts::all(limit);
    Lab { _folder: folder, mailbox: Mailbox::new(settings), log }
}

const LONG: Duration = Duration::from_secs(5);

#[tokio::test]
async fn mails_are_listed_fetched_and_deleted() {
    let mut lab = lab(world(3), LONG, |_, _| Act::Usual).await;
    let found = lab.mailbox.look(10).await.unwrap();
    assert_eq!(found.len(), 3);
    for (n, mail) in found.iter().enumerate() {
        let Class::Ours(marker) = mail.class else { panic!("{mail:?}") };
        assert_eq!((marker.id.0[0] as usize, marker.attachment_bytes), (n, Some(9)));
        assert_eq!(mail.from.as_ref().unwrap().as_str(), "manager@lab.test");
        let mut out = Vec::new();
        lab.mailbox.fetch(&mail.key, 100, &mut out).await.unwrap();
        assert_eq!(out, format!("payload {n}").as_bytes());
    }
    let keys: Vec<_> = found.iter().zip([Disposal::Done, Disposal::Junk, Disposal::Done]).collect();
    let keys: Vec<_> = keys.into_iter().map(|(f, d)| (f.key.clone(), d)).collect();
    lab.mailbox.dispose(&keys).await.unwrap();
    let heard = heard(&lab.log);
    for command in [
        "UID STORE 100,104 +FLAGS.SILENT (\\Deleted)",
        "UID EXPUNGE 100,104",
        "UID MOVE 102 \"mailfleet-junk\"",
    ] {
        assert!(heard.iter().any(|l| l.ends_with(command)), "{command}: {heard:?}");
    }
    assert!(!heard.iter().any(|l| l.contains("hunter2") || l.contains("SEARCH") || l.contains("BODY[")));
    assert_eq!(count(&lab.log, "m1 "), 1, "one connection for all of it");
}

#[tokio::test]
async fn a_fetch_that_fails_in_any_way_is_never_an_empty_mailbox() {
    for answer in [
        "TAG NO [SERVERBUG] internal error\r\n",
        "TAG BAD syntax\r\n",
        "* 1 FETCH (UID 100 RFC822.SIZE 9 BODY[HEADER]<0> \"\")\r\nTAG NO rest unreadable\r\n",
        "TAG OK nothing there\r\n",
        "* 1 FETCH (UID 100 RFC822.SIZE 9 BODY[HEADER]<0> \"\")\r\nTAG OK short\r\n",
        "* 1 FETCH (UID 100 FLAGS (\\Seen))\r\n* 2 FETCH (FLAGS ())\r\nTAG OK other\r\n",
        "* 1 FETCH (UID 100 RFC822.SIZE 9 BODY[HEADER]<0> \"\")\r\n",
        "* 1 EXPUNGE\r\nTAG OK moved\r\n",
        "* ??? (((\r\nTAG OK odd\r\n",
        "* 1 FETCH (INTERNALDATE NIL)\r\nTAG OK panics the parser\r\n",
        "A9999 OK stray\r\nTAG NO refused\r\n",
        "* BYE shutting down\r\n",
    ] {
        let mut lab = lab(world(2), SHORT, move |_, command| {
            if command.starts_with("FETCH") { Act::Say(answer.to_owned()) } else { Act::Usual }
        })
        .await;
        let got = lab.mailbox.look(10).await;
        assert!(got.is_err(), "{answer}: {got:?}");
    }
}

#[tokio::test]
async fn an_end_of_the_connection_in_the_middle_of_a_list_is_an_error() {
    for part in
        ["* 1 FETCH (UID 100 RFC822.SI", "* 1 FETCH (UID 100 RFC822.SIZE 9 BODY[HEADER]<0> {9}\r\nabc", ""]
    {
        let (port, _) = serve(move |_, mut conn| async move {
            let world = world(2);
            conn.say("* OK hello\r\n").await;
            while let Some(line) = conn.line().await {
                let (tag, command) = line.split_once(' ').unwrap();
                if command.starts_with("FETCH") {
                    return conn.say(part).await;
                }
                conn.say_bytes(&answer(&world, command)).await;
                conn.say(&format!("{tag} OK done\r\n")).await;
            }
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings("maildir:/nowhere", &format!("imap://box@127.0.0.1:{port}/INBOX"));
        settings.secret = SecretSource::File(secret_file(folder.path(), "x"));
        let err = Mailbox::new(settings).look(10).await.unwrap_err();
        assert_eq!(err.turn(), Turn::RetryLater, "{part}: {err:?}");
    }
}

#[tokio::test]
async fn words_that_nobody_asked_for_do_not_confuse_the_answers() {
    let mut lab = lab(world(2), LONG, |_, command| {
        if !command.starts_with("FETCH") {
            return Act::Usual;
        }
        let mut text =
            String::from("* 7 EXISTS\r\n* 0 RECENT\r\n* 2 FETCH (FLAGS (\\Seen))\r\n* OK still here\r\n");
        text.push_str(&String::from_utf8(answer(&world(2), command)).unwrap());
        text.push_str("* 1 FETCH (FLAGS (\\Answered) UID 100)\r\n* FLAGS (\\Seen)\r\nTAG OK done\r\n");
        Act::Say(text)
    })
    .await;
    assert_eq!(lab.mailbox.look(10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn one_mail_that_the_server_cannot_read_does_not_stop_the_others() {
    // As Dovecot does by default: it hangs up.
    let mut lab = lab(world(5), LONG, |_, command| {
        let bad = command.starts_with("FETCH")
            && command.contains("HEADER")
            && numbers(command.split(' ').nth(1).unwrap(), 1..=5).contains(&3);
        if bad { Act::Drop } else { Act::Usual }
    })
    .await;
    for _ in 0..4 {
        let found = lab.mailbox.look(10).await.unwrap();
        let ids: Vec<u8> = found
            .iter()
            .map(|f| if let Class::Ours(m) = f.class { m.id.0[0] } else { panic!("{f:?}") })
            .collect();
        assert_eq!(ids, [0, 1, 3, 4]);
    }
    let connections = count(&lab.log, "m1 ");
    lab.mailbox.look(10).await.unwrap();
    assert_eq!(count(&lab.log, "m1 "), connections, "it is passed over by now");
}

async fn fetch_error(act: impl Fn(usize, &str) -> Act + Send + Sync + Clone + 'static) -> FetchError {
    let mut world = world(1);
    world.mails[0].1 =
        mail(&["a@b.test"], &[5; 400_000]).chunks().unwrap().flat_map(|c| c.unwrap()).collect();
    let mut lab = lab(world, LONG, act).await;
    let key = lab.mailbox.look(10).await.unwrap()[0].key.clone();
    lab.mailbox.fetch(&key, 1_000_000, &mut Vec::new()).await.unwrap_err()
}

#[tokio::test]
async fn servers_that_ignore_the_window_are_refused_before_they_fill_the_memory() {
    for answer in [
        // From the start, whatever was asked.
        "* 1 FETCH (UID 100 BODY[] {5}\r\nhello)\r\nTAG OK done\r\n",
        "* 1 FETCH (UID 100 BODY[]<0> {5}\r\nhello)\r\nTAG OK done\r\n",
        "* 1 FETCH (UID 100 BODY[]<12> {5}\r\nhello)\r\nTAG OK done\r\n",
        // More than asked: async-imap would make room for all of it at once.
        "* 1 FETCH (UID 100 BODY[]<262144> {400000000}\r\nhello",
        "* 1 FETCH (UID 100 BODY[]<262144> {262145}\r\nhello",
        "* 1 FETCH (UID 100 BODY[]<262144> NIL)\r\nTAG OK unreadable\r\n",
        "TAG OK nothing\r\n",
        "TAG NO broken\r\n",
    ] {
        let err =
            fetch_error(
                move |_, command| {
                    if command.contains("<262144.") { Act::Say(answer.to_owned()) } else { Act::Usual }
                },
            )
            .await;
        assert!(matches!(err, FetchError::Transport(_)), "{answer}: {err:?}");
    }
    let flood = format!("* 1 FETCH (FLAGS ({}))\r\n", "x".repeat(1000)).repeat(1000);
    let err = fetch_error(move |_, c| {
        if c.contains("<0.") && c.starts_with("UID") { Act::Say(flood.clone()) } else { Act::Usual }
    })
    .await;
    assert!(matches!(err, FetchError::Transport(MailError::Protocol(_))), "{err:?}");
}

#[tokio::test]
async fn an_attachment_of_many_windows_is_joined_in_order() {
    let payload: Vec<u8> = (0..700_000u32).map(|n| (n % 251) as u8).collect();
    let mut world = world(1);
    world.mails[0].1 = mail(&["a@b.test"], &payload).chunks().unwrap().flat_map(|c| c.unwrap()).collect();
    let mut lab = lab(world, LONG, |_, _| Act::Usual).await;
    let key = lab.mailbox.look(1).await.unwrap()[0].key.clone();
    let mut out = Vec::new();
    assert_eq!(lab.mailbox.fetch(&key, 700_000, &mut out).await.unwrap().bytes, 700_000);
    assert!(out == payload);
    let err = lab.mailbox.fetch(&key, 100_000, &mut out).await.unwrap_err();
    assert!(matches!(err, FetchError::Content(ContentError::TooLarge { .. })), "{err:?}");
}

#[tokio::test]
async fn a_renumbered_folder_is_noticed_before_anything_is_touched() {
    let (port, log) = serve(|n, conn| {
        let world = World { validity: 77 + n as u32, ..world(2) };
        // The first connection ends after its listing.
        imap(conn, world, move |c| if n == 0 && c.starts_with("UID") { Act::Drop } else { Act::Usual })
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings("maildir:/nowhere", &format!("imap://box@127.0.0.1:{port}/INBOX"));
    settings.secret = SecretSource::File(secret_file(folder.path(), "x"));
    let mut mailbox = Mailbox::new(settings);
    let old = mailbox.look(10).await.unwrap()[0].key.clone();
    let err = mailbox.fetch(&old, 100, &mut Vec::new()).await.unwrap_err();
    let FetchError::Transport(MailError::Renumbered { expected: 77, found: 78, .. }) = err else {
        panic!("{err:?}")
    };
    let err = mailbox.dispose(&[(old, Disposal::Done)]).await.unwrap_err();
    assert!(matches!(err, MailError::Renumbered { .. }), "{err:?}");
    assert!(!heard(&log).iter().any(|l| l.contains("STORE")));
    assert_eq!(mailbox.look(10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn refused_deletions_are_errors_and_a_mail_that_is_gone_is_none() {
    for refused in ["UID STORE", "UID EXPUNGE", "UID MOVE"] {
        let mut lab = lab(world(1), LONG, move |_, c| {
            if c.starts_with(refused) { Act::Say("TAG NO read-only\r\n".into()) } else { Act::Usual }
        })
        .await;
        let key = lab.mailbox.look(10).await.unwrap()[0].key.clone();
        let disposal = if refused == "UID MOVE" { Disposal::Junk } else { Disposal::Done };
        let err = lab.mailbox.dispose(&[(key.clone(), disposal)]).await.unwrap_err();
        assert!(matches!(err, MailError::Refused { .. }), "{refused}: {err:?}");
    }
    let mut lab = lab(world(1), LONG, |_, c| {
        if c.contains("(UID RFC822.SIZE)") { Act::Say("TAG OK none\r\n".into()) } else { Act::Usual }
    })
    .await;
    let key = lab.mailbox.look(10).await.unwrap()[0].key.clone();
    assert!(matches!(lab.mailbox.fetch(&key, 9, &mut Vec::new()).await, Err(FetchError::Gone)));
}

#[tokio::test]
async fn without_move_and_uidplus_junk_is_copied_into_a_folder_below_inbox_and_expunged() {
    let world = World { capabilities: "IMAP4rev1", ..world(1) };
    let mut lab = lab(world, LONG, |_, c| match c {
        c if c.contains(" \"mailfleet-junk\"") => Act::Say("TAG NO [TRYCREATE] below INBOX only\r\n".into()),
        _ => Act::Usual,
    })
    .await;
    let key = lab.mailbox.look(10).await.unwrap()[0].key.clone();
    lab.mailbox.dispose(&[(key, Disposal::Junk)]).await.unwrap();
    let heard: Vec<_> =
        heard(&lab.log).into_iter().filter_map(|l| Some(l.split_once(' ')?.1.to_owned())).collect();
    let tail = [
        "UID COPY 100 \"mailfleet-junk\"",
        "CREATE \"mailfleet-junk\"",
        "UID COPY 100 \"INBOX.mailfleet-junk\"",
        "UID STORE 100 +FLAGS.SILENT (\\Deleted)",
        "EXPUNGE",
    ];
    assert_eq!(heard[heard.len() - tail.len()..], tail);
}

#[tokio::test]
async fn each_form_of_login_is_spoken() {
    let forms = [
        ("IMAP4rev1", "LOGIN {3}", "box {7}"),
        ("IMAP4rev1 AUTH=PLAIN", "AUTHENTICATE PLAIN", "AGJveABodW50ZXIy"),
        ("IMAP4rev1 AUTH=PLAIN SASL-IR", "AUTHENTICATE PLAIN AGJveABodW50ZXIy", ""),
    ];
    for (capabilities, command, answer) in forms {
        let mut lab = lab(World { capabilities, ..world(1) }, LONG, |_, _| Act::Usual).await;
        assert_eq!(lab.mailbox.look(10).await.unwrap().len(), 1, "{command}");
        let heard = heard(&lab.log);
        assert!(heard.iter().any(|l| l.ends_with(command)), "{heard:?}");
        assert!(answer.is_empty() || heard.iter().any(|l| l == answer), "{heard:?}");
    }
    let mut lab =
        lab(World { capabilities: "IMAP4rev1 LOGINDISABLED", ..world(1) }, LONG, |_, _| Act::Usual).await;
    let err = lab.mailbox.look(10).await.unwrap_err();
    assert!(matches!(err, MailError::AuthRefused { .. }) && count(&lab.log, "m2") == 0, "{err:?}");
}

#[tokio::test]
async fn starttls_that_is_refused_or_fails_is_no_reason_to_go_on_in_clear() {
    for answer in ["TAG BAD unknown command\r\n", "TAG NO not now\r\n", "TAG OK go\r\n* OK plain words\r\n"] {
        let (port, log) = serve(move |_, conn| {
            imap(conn, world(1), move |c| if c == "STARTTLS" { Act::Say(answer.into()) } else { Act::Usual })
        })
        .await;
        let mut settings = settings("maildir:/nowhere", &format!("imap+starttls://box@127.0.0.1:{port}"));
        settings.timeouts = Timeouts::all(SHORT);
        let err = Mailbox::new(settings).look(1).await.unwrap_err();
        assert!(matches!(err, MailError::Tls(_) | MailError::Unreachable(_)), "{answer}: {err:?}");
        assert!(!heard(&log).iter().any(|l| l.contains("AUTHENTICATE") || l.contains("LOGIN")));
    }
}

const PHASES: [&str; 7] =
    ["greeting", "CAPABILITY", "AUTHENTICATE", "SELECT", "FETCH", "UID FETCH", "UID STORE"];

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
        // A listing narrows down and a fetch on a kept connection reconnects; the rest is an error.
        let first = one_round(&mut lab).await;
        assert!(first.is_err() || matches!(phase, "FETCH" | "UID FETCH"), "{phase}");
        one_round(&mut lab).await.unwrap();
    }
}

#[tokio::test]
async fn logins_that_fail_are_typed_and_throttled() {
    let mut lab = lab(world(1), LONG, |_, c| {
        if c.starts_with("AUTHENTICATE") {
            Act::Say("TAG NO [AUTHENTICATIONFAILED] wrong\r\n".into())
        } else {
            Act::Usual
        }
    })
    .await;
    for _ in 0..2 {
        let err = lab.mailbox.look(10).await.unwrap_err();
        assert!(matches!(err, MailError::AuthRefused { turn: Turn::Operator, .. }), "{err:?}");
    }
    assert!(matches!(lab.mailbox.look(10).await, Err(MailError::Throttled { .. })));
    assert_eq!(count(&lab.log, "m2 AUTHENTICATE"), 2);
}

#[tokio::test]
async fn strange_greetings_are_errors() {
    for greeting in ["* BYE overloaded\r\n", "220 smtp here\r\n", "HTTP/1.1 400\r\n", "* PREAUTH hello\r\n"] {
        let mut lab =
            lab(
                world(1),
                SHORT,
                move |_, c| {
                    if c == "greeting" { Act::Say(greeting.into()) } else { Act::Usual }
                },
            )
            .await;
        assert!(lab.mailbox.look(10).await.is_err(), "{greeting}");
    }
}

#[tokio::test]
async fn a_cancelled_call_never_leaves_its_answer_to_the_next() {
    let mut lab =
        lab(world(2), LONG, |n, c| if n == 0 && c.starts_with("UID FETCH") { Act::Hang } else { Act::Usual })
            .await;
    let keys: Vec<_> = lab.mailbox.look(10).await.unwrap().into_iter().map(|f| f.key).collect();
    let mut sink = Vec::new();
    let cancelled = tokio::time::timeout(SHORT, lab.mailbox.fetch(&keys[0], 100, &mut sink)).await;
    assert!(cancelled.is_err());
    let mut out = Vec::new();
    lab.mailbox.fetch(&keys[1], 100, &mut out).await.unwrap();
    assert_eq!(out, b"payload 1");
}
