//! One simulated box: executes the core's effects on a fake disk, loses power between them, and checks after
//! each what must always hold.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use agent_core::{
    AgentCore, BillDays, BootId, BundleFacts, Disposal, EXIT_PROVEN, Effect, Event, InUse, JunkReason,
    KeyName, Lease, LeaseEnd, MailHandle, Module, ModulesFound, OUTBOX_MAX_COUNT, OpenFault, Outgoing,
    PartFacts, PartFault, Payload, PostResult, Profile, Program, ReadFor, Rules, ScriptEnd, StageFault,
    State,
};
use shared::bundle::ModuleKind;
use shared::keys::{OpeningKey, SigningKey};
use shared::limits::SEEN_MAX_COUNT;
use shared::message::{
    EnrolRequest, Order, Outcome, OutputTail, Phase, Rekeyed, Report, Reported, VersionReport,
};
use shared::trust::Trust;
use shared::{
    AgentId, Digest, EnvelopeId, Label, MailAddress, ModulePath, SoftwareVersion, Spans, UnixMillis,
};

use crate::beside::Beside;
use crate::dice::Dice;
use crate::flashed::Flashed;
use crate::persona::Persona;
use crate::planned::Tests;
use crate::post::{Answer, Content, Mail, Piece, Post, Reader};

/// The trust of this version: each has an order key of its own. A box believes version 1 at first.
pub(crate) fn trust(version: u8) -> Trust {
    let key = |n| SigningKey::from_seed(&[n; 32]).verifying_key();
    let seal = OpeningKey::from_seed(&[0; 32]).sealing_key();
    Trust::new(u32::from(version), UnixMillis(0), vec![key(version)], vec![key(RELEASE_SEED)], 1, seal)
}

/// The seed of the key that signs statements.
pub(crate) const RELEASE_SEED: u8 = 200;

/// All bundles of a world, by their digest.
pub(crate) type Bundles = BTreeMap<Digest, BundleFacts>;

/// A box's way to the mail servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// It works.
    Up,
    /// Nothing passes.
    Down,
}

/// One box.
#[derive(Debug)]
pub(crate) struct SimBox {
    pub(crate) id: AgentId,
    pub(crate) persona: Persona,
    pub(crate) core: AgentCore,
    /// What survives a power cut.
    saved: Vec<u8>,
    pub(crate) dice: Dice,
    /// Its clock is wrong by so many milliseconds.
    clock_offset_ms: i64,
    pub(crate) files: BTreeMap<ModulePath, Digest>,
    /// The agent program that runs.
    program: Digest,
    backups: BTreeMap<EnvelopeId, BTreeMap<ModulePath, Option<Digest>>>,
    kept: BTreeMap<EnvelopeId, Digest>,
    /// Bytes of bodies that come in parts, and heads of their orders.
    parts: BTreeMap<Digest, Spans>,
    heads: BTreeMap<EnvelopeId, (Order, KeyName)>,
    /// Orders that were put together of parts.
    pub(crate) joined: u64,
    /// Its own keys on the disk.
    keys: BTreeSet<KeyName>,
    /// Times that it began to use new keys.
    pub(crate) key_changes: u64,
    /// Sealed reports on the disk: a resend is the same envelope.
    sealed: BTreeMap<u64, (EnvelopeId, Report)>,
    /// Its devices, and the disk with their readings.
    pub(crate) beside: Beside,
    /// What truly happens to their firmware.
    pub(crate) flashed: Flashed,
    tampered: bool,
    damaged: bool,
    /// Times that each order's files were committed, by the time of the commit.
    commits: BTreeMap<EnvelopeId, BTreeSet<UnixMillis>>,
    /// Install orders whose mail was let go as done.
    taken: BTreeSet<EnvelopeId>,
    /// Orders whose end was reported, with the numbers of those reports.
    ended: BTreeMap<EnvelopeId, BTreeSet<u64>>,
    /// Versions that it truly had when it said so.
    pub(crate) true_versions: BTreeSet<SoftwareVersion>,
    pub(crate) power_cuts: u64,
    /// Runs of its system so far.
    boots: u64,
    pub(crate) installs: u64,
    /// Tests that it was to run.
    pub(crate) tests: Tests,
    /// Installs that began when their schedules let them.
    pub(crate) in_time: u64,
    /// Its way to the mail servers.
    pub(crate) line: Line,
    /// Effects until the next cut, for exhaustive tests.
    pub(crate) cut_after: Option<u64>,
    pub(crate) effects: u64,
}

