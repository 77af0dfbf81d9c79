//! What happens to an agent: the only input of the core. Each variant says which effect it answers.

use core::time::Duration;

use shared::device::{DeviceName, Observation};
use shared::message::{Linked, Order, OutputTail, Phase, ReadingMark, Rekeyed};
use shared::trust::Statement;
use shared::{EnvelopeId, Label};

use crate::busy::{BootId, InUse};
use crate::effect::ReadFor;
use crate::facts::{BundleFacts, EnvelopeFacts, JunkReason, MailHandle, ModulesFound, PartFacts, Payload};
use crate::firmware::{DeviceWish, PushEnd, Readiness, Shown, UpdateName};
use crate::outbox::ReportSeq;
use crate::program::Program;
use crate::rekey::KeyName;
use crate::watch::{Look, LookFault};
use crate::wish::Wish;

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The agent starts, for the first time or after a stop of any kind. Always the first event.
    Started {
        /// The newest state was lost and an older copy taken.
        recovered: bool,
        /// The run of the box's system.
        boot: BootId,
        /// The program that starts.
        program: Program,
    },
    /// Time has passed; `next_wake` is due, or the shell just asks.
    Tick,
    /// A mail lies in the mailbox that claims to bring something of the manager's. Nobody has checked that.
    Offered {
        /// The mail.
        mail: MailHandle,
        /// The envelope that its headers name.
        envelope: EnvelopeId,
        /// Its size.
        bytes: u64,
    },
    /// Answers [`Effect::Fetch`](crate::Effect::Fetch), if the mail was asked for; what is in it is told apart from this.
    Fetched {
        /// Bytes that have come.
        bytes: u64,
        /// How long that took.
        took: Duration,
    },
    /// The connections to mail servers have carried so many more bytes, in both directions.
    Carried {
        /// How many.
        bytes: u64,
    },
    /// The agent ends, with nothing left to do. Always the last event, if it comes.
    Closing,
    /// A mail is no order of ours; the shell found out before the core was asked.
    Junk {
        /// The mail.
        mail: MailHandle,
        /// Why.
        reason: JunkReason,
    },
    /// A mail brought trust statements, before its envelope. Nobody has checked them.
    Introduced {
        /// The statements, oldest first.
        statements: Vec<Statement>,
    },
    /// A mail holds an envelope whose header bears the manager's signature.
    Envelope {
        /// The mail.
        mail: MailHandle,
        /// What the header says.
        facts: EnvelopeFacts,
    },
    /// Answers [`Effect::Open`](crate::Effect::Open): the envelope's message, and its payload on the disk.
    Order {
        /// The mail.
        mail: MailHandle,
        /// What the header says.
        facts: EnvelopeFacts,
        /// The message.
        order: Order,
        /// What came after it.
        payload: Payload,
        /// Which of the agent's keys has opened it.
        key: KeyName,
    },
    /// A mail holds a part of an envelope's body, or its head alone. The header bears the manager's signature.
    Part {
        /// The mail.
        mail: MailHandle,
        /// What the header says of the envelope.
        facts: EnvelopeFacts,
        /// What the mail brings of its body.
        part: PartFacts,
    },
    /// Answers [`Effect::KeepPart`](crate::Effect::KeepPart).
    PartKept {
        /// The mail.
        mail: MailHandle,
        /// What the header says of the envelope.
        facts: EnvelopeFacts,
        /// What the mail brings of its body.
        part: PartFacts,
        /// Whether it is on the disk, checked and synced.
        result: Result<(), PartFault>,
    },
    /// Answers [`Effect::Join`](crate::Effect::Join): the message of an order whose parts are all here, and its payload on the disk.
    Joined {
        /// The order.
        order: EnvelopeId,
        /// The message, its payload and the key that has opened it.
        result: Result<(Order, Payload, KeyName), OpenFault>,
    },
    /// Answers [`Effect::Open`](crate::Effect::Open): it did not work.
    NotOpened {
        /// The mail.
        mail: MailHandle,
        /// Why.
        fault: OpenFault,
    },
    /// Answers [`Effect::Inspect`](crate::Effect::Inspect).
    Inspected {
        /// The order.
        order: EnvelopeId,
        /// The manifest, verified with the release keys.
        result: Result<Box<BundleFacts>, InspectFault>,
    },
    /// Answers [`Effect::ReadModules`](crate::Effect::ReadModules).
    ModulesRead {
        /// For whom.
        read: ReadFor,
        /// What is there.
        found: ModulesFound,
    },
    /// Answers [`Effect::Stage`](crate::Effect::Stage).
    Staged {
        /// The order.
        order: EnvelopeId,
        /// Whether all files lie ready, checked and synced.
        result: Result<(), StageFault>,
    },
    /// Answers [`Effect::ReadUse`](crate::Effect::ReadUse).
    UseRead {
        /// The order.
        order: EnvelopeId,
        /// What is in use.
        found: InUse,
    },
    /// Answers [`Effect::RunScript`](crate::Effect::RunScript).
    ScriptEnded {
        /// The order.
        order: EnvelopeId,
        /// The phase that ran.
        phase: Phase,
        /// How it ended.
        end: ScriptEnd,
        /// Tail of its output.
        output: OutputTail,
    },
    /// Answers [`Effect::Switch`](crate::Effect::Switch).
    Switched {
        /// The order.
        order: EnvelopeId,
        /// Whether all files are in place and synced; if not, some may be.
        result: Result<(), Label>,
    },
    /// Answers [`Effect::Try`](crate::Effect::Try).
    Tried {
        /// The order.
        order: EnvelopeId,
        /// How the trial ended.
        end: ScriptEnd,
        /// Tail of its output.
        output: OutputTail,
    },
    /// Answers [`Effect::Adopt`](crate::Effect::Adopt), unless another program starts.
    Adopted {
        /// The order.
        order: EnvelopeId,
        /// Whether the file is in place and synced.
        result: Result<(), Label>,
    },
    /// Answers [`Effect::Restore`](crate::Effect::Restore).
    Restored {
        /// The order.
        order: EnvelopeId,
        /// Whether all old files are back and synced.
        result: Result<(), Label>,
    },
    /// Answers [`Effect::RunTest`](crate::Effect::RunTest).
    TestEnded {
        /// The order.
        order: EnvelopeId,
        /// How it ended.
        end: ScriptEnd,
        /// Tail of its output.
        output: OutputTail,
    },
    /// People at the site want something. Each is answered with [`Effect::DropWish`](crate::Effect::DropWish); until then it is told again.
    Wishes {
        /// What they want.
        wishes: Vec<Wish>,
    },
    /// A look at the mailbox has begun to be read, or has been read to its end. Over a thin line hours may lie between.
    MailboxStands {
        /// Which of the two.
        stand: MailboxStand,
    },
    /// Answers [`Effect::MakeKeys`](crate::Effect::MakeKeys).
    KeysMade {
        /// The order.
        order: EnvelopeId,
        /// The keys with their proof, or why there are none: tried again.
        result: Result<Rekeyed, Label>,
    },
    /// These devices are watched from now on, and this is kept of their readings. Comes after `Started`.
    Watching {
        /// The devices.
        devices: Vec<DeviceName>,
        /// The newest reading on the disk.
        head: Option<ReadingMark>,
        /// The last reading of each device that is on the disk.
        last: Vec<(DeviceName, Observation)>,
    },
    /// A device was asked.
    Looked {
        /// The device.
        device: DeviceName,
        /// How much it was asked.
        look: Look,
        /// What it said.
        result: Result<Box<Observation>, LookFault>,
    },
    /// Answers [`Effect::KeepReading`](crate::Effect::KeepReading), if it worked.
    ReadingKept {
        /// The device.
        device: DeviceName,
        /// Its place.
        mark: ReadingMark,
    },
    /// Answers [`Effect::CompareReading`](crate::Effect::CompareReading).
    ReadingCompared {
        /// The place.
        mark: ReadingMark,
        /// How the reading there stands to the manager's.
        compared: Compared,
    },
    /// Answers [`Effect::BeginChain`](crate::Effect::BeginChain).
    ChainBegun {
        /// The newest reading in it.
        head: Option<ReadingMark>,
    },
    /// These devices are open for firmware: their site says so. Comes after `Watching`; until then none is.
    OpenForFirmware {
        /// The devices.
        devices: Vec<DeviceName>,
    },
    /// Answers [`Effect::AskDevice`](crate::Effect::AskDevice).
    DeviceAnswered {
        /// The update.
        update: UpdateName,
        /// What the device says.
        answer: Readiness,
    },
    /// A transfer goes on.
    PushGoes {
        /// The update.
        update: UpdateName,
        /// Bytes that have left.
        sent_bytes: u64,
    },
    /// Answers [`Effect::PushFirmware`](crate::Effect::PushFirmware).
    Pushed {
        /// The update.
        update: UpdateName,
        /// How the transfer ended.
        end: PushEnd,
    },
    /// Answers [`Effect::ActivateFirmware`](crate::Effect::ActivateFirmware).
    Activated {
        /// The update.
        update: UpdateName,
        /// Whether the device was told, or needs no word.
        result: Result<(), Label>,
    },
    /// Answers [`Effect::ReadFirmware`](crate::Effect::ReadFirmware).
    FirmwareRead {
        /// The update.
        update: UpdateName,
        /// What the device shows, or that it does not answer.
        result: Result<Shown, Label>,
    },
    /// People at the site want something of devices' updates. Each is answered with
    /// [`Effect::DropDeviceWish`](crate::Effect::DropDeviceWish); until then it is told again.
    DeviceWishes {
        /// What they want.
        wishes: Vec<DeviceWish>,
    },
    /// Answers [`Effect::Post`](crate::Effect::Post).
    Posted {
        /// The report.
        report: ReportSeq,
        /// What became of it.
        result: PostResult,
    },
}

