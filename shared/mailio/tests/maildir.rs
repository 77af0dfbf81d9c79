//! Maildirs and spools: delivery, leftovers of crashes, files of strangers, junk, a sendmail program.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use common::*;
use mailio::{
    Attachment, Class, Disposal, FetchError, JunkPolicy, MailSettings, Mailbox, SendError, Sender, Sent,
};

fn spool(folder: &Path, own: &str) -> MailSettings {
    let url = format!("spool:{}", folder.display());
    let mut settings = settings(&url, &url);
    settings.address = address(own);
    settings
}

fn files(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn a_spool_delivers_to_those_who_have_a_mailbox() {
    let folder = tempfile::tempdir().unwrap();
    let mut sender = Sender::new(spool(folder.path(), "manager@hq.test"));
    let mut box1 = Mailbox::new(spool(folder.path(), "Box1@site.test"));
    assert!(box1.look(10).await.unwrap().is_empty());
    Mailbox::create_spool(folder.path(), &address("box2@site.test")).unwrap();
    let mode = std::fs::metadata(folder.path().join("box1@site.test")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);

    let mail = mail(&["box1@site.test", "nobody@site.test", "box2@site.test"], b"payload");
    let sent = sender.send(&mail).await.unwrap();
    assert!(matches!(sent.as_slice(), [Sent::Done, Sent::Never(_), Sent::Done]), "{sent:?}");
    let found = box1.look(10).await.unwrap();
    assert!(
        matches!(found[0].class, Class::Ours(m) if m.id == mail.envelope && m.attachment_bytes == Some(7))
    );
    let mut out = Vec::new();
    box1.fetch(&found[0].key, 100, &mut out).await.unwrap();
    assert_eq!(out, b"payload");
    for name in ["box1@site.test", "box2@site.test"] {
        assert!(files(&folder.path().join(name).join("tmp")).is_empty());
    }
    box1.dispose(&[(found[0].key.clone(), Disposal::Done)]).await.unwrap();
    box1.dispose(&[(found[0].key.clone(), Disposal::Done)]).await.unwrap();
    assert!(box1.look(10).await.unwrap().is_empty());
    assert!(matches!(box1.fetch(&found[0].key, 100, &mut out).await, Err(FetchError::Gone)));
    let mut box2 = Mailbox::new(spool(folder.path(), "box2@site.test"));
    assert_eq!(box2.look(10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_oldest_mails_come_first_and_no_more_than_asked() {
    let folder = tempfile::tempdir().unwrap();
    Mailbox::create_spool(folder.path(), &address("box@site.test")).unwrap();
    let mut sender = Sender::new(spool(folder.path(), "manager@hq.test"));
    for n in 0..12u8 {
        let mut mail = mail(&["box@site.test"], &[n]);
        mail.envelope = shared::EnvelopeId([n; 16]);
        sender.send(&mail).await.unwrap();
    }
    let mut mailbox = Mailbox::new(spool(folder.path(), "box@site.test"));
    let ids = |found: Vec<mailio::Found>| -> Vec<u8> {
        found.iter().map(|f| if let Class::Ours(m) = f.class { m.id.0[0] } else { panic!("{f:?}") }).collect()
    };
    assert_eq!(ids(mailbox.look(3).await.unwrap()), [0, 1, 2]);
    assert_eq!(ids(mailbox.look(100).await.unwrap()), (0..12).collect::<Vec<u8>>());
}

#[tokio::test]
async fn leftovers_links_and_strangers_are_not_taken_for_mails_of_ours() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = spool(folder.path(), "box@site.test");
    Mailbox::create_spool(folder.path(), &address("box@site.test")).unwrap();
    let own = folder.path().join("box@site.test");
    std::fs::write(own.join("tmp/1.crash"), "From: half").unwrap();
    std::fs::write(own.join("new/.hidden"), "x").unwrap();
    std::fs::create_dir(own.join("new/folder")).unwrap();
    symlink("/etc/passwd", own.join("new/link")).unwrap();
    std::fs::write(own.join("new/5.stranger"), "From: x@y.test\nSubject: win\n\nmoney").unwrap();
    std::fs::write(own.join("cur/4.read:2,S"), "").unwrap();
    let mut mailbox = Mailbox::new(settings.clone());
    let found = mailbox.look(10).await.unwrap();
    assert_eq!(found.iter().map(|f| f.key.to_string()).collect::<Vec<_>>(), ["4.read", "5.stranger"]);
    assert!(found.iter().all(|f| f.class == Class::Foreign));
    let err = mailbox.fetch(&found[1].key, 100, &mut Vec::new()).await.unwrap_err();
    assert!(matches!(err, FetchError::Content(_)), "{err:?}");

    let junk: Vec<_> = found.iter().map(|f| (f.key.clone(), Disposal::Junk)).collect();
    mailbox.dispose(&junk).await.unwrap();
    assert!(mailbox.look(10).await.unwrap().is_empty());
    assert_eq!(files(&own.join(".mailfleet-junk/cur")).len(), 2);
    assert_eq!(files(&own.join("tmp")), ["1.crash"]);

    settings.junk = JunkPolicy::Delete;
    std::fs::write(own.join("new/6.stranger"), "x").unwrap();
    let mut mailbox = Mailbox::new(settings);
    let key = mailbox.look(10).await.unwrap()[0].key.clone();
    mailbox.dispose(&[(key, Disposal::Junk)]).await.unwrap();
    assert_eq!(files(&own.join(".mailfleet-junk/cur")).len(), 2);
}

#[tokio::test]
async fn a_delivery_that_fails_half_way_is_a_matter_of_later_and_leaves_nothing() {
    // A folder opens as a file but cannot be read. A disk that is really full: tests/real_servers.rs.
    let folder = tempfile::tempdir().unwrap();
    Mailbox::create_spool(folder.path(), &address("box@site.test")).unwrap();
    let mut mail = mail(&["box@site.test"], b"");
    mail.attachment = Attachment::HeadAndFile { head: vec![1], file: folder.path().to_owned() };
    let sent = Sender::new(spool(folder.path(), "m@hq.test")).send(&mail).await.unwrap();
    assert!(matches!(sent.as_slice(), [Sent::Later(_)]), "{sent:?}");
    assert!(files(&folder.path().join("box@site.test/tmp")).is_empty());
    assert!(files(&folder.path().join("box@site.test/new")).is_empty());
}

#[tokio::test]
async fn one_maildir_takes_everything() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("maildir:{}/m", folder.path().display());
    let mut sender = Sender::new(settings(&url, &url));
    assert_eq!(sender.send(&mail(&["a@b.test", "c@d.test"], b"x")).await.unwrap(), [Sent::Done, Sent::Done]);
    assert_eq!(Mailbox::new(settings(&url, &url)).look(9).await.unwrap().len(), 1);
}

fn program(folder: &Path, script: &str) -> Sender {
    let path = folder.join("sendmail");
    std::fs::write(&path, format!("#!/bin/sh\ncd \"$(dirname \"$0\")\"\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    let mut settings = settings(&format!("sendmail:{}", path.display()), "maildir:/nowhere");
    settings.timeouts.program = std::time::Duration::from_secs(5);
    Sender::new(settings)
}

#[tokio::test]
async fn a_sendmail_program_gets_the_mail_and_its_exit_code_counts() {
    let folder = tempfile::tempdir().unwrap();
    let mail = mail(&["a@b.test", "-c@d.test"], &[1; 200_000]);
    let sent = program(folder.path(), "echo \"$@\" > args; cat > text").send(&mail).await.unwrap();
    assert_eq!(sent, [Sent::Done, Sent::Done]);
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(read("args"), "-i -f manager@lab.test -- a@b.test -c@d.test\n");
    let composed: String = mail.chunks().unwrap().map(|c| String::from_utf8(c.unwrap()).unwrap()).collect();
    assert_eq!(read("text"), composed.replace('\r', ""));

    let sent =
        program(folder.path(), "cat > /dev/null; echo queue full >&2; exit 75").send(&mail).await.unwrap();
    assert!(matches!(&sent[1], Sent::Later(why) if why.text.contains("queue full")), "{sent:?}");
    let sent = program(folder.path(), "exit 67").send(&mail).await.unwrap();
    assert!(matches!(sent.as_slice(), [Sent::Never(_), Sent::Never(_)]), "{sent:?}");
    let mut missing = settings("sendmail:/nonexistent/sendmail", "maildir:/nowhere");
    missing.mail_max_bytes = u64::MAX;
    assert!(matches!(Sender::new(missing).send(&mail).await, Err(SendError::Io { .. })));
}
