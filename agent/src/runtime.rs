//! The agent at work: feeds the core with what happens and does what it says, in its order. Translates and
//! decides nothing.
//!
//! SIGINT and SIGTERM are looked at between effects; a script that runs is killed with its group. Neither
//! loses anything: to the saved state it is a power cut, and the next start goes on from there.

mod effects;
mod firmware;
mod outcome;

use std::collections::VecDeque;
use std::time::Duration;

use agent_core::{AgentCore, Effect, Event, MailHandle, MailboxStand, Profile};
use mailio::{MailSettings, Mailbox, Progress, Timeouts};
use service::Service;
use shared::device::DeviceName;
use shared::error::chain;
use shared::message::Outcome;
use shared::trust::Statement;

use crate::alive::Alive;
use crate::bent;
use crate::config::Config;
use crate::disk::Disk;
use crate::files::{now, random};
use crate::home::{Home, Lock};
use crate::inbox::{Inbox, Left, Taken, Which};
use crate::keys::Keys;
use crate::ledger::{self, Loaded};
use crate::limits::TRIAL_LOOK_LIMIT;
use crate::post::Post;
use crate::program;
use crate::readings::Readings;
use crate::script::{ScriptUser, reap};
use crate::stop::Stop;
use crate::system::boot_id;
use crate::watch::Watcher;
use firmware::Flashing;
pub(crate) use outcome::{Mode, RunError, Summary};

/// How long to wait before a state that could not be saved is saved again.
const SAVE_AGAIN: Duration = Duration::from_secs(10);

/// How often the mailbox is looked at while the answer to a fault report may come (M3).
const ANSWER_POLL: Duration = Duration::from_secs(30);

/// How often wishes of people at the site are looked for while something waits that they can put off.
const WISH_POLL: Duration = Duration::from_secs(10);

/// Looks at the mailbox in one `--once` run: more than any honest mailbox needs, and an end all the same.
const ONCE_POLLS_MAX_COUNT: u32 = 100;

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
    alive: Alive,
    recovered: bool,
    script_user: Option<ScriptUser>,
    watcher: Watcher,
    flashing: Flashing,
    readings: Readings,
    summary: Summary,
    #[cfg(debug_assertions)]
    effects_to_live: Option<u32>,
    _locks: (Lock, Option<Lock>),
}

/// What it takes to make a [`Shell`].
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) home: Home,
    pub(crate) keys: Keys,
    pub(crate) loaded: Loaded,
    pub(crate) disk: Disk,
    pub(crate) script_user: Option<ScriptUser>,
    pub(crate) locks: (Lock, Option<Lock>),
    pub(crate) stop: Stop,
    pub(crate) mode: Mode,
    pub(crate) service: Service,
    pub(crate) watcher: Watcher,
    pub(crate) readings: Readings,
}