impl SimBox {
    pub(crate) fn new(id: AgentId, persona: Persona, now: UnixMillis, mut dice: Dice) -> Self {
        let request = EnrolRequest {
            agent: id.clone(),
            secret: [7; 32],
            sign_key: Digest::of(id.as_str().as_bytes()).0,
            seal_key: Digest::of(id.as_str().as_bytes()).0,
            mail: MailAddress::parse(&format!("{id}@world.test")).unwrap(),
            agent_version: Label::lossy("0"),
        };
        let state = State::enrolling(request, now, trust(1));
        let beside = Beside::new(id.clone(), &persona, now, Dice::new(dice.below(u64::MAX)));
        let firmware = Digest::of(format!("firmware {id} {}", dice.clone().below(u64::MAX)).as_bytes());
        let firmware = u64::from_be_bytes(firmware.0[..8].try_into().unwrap());
        Self {
            core: AgentCore::new(profile(&id), state.clone()),
            saved: state.encode(),
            flashed: Flashed::new(persona.devices, Dice::new(firmware)),
            id,
            persona,
            dice,
            clock_offset_ms: 0,
            files: BTreeMap::new(),
            program: factory_program(),
            backups: BTreeMap::new(),
            kept: BTreeMap::new(),
            parts: BTreeMap::new(),
            heads: BTreeMap::new(),
            joined: 0,
            keys: BTreeSet::from([KeyName::First]),
            key_changes: 0,
            sealed: BTreeMap::new(),
            beside,
            tampered: false,
            damaged: false,
            commits: BTreeMap::new(),
            taken: BTreeSet::new(),
            ended: BTreeMap::new(),
            true_versions: BTreeSet::new(),
            power_cuts: 0,
            boots: 0,
            installs: 0,
            tests: Tests::default(),
            in_time: 0,
            line: Line::Up,
            cut_after: None,
            effects: 0,
        }
    }

    fn boot(&self) -> BootId {
        BootId(Label::lossy(&self.boots.to_string()))
    }

    fn reader(&self) -> Reader {
        Reader::Agent(self.id.clone())
    }

    /// Switches it on, for the first time or again.
    pub(crate) fn start(&mut self, now: UnixMillis, post: &mut Post, bundles: &Bundles) {
        let state = State::decode(&self.saved).expect("what was saved reads back");
        self.core = AgentCore::new(profile(&self.id), state);
        self.program = self.files.get(&agent_path()).copied().unwrap_or_else(factory_program);
        let program = Program { digest: self.program, file: Some(agent_path()), place: Label::default() };
        let cuts = self.power_cuts;
        self.feed(now, Event::Started { recovered: false, boot: self.boot(), program }, post, bundles);
        // Whoever starts once more has said this already.
        if let Some(watching) = self.beside.watching().filter(|_| self.power_cuts == cuts) {
            self.feed(now, watching, post, bundles);
            if self.power_cuts == cuts {
                self.feed(now, self.flashed.open(), post, bundles);
            }
        }
    }

    /// The whole disk is put back to the copy that was made of it, as far as it is about devices: what it means for orders is
    /// not played.
    pub(crate) fn put_whole_disk_back(
        &mut self,
        copy: &(Vec<u8>, Beside),
        now: UnixMillis,
        post: &mut Post,
        bundles: &Bundles,
    ) {
        let (saved, beside) = copy;
        let older = State::decode(saved).expect("what was saved reads back");
        let mut state = self.saved_state();
        state.watch = older.watch;
        self.saved = state.encode();
        self.beside.put_whole_disk_back(beside);
        self.start(now, post, bundles);
    }

    /// A copy of the disk.
    pub(crate) fn copy_of_disk(&self) -> (Vec<u8>, Beside) {
        (self.saved.clone(), self.beside.clone())
    }

