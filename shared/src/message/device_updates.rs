//! How the updates of devices go: one row for each device and type of firmware (R6, R12).

use minicbor::{Decode, Encode};

use crate::bounded;
use crate::device::DeviceName;
use crate::id::{Digest, EnvelopeId, Label};
use crate::limits::DEVICE_UPDATES_MAX_COUNT;
use crate::time::UnixMillis;

/// What has changed, or all of it as the answer to a plan.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct DeviceUpdates {
    /// The plan that is followed.
    #[n(0)]
    pub plan: EnvelopeId,
    /// The bundle.
    #[n(1)]
    pub bundle: Digest,
    /// True: these are all, and what the manager knows beside them is not so any more. False: these have changed.
    #[n(2)]
    pub all: bool,
    /// The rows, by device and type.
    #[cbor(n(3), decode_with = "bounded::list::<_, _, DEVICE_UPDATES_MAX_COUNT>")]
    pub updates: Vec<DeviceUpdate>,
}

/// One firmware on its way to one device.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct DeviceUpdate {
    /// The device.
    #[n(0)]
    pub device: DeviceName,
    /// Type of the firmware; empty if the device gets none at all.
    #[n(1)]
    pub kind: Label,
    /// The device's maker, if it says it.
    #[n(2)]
    pub vendor: Option<Label>,
    /// Its model, if it says it.
    #[n(3)]
    pub model: Option<Label>,
    /// Its serial number, if it says one.
    #[n(4)]
    pub serial: Option<Label>,
    /// The version that it had before.
    #[n(5)]
    pub old: Option<Label>,
    /// The version that it is to have; `None`: there is no firmware for it.
    #[n(6)]
    pub new: Option<Label>,
    /// How far it is.
    #[n(7)]
    pub state: UpdateState,
    /// Why it is so.
    #[n(8)]
    pub reason: Option<UpdateReason>,
    /// What exactly: the device's words, a person's name.
    #[n(9)]
    pub about: Option<Label>,
    /// When it is expected to begin, or has begun.
    #[n(10)]
    pub begins: Option<UnixMillis>,
    /// When it is expected to end, or has ended.
    #[n(11)]
    pub ends: Option<UnixMillis>,
    /// So many bytes have gone to the device in the last transfer.
    #[n(12)]
    pub sent_bytes: u64,
    /// Of so many.
    #[n(13)]
    pub bytes: u64,
    /// How fast they went, in bytes a second; `None`: not measured yet (R6).
    #[n(14)]
    pub rate: Option<u64>,
    /// Transfers that have begun so far.
    #[n(15)]
    pub transfers: u32,
    /// When this became so, by the agent's time.
    #[n(16)]
    pub since: UnixMillis,
}

named! {
    /// How far the update of a device is.
    UpdateState {
        /// It takes no part; the reason says why.
        0 NotRegistered "not-registered",
        /// It waits for its time, or its turn.
        1 Queued "queued",
        /// The device was asked whether it is ready (R7).
        2 Asked "asked",
        /// Its time was moved: by the device, its state, or a person.
        3 Deferred "deferred",
        /// The device is ready; the file is looked at once more.
        4 Prechecked "prechecked",
        /// The image is on its way to the device.
        5 Transferring "transferring",
        /// The device has it and is told to take it.
        6 Activating "activating",
        /// The device is away, or is expected to go away.
        7 Restarting "restarting",
        /// The device is asked which version it has.
        8 Verifying "verifying",
        /// The device shows the new version.
        9 Done "done",
        /// It is not going to have it, and is as it was.
        10 Failed "failed",
        /// What became of it only a person can say: nothing is sent to it until the manager allows it.
        11 Unknown "unknown",
        /// It was taken out before it began.
        12 Cancelled "cancelled",
        /// Its time was over before it began.
        13 Expired "expired",
    }
}

impl UpdateState {
    /// True if nothing more happens by itself.
    #[must_use]
    pub fn is_end(self) -> bool {
        match self {
            Self::NotRegistered
            | Self::Done
            | Self::Failed
            | Self::Unknown
            | Self::Cancelled
            | Self::Expired => true,
            Self::Queued
            | Self::Asked
            | Self::Deferred
            | Self::Prechecked
            | Self::Transferring
            | Self::Activating
            | Self::Restarting
            | Self::Verifying => false,
        }
    }
}

named! {
    /// Why the update of a device is as it is.
    UpdateReason {
        /// The site's list has no such device.
        0 UnknownDevice "no such device",
        /// It has not said yet what it is.
        1 NotSeen "the device has not answered yet",
        /// No firmware of the bundle is for its model.
        2 NoFirmware "no firmware for this model",
        /// It does not say which version it has.
        3 NoVersion "the device does not show its version",
        /// The firmware does not go over the version that it has.
        4 NotOverThis "does not go over this version",
        /// The site has not opened it for updates.
        5 NotAllowed "not opened at the site",
        /// It has that version already.
        6 HasIt "already has it",
        /// The bundle is not installed at the agent.
        7 NoBundle "the bundle is not installed",
        /// The agent has more to do than it keeps.
        8 TooMany "more devices than the agent keeps",
        /// Its time has not come, or its window is closed.
        9 NotYet "its time has not come",
        /// What is left of the window, or until the expiry, is too short for it.
        10 TooShort "too little time is left",
        /// The first device of its type goes ahead, or others are being updated.
        11 OthersFirst "others go first",
        /// Another firmware of the same device goes ahead.
        12 OtherTypeFirst "another type goes first",
        /// The operator has suspended it.
        13 Suspended "suspended",
        /// It is at work, or cannot take it now.
        14 DeviceBusy "the device is not ready",
        /// It holds its answer back (R7).
        15 DeviceDefers "the device puts it off",
        /// It does not answer.
        16 Silent "the device does not answer",
        /// A person at the site has put it off.
        17 PutOff "put off at the site",
        /// It does not take firmware this way.
        18 Refused "the device refuses it",
        /// The image on the agent's disk is not the one of the bundle.
        19 BadFile "the file is not the one of the bundle",
        /// A transfer did not begin, or broke off, and did no harm.
        20 Interrupted "the transfer was interrupted",
        /// Transfers broke off too often.
        21 TooOften "interrupted too often",
        /// All was sent, and the device shows the old version.
        22 StillOld "all was sent, and the device shows the old version",
        /// All was sent, and the device shows a version that is neither the old nor the new one.
        23 OtherVersion "the device shows another version",
        /// It has not come back after its update.
        24 NotBack "the device did not come back",
        /// Nobody knows how the transfer ended.
        25 EndNotKnown "the end of the transfer is not known",
        /// The agent was stopped in the middle of the transfer.
        26 AgentStopped "the agent was stopped during the transfer",
        /// The operator has cancelled it.
        27 CancelledByManager "cancelled by the operator",
        /// A person at the site has cancelled it.
        28 CancelledAtSite "cancelled at the site",
        /// A newer bundle, or plan, has taken its place.
        29 Superseded "superseded",
        /// It was not done when the plan's time ended.
        30 TimeOver "the time of the plan is over",
    }
}
