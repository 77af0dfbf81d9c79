//! Which devices a campaign would bring which firmware, and when: a part of `campaign plan` (R3, R6). An estimate by what was last read;
//! what the agents find is what happens.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use mailfleet::store::{AgentRecord, Tx, TxResult};
use manager_core::updates::{Choices, DeviceTerms, Guess, Pace, Slot, guess, slots, unnamed_is_told};
use serde_json::{Value, json};
use shared::bundle::{FirmwareEntry, Manifest};
use shared::device::DeviceName;
use shared::message::{Rest, UpdateReason};
use shared::{AgentId, Label, UnixMillis};

use super::firmware_inspect::bytes_of;
use super::preview::Preview;
use super::show::{self, Colour, Listing, cell, harmless};

/// Devices that are shown; `--json` has all.
const ROWS_MAX_COUNT: usize = 500;

/// What is expected of the devices.
pub(crate) struct DevicePreview {
    firmware: String,
    rows: Vec<Expected>,
    /// Agents of which no device is known.
    blank: usize,
}

/// What is expected of one device and type.
struct Expected {
    agent: AgentId,
    device: String,
    kind: Option<Label>,
    old: Option<Label>,
    new: Option<Label>,
    verdict: Result<(), UpdateReason>,
    takes: Option<Duration>,
    slot: Option<Slot>,
}

impl DevicePreview {
    /// Looks at the devices of all targets that get the bundle.
    pub(crate) fn read(
        tx: &Tx<'_>,
        preview: &Preview<'_>,
        manifest: &Manifest,
        terms: &DeviceTerms,
        choices: &BTreeMap<AgentId, Choices>,
    ) -> TxResult<Self> {
        let mut found = Self { firmware: firmware_text(manifest), rows: Vec::new(), blank: 0 };
        for (agent, begins) in preview.begins() {
            let Some(record) = preview.agents.get(agent) else { continue };
            let named = choices.get(agent);
            if terms.rest == Rest::Leave && named.is_none() {
                continue;
            }
            let rows = of_agent(tx, record, manifest, terms, named, begins)?;
            found.blank = found.blank.saturating_add(usize::from(rows.is_empty()));
            found.rows.extend(rows);
        }
        Ok(found)
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let updated = self.rows.iter().filter(|row| row.verdict.is_ok()).count();
        let mut text = format!("\n{:<22}{}\n", "Firmware", self.firmware);
        text.push_str(&format!(
            "{:<22}{} expected, as far as devices were read here; what a site has not opened only its agent knows\n",
            "Updates of devices",
            if updated == 0 { "none".to_owned() } else { updated.to_string() }
        ));
        if self.blank > 0 {
            text.push_str(&format!("{:<22}{}\n", "No device known of", show::count(self.blank, "agent")));
        }
        if self.rows.is_empty() {
            return text;
        }
        let mut listing =
            Listing::new(&["AGENT", "DEVICE", "TYPE", "OLD", "NEW", "TAKES", "BEGINS", "~WHY NOT"]);
        for row in self.rows.iter().take(ROWS_MAX_COUNT) {
            let plain = |text: &str| cell(harmless(text), Colour::Plain);
            let label = |label: &Option<Label>| plain(label.as_ref().map_or("-", Label::as_str));
            listing.row(vec![
                plain(row.agent.as_str()),
                plain(&row.device),
                label(&row.kind),
                label(&row.old),
                label(&row.new),
                plain(&row.takes.map_or("-".to_owned(), show::duration)),
                plain(&row.slot.map_or("-".to_owned(), |slot| slot.begins.to_string())),
                plain(row.verdict.err().map_or("", UpdateReason::as_str)),
            ]);
        }
        text.push_str(&format!("\n{}", listing.text()));
        let more = self.rows.len().saturating_sub(ROWS_MAX_COUNT);
        if more > 0 {
            text.push_str(&format!("And {more} more: --json has all\n"));
        }
        text
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let label = |label: &Option<Label>| label.as_ref().map(ToString::to_string);
        let rows = self.rows.iter().map(|row| {
            json!({
                "agent": row.agent.as_str(),
                "device": row.device,
                "type": label(&row.kind),
                "old_version": label(&row.old),
                "new_version": label(&row.new),
                "registered": row.verdict.is_ok(),
                "reason": row.verdict.err().map(UpdateReason::as_str),
                "seconds": row.takes.map(|takes| takes.as_secs()),
                "begins_at": row.slot.map(|slot| slot.begins.to_string()),
                "ends_at": row.slot.map(|slot| slot.ends.to_string()),
            })
        });
        json!({ "updates": rows.collect::<Vec<_>>(), "agents_without_devices": self.blank })
    }
}

fn of_agent(
    tx: &Tx<'_>,
    record: &AgentRecord,
    manifest: &Manifest,
    terms: &DeviceTerms,
    named: Option<&Choices>,
    begins: Option<UnixMillis>,
) -> TxResult<Vec<Expected>> {
    let is_named = |device: &str| {
        named.is_some_and(|choices| choices.keys().any(|name: &DeviceName| name.as_str() == device))
    };
    let line = record.versions.as_ref().and_then(|versions| versions.line);
    let pace = Pace { rate: line.and_then(|line| line.to_devices), at_once: terms.at_once };
    let mut rows = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    tx.each_device(&record.id, |device| {
        let named = is_named(&device.device);
        if named || terms.rest == Rest::Run {
            let identity = device.seen.as_ref().map(|seen| &seen.identity);
            let guesses = guess(&manifest.firmware, identity).into_iter();
            let told = guesses.filter(|guess| named || unnamed_is_told(guess));
            rows.extend(told.map(|guess| expected(&record.id, &device.device, guess, manifest, &pace)));
        }
        seen.push(device.device);
        Ok(ControlFlow::Continue(()))
    })?;
    for name in
        named.into_iter().flat_map(Choices::keys).filter(|name| !seen.iter().any(|s| s == name.as_str()))
    {
        let nothing = Guess { entry: None, old: None, verdict: Err(UpdateReason::UnknownDevice) };
        rows.push(expected(&record.id, name.as_str(), nothing, manifest, &pace));
    }
    if let Some(begins) = begins {
        let lengths: Vec<Duration> = rows.iter().filter_map(|row| row.takes).collect();
        let slots = slots(begins, terms.at_once, &lengths);
        for (row, slot) in rows.iter_mut().filter(|row| row.takes.is_some()).zip(slots) {
            row.slot = Some(slot);
        }
    }
    Ok(rows)
}

fn expected(agent: &AgentId, device: &str, guess: Guess<'_>, manifest: &Manifest, pace: &Pace) -> Expected {
    let takes = guess.entry.filter(|_| guess.verdict.is_ok());
    Expected {
        agent: agent.clone(),
        device: device.to_owned(),
        kind: guess.entry.map(|entry| entry.kind.clone()),
        new: guess.entry.map(|entry| entry.version.clone()),
        old: guess.old,
        verdict: guess.verdict,
        takes: takes.map(|entry| pace.takes(bytes_of(entry, manifest), entry.back_by())),
        slot: None,
    }
}

/// `main 2.0 for *bizhub C250i, feeder 2.1 for *bizhub*`.
fn firmware_text(manifest: &Manifest) -> String {
    let one =
        |entry: &FirmwareEntry| format!("{} {} for {}", entry.kind, entry.version, entry.model.as_str());
    let mut texts: Vec<String> = manifest.firmware.iter().take(4).map(one).collect();
    let more = manifest.firmware.len().saturating_sub(texts.len());
    if more > 0 {
        texts.push(format!("{more} more"));
    }
    texts.join(", ")
}
