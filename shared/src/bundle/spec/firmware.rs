//! `[[firmware]]` in `bundle.toml`: which devices a module of the kind `firmware` is for.

use core::time::Duration;
use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::{Lines, RawModule, SpecError, non_empty};
use crate::bundle::firmware::{BACK_BY, FirmwareEntry, FirmwareHandler, GOES_AWAY, millis};
use crate::bundle::manifest::ModuleKind;
use crate::glob::Glob;
use crate::id::Label;
use crate::limits::{
    FIRMWARE_BACK_BY_MAX, FIRMWARE_ENTRIES_MAX_COUNT, FIRMWARE_SETTINGS_MAX_COUNT, MANIFEST_LIST_MAX_COUNT,
};
use crate::time::parse_duration;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFirmware {
    module: Spanned<String>,
    #[serde(rename = "type")]
    kind: Spanned<String>,
    vendor: Option<Spanned<String>>,
    model: Spanned<String>,
    hardware: Option<Spanned<String>>,
    component: Option<Spanned<String>>,
    #[serde(default)]
    from: Vec<Spanned<String>>,
    version: Spanned<String>,
    handler: Spanned<String>,
    #[serde(default)]
    settings: BTreeMap<String, Spanned<String>>,
    goes_away: Option<Spanned<String>>,
    back_by: Option<Spanned<String>>,
    #[serde(default)]
    repeatable: bool,
}

/// Reads all of them.
pub(super) fn read(
    lines: &Lines<'_>,
    raw: &[Spanned<RawFirmware>],
    modules: &[Spanned<RawModule>],
) -> Result<Vec<FirmwareEntry>, SpecError> {
    if let Some(beyond) = raw.get(FIRMWARE_ENTRIES_MAX_COUNT) {
        let problem = format!("{} firmwares, expected at most {FIRMWARE_ENTRIES_MAX_COUNT}", raw.len());
        return Err(SpecError { line: lines.of(&beyond.span()), problem });
    }
    let mut entries: Vec<FirmwareEntry> = Vec::new();
    for one in raw {
        let entry = entry(lines, one, modules)?;
        let devices = |entry: &FirmwareEntry| {
            let kind = entry.kind.as_str().to_lowercase();
            (kind, entry.vendor.clone(), entry.model.clone(), entry.hardware.clone())
        };
        if let Some(at) = entries.iter().position(|other| devices(other) == devices(&entry)) {
            let first = raw.get(at).map_or(1, |first| lines.of(&first.span()));
            let problem = format!(
                "the type \"{}\" of these devices is taken by the [[firmware]] at line {first}",
                entry.kind
            );
            return Err(SpecError { line: lines.of(&one.get_ref().model.span()), problem });
        }
        entries.push(entry);
    }
    for module in modules {
        let (module, line) = (module.get_ref(), lines.of(&module.span()));
        let named = entries.iter().any(|entry| entry.module.as_str() == module.name.get_ref());
        if module.kind.get_ref() == "firmware" && !named {
            let problem = format!(
                "the module \"{}\" is a firmware, expected a [[firmware]] that says for which devices",
                module.name.get_ref()
            );
            return Err(SpecError { line, problem });
        }
    }
    Ok(entries)
}

fn entry(
    lines: &Lines<'_>,
    raw: &Spanned<RawFirmware>,
    modules: &[Spanned<RawModule>],
) -> Result<FirmwareEntry, SpecError> {
    let line = lines.of(&raw.span());
    let raw = raw.get_ref();
    let glob = |value: &Spanned<String>| lines.read(value, non_empty).map(Glob::new);
    let kind = lines.read(&raw.kind, non_empty)?;
    for (what, found, most) in [
        ("versions", raw.from.len(), MANIFEST_LIST_MAX_COUNT),
        ("settings", raw.settings.len(), FIRMWARE_SETTINGS_MAX_COUNT),
    ] {
        if found > most {
            return Err(SpecError { line, problem: format!("{found} {what}, expected at most {most}") });
        }
    }
    let goes_away = raw.goes_away.as_ref().map_or(Ok(GOES_AWAY), |v| lines.read(v, time))?;
    let back_by = raw.back_by.as_ref().map_or(Ok(BACK_BY.max(goes_away)), |v| lines.read(v, time))?;
    if goes_away > back_by {
        let problem = "a device that is back before it goes away, expected goes_away <= back_by".to_owned();
        return Err(SpecError { line, problem });
    }
    let setting = |(key, value): (&String, &Spanned<String>)| {
        let key = non_empty(key).map_err(|problem| SpecError { line: lines.of(&value.span()), problem })?;
        Ok((key, lines.read(value, Label::parse)?))
    };
    Ok(FirmwareEntry {
        module: lines.read(&raw.module, |name| image(name, modules))?,
        component: raw.component.as_ref().map_or(Ok(kind.clone()), |v| lines.read(v, non_empty))?,
        kind,
        vendor: raw.vendor.as_ref().map(glob).transpose()?,
        model: glob(&raw.model)?,
        hardware: raw.hardware.as_ref().map(glob).transpose()?,
        from: raw.from.iter().map(|v| lines.read(v, non_empty)).collect::<Result<_, _>>()?,
        version: lines.read(&raw.version, non_empty)?,
        handler: lines.read(&raw.handler, handler)?,
        settings: raw.settings.iter().map(setting).collect::<Result<_, SpecError>>()?,
        goes_away_ms: millis(goes_away),
        back_by_ms: millis(back_by),
        repeatable: raw.repeatable,
    })
}

