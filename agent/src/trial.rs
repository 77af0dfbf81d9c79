//! The trial of a new agent (PROTOCOL 6.8), both sides of it. The old program runs the new one as a child, with a time
//! limit; the new one shows that it can do here what an agent must, writes nothing, and says so with its exit code.
//!
//! ```text
//! mailfleet-agent --home HOME trial [--mail-is-down]      exit 77: it works here; 2, 3: as always; else: it does not
//! ```
//!
//! Agents of different versions meet here, so this command line and this exit code stay as they are.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use agent_core::{AgentCore, EXIT_PROVEN, Effect, Event, Install, Program, State};
use anyhow::{Context as _, bail, ensure};
use mailio::{MailError, Mailbox};
use tokio::process::Command;

use crate::config::{self, Config};
use crate::disk::{Disk, Folders};
use crate::exit::{Outside, Usage};
use crate::files::now;
use crate::home::Home;
use crate::keys::Keys;
use crate::limits::TRIAL_LOOK_LIMIT;
use crate::runtime::profile_of;
use crate::script::ScriptUser;
use crate::system::boot_id;
use crate::{ledger, program};
use shared::error::chain;

/// Mails that are listed; one would do.
const LOOK_COUNT: usize = 10;

/// The command that puts a program on trial.
pub(crate) fn command(program: &Path, home: &Home, mail_is_down: bool) -> Command {
    let mut command = Command::new(program);
    command.arg("--home").arg(home.path()).args(["--log", "warn", "trial"]);
    if mail_is_down {
        command.arg("--mail-is-down");
    }
    // It has the environment of the agent, with a password in it perhaps, but does not speak to systemd.
    for of_the_service in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
        command.env_remove(of_the_service);
    }
    command.stdin(Stdio::null());
    command
}

/// Whether the mailbox can be read now. Lists mails and touches none.
pub(crate) async fn look(mailbox: &mut Mailbox) -> Result<(), MailError> {
    let looked = tokio::time::timeout(TRIAL_LOOK_LIMIT, mailbox.look(LOOK_COUNT)).await;
    let closed = tokio::time::timeout(Duration::from_secs(5), mailbox.close());
    match looked {
        Ok(looked) => {
            let _ = closed.await;
            looked.map(drop)
        }
        Err(_) => Err(MailError::Io {
            what: "looking at the mailbox".to_owned(),
            source: std::io::ErrorKind::TimedOut.into(),
        }),
    }
}

/// The new program's part. Reads what the old one has left and works with, and changes nothing.
///
/// # Errors
/// Whatever would keep it from being this box's agent.
pub(crate) async fn prove(home: &Home, mail_is_down: bool) -> anyhow::Result<u8> {
    let config = config::load(&home.config()).map_err(Usage::because)?;
    config.script_user.as_deref().map(ScriptUser::find).transpose().map_err(Usage::because)?;
    let loaded = ledger::load(&home.state()).map_err(Usage::because)?;
    Keys::load(home, &loaded.state.keys).map_err(Usage::because)?;
    ensure!(loaded.recovered.is_none(), Usage("the newest state cannot be read".to_owned()));
    rehearse(&config, loaded.state)?;
    match look(&mut Mailbox::new(config.mail.clone())).await {
        Ok(()) => {}
        Err(err) if mail_is_down && can_be_the_mail_s_fault(&err) => {
            tracing::warn!(err = chain(&err), "The mailbox cannot be read, by the agent that runs neither");
        }
        Err(err) => bail!(Outside(chain(&err))),
    }
    Ok(u8::try_from(EXIT_PROVEN)?)
}

/// Plays the rest of the install, from the start in the old one's place to the end, on a copy of the state. Only
/// reads: what is to be saved is read back, and what is to be said or done is left out.
fn rehearse(config: &Config, mut state: State) -> anyhow::Result<()> {
    let Some(Install::Proving(planned, _)) = state.active.take() else {
        bail!(Usage("no agent is to be proven here".to_owned()))
    };
    let agent = planned.facts.agent().context("the bundle brings no agent")?.clone();
    let disk = Disk::new(config.root.clone(), Folders::default());
    let own = Program { file: Some(agent.path.clone()), ..program::own(&config.root) };
    ensure!(own.digest == agent.digest, "this program is not the agent that is to be proven");
    let order = planned.job.order;
    state.active = Some(Install::Adopting(planned));
    let mut core = AgentCore::new(profile_of(config), state);
    let mut events = vec![Event::Started { recovered: false, boot: boot_id(), program: own }];
    let mut effects = Vec::new();
    while let Some(event) = events.pop() {
        core.step(now(), event, &mut effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Save(bytes) => {
                    let read = State::decode(&bytes).context("a state of its own cannot be read back")?;
                    ensure!(read == *core.state(), "a state of its own reads back as another one");
                }
                Effect::Adopt { .. } => events.push(Event::Adopted { order, result: Ok(()) }),
                Effect::ReadModules { read, paths } => {
                    let mut found = disk.read_modules(&paths, config.rom_version());
                    found.files.insert(agent.path.clone(), agent.digest);
                    events.push(Event::ModulesRead { read, found });
                }
                _ => {}
            }
        }
    }
    let ended = core.state().last_end.as_ref().is_some_and(|end| end.order == order);
    ensure!(ended, "it would not bring the install to its end");
    Ok(())
}

/// Whether an error can have the same cause for two programs that both work.
fn can_be_the_mail_s_fault(err: &MailError) -> bool {
    match err {
        MailError::Unreachable(_)
        | MailError::Tls(_)
        | MailError::AuthRefused { .. }
        | MailError::Throttled { .. }
        | MailError::Refused { .. }
        | MailError::Secret(_)
        | MailError::Io { .. } => true,
        MailError::Renumbered { .. }
        | MailError::Protocol(_)
        | MailError::ForeignKey { .. }
        | MailError::Settings(_)
        | MailError::Unsupported { .. } => false,
    }
}
