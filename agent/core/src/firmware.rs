//! Updates of devices (M17, R1 to R13, PROTOCOL 18): which device gets which firmware of the installed bundle, when, and what became of it. Decides;
//! the shell speaks to devices.
//!
//! Here is what must not be lost. `turn` is one update's way from state to state, `plan` when it may begin, `survey` who takes part,
//! `drive` puts them together, `tell` says how it goes, `wish` is what people at the site want.

mod drive;
mod plan;
mod survey;
mod tell;
#[cfg(test)]
mod tests;
mod turn;
mod wish;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use minicbor::{Decode, Encode};
use shared::bundle::FirmwareEntry;
use shared::device::{DeviceName, Identity};
use shared::message::{UpdateReason, UpdateState};
use shared::{Digest, Label, ModulePath, UnixMillis};

use crate::facts::Module;
use crate::limits::{DEVICE_HOLD_MAX, DEVICE_RATE_GUESS, RATE_MIN_BYTES};
use crate::schedule::PutOff;

pub use plan::KeptPlan;
pub use turn::{PushEnd, Readiness, Shown};
pub use wish::{DeviceWant, DeviceWish};

/// The firmware of a bundle that is installed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Catalogue {
    /// The bundle, in full.
    #[n(0)]
    pub bundle: Digest,
    /// Its images, in the manifest's order.
    #[n(1)]
    pub images: Vec<Image>,
}

/// One image, and which devices it is for.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Image {
    /// What the manifest says of it.
    #[n(0)]
    pub entry: FirmwareEntry,
    /// Its file, below the root.
    #[n(1)]
    pub path: ModulePath,
    /// Its size.
    #[n(2)]
    pub bytes: u64,
    /// Its digest.
    #[n(3)]
    pub digest: Digest,
}

impl Catalogue {
    /// The catalogue of a bundle, if it has any firmware.
    #[must_use]
    pub fn of(bundle: Digest, entries: &[FirmwareEntry], modules: &[Module]) -> Option<Self> {
        let image = |entry: &FirmwareEntry| {
            let module = modules.iter().find(|module| module.name == entry.module)?;
            let (path, bytes, digest) = (module.path.clone(), module.bytes, module.digest);
            Some(Image { entry: entry.clone(), path, bytes, digest })
        };
        let images: Vec<Image> = entries.iter().filter_map(image).collect();
        (!images.is_empty()).then_some(Self { bundle, images })
    }

    /// What is left of it when these are the modules that are installed.
    pub(crate) fn among(&self, modules: &[Module]) -> Option<Self> {
        let there = |image: &&Image| modules.iter().any(|m| m.path == image.path && m.digest == image.digest);
        let images: Vec<Image> = self.images.iter().filter(there).cloned().collect();
        (!images.is_empty()).then_some(Self { bundle: self.bundle, images })
    }
}

/// Names an update: one type of firmware of one device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UpdateName {
    /// The device.
    pub device: DeviceName,
    /// The type.
    pub kind: Label,
}

/// All that must not be lost of updates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Updates {
    /// The manager's plans, one for each bundle.
    #[n(0)]
    pub plans: Vec<KeptPlan>,
    /// The catalogue that the updates are about. Another one takes its place when nothing is under way.
    #[n(1)]
    pub catalogue: Option<Catalogue>,
    /// The updates.
    #[n(2)]
    pub list: Vec<Update>,
    /// Bytes a second from here to devices, each new transfer counting a quarter; `None`: none was measured (R6).
    #[n(3)]
    pub rate: Option<u64>,
    /// When what has changed is told.
    #[n(4)]
    pub tell_at: Option<UnixMillis>,
}

/// The update of one device with one type of firmware.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Update {
    /// The device.
    #[n(0)]
    pub device: DeviceName,
    /// Type of the firmware; empty: the device takes no part at all.
    #[n(1)]
    pub kind: Label,
    /// The image, by its place in the catalogue.
    #[n(2)]
    pub image: Option<u32>,
    /// The device's maker.
    #[n(3)]
    pub vendor: Option<Label>,
    /// Its model.
    #[n(4)]
    pub model: Option<Label>,
    /// Its serial number.
    #[n(5)]
    pub serial: Option<Label>,
    /// The version that it had before.
    #[n(6)]
    pub old: Option<Label>,
    /// How far it is.
    #[n(7)]
    pub stage: Stage,
    /// Since when.
    #[n(8)]
    pub since: UnixMillis,
    /// Transfers that have begun. Saved before the next one does.
    #[n(9)]
    pub transfers: u32,
    /// Transfers that were tried since somebody has last allowed one.
    #[n(10)]
    pub tries: u32,
    /// Transfers that the manager allows without a proof, as it has said last.
    #[n(11)]
    pub allowed: u32,
    /// A person has put it off.
    #[n(12)]
    pub put_off: Option<PutOff>,
    /// When the last transfer began.
    #[n(13)]
    pub began: Option<UnixMillis>,
    /// Bytes that went to the device in it.
    #[n(14)]
    pub sent_bytes: u64,
    /// How fast, in bytes a second.
    #[n(15)]
    pub rate: Option<u64>,
    /// The manager was told how far it is.
    #[n(16)]
    pub told: bool,
    /// What is not known of the transfer before, if the manager has allowed another one since.
    #[n(17)]
    pub doubt: Option<Why>,
}