/// The module with the image, by its name.
fn image(name: &str, modules: &[Spanned<RawModule>]) -> Result<Label, String> {
    let found = modules.iter().map(Spanned::get_ref).find(|module| module.name.get_ref() == name);
    match found {
        None => Err(format!("expected the name of a [[module]], found \"{name}\"")),
        Some(module) if ModuleKind::parse(module.kind.get_ref()) != Some(ModuleKind::Firmware) => {
            Err(format!("the module \"{name}\" is no firmware: expected kind = \"firmware\""))
        }
        Some(_) => non_empty(name),
    }
}

fn handler(text: &str) -> Result<FirmwareHandler, String> {
    FirmwareHandler::parse(text).ok_or_else(|| {
        let names: Vec<_> = FirmwareHandler::ALL.iter().map(|one| one.as_str()).collect();
        format!("expected a handler ({}), found \"{text}\"", names.join(", "))
    })
}

fn time(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Ok(time) if time <= FIRMWARE_BACK_BY_MAX => Ok(time),
        Ok(_) => Err(format!("expected at most 1d, found \"{text}\"")),
        Err(err) => Err(err.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::BundleSpec;

    const GOOD: &str = r#"software_version = "1.0.02-0"

[[module]]
name = "alpha-main"
version = "2.07"
date = "2026-11-01"
file = "alpha.bin"
path = "firmware/alpha.bin"
mode = "0644"
kind = "firmware"

[[firmware]]
module = "alpha-main"
type = "main"
model = "Alpha 2*"
from = ["2.05", "2.06"]
version = "2.07"
handler = "raw9100"
back_by = "30m"
settings = { port = "9101" }
"#;

    fn error(replace: &str, with: &str) -> String {
        assert!(GOOD.contains(replace));
        BundleSpec::parse(&GOOD.replace(replace, with)).unwrap_err().to_string()
    }

    #[test]
    fn a_firmware_is_read_and_what_it_does_not_say_has_its_usual_value() {
        let firmware = &BundleSpec::parse(GOOD).unwrap().firmware[0];
        assert_eq!((firmware.component.as_str(), firmware.model.as_str()), ("main", "Alpha 2*"));
        assert_eq!((firmware.goes_away(), firmware.back_by()), (GOES_AWAY, Duration::from_secs(1_800)));
        assert_eq!(firmware.settings[&Label::lossy("port")].as_str(), "9101");
        assert!(firmware.vendor.is_none() && !firmware.repeatable);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        assert!(error("raw9100", "carrier-pigeon").starts_with("line 18: expected a handler (raw9100, ftp"));
        assert!(
            error("module = \"alpha-main\"", "module = \"beta\"").starts_with("line 13: expected the name")
        );
        assert!(error("kind = \"firmware\"", "kind = \"data\"").contains("expected kind = \"firmware\""));
        assert!(error("model = \"Alpha 2*\"\n", "").contains("missing field `model`"));
        assert!(error("Alpha 2*", " ").starts_with("line 15: expected a text"));
        assert!(error("30m", "2d").starts_with("line 19: expected at most 1d"));
        assert!(error("30m", "1m").contains("goes_away <= back_by"));
        let without = &GOOD[..GOOD.find("[[firmware]]").unwrap()];
        let err = BundleSpec::parse(without).unwrap_err().to_string();
        assert!(err.starts_with("line 3: the module \"alpha-main\" is a firmware"), "{err}");
    }

    #[test]
    fn two_firmwares_for_the_same_devices_name_both_lines() {
        let second = GOOD[GOOD.find("[[firmware]]").unwrap()..].replace("Alpha", "ALPHA");
        let err = BundleSpec::parse(&format!("{GOOD}{second}")).unwrap_err().to_string();
        assert_eq!(
            err,
            "line 24: the type \"main\" of these devices is taken by the [[firmware]] at line 12"
        );
        let other = second.replace("\"main\"", "\"controller\"");
        assert_eq!(BundleSpec::parse(&format!("{GOOD}{other}")).unwrap().firmware.len(), 2);
    }
}
