//! Runs a bundle's script for one phase: in a process group of its own, with a clean environment and no open
//! files, as another user if the operator wants it, with a time limit and a bounded memory of its output. What
//! its exit code means is the core's.
//!
//! Programs that the script leaves running stay, but their output has nowhere to go once the script has
//! ended: a script starts residents with their output redirected. Tests of what is installed run in the same way.

mod family;
mod user;

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use agent_core::ScriptEnd;
use rustix::fs::Mode;
use shared::limits::SCRIPT_OUTPUT_MAX_BYTES;
use shared::message::{OutputTail, Phase};
use shared::{Label, ModulePath, SoftwareVersion};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use crate::stop::Stop;
use family::Family;
pub(crate) use family::reap;
pub(crate) use user::{ScriptUser, name_of};

/// Output of the script that is still in the pipe when it has ended is there at once.
const LAST_OUTPUT: Duration = Duration::from_millis(200);

/// Of what a script makes, others may read what they can reach, whatever the agent was started with.
const UMASK: Mode = Mode::from_raw_mode(0o022);

const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One run of a script.
pub(crate) struct Run<'r> {
    pub(crate) script: &'r Path,
    pub(crate) stage: &'r Path,
    pub(crate) root: &'r Path,
    pub(crate) phase: Phase,
    pub(crate) from: Option<&'r SoftwareVersion>,
    pub(crate) to: &'r SoftwareVersion,
    pub(crate) limit: Duration,
    pub(crate) user: Option<&'r ScriptUser>,
}

/// Runs to the script's end, to its time limit, or until the agent is told to stop: then the script is ended
/// with all its programs, and there is no result. The saved state says what was under way; the next start takes
/// it back.
pub(crate) async fn run(run: &Run<'_>, stop: &mut Stop) -> Option<(ScriptEnd, OutputTail)> {
    watch(command(run), run.limit, stop).await
}

/// Runs any command in this way.
pub(crate) async fn watch(
    command: Command,
    limit: Duration,
    stop: &mut Stop,
) -> Option<(ScriptEnd, OutputTail)> {
    let mut family = Family::expect();
    let (mut child, mut output) = match start(command) {
        Ok(started) => started,
        Err(err) => return Some((not_run(&err), OutputTail::default())),
    };
    family.started(&child);
    let mut tail = Vec::new();
    let status = tokio::select! {
        status = child.wait() => status,
        never = collect(&mut output, &mut tail) => match never {},
        () = tokio::time::sleep(limit) => {
            family.end(&mut child).await;
            let _ = tokio::time::timeout(LAST_OUTPUT, collect_until_end(&mut output, &mut tail)).await;
            return Some((ScriptEnd::Timeout(limit.as_secs()), OutputTail::of(&tail)));
        }
        () = stop.wanted() => {
            family.end(&mut child).await;
            return None;
        }
    };
    let _ = tokio::time::timeout(LAST_OUTPUT, collect_until_end(&mut output, &mut tail)).await;
    let end = match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => ScriptEnd::Exit(code),
            (None, signal) => ScriptEnd::Signal(signal.unwrap_or(0)),
        },
        Err(err) => not_run(&err),
    };
    Some((end, OutputTail::of(&tail)))
}

fn not_run(err: &io::Error) -> ScriptEnd {
    ScriptEnd::NotRun(Label::lossy(&format!("cannot run it: {err}")))
}

fn command(run: &Run<'_>) -> Command {
    let from = run.from.map_or("none", SoftwareVersion::as_str);
    let mut command = clean(run.script, run.root, run.user);
    command
        .arg(run.phase.as_str())
        .current_dir(run.stage)
        .env("MAILFLEET_STAGE", run.stage)
        .env("MAILFLEET_FROM_VERSION", from)
        .env("MAILFLEET_TO_VERSION", run.to.as_str());
    command
}

/// The command that runs an installed module as a test (PROTOCOL 16.2), in the root.
pub(crate) fn test(root: &Path, module: &ModulePath, args: &[Label], user: Option<&ScriptUser>) -> Command {
    let mut command = clean(&root.join(module.as_str()), root, user);
    command.args(args.iter().map(Label::as_str)).current_dir(root);
    command
}

/// A program with nothing of the agent's but what it needs.
fn clean(program: &Path, root: &Path, user: Option<&ScriptUser>) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| PATH_DEFAULT.into()))
        .env("LANG", "C.UTF-8")
        .env("MAILFLEET_ROOT", root)
        .stdin(Stdio::null());
    let home = user.map(|user| user.home.clone().into_os_string());
    if let Some(home) = home.or_else(|| std::env::var_os("HOME")) {
        command.env("HOME", home);
    }
    if let Some(user) = user {
        // Becoming another user drops the supplementary groups too.
        command.gid(user.gid).uid(user.uid);
    }
    command
}

fn start(mut command: Command) -> io::Result<(Child, pipe::Receiver)> {
    let (reader, writer) = io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer).process_group(0).kill_on_drop(true);
    // The process has one; nothing else happens between the two calls.
    let own = rustix::process::umask(UMASK);
    let spawned = command.spawn();
    rustix::process::umask(own);
    let child = spawned?;
    // The command holds the writing ends; the pipe ends only when they are gone.
    drop(command);
    Ok((child, pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?))
}

/// Collects for ever: the pipe's end says nothing about the script's, and the other way round.
async fn collect(output: &mut pipe::Receiver, tail: &mut Vec<u8>) -> Infallible {
    collect_until_end(output, tail).await;
    std::future::pending().await
}

async fn collect_until_end(output: &mut pipe::Receiver, tail: &mut Vec<u8>) {
    let mut buffer = [0u8; 4096];
    while let Ok(n @ 1..) = output.read(&mut buffer).await {
        tail.extend_from_slice(buffer.get(..n).unwrap_or_default());
        // Cut rarely, so that a talkative script does not cost a copy for each line.
        if tail.len() > SCRIPT_OUTPUT_MAX_BYTES.saturating_mul(2) {
            let extra = tail.len().saturating_sub(SCRIPT_OUTPUT_MAX_BYTES);
            tail.drain(..extra);
        }
    }
}
