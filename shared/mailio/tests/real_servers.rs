//! The same crate against real Postfix and Dovecot, which `scripts/mail-lab` starts on loopback: what they
//! accept, refuse, bounce and how they speak is not our imagination here.
//!
//! One test with many steps, because a lab takes seconds to start and memory is measured for the process.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::*;
use mailio::{
    Attachment, BounceAction, Class, Disposal, Found, MailError, MailSettings, Mailbox, ReceiveUrl,
    SecretSource, SendError, SendUrl, Sender, Sent,
};

struct Lab {
    folder: tempfile::TempDir,
    env: BTreeMap<String, String>,
    args: Vec<String>,
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/mail-lab")
}

impl Lab {
    /// `None` only if the environment says that there are no servers here.
    fn up() -> Option<Self> {
        if std::env::var_os("MAILFLEET_NO_MAIL_SERVERS").is_some() {
            return None;
        }
        let parent = if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
        let folder = tempfile::Builder::new().prefix("mailio-").tempdir_in(parent).unwrap();
        let base = free_base();
        let args =
            ["--users", "10", "--base", &base.to_string(), "--size", "60000000"].map(str::to_owned).to_vec();
        let mut lab = Self { folder, env: BTreeMap::new(), args };
        let out = lab.start();
        for line in out.lines() {
            let (name, value) = line.split_once('=').unwrap();
            lab.env.insert(name.to_owned(), value.to_owned());
        }
        Some(lab)
    }

