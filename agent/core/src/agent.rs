//! The whole agent as one machine: an event in, effects out. Keeps the order of things: what is saved, what
//! is said, what runs when. What an order means is in `intake`, how an install goes on in `install`.

use std::collections::BTreeMap;

use shared::message::{Ended, Outcome, Progress, Report, Step, Versions, WaitReason, Waiting};
use shared::{EnvelopeId, UnixMillis};

use crate::busy::BootId;
use crate::effect::{Effect, ReadFor};
use crate::event::{Event, MailboxStand, PostResult};
use crate::facts::{JunkReason, ModulesFound};
use crate::firmware::Known;
use crate::install::{End, Install, Signal, Surroundings, Turn};
use crate::limits::{ENROL_FIRST, ENROL_LONGEST, OWED_MAX_COUNT, back_off};
use crate::outbox::{ReportSeq, is_due};
use crate::profile::Profile;
use crate::program::Program;
use crate::schedule::Gate;
use crate::state::{Enrolment, LastEnd, Owed, State};
use crate::versions::{Combination, paths_of};
use crate::watch::Memory;

/// An agent's decisions.
#[derive(Clone, Debug)]
pub struct AgentCore {
    pub(crate) profile: Profile,
    pub(crate) state: State,
    /// The box's clock at the last event.
    clock: UnixMillis,
    /// The run of the box's system.
    boot: BootId,
    /// The program that this core is part of.
    pub(crate) program: Program,
    /// The state differs from the one that was saved last.
    pub(crate) dirty: bool,
    /// Digests were asked for, for the reports that are owed.
    reading: bool,
    /// The test that is being run, from the reading of the files on.
    pub(crate) testing: Option<EnvelopeId>,
    /// The order whose parts are being put together.
    pub(crate) joining: Option<EnvelopeId>,
    pub(crate) mailbox: MailboxStand,
    /// Large mails that stay in the mailbox for now, by the envelope that they name: how many.
    pub(crate) left: BTreeMap<EnvelopeId, usize>,
    /// Bytes that the line has carried, and that are not in the state yet.
    pub(crate) carried: u64,
    /// The report that the mail has in its hands.
    posting: Option<ReportSeq>,
    /// What is known of the devices for as long as the agent runs.
    pub(crate) memory: Memory,
    /// What is known of them for their updates.
    pub(crate) known: Known,
}

impl AgentCore {
    /// An agent with this state. Its first event must be [`Event::Started`].
    #[must_use]
    pub fn new(profile: Profile, state: State) -> Self {
        Self {
            profile,
            state,
            clock: UnixMillis(0),
            boot: BootId::default(),
            program: Program::default(),
            dirty: false,
            reading: false,
            testing: None,
            joining: None,
            mailbox: MailboxStand::Read,
            left: BTreeMap::new(),
            carried: 0,
            posting: None,
            memory: Memory::default(),
            known: Known::default(),
        }
    }

    /// What would be saved now.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// When the agent wants an [`Event::Tick`] at the latest, and why.
    #[must_use]
    pub fn next_wake(&self) -> Option<(UnixMillis, &'static str)> {
        let wait =
            self.state.active.as_ref().and_then(Install::wake).map(|at| (at, "the install's pause ends"));
        let post =
            self.state.outbox.next_wake().filter(|_| self.posting.is_none()).map(|t| (t, "a report is due"));
        let enrol = match &self.state.enrolment {
            Enrolment::Requested(r) if !self.state.outbox.holds_enrol() => Some((r.next, "enrolment is due")),
            Enrolment::Requested(_) | Enrolment::Accepted => None,
        };
        let unheard =
            self.unheard_at().filter(|_| !self.state.unheard).map(|at| (at, "heartbeats are missing"));
        let asked = self.state.keys.asked.map(|asked| (asked.next_try, "keys are to be made"));
        let now = self.state.fresh.effective(self.clock);
        let queue = self.queue_wake(now).map(|at| (at, "an install may begin"));
        let fetch = self.fetch_wake(now).map(|at| (at, "a bundle is asked for"));
        let parts = self.transfer_wake().map(|at| (at, "parts of a bundle are missing, or all here"));
        let updates = self.updates_wake(now).map(|at| (at, "an update of a device goes on"));
        let all = [wait, post, enrol, unheard, asked, queue, fetch, parts, updates, self.watch_wake()];
        all.into_iter().flatten().min()
    }

