//! What the connections carry, counted by us and by a line between us and real servers. Needs what `scripts/mail-lab` needs.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::time::{Duration, Instant};

use common::*;
use mailio::{
    Disposal, Extensions, Found, MailSettings, Mailbox, ReceiveUrl, SecretSource, SendUrl, Sender, Sent,
    Traffic,
};
use testkit::lab::MailLab;
use testkit::relay::Relay;

/// How a mail goes out and comes in: the schemes, the lab's ports for them, and whether IMAP may compress.
const WAYS: [(&str, &str, &str, &str, bool); 4] = [
    ("smtps", "LAB_SMTPS_PORT", "imaps", "LAB_IMAPS_PORT", true),
    ("smtp+starttls", "LAB_SUBMISSION_PORT", "imap+starttls", "LAB_IMAP_PORT", false),
    ("smtps", "LAB_SMTPS_PORT", "pop3s", "LAB_POP3S_PORT", false),
    ("smtp+starttls", "LAB_SUBMISSION_PORT", "imaps", "LAB_IMAPS_PORT", false),
];

async fn await_one(mailbox: &mut Mailbox) -> Found {
    let began = Instant::now();
    loop {
        if let Some(found) = mailbox.look(10).await.unwrap().pop() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(40), "no mail came");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The counts of both, once the line has passed on what it holds.
fn settled(traffic: &Traffic, lines: [&Relay; 2]) -> (u64, u64) {
    let began = Instant::now();
    loop {
        let (ours, theirs) = (traffic.carried().bytes(), lines[0].carried() + lines[1].carried());
        if ours == theirs || began.elapsed() > Duration::from_secs(2) {
            return (ours, theirs);
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_counted_is_what_the_line_carries() {
    let Some(lab) = MailLab::new(1, &[]) else {
        eprintln!("skipped: MAILFLEET_NO_MAIL_SERVERS is set");
        return;
    };
    let secrets = tempfile::tempdir().unwrap();
    let secret = secret_file(secrets.path(), lab.var("LAB_PASS"));
    // As it compresses least.
    let mut seed = 1u64;
    let payload: Vec<u8> = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 56) as u8
    })
    .take(1_000_000)
    .collect();
    for (out, out_port, way_in, in_port, compress) in WAYS {
        let line = |name| Relay::to(lab.var(name).parse().unwrap());
        let (up, down) = (line(out_port), line(in_port));
        let own = "agent0001@lab.test";
        let folder = if way_in.starts_with("imap") { "/INBOX" } else { "" };
        let send = SendUrl::parse(&format!("{out}://{own}@localhost:{}", up.port)).unwrap();
        let receive =
            ReceiveUrl::parse(&format!("{way_in}://{own}@localhost:{}{folder}", down.port)).unwrap();
        let settings = MailSettings {
            ca_file: Some(lab.var("LAB_CA").into()),
            secret: SecretSource::File(secret.clone()),
            extensions: Extensions { compress, ..Extensions::default() },
            ..MailSettings::new(address(own), send, receive)
        };
        let mut sender = Sender::new(settings.clone());
        assert_eq!(sender.send(&mail(&[own], &payload)).await.unwrap(), [Sent::Done]);
        sender.close().await;
        let sent = settings.traffic.carried();
        assert!(sent.sent > 1_300_000 && sent.received < 20_000, "{sent:?}");
        let mut mailbox = Mailbox::new(settings.clone());
        let found = await_one(&mut mailbox).await;
        let mut came = Vec::new();
        mailbox.fetch(&found.key, 2_000_000, &mut came).await.unwrap();
        assert!(came == payload);
        mailbox.dispose(&[(found.key, Disposal::Done)]).await.unwrap();
        mailbox.close().await;
        let (ours, theirs) = settled(&settings.traffic, [&up, &down]);
        eprintln!("{out} and {way_in}, compressed: {compress}: {ours} counted, {theirs} carried");
        assert!(ours.abs_diff(theirs) * 100 <= theirs, "{ours} counted, {theirs} carried");
        let received = settings.traffic.carried().received;
        assert!(if compress { received < 1_250_000 } else { received > 1_300_000 }, "{received}");
        assert_eq!(settings.traffic.take().bytes(), ours);
        assert_eq!(settings.traffic.take().bytes(), 0, "what was given is given once");
    }
}
