//! What servers, networks and callers do to an SMTP session, each by a scripted server: no mail is ever taken
//! for sent that was not, and none stops the others.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::*;
use mailio::{Progress, SecretSource, SendError, Sender, Sent, Timeouts, Turn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const FULL: &[&str] = &["PIPELINING", "SIZE 100000000", "DSN", "AUTH PLAIN LOGIN", "8BITMIME"];

fn sender(port: u16) -> Sender {
    Sender::new(settings(&format!("smtp://127.0.0.1:{port}"), "maildir:/nowhere"))
}

const LONG: Duration = Duration::from_secs(5);

fn short(port: u16) -> Sender {
    let mut settings = settings(&format!("smtp://127.0.0.1:{port}"), "maildir:/nowhere");
    settings.timeouts = Timeouts::all(SHORT);
    Sender::new(settings)
}

fn with_login(port: u16, folder: &std::path::Path, limit: Duration) -> Sender {
    let mut settings = settings(&format!("smtp://box@127.0.0.1:{port}"), "maildir:/nowhere");
    settings.secret = SecretSource::File(secret_file(folder, "hunter2"));
    settings.timeouts = Timeouts::all(limit);
    Sender::new(settings)
}

#[tokio::test]
async fn a_long_mail_tells_of_its_progress_all_the_way_and_a_silent_server_does_not() {
    let (port, _) = serve(|n, conn| {
        smtp(conn, FULL, move |step| if n > 0 && step == "DATA" { Act::Hang } else { Act::Usual })
    })
    .await;
    let told = Arc::new(AtomicUsize::new(0));
    let mut settings = settings(&format!("smtp://127.0.0.1:{port}"), "maildir:/nowhere");
    let count = told.clone();
    settings.progress = Progress::to(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    settings.timeouts = Timeouts::all(LONG);
    let mail = mail(&["a@x.test"], &[7; 4_000_000]);
    let mut long = Sender::new(settings.clone());
    assert_eq!(long.send(&mail).await.unwrap(), [Sent::Done]);
    // 4 MB in base64 are more than 80 blocks of 64 KiB.
    let all = told.swap(0, Ordering::Relaxed);
    assert!(all > 80, "{all}");
    settings.timeouts = Timeouts::all(SHORT);
    assert!(Sender::new(settings).send(&mail).await.is_err());
    let silent = told.load(Ordering::Relaxed);
    assert!((1..20).contains(&silent), "{silent}");
}

#[tokio::test]
async fn one_refused_recipient_does_not_stop_the_others() {
    let (port, log) = serve(|_, conn| {
        smtp(conn, FULL, |step| match step {
            s if s.contains("gone@") => say("550 5.1.1 no such user"),
            s if s.contains("busy@") => say("450 4.3.0 try later"),
            s if s.contains("odd@") => say("550 5.5.0 filter down"),
            _ => Act::Usual,
        })
    })
    .await;
    let mail = mail(&["a@x.test", "gone@x.test", "busy@x.test", "odd@x.test", "b@x.test"], b"payload");
    let sent = sender(port).send(&mail).await.unwrap();
    let [Sent::Done, Sent::Never(gone), Sent::Later(busy), Sent::Later(_), Sent::Done] = sent.as_slice()
    else {
        panic!("{sent:?}");
    };
    assert_eq!(
        (gone.code, gone.enhanced.as_deref(), gone.text.as_str()),
        (Some(550), Some("5.1.1"), "no such user")
    );
    assert_eq!(busy.code, Some(450));
    assert_eq!(count(&log, "MAIL-TEXT"), 1);
    let from = heard(&log).into_iter().find(|l| l.starts_with("MAIL FROM")).unwrap();
    assert!(
        from.contains(" SIZE=") && from.contains(&format!(" RET=HDRS ENVID={}", "07".repeat(16))),
        "{from}"
    );
    assert!(heard(&log).iter().any(|l| l == "RCPT TO:<a@x.test> NOTIFY=FAILURE,DELAY"));
}

#[tokio::test]
async fn if_nobody_is_accepted_no_text_is_sent_and_the_connection_stays_good() {
    let (port, log) = serve(|_, conn| {
        smtp(conn, FULL, |s| if s.contains("gone@") { say("550 5.1.1 no") } else { Act::Usual })
    })
    .await;
    let mut sender = sender(port);
    assert!(matches!(sender.send(&mail(&["gone@x.test"], b"x")).await.unwrap()[0], Sent::Never(_)));
    assert_eq!(sender.send(&mail(&["a@x.test"], b"x")).await.unwrap(), [Sent::Done]);
    assert_eq!((count(&log, "EHLO"), count(&log, "RSET"), count(&log, "MAIL-TEXT")), (1, 1, 1));
}

#[tokio::test]
async fn a_cancelled_mail_never_lends_its_replies_to_the_next_one() {
    // lettre's pool: cancel while waiting for the verdict, and the next mail's 552 is read as Ok("go").
    let (port, log) = serve(|n, conn| {
        smtp(conn, FULL, move |step| match (n, step) {
            (0, "dot") => Act::Hang,
            (_, "dot") => say("552 5.3.4 too big"),
            _ => Act::Usual,
        })
    })
    .await;
    let mut sender = sender(port);
    let first = mail(&["a@x.test"], b"first");
    let cancelled = tokio::time::timeout(Duration::from_millis(300), sender.send(&first)).await;
    assert!(cancelled.is_err());
    let sent = sender.send(&mail(&["a@x.test"], b"second")).await.unwrap();
    assert!(matches!(&sent[0], Sent::Never(why) if why.code == Some(552)), "{sent:?}");
    assert_eq!(count(&log, "EHLO"), 2);
}

#[tokio::test]
async fn only_250_after_the_dot_is_success() {
    for (reply, is) in [
        (
            "354 go on",
            (|r| matches!(r, Err(SendError::UnknownOutcome(_)))) as fn(&Result<Vec<Sent>, SendError>) -> bool,
        ),
        ("251 forwarded", |r| matches!(r, Err(SendError::UnknownOutcome(_)))),
        ("450 4.3.0 later", |r| matches!(r.as_deref(), Ok([Sent::Later(_)]))),
        ("554 5.7.1 spam", |r| matches!(r.as_deref(), Ok([Sent::Never(_)]))),
        ("550 5.5.0 scanner down", |r| matches!(r.as_deref(), Ok([Sent::Later(_)]))),
        ("421 4.3.2 going down", |r| matches!(r, Err(SendError::Unreachable(_)))),
        ("250 2.0.0 queued as 4F", |r| matches!(r.as_deref(), Ok([Sent::Done]))),
    ] {
        let (port, _) =
            serve(move |_, conn| smtp(conn, FULL, move |s| if s == "dot" { say(reply) } else { Act::Usual }))
                .await;
        let got = sender(port).send(&mail(&["a@x.test"], b"x")).await;
        assert!(is(&got), "{reply}: {got:?}");
    }
}

#[tokio::test]
async fn recipients_beyond_the_servers_limit_go_in_further_transactions() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    for refusal in ["452 4.5.3 Error: too many recipients", "552 5.5.3 too many", "452 Too many recipients"] {
        let (port, log) = serve(move |_, conn| {
            let taken = AtomicUsize::new(0);
            smtp(conn, FULL, move |step| {
                if step.starts_with("MAIL FROM") {
                    taken.store(0, Ordering::Relaxed);
                }
                let over = step.starts_with("RCPT") && taken.fetch_add(1, Ordering::Relaxed) >= 4;
                if over { say(refusal) } else { Act::Usual }
            })
        })
        .await;
        let to: Vec<String> = (0..10).map(|n| format!("a{n}@x.test")).collect();
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        assert_eq!(sender(port).send(&mail(&to, b"x")).await.unwrap(), vec![Sent::Done; 10], "{refusal}");
        assert_eq!((count(&log, "MAIL-TEXT"), count(&log, "EHLO")), (3, 1), "{refusal}");
    }
    let limits: &[&str] = &["PIPELINING", "LIMITS MAILMAX=2 RCPTMAX=3"];
    let (port, log) = serve(move |_, conn| smtp(conn, limits, |_| Act::Usual)).await;
    let to = ["a@x.test", "b@x.test", "c@x.test", "d@x.test", "e@x.test", "f@x.test", "g@x.test"];
    assert_eq!(sender(port).send(&mail(&to, b"x")).await.unwrap(), vec![Sent::Done; 7]);
    assert_eq!((count(&log, "MAIL-TEXT"), count(&log, "EHLO")), (3, 2));
}

#[tokio::test]
async fn a_server_without_room_for_even_one_recipient_ends_the_loop() {
    let (port, _) = serve(|_, conn| {
        smtp(conn, FULL, |s| if s.starts_with("RCPT") { say("452 4.5.3 too many") } else { Act::Usual })
    })
    .await;
    let sent = sender(port).send(&mail(&["a@x.test", "b@x.test"], b"x")).await.unwrap();
    assert!(sent.iter().all(|s| matches!(s, Sent::Later(_))), "{sent:?}");
}

#[tokio::test]
async fn results_of_a_first_transaction_survive_a_second_one_that_fails() {
    let (port, _) = serve(|n, conn| {
        smtp(conn, &["LIMITS RCPTMAX=1 MAILMAX=1"], move |_| if n > 0 { Act::Drop } else { Act::Usual })
    })
    .await;
    let sent = sender(port).send(&mail(&["a@x.test", "b@x.test"], b"x")).await.unwrap();
    assert!(matches!(sent.as_slice(), [Sent::Done, Sent::Later(_)]), "{sent:?}");
}

#[tokio::test]
async fn a_mail_above_a_limit_is_refused_before_it_is_offered() {
    let (port, log) = serve(|_, conn| smtp(conn, &["SIZE 5000"], |_| Act::Usual)).await;
    let mut sender = sender(port);
    let err = sender.send(&mail(&["a@x.test"], &[0; 5000])).await.unwrap_err();
    assert!(matches!(err, SendError::TooLarge { limit_bytes: 5000, .. }), "{err:?}");
    assert_eq!((err.turn(), count(&log, "MAIL")), (Turn::Operator, 0));
    let mut tight = settings(&format!("smtp://127.0.0.1:{port}"), "maildir:/nowhere");
    tight.mail_max_bytes = 1000;
    let err = Sender::new(tight).send(&mail(&["a@x.test"], &[0; 5000])).await.unwrap_err();
    assert!(err.to_string().contains("the setting mail_max_bytes allows 1000"), "{err}");
}

const PHASES: [&str; 8] = ["greeting", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "body", "dot"];

#[tokio::test]
async fn a_silent_server_is_left_at_every_step_within_its_limit() {
    let folder = tempfile::tempdir().unwrap();
    for phase in PHASES {
        let (port, _) = serve(move |_, conn| {
            smtp(conn, FULL, move |s| if s.starts_with(phase) { Act::Hang } else { Act::Usual })
        })
        .await;
        let started = Instant::now();
        // Larger than all socket buffers, so that the body cannot be left to the kernel.
        let payload = vec![0; if phase == "body" { 20_000_000 } else { 10 }];
        let err =
            with_login(port, folder.path(), SHORT).send(&mail(&["a@x.test"], &payload)).await.unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(8), "{phase}: {:?}", started.elapsed());
        assert_eq!(matches!(err, SendError::UnknownOutcome(_)), phase == "dot", "{phase}: {err:?}");
        assert_eq!(err.turn(), Turn::RetryLater, "{phase}");
    }
}