    /// Takes an event and adds the effects that it has, in their order.
    pub fn step(&mut self, clock: UnixMillis, event: Event, out: &mut Vec<Effect>) {
        self.clock = clock;
        let now = self.state.fresh.effective(clock);
        let mut effects = Vec::new();
        match event {
            Event::Started { recovered, boot, program } => {
                self.boot = boot;
                self.program = program;
                self.started(now, recovered, &mut effects);
            }
            Event::Tick => self.signal(now, None, Signal::Tick, &mut effects),
            Event::Offered { mail, envelope, bytes } => {
                self.offered(now, mail, (envelope, bytes), &mut effects);
            }
            Event::Fetched { bytes, took } => self.fetched(bytes, took),
            Event::Carried { bytes } => self.carried(bytes),
            Event::Closing => self.close_meter(),
            Event::Junk { mail, reason } => self.junk(now, mail, reason, &mut effects),
            Event::Introduced { statements } => self.introduced(clock, &statements),
            Event::Envelope { mail, facts } => self.envelope(now, mail, &facts, &mut effects),
            Event::Order { mail, facts, order, payload, key } => {
                self.order(now, mail, &facts, order, (payload, key), &mut effects);
            }
            Event::Part { mail, facts, part } => self.part(now, mail, &facts, &part, &mut effects),
            Event::PartKept { mail, facts, part, result } => {
                self.part_kept(now, mail, &facts, &part, result, &mut effects);
            }
            Event::Joined { order, result } => self.joined(now, order, result, &mut effects),
            Event::NotOpened { mail, fault } => self.not_opened(now, mail, fault, &mut effects),
            Event::Inspected { order, result } => {
                self.signal(now, Some(order), Signal::Inspected(result), &mut effects);
            }
            Event::ModulesRead { read: ReadFor::Install(order), found } => {
                self.signal(now, Some(order), Signal::Read(found), &mut effects);
            }
            Event::ModulesRead { read: ReadFor::Reports, found } => self.answer_owed(now, &found),
            Event::ModulesRead { read: ReadFor::Test(order), found } => {
                self.begin_test(now, order, &found, &mut effects);
            }
            Event::ModulesRead { read: ReadFor::Firmware(digest), found } => {
                self.image_read(now, digest, &found, &mut effects);
            }
            Event::TestEnded { order, end, output } => self.end_test(now, order, end, output),
            Event::Wishes { wishes } => self.wishes(now, wishes, &mut effects),
            Event::Staged { order, result } => {
                self.signal(now, Some(order), Signal::Staged(result), &mut effects);
            }
            Event::UseRead { order, found } => {
                self.signal(now, Some(order), Signal::Use(found), &mut effects);
            }
            Event::ScriptEnded { order, phase, end, output } => {
                self.signal(now, Some(order), Signal::Script(phase, end, output), &mut effects);
            }
            Event::Switched { order, result } => {
                self.signal(now, Some(order), Signal::Switched(result), &mut effects);
            }
            Event::Tried { order, end, output } => {
                self.signal(now, Some(order), Signal::Tried(end, output), &mut effects);
            }
            Event::Adopted { order, result } => {
                self.signal(now, Some(order), Signal::Adopted(result), &mut effects);
            }
            Event::Restored { order, result } => {
                self.signal(now, Some(order), Signal::Restored(result), &mut effects);
            }
            Event::MailboxStands { stand } => self.stands_at(stand),
            Event::KeysMade { order, result } => self.keys_made(now, order, result),
            Event::Watching { devices, head, last } => {
                self.site_has(&devices, &last);
                self.watching(now, &devices, head, last);
                self.follow(head, &mut effects);
            }
            Event::Looked { device, look, result } => {
                if let Ok(seen) = &result {
                    self.identified(now, &device, &seen.identity);
                }
                self.looked(now, device, look, result, &mut effects);
            }
            Event::ReadingKept { device, mark } => self.kept(now, &device, mark),
            Event::ReadingCompared { mark, compared } => self.compared(now, mark, compared, &mut effects),
            Event::ChainBegun { head } => self.chain_begun(now, head),
            Event::OpenForFirmware { devices } => self.open_for_firmware(devices),
            Event::DeviceAnswered { update, answer } => {
                self.device_answered(now, &update, answer, &mut effects);
            }
            Event::PushGoes { update, sent_bytes } => self.push_goes(update, sent_bytes),
            Event::Pushed { update, end } => self.pushed(now, &update, end, &mut effects),
            Event::Activated { update, result } => self.activated(now, &update, result),
            Event::FirmwareRead { update, result } => self.firmware_read(now, update, result),
            Event::DeviceWishes { wishes } => self.device_wishes(now, wishes, &mut effects),
            Event::Posted { report, result } => self.posted(now, report, result, &mut effects),
        }
        // An order may have raised the floor.
        self.pump(self.state.fresh.effective(clock), &mut effects);
        if self.dirty {
            // PROTOCOL 7.6. Save before you speak: whatever this step says or does is explained by what is saved.
            self.settle_meter(now);
            out.push(Effect::Save(self.state.encode()));
            self.dirty = false;
        }
        out.append(&mut effects);
    }

