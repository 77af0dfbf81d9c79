//! Each effect of the core, done: a translation, one arm for each.

use std::time::Duration;

use agent_core::{
    Compared, Disposal, Effect, Event, InUse, MailHandle, Module, OpenFault, Outgoing, PostResult, ReadFor,
    ReportSeq, ScriptEnd,
};
use shared::device::{DeviceName, Observation};
use shared::error::chain;
use shared::message::{Linked, OutputTail, Phase, ReadingMark};
use shared::reading::Anomaly;
use shared::rekey::rekeyed;
use shared::{EnvelopeId, Label, ModulePath, SoftwareVersion};

use super::{RunError, Shell};
use crate::disk::inspect;
use crate::files::{now, remove_if_there};
use crate::lease::Leases;
use crate::{script, system, trial};

impl Shell {
    /// Runs the script; told to stop, it gives no result, and the next start takes the phase back.
    async fn run_script(
        &mut self,
        order: EnvelopeId,
        phase: Phase,
        from: Option<&SoftwareVersion>,
        to: &SoftwareVersion,
    ) -> Result<Event, RunError> {
        let run = script::Run {
            script: &self.disk.script(order),
            stage: &self.disk.stage_folder(order),
            root: self.disk.root(),
            phase,
            from,
            to,
            limit: self.config.script_timeout,
            user: self.script_user.as_ref(),
        };
        tracing::info!(%order, %phase, "Running the bundle's script");
        let (end, output) = script::run(&run, &mut self.stop).await.ok_or(RunError::Stopped)?;
        tracing::info!(%order, %phase, ?end, "The bundle's script has ended");
        Ok(Event::ScriptEnded { order, phase, end, output })
    }

    async fn dispose(&mut self, mail: MailHandle, disposal: Disposal) -> Result<(), RunError> {
        tokio::select! {
            () = self.inbox.dispose(mail, disposal) => Ok(()),
            () = self.stop.wanted() => Err(RunError::Stopped),
        }
    }

    fn open_mail(&mut self, mail: MailHandle) -> Event {
        let event = self.inbox.open(mail, &self.keys);
        if let Event::NotOpened { fault: OpenFault::Local(why), .. } = &event {
            self.summary.failed.push(format!("a mail stays in the mailbox: {why}"));
        }
        event
    }

    fn in_use(&self, modules: &[Module]) -> InUse {
        let leases = Leases::below(self.disk.root()).read();
        InUse { read_at: now(), leases, running: self.disk.running(modules) }
    }

    /// Runs the test of what is installed; told to stop, it gives no result, and the next start runs it again.
    async fn run_test(
        &mut self,
        order: EnvelopeId,
        path: &ModulePath,
        args: &[Label],
        limit: Duration,
    ) -> Result<Event, RunError> {
        tracing::info!(%order, %path, "Running a test");
        let command = script::test(self.disk.root(), path, args, self.script_user.as_ref());
        let (end, output) = script::watch(command, limit, &mut self.stop).await.ok_or(RunError::Stopped)?;
        tracing::info!(%order, %path, ?end, "The test has ended");
        Ok(Event::TestEnded { order, end, output })
    }

    /// Makes keys that the manager has asked for, with the proof that they are ours.
    fn make_keys(&mut self, order: EnvelopeId, keys: EnvelopeId) -> Event {
        let result = match self.keys.make(keys) {
            Ok(pair) => {
                tracing::info!(%order, "New keys are made");
                Ok(rekeyed(&self.config.agent, order, &pair.sign, &pair.open.sealing_key()))
            }
            Err(err) => {
                tracing::error!(err = chain(&err), "New keys cannot be made; trying again later");
                Err(Label::lossy(&chain(&err)))
            }
        };
        Event::KeysMade { order, result }
    }

    async fn send(&mut self, outgoing: &Outgoing) -> Result<Event, RunError> {
        let state = self.core.state();
        // Keys that were dropped are missed only by a state that was lost and found; the manager believes the current ones.
        let pair = self.keys.pair(outgoing.signer).or_else(|| self.keys.pair(state.keys.current));
        let result = match pair {
            Some(pair) => {
                let sent = self
                    .post
                    .send(outgoing, &pair.sign, &state.trust.seal_key, &self.readings, &mut self.stop)
                    .await;
                sent.ok_or(RunError::Stopped)?
            }
            None => PostResult::Later(Label::lossy("the signing key is not there")),
        };
        tracing::info!(report = outgoing.sequence.0, ?result, "Report handed to the mail");
        Ok(Event::Posted { report: outgoing.sequence, result })
    }

