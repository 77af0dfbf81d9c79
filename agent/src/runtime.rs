//! The agent at work: feeds the core with what happens and does what it says, in its order. Translates and
//! decides nothing.
//!
//! SIGINT and SIGTERM are looked at between effects; a script that runs is killed with its group. Neither
//! loses anything: to the saved state it is a power cut, and the next start goes on from there.

use std::collections::VecDeque;
use std::time::Duration;

use agent_core::{AgentCore, Effect, Event, Profile, ReadFor};
use mailio::Mailbox;
use shared::EnvelopeId;
use shared::message::{Outcome, Phase};
use thiserror::Error;

use crate::config::Config;
use crate::disk::{Disk, inspect};
use crate::files::{chain, now, random, remove_if_there};
use crate::home::{Home, Lock};
use crate::inbox::{Inbox, Taken};
use crate::keys::Keys;
use crate::ledger::{self, LedgerError, Loaded};
use crate::post::Post;
use crate::script;
use crate::stop::Stop;

/// How long to wait before a state that could not be saved is saved again.
const SAVE_AGAIN: Duration = Duration::from_secs(10);

/// Looks at the mailbox in one `--once` run: more than any honest mailbox needs, and an end all the same.
const ONCE_POLLS_MAX_COUNT: u32 = 100;

/// Whether the agent works until it is told to stop or only does what is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Daemon,
    Once,
}

/// What a run has seen that its caller wants to know.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    /// Mail could not be read or sent.
    pub(crate) unreachable: Option<String>,
    /// Installs that ended without success.
    pub(crate) failed: Vec<String>,
}

/// The agent cannot go on.
#[derive(Debug, Error)]
pub(crate) enum RunError {
    /// The state cannot be saved, and without it nothing may be said or done.
    #[error("cannot go on")]
    Ledger(#[from] LedgerError),
    /// A signal said so.
    #[error("told to stop")]
    Stopped,
}

/// All that an agent works with.
pub(crate) struct Shell {
    config: Config,
    home: Home,
    keys: Keys,
    disk: Disk,
    core: AgentCore,
    inbox: Inbox,
    post: Post,
    stop: Stop,
    mode: Mode,
    recovered: bool,
    summary: Summary,
    _lock: Lock,
}

/// What it takes to make a [`Shell`].
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) home: Home,
    pub(crate) keys: Keys,
    pub(crate) loaded: Loaded,
    pub(crate) lock: Lock,
    pub(crate) stop: Stop,
    pub(crate) mode: Mode,
}