    /// Looks at the mailbox and at the clock.
    pub(crate) fn poll(&mut self, now: UnixMillis, post: &mut Post, bundles: &Bundles) {
        if self.persona.off {
            return;
        }
        if self.dice.chance(self.persona.clock_jumps) {
            // Dead battery, a year ahead and more, or mended.
            let offsets = [-now.0, 3 * 365 * 86_400_000, 0, 0];
            self.clock_offset_ms = offsets[usize::try_from(self.dice.below(4)).unwrap()];
        }
        if self.dice.chance(self.persona.tampering)
            && let Some(path) = self.files.keys().next().cloned()
            && !self.core.state().active.as_ref().is_some_and(agent_core::Install::has_begun)
        {
            self.tampered = true;
            self.files.insert(path, Digest::of(b"edited by hand"));
        }
        if self.dice.chance(self.persona.put_back) && !self.beside.at_rest {
            let lacks = 1 + self.dice.below(12);
            if self.beside.put_disk_back(lacks) {
                self.start(now, post, bundles);
            }
        }
        for looked in self.beside.look(now, self.clock(now)) {
            let looked = self.flashed.dress(now, looked);
            self.feed(now, looked, post, bundles);
        }
        self.people(now, post, bundles);
        self.device_people(now, post, bundles);
        let mails = if self.line == Line::Down { vec![] } else { post.look(&self.reader()) };
        for number in mails {
            let Some(mail) = post.fetch(&self.reader(), number).cloned() else { continue };
            if let Content::Order { statements, .. } = &mail.content
                && !statements.is_empty()
            {
                let (statements, cuts) = (statements.clone(), self.power_cuts);
                self.feed(now, Event::Introduced { statements }, post, bundles);
                if self.power_cuts > cuts {
                    // Who comes back reads the mail from its beginning.
                    continue;
                }
            }
            let event = self.arrival(number, &mail);
            self.feed(now, event, post, bundles);
        }
        self.feed(now, Event::Tick, post, bundles);
        self.check_rest();
    }

    /// What the shell finds out before it asks the core.
    fn arrival(&self, number: u64, mail: &Mail) -> Event {
        let handle = MailHandle(number);
        let junk = |reason| Event::Junk { mail: handle, reason };
        match &mail.content {
            Content::Order { .. } if !mail.intact => junk(JunkReason::Damaged),
            Content::Order { genuine: false, .. } => junk(JunkReason::NotSigned),
            Content::Order { facts, .. } if self.core.state().trust.order_key(facts.signer).is_none() => {
                junk(JunkReason::NotSigned)
            }
            Content::Order { facts, piece: Piece::Whole, .. } => {
                Event::Envelope { mail: handle, facts: *facts }
            }
            Content::Order { facts, piece, .. } => {
                Event::Part { mail: handle, facts: *facts, part: part_of(*piece) }
            }
            Content::Report { .. } => junk(JunkReason::NotSigned),
            Content::Bounce { .. } => junk(JunkReason::Bounce),
            Content::OutOfOffice => junk(JunkReason::AutoReply),
            Content::Junk => junk(JunkReason::Foreign),
        }
    }

    pub(crate) fn clock(&self, now: UnixMillis) -> UnixMillis {
        UnixMillis(now.0 + self.clock_offset_ms)
    }