    fn keep_reading(
        &mut self,
        device: DeviceName,
        seen: Observation,
        anomalies: Vec<Anomaly>,
    ) -> Option<Event> {
        for anomaly in &anomalies {
            let (kind, counter) = (anomaly.kind.as_str(), &anomaly.counter);
            tracing::warn!(%device, kind, %counter, before = %anomaly.before, "A reading does not follow");
        }
        let Some(pair) = self.keys.pair(self.core.state().keys.current) else {
            tracing::error!("Cannot keep a reading: the signing key is not there");
            return None;
        };
        let kept = self.readings.keep(&pair.sign, device.clone(), seen, anomalies);
        let kept = kept.inspect_err(|err| tracing::error!(%err, "Cannot keep a reading")).ok();
        kept.map(|mark| Event::ReadingKept { device, mark })
    }

    fn compare_reading(&self, mark: ReadingMark, there: Linked) -> Option<Event> {
        let here = self.readings.linked_at(mark);
        let here = here.inspect_err(|err| tracing::error!(%err, "Cannot read the readings")).ok()?;
        Some(Event::ReadingCompared { mark, compared: Compared::of(here, there) })
    }

    fn begin_chain(&mut self, after: u64) -> Option<Event> {
        tracing::warn!(
            "The manager has other readings than this disk, which was put back to an older copy: \
             another chain of them begins"
        );
        let Some(pair) = self.keys.pair(self.core.state().keys.current) else {
            tracing::error!("Cannot begin a chain: the signing key is not there");
            return None;
        };
        let begun = self.readings.begin_anew(&pair.sign, after);
        let begun = begun.inspect_err(|err| tracing::error!(%err, "Cannot begin another chain")).ok();
        begun.map(|head| Event::ChainBegun { head })
    }

    /// Puts the staged agent on trial. Told to stop, it gives no result, and the next start does it again.
    async fn try_agent(&mut self, order: EnvelopeId, module: &Module) -> Result<Event, RunError> {
        if let Err(err) = self.disk.check_staged(order, module) {
            let end = ScriptEnd::NotRun(Label::lossy(&err.to_string()));
            return Ok(Event::Tried { order, end, output: OutputTail::default() });
        }
        // Some servers let an account in only once.
        self.hang_up().await;
        // PROTOCOL 6.8: what this agent can read, the new one must be able to read.
        let mail = tokio::select! {
            mail = self.inbox.try_to_look() => mail,
            () = self.stop.wanted() => return Err(RunError::Stopped),
        };
        if let Err(err) = &mail {
            tracing::warn!(
                err = chain(err),
                "The mailbox cannot be read; the new agent need not read it either"
            );
        }
        tracing::info!(%order, module = %module.name, "Trying the new agent");
        let program = self.disk.stage_folder(order).join(module.path.as_str());
        let command = trial::command(&program, &self.home, mail.is_err());
        let ended = script::watch(command, self.config.trial_limit, &mut self.stop).await;
        let (end, output) = ended.ok_or(RunError::Stopped)?;
        tracing::info!(%order, ?end, output = output.as_str(), "The trial of the new agent has ended");
        Ok(Event::Tried { order, end, output })
    }

    /// Ends this program's part.
    async fn become_what_is_at(&mut self, path: &ModulePath) -> RunError {
        self.hang_up().await;
        // The other program would not hear of it.
        if self.stop.is_wanted() {
            return RunError::Stopped;
        }
        RunError::Become(self.disk.root().join(path.as_str()))
    }

