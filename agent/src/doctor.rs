//! `doctor`: tries everything that the agent needs, changes nothing, one line each.

use std::process::ExitCode;

use mailio::{Mailbox, Sender};

use crate::config::{self, Config};
use crate::disk::{Disk, Folders};
use crate::files::now;
use crate::home::Home;
use crate::keys::Keys;
use crate::ledger;
use crate::program;
use crate::script::ScriptUser;
use shared::error::chain;

/// Less room than this below the root is worth a word.
const FREE_MIN_BYTES: u64 = 64 * 1024 * 1024;

/// Fewer files and folders than this are too.
const FREE_MIN_FILES: u64 = 1_000;

/// Collects the lines and the worst exit code.
#[derive(Default)]
struct Findings {
    usage: bool,
    failed: bool,
    outside: u32,
}

#[derive(Clone, Copy)]
enum Area {
    Configuration,
    Box,
    Outside,
}

impl Findings {
    fn line(&mut self, area: Area, what: &str, result: Result<String, String>) {
        match result {
            Ok(text) => say!("ok    {what:<8} {text}"),
            Err(text) => {
                say!("FAIL  {what:<8} {text}");
                match area {
                    Area::Configuration => self.usage = true,
                    Area::Box => self.failed = true,
                    Area::Outside => self.outside = self.outside.saturating_add(1),
                }
            }
        }
    }

    fn code(&self) -> ExitCode {
        ExitCode::from(if self.usage {
            2
        } else if self.failed {
            1
        } else if self.outside > 0 {
            3
        } else {
            0
        })
    }
}

/// Checks everything.
pub(crate) async fn doctor(home: &Home) -> ExitCode {
    let mut findings = Findings::default();
    let config = config::load(&home.config());
    let shown = |err: &dyn std::error::Error| chain(err);
    findings.line(
        Area::Configuration,
        "config",
        config.as_ref().map(|_| home.config().display().to_string()).map_err(|err| shown(err)),
    );
    let state = ledger::load(&home.state());
    let own = state.as_ref().map(|loaded| loaded.state.keys.clone()).unwrap_or_default();
    let keys = Keys::load(home, &own).map(|keys| {
        let signs = keys.pair(own.current).map(|pair| pair.sign.verifying_key().key_id().to_string());
        format!("signs as {}", signs.unwrap_or_default())
    });
    findings.line(Area::Configuration, "keys", keys.map_err(|err| shown(&err)));
    findings.line(
        Area::Configuration,
        "state",
        match &state {
            Ok(loaded) => match &loaded.recovered {
                None => Ok("whole".to_owned()),
                Some(why) => Err(format!("damaged ({why}); the copy before it is whole and will be used")),
            },
            Err(err) => Err(shown(err)),
        },
    );
    if let Ok(config) = &config {
        check_disk(&mut findings, config);
        check_program(&mut findings, config);
        check_scripts(&mut findings, config);
        check_mail(&mut findings, config).await;
    }
    if let Ok(loaded) = &state {
        let (now, floor) = (now(), loaded.state.fresh.clock_floor());
        findings.line(
            Area::Box,
            "clock",
            if now >= floor {
                Ok(format!("{now}, after the newest order ({floor})"))
            } else {
                Err(format!("{now} is before the newest order ({floor}): the agent goes by the latter"))
            },
        );
    }
    findings.code()
}

fn check_disk(findings: &mut Findings, config: &Config) {
    let root = config.root.display();
    // A file that has no name and so leaves nothing behind.
    let flags = rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR;
    let tried = match rustix::fs::open(&config.root, flags, rustix::fs::Mode::from_raw_mode(0o600)) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {
            rustix::fs::access(&config.root, rustix::fs::Access::WRITE_OK)
        }
        other => other.map(drop),
    };
    findings.line(
        Area::Box,
        "root",
        match tried {
            Ok(()) => Ok(format!("{root} can be written")),
            Err(err) => Err(format!("{root} cannot be written: {err}")),
        },
    );
    findings.line(
        Area::Box,
        "space",
        match Disk::new(config.root.clone(), Folders::default()).room() {
            Ok(room) if room.files < FREE_MIN_FILES => {
                Err(format!("room for {} files below {root}, expected at least {FREE_MIN_FILES}", room.files))
            }
            Ok(room) if room.bytes >= FREE_MIN_BYTES => {
                Ok(format!("{} MB free below {root}", mega(room.bytes)))
            }
            Ok(room) => Err(format!(
                "{} MB free below {root}, expected at least {} MB",
                mega(room.bytes),
                mega(FREE_MIN_BYTES)
            )),
            Err(err) => Err(format!("{root}: {err}")),
        },
    );
}

/// Where the agent may well be: it works from anywhere.
fn check_program(findings: &mut Findings, config: &Config) {
    let own = program::own(&config.root);
    let text = match own.file {
        Some(file) => format!("{file} below the root: a bundle can bring a new agent there"),
        None => format!("{} is not below the root: no bundle can bring a new agent", own.place),
    };
    findings.line(Area::Box, "program", Ok(text));
}

fn check_scripts(findings: &mut Findings, config: &Config) {
    let user = match &config.script_user {
        None => Ok("run as the agent's own user".to_owned()),
        Some(name) => match ScriptUser::find(name) {
            Ok(user) => Ok(format!("run as {} (user {}, group {})", user.name, user.uid, user.gid)),
            Err(err) => Err(chain(&err)),
        },
    };
    findings.line(Area::Configuration, "scripts", user);
}

async fn check_mail(findings: &mut Findings, config: &Config) {
    let send = Sender::new(config.mail.clone()).probe().await;
    findings.line(Area::Outside, "send", send.map_err(|err| chain(&err)));
    let receive = Mailbox::new(config.mail.clone()).probe().await;
    findings.line(Area::Outside, "receive", receive.map_err(|err| chain(&err)));
    if let Some(second) = &config.fallback_inbox {
        let receive = Mailbox::new(second.clone()).probe().await;
        findings.line(Area::Outside, "fallback_inbox", receive.map_err(|err| chain(&err)));
    }
}

fn mega(bytes: u64) -> u64 {
    bytes.checked_div(1_000_000).unwrap_or(0)
}