    pub(crate) fn feed(&mut self, now: UnixMillis, event: Event, post: &mut Post, bundles: &Bundles) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut effects = Vec::new();
            self.core.step(self.clock(now), event, &mut effects);
            for effect in effects {
                if self.power_goes(now, &effect, bundles) {
                    self.power_cuts += 1;
                    // Sometimes only the agent dies.
                    self.boots += self.dice.below(2);
                    return self.start(now, post, bundles);
                }
                self.effects += 1;
                if let Effect::RestartBox { order } = effect {
                    self.explained(order, "awaiting-restart");
                    if self.persona.deaf > 0 {
                        self.persona.deaf -= 1;
                        continue;
                    }
                    self.boots += 1;
                    return self.start(now, post, bundles);
                }
                if self.persona.bricks && matches!(effect, Effect::Switch { .. }) {
                    self.persona.off = true;
                    return;
                }
                let starts = matches!(effect, Effect::Adopt { start: true, .. } | Effect::Become { .. });
                events.extend(self.execute(now, effect, post, bundles));
                if starts {
                    return self.start(now, post, bundles);
                }
            }
        }
    }

    /// Whether the power goes now; some effects are half done then.
    fn power_goes(&mut self, now: UnixMillis, effect: &Effect, bundles: &Bundles) -> bool {
        let goes = match &mut self.cut_after {
            Some(0) => {
                self.cut_after = None;
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => self.dice.chance(self.persona.power_cuts),
        };
        if goes && let Effect::Switch { order, modules } = effect {
            let done = usize::try_from(self.dice.below(modules.len() as u64 + 1)).unwrap();
            self.switch(*order, &modules[..done]);
        }
        if goes && let Effect::Restore { order, .. } = effect {
            let done = self.dice.below(bundles.len() as u64 + 1);
            self.restore(*order, usize::try_from(done).unwrap());
        }
        if goes && let Effect::PushFirmware { update, image } = effect {
            self.cut_off_push(now, update, image);
        }
        goes
    }

    fn switch(&mut self, order: EnvelopeId, modules: &[Module]) {
        for module in modules {
            let old = self.files.get(&module.path).copied();
            if module.kind != ModuleKind::Agent {
                self.files.insert(module.path.clone(), module.digest);
            }
            self.backups.entry(order).or_default().entry(module.path.clone()).or_insert(old);
        }
    }

    fn restore(&mut self, order: EnvelopeId, most: usize) {
        for (path, old) in self.backups.get(&order).cloned().unwrap_or_default().into_iter().take(most) {
            match old {
                Some(digest) => self.files.insert(path, digest),
                None => self.files.remove(&path),
            };
        }
    }

    fn execute(
        &mut self,
        now: UnixMillis,
        effect: Effect,
        post: &mut Post,
        bundles: &Bundles,
    ) -> Option<Event> {
        Some(match effect {
            Effect::Save(bytes) => {
                self.note_saved(&bytes);
                self.saved = bytes;
                return None;
            }
            Effect::Tidy { jobs, reports } => {
                self.backups.retain(|order, _| jobs.contains(order));
                self.kept.retain(|order, _| jobs.contains(order));
                self.sealed.retain(|number, _| reports.iter().any(|r| r.0 == *number));
                return None;
            }
            Effect::Open { mail } => self.open(mail, post),
            Effect::KeepPart { mail, head } => self.keep_part(mail, head, post),
            Effect::Join { order, body } => self.join(order, body),
            Effect::TidyParts { keep } => {
                self.parts.retain(|body, _| keep.iter().any(|(_, kept)| kept == body));
                self.heads.retain(|head, _| keep.iter().any(|(kept, _)| kept == head));
                return None;
            }
            Effect::Dispose { mail, disposal } => {
                self.dispose(mail, disposal, post);
                return None;
            }
            // There is room for all readings; who is to be asked for everything is so every fourth time; people here leave no files.
            Effect::Fetch { .. }
            | Effect::Leave { .. }
            | Effect::LookAgain { .. }
            | Effect::DropReadings { .. }
            | Effect::DropDeviceWish { .. }
            | Effect::DropWish { .. } => return None,
            firmware @ (Effect::AskDevice { .. }
            | Effect::PushFirmware { .. }
            | Effect::ActivateFirmware { .. }
            | Effect::ReadFirmware { .. }) => return self.about_firmware(now, firmware),
            Effect::KeepReading { device, seen, anomalies } => self.beside.keep(&device, *seen, anomalies),
            Effect::CompareReading { mark, there } => self.beside.compare(mark, there),
            Effect::BeginChain { after } => self.beside.begin_chain(after),
            Effect::Inspect { order } => {
                let bundle = self.kept.get(&order).expect("a kept bundle stays until its order's end");
                Event::Inspected { order, result: Ok(Box::new(bundles[bundle].clone())) }
            }
            Effect::ReadModules { read, paths } => {
                assert!(
                    read != ReadFor::Reports || !self.saved_state().active.is_some_and(|i| i.has_begun()),
                    "files are read for a report in the middle of an install"
                );
                let files = paths.iter().filter_map(|p| Some((p.clone(), *self.files.get(p)?))).collect();
                Event::ModulesRead { read, found: ModulesFound { files, rom_version: Label::lossy("1") } }
            }
            Effect::Stage { order, .. } => {
                let full = self.persona.disk_full > 0;
                self.persona.disk_full = self.persona.disk_full.saturating_sub(1);
                // From scratch.
                self.backups.remove(&order);
                Event::Staged { order, result: if full { Err(StageFault::NoSpace) } else { Ok(()) } }
            }
            Effect::ReadUse { order, .. } => {
                self.explained(order, "looking");
                Event::UseRead { order, found: self.in_use(now) }
            }
            Effect::RunScript { order, phase, .. } => self.run_script(now, order, phase),
            Effect::RunTest { order, path, .. } => self.run_test(order, &path),
            Effect::Switch { order, modules } => {
                self.explained(order, "switching");
                self.switch(order, &modules);
                Event::Switched { order, result: Ok(()) }
            }
            Effect::Restore { order, switched } => {
                assert!(!switched || self.backups.contains_key(&order), "{}: old files are gone", self.id);
                self.restore(order, usize::MAX);
                Event::Restored { order, result: Ok(()) }
            }
            Effect::Try { order, module } => self.try_agent(order, &module),
            Effect::Adopt { order, module, start } => {
                self.explained(order, "adopting");
                assert_eq!(start, self.program != module.digest, "{}", self.id);
                self.files.insert(module.path, module.digest);
                Event::Adopted { order, result: Ok(()) }
            }
            Effect::RestartBox { .. } | Effect::Become { .. } => return None,
            Effect::Cleanup { order } => {
                self.backups.remove(&order);
                self.kept.remove(&order);
                return None;
            }
            Effect::MakeKeys { order, keys } => self.make_keys(order, keys),
            Effect::DropKeys { keys } => {
                self.keys.remove(&keys);
                return None;
            }
            Effect::Post(outgoing) => self.mail(now, *outgoing, post),
            Effect::Forget { report } => {
                self.sealed.remove(&report.0);
                return None;
            }
        })
    }

    pub(crate) fn saved_state(&self) -> State {
        State::decode(&self.saved).expect("what was saved reads back")
    }

    fn open(&mut self, handle: MailHandle, post: &Post) -> Event {
        let Some(Mail { content: Content::Order { facts, recipients, order, .. }, .. }) =
            post.fetch(&self.reader(), handle.0)
        else {
            return Event::NotOpened { mail: handle, fault: OpenFault::Local(Label::lossy("gone")) };
        };
        let Some(key) = recipients.get(&self.id).copied() else {
            return Event::NotOpened { mail: handle, fault: OpenFault::Mail(JunkReason::NotForUs) };
        };
        // PROTOCOL 13.4: an order that has not expired is always opened.
        assert!(self.opens(key), "{}: cannot open {order:?}, sealed to {key:?}", self.id);
        let payload = match order {
            Order::Install(install) => {
                self.kept.insert(facts.id, install.bundle);
                Payload::Kept { digest: install.bundle, bytes: install.bundle_bytes }
            }
            Order::Enrolled(_)
            | Order::QueryVersions
            | Order::Cancel(_)
            | Order::Heartbeat(_)
            | Order::Rekey
            | Order::Acknowledge(_)
            | Order::QueryCounters
            | Order::Schedule(_)
            | Order::Test(_)
            | Order::DevicePlan(_) => Payload::Absent,
        };
        self.beside.heard();
        Event::Order { mail: handle, facts: *facts, order: order.clone(), payload, key }
    }

    fn keep_part(&mut self, handle: MailHandle, head: bool, post: &Post) -> Event {
        let Some(Mail { content: Content::Order { facts, recipients, order, piece, .. }, .. }) =
            post.fetch(&self.reader(), handle.0)
        else {
            return Event::NotOpened { mail: handle, fault: OpenFault::Local(Label::lossy("gone")) };
        };
        let part = part_of(*piece);
        let key = recipients.get(&self.id).copied().filter(|key| self.opens(*key));
        // PROTOCOL 13.4: an order that has not expired is always opened.
        assert!(!head || key.is_some() || !recipients.contains_key(&self.id), "{}: cannot open", self.id);
        let result = match key {
            None => Err(PartFault::Open(OpenFault::Mail(JunkReason::NotForUs))),
            Some(key) => {
                if let Some(span) = part.span {
                    assert!(self.parts.entry(part.body).or_default().add(span));
                }
                if head {
                    self.heads.insert(facts.id, (order.clone(), key));
                }
                Ok(())
            }
        };
        Event::PartKept { mail: handle, facts: *facts, part, result }
    }

    fn join(&mut self, order: EnvelopeId, body: Digest) -> Event {
        let transfers = self.saved_state().transfers;
        let bytes = transfers.iter().find(|t| t.facts.id == order).expect("saved before it is joined");
        let here = &self.parts[&body];
        assert!(here.missing(bytes.facts.body_bytes).is_empty(), "{}: {order} has holes", self.id);
        let (message, key) = self.heads[&order].clone();
        let Order::Install(install) = &message else { panic!("{message:?} in parts") };
        self.kept.insert(order, install.bundle);
        self.taken.insert(order);
        self.joined += 1;
        self.beside.heard();
        let payload = Payload::Kept { digest: install.bundle, bytes: install.bundle_bytes };
        let result = if self.opens(key) {
            Ok((message, payload, key))
        } else {
            Err(OpenFault::Mail(JunkReason::NotForUs))
        };
        Event::Joined { order, result }
    }

    /// True if it opens what is sealed to these keys.
    pub(crate) fn opens(&self, key: KeyName) -> bool {
        self.keys.contains(&key) && self.core.state().keys.all().any(|known| known == key)
    }

    fn make_keys(&mut self, order: EnvelopeId, keys: EnvelopeId) -> Event {
        if self.persona.disk_full > 0 {
            self.persona.disk_full -= 1;
            return Event::KeysMade { order, result: Err(Label::lossy("no room")) };
        }
        self.keys.insert(KeyName::Later(keys));
        let mut key = [0; 32];
        key[..EnvelopeId::LEN].copy_from_slice(&keys.0);
        Event::KeysMade { order, result: Ok(Rekeyed { order, sign_key: key, seal_key: key, proof: [0; 64] }) }
    }

    fn dispose(&mut self, handle: MailHandle, disposal: Disposal, post: &mut Post) {
        if let (Disposal::Done, Some(Mail { content: Content::Order { facts, order, piece, .. }, .. })) =
            (disposal, post.fetch(&self.reader(), handle.0))
        {
            if *piece != Piece::Whole {
                self.check_part(facts.id, part_of(*piece));
                return post.delete(&self.reader(), handle.0);
            }
            // PROTOCOL 7.6: what the mail brought is saved before the mail goes.
            assert!(
                self.saved_state().fresh.seen.contains_key(&facts.id),
                "{}: a mail went unsaved",
                self.id
            );
            if matches!(order, Order::Install(_)) {
                self.taken.insert(facts.id);
            }
            self.tests.taken(facts.id, order);
        }
        post.delete(&self.reader(), handle.0);
    }

    /// PROTOCOL 17.3: what a part brought is saved, or its order dealt with, before its mail goes.
    fn check_part(&self, order: EnvelopeId, part: PartFacts) {
        let saved = self.saved_state();
        let transfer = saved.transfers.iter().find(|t| t.body == part.body);
        let held = transfer.is_some_and(|t| part.span.is_none_or(|span| t.held.has(span)));
        assert!(held || saved.fresh.seen.contains_key(&order), "{}: a part went unsaved", self.id);
    }

    fn run_script(&mut self, now: UnixMillis, order: EnvelopeId, phase: Phase) -> Event {
        let state = match phase {
            Phase::Check => "checking",
            Phase::Pre => "pre",
            Phase::Post => "post",
            Phase::Verify => "verifying",
            Phase::Undo => "undoing",
            Phase::Stage | Phase::Switch | Phase::Prove => panic!("{phase} is no script phase"),
        };
        self.explained(order, state);
        if phase == Phase::Pre {
            self.check_time(now);
        }
        let mut code = 0;
        if phase == Phase::Check && self.persona.not_now > 0 {
            self.persona.not_now -= 1;
            code = 75;
        } else if phase == Phase::Post && self.persona.restarts > 0 {
            self.persona.restarts -= 1;
            code = 76;
        } else if self.fails_in(phase) {
            code = 1;
        }
        Event::ScriptEnded { order, phase, end: ScriptEnd::Exit(code), output: OutputTail::default() }
    }

    fn fails_in(&mut self, phase: Phase) -> bool {
        match &mut self.persona.fails {
            Some((failing, times)) if *failing == phase && *times > 0 => {
                *times -= 1;
                true
            }
            _ => false,
        }
    }

    /// PROTOCOL 6.8: what is not proven is not what a power cut would start.
    fn try_agent(&mut self, order: EnvelopeId, module: &Module) -> Event {
        self.explained(order, "proving");
        let there = self.files.get(&module.path).copied().unwrap_or_else(factory_program);
        assert_eq!(there, self.program, "{}: an agent is in place before it is proven", self.id);
        let end = ScriptEnd::Exit(if self.fails_in(Phase::Prove) { 1 } else { EXIT_PROVEN });
        Event::Tried { order, end, output: OutputTail::default() }
    }

    fn in_use(&mut self, now: UnixMillis) -> InUse {
        let leased = self.persona.leases > 0;
        self.persona.leases = self.persona.leases.saturating_sub(1);
        let read_at = self.clock(now);
        let lease = Lease {
            owner: Label::lossy("billing"),
            reason: Label::lossy("metering run"),
            taken: read_at,
            end: LeaseEnd::Restart(self.boot()),
            modules: vec![],
        };
        InUse { read_at, leases: if leased { vec![lease] } else { vec![] }, running: vec![] }
    }

    /// What is done now is what the saved state says is being done.
    fn explained(&self, order: EnvelopeId, name: &str) {
        let active = self.saved_state().active.expect("an install is saved before it acts");
        assert_eq!((active.job().order, active.name()), (order, name), "{}: acts before it saves", self.id);
    }

    fn mail(&mut self, now: UnixMillis, outgoing: Outgoing, post: &mut Post) -> Event {
        let number = outgoing.sequence;
        let waits = self.saved_state().outbox.waiting.iter().any(|q| q.sequence == number);
        assert!(waits, "{}: a report was posted before it was saved", self.id);
        assert!(self.keys.contains(&outgoing.signer), "{}: signs with keys that are gone", self.id);
        let (envelope, report) = self.seal(&outgoing);
        self.tests.said(number.0, &report);
        if let Report::Ended(ended) = &outgoing.report {
            self.ended.entry(ended.order).or_default().insert(number.0);
        }
        let content = Content::Report {
            signer: self.id.clone(),
            key: outgoing.signer,
            envelope,
            sequence: number.0,
            report,
        };
        if let Report::Faults(faults) = &outgoing.report {
            self.beside.tells(faults.number, number.0);
        }
        let answer = match self.line {
            Line::Down => Answer::Later,
            Line::Up => post.submit(now, &Reader::Manager, content, false),
        };
        let result = match answer {
            Answer::Taken => PostResult::Done,
            Answer::Later | Answer::Never => PostResult::Later(Label::lossy("later")),
        };
        Event::Posted { report: number, result }
    }

    /// Seals a report once. Readings come in only now.
    fn seal(&mut self, outgoing: &Outgoing) -> (EnvelopeId, Report) {
        let Self { sealed, dice, beside, .. } = self;
        let seal = || {
            let mut report = outgoing.report.clone();
            if let Report::Counters(counters) = &mut report {
                beside.pack(counters);
            }
            (dice.envelope_id(), report)
        };
        sealed.entry(outgoing.sequence.0).or_insert_with(seal).clone()
    }

    /// Looks at what is saved now: commits, and reports that are about to be sent.
    fn note_saved(&mut self, bytes: &[u8]) {
        let before = self.saved_state();
        let after = State::decode(bytes).expect("what is saved reads back");
        if let Some(end) = after.last_end.as_ref().filter(|end| before.last_end.as_ref() != Some(end)) {
            if end.outcome == Outcome::Installed {
                self.installs += 1;
                self.commits.entry(end.order).or_default().insert(end.at);
                // PROTOCOL 7.3
                assert_eq!(
                    self.commits[&end.order].len(),
                    1,
                    "{}: {} was executed twice",
                    self.id,
                    end.order
                );
                self.tampered = false;
            }
            self.damaged |= matches!(end.outcome, Outcome::Damaged(_));
        }
        for queued in after.outbox.waiting.iter().filter(|q| q.sequence >= before.outbox.next) {
            if let Report::DeviceUpdates(updates) = &queued.report {
                self.check_rows(&updates.updates);
            }
            if let Some(VersionReport { software: Reported::Exact(version), modules, .. }) =
                versions(&queued.report)
            {
                let installed = after.installed.as_ref().expect("an exact version is an installed one");
                assert_eq!(modules.len(), installed.modules.len());
                for module in &installed.modules {
                    assert_eq!(
                        self.files.get(&module.path),
                        Some(&module.digest),
                        "{}: says {version}, but {} is another file",
                        self.id,
                        module.path
                    );
                }
                self.true_versions.insert(version.clone());
            }
        }
        assert!(after.fresh.seen.len() <= SEEN_MAX_COUNT && after.outbox.waiting.len() <= OUTBOX_MAX_COUNT);
        // PROTOCOL 11.6: it falls only with a key that has raised it.
        let same_trust = after.trust.version == before.trust.version;
        assert!(
            !same_trust || after.fresh.clock_floor() >= before.fresh.clock_floor(),
            "the clock floor fell"
        );
        assert!(after.trust.version >= before.trust.version, "an older trust came back");
        let named = after.keys.next.map(KeyName::Later).into_iter().chain([after.keys.current]);
        named.for_each(|key| assert!(self.keys.contains(&key), "{}: names keys that are not there", self.id));
        self.beside.note_saved(&after);
        self.key_changes += u64::from(after.keys.current != before.keys.current);
    }

    /// At rest, the files are exactly those of the installed version.
    fn check_rest(&self) {
        let state = self.core.state();
        let gathered = |body: &Digest| state.transfers.iter().any(|t| t.body == *body);
        assert!(self.parts.keys().all(gathered), "{}: parts are left over", self.id);
        if state.active.is_some() || self.tampered || self.damaged {
            return;
        }
        let expected: BTreeMap<ModulePath, Digest> = state
            .installed
            .iter()
            .flat_map(|installed| &installed.modules)
            .map(|m| (m.path.clone(), m.digest))
            .collect();
        assert_eq!(self.files, expected, "{}: the files are neither old nor new", self.id);
        let there = self.files.get(&agent_path()).copied().unwrap_or_else(factory_program);
        assert_eq!(self.program, there, "{}: another agent runs than the one that is there", self.id);
        // One whose time was over when it was to be tried again keeps its folder until then.
        let waits = |order: &EnvelopeId| state.queue.iter().any(|job| job.order == *order);
        assert!(self.backups.keys().all(waits), "{}: old files are left over", self.id);
    }

    /// In the end, every order that was taken has exactly one end, which was reported.
    pub(crate) fn check_end(&self) {
        let state = self.core.state();
        for order in &self.taken {
            let waits = state.queue.iter().any(|job| job.order == *order)
                || state.transfers.iter().any(|t| t.facts.id == *order)
                || state.active.as_ref().is_some_and(|install| install.job().order == *order);
            let reports = self.ended.get(order).map_or(0, BTreeSet::len);
            assert_eq!(reports + usize::from(waits), 1, "{}: order {order} has {reports} ends", self.id);
        }
        self.check_tests();
    }

    /// True if it has exactly this version's files.
    pub(crate) fn has(&self, bundle: &BundleFacts) -> bool {
        bundle.modules.iter().all(|m| self.files.get(&m.path) == Some(&m.digest))
    }
}