    fn tidy(&self, jobs: &[EnvelopeId], reports: &[ReportSeq]) -> std::io::Result<()> {
        self.disk.tidy(jobs)?;
        self.post.tidy(reports)?;
        // An older copy of the state may not know yet what the newest one named.
        if !self.recovered {
            self.keys.tidy(&self.core.state().keys)?;
        }
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
pub(super) async fn execute(shell: &mut Shell, effect: Effect) -> Result<Option<Event>, RunError> {
    let logged = |what: &'static str, result: std::io::Result<()>| {
        if let Err(err) = result {
            tracing::warn!(%err, what, "Cannot clean up; the next start tries again");
        }
        Ok(None)
    };
    Ok(Some(match effect {
        Effect::Save(state) => {
            shell.save(&state).await?;
            return Ok(None);
        }
        Effect::Tidy { jobs, reports } => return logged("leftovers", shell.tidy(&jobs, &reports)),
        Effect::Fetch { mail } => {
            shell.inbox.admit(mail);
            return Ok(None);
        }
        Effect::Open { mail } => shell.open_mail(mail),
        Effect::Dispose { mail, disposal } => {
            shell.dispose(mail, disposal).await?;
            return Ok(None);
        }
        Effect::Leave { .. } => {
            shell.inbox.leave();
            return Ok(None);
        }
        Effect::KeepPart { mail, head } => shell.inbox.keep_part(mail, head, &shell.keys),
        Effect::Join { order, body } => shell.inbox.join(order, body, &shell.core.state().trust, &shell.keys),
        Effect::TidyParts { keep } => return logged("parts", shell.home.parts().tidy(&keep)),
        Effect::Inspect { order } => {
            Event::Inspected { order, result: inspect(&shell.home.bundle(order), &shell.core.state().trust) }
        }
        Effect::ReadModules { read, paths } => read_modules(shell, read, &paths),
        Effect::Stage { order, modules, unpacked_bytes } => {
            let bundle = shell.home.bundle(order);
            let trust = &shell.core.state().trust;
            Event::Staged { order, result: shell.disk.stage(order, &bundle, trust, &modules, unpacked_bytes) }
        }
        Effect::ReadUse { order, modules } => Event::UseRead { order, found: shell.in_use(&modules) },
        Effect::RunScript { order, phase, from, to } => {
            shell.run_script(order, phase, from.as_ref(), &to).await?
        }
        Effect::Switch { order, modules } => {
            Event::Switched { order, result: shell.disk.switch(order, &modules) }
        }
        Effect::Restore { order, switched } => {
            Event::Restored { order, result: shell.disk.restore(order, switched) }
        }
        Effect::Try { order, module } => shell.try_agent(order, &module).await?,
        Effect::Adopt { order, module, start } => {
            let result = shell.disk.adopt(order, &module);
            if start && result.is_ok() {
                tracing::info!(%order, "The new agent has proven itself and is in place");
                return Err(shell.become_what_is_at(&module.path).await);
            }
            Event::Adopted { order, result }
        }
        Effect::Become { path } => return Err(shell.become_what_is_at(&path).await),
        Effect::RestartBox { order } => {
            tracing::info!(%order, "The install goes on when the box has restarted");
            system::restart(&shell.config.restart_command, &mut shell.stop).await;
            return Ok(None);
        }
        Effect::Cleanup { order } => {
            logged("a job's folder", shell.disk.cleanup(order))?;
            return logged("a bundle", remove_if_there(&shell.home.bundle(order)));
        }
        Effect::RunTest { order, path, args, limit } => shell.run_test(order, &path, &args, limit).await?,
        Effect::DropWish { order } => return logged("a wish", shell.home.wishes().forget(order)),
        Effect::MakeKeys { order, keys } => shell.make_keys(order, keys),
        Effect::DropKeys { keys } => return logged("keys", shell.keys.drop_pair(keys)),
        Effect::Post(outgoing) => shell.send(&outgoing).await?,
        Effect::Forget { report } => return logged("a sealed report", shell.post.forget(report)),
        about @ (Effect::KeepReading { .. }
        | Effect::LookAgain { .. }
        | Effect::CompareReading { .. }
        | Effect::BeginChain { .. }
        | Effect::DropReadings { .. }
        | Effect::AskDevice { .. }
        | Effect::PushFirmware { .. }
        | Effect::ActivateFirmware { .. }
        | Effect::ReadFirmware { .. }
        | Effect::DropDeviceWish { .. }) => return Ok(about_devices(shell, about)),
    }))
}

/// Does an effect about the devices beside the box.
fn about_devices(shell: &mut Shell, effect: Effect) -> Option<Event> {
    match effect {
        Effect::KeepReading { device, seen, anomalies } => shell.keep_reading(device, *seen, anomalies),
        Effect::LookAgain { device } => {
            shell.watcher.again(device);
            None
        }
        Effect::CompareReading { mark, there } => shell.compare_reading(mark, there),
        Effect::BeginChain { after } => shell.begin_chain(after),
        Effect::DropReadings { upto } => {
            shell.readings.delivered(Some(upto));
            None
        }
        Effect::DropDeviceWish { device } => {
            if let Err(err) = shell.home.wishes().forget_device(&device) {
                tracing::warn!(%err, "A wish cannot be removed; the next start tries again");
            }
            None
        }
        of_update => shell.attend_device(of_update),
    }
}

fn read_modules(shell: &Shell, read: ReadFor, paths: &[ModulePath]) -> Event {
    Event::ModulesRead { read, found: shell.disk.read_modules(paths, shell.config.rom_version()) }
}