    fn started(&mut self, now: UnixMillis, recovered: bool, out: &mut Vec<Effect>) {
        self.reading = false;
        self.posting = None;
        self.dirty = true;
        self.state.outbox.restart(now, recovered);
        if let Some(asked) = &mut self.state.keys.asked {
            asked.next_try = now;
        }
        self.testing = None;
        self.joining = None;
        self.mailbox = MailboxStand::Read;
        self.left.clear();
        self.open_meter();
        self.restart_updates(now);
        self.tidy_parts(out);
        let jobs = self.state.jobs().map(|job| job.order);
        out.push(Effect::Tidy {
            jobs: jobs.chain(self.state.keep_folder).collect(),
            reports: self.state.outbox.waiting.iter().map(|q| q.sequence).collect(),
        });
        self.signal(now, None, Signal::Restarted { recovered }, out);
    }

    /// Whatever is due and not under way: idempotent, takes no hint from the event.
    fn pump(&mut self, now: UnixMillis, out: &mut Vec<Effect>) {
        self.listen(now);
        self.enrol_if_due(now);
        // Before its schedule goes with it, a job says what it has waited for.
        self.tend_queue(now, out);
        self.tend_schedules(now);
        self.tend_transfers(now, out);
        self.tend_tests(now, out);
        self.begin_next_job(now, out);
        self.read_for_owed(out);
        self.tend_keys(now, out);
        self.tend_updates(now, out);
        self.pump_watch(now);
        for report in self.state.outbox.thin(now) {
            self.dirty = true;
            out.push(Effect::Forget { report });
        }
        if self.posting.is_none()
            && let Some(outgoing) = self.state.outbox.take_due(now, &self.profile.agent)
        {
            self.dirty = true;
            self.posting = Some(outgoing.sequence);
            out.push(Effect::Post(Box::new(outgoing)));
        }
    }

    fn enrol_if_due(&mut self, now: UnixMillis) {
        let held = self.state.outbox.holds_enrol();
        let Enrolment::Requested(request) = &mut self.state.enrolment else { return };
        if held || !is_due(now, request.next) {
            return;
        }
        request.next = now.plus(back_off(ENROL_FIRST, ENROL_LONGEST, request.attempts));
        request.attempts = request.attempts.saturating_add(1);
        let message = Report::Enrol(request.message.clone());
        self.say(now, message);
    }

    fn read_for_owed(&mut self, out: &mut Vec<Effect>) {
        let begun = self.state.active.as_ref().is_some_and(Install::has_begun);
        if self.reading || begun || self.state.owed.is_empty() {
            return;
        }
        self.reading = true;
        let paths = paths_of(self.state.installed.as_ref(), &[]);
        out.push(Effect::ReadModules { read: ReadFor::Reports, paths });
    }

    fn answer_owed(&mut self, now: UnixMillis, found: &ModulesFound) {
        if !std::mem::take(&mut self.reading) {
            return;
        }
        // An install that has begun since makes the reading worthless; it is read again afterwards.
        if self.state.active.as_ref().is_some_and(Install::has_begun) {
            return;
        }
        for owed in std::mem::take(&mut self.state.owed) {
            let versions = self.report_of(found, now);
            self.say(
                now,
                match owed {
                    Owed::Versions(query) => Report::Versions(Versions { query, versions }),
                    Owed::Ended(order, outcome, output) => {
                        Report::Ended(Ended { order, outcome, output, versions })
                    }
                },
            );
        }
    }

    fn posted(&mut self, now: UnixMillis, sequence: ReportSeq, result: PostResult, out: &mut Vec<Effect>) {
        if self.posting != Some(sequence) {
            return;
        }
        self.posting = None;
        self.dirty = true;
        match result {
            PostResult::Done => {
                if let Some(report) = self.state.outbox.done(sequence) {
                    self.sent(now, &report);
                    out.push(Effect::Forget { report: sequence });
                }
            }
            PostResult::Later(why) => self.state.outbox.failed(now, sequence, false, why),
            PostResult::Never(why) => self.state.outbox.failed(now, sequence, true, why),
        }
    }

