//! Rows of CSV about updates of devices (R6, R12). Knows no file format: the shell writes them. What comes from a device is made harmless
//! in a spreadsheet.

use serde::Serialize;
use shared::message::{DeviceChoice, DeviceUpdate};
use shared::{Label, UnixMillis};

use crate::rows::defused;

/// One type of firmware of one device in a campaign.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UpdateRow {
    /// The campaign's number.
    pub campaign: i64,
    /// Agent ID.
    pub agent: String,
    /// The agent's site.
    pub site: String,
    /// The device.
    pub device: String,
    /// Its maker.
    pub vendor: String,
    /// Its model.
    pub model: String,
    /// Its serial number.
    pub serial: String,
    /// Type of the firmware; empty: the device gets none.
    #[serde(rename = "type")]
    pub kind: String,
    /// The version that it had before.
    pub old_version: String,
    /// The version that it is to have.
    pub new_version: String,
    /// How far it is.
    pub state: String,
    /// Why.
    pub reason: String,
    /// What exactly: the device's words, a person's name.
    pub about: String,
    /// When it is expected to begin, or has begun, by the agent's clock.
    pub begins_at: String,
    /// When it is expected to end, or has ended, by the agent's clock.
    pub ends_at: String,
    /// Bytes that have gone to the device in the last transfer.
    pub sent_bytes: u64,
    /// Of so many.
    pub bytes: u64,
    /// How fast they went; empty: not measured.
    pub bytes_per_second: Option<u64>,
    /// Transfers that have begun.
    pub transfers: u32,
    /// Transfers that may begin without a proof.
    pub transfers_allowed: u32,
    /// Since when it is so, by the agent's clock.
    pub since: String,
    /// When the manager heard it.
    pub reported_at: String,
}

impl UpdateRow {
    /// The row of an update.
    #[must_use]
    pub fn of(
        campaign: i64,
        (agent, site): (&str, &str),
        update: &DeviceUpdate,
        choice: DeviceChoice,
        heard_at: UnixMillis,
    ) -> Self {
        let text = |label: &Option<Label>| label.as_ref().map_or(String::new(), ToString::to_string);
        let time = |at: Option<UnixMillis>| at.map_or(String::new(), |at| at.to_string());
        Self {
            campaign,
            agent: agent.to_owned(),
            site: site.to_owned(),
            device: update.device.to_string(),
            vendor: text(&update.vendor),
            model: text(&update.model),
            serial: text(&update.serial),
            kind: update.kind.to_string(),
            old_version: text(&update.old),
            new_version: text(&update.new),
            state: update.state.to_string(),
            reason: update.reason.map_or(String::new(), |reason| reason.to_string()),
            about: text(&update.about),
            begins_at: time(update.begins),
            ends_at: time(update.ends),
            sent_bytes: update.sent_bytes,
            bytes: update.bytes,
            bytes_per_second: update.rate,
            transfers: update.transfers,
            transfers_allowed: choice.transfers_allowed,
            since: update.since.to_string(),
            reported_at: heard_at.to_string(),
        }
    }

    /// Made harmless for a spreadsheet.
    #[must_use]
    pub fn for_csv(mut self) -> Self {
        let texts = [
            &mut self.site,
            &mut self.vendor,
            &mut self.model,
            &mut self.serial,
            &mut self.kind,
            &mut self.old_version,
            &mut self.new_version,
            &mut self.about,
        ];
        for text in texts {
            *text = defused(text);
        }
        self
    }
}

/// Why an update is as it is, for people: `the device is not ready (printing)`.
#[must_use]
pub fn why(update: &DeviceUpdate) -> Option<String> {
    match (update.reason, &update.about) {
        (Some(reason), Some(about)) => Some(format!("{reason} ({about})")),
        (Some(reason), None) => Some(reason.to_string()),
        (None, about) => about.as_ref().map(ToString::to_string),
    }
}
