//! Eavesdrop: a relay keeps every mail. What the manager's mails show is in the manager's table.

use std::collections::BTreeSet;
use std::time::Duration;

use mailio::{MailSettings, Mailbox, ReceiveUrl, SendUrl};
use shared::MailAddress;
use shared::message::{Order, encode};

use crate::common::{AGENT, Life, World, noise};
use crate::lab::takes_an_honest_order;

/// All that is in a mailbox: each mail as it came, and its attachment.
fn overheard(w: &World, address: MailAddress) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (send, receive) = (SendUrl::Spool(w.spool()), ReceiveUrl::Spool(w.spool()));
    let folder = w.spool().join(address.as_str());
    let mut mailbox = Mailbox::new(MailSettings::new(address, send, receive));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut all = vec![];
        for found in mailbox.look(100).await.unwrap() {
            let mut attachment = vec![];
            mailbox.fetch(&found.key, 1 << 30, &mut attachment).await.unwrap();
            let raw = ["new", "cur"].map(|sub| std::fs::read(folder.join(sub).join(found.key.to_string())));
            all.push((raw.into_iter().find_map(Result::ok).unwrap(), attachment));
        }
        all
    })
}

fn holds(bytes: &[u8], secret: &str) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
}

/// Runs of 16 bytes that two attachments share, behind magic, sender and length.
fn shared(one: &[u8], other: &[u8]) -> usize {
    let runs: BTreeSet<&[u8]> = one[20..].windows(16).collect();
    other[20..].windows(16).filter(|run| runs.contains(run)).count()
}

#[test]
fn an_order_and_its_reports_show_no_content_no_version_and_not_who_it_is_for() {
    let mut w = World::enrolled();
    let content = noise(40_000);
    let script = "echo the-secret-of-the-script; exit 0";
    w.install("1.0.02-0", Some(script), &[("bin/secret-module", &content)]);
    let mut mails = overheard(&w, World::agent_address());
    assert_eq!(w.once(), 0);
    assert_eq!(w.file("bin/secret-module").unwrap(), content);
    mails.extend(overheard(&w, World::manager_address()));
    assert_eq!(mails.len(), 3, "the order, received, installed");
    let secrets =
        [&content[..16], &content[20_000..20_016], "the-secret", "secret-module", "1.0.02-0", AGENT];
    for (raw, attachment) in &mails {
        for secret in secrets.into_iter().chain(["office-gateway", "MAILFLB1"]) {
            assert!(!holds(raw, secret) && !holds(attachment, secret), "{secret}");
        }
    }
    takes_an_honest_order(&mut w);
}

#[test]
fn two_mails_of_or_to_one_box_share_nothing_but_the_sender() {
    let mut w = World::enrolled();
    for hours in 1..=2 {
        let life = w.life();
        // Another time: mails that were made at one time show that anyway.
        let life = Life { created: life.created.minus(Duration::from_secs(3_600 * hours)), ..life };
        w.mail(life.id, w.seal(life, &encode(&Order::QueryVersions), b"", &[w.agent_seal_key()], &w.sign));
    }
    let orders = overheard(&w, World::agent_address());
    assert_eq!(w.once(), 0);
    w.collect();
    for _ in 0..2 {
        w.query();
        assert_eq!(w.once(), 0);
    }
    let reports = overheard(&w, World::manager_address());
    for pair in [orders, reports] {
        let [(_, one), (_, other)] = &pair[..] else { panic!("{} mails", pair.len()) };
        assert_eq!(shared(one, other), 0);
        assert!(shared(one, one) > 100, "the comparison finds what is shared");
    }
    takes_an_honest_order(&mut w);
}