#[tokio::test]
async fn a_connection_lost_at_any_step_is_an_error_and_the_next_mail_gets_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    for phase in PHASES {
        let (port, _) = serve(move |n, conn| {
            smtp(conn, FULL, move |s| if n == 0 && s.starts_with(phase) { Act::Drop } else { Act::Usual })
        })
        .await;
        let mut sender = with_login(port, folder.path(), LONG);
        let err = sender.send(&mail(&["a@x.test"], &[0; 300_000])).await.unwrap_err();
        match err {
            SendError::UnknownOutcome(_) => assert!(matches!(phase, "dot" | "body"), "{phase}"),
            SendError::Unreachable(_) => assert!(phase != "dot", "{phase}"),
            other => panic!("{phase}: {other:?}"),
        }
        assert_eq!(sender.send(&mail(&["a@x.test"], b"x")).await.unwrap(), [Sent::Done], "{phase}");
    }
}

#[tokio::test]
async fn a_server_that_gives_up_in_the_middle_of_a_mail_is_heard() {
    let (port, _) = serve(|_, conn| {
        smtp(conn, &["PIPELINING"], |s| if s == "body" { say("421 4.3.1 disk full") } else { Act::Usual })
    })
    .await;
    let err = sender(port).send(&mail(&["a@x.test"], &vec![0; 5_000_000])).await.unwrap_err();
    let SendError::Unreachable(cause) = &err else { panic!("{err:?}") };
    assert!(cause.to_string().contains("disk full"), "{cause}");
}

