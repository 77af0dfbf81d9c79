//! What the attacks share: orders that leave a trace if they run, and what must be true after each attack.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use shared::EnvelopeId;
use shared::keys::SigningKey;
use shared::message::{Order, Outcome, Report, encode};
use shared::trust::{Statement, Trust};

use crate::common::{Life, World, now, tree, wait_until};
use crate::imap::{Imap, Mail};

pub const DAY: Duration = Duration::from_secs(86_400);

/// A world with an enrolled agent that saves its state into memory where there is a file system for it: for attacks by
/// hundreds of mails, each of which is a save.
pub fn in_memory() -> World {
    let mut w = World::new();
    if let Ok(folder) = tempfile::tempdir_in("/dev/shm") {
        w.folder = folder;
    }
    w.with_agent()
}

pub fn key(n: u8) -> SigningKey {
    SigningKey::from_seed(&[n; 32])
}

pub fn copy_of(key: &SigningKey) -> SigningKey {
    SigningKey::parse_secret_text(&key.to_secret_text()).unwrap()
}

/// A trust made of these keys.
pub fn trust(
    w: &World,
    version: u32,
    order: &[&SigningKey],
    release: &[&SigningKey],
    threshold: u8,
) -> Trust {
    let public = |keys: &[&SigningKey]| keys.iter().map(|key| key.verifying_key()).collect();
    Trust::new(version, now(), public(order), public(release), threshold, w.open.sealing_key())
}

pub fn statement(trust: &Trust, signers: &[&SigningKey]) -> Vec<u8> {
    let mut statement = Statement::unsigned(trust);
    signers.iter().for_each(|key| statement.sign(key));
    statement.to_bytes()
}

/// An order whose script leaves a trace outside the root. Honest in form: the release key has signed its bundle.
pub fn poison(w: &World) -> (Order, Vec<u8>) {
    let script = format!("echo $1 >> {}", w.folder.path().join("canary").display());
    let bundle = w.bundle("6-6", "", Some(&script), &[("bin/abcd", "poison")]);
    (World::install_order(&bundle, "6-6"), bundle)
}

/// The poison as a sealed attachment: by this key, with this life, for this agent.
pub fn sealed_poison(w: &World, life: Life, signer: &SigningKey) -> Vec<u8> {
    let (order, bundle) = poison(w);
    w.seal(life, &encode(&order), &bundle, &[w.agent_seal_key()], signer)
}

/// Phases in which the poison's script ran.
pub fn ran(w: &World) -> usize {
    let trace = std::fs::read_to_string(w.folder.path().join("canary"));
    trace.map_or(0, |phases| phases.lines().count())
}

/// The agent reads its mail: nothing runs, nothing is installed or answered; the mails are gone and counted as this.
pub fn fends_off(w: &mut World, reason: &str) {
    w.reports.clear();
    let before = tree(&w.root());
    assert_eq!(w.once(), 0, "{reason}");
    assert_eq!(w.unread(), 0, "{reason}: the mail is gone");
    unharmed(w, reason);
    assert_eq!(tree(&w.root()), before);
    w.collect();
    let ended = w.reports.iter().filter(|r| matches!(r, Report::Ended(_))).count();
    assert_eq!(ended, 0, "{reason}: {:?}", w.reports);
    takes_an_honest_order(w);
}

/// Nothing ran, and mails were counted under this reason.
pub fn unharmed(w: &World, reason: &str) {
    assert_eq!(ran(w), 0, "{reason}: the script ran");
    let status = w.status();
    let line = status.lines().find(|line| line.starts_with("Refused mails")).unwrap();
    assert!(line.contains(reason) && !line.contains("none"), "{reason}: {line}");
    assert!(status.contains("Install             none"), "{status}");
}

/// After whatever has happened, the manager's next order is carried out.
pub fn takes_an_honest_order(w: &mut World) -> EnvelopeId {
    let version = format!("{}-0", 100 + w.sequence);
    let order = w.install(&version, None, &[("bin/abcd", &version)]);
    assert_eq!(w.once(), 0);
    assert_eq!(w.outcome(order), Outcome::Installed);
    assert_eq!(w.file("bin/abcd").unwrap(), version);
    w.reports.clear();
    order
}

/// Runs the agent until `done`; the most memory that it had must be below the limit, and is printed.
pub fn works_within(w: &World, limit_mib: u64, mut done: impl FnMut(&World) -> bool) {
    let mut agent = w.spawn(&["run"]);
    wait_until("the agent is done", || done(w));
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(
        Command::new("kill").arg(agent.id().to_string()).stdin(Stdio::null()).status().unwrap().success()
    );
    assert!(agent.wait().unwrap().success());
    println!("figure: peak memory {}.{} MiB", kib / 1024, kib % 1024 * 10 / 1024);
    assert!(kib < limit_mib * 1024, "{kib} KiB");
}

/// These mails do no harm, neither from a spool nor from a mail server.
pub fn are_removed(mails: &[Vec<u8>], limit_mib: u64, reason: &str) {
    let mut w = World::enrolled();
    for (at, mail) in mails.iter().enumerate() {
        w.deliver_raw(&at.to_string(), mail);
    }
    works_within(&w, limit_mib, mailbox_is_empty);
    unharmed(&w, reason);
    takes_an_honest_order(&mut w);
    let mut w = World::enrolled();
    let server = Imap::before(&w);
    mails.iter().for_each(|mail| server.deliver(Mail::Whole(mail.clone())));
    works_within(&w, limit_mib, |_| server.unread() == 0);
    unharmed(&w, reason);
    takes_an_honest_mail(&mut w, &server);
}

/// What a test with mails in the spool waits for.
pub fn mailbox_is_empty(w: &World) -> bool {
    w.unread() == 0
}

/// The limit of each step of a mail connection in [`once_hurried`]; usually it is five minutes.
pub const MAIL_LIMIT: Duration = Duration::from_millis(400);

/// `run --once` by an agent in a hurry.
pub fn once_hurried(w: &World) -> Output {
    let mut command = w.command(&["run", "--once"]);
    command.env("MAILFLEET_TEST_MAIL_LIMIT_MS", MAIL_LIMIT.as_millis().to_string()).output().unwrap()
}

/// An honest question, as the text of a mail.
pub fn mailed(w: &mut World) -> Vec<u8> {
    let life = w.life();
    let question = encode(&Order::QueryVersions);
    let sealed = w.seal(life, &question, b"", &[w.agent_seal_key()], &w.sign);
    World::outgoing(life.id, sealed).chunks().unwrap().flat_map(Result::unwrap).collect()
}

/// As [`takes_an_honest_order`], from a mailbox on this server.
pub fn takes_an_honest_mail(w: &mut World, server: &Imap) {
    let bundle = w.bundle("100-0", "", Some("exit 0"), &[("bin/abcd", "honest")]);
    let life = w.life();
    let order = encode(&World::install_order(&bundle, "100-0"));
    let sealed = w.seal(life, &order, &bundle, &[w.agent_seal_key()], &w.sign);
    let mail = World::outgoing(life.id, sealed).chunks().unwrap().flat_map(Result::unwrap).collect();
    server.deliver(Mail::Whole(mail));
    assert_eq!(w.once(), 0);
    assert_eq!((w.outcome(life.id), server.unread()), (Outcome::Installed, 0));
    assert_eq!(w.file("bin/abcd").unwrap(), "honest");
}
