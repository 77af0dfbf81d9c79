//! The firmware in a bundle, for `bundle inspect`: which devices it is for, and how it gets there.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use shared::Label;
use shared::bundle::{FirmwareEntry, Manifest};
use shared::glob::Glob;
use shared::time::format_duration;

use super::show::{self, Colour, Listing, cell};

/// For people; empty if there is none.
pub(crate) fn text(manifest: &Manifest) -> String {
    if manifest.firmware.is_empty() {
        return String::new();
    }
    let mut listing = Listing::new(&[
        "FIRMWARE",
        "TYPE",
        "VERSION",
        "~GOES OVER",
        "~DEVICES",
        "HANDLER",
        ">SIZE",
        "BACK BY",
    ]);
    for entry in &manifest.firmware {
        let plain = |text: String| cell(show::harmless(&text), Colour::Plain);
        let over: Vec<&str> = entry.from.iter().map(Label::as_str).collect();
        let globs = [entry.vendor.as_ref(), Some(&entry.model), entry.hardware.as_ref()];
        let devices: Vec<&str> = globs.into_iter().flatten().map(Glob::as_str).collect();
        listing.row(vec![
            plain(entry.module.to_string()),
            plain(entry.kind.to_string()),
            plain(entry.version.to_string()),
            plain(if over.is_empty() { "any".to_owned() } else { over.join(", ") }),
            plain(devices.join(" / ")),
            plain(entry.handler.to_string()),
            plain(show::size(bytes_of(entry, manifest))),
            plain(format_duration(entry.back_by())),
        ]);
    }
    format!("\n{}", listing.text())
}

/// For programs.
pub(crate) fn json(manifest: &Manifest) -> Vec<Value> {
    let text = |glob: &Option<Glob>| glob.as_ref().map(|glob| glob.as_str().to_owned());
    let one = |entry: &FirmwareEntry| {
        let settings: BTreeMap<&str, &str> =
            entry.settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        json!({
            "module": entry.module.as_str(),
            "type": entry.kind.as_str(),
            "vendor": text(&entry.vendor),
            "model": entry.model.as_str(),
            "hardware": text(&entry.hardware),
            "component": entry.component.as_str(),
            "from": entry.from.iter().map(Label::as_str).collect::<Vec<_>>(),
            "version": entry.version.as_str(),
            "handler": entry.handler.as_str(),
            "settings": settings,
            "bytes": bytes_of(entry, manifest),
            "goes_away": format_duration(entry.goes_away()),
            "back_by": format_duration(entry.back_by()),
            "repeatable": entry.repeatable,
        })
    };
    manifest.firmware.iter().map(one).collect()
}

/// The size of a firmware's image.
pub(crate) fn bytes_of(entry: &FirmwareEntry, manifest: &Manifest) -> u64 {
    let module = manifest.modules.iter().find(|module| module.name == entry.module);
    module.map_or(0, |module| module.file.bytes)
}
