//! Delivers into Maildirs: written to `tmp`, synced, and only then linked into `new`. A recipient without a
//! Maildir is refused for good, as a mail server would.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use crate::maildir::{create, of_address};
use crate::outgoing::{Outgoing, Sent, Why};

/// Delivers once, whatever the recipients.
pub(crate) fn to_maildir(folder: &Path, mail: &Outgoing) -> Vec<Sent> {
    let sent = create(folder).and_then(|()| write(folder, mail)).and_then(|tmp| {
        let done = publish(&tmp, folder);
        std::fs::remove_file(&tmp)?;
        done
    });
    vec![outcome(sent); mail.to.len()]
}

/// Delivers to each recipient's Maildir; the mail is written once and linked.
pub(crate) fn to_spool(spool: &Path, mail: &Outgoing) -> Vec<Sent> {
    let mut written: Option<PathBuf> = None;
    let sent = mail.to.iter().map(|to| {
        let folder = of_address(spool, to);
        if !folder.join("new").is_dir() {
            let text = format!("no such mailbox: {}", folder.display());
            return Sent::Never(Why { code: Some(550), enhanced: Some("5.1.1".to_owned()), text });
        }
        let mut one = || {
            let tmp = match written.take() {
                Some(tmp) => tmp,
                None => write(&folder, mail)?,
            };
            let done = publish(&tmp, &folder);
            written = Some(tmp);
            done
        };
        outcome(one())
    });
    let sent = sent.collect();
    if let Some(tmp) = written {
        // Whoever reads ignores tmp; a leftover costs only space.
        let _left = std::fs::remove_file(tmp);
    }
    sent
}

fn outcome(result: io::Result<()>) -> Sent {
    match result {
        Ok(()) => Sent::Done,
        // Disk full, quota, permissions: nothing about the recipient is final.
        Err(err) => Sent::Later(Why::local(format!("delivery failed: {err}"))),
    }
}

/// A unique name that sorts by time: Maildir's `seconds.M…P…Q…` form.
fn unique_name() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let pid = std::process::id();
    format!("{}.M{:06}P{pid}Q{count}.mailfleet", since.as_secs(), since.subsec_micros())
}

/// The mail in `tmp`, on disk for certain; nothing is left if that fails.
fn write(folder: &Path, mail: &Outgoing) -> io::Result<PathBuf> {
    let tmp = folder.join("tmp").join(unique_name());
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&tmp)?;
    let done = fill(&mut file, mail);
    if done.is_err() {
        let _partial = std::fs::remove_file(&tmp);
    }
    done.map(|()| tmp)
}

fn fill(file: &mut File, mail: &Outgoing) -> io::Result<()> {
    // What a mail server adds; readers take a missing or null path for a bounce.
    file.write_all(format!("Return-Path: <{}>\r\n", mail.from).as_bytes())?;
    for chunk in mail.chunks()? {
        file.write_all(&chunk?)?;
    }
    file.sync_all()
}

fn publish(tmp: &Path, folder: &Path) -> io::Result<()> {
    let new = folder.join("new");
    let target = new.join(unique_name());
    match std::fs::hard_link(tmp, &target) {
        Ok(()) => {}
        // Another file system, or one without links.
        Err(_) => {
            let copy = folder.join("tmp").join(unique_name());
            let copied = std::fs::copy(tmp, &copy)
                .and_then(|_| File::open(&copy)?.sync_all())
                .and_then(|()| std::fs::rename(&copy, &target));
            if copied.is_err() {
                let _partial = std::fs::remove_file(&copy);
            }
            copied?;
        }
    }
    File::open(new)?.sync_all()
}
