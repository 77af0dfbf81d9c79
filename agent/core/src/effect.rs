//! What an agent wants done: the only output of the core. The shell does effects in their order and decides
//! nothing; each variant says which event answers it.

use core::time::Duration;

use shared::device::{DeviceName, Observation};
use shared::message::{Linked, Phase, ReadingMark, Report};
use shared::reading::Anomaly;
use shared::{Digest, EnvelopeId, Label, ModulePath, SoftwareVersion, UnixMillis};

use crate::facts::{JunkReason, MailHandle, Module};
use crate::firmware::{Image, UpdateName};
use crate::outbox::ReportSeq;
use crate::rekey::KeyName;

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make this state durable before the next effect begins. `State::decode` reads it back.
    Save(Vec<u8>),
    /// Remove whatever belongs to other jobs and reports: leftovers of an interruption.
    Tidy {
        /// Jobs whose bundle and folder stay.
        jobs: Vec<EnvelopeId>,
        /// Reports whose sealed bytes stay.
        reports: Vec<ReportSeq>,
    },
    /// Download the mail. Answer: `Fetched`, and then what is in it.
    Fetch {
        /// The mail.
        mail: MailHandle,
    },
    /// Open the envelope; keep an install order's payload on the disk. Answer: `Order` or `NotOpened`.
    Open {
        /// The mail.
        mail: MailHandle,
    },
    /// Check the mail's part against its header, and keep it beside the others of its body: durable before it is answered.
    /// Answer: `PartKept`.
    KeepPart {
        /// The mail.
        mail: MailHandle,
        /// Its head is to be kept as well.
        head: bool,
    },
    /// Open the order whose parts are all here; keep its payload on the disk. Answer: `Joined`.
    Join {
        /// The order.
        order: EnvelopeId,
        /// Its body.
        body: Digest,
    },
    /// Remove the heads and parts of all other orders.
    TidyParts {
        /// Orders that are gathered, and their bodies.
        keep: Vec<(EnvelopeId, Digest)>,
    },
    /// The mail is dealt with.
    Dispose {
        /// The mail.
        mail: MailHandle,
        /// What becomes of it.
        disposal: Disposal,
    },
    /// The mail stays in the mailbox and is looked at again with the next poll.
    Leave {
        /// The mail.
        mail: MailHandle,
    },
    /// Read the kept bundle's manifest and verify its signatures. Answer: `Inspected`.
    Inspect {
        /// The order.
        order: EnvelopeId,
    },
    /// Hash the files at these paths. Answer: `ModulesRead`.
    ReadModules {
        /// For whom.
        read: ReadFor,
        /// Where.
        paths: Vec<ModulePath>,
    },
    /// Unpack the kept bundle beside the root, from scratch, and check every digest. Answer: `Staged`.
    Stage {
        /// The order.
        order: EnvelopeId,
        /// The modules that must come out.
        modules: Vec<Module>,
        /// Bytes of all files together.
        unpacked_bytes: u64,
    },
    /// Look which of these modules are in use, and for leases. Answer: `UseRead`.
    ReadUse {
        /// The order.
        order: EnvelopeId,
        /// The modules that are to be replaced.
        modules: Vec<Module>,
    },
    /// Run the staged script. Answer: `ScriptEnded`.
    RunScript {
        /// The order.
        order: EnvelopeId,
        /// Its argument.
        phase: Phase,
        /// What was installed when the job began; `None`: nothing.
        from: Option<SoftwareVersion>,
        /// What is to be installed.
        to: SoftwareVersion,
    },
    /// Keep the old files and put the staged ones in place, all but an agent's. Answer: `Switched`.
    Switch {
        /// The order.
        order: EnvelopeId,
        /// The modules.
        modules: Vec<Module>,
    },
    /// Let the staged agent prove itself: run it as a child that writes nothing, with a time limit; first see whether this
    /// agent can read its mailbox, for then that one must too. Answer: `Tried`.
    Try {
        /// The order.
        order: EnvelopeId,
        /// The agent.
        module: Module,
    },
    /// Put the staged agent in place of the one that runs, and become it if `start` says so. Answer: `Adopted`; or
    /// `Event::Started` in the other program.
    Adopt {
        /// The order.
        order: EnvelopeId,
        /// The agent.
        module: Module,
        /// The program that runs is another one.
        start: bool,
    },
    /// The file that this agent runs from was replaced: become what is there now. No answer but `Event::Started`.
    Become {
        /// Where it is.
        path: ModulePath,
    },
    /// Put the old files back, as far as `Switch` came. Answer: `Restored`.
    Restore {
        /// The order.
        order: EnvelopeId,
        /// `Switch` was done: if what it kept is gone, the old files cannot be put back.
        switched: bool,
    },
    /// Have the box restarted, if the agent was told how; else somebody else does it. No answer but
    /// `Event::Started` in another run of the box's system. May be done again.
    RestartBox {
        /// The order.
        order: EnvelopeId,
    },
    /// Remove the job's folder and its kept bundle.
    Cleanup {
        /// The order.
        order: EnvelopeId,
    },
    /// Run a module that is installed, and good, as a test. Answer: `TestEnded`.
    RunTest {
        /// The order.
        order: EnvelopeId,
        /// The module's file.
        path: ModulePath,
        /// Its arguments.
        args: Vec<Label>,
        /// How long it may take.
        limit: Duration,
    },
    /// A person's wish was granted or not: forget it.
    DropWish {
        /// What it was about.
        order: EnvelopeId,
    },
    /// Make a pair of keys of this name, unless it is there: durable before it is answered. Answer: `KeysMade`.
    MakeKeys {
        /// The order that is answered with them.
        order: EnvelopeId,
        /// Their name, `KeyName::Later`.
        keys: EnvelopeId,
    },
    /// Remove a pair of keys.
    DropKeys {
        /// Their name.
        keys: KeyName,
    },
    /// Seal the report, once, keep the sealed bytes, and mail them. A counter report gets its readings now: as many after
    /// its `after` as it may hold. Answer: `Posted`.
    Post(Box<Outgoing>),
    /// Remove the report's sealed bytes.
    Forget {
        /// The report.
        report: ReportSeq,
    },
    /// Sign the observation as the next reading of the chain and make it durable. Answer: `ReadingKept`; none if the
    /// disk is full: then the next reading is the next one.
    KeepReading {
        /// The device.
        device: DeviceName,
        /// What was seen.
        seen: Box<Observation>,
        /// What of it does not follow from the reading before.
        anomalies: Vec<Anomaly>,
    },
    /// Ask the device for everything with its next look. Answer: `Looked`.
    LookAgain {
        /// The device.
        device: DeviceName,
    },
    /// Compare the reading at this place with the manager's. Answer: `ReadingCompared`; none if the disk fails.
    CompareReading {
        /// The place, in the present chain.
        mark: ReadingMark,
        /// The reading that the manager has there.
        there: Linked,
    },
    /// Begin another chain, under a number that was never used, with the readings of the present one after this index: what
    /// they say stays, and is signed anew in its new place. All of it, or nothing. Answer: `ChainBegun`; none if the disk
    /// fails: then the manager will say again what has led to it.
    BeginChain {
        /// The readings up to this one are left behind: the manager has them.
        after: u64,
    },
    /// The manager has the readings up to this one: they may go when room is needed.
    DropReadings {
        /// The newest one that it has.
        upto: ReadingMark,
    },
    /// Ask the device whether it takes this firmware now: it answers, does no work, has no fault that forbids it, is of the image's model
    /// and takes firmware this way (R7, R8). Nothing of the image is sent. Answer: `DeviceAnswered`.
    AskDevice {
        /// The update.
        update: UpdateName,
        /// The image.
        image: Box<Image>,
    },
    /// Send the image to the device, beside whatever else happens. Its file was compared with its digest a moment ago. Never done twice for
    /// one effect, whatever goes wrong. Answer: `Pushed`, and `PushGoes` on the way.
    PushFirmware {
        /// The update.
        update: UpdateName,
        /// The image.
        image: Box<Image>,
    },
    /// Tell the device to take what it has, if its handler has a word for that. Never done twice for one effect. Answer: `Activated`.
    ActivateFirmware {
        /// The update.
        update: UpdateName,
        /// The image.
        image: Box<Image>,
    },
    /// Ask the device which version of the firmware it has, and whether it is at work. Answer: `FirmwareRead`.
    ReadFirmware {
        /// The update.
        update: UpdateName,
        /// The image.
        image: Box<Image>,
    },
    /// A person's wish about a device was granted or not: forget it.
    DropDeviceWish {
        /// The device.
        device: DeviceName,
    },
}

