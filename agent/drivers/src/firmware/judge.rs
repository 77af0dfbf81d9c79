//! Whether a device may be updated now, by what it says of itself. Pure.

use std::time::Duration;

use shared::Label;
use shared::bundle::FirmwareEntry;
use shared::device::{FaultsRead, Observation, Severity, Status};

use super::Answer;

/// A device at work is asked again soon: a job takes minutes.
pub(super) const HOLD_BUSY: Duration = Duration::from_secs(2 * 60);

/// A device with a closed port is asked again later.
pub(super) const HOLD_CLOSED: Duration = Duration::from_secs(5 * 60);

/// Faults wait for people.
pub(super) const HOLD_FAULT: Duration = Duration::from_secs(15 * 60);

/// True if a device does nothing now. One that does not say what it does counts as idle: it answers.
#[must_use]
pub fn is_idle(seen: &Observation) -> bool {
    match seen.status {
        Status::Idle | Status::Sleeping | Status::Warning | Status::Unknown => true,
        Status::Busy | Status::WarmingUp | Status::Down | Status::Offline => false,
    }
}

/// What follows from a look at the device: the version that it shows, if it is ready.
pub(super) fn judge(entry: &FirmwareEntry, seen: &Observation) -> Result<Label, Answer> {
    let shows = shown(entry, seen).map_err(|reason| Answer::Refused { reason })?;
    let not_now = |reason: String, hold| Err(Answer::NotNow { reason, hold });
    if matches!(seen.status, Status::Busy | Status::WarmingUp) {
        return not_now(format!("it is {}", seen.status), HOLD_BUSY);
    }
    if !is_idle(seen) {
        return not_now(format!("it is {}", seen.status), HOLD_FAULT);
    }
    if let Some(fault) = seen.faults.iter().find(|fault| fault.severity == Severity::Critical) {
        return not_now(format!("it has a fault: {}: {}", fault.kind, fault.text), HOLD_FAULT);
    }
    if seen.faults_read == FaultsRead::Unreadable {
        return not_now("what is wrong with it cannot be read".to_owned(), HOLD_BUSY);
    }
    Ok(shows)
}

/// The version that it shows, or why this firmware is not for it.
fn shown(entry: &FirmwareEntry, seen: &Observation) -> Result<Label, String> {
    let device = &seen.identity;
    if !entry.is_for(device) {
        let word =
            |text: &Option<Label>| text.as_ref().map_or_else(|| "unknown".to_owned(), ToString::to_string);
        let (vendor, model) = (word(&device.vendor), word(&device.model));
        return Err(format!("it is a {model} of {vendor}, the firmware is for {}", entry.model.as_str()));
    }
    entry.shown_by(device).cloned().ok_or_else(|| {
        format!("it does not show a version of \"{}\": nobody could see that it was updated", entry.component)
    })
}