#[tokio::test]
async fn a_421_at_any_command_drops_the_connection() {
    for phase in ["greeting", "EHLO", "MAIL", "RCPT", "DATA"] {
        let (port, log) = serve(move |n, conn| {
            smtp(conn, &[], move |s| {
                if n == 0 && s.starts_with(phase) { say("421 4.7.0 slow down") } else { Act::Usual }
            })
        })
        .await;
        let mut sender = sender(port);
        let err = sender.send(&mail(&["a@x.test"], b"x")).await.unwrap_err();
        assert!(matches!(err, SendError::Unreachable(_)), "{phase}: {err:?}");
        assert_eq!(sender.send(&mail(&["a@x.test"], b"x")).await.unwrap(), [Sent::Done], "{phase}");
        assert_eq!(count(&log, "MAIL-TEXT"), 1);
    }
}

#[tokio::test]
async fn a_kept_connection_that_died_is_replaced_without_an_error() {
    let (port, log) = serve(|n, mut conn| async move {
        if n > 0 {
            return smtp(conn, &[], |_| Act::Usual).await;
        }
        // Serves one mail, then is gone without a word.
        conn.say("220 x\r\n").await;
        while let Some(line) = conn.line().await {
            match line.split(' ').next().unwrap() {
                "DATA" => {
                    conn.say("354 go\r\n").await;
                    while conn.line().await.unwrap() != "." {}
                    return conn.say("250 ok\r\n").await;
                }
                _ => conn.say("250 ok\r\n").await,
            }
        }
    })
    .await;
    let mut sender = sender(port);
    for _ in 0..2 {
        assert_eq!(sender.send(&mail(&["a@x.test"], b"x")).await.unwrap(), [Sent::Done]);
    }
    assert_eq!(count(&log, "EHLO"), 2);
}

