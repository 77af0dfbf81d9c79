//! What devices say, for a person or a program.

use drivers::PollFault;
use drivers::json::Document;
use shared::device::{FaultsRead, Observation, Supply};

/// What asking one device has brought.
pub(crate) type Look = (shared::device::DeviceName, Result<Observation, PollFault>);

/// Prints one JSON document.
pub(crate) fn print_json(looks: &[Look]) -> anyhow::Result<()> {
    let seen = looks.iter().filter_map(|(name, result)| Some((name, result.as_ref().ok()?)));
    let devices: Vec<_> = seen.map(|(name, seen)| Document::of(seen).named(name)).collect();
    let failed = looks.iter().filter_map(|(name, result)| Some((name, result.as_ref().err()?)));
    let failed: Vec<_> = failed
        .map(|(name, fault)| serde_json::json!({ "device": name.as_str(), "why": fault.to_string() }))
        .collect();
    let document = serde_json::json!({ "devices": devices, "failed": failed });
    say!("{}", serde_json::to_string_pretty(&document)?);
    Ok(())
}

/// Prints everything that a device says.
pub(crate) fn show(name: &str, seen: &Observation) {
    let identity = &seen.identity;
    let words = [&identity.vendor, &identity.model, &identity.serial];
    let words: Vec<_> = words.into_iter().flatten().map(ToString::to_string).collect();
    say!("{name}: {} {}, {}", seen.class, words.join(" "), seen.status);
    for firmware in &identity.firmware {
        say!("  firmware  {:<40} {}", firmware.component, firmware.version);
    }
    for counter in &seen.counters {
        let what = format!("{} {}", counter.name, counter.labels_text());
        say!("  counter   {:<40} {:>12} {}", what.trim_end(), counter.value, counter.unit);
    }
    for supply in &seen.supplies {
        say!("  supply    {:<40} {:>12}", supply.text, level(supply));
    }
    for part in &seen.parts {
        let number = |n: Option<u64>| n.map_or_else(|| "?".to_owned(), |n| n.to_string());
        say!(
            "  part      {:<40} {:>12} of {} {}",
            part.name,
            number(part.used),
            number(part.life),
            part.unit
        );
    }
    for fault in &seen.faults {
        say!("  FAULT {}   {} {}: {} ({})", fault.class, fault.severity, fault.kind, fault.text, fault.code);
    }
    if seen.faults_read == FaultsRead::Unreadable {
        say!("  FAULTS    could not all be read: none that is open ends by this look");
    }
    for left_out in &seen.left_out {
        say!("  left out  {left_out}");
    }
    say!("");
}

fn level(supply: &Supply) -> String {
    match supply.percent() {
        Some(percent) => format!("{percent} %"),
        None => supply.level.to_string(),
    }
}