impl Shell {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { config, home, keys, loaded, lock, stop, mode } = parts;
        let profile = Profile { agent: config.agent.clone(), classes: config.classes.clone() };
        let mailbox = Mailbox::new(config.mail.clone());
        let (manager, seal_key) = (config.manager.clone(), config.seal_key.clone());
        if let Some(why) = &loaded.recovered {
            tracing::warn!(why, "The state file is damaged; going on with the copy before it");
        }
        Self {
            disk: Disk::new(config.root.clone()),
            core: AgentCore::new(profile, loaded.state),
            inbox: Inbox::new(mailbox, home.clone(), config.order_key.clone(), config.max_bundle_bytes),
            post: Post::new(home.outbox(), &config.mail, manager, seal_key),
            recovered: loaded.recovered.is_some(),
            summary: Summary::default(),
            _lock: lock,
            config,
            home,
            keys,
            stop,
            mode,
        }
    }

    /// Starts, tries the outbox once and ends.
    pub(crate) async fn start(&mut self) -> Result<Summary, RunError> {
        let recovered = self.recovered;
        self.feed(Event::Started { recovered }).await?;
        self.hang_up().await;
        Ok(self.summary())
    }

    /// Works until told to stop.
    pub(crate) async fn run(&mut self) -> Result<(), RunError> {
        let recovered = self.recovered;
        self.feed(Event::Started { recovered }).await?;
        loop {
            self.poll().await?;
            self.feed(Event::Tick).await?;
            self.hang_up().await;
            self.rest().await?;
        }
    }

    /// Does what is due now.
    pub(crate) async fn run_once(&mut self) -> Result<Summary, RunError> {
        let recovered = self.recovered;
        self.feed(Event::Started { recovered }).await?;
        for _ in 0..ONCE_POLLS_MAX_COUNT {
            if self.poll().await? == 0 {
                break;
            }
        }
        self.feed(Event::Tick).await?;
        self.hang_up().await;
        Ok(self.summary())
    }

    async fn hang_up(&mut self) {
        self.post.close().await;
        self.inbox.close().await;
    }

    fn summary(&self) -> Summary {
        let mut summary = self.summary.clone();
        if self.post.unreachable && summary.unreachable.is_none() {
            summary.unreachable = self.core.state().outbox.last_fault.as_ref().map(ToString::to_string);
        }
        summary
    }

    /// Waits for the next poll; wakes the core when it wants.
    async fn rest(&mut self) -> Result<(), RunError> {
        let (began, poll) = (tokio::time::Instant::now(), jittered(self.config.poll));
        loop {
            let left = poll.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            let mut pause = left;
            if let Some((at, reason)) = self.core.next_wake() {
                // Not shorter than a second: the core may want what this box cannot do yet.
                pause = at.since(now()).max(Duration::from_secs(1)).min(left);
                tracing::debug!(wake_at = %at, reason, "Resting");
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.wanted() => return Err(RunError::Stopped),
            }
            if pause < left {
                self.feed(Event::Tick).await?;
                self.hang_up().await;
            }
        }
    }

    /// Looks at every mail that is there. Returns how many were dealt with.
    async fn poll(&mut self) -> Result<usize, RunError> {
        let looked = tokio::select! {
            looked = self.inbox.look() => looked,
            () = self.stop.wanted() => return Err(RunError::Stopped),
        };
        let found = match looked {
            Ok(found) => found,
            Err(err) => {
                tracing::warn!(err = chain(&err), "Cannot look at the mailbox");
                self.summary.unreachable = Some(chain(&err));
                return Ok(0);
            }
        };
        let mut dealt_with = 0usize;
        for mail in found {
            let taken = tokio::select! {
                taken = self.inbox.take(mail) => taken,
                () = self.stop.wanted() => return Err(RunError::Stopped),
            };
            match taken {
                Taken::Event(event) => {
                    self.feed(event).await?;
                    dealt_with = dealt_with.saturating_add(1);
                }
                Taken::Left => self.inbox.leave(),
            }
        }
        Ok(dealt_with)
    }

    /// Gives an event to the core and does all that follows from it.
    async fn feed(&mut self, event: Event) -> Result<(), RunError> {
        let mut events = VecDeque::from([event]);
        let mut effects = Vec::new();
        while let Some(event) = events.pop_front() {
            let last_end = self.core.state().last_end.clone();
            self.core.step(now(), event, &mut effects);
            if self.core.state().last_end != last_end {
                self.note_end();
            }
            for effect in effects.drain(..) {
                // Lets the task that listens for signals have its turn.
                tokio::task::yield_now().await;
                if self.stop.is_wanted() {
                    return Err(RunError::Stopped);
                }
                tracing::debug!(effect = effect.name(), "Doing");
                events.extend(execute(self, effect).await?);
            }
        }
        Ok(())
    }

    fn note_end(&mut self) {
        let Some(end) = &self.core.state().last_end else { return };
        let failure = match &end.outcome {
            Outcome::Installed | Outcome::AlreadyInstalled => {
                tracing::info!(order = %end.order, "Install ended well");
                return;
            }
            Outcome::RolledBack(failure) => format!("rolled back in {failure}"),
            Outcome::Refused(refusal) => format!("refused: {refusal}"),
            Outcome::Damaged(failure) => format!("rolled back INCOMPLETELY in {failure}"),
        };
        tracing::warn!(order = %end.order, failure, "Install ended without success");
        self.summary.failed.push(format!("order {}: {failure}", end.order));
    }

    /// Nothing may be said or done before the state is on the disk. A daemon waits for room on it.
    async fn save(&mut self, state: &[u8]) -> Result<(), RunError> {
        loop {
            let Err(err) = ledger::save(&self.home.state(), state) else { return Ok(()) };
            if self.mode == Mode::Once {
                return Err(err.into());
            }
            tracing::error!(err = chain(&err), "Cannot save the state; trying again");
            tokio::select! {
                () = tokio::time::sleep(SAVE_AGAIN) => {}
                () = self.stop.wanted() => return Err(RunError::Stopped),
            }
        }
    }

    /// Runs the script; told to stop, it gives no result, and the next start takes the phase back.
    async fn run_script(
        &mut self,
        order: EnvelopeId,
        phase: Phase,
        from: Option<&shared::SoftwareVersion>,
        to: &shared::SoftwareVersion,
    ) -> Result<Event, RunError> {
        let run = script::Run {
            script: &self.disk.script(order),
            stage: &self.disk.stage_folder(order),
            root: self.disk.root(),
            phase,
            from,
            to,
            limit: self.config.script_timeout,
        };
        tracing::info!(%order, %phase, "Running the bundle's script");
        let (end, output) = script::run(&run, &mut self.stop).await.ok_or(RunError::Stopped)?;
        tracing::info!(%order, %phase, ?end, "The bundle's script has ended");
        Ok(Event::ScriptEnded { order, phase, end, output })
    }

    fn tidy(&self, jobs: &[EnvelopeId], reports: &[agent_core::ReportSeq]) -> std::io::Result<()> {
        self.disk.tidy(jobs)?;
        self.post.tidy(reports)?;
        for entry in std::fs::read_dir(self.home.bundles())? {
            let path = entry?.path();
            if !jobs.iter().any(|order| path == self.home.bundle(*order)) {
                std::fs::remove_file(path)?;
            }
        }
        remove_if_there(&self.home.incoming().join("mail"))
    }
}