/// What a mail brings of a body that comes in parts.
fn part_of(piece: Piece) -> PartFacts {
    match piece {
        Piece::Part(body, span) => PartFacts { body, part_bytes: 0, span: Some(span) },
        Piece::Head(body) => PartFacts { body, part_bytes: 0, span: None },
        Piece::Whole => panic!("no part"),
    }
}

/// Where a bundle's agent goes.
pub(crate) fn agent_path() -> ModulePath {
    ModulePath::parse("bin/agent").expect("a path")
}

/// The agent that a box comes with. It is no module yet.
fn factory_program() -> Digest {
    Digest::of(b"factory")
}

fn profile(id: &AgentId) -> Profile {
    let counters_every = Some(Duration::from_secs(3 * 86_400));
    let bill = BillDays { days: BTreeSet::from([1, 20, 31]), utc_offset_minutes: 9 * 60 };
    Profile { agent: id.clone(), classes: vec![], rules: Rules::default(), counters_every, bill }
}

fn versions(report: &Report) -> Option<&VersionReport> {
    match report {
        Report::Ended(ended) => Some(&ended.versions),
        Report::Versions(versions) => Some(&versions.versions),
        Report::Enrol(_)
        | Report::Progress(_)
        | Report::Cancelled(_)
        | Report::Standing(_)
        | Report::Rekeyed(_)
        | Report::Faults(_)
        | Report::Counters(_)
        | Report::Fetch(_)
        | Report::Parts(_)
        | Report::Tested(_)
        | Report::DeviceUpdates(_) => None,
    }
}