impl Shell {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            mut config,
            home,
            keys,
            loaded,
            disk,
            script_user,
            locks,
            stop,
            mode,
            service,
            watcher,
            mut readings,
        } = parts;
        if let Some(limit) = bent::mail_limit() {
            config.mail.timeouts = Timeouts::all(limit);
        }
        let alive = Alive::new(service, config.mail.longest_silence());
        let moved = alive.clone();
        config.mail.progress = Progress::to(move || moved.step());
        readings.delivered(loaded.state.watch.delivered);
        let mailbox = Mailbox::new(config.mail.clone());
        let second = config.fallback_inbox.clone().map(|second| {
            let MailSettings { timeouts, progress, traffic, .. } = config.mail.clone();
            Mailbox::new(MailSettings { timeouts, progress, traffic, ..second })
        });
        if let Some(why) = &loaded.recovered {
            tracing::warn!(why, "The state file is damaged; going on with the copy before it");
        }
        Self {
            disk: disk.watched(alive.clone()),
            script_user,
            watcher,
            flashing: Flashing::default(),
            readings,
            core: AgentCore::new(profile_of(&config), loaded.state),
            inbox: Inbox::new(mailbox, second, home.clone(), config.max_bundle_bytes, alive.clone()),
            post: Post::new(home.outbox(), &config),
            recovered: loaded.recovered.is_some(),
            summary: Summary::default(),
            #[cfg(debug_assertions)]
            effects_to_live: std::env::var("MAILFLEET_TEST_EFFECTS_TO_LIVE")
                .ok()
                .and_then(|n| n.parse().ok()),
            _locks: locks,
            config,
            home,
            keys,
            stop,
            mode,
            alive,
        }
    }

    /// Starts, tries the outbox once and ends.
    pub(crate) async fn start(&mut self) -> Result<Summary, RunError> {
        self.begin().await?;
        self.hang_up().await;
        Ok(self.summary())
    }

    async fn begin(&mut self) -> Result<(), RunError> {
        let recovered = self.recovered;
        let program = program::own(self.disk.root());
        self.feed(Event::Started { recovered, boot: boot_id(), program }).await?;
        // A list that cannot be read says nothing of the devices: what is known of them stays.
        let known = || self.core.state().watch.devices.keys().cloned().collect();
        let devices = self.watcher.names().unwrap_or_else(known);
        let head = self.readings.head();
        let last = self.readings.last_of(&devices).unwrap_or_else(|err| {
            tracing::warn!(%err, "The last readings cannot be read; the next ones are compared with nothing");
            Vec::new()
        });
        self.feed(Event::Watching { devices, head, last }).await?;
        self.feed(Event::OpenForFirmware { devices: self.open_for_firmware() }).await
    }

    /// Tells the core what the devices have said, and what became of what was begun with them.
    async fn looked(&mut self) -> Result<(), RunError> {
        let events = self.flashing.take();
        for event in events.into_iter().chain(self.watcher.take()) {
            self.alive.step();
            self.feed(event).await?;
        }
        Ok(())
    }

    /// Asks every device once: for everything, if that is due.
    async fn look_once(&mut self) -> Result<(), RunError> {
        let devices = self.watcher.names().unwrap_or_default();
        let last = self.readings.last_of(&devices).unwrap_or_default();
        let fresh = |name: &DeviceName| {
            let last = last.iter().find(|(device, _)| device == name);
            last.is_some_and(|(_, seen)| now().since(seen.taken_at) < self.config.rhythm.everything)
        };
        let due = devices.iter().filter(|name| !fresh(name)).cloned().collect();
        let mut rounds = vec![(devices.into_iter().collect(), due)];
        while let Some((devices, due)) = rounds.pop() {
            tokio::select! {
                () = self.watcher.once(&devices, &due) => {}
                () = self.stop.wanted() => return Err(RunError::Stopped),
            }
            self.looked().await?;
            // At most once more: the core asks again only for what it has not asked again before.
            let again = self.watcher.asked_again();
            if !again.is_empty() {
                rounds.push((again.clone(), again));
            }
        }
        Ok(())
    }

    /// Works until told to stop.
    pub(crate) async fn run(&mut self) -> Result<(), RunError> {
        self.begin().await?;
        self.watcher.start();
        loop {
            self.poll().await?;
            self.looked().await?;
            self.feed(Event::Tick).await?;
            self.calm_down().await;
            self.account().await?;
            // Nobody reads a daemon's summary; it must not grow for months.
            self.summary = Summary::default();
            self.rest().await?;
        }
    }

    /// Does what is due now.
    pub(crate) async fn run_once(&mut self) -> Result<Summary, RunError> {
        self.begin().await?;
        self.look_once().await?;
        for _ in 0..ONCE_POLLS_MAX_COUNT {
            if self.poll().await? == 0 {
                break;
            }
        }
        self.feed(Event::Tick).await?;
        self.see_devices_through().await?;
        self.hang_up().await;
        self.account().await?;
        self.feed(Event::Closing).await?;
        Ok(self.summary())
    }

    /// Ends the connections; a server that does not answer must not hold up a stop.
    async fn hang_up(&mut self) {
        let close = async {
            self.post.close().await;
            self.inbox.close().await;
        };
        tokio::select! {
            () = close => {}
            () = self.stop.wanted() => {}
        }
    }

    /// Ends the connections that a rest does not need.
    async fn calm_down(&mut self) {
        let calm = async {
            self.post.close().await;
            self.inbox.rest().await;
        };
        tokio::select! {
            () = calm => {}
            () = self.stop.wanted() => {}
        }
    }

    fn summary(&self) -> Summary {
        let mut summary = self.summary.clone();
        let outbox = &self.core.state().outbox;
        if let Some(fault) = outbox.last_fault.as_ref().filter(|_| !outbox.waiting.is_empty()) {
            let text = format!("{} reports wait: {fault}", outbox.waiting.len());
            if self.post.unreachable {
                summary.unreachable.get_or_insert(text);
            } else {
                summary.failed.push(text);
            }
        }
        summary
    }

    /// Waits for news of mail, or else for the next poll; wakes the core when it wants.
    async fn rest(&mut self) -> Result<(), RunError> {
        let (began, poll) = (tokio::time::Instant::now(), jittered(self.config.poll));
        loop {
            // M3: an answer to a fault report is looked for every 30 s.
            let poll = if self.core.awaits_answer(now()) { poll.min(ANSWER_POLL) } else { poll };
            let left = poll.saturating_sub(began.elapsed());
            reap();
            if left.is_zero() {
                return Ok(());
            }
            let mut pause = left;
            if let Some((at, reason)) = self.core.next_wake() {
                // Not shorter than a second: the core may want what this box cannot do yet.
                pause = at.since(now()).max(Duration::from_secs(1)).min(left);
                tracing::debug!(wake_at = %at, reason, "Resting");
            }
            if self.core.state().has_waiting() || self.core.state().updates.has_waiting() {
                pause = pause.min(WISH_POLL);
            }
            self.alive.show(self.core.state(), self.config.poll);
            self.alive.for_up_to(pause);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.inbox.news() => {
                    tracing::debug!("News of mail");
                    return Ok(());
                }
                () = self.watcher.news() => {
                    self.looked().await?;
                    continue;
                }
                () = self.flashing.news() => {
                    self.looked().await?;
                    continue;
                }
                () = self.stop.wanted() => return Err(RunError::Stopped),
            }
            if pause < left {
                self.looked().await?;
                self.feed(Event::Tick).await?;
                self.calm_down().await;
                self.account().await?;
            }
        }
    }

    /// Looks at every mail that is there. Returns how many have left the mailbox.
    async fn poll(&mut self) -> Result<u64, RunError> {
        let first = self.poll_one(Which::First).await?;
        let second = self.poll_one(Which::Second).await?;
        self.feed(Event::MailboxStands { stand: MailboxStand::Read }).await?;
        Ok(first.saturating_add(second))
    }

    async fn poll_one(&mut self, which: Which) -> Result<u64, RunError> {
        self.alive.step();
        let looked = tokio::select! {
            looked = self.inbox.look(which) => looked,
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
        let before = self.inbox.disposed;
        self.feed(Event::MailboxStands { stand: MailboxStand::Ahead }).await?;
        for mail in found {
            self.alive.step();
            let taken = match self.inbox.take(mail) {
                Taken::Offered(mail, envelope, bytes) => {
                    self.feed(Event::Offered { mail, envelope, bytes }).await?;
                    if !self.inbox.is_admitted(mail) {
                        continue;
                    }
                    self.download(mail, bytes).await?
                }
                other => other,
            };
            let taken = match taken {
                Taken::Claims(mail, statements) => {
                    self.weigh(statements).await?;
                    self.inbox.verify(mail, &self.core.state().trust)
                }
                other => other,
            };
            match taken {
                Taken::Event(event) => self.feed(*event).await?,
                Taken::Left(left) => self.left(left),
                Taken::Claims(mail, _) | Taken::Offered(mail, ..) => {
                    tracing::error!(?mail, "A mail was read twice")
                }
            }
        }
        Ok(self.inbox.disposed.saturating_sub(before))
    }

    /// Downloads a mail of that size, and tells what it took.
    async fn download(&mut self, mail: MailHandle, size_bytes: u64) -> Result<Taken, RunError> {
        self.account().await?;
        let began = tokio::time::Instant::now();
        let taken = tokio::select! {
            taken = self.inbox.fetch(mail) => taken,
            () = self.stop.wanted() => return Err(RunError::Stopped),
        };
        let took = began.elapsed();
        let carried = self.config.mail.traffic.take();
        // What came from a folder of this box, or not to its end, says nothing of the line.
        let came = carried.received > 0 && matches!(taken, Taken::Claims(..));
        self.feed(Event::Carried { bytes: carried.bytes() }).await?;
        self.feed(Event::Fetched { bytes: if came { size_bytes } else { 0 }, took }).await?;
        Ok(taken)
    }

    /// Tells the core what the line has carried since it was last told.
    async fn account(&mut self) -> Result<(), RunError> {
        let bytes = self.config.mail.traffic.take().bytes();
        if bytes > 0 {
            self.feed(Event::Carried { bytes }).await?;
        }
        Ok(())
    }

    /// Lets the core weigh what a mail says about whom to trust.
    async fn weigh(&mut self, statements: Vec<Statement>) -> Result<(), RunError> {
        let before = self.core.state().trust.version;
        if !statements.is_empty() {
            self.feed(Event::Introduced { statements }).await?;
        }
        let after = self.core.state().trust.version;
        if after != before {
            tracing::warn!(before, after, "The release keys say whom to trust from now on");
        }
        Ok(())
    }

    /// A mail stays in the mailbox and is looked at again with the next poll.
    fn left(&mut self, left: Left) {
        self.inbox.leave();
        match left {
            Left::Gone => {}
            Left::Unreachable(why) => {
                tracing::warn!(why, "A mail was not fetched");
                self.summary.unreachable = Some(why);
            }
            Left::Local(why) => {
                tracing::warn!(why, "A mail stays in the mailbox");
                self.summary.failed.push(format!("a mail stays in the mailbox: {why}"));
            }
        }
    }

    /// Gives an event to the core and does all that follows from it.
    async fn feed(&mut self, event: Event) -> Result<(), RunError> {
        let mut events = VecDeque::from([event]);
        self.listen_to_people(&mut events);
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
                #[cfg(debug_assertions)]
                self.die_if_told();
                tracing::debug!(effect = effect.name(), "Doing");
                self.promise(&effect);
                events.extend(effects::execute(self, effect).await?);
            }
        }
        Ok(())
    }

    /// What people at the site want is known before anything begins.
    fn listen_to_people(&self, events: &mut VecDeque<Event>) {
        let wishes = self.home.wishes().attend();
        for wish in &wishes {
            tracing::info!(order = %wish.order, by = %wish.by, want = ?wish.want, "Somebody at the site wants something");
        }
        let of_devices = self.home.wishes().attend_devices();
        for wish in &of_devices {
            tracing::info!(device = %wish.device, by = %wish.by, want = ?wish.want, "Somebody at the site wants something");
        }
        let place = usize::from(matches!(events.front(), Some(Event::Started { .. })));
        if !of_devices.is_empty() {
            events.insert(place, Event::DeviceWishes { wishes: of_devices });
        }
        if !wishes.is_empty() {
            events.insert(place, Event::Wishes { wishes });
        }
    }

    /// Says how long an effect may take and what it is for.
    fn promise(&self, effect: &Effect) {
        match effect {
            Effect::RunScript { .. } => self.alive.for_up_to(self.config.script_timeout),
            Effect::RunTest { limit, .. } => self.alive.for_up_to(*limit),
            Effect::Try { .. } => {
                self.alive.for_up_to(self.config.trial_limit.saturating_add(TRIAL_LOOK_LIMIT));
            }
            _ => self.alive.step(),
        }
        self.alive.show(self.core.state(), self.config.poll);
    }

    /// For tests of what a power cut between two effects does; not in release builds.
    #[cfg(debug_assertions)]
    fn die_if_told(&mut self) {
        let Some(left) = self.effects_to_live else { return };
        self.effects_to_live = left.checked_sub(1);
        if self.effects_to_live.is_none() {
            let own = rustix::process::getpid();
            let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
        }
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
            self.alive.step();
            tokio::select! {
                () = tokio::time::sleep(SAVE_AGAIN) => {}
                () = self.stop.wanted() => return Err(RunError::Stopped),
            }
        }
    }
}

/// What the core needs to know of the configuration.
pub(crate) fn profile_of(config: &Config) -> Profile {
    Profile {
        agent: config.agent.clone(),
        classes: config.classes.clone(),
        rules: config.rules,
        counters_every: config.send_counters,
        bill: config.bill.clone(),
    }
}

/// Up to a tenth more or less, so that a fleet that was switched on together does not poll together.
fn jittered(poll: Duration) -> Duration {
    let [byte] = random::<1>();
    let tenth = poll.checked_div(10).unwrap_or_default();
    let part = tenth.saturating_mul(2).saturating_mul(u32::from(byte)).checked_div(255).unwrap_or_default();
    poll.saturating_sub(tenth).saturating_add(part)
}
