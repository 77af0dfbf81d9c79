//! The rules of a profile, as they stand in its file. Unknown keys are errors.

use std::collections::BTreeMap;

use serde::Deserialize;
use shared::device::{DeviceClass, Level, Unit};

use super::names::{CounterName, Labels};
use crate::snmp::oid::Oid;

/// A class by its name.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct ClassName(pub(crate) DeviceClass);

impl TryFrom<String> for ClassName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        DeviceClass::parse(&text).map(Self).ok_or_else(|| {
            let all: Vec<_> = DeviceClass::ALL.iter().map(|class| class.as_str()).collect();
            format!("class \"{text}\", expected one of {}", all.join(", "))
        })
    }
}

/// A unit by its name.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct UnitName(pub(crate) Unit);

impl TryFrom<String> for UnitName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Unit::parse(&text).map(Self).ok_or_else(|| {
            let all: Vec<_> = Unit::ALL.iter().map(|unit| unit.as_str()).collect();
            format!("unit \"{text}\", expected one of {}", all.join(", "))
        })
    }
}

/// Which devices a profile is for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Match {
    object_ids: Vec<Oid>,
    words: Vec<String>,
    pub(super) present: Vec<Oid>,
}

impl Match {
    pub(super) fn is_empty(&self) -> bool {
        self.object_ids.is_empty() && self.words.is_empty() && self.present.is_empty()
    }

    /// Numbers that the longest matching prefix has.
    pub(super) fn length(&self, id: &Oid) -> Option<usize> {
        self.object_ids.iter().filter(|prefix| id.is_in(prefix)).map(|prefix| prefix.arcs().len()).max()
    }

    pub(super) fn has_word_of(&self, texts: &[String]) -> bool {
        self.words.iter().any(|word| texts.iter().any(|text| text.contains(word)))
    }
}

/// A name on the box that is not the maker's.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Brand {
    pub(crate) word: String,
    pub(crate) vendor: String,
}

/// A class that a word in the model's name tells.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClassByWord {
    pub(crate) word: String,
    class: ClassName,
}

impl ClassByWord {
    pub(crate) fn class(&self) -> DeviceClass {
        self.class.0
    }
}

/// Where a device says which one it is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct IdentityRules {
    pub(crate) serial: Vec<Oid>,
    pub(crate) model: Vec<Oid>,
    /// Texts in the form of IEEE 1284: `MFG:…;MDL:…;SN:…;`.
    pub(crate) device_id: Vec<Oid>,
    /// Its model is the better one: `hrDeviceDescr` has more in it than a name.
    pub(crate) model_by_device_id: bool,
    pub(crate) firmware: Vec<FirmwareRule>,
    pub(crate) firmware_table: Option<FirmwareTable>,
    /// What stands before the serial number in `sysDescr`.
    pub(crate) serial_after: Option<String>,
    /// What stands before the model in `sysDescr`.
    pub(crate) model_after: Option<String>,
    /// What stands before the version in `sysDescr`.
    pub(crate) firmware_after: Option<String>,
}

/// Where one control program's version is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FirmwareRule {
    pub(crate) component: String,
    pub(crate) version: Oid,
}

/// A table of control programs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FirmwareTable {
    pub(crate) names: Oid,
    pub(crate) versions: Oid,
}

/// What the level of a box for waste means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Waste {
    /// The room in it, as RFC 3805 says.
    #[default]
    Remaining,
    /// What is in it.
    Used,
}

/// What a level means whose capacity is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Bare {
    /// So much of what the unit says.
    #[default]
    Amount,
    /// Hundredths.
    Percent,
}

/// A level that is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Special {
    Low,
    Some,
    Unknown,
}

impl Special {
    pub(crate) fn level(self) -> Level {
        match self {
            Self::Low => Level::Low,
            Self::Some => Level::SomeLeft,
            Self::Unknown => Level::Unknown,
        }
    }
}

/// How a maker bends the table of supplies.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SupplyRules {
    pub(crate) waste: Waste,
    pub(crate) bare_level: Bare,
    special: BTreeMap<String, Special>,
    /// Supplies in a table of its own, where the standard one has none.
    pub(crate) table: Option<SupplyTable>,
    /// What stands before the part number in a supply's text.
    pub(crate) part_number_after: Option<String>,
    /// What stands before the serial number in a supply's text.
    pub(crate) serial_after: Option<String>,
}

impl SupplyRules {
    /// What this number means, if it is no amount.
    pub(crate) fn special(&self, level: i64) -> Option<Level> {
        self.special.get(&level.to_string()).map(|special| special.level())
    }
}

/// A vendor's table of supplies, in hundredths.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SupplyTable {
    pub(crate) names: Oid,
    pub(crate) levels: Oid,
}

/// What a counter is called.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CounterRule {
    pub(crate) oid: Oid,
    pub(crate) name: CounterName,
    #[serde(default)]
    pub(crate) labels: Labels,
    pub(crate) unit: Option<UnitName>,
}

/// A table of counters.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TableRule {
    /// The column that tells a row's meaning; without it, its index does.
    pub(crate) keys: Option<Oid>,
    /// The column with the device's words for it.
    pub(crate) names: Option<Oid>,
    pub(crate) values: Oid,
    /// Whether rows of other keys are counters too: `other`, with the device's word or the key as label.
    #[serde(default)]
    pub(crate) others: Others,
    #[serde(rename = "row", default)]
    pub(crate) rows: Vec<TableRow>,
}

/// What becomes of rows that no rule names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Others {
    /// Nothing.
    #[default]
    Drop,
    /// A counter `other`.
    Keep,
}

/// One row of a table of counters.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TableRow {
    pub(crate) key: String,
    pub(crate) name: CounterName,
    #[serde(default)]
    pub(crate) labels: Labels,
    pub(crate) unit: Option<UnitName>,
}

/// A value with many records in it: one byte that names it, one for its type, one for its length, then a number; `ff`
/// ends them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordsRule {
    pub(crate) value: Oid,
    #[serde(rename = "counter", default)]
    pub(crate) counters: Vec<RecordCounter>,
    #[serde(rename = "part", default)]
    pub(crate) parts: Vec<RecordPart>,
}

/// A record that is a counter.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordCounter {
    pub(crate) id: u8,
    pub(crate) name: CounterName,
    #[serde(default)]
    pub(crate) labels: Labels,
}

/// A record about a part.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordPart {
    pub(crate) id: u8,
    pub(crate) name: String,
    /// What is left of `full`; without it, how much of the part is used.
    pub(crate) full: Option<u64>,
    pub(crate) unit: UnitName,
}

/// A part whose use, and perhaps life, are objects of their own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PartRule {
    pub(crate) name: String,
    pub(crate) used: Oid,
    pub(crate) life: Option<Oid>,
    pub(crate) unit: UnitName,
}