#[tokio::test]
async fn each_step_is_one_write() {
    for (ehlo, steps) in [(&["PIPELINING"][..], 4), (&[][..], 7)] {
        let (port, log) = serve(move |_, mut conn| async move {
            conn.say("220 x\r\n").await;
            while let Some(line) = conn.line().await {
                match line.split(' ').next().unwrap() {
                    "EHLO" => conn.say(&format!("250-me\r\n250 {}\r\n", ehlo.first().unwrap_or(&"X"))).await,
                    "DATA" => {
                        conn.say("354 go\r\n").await;
                        while conn.line().await.unwrap() != "." {}
                        conn.log.lock().unwrap().push(format!("READS {}", conn.reads));
                        conn.say("250 ok\r\n").await;
                    }
                    _ => conn.say("250 ok\r\n").await,
                }
            }
        })
        .await;
        let to = ["a@x.test", "b@x.test", "c@x.test"];
        sender(port).send(&mail(&to, &[0; 10_000])).await.unwrap();
        // EHLO, MAIL with three RCPT (or four commands), DATA, the mail with its dot.
        assert!(heard(&log).contains(&format!("READS {steps}")), "{:?}", heard(&log));
    }
}

#[tokio::test]
async fn lines_that_begin_with_a_dot_arrive_unchanged() {
    let (port, log) = serve(|_, conn| smtp(conn, &[], |_| Act::Usual)).await;
    let mut mail = mail(&["a@x.test"], b"x");
    mail.note = ".\n..\n.x\nend.".into();
    sender(port).send(&mail).await.unwrap();
    let text = heard(&log).into_iter().find(|l| l.starts_with("MAIL-TEXT")).unwrap();
    assert!(text.contains("\r\n.\r\n..\r\n.x\r\nend.\r\n"), "{text}");
    let composed: Vec<u8> = mail.chunks().unwrap().flat_map(|c| c.unwrap()).collect();
    assert_eq!(text.trim_start_matches("MAIL-TEXT ").as_bytes(), composed);
}

#[tokio::test]
async fn a_refused_login_is_the_operators_turn_and_is_not_repeated_for_long() {
    let folder = tempfile::tempdir().unwrap();
    let (port, log) = serve(|_, conn| {
        smtp(conn, FULL, |s| if s.starts_with("AUTH") { say("535 5.7.8 bad password") } else { Act::Usual })
    })
    .await;
    let mut sender = with_login(port, folder.path(), LONG);
    for _ in 0..2 {
        let err = sender.send(&mail(&["a@x.test"], b"x")).await.unwrap_err();
        assert!(matches!(&err, SendError::AuthRefused { user, .. } if user == "box"), "{err:?}");
        assert_eq!(err.turn(), Turn::Operator);
        assert!(!format!("{err:?} {err}").contains("hunter2"));
    }
    let err = sender.send(&mail(&["a@x.test"], b"x")).await.unwrap_err();
    assert!(matches!(err, SendError::Throttled { .. }), "{err:?}");
    assert_eq!(count(&log, "AUTH"), 2);
}