impl Effect {
    /// Its name, for logs and transcripts.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Save(_) => "save",
            Self::Tidy { .. } => "tidy",
            Self::Fetch { .. } => "fetch",
            Self::Open { .. } => "open",
            Self::KeepPart { .. } => "keep-part",
            Self::Join { .. } => "join",
            Self::TidyParts { .. } => "tidy-parts",
            Self::Dispose { .. } => "dispose",
            Self::Leave { .. } => "leave",
            Self::Inspect { .. } => "inspect",
            Self::ReadModules { .. } => "read-modules",
            Self::Stage { .. } => "stage",
            Self::ReadUse { .. } => "read-use",
            Self::RunScript { .. } => "run-script",
            Self::Switch { .. } => "switch",
            Self::Try { .. } => "try",
            Self::Adopt { .. } => "adopt",
            Self::Become { .. } => "become",
            Self::Restore { .. } => "restore",
            Self::RestartBox { .. } => "restart-box",
            Self::Cleanup { .. } => "cleanup",
            Self::RunTest { .. } => "run-test",
            Self::DropWish { .. } => "drop-wish",
            Self::MakeKeys { .. } => "make-keys",
            Self::DropKeys { .. } => "drop-keys",
            Self::Post(_) => "post",
            Self::Forget { .. } => "forget",
            Self::KeepReading { .. } => "keep-reading",
            Self::LookAgain { .. } => "look-again",
            Self::CompareReading { .. } => "compare-reading",
            Self::BeginChain { .. } => "begin-chain",
            Self::DropReadings { .. } => "drop-readings",
            Self::AskDevice { .. } => "ask-device",
            Self::PushFirmware { .. } => "push-firmware",
            Self::ActivateFirmware { .. } => "activate-firmware",
            Self::ReadFirmware { .. } => "read-firmware",
            Self::DropDeviceWish { .. } => "drop-device-wish",
        }
    }
}

/// What becomes of a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposal {
    /// It was an order and is done with, or a copy of one.
    Done,
    /// It was no order of ours: deleted or put aside.
    Junk(JunkReason),
}

/// Who asked for the modules' digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFor {
    /// Reports that are owed to the manager.
    Reports,
    /// The running install.
    Install(EnvelopeId),
    /// A test that is to be run.
    Test(EnvelopeId),
    /// A firmware that is to be sent to a device, by its digest.
    Firmware(Digest),
}

/// A report on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Its number, which becomes the envelope's sequence.
    pub sequence: ReportSeq,
    /// The envelope's creation time.
    pub created: UnixMillis,
    /// The envelope's expiry.
    pub expires: UnixMillis,
    /// The keys that sign it.
    pub signer: KeyName,
    /// The message.
    pub report: Report,
}