/// How a reading stands to the one that the manager has in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// It is the same one, and so are all before it; or it is not kept any more, and was said to be the same before.
    Same,
    /// It is another one, and all before it are the same.
    FirstOther,
    /// It is another one, and not the first.
    Other,
}

impl Compared {
    /// Compares. `here`: the reading that is kept there, if there still is one.
    #[must_use]
    pub fn of(here: Option<Linked>, there: Linked) -> Self {
        match here {
            None => Self::Same,
            Some(here) if here.digest == there.digest => Self::Same,
            // Each names the one before it, so two that name the same one have the same before them.
            Some(here) if here.previous == there.previous => Self::FirstOther,
            Some(_) => Self::Other,
        }
    }
}

/// Why an envelope was not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenFault {
    /// The mail is to blame: it goes away and is counted.
    Mail(JunkReason),
    /// This box is to blame (disk full): the mail stays and is tried again.
    Local(Label),
}

/// How far the mailbox has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailboxStand {
    /// Mails are still to be read: what is missing may be among them.
    Ahead,
    /// To its end, as it was when it was looked at.
    Read,
}

/// Why a part was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartFault {
    /// As for a whole envelope.
    Open(OpenFault),
    /// The body is larger than this agent takes: its order is refused.
    Refused(Label),
}

/// Why a kept bundle is not usable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InspectFault {
    /// No known release key has signed it.
    NotSigned,
    /// It cannot be read as a bundle.
    Bad(Label),
    /// The disk failed.
    Io(Label),
}

/// Why a bundle was not staged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StageFault {
    /// Too little room: tried again later.
    NoSpace,
    /// It is a delta, made for other files than those that are here.
    OtherBase(Label),
    /// The content is not what the manifest says.
    Bad(Label),
    /// The disk failed.
    Io(Label),
}

/// How a run of the script ended, of a test, or a trial of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScriptEnd {
    /// With this exit code.
    Exit(i32),
    /// By this signal.
    Signal(i32),
    /// By us, after this many seconds.
    Timeout(u64),
    /// It could not be started.
    NotRun(Label),
}

/// What became of a report that was handed to the mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PostResult {
    /// The relay has taken it.
    Done,
    /// Not now: tried again.
    Later(Label),
    /// The relay refuses it for good. Tried again all the same, rarely: a wrong filter can be mended, and
    /// a result that is dropped cannot.
    Never(Label),
}
