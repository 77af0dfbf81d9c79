//! When the devices behind an agent get the firmware of a bundle, and which of them (M17, R8 to R12).

use core::time::Duration;
use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use super::Interval;
use crate::bounded;
use crate::device::DeviceName;
use crate::id::Digest;
use crate::limits::{DEVICES_MAX_COUNT, INTERVALS_MAX_COUNT};
use crate::time::UnixMillis;

/// Says when the firmware of a bundle is brought to devices. Without one nothing is. One with a higher sequence number replaces it;
/// the same again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct DevicePlan {
    /// Digest of the bundle file, in full.
    #[n(0)]
    pub bundle: Digest,
    /// Not before this.
    #[n(1)]
    pub not_before: UnixMillis,
    /// An update may begin in one of these, and is to end in it; none: at any time from `not_before` on.
    #[cbor(n(2), decode_with = "bounded::list::<_, _, INTERVALS_MAX_COUNT>")]
    pub intervals: Vec<Interval>,
    /// Nothing begins that does not end before this (R11).
    #[n(3)]
    pub until: UnixMillis,
    #[n(4)]
    defer_step_ms: u64,
    /// A person at the site may put an update off until then at the latest (R9); `None`: nobody may.
    #[n(5)]
    pub defer_until: Option<UnixMillis>,
    /// So many devices at a time, once the first of a type is done; 0 counts as 1.
    #[n(6)]
    pub at_once: u16,
    /// What is to happen with single devices.
    #[cbor(n(7), decode_with = "bounded::map::<_, _, _, DEVICES_MAX_COUNT>")]
    pub devices: BTreeMap<DeviceName, DeviceChoice>,
    /// What is to happen with those that are not named.
    #[n(8)]
    pub rest: Rest,
}

impl DevicePlan {
    /// A plan for every device of the agent, at any time between two moments, one after the other, without a word of the site.
    #[must_use]
    pub fn for_all(bundle: Digest, not_before: UnixMillis, until: UnixMillis, defer_step: Duration) -> Self {
        Self {
            bundle,
            not_before,
            intervals: Vec::new(),
            until,
            defer_step_ms: u64::try_from(defer_step.as_millis()).unwrap_or(u64::MAX),
            defer_until: None,
            at_once: 1,
            devices: BTreeMap::new(),
            rest: Rest::Run,
        }
    }

    /// By how much the time of a device moves that cannot be updated now (R8), or is put off (R9) without saying for how long.
    #[must_use]
    pub fn defer_step(&self) -> Duration {
        Duration::from_millis(self.defer_step_ms)
    }

    /// What is to happen with a device; `None`: it is left alone.
    #[must_use]
    pub fn choice(&self, device: &DeviceName) -> Option<DeviceChoice> {
        self.devices.get(device).copied().or(match self.rest {
            Rest::Run => Some(DeviceChoice::default()),
            Rest::Leave => None,
        })
    }
}

/// What is to happen with one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct DeviceChoice {
    /// What.
    #[n(0)]
    pub action: DeviceAction,
    /// Not before this; `None`: when the plan says.
    #[n(1)]
    pub not_before: Option<UnixMillis>,
    /// Up to so many transfers of each firmware may begin without a proof that it is safe. 1: the first. Raised above what was allowed
    /// and what the device has had, it begins anew what has failed or has an end that is not known (PROTOCOL 18.9).
    #[n(2)]
    pub transfers_allowed: u32,
}

impl Default for DeviceChoice {
    fn default() -> Self {
        Self { action: DeviceAction::Run, not_before: None, transfers_allowed: 1 }
    }
}

named! {
    /// What is to happen with a device.
    DeviceAction {
        /// It is updated when its time comes.
        0 Run "run",
        /// Nothing begins until the plan says otherwise.
        1 Suspend "suspend",
        /// What has not begun never begins under this plan.
        2 Cancel "cancel",
    }
}

named! {
    /// What is to happen with devices that a plan does not name.
    Rest {
        /// They are updated.
        0 Run "run",
        /// They are left alone.
        1 Leave "leave",
    }
}
