//! Supplies and trays of a printer by IPP: `printer-supply` and `printer-input-tray` (PWG 5100.13), which have the words and
//! numbers of the Printer-MIB; else the older `marker-…`, which have hundredths.

use shared::device::{Capacity, Level, Supply, SupplyKind, Unit};
use shared::id::Label;

use super::super::wire::{Attributes, Value};
use super::{pairs, texts};
use crate::snmp::{capacity, colour_word, kind_word, level};

/// Everything that runs out.
pub(super) fn supplies(attributes: &Attributes) -> Vec<Supply> {
    let mut all = by_supply(attributes);
    if all.is_empty() {
        all = by_marker(attributes);
    }
    all.extend(trays(attributes));
    all
}

fn number(text: Option<&&str>) -> Option<i64> {
    text.and_then(|text| text.trim().parse().ok())
}

fn by_supply(attributes: &Attributes) -> Vec<Supply> {
    let said = attributes.all(texts::SUPPLY_DESCRIPTION);
    let supply = |(at, text): (usize, &str)| {
        let fields = pairs(text);
        let kind = fields.get("type").copied().unwrap_or_default();
        if !fields.contains_key("level") && kind.is_empty() {
            return None;
        }
        let name = said.get(at).and_then(Value::text).filter(|text| !text.is_empty()).unwrap_or(kind);
        let colour =
            fields.get("colorantname").copied().filter(|name| !matches!(*name, "" | "none" | "unknown"));
        let is_receptacle = fields.get("class").is_some_and(|class| class.starts_with("receptacle"));
        let unit = unit(fields.get("unit").copied().unwrap_or_default());
        let capacity = capacity(number(fields.get("maxcapacity")));
        let index = fields.get("index").map_or_else(|| at.saturating_add(1).to_string(), ToString::to_string);
        Some(
            Supply {
                key: Label::lossy(&format!("1.{index}")),
                kind: kind_of(kind, name, is_receptacle),
                colour: colour.map(|name| Label::lossy(&name.to_lowercase())).or_else(|| colour_word(name)),
                text: Label::lossy(name),
                level: level(number(fields.get("level"))),
                capacity,
                unit,
                part_number: None,
                serial: None,
            }
            .with_room(),
        )
    };
    attributes.texts(texts::SUPPLY).enumerate().filter_map(supply).collect()
}

fn by_marker(attributes: &Attributes) -> Vec<Supply> {
    let at = |name: &str, at: usize| attributes.all(name).get(at).and_then(Value::text).unwrap_or_default();
    let levels = attributes.all(texts::MARKER_LEVELS);
    let count = levels.len().max(attributes.all(texts::MARKER_NAMES).len());
    let supply = |index: usize| {
        let name = at(texts::MARKER_NAMES, index);
        let kind = at(texts::MARKER_TYPES, index);
        Supply {
            key: Label::lossy(&format!("marker:{}", index.saturating_add(1))),
            kind: kind_of(kind, name, false),
            colour: colour(at(texts::MARKER_COLORS, index)).or_else(|| colour_word(name)),
            text: Label::lossy(if name.is_empty() { kind } else { name }),
            level: match levels.get(index).and_then(Value::number) {
                // "Unavailable"; in the Printer-MIB it would be "no restriction".
                Some(-1) => Level::Unknown,
                number => level(number),
            },
            capacity: Capacity::Amount(100),
            unit: Unit::Percent,
            part_number: None,
            serial: None,
        }
        .with_room()
    };
    (0..count).map(supply).collect()
}

fn trays(attributes: &Attributes) -> Vec<Supply> {
    let tray = |(at, text): (usize, &str)| {
        let fields = pairs(text);
        fields.get("level")?;
        let place = at.saturating_add(1).to_string();
        let name = fields.get("name").copied().filter(|name| !name.is_empty());
        Some(Supply {
            key: Label::lossy(&format!("input:1.{place}")),
            kind: SupplyKind::Media,
            colour: None,
            text: Label::lossy(name.unwrap_or(&place)),
            level: level(number(fields.get("level"))),
            capacity: capacity(number(fields.get("maxcapacity"))),
            // PWG 5100.13 leaves it out where it is sheets.
            unit: fields.get("unit").map_or(Unit::Sheets, |text| unit(text)),
            part_number: None,
            serial: None,
        })
    };
    attributes.texts(texts::INPUT_TRAY).enumerate().filter_map(tray).collect()
}

trait Room {
    fn with_room(self) -> Self;
}

impl Room for Supply {
    /// By IPP a box for waste says what is in it; its level here is the room that is left.
    fn with_room(mut self) -> Self {
        if let (SupplyKind::Waste, Level::Amount(used)) = (self.kind, self.level) {
            self.level = match self.capacity {
                Capacity::Amount(full) => Level::Amount(full.saturating_sub(used)),
                Capacity::Unknown | Capacity::Unlimited => Level::Unknown,
            };
        }
        self
    }
}

/// `#00FFFF`; of several the names are in the supply's text, if anywhere.
fn colour(text: &str) -> Option<Label> {
    let name = match text.to_ascii_lowercase().as_str() {
        "#000000" => "black",
        "#00ffff" => "cyan",
        "#ff00ff" => "magenta",
        "#ffff00" => "yellow",
        "#808080" => "gray",
        "#ffffff" => "white",
        _ => return None,
    };
    Some(Label::lossy(name))
}

/// Names of `PrtMarkerSuppliesTypeTC`, as `wasteToner` in one attribute and `waste-toner` in the other.
fn kind_of(word: &str, text: &str, is_receptacle: bool) -> SupplyKind {
    let kind = match word.replace('-', "").to_lowercase().as_str() {
        "toner" | "tonercartridge" => SupplyKind::Toner,
        "wastetoner" | "wasteink" | "wastewax" | "wastewater" | "wastepaper" => SupplyKind::Waste,
        "ink" | "inkcartridge" | "inkribbon" | "solidwax" | "ribbonwax" => SupplyKind::Ink,
        "opc" => SupplyKind::Drum,
        "developer" => SupplyKind::Developer,
        "fuser" | "fuseroil" | "fuseroiler" | "fuseroilwick" => SupplyKind::Fuser,
        "cleanerunit" | "fusercleaningpad" => SupplyKind::Cleaner,
        "transferunit" => SupplyKind::Transfer,
        "staples" | "stitchingwire" => SupplyKind::Staples,
        "inserts" | "covers" => SupplyKind::Media,
        _ => kind_word(text),
    };
    if is_receptacle && kind == SupplyKind::Other { SupplyKind::Waste } else { kind }
}

/// Names of `PrtMarkerSuppliesSupplyUnitTC`.
fn unit(word: &str) -> Unit {
    match word.to_lowercase().as_str() {
        "tenthousandthsofinches" => Unit::TenThousandthsOfInches,
        "micrometers" => Unit::Micrometres,
        "impressions" => Unit::Impressions,
        "sheets" => Unit::Sheets,
        "hours" => Unit::Hours,
        "thousandthsofounces" => Unit::ThousandthsOfOunces,
        "tenthsofgrams" => Unit::TenthsOfGrams,
        // The MIB has the slip of the pen, and so have printers.
        "hundrethsoffluidounces" | "hundredthsoffluidounces" => Unit::HundredthsOfFluidOunces,
        "tenthsofmilliliters" => Unit::TenthsOfMillilitres,
        "feet" => Unit::Feet,
        "meters" => Unit::Metres,
        "items" => Unit::Items,
        "percent" => Unit::Percent,
        _ => Unit::Unknown,
    }
}
