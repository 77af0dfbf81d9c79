//! What the core wants of devices that are to be updated, and what comes of it. No handler for firmware is built in yet, and no device is
//! open for it: whatever is asked is answered so that the core keeps the update and nothing is sent.

use agent_core::{Effect, Event, PushEnd, Readiness};
use shared::Label;
use shared::device::DeviceName;

use super::Shell;

const NO_HANDLER: &str = "this agent has no handler for firmware";

impl Shell {
    /// The devices that the site has opened for updates.
    pub(super) fn open_for_firmware(&self) -> Vec<DeviceName> {
        Vec::new()
    }
}

/// Does an effect of the core about firmware.
pub(super) fn execute(effect: &Effect) -> Option<Event> {
    let (Effect::AskDevice { update, .. }
    | Effect::PushFirmware { update, .. }
    | Effect::ActivateFirmware { update, .. }
    | Effect::ReadFirmware { update, .. }) = effect
    else {
        return None;
    };
    tracing::warn!(device = %update.device, kind = %update.kind, effect = effect.name(), NO_HANDLER);
    let (update, why) = (update.clone(), Label::lossy(NO_HANDLER));
    match effect {
        Effect::PushFirmware { .. } => Some(Event::Pushed { update, end: PushEnd::NotBegun(why) }),
        Effect::ActivateFirmware { .. } => Some(Event::Activated { update, result: Err(why) }),
        Effect::ReadFirmware { .. } => Some(Event::FirmwareRead { update, result: Err(why) }),
        _ => Some(Event::DeviceAnswered { update, answer: Readiness::NotNow(why, None) }),
    }
}