    /// Hands a signal to the running install, if it is that of `order`; `None` means whichever runs.
    pub(crate) fn signal(
        &mut self,
        now: UnixMillis,
        order: Option<EnvelopeId>,
        signal: Signal,
        out: &mut Vec<Effect>,
    ) {
        let Some(install) = self.state.active.take() else { return };
        if order.is_some_and(|order| order != install.job().order) {
            self.state.active = Some(install);
            return;
        }
        let job = install.job().clone();
        let around = Surroundings {
            now,
            classes: &self.profile.classes,
            rules: &self.profile.rules,
            boot: &self.boot,
            program: &self.program,
            installed: self.state.installed.as_ref(),
            may_begin: self.state.gate(&job, now) == Gate::Open,
        };
        match install.turn(&around, signal) {
            Turn::Ignored(install) => self.state.active = Some(install),
            Turn::Go(mut install) => {
                self.dirty = true;
                self.tell_wait(now, &mut install);
                out.extend(install.action(self.state.installed.as_ref(), &self.program));
                self.state.active = Some(install);
            }
            Turn::Back(planned) => self.put_back(planned.into_job()),
            Turn::End(end) => self.over(now, &job, *end, out),
        }
    }

    /// A pause is worth one mail for each reason, not one for each try.
    fn tell_wait(&mut self, now: UnixMillis, install: &mut Install) {
        let Some(waiting) = install.waiting() else { return };
        let (Install::Waiting(planned, _) | Install::AwaitingRestart(planned, _)) = install else { return };
        if planned.told == Some(waiting.reason) {
            return;
        }
        planned.told = Some(waiting.reason);
        let order = planned.job.order;
        self.say(now, Report::Progress(Progress { order, step: Step::Waiting(waiting) }));
    }

    /// An install order has ended: one saved state holds the new combination, the job's removal and the
    /// report (or that it is owed).
    pub(crate) fn job_ended(&mut self, now: UnixMillis, end: End, out: &mut Vec<Effect>) {
        self.dirty = true;
        self.state.last_end = Some(LastEnd { order: end.order, outcome: end.outcome.clone(), at: now });
        if let Some(combination) = end.commit {
            self.commit(combination, out);
        }
        let damaged = matches!(end.outcome, Outcome::Damaged(_));
        let stands = matches!(end.outcome, Outcome::Installed | Outcome::AlreadyInstalled);
        match end.found {
            Some(found) => {
                let versions = self.report_of(&found, now);
                self.say(
                    now,
                    Report::Ended(Ended {
                        order: end.order,
                        outcome: end.outcome,
                        output: end.output,
                        versions,
                    }),
                );
            }
            None => self.owe(Owed::Ended(end.order, end.outcome, end.output)),
        }
        if damaged {
            // The folder has the only copies of the old files: a person may want them.
            if let Some(older) = self.state.keep_folder.replace(end.order) {
                out.push(Effect::Cleanup { order: older });
            }
        } else {
            out.push(Effect::Cleanup { order: end.order });
        }
        out.extend(end.become_what_is_at.map(|path| Effect::Become { path }));
        if stands {
            self.supersede(now, end.order, out);
        }
    }

    fn commit(&mut self, combination: Combination, out: &mut Vec<Effect>) {
        self.state.installed = Some(combination);
        if let Some(order) = self.state.keep_folder.take() {
            out.push(Effect::Cleanup { order });
        }
    }

    /// Puts a report into the outbox.
    pub(crate) fn say(&mut self, now: UnixMillis, report: Report) {
        self.dirty = true;
        self.state.outbox.push(now, self.state.keys.current, report);
    }

    /// Remembers a report that needs the files' digests. Past the limit the oldest query gets no answer;
    /// the newest ones say the same.
    pub(crate) fn owe(&mut self, owed: Owed) {
        self.dirty = true;
        self.state.owed.push(owed);
        if self.state.owed.len() > OWED_MAX_COUNT {
            let query = self.state.owed.iter().position(|o| matches!(o, Owed::Versions(_)));
            self.state.owed.remove(query.unwrap_or(0));
        }
    }

    /// The reason that a job which comes now has to wait, if the running one is in a pause.
    pub(crate) fn wait_behind(&self) -> Option<Waiting> {
        let waiting = self.state.active.as_ref().and_then(Install::waiting)?;
        Some(Waiting { reason: WaitReason::OtherInstall, about: None, ..waiting })
    }

    pub(crate) fn count_junk(&mut self, now: UnixMillis, reason: JunkReason) {
        self.dirty = true;
        self.state.last_mail = Some(now);
        let count = self.state.junk.entry(reason).or_insert(0);
        *count = count.saturating_add(1);
    }
}