/// How far an update is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Stage {
    /// It takes no part.
    #[n(0)]
    NotRegistered(#[n(0)] UpdateReason),
    /// It waits for its time or its turn.
    #[n(1)]
    Queued(#[n(0)] Option<UpdateReason>),
    /// The device was asked whether it is ready.
    #[n(2)]
    Asked,
    /// Its time was moved.
    #[n(3)]
    Deferred(#[n(0)] UnixMillis, #[n(1)] Why),
    /// The device is ready; the file is compared with its digest.
    #[n(4)]
    Prechecked,
    /// The image is on its way.
    #[n(5)]
    Transferring,
    /// The device has it and is told to take it.
    #[n(6)]
    Activating,
    /// The device is away, or will be.
    #[n(7)]
    Restarting(#[n(0)] Trial),
    /// The device answers and is asked for its version.
    #[n(8)]
    Verifying(#[n(0)] Trial),
    /// The device shows the new version.
    #[n(9)]
    Done,
    /// It will not have it, and is as it was.
    #[n(10)]
    Failed(#[n(0)] Why),
    /// What became of it only a person can say.
    #[n(11)]
    Unknown(#[n(0)] Why),
    /// Taken out before it began.
    #[n(12)]
    Cancelled(#[n(0)] Why),
    /// Its time was over before it began.
    #[n(13)]
    Expired,
}

/// A reason, and what exactly.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Why {
    /// The kind.
    #[n(0)]
    pub reason: UpdateReason,
    /// The device's words, a person's name.
    #[n(1)]
    pub about: Option<Label>,
}

impl Why {
    pub(crate) fn of(reason: UpdateReason) -> Self {
        Self { reason, about: None }
    }

    pub(crate) fn about(reason: UpdateReason, about: Label) -> Self {
        Self { reason, about: Some(about) }
    }
}

/// A transfer has ended, and what came of it shows at the device.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Trial {
    /// When it ended.
    #[n(0)]
    pub ended: UnixMillis,
    /// From here on the old version says that nothing came of it.
    #[n(1)]
    pub settled: UnixMillis,
    /// From here on silence says that the device is gone.
    #[n(2)]
    pub until: UnixMillis,
    /// It is known that the transfer cannot have changed anything if the device shows the old version then.
    #[n(3)]
    pub harmless: bool,
    /// What is wrong if it does.
    #[n(4)]
    pub why: Why,
}

impl Stage {
    /// What the manager and people are told.
    #[must_use]
    pub fn state(&self) -> UpdateState {
        match self {
            Self::NotRegistered(_) => UpdateState::NotRegistered,
            Self::Queued(_) => UpdateState::Queued,
            Self::Asked => UpdateState::Asked,
            Self::Deferred(..) => UpdateState::Deferred,
            Self::Prechecked => UpdateState::Prechecked,
            Self::Transferring => UpdateState::Transferring,
            Self::Activating => UpdateState::Activating,
            Self::Restarting(_) => UpdateState::Restarting,
            Self::Verifying(_) => UpdateState::Verifying,
            Self::Done => UpdateState::Done,
            Self::Failed(_) => UpdateState::Failed,
            Self::Unknown(_) => UpdateState::Unknown,
            Self::Cancelled(_) => UpdateState::Cancelled,
            Self::Expired => UpdateState::Expired,
        }
    }

    /// Why it is so.
    #[must_use]
    pub fn why(&self) -> Option<Why> {
        match self {
            Self::NotRegistered(reason) => Some(Why::of(*reason)),
            Self::Queued(reason) => reason.map(Why::of),
            Self::Deferred(_, why) | Self::Failed(why) | Self::Unknown(why) | Self::Cancelled(why) => {
                Some(why.clone())
            }
            Self::Expired => Some(Why::of(UpdateReason::TimeOver)),
            Self::Restarting(trial) | Self::Verifying(trial) => {
                Some(&trial.why).filter(|why| why.reason != UpdateReason::StillOld).cloned()
            }
            Self::Asked | Self::Prechecked | Self::Transferring | Self::Activating | Self::Done => None,
        }
    }

    /// True from the first byte to the device until its end is known (PROTOCOL 18.6).
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        match self {
            Self::Transferring | Self::Activating | Self::Restarting(_) | Self::Verifying(_) => true,
            Self::NotRegistered(_)
            | Self::Queued(_)
            | Self::Asked
            | Self::Deferred(..)
            | Self::Prechecked
            | Self::Done
            | Self::Failed(_)
            | Self::Unknown(_)
            | Self::Cancelled(_)
            | Self::Expired => false,
        }
    }

    /// True if the device has somebody's attention.
    pub(crate) fn is_busy(&self) -> bool {
        self.is_under_way() || matches!(self, Self::Asked | Self::Prechecked)
    }

    /// Until when its time was moved. A time further ahead than any device's word lasts was set before the clock went back.
    fn deferred_until(&self, now: UnixMillis) -> Option<UnixMillis> {
        let Self::Deferred(until, why) = self else { return None };
        let is_near = until.since(now) <= DEVICE_HOLD_MAX.saturating_mul(2);
        Some(*until).filter(|_| is_near || why.reason == UpdateReason::PutOff)
    }

    /// True if it may still begin.
    #[must_use]
    pub fn waits(&self) -> bool {
        matches!(self, Self::Queued(_) | Self::Deferred(..))
    }

    /// True if it has not begun and could.
    pub(crate) fn has_not_begun(&self) -> bool {
        self.waits() || matches!(self, Self::Asked | Self::Prechecked)
    }
}

impl Update {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> UpdateName {
        UpdateName { device: self.device.clone(), kind: self.kind.clone() }
    }

    /// True if this is it.
    pub(crate) fn is(&self, name: &UpdateName) -> bool {
        self.device == name.device && self.kind == name.kind
    }

    fn enter(&mut self, now: UnixMillis, stage: Stage) {
        let stage = self.in_doubt(stage);
        if self.stage != stage {
            // How long a device is away is told once.
            self.told &= (self.stage.state(), self.stage.why()) == (stage.state(), stage.why());
            self.stage = stage;
            self.since = now;
        }
    }
}

impl Update {
    /// What was unknown stays so, whatever was allowed meanwhile, until another transfer has begun or the device is seen to be done:
    /// nobody can say that it is as it was (PROTOCOL 18.9).
    fn in_doubt(&mut self, stage: Stage) -> Stage {
        match (&stage, self.doubt.clone()) {
            (Stage::Unknown(why), _) => self.doubt = Some(why.clone()),
            (Stage::Done, _) => self.doubt = None,
            (
                Stage::NotRegistered(_) | Stage::Failed(_) | Stage::Cancelled(_) | Stage::Expired,
                Some(why),
            ) => return Stage::Unknown(why),
            _ => {}
        }
        stage
    }

    /// What is not known, if the manager allows no transfer without a proof any more.
    pub(crate) fn barred(&self) -> Option<Why> {
        self.doubt.clone().filter(|_| self.transfers >= self.allowed)
    }
}

impl Updates {
    /// The image of an update.
    #[must_use]
    pub fn image(&self, update: &Update) -> Option<&Image> {
        self.catalogue.as_ref()?.images.get(usize::try_from(update.image?).ok()?)
    }

    /// The plan that counts: that of the bundle which the catalogue is of.
    #[must_use]
    pub fn plan(&self) -> Option<&KeptPlan> {
        let bundle = self.catalogue.as_ref()?.bundle;
        self.plans.iter().find(|kept| kept.plan.bundle == bundle)
    }

    /// True if a device's word is not worth telling, because it is being updated (PROTOCOL 18.10).
    #[must_use]
    pub fn mutes(&self, device: &DeviceName) -> bool {
        self.list.iter().any(|update| update.device == *device && update.stage.is_under_way())
    }

    /// True while bytes go to a device: what would stop the agent waits.
    #[must_use]
    pub fn is_sending(&self) -> bool {
        self.list.iter().any(|update| matches!(update.stage, Stage::Transferring | Stage::Activating))
    }

    /// True if something waits that a person at the site could put off or cancel.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        self.list.iter().any(|update| update.stage.waits())
    }

    /// How long an update takes at most, from its first byte to the device that is back (R6).
    #[must_use]
    pub fn takes(&self, update: &Update) -> Duration {
        let Some(image) = self.image(update) else { return Duration::ZERO };
        let rate = update.rate.or(self.rate).unwrap_or(DEVICE_RATE_GUESS).max(1);
        let seconds = image.bytes.div_ceil(rate);
        Duration::from_secs(seconds).saturating_add(image.entry.back_by())
    }

    /// A transfer says how fast the way to devices is.
    pub(crate) fn measured(&mut self, bytes: u64, took: Duration) -> Option<u64> {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = bytes.saturating_mul(1_000).checked_div(ms).filter(|_| bytes >= RATE_MIN_BYTES)?;
        let old = self.rate.unwrap_or(rate);
        self.rate = old.saturating_mul(3).saturating_add(rate).checked_div(4);
        Some(rate)
    }
}

/// What is known for as long as the agent runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// What each device has said that it is.
    pub(crate) identities: BTreeMap<DeviceName, Identity>,
    /// The site's devices; `None`: not known yet.
    pub(crate) devices: Option<BTreeSet<DeviceName>>,
    /// Those of them that the site has opened for updates; `None`: not known yet.
    pub(crate) open: Option<BTreeSet<DeviceName>>,
    /// Devices, or all, of which something has changed that may make them take part.
    stale: BTreeSet<DeviceName>,
    all_stale: bool,
    /// Versions that are being asked for, and when they are next.
    reads: BTreeMap<(DeviceName, Label), UnixMillis>,
    /// Bytes that have left in transfers that go on.
    going: BTreeMap<UpdateName, u64>,
}