    fn start(&self) -> String {
        let out = Command::new(script()).arg("up").arg(self.folder.path()).args(&self.args).output().unwrap();
        assert!(
            out.status.success(),
            "the mail lab did not start (needs root, postfix, dovecot-{{core,imapd,pop3d,lmtpd}}, openssl; set \
             MAILFLEET_NO_MAIL_SERVERS=1 where they cannot be had): {}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8(out.stdout).unwrap()
    }

    fn stop(&self) {
        let done = Command::new(script()).arg("down").arg(self.folder.path()).status();
        assert!(done.is_ok_and(|s| s.success()), "the lab did not stop");
    }

    fn port(&self, name: &str) -> &str {
        &self.env[name]
    }

    fn settings(&self, own: &str) -> MailSettings {
        let host = &self.env["LAB_HOST"];
        let address = address(&format!("{own}@lab.test"));
        let send = format!("smtp+starttls://{address}@{host}:{}", self.port("LAB_SUBMISSION_PORT"));
        let receive = format!("imap+starttls://{address}@{host}:{}/INBOX", self.port("LAB_IMAP_PORT"));
        let mut settings =
            MailSettings::new(address, SendUrl::parse(&send).unwrap(), ReceiveUrl::parse(&receive).unwrap());
        settings.ca_file = Some(self.env["LAB_CA"].clone().into());
        settings.secret = SecretSource::File(secret_file(self.folder.path(), &self.env["LAB_PASS"]));
        settings.mail_max_bytes = 50_000_000;
        settings
    }

    fn imaps(&self, own: &str) -> MailSettings {
        let receive = format!("imaps://{own}%40lab.test@localhost:{}/INBOX", self.port("LAB_IMAPS_PORT"));
        MailSettings { receive: ReceiveUrl::parse(&receive).unwrap(), ..self.settings(own) }
    }

    fn pop3(&self, own: &str, scheme: &str) -> MailSettings {
        let port = self.port(if scheme == "pop3s" { "LAB_POP3S_PORT" } else { "LAB_POP3_PORT" });
        let receive = format!("{scheme}://{own}%40lab.test@localhost:{port}");
        MailSettings { receive: ReceiveUrl::parse(&receive).unwrap(), ..self.settings(own) }
    }

    /// Puts raw text into a mailbox, as a stranger would.
    fn inject(&self, to: &str, text: &[u8]) {
        let port = self.port("LAB_SMTP_NOAUTH_PORT").parse::<u16>().unwrap();
        let mut tcp = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let start =
            format!("EHLO x\r\nMAIL FROM:<stranger@else.test>\r\nRCPT TO:<{to}@lab.test>\r\nDATA\r\n");
        let mut reply = [0; 4096];
        for line in start.split_inclusive('\n') {
            let _greeting_or_reply = tcp.read(&mut reply).unwrap();
            tcp.write_all(line.as_bytes()).unwrap();
        }
        let n = tcp.read(&mut reply).unwrap();
        assert!(
            String::from_utf8_lossy(&reply[..n]).contains("354"),
            "{}",
            String::from_utf8_lossy(&reply[..n])
        );
        tcp.write_all(text).unwrap();
        tcp.write_all(b"\r\n.\r\n").unwrap();
        let n = tcp.read(&mut reply).unwrap();
        assert!(reply[..n].starts_with(b"250"), "{}", String::from_utf8_lossy(&reply[..n]));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _best_effort = Command::new(script()).arg("down").arg(self.folder.path()).status();
    }
}

/// A first port whose whole range of the lab is free; taken at random so that runs beside this one differ.
fn free_base() -> u16 {
    for _ in 0..200 {
        let probe = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let base = 13_000 + probe % 15_000;
        let ports = [25, 26, 27, 28, 587, 465, 143, 993, 110, 995];
        if ports.iter().all(|p| TcpListener::bind(("127.0.0.1", base + p)).is_ok()) {
            return base;
        }
    }
    panic!("no free ports for the lab");
}

/// Forgets the process's peak memory so far (the kernel's `5`).
fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

fn peak_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Looks until `count` mails are there.
async fn await_mails(mailbox: &mut Mailbox, count: usize) -> Vec<Found> {
    let started = Instant::now();
    loop {
        let found = mailbox.look(100).await.unwrap();
        if found.len() >= count {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(40), "expected {count} mails, found {found:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_servers_take_keep_bounce_and_give_mails() {
    let Some(lab) = Lab::up() else {
        eprintln!("skipped: MAILFLEET_NO_MAIL_SERVERS is set");
        return;
    };
    // First, so that no memory that another step freed can hide what this one takes.
    large_attachments_pass_in_constant_memory(&lab).await;
    recipients_have_their_own_results(&lab).await;
    logins_and_certificates_are_checked(&lab).await;
    bounces_are_recognised_and_read(&lab).await;
    bombs_of_strangers_are_seen_but_never_downloaded(&lab).await;
    a_mail_is_told_of_at_once(&lab).await;
    pop3_gives_what_imap_gives(&lab).await;
    a_restart_of_the_servers_is_survived(&lab).await;
    lab.stop();
}

#[tokio::test]
async fn a_full_disk_is_a_matter_of_later_and_leaves_no_partial_mail() {
    if std::env::var_os("MAILFLEET_NO_MAIL_SERVERS").is_some() {
        eprintln!("skipped: MAILFLEET_NO_MAIL_SERVERS is set, so this is no machine to mount on");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let run = |program: &str, args: &[&str]| {
        let done = Command::new(program).args(args).arg(folder.path()).status();
        assert!(done.is_ok_and(|s| s.success()), "{program} failed: this test needs root");
    };
    run("mount", &["-t", "tmpfs", "-o", "size=256k", "none"]);
    let own = address("box@lab.test");
    Mailbox::create_spool(folder.path(), &own).unwrap();
    let url = format!("spool:{}", folder.path().display());
    let mut sender = Sender::new(settings(&url, &url));
    let big = sender.send(&mail(&["box@lab.test"], &[1; 1_000_000])).await.unwrap();
    let small = sender.send(&mail(&["box@lab.test"], b"x")).await.unwrap();
    let found = Mailbox::new(MailSettings { address: own, ..settings(&url, &url) }).look(10).await.unwrap();
    run("umount", &[]);
    assert!(matches!(&big[0], Sent::Later(why) if why.text.contains("No space")), "{big:?}");
    // The small one only fits if nothing of the big one was left.
    assert_eq!((small, found.len()), (vec![Sent::Done], 1));
}

async fn recipients_have_their_own_results(lab: &Lab) {
    let mut sender = Sender::new(lab.settings("manager"));
    let text = sender.probe().await.unwrap();
    assert!(text.contains("up to 60000000 bytes") && text.contains("PIPELINING DSN"), "{text}");
    let to = [
        "agent0001@lab.test",
        "nobody@lab.test",
        "agent0002@lab.test",
        "busy@lab.test",
        "agent0003@lab.test",
    ];
    let mail = mail(&to, b"for three");
    let sent = sender.send(&mail).await.unwrap();
    let [Sent::Done, Sent::Never(nobody), Sent::Done, Sent::Later(busy), Sent::Done] = sent.as_slice() else {
        panic!("{sent:?}");
    };
    assert_eq!((nobody.code, nobody.enhanced.as_deref()), (Some(550), Some("5.1.1")));
    assert_eq!((busy.code, busy.enhanced.as_deref()), (Some(450), Some("4.3.0")));
    for (own, tls) in [("agent0001", false), ("agent0002", true), ("agent0003", true)] {
        let mut mailbox = Mailbox::new(if tls { lab.imaps(own) } else { lab.settings(own) });
        let found = await_mails(&mut mailbox, 1).await;
        let Class::Ours(marker) = found[0].class else { panic!("{found:?}") };
        assert_eq!(marker.id, mail.envelope);
        let mut out = Vec::new();
        mailbox.fetch(&found[0].key, 100, &mut out).await.unwrap();
        assert_eq!(out, b"for three");
        let disposal = if own == "agent0003" { Disposal::Junk } else { Disposal::Done };
        mailbox.dispose(&[(found[0].key.clone(), disposal)]).await.unwrap();
        assert!(mailbox.look(10).await.unwrap().is_empty());
        assert!(mailbox.probe().await.unwrap().ends_with("0 mails in INBOX, compressed"));
        mailbox.close().await;
    }
    let mut junk = lab.imaps("agent0003");
    let url = junk.receive.to_string().replace("/INBOX", "/mailfleet-junk");
    junk.receive = ReceiveUrl::parse(&url).unwrap();
    assert_eq!(Mailbox::new(junk).look(10).await.unwrap().len(), 1);
    sender.close().await;
}

async fn logins_and_certificates_are_checked(lab: &Lab) {
    let folder = tempfile::tempdir().unwrap();
    let wrong = SecretSource::File(secret_file(folder.path(), "wrong"));
    let bad = MailSettings { secret: wrong, ..lab.settings("agent0001") };
    let err = Sender::new(bad.clone()).send(&mail(&["agent0001@lab.test"], b"x")).await.unwrap_err();
    assert!(matches!(&err, SendError::AuthRefused { why, .. } if why.code == Some(535)), "{err:?}");
    let err = Mailbox::new(bad).look(1).await.unwrap_err();
    assert!(matches!(err, MailError::AuthRefused { .. }), "{err:?}");
    let (other_ca, ..) = certificates(folder.path(), "IP:127.0.0.1");
    for mut settings in [lab.settings("agent0001"), lab.imaps("agent0001")] {
        settings.ca_file = Some(other_ca.clone());
        let err = Mailbox::new(settings.clone()).look(1).await.unwrap_err();
        assert!(matches!(err, MailError::Tls(_)), "{err:?}");
        let err = Sender::new(settings).send(&mail(&["agent0001@lab.test"], b"x")).await.unwrap_err();
        assert!(matches!(err, SendError::Tls(_)), "{err:?}");
    }
}

async fn bounces_are_recognised_and_read(lab: &Lab) {
    let mut sender = Sender::new(lab.settings("manager"));
    let mut mail = mail(&["gone@lab.test", "full@lab.test"], &[3; 100_000]);
    mail.envelope = shared::EnvelopeId([0x5a; 16]);
    assert_eq!(sender.send(&mail).await.unwrap(), [Sent::Done, Sent::Done]);
    let mut mailbox = Mailbox::new(lab.settings("manager"));
    let found = await_mails(&mut mailbox, 1).await;
    // One report for both recipients or one for each: the server's choice.
    let mut statuses = BTreeMap::new();
    let started = Instant::now();
    let mut found = found;
    while statuses.len() < 2 {
        assert!(started.elapsed() < Duration::from_secs(30), "{statuses:?}");
        for one in &found {
            assert_eq!(one.class, Class::Bounce, "{one:?}");
            assert!(one.size < 20_000, "RET=HDRS was not honoured: {}", one.size);
            let bounce = mailbox.bounce(&one.key).await.unwrap().unwrap();
            assert_eq!(bounce.envelope, Some(mail.envelope));
            for r in bounce.recipients {
                assert_eq!(r.action, BounceAction::Failed);
                statuses.insert(r.address.to_string(), r.status);
            }
        }
        found = mailbox.look(10).await.unwrap();
    }
    assert_eq!(statuses["gone@lab.test"], "5.1.1");
    assert_eq!(statuses["full@lab.test"], "5.2.2");
    let keys: Vec<_> = found.into_iter().map(|f| (f.key, Disposal::Done)).collect();
    mailbox.dispose(&keys).await.unwrap();
}

async fn bombs_of_strangers_are_seen_but_never_downloaded(lab: &Lab) {
    let nested: String = (0..20_000)
        .map(|n| format!("Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n"))
        .collect();
    let nested = nested.repeat(4);
    let headers = format!(
        "From: x@y.test\r\n{}\r\n",
        "X-Spam: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(1500)
    );
    for n in 0..20 {
        lab.inject("agent0004", format!("Subject: bomb {n}\r\n{nested}").as_bytes());
        lab.inject("agent0004", headers.as_bytes());
    }
    let mut mailbox = Mailbox::new(lab.settings("agent0004"));
    drop((nested, headers));
    forget_peak();
    let before = peak_kb();
    let found = await_mails(&mut mailbox, 40).await;
    let grown = peak_kb() - before;
    eprintln!(
        "listing 40 bombs ({} bytes): peak memory +{grown} kB",
        found.iter().map(|f| f.size).sum::<u64>()
    );
    assert!(found.iter().all(|f| f.class == Class::Foreign));
    assert!(grown < 8_000, "+{grown} kB");
    let junk: Vec<_> = found.into_iter().map(|f| (f.key, Disposal::Junk)).collect();
    mailbox.dispose(&junk).await.unwrap();
    assert!(mailbox.look(10).await.unwrap().is_empty());
}

async fn a_mail_is_told_of_at_once(lab: &Lab) {
    let mut sender = Sender::new(lab.settings("manager"));
    let mut mailbox = Mailbox::new(lab.imaps("agent0008"));
    let mut waits = Vec::new();
    for n in 0..8 {
        assert!(mailbox.look(10).await.unwrap().is_empty(), "{n}");
        assert!(mailbox.listen());
        // Also while somebody waits already, and where the mail comes before the server hears of the wait.
        if n % 2 == 0 {
            assert!(tokio::time::timeout(Duration::from_millis(300), mailbox.news()).await.is_err());
        }
        assert_eq!(sender.send(&mail(&["agent0008@lab.test"], b"news")).await.unwrap(), [Sent::Done]);
        let sent = Instant::now();
        let told = tokio::time::timeout(Duration::from_secs(10), mailbox.news()).await;
        assert!(told.is_ok(), "{n}: not told of it");
        waits.push(sent.elapsed());
        let found = await_mails(&mut mailbox, 1).await;
        mailbox.dispose(&[(found[0].key.clone(), Disposal::Done)]).await.unwrap();
    }
    waits.sort();
    eprintln!("told of a mail after {waits:?}");
    assert!(waits[4] < Duration::from_secs(2), "{waits:?}");
    mailbox.close().await;
}

async fn pop3_gives_what_imap_gives(lab: &Lab) {
    let mut sender = Sender::new(lab.settings("manager"));
    let payload: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    for (own, scheme) in [("agent0009", "pop3s"), ("agent0010", "pop3+starttls")] {
        let to = format!("{own}@lab.test");
        lab.inject(own, b"Subject: hello\r\n\r\n..a stranger's words\r\n..\r\n");
        assert_eq!(sender.send(&mail(&[&to], &payload)).await.unwrap(), [Sent::Done]);
        let mut mailbox = Mailbox::new(lab.pop3(own, scheme));
        let found = await_mails(&mut mailbox, 2).await;
        let [Class::Foreign, Class::Ours(marker)] = [found[0].class, found[1].class] else {
            panic!("{found:?}");
        };
        assert_eq!(marker.attachment_bytes, Some(3_000_000));
        let (mut out, limit) = (Vec::with_capacity(3_000_000), 3_000_000);
        forget_peak();
        let (before, started) = (peak_kb(), Instant::now());
        assert_eq!(mailbox.fetch(&found[1].key, limit, &mut out).await.unwrap().bytes, limit);
        eprintln!("{scheme}: 3 MB in {:?}, peak memory +{} kB", started.elapsed(), peak_kb() - before);
        assert!(out == payload);
        assert!(mailbox.text(&found[0].key).await.unwrap().contains("a stranger's words"));
        mailbox.dispose(&[(found[1].key.clone(), Disposal::Done)]).await.unwrap();
        mailbox.dispose(&[(found[0].key.clone(), Disposal::Junk)]).await.unwrap();
        assert_eq!(Mailbox::new(lab.imaps(own)).look(10).await.unwrap().len(), 2, "before QUIT");
        assert!(mailbox.look(10).await.unwrap().is_empty(), "junk stays, and is not shown again");
        assert_eq!(Mailbox::new(lab.imaps(own)).look(10).await.unwrap().len(), 1);
        assert!(mailbox.probe().await.unwrap().ends_with("1 mails"));
    }
    let folder = tempfile::tempdir().unwrap();
    let wrong = SecretSource::File(secret_file(folder.path(), "wrong"));
    let bad = MailSettings { secret: wrong, ..lab.pop3("agent0009", "pop3s") };
    let err = Mailbox::new(bad).look(1).await.unwrap_err();
    assert!(matches!(err, MailError::AuthRefused { .. }), "{err:?}");
    let (other_ca, ..) = certificates(folder.path(), "IP:127.0.0.1");
    for scheme in ["pop3s", "pop3+starttls"] {
        let settings = MailSettings { ca_file: Some(other_ca.clone()), ..lab.pop3("agent0009", scheme) };
        let err = Mailbox::new(settings).look(1).await.unwrap_err();
        assert!(matches!(err, MailError::Tls(_)), "{err:?}");
    }
}

async fn a_restart_of_the_servers_is_survived(lab: &Lab) {
    let mut sender = Sender::new(lab.settings("manager"));
    let mut mailbox = Mailbox::new(lab.settings("agent0005"));
    let to = mail(&["agent0005@lab.test"], b"before");
    assert_eq!(sender.send(&to).await.unwrap(), [Sent::Done]);
    let first = await_mails(&mut mailbox, 1).await;
    lab.stop();
    let down = sender.send(&to).await.unwrap_err();
    assert!(matches!(down, SendError::Unreachable(_)), "{down:?}");
    lab.start();
    let mut out = Vec::new();
    mailbox.fetch(&first[0].key, 100, &mut out).await.unwrap();
    assert_eq!(out, b"before");
    assert_eq!(sender.send(&to).await.unwrap(), [Sent::Done]);
    await_mails(&mut mailbox, 2).await;
}

async fn large_attachments_pass_in_constant_memory(lab: &Lab) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("payload");
    let mut out = std::fs::File::create(&file).unwrap();
    for n in 0..20_000_000u32 / 1000 {
        out.write_all(&[(n % 251) as u8; 1000]).unwrap();
    }
    let mut mail = mail(&["agent0006@lab.test"], b"");
    mail.attachment = Attachment::HeadAndFile { head: b"head".to_vec(), file: file.clone() };
    let mut sender = Sender::new(lab.settings("manager"));
    let mut mailbox = Mailbox::new(lab.imaps("agent0006"));
    // What TLS, runtime and certificates need anyway is not the attachment's.
    sender.probe().await.unwrap();
    mailbox.probe().await.unwrap();
    forget_peak();
    let (before, started) = (peak_kb(), Instant::now());
    assert_eq!(sender.send(&mail).await.unwrap(), [Sent::Done]);
    let sent_after = started.elapsed();
    let found = await_mails(&mut mailbox, 1).await;
    let started = Instant::now();
    let copy = folder.path().join("copy");
    let got =
        mailbox.fetch(&found[0].key, 30_000_000, &mut std::fs::File::create(&copy).unwrap()).await.unwrap();
    let (fetched_after, grown) = (started.elapsed(), peak_kb() - before);
    eprintln!("20 MB: sent in {sent_after:?}, fetched in {fetched_after:?}, peak memory +{grown} kB");
    assert_eq!(got.bytes, 20_000_004);
    assert!(grown < 8_000, "+{grown} kB");
    let copy = std::fs::read(copy).unwrap();
    assert!(copy.starts_with(b"head") && copy[4..] == std::fs::read(file).unwrap());
}