#[tokio::test]
async fn each_form_of_login_is_spoken() {
    let folder = tempfile::tempdir().unwrap();
    let (port, log) = serve(|_, conn| {
        smtp(conn, &["AUTH LOGIN"], |s| match s {
            "AUTH LOGIN" => say("334 VXNlcm5hbWU6"),
            "Ym94" => say("334 UGFzc3dvcmQ6"),
            "aHVudGVyMg==" => say("235 ok"),
            _ => Act::Usual,
        })
    })
    .await;
    assert_eq!(
        with_login(port, folder.path(), LONG).send(&mail(&["a@x.test"], b"x")).await.unwrap(),
        [Sent::Done]
    );
    assert_eq!(count(&log, "aHVudGVyMg=="), 1);

    let (port, log) = serve(|_, conn| {
        smtp(conn, &["AUTH PLAIN XOAUTH2"], |s| match s {
            s if s.starts_with("AUTH") => say("334 eyJzdGF0dXMiOiI0MDEifQ=="),
            "" => say("535 5.7.8 token expired"),
            _ => Act::Usual,
        })
    })
    .await;
    let mut settings = settings(&format!("smtp://box@127.0.0.1:{port}"), "maildir:/nowhere");
    settings.secret = SecretSource::TokenCommand(vec!["echo".into(), "token".into()]);
    let err = Sender::new(settings).send(&mail(&["a@x.test"], b"x")).await.unwrap_err();
    assert!(matches!(&err, SendError::AuthRefused { why, .. } if why.text == "token expired"), "{err:?}");
    // "user=box^Aauth=Bearer token^A^A"
    assert_eq!(count(&log, "AUTH XOAUTH2 dXNlcj1ib3gBYXV0aD1CZWFyZXIgdG9rZW4BAQ=="), 1);
}

#[tokio::test]
async fn a_server_out_of_order_at_login_is_asked_again_later() {
    let folder = tempfile::tempdir().unwrap();
    let (port, _) = serve(|_, conn| {
        smtp(conn, FULL, |s| if s.starts_with("AUTH") { say("454 4.7.0 backend down") } else { Act::Usual })
    })
    .await;
    let err = with_login(port, folder.path(), LONG).send(&mail(&["a@x.test"], b"x")).await.unwrap_err();
    assert_eq!(err.turn(), Turn::RetryLater, "{err:?}");
}

#[tokio::test]
async fn nonsense_from_a_server_is_an_error_and_costs_no_memory() {
    for reply in ["HTTP/1.1 400 Bad Request", "250-\r\n250 x", "220", "\u{0}\u{1}"] {
        let (port, _) = serve(move |_, conn| {
            smtp(conn, &[], move |s| if s == "greeting" { say(reply) } else { Act::Usual })
        })
        .await;
        let got = short(port).send(&mail(&["a@x.test"], b"x")).await;
        assert!(got.is_err() || reply == "220", "{reply}: {got:?}");
    }
    let (port, _) = serve(|_, mut conn| async move {
        for _ in 0..10_000 {
            conn.say_bytes(&[b'2'; 65_536]).await;
        }
    })
    .await;
    assert!(sender(port).send(&mail(&["a@x.test"], b"x")).await.is_err());
    // lettre 0.11.23 panics on an EHLO line of blanks.
    let (port, _) = serve(|_, conn| smtp(conn, &["  ", "PIPELINING"], |_| Act::Usual)).await;
    assert_eq!(sender(port).send(&mail(&["a@x.test"], b"x")).await.unwrap(), [Sent::Done]);
}

#[tokio::test]
async fn a_refused_sender_is_told_apart_from_refused_recipients() {
    let (port, _) =
        serve(|_, conn| {
            smtp(conn, FULL, |s| {
                if s.starts_with("MAIL") { say("553 5.7.1 not your address") } else { Act::Usual }
            })
        })
        .await;
    let err = sender(port).send(&mail(&["a@x.test"], b"x")).await.unwrap_err();
    assert!(matches!(&err, SendError::Refused { phase: "MAIL", .. }), "{err:?}");
    assert_eq!(err.turn(), Turn::Operator);
}