/// Does one effect; gives the event that answers it.
async fn execute(shell: &mut Shell, effect: Effect) -> Result<Option<Event>, RunError> {
    let logged = |what: &'static str, result: std::io::Result<()>| {
        if let Err(err) = result {
            tracing::warn!(%err, what, "Cannot clean up; the next start tries again");
        }
    };
    Ok(Some(match effect {
        Effect::Save(state) => {
            shell.save(&state).await?;
            return Ok(None);
        }
        Effect::Tidy { jobs, reports } => {
            logged("leftovers", shell.tidy(&jobs, &reports));
            return Ok(None);
        }
        Effect::Open { mail } => shell.inbox.open(mail, &shell.keys),
        Effect::Dispose { mail, disposal } => {
            shell.inbox.dispose(mail, disposal).await;
            return Ok(None);
        }
        Effect::Leave { .. } => {
            shell.inbox.leave();
            return Ok(None);
        }
        Effect::Inspect { order } => {
            let result = inspect(&shell.home.bundle(order), &shell.config.release_keys);
            Event::Inspected { order, result }
        }
        Effect::ReadModules { read, paths } => read_modules(shell, read, &paths),
        Effect::Stage { order, modules, unpacked_bytes } => {
            let bundle = shell.home.bundle(order);
            let keys = &shell.config.release_keys;
            Event::Staged { order, result: shell.disk.stage(order, &bundle, keys, &modules, unpacked_bytes) }
        }
        Effect::RunScript { order, phase, from, to } => {
            shell.run_script(order, phase, from.as_ref(), &to).await?
        }
        Effect::Switch { order, modules } => {
            Event::Switched { order, result: shell.disk.switch(order, &modules) }
        }
        Effect::Restore { order } => Event::Restored { order, result: shell.disk.restore(order) },
        Effect::Cleanup { order } => {
            logged("a job's folder", shell.disk.cleanup(order));
            logged("a bundle", remove_if_there(&shell.home.bundle(order)));
            return Ok(None);
        }
        Effect::Post(outgoing) => {
            let sent = shell.post.send(&outgoing, &shell.keys, &mut shell.stop).await;
            let result = sent.ok_or(RunError::Stopped)?;
            tracing::info!(report = outgoing.sequence.0, ?result, "Report handed to the mail");
            Event::Posted { report: outgoing.sequence, result }
        }
        Effect::Forget { report } => {
            logged("a sealed report", shell.post.forget(report));
            return Ok(None);
        }
    }))
}

fn read_modules(shell: &Shell, read: ReadFor, paths: &[shared::ModulePath]) -> Event {
    Event::ModulesRead { read, found: shell.disk.read_modules(paths, shell.config.rom_version()) }
}

/// Up to a tenth more or less, so that a fleet that was switched on together does not poll together.
fn jittered(poll: Duration) -> Duration {
    let [byte] = random::<1>();
    let tenth = poll.checked_div(10).unwrap_or_default();
    let part = tenth.saturating_mul(2).saturating_mul(u32::from(byte)).checked_div(255).unwrap_or_default();
    poll.saturating_sub(tenth).saturating_add(part)
}
