//! What a person at the site wants of a device's update that has not begun (R9, PROTOCOL 18.13): later, or not at all. As far as the manager's
//! plan allows it.

use shared::device::DeviceName;
use shared::message::UpdateReason;
use shared::{Label, UnixMillis};

use super::turn::Signal;
use super::{Update, UpdateName, Updates, Why};
use crate::agent::AgentCore;
use crate::effect::Effect;
use crate::schedule::PutOff;
use crate::wish::NotGranted;

/// A person's wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceWish {
    /// The device.
    pub device: DeviceName,
    /// Who.
    pub by: Label,
    /// What.
    pub want: DeviceWant,
}

/// What a person wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceWant {
    /// Not before this.
    PutOff(UnixMillis),
    /// Not at all, under this plan.
    Cancel,
}

impl Updates {
    /// The updates of a device that have not begun.
    fn not_begun(&self, device: &DeviceName) -> Result<Vec<&Update>, NotGranted> {
        let mut of_it = self.list.iter().filter(|update| update.device == *device);
        let waiting: Vec<&Update> = of_it.clone().filter(|update| update.stage.has_not_begun()).collect();
        match (waiting.is_empty(), of_it.any(|update| update.stage.is_under_way())) {
            (false, _) => Ok(waiting),
            (true, true) => Err(NotGranted::Begun),
            (true, false) => Err(NotGranted::Unknown),
        }
    }

    /// Whether a device's updates can be put off until then.
    ///
    /// # Errors
    /// None waits, or the plan does not allow it.
    pub fn may_put_off(
        &self,
        device: &DeviceName,
        until: UnixMillis,
        now: UnixMillis,
    ) -> Result<(), NotGranted> {
        let waiting = self.not_begun(device)?;
        let kept = self.plan().ok_or(NotGranted::NoSchedule)?;
        let limit = kept.plan.defer_until.ok_or(NotGranted::NotAllowed)?;
        if until > limit {
            return Err(NotGranted::TooLong(limit));
        }
        if until <= now {
            return Err(NotGranted::Past);
        }
        let opens = |update: &&Update| kept.opening(until, self.takes(update)).is_some();
        if waiting.iter().all(opens) { Ok(()) } else { Err(NotGranted::Never) }
    }

    /// Whether a device's updates can be cancelled at the site.
    ///
    /// # Errors
    /// None waits.
    pub fn may_cancel(&self, device: &DeviceName) -> Result<(), NotGranted> {
        self.not_begun(device).map(drop)
    }
}

impl AgentCore {
    /// Grants wishes, or not, and has them forgotten: what is granted is saved by then.
    pub(crate) fn device_wishes(&mut self, now: UnixMillis, wishes: Vec<DeviceWish>, out: &mut Vec<Effect>) {
        for DeviceWish { device, by, want } in wishes {
            let updates = &self.state.updates;
            let signal = match want {
                DeviceWant::PutOff(until) => {
                    updates.may_put_off(&device, until, now).map(|()| Signal::PutOff(PutOff { until, by }))
                }
                DeviceWant::Cancel => updates
                    .may_cancel(&device)
                    .map(|()| Signal::Cancel(Why::about(UpdateReason::CancelledAtSite, by))),
            };
            if let Ok(signal) = signal {
                let waiting = updates.not_begun(&device).unwrap_or_default();
                let names: Vec<UpdateName> = waiting.into_iter().map(Update::name).collect();
                for name in names {
                    self.update_signal(now, &name, signal.clone(), &mut Vec::new());
                }
            }
            out.push(Effect::DropDeviceWish { device });
        }
    }
}
