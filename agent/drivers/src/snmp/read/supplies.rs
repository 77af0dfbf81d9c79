//! Supplies, trays and parts of a printer (Printer-MIB). Levels stay what the device says; only a profile that knows
//! better changes what they mean.

use shared::device::{Capacity, Level, Part, Supply, SupplyKind, Unit};
use shared::id::Label;

use super::super::oid::dotted;
use super::super::profile::{Bare, Waste};
use super::{View, label, mib};

/// Toner, ink, drums, staples, waste boxes, and paper in trays.
pub(super) fn supplies(view: &View<'_>) -> Vec<Supply> {
    let mut all: Vec<Supply> = indices(view, mib::PRT_SUPPLY_DESCR, mib::PRT_SUPPLY_LEVEL)
        .into_iter()
        .map(|index| supply(view, index))
        .collect();
    if all.is_empty() {
        all = own_table(view);
    }
    all.extend(indices(view, mib::PRT_INPUT_NAME, mib::PRT_INPUT_LEVEL).into_iter().map(|i| tray(view, i)));
    all
}

/// Rows of a table, told by either of two columns: devices leave out one or the other.
fn indices<'a>(view: &View<'a>, one: &'a [u32], other: &'a [u32]) -> Vec<&'a [u32]> {
    let column = |column| view.rows.column(column).map(|(index, _)| index);
    let mut all: Vec<&[u32]> = column(one).chain(column(other)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn supply(view: &View<'_>, index: &[u32]) -> Supply {
    let rows = view.rows;
    let rules = &view.profile.supplies;
    let said = view.text(mib::PRT_SUPPLY_DESCR, index).unwrap_or_default();
    let text = Description::read(&said, rules.part_number_after.as_deref(), rules.serial_after.as_deref());
    let kind = kind(rows.number(mib::PRT_SUPPLY_TYPE, index), &text.name);
    let is_receptacle = rows.number(mib::PRT_SUPPLY_CLASS, index) == Some(4);
    let kind = if is_receptacle && kind == SupplyKind::Other { SupplyKind::Waste } else { kind };
    let mut unit = unit(rows.number(mib::PRT_SUPPLY_UNIT, index));
    let capacity = capacity(rows.number(mib::PRT_SUPPLY_MAX, index));
    let number = rows.number(mib::PRT_SUPPLY_LEVEL, index);
    let mut level = number.and_then(|n| rules.special(n)).unwrap_or_else(|| level(number));
    let is_bare = matches!((level, capacity), (Level::Amount(0..=100), Capacity::Unknown));
    if is_bare && unit == Unit::Unknown && rules.bare_level == Bare::Percent {
        unit = Unit::Percent;
    }
    if kind == SupplyKind::Waste && rules.waste == Waste::Used {
        level = room(level, capacity, unit);
    }
    Supply {
        key: label(&dotted(index)),
        kind,
        colour: colour(view, index, &text.name),
        text: label(&text.name),
        level,
        capacity,
        unit,
        part_number: text.part_number,
        serial: text.serial,
    }
}

/// The room in a box of which the device says what is in it.
fn room(level: Level, capacity: Capacity, unit: Unit) -> Level {
    let full = match capacity {
        Capacity::Amount(full) => full,
        Capacity::Unknown if unit == Unit::Percent => 100,
        Capacity::Unknown | Capacity::Unlimited => return Level::Unknown,
    };
    match level {
        Level::Amount(used) => Level::Amount(full.saturating_sub(used)),
        other => other,
    }
}

fn tray(view: &View<'_>, index: &[u32]) -> Supply {
    let rows = view.rows;
    let text = [mib::PRT_INPUT_NAME, mib::PRT_INPUT_DESCR, mib::PRT_INPUT_MEDIA]
        .iter()
        .find_map(|column| view.text(column, index));
    Supply {
        key: label(&format!("input:{}", dotted(index))),
        kind: SupplyKind::Media,
        colour: None,
        text: label(&text.unwrap_or_default()),
        level: level(rows.number(mib::PRT_INPUT_LEVEL, index)),
        capacity: capacity(rows.number(mib::PRT_INPUT_MAX, index)),
        unit: unit(rows.number(mib::PRT_INPUT_UNIT, index)),
        part_number: None,
        serial: None,
    }
}

/// A maker's own table, in hundredths.
fn own_table(view: &View<'_>) -> Vec<Supply> {
    let Some(table) = &view.profile.supplies.table else { return Vec::new() };
    let read = |(index, value): (&[u32], &super::super::rows::Value)| {
        let number = value.number();
        let special = number.and_then(|number| view.profile.supplies.special(number));
        let text = view.text(table.names.arcs(), index).unwrap_or_default();
        Supply {
            key: label(&format!("own:{}", dotted(index))),
            kind: kind(None, &text),
            colour: colour_word(&text),
            text: label(&text),
            level: special.unwrap_or_else(|| level(number)),
            capacity: Capacity::Amount(100),
            unit: Unit::Percent,
            part_number: None,
            serial: None,
        }
    };
    view.rows.column(table.levels.arcs()).map(read).collect()
}

/// Supplies that a technician replaces, as parts: what is used up of their life.
pub(crate) fn parts(supplies: &[Supply]) -> Vec<Part> {
    use SupplyKind::{Cleaner, Developer, Drum, Filter, Fuser, Maintenance, Transfer};
    let is_part = |supply: &&Supply| {
        matches!(supply.kind, Drum | Developer | Fuser | Transfer | Cleaner | Filter | Maintenance)
    };
    let part = |supply: &Supply| {
        let life = match (supply.capacity, supply.unit) {
            (Capacity::Amount(life), _) => Some(life),
            (Capacity::Unknown, Unit::Percent) => Some(100),
            (Capacity::Unknown | Capacity::Unlimited, _) => None,
        };
        let used = match (supply.level, life) {
            (Level::Amount(left), Some(life)) => Some(u64::from(life.saturating_sub(left))),
            _ => None,
        };
        let (key, name) = (supply.key.clone(), supply.text.clone());
        Part { key, name, used, life: life.map(u64::from), unit: supply.unit }
    };
    supplies.iter().filter(is_part).map(part).collect()
}

/// `-1` no limit, `-2` unknown, `-3` some left; other negative numbers mean nothing.
pub(crate) fn level(number: Option<i64>) -> Level {
    match number {
        Some(-3) => Level::SomeLeft,
        Some(-1) => Level::Unlimited,
        Some(number) => u32::try_from(number).map_or(Level::Unknown, Level::Amount),
        None => Level::Unknown,
    }
}

pub(crate) fn capacity(number: Option<i64>) -> Capacity {
    match number {
        Some(-1) => Capacity::Unlimited,
        Some(number) => u32::try_from(number).map_or(Capacity::Unknown, Capacity::Amount),
        None => Capacity::Unknown,
    }
}

/// `PrtMarkerSuppliesSupplyUnitTC`, `PrtCapacityUnitTC`.
fn unit(code: Option<i64>) -> Unit {
    match code {
        Some(3) => Unit::TenThousandthsOfInches,
        Some(4) => Unit::Micrometres,
        Some(7) => Unit::Impressions,
        Some(8) => Unit::Sheets,
        Some(11) => Unit::Hours,
        Some(12) => Unit::ThousandthsOfOunces,
        Some(13) => Unit::TenthsOfGrams,
        Some(14) => Unit::HundredthsOfFluidOunces,
        Some(15) => Unit::TenthsOfMillilitres,
        Some(16) => Unit::Feet,
        Some(17) => Unit::Metres,
        Some(18) => Unit::Items,
        Some(19) => Unit::Percent,
        _ => Unit::Unknown,
    }
}

/// `PrtMarkerSuppliesTypeTC`; where the device does not say, its text does.
fn kind(code: Option<i64>, text: &str) -> SupplyKind {
    match code {
        Some(3 | 21 | 35) => SupplyKind::Toner,
        Some(4 | 8 | 14 | 24 | 26) => SupplyKind::Waste,
        Some(5 | 6 | 7 | 12 | 13 | 36) => SupplyKind::Ink,
        Some(9) => SupplyKind::Drum,
        Some(10) => SupplyKind::Developer,
        Some(11 | 15 | 17 | 22) => SupplyKind::Fuser,
        Some(18 | 19) => SupplyKind::Cleaner,
        Some(20) => SupplyKind::Transfer,
        Some(29 | 32) => SupplyKind::Staples,
        Some(33 | 34) => SupplyKind::Media,
        _ => kind_word(text),
    }
}

/// Words and what they say, the first that is there: "waste toner" is no toner.
const KINDS: [(&str, SupplyKind); 20] = [
    ("waste", SupplyKind::Waste),
    ("drum", SupplyKind::Drum),
    ("photoconductor", SupplyKind::Drum),
    ("imaging unit", SupplyKind::Drum),
    ("image unit", SupplyKind::Drum),
    ("developer", SupplyKind::Developer),
    ("fuser", SupplyKind::Fuser),
    ("fusing", SupplyKind::Fuser),
    ("cleaner", SupplyKind::Cleaner),
    ("transfer", SupplyKind::Transfer),
    ("bias", SupplyKind::Transfer),
    ("belt", SupplyKind::Transfer),
    ("filter", SupplyKind::Filter),
    ("maintenance", SupplyKind::Maintenance),
    ("roller", SupplyKind::Maintenance),
    ("feeder kit", SupplyKind::Maintenance),
    ("stapl", SupplyKind::Staples),
    ("ink", SupplyKind::Ink),
    ("toner", SupplyKind::Toner),
    ("cartridge", SupplyKind::Toner),
];

pub(crate) fn kind_word(text: &str) -> SupplyKind {
    let text = text.to_lowercase();
    KINDS.iter().find(|(word, _)| text.contains(word)).map_or(SupplyKind::Other, |(_, kind)| *kind)
}

/// Its colorant's name, else a colour in its text.
fn colour(view: &View<'_>, index: &[u32], text: &str) -> Option<Label> {
    let colorant = view.rows.number(mib::PRT_SUPPLY_COLORANT, index).and_then(|n| u32::try_from(n).ok());
    let named = colorant
        .filter(|colorant| *colorant > 0)
        .and_then(|colorant| view.text(mib::PRT_COLORANT_VALUE, &[*index.first()?, colorant]));
    named.map(|name| label(&name.to_lowercase())).or_else(|| colour_word(text))
}

/// Longer names first: light cyan is not cyan.
const COLOURS: [&str; 12] = [
    "light cyan",
    "light magenta",
    "light gray",
    "photo black",
    "matte black",
    "black",
    "cyan",
    "magenta",
    "yellow",
    "gray",
    "white",
    "clear",
];

pub(crate) fn colour_word(text: &str) -> Option<Label> {
    let text = text.to_lowercase();
    COLOURS.iter().find(|colour| text.contains(*colour)).map(|colour| label(colour))
}

/// A supply's text, with the numbers that some makers put into it.
struct Description {
    name: String,
    part_number: Option<Label>,
    serial: Option<Label>,
}

impl Description {
    /// `Fuser, PN 008R13;SN123` by the words that a profile names.
    fn read(text: &str, part_word: Option<&str>, serial_word: Option<&str>) -> Self {
        let end = |c: char| matches!(c, ',' | ';');
        let mut name = text;
        let mut number = |word: Option<&str>| {
            let at = word.and_then(|word| text.find(word).map(|at| (at, word)))?;
            let (before, rest) = text.split_at_checked(at.0)?;
            if before.len() < name.len() {
                name = before;
            }
            let found = rest.strip_prefix(at.1)?.split(end).next()?.trim();
            (!found.is_empty() && found != "unknown").then(|| label(found))
        };
        let part_number = number(part_word);
        let serial = number(serial_word);
        let name = name.trim_end_matches(|c: char| end(c) || c == ' ').to_owned();
        Self { name, part_number, serial }
    }
}