fn starttls(port: u16, host: &str, ca: &std::path::Path) -> Sender {
    let mut settings = settings(&format!("smtp+starttls://{host}:{port}"), "maildir:/nowhere");
    settings.ca_file = Some(ca.to_owned());
    settings.timeouts = Timeouts::all(Duration::from_secs(3));
    Sender::new(settings)
}

#[tokio::test]
async fn starttls_that_is_stripped_refused_or_injected_is_no_reason_to_go_on_in_clear() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, ..) = certificates(folder.path(), "IP:127.0.0.1");
    let scripts: [(&[&str], &'static str); 3] = [
        (&["AUTH PLAIN"], ""),
        (&["STARTTLS"], "454 4.7.0 not now"),
        (&["STARTTLS"], "220 go\r\n250-me\r\n250 AUTH PLAIN"),
    ];
    for (ehlo, reply) in scripts {
        let (port, log) = serve(move |_, conn| {
            smtp(conn, ehlo, move |s| if s == "STARTTLS" { say(reply) } else { Act::Usual })
        })
        .await;
        let err = starttls(port, "127.0.0.1", &ca).send(&mail(&["a@x.test"], b"x")).await.unwrap_err();
        assert!(matches!(err, SendError::Tls(_)), "{reply}: {err:?}");
        assert_eq!((count(&log, "MAIL"), count(&log, "AUTH")), (0, 0));
    }
}

#[tokio::test]
async fn a_silent_handshake_ends_by_its_limit() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, ..) = certificates(folder.path(), "IP:127.0.0.1");
    let (port, _) = serve(|_, conn| {
        smtp(conn, &["STARTTLS"], |s| match s {
            "STARTTLS" => say("220 go"),
            s if s.starts_with("EHLO") || s == "greeting" => Act::Usual,
            _ => Act::Hang,
        })
    })
    .await;
    let mut settings = settings(&format!("smtp+starttls://127.0.0.1:{port}"), "maildir:/nowhere");
    (settings.ca_file, settings.timeouts) = (Some(ca), Timeouts::all(SHORT));
    let err = Sender::new(settings).send(&mail(&["a@x.test"], b"x")).await.unwrap_err();
    assert!(matches!(err, SendError::Unreachable(_)), "{err:?}");
}

/// A TLS server that says 220 and hangs up; enough to see whether the handshake is accepted.
async fn tls_server(cert: &std::path::Path, key: &std::path::Path) -> u16 {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let chain = vec![CertificateDer::from_pem_file(cert).unwrap()];
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            if let Ok(mut tls) = acceptor.accept(tcp).await {
                let _said = tls.write_all(b"554 5.0.0 go away\r\n").await;
                let _heard = tls.read(&mut [0; 100]).await;
            }
        }
    });
    port
}

#[tokio::test]
async fn only_certificates_of_the_right_authority_and_name_are_trusted() {
    let (good, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ca, cert, key) = certificates(good.path(), "IP:127.0.0.1");
    let (other_ca, other_cert, other_key) = certificates(other.path(), "DNS:elsewhere.test");
    let port = tls_server(&cert, &key).await;
    let smtps = |port: u16, ca: &std::path::Path| {
        let mut settings = settings(&format!("smtps://127.0.0.1:{port}"), "maildir:/nowhere");
        settings.ca_file = Some(ca.to_owned());
        Sender::new(settings)
    };
    let err = smtps(port, &ca).send(&mail(&["a@x.test"], b"x")).await.unwrap_err();
    assert!(matches!(err, SendError::Refused { phase: "greeting", .. }), "{err:?}");
    let err = smtps(port, &other_ca).send(&mail(&["a@x.test"], b"x")).await.unwrap_err();
    assert!(matches!(err, SendError::Tls(_)), "{err:?}");
    let port = tls_server(&other_cert, &other_key).await;
    let err = smtps(port, &other_ca).send(&mail(&["a@x.test"], b"x")).await.unwrap_err();
    assert!(matches!(err, SendError::Tls(_)) && err.turn() == Turn::Operator, "{err:?}");
    let err = smtps(port, &good.path().join("absent")).send(&mail(&["a@x.test"], b"x")).await.unwrap_err();
    assert!(matches!(err, SendError::Tls(_)), "{err:?}");
}
