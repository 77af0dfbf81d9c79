//! The looks of `doctor`, one function each. They change nothing, but that the probes log in and out.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use mailfleet::config::Config;
use mailfleet::home::{Home, HomeError};
use mailfleet::store::{AlertTrouble, Store};
use mailfleet::system::now;
use mailio::{MailError, MailSettings, Mailbox, ReceiveUrl, SendError, SendUrl, Sender, Timeouts, Turn};
use shared::UnixMillis;
use shared::error::chain;

use super::doctor::Check;
use super::fail::{Fail, Kind};
use super::show;

/// A probe that takes longer is a finding by itself.
const PROBE_LIMIT: Duration = Duration::from_secs(20);

/// A clock may be this far behind what it is compared with: time servers correct in small steps.
const CLOCK_SLACK: Duration = Duration::from_secs(120);

/// Agents named in one line.
const AGENTS_SHOWN: usize = 5;

type Tell<'a> = &'a mut dyn FnMut(Check) -> Result<(), Fail>;

/// Makes all checks and tells each as soon as it is made.
pub(crate) fn all(dir: &Path, tell: Tell<'_>) -> Result<(), Fail> {
    let home = match Home::open(dir) {
        Ok(home) => home,
        Err(err) => {
            return tell(Check::fail(Kind::Usage, "configuration", chain(&err), ""));
        }
    };
    let config = home.config();
    tell(match &config {
        Ok(config) => configuration(&home, config),
        Err(err) => Check::fail(Kind::Usage, "configuration", one_line(&chain(err)), "mend manager.toml"),
    })?;
    tell(keys(&home))?;
    let (check, newest) = store(&home);
    tell(check)?;
    tell(devices(&home))?;
    let Ok(config) = config else {
        for name in ["mail out", "mail in"] {
            tell(Check::warn(name, "not looked at without a configuration", "mend manager.toml"))?;
        }
        return tell(clock(&home, newest));
    };
    let runtime = super::daemon::runtime()?;
    let settings = MailSettings { timeouts: Timeouts::all(PROBE_LIMIT), ..config.mail };
    tell(runtime.block_on(mail_out(&settings)))?;
    tell(runtime.block_on(mail_in(&settings)))?;
    tell(clock(&home, newest))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn configuration(home: &Home, config: &Config) -> Check {
    let name = "configuration";
    let mode = fs::metadata(home.dir()).map_or(0, |m| m.mode() & 0o777);
    if mode & 0o077 != 0 {
        let dir = home.dir().display();
        return Check::warn(
            name,
            format!("{dir} is open to others (mode {mode:03o})"),
            format!("chmod 700 {dir}"),
        );
    }
    Check::ok(
        name,
        format!(
            "{}; {}, {} recipients in a mail, mails up to {}",
            home.config_path().display(),
            config.mail.address,
            config.recipients_per_mail,
            show::size(config.mail.mail_max_bytes)
        ),
    )
}

fn keys(home: &Home) -> Check {
    let name = "keys";
    let keys = match home.keys() {
        Ok(keys) => keys,
        Err(err) => return key_failed(&err),
    };
    let order = keys.order.verifying_key().key_id();
    let release: Vec<String> = keys.trust.release_keys.iter().map(|key| key.key_id().to_string()).collect();
    let text = format!("order key {order}, release key {}", release.join(", "));
    match home.release_key(None) {
        Ok(key) if !release.contains(&key.verifying_key().key_id().to_string()) => Check::fail(
            Kind::Usage,
            name,
            format!("release.key ({}) is not a key that agents trust", key.verifying_key().key_id()),
            "put the right file back from your backup, or remove it; `mailfleet keys list` shows what counts",
        ),
        Ok(_) => Check::ok(name, format!("{text}; release.key is here, it is safer offline")),
        Err(_) if !home.dir().join("release.key").exists() => {
            Check::ok(name, format!("{text}; release.key is kept elsewhere"))
        }
        Err(err) => key_failed(&err),
    }
}

fn key_failed(err: &HomeError) -> Check {
    // The text of an exposed key says what to do.
    let next =
        if matches!(err, HomeError::Exposed { .. }) { "" } else { "put the file back from your backup" };
    Check::fail(Kind::Usage, "keys", chain(err), next)
}

/// Also gives the newest time that the store knows.
fn store(home: &Home) -> (Check, Option<UnixMillis>) {
    let name = "store";
    let looked = Store::open(&home.store_path()).and_then(|mut store| {
        store.check()?;
        store.read(|tx| Ok((tx.agent_counts()?, tx.newest_time()?)))
    });
    match looked {
        Ok((counts, newest)) => {
            let agents: Vec<String> =
                counts.iter().map(|(state, n)| format!("{n} {}", state.as_str())).collect();
            let agents = if agents.is_empty() { "no agents yet".to_owned() } else { agents.join(", ") };
            (Check::ok(name, format!("{} is whole; {agents}", home.store_path().display())), newest)
        }
        Err(err) => {
            // The error's text says what to do.
            (Check::fail(Kind::Outside, name, chain(&err), ""), None)
        }
    }
}

/// Readings that were kept out, and alerts that nobody got.
fn devices(home: &Home) -> Check {
    let name = "devices";
    let looked = Store::open(&home.store_path())
        .and_then(|mut store| store.read(|tx| Ok((tx.faulty_readings()?, tx.alert_trouble()?))));
    let (faulty, alerts) = match looked {
        Ok(found) => found,
        Err(_) => return Check::warn(name, "not looked at without a store", "mend the store"),
    };
    if !faulty.is_empty() {
        let agents: Vec<String> =
            faulty.iter().take(AGENTS_SHOWN).map(|(agent, n)| format!("{agent} ({n})")).collect();
        let more = if faulty.len() > AGENTS_SHOWN { ", …" } else { "" };
        return Check::warn(
            name,
            format!("possible tampering with readings of {}{more}", agents.join(", ")),
            "`mailfleet report verify --agent ID` lists them; ask who has access to that box",
        );
    }
    if alerts.failed > 0 || alerts.waiting > 0 {
        let AlertTrouble { waiting, failed, answer } = alerts;
        return Check::warn(
            name,
            format!(
                "alerts: {failed} could not be told, {waiting} wait for another try; the last: {}",
                one_line(&answer)
            ),
            "check the addresses and programs of [[alert]] in manager.toml; `mailfleet faults` lists the faults",
        );
    }
    Check::ok(name, "no reading was kept out, every alert was told")
}

async fn mail_out(settings: &MailSettings) -> Check {
    let (name, what) = match &settings.send {
        SendUrl::Smtp { host, port, .. } => ("SMTP", format!("{host}:{port}")),
        SendUrl::Sendmail { program } => ("mail out", program.display().to_string()),
        SendUrl::Maildir(path) | SendUrl::Spool(path) => ("mail out", path.display().to_string()),
    };
    let mut sender = Sender::new(settings.clone());
    let probed = sender.probe().await;
    sender.close().await;
    match probed {
        Ok(text) => Check::ok(name, one_line(&text)),
        Err(err) => mail_failed(name, &what, &chain(&err), SendError::turn(&err)),
    }
}

async fn mail_in(settings: &MailSettings) -> Check {
    let (name, what) = match &settings.receive {
        ReceiveUrl::Imap { host, port, .. } => ("IMAP", format!("{host}:{port}")),
        ReceiveUrl::Pop3 { host, port, .. } => ("POP3", format!("{host}:{port}")),
        ReceiveUrl::Maildir(path) | ReceiveUrl::Spool(path) => ("mail in", path.display().to_string()),
    };
    let mut mailbox = Mailbox::new(settings.clone());
    let probed = mailbox.probe().await;
    mailbox.close().await;
    match probed {
        Ok(text) => Check::ok(name, one_line(&text)),
        Err(err) => mail_failed(name, &what, &chain(&err), MailError::turn(&err)),
    }
}

fn mail_failed(name: &'static str, what: &str, text: &str, turn: Turn) -> Check {
    let text = format!("{what}: {}", one_line(text));
    match turn {
        Turn::Operator => {
            Check::fail(Kind::Usage, name, text, "check the account, password file and CA in manager.toml")
        }
        _ => {
            Check::fail(Kind::Outside, name, text, "check the server and the way to it; mail waits meanwhile")
        }
    }
}

/// Compares the clock with what cannot be in the future: files of the home, and reports that came.
fn clock(home: &Home, newest_report: Option<UnixMillis>) -> Check {
    let name = "clock";
    let (now, mut newest, mut by) = (now(), UnixMillis(0), "nothing yet".to_owned());
    if let Some(at) = newest_report {
        (newest, by) = (at, "the newest report".to_owned());
    }
    for entry in fs::read_dir(home.dir()).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        let at = UnixMillis(metadata.mtime().saturating_mul(1000));
        if at > newest {
            (newest, by) = (at, entry.file_name().to_string_lossy().into_owned());
        }
    }
    let behind = newest.since(now);
    if behind > CLOCK_SLACK {
        let behind = show::duration(behind);
        return Check::fail(
            Kind::Usage,
            name,
            format!("{now} is {behind} before {by} ({newest})"),
            "set the clock: agents refuse orders that seem older than the last ones",
        );
    }
    Check::ok(name, format!("{now}, not before anything that was kept"))
}
