//! Names and labels of counters: a short list for all makers, so that a fleet's counters can be compared.

use std::collections::BTreeMap;

use serde::Deserialize;
use shared::device::Unit;
use shared::id::Label;

/// What may be counted by a vendor's table.
pub(crate) const NAMES: &[&str] =
    &["pages", "sheets", "scans", "faxes", "jams", "originals", "power-ons", "staples", "other"];

/// The keys of labels with their values; none: any short text.
pub(crate) const LABELS: &[(&str, &[&str])] = &[
    ("function", &["print", "copy", "fax", "scan", "total", "list", "other"]),
    ("colour", &["mono", "colour", "full", "two", "single"]),
    ("toner", &["black", "cyan", "magenta", "yellow"]),
    ("sides", &["1", "2"]),
    ("size", &[]),
    ("paper", &[]),
];

/// A name of [`NAMES`].
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct CounterName(pub(crate) Label);

impl TryFrom<String> for CounterName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if NAMES.contains(&text.as_str()) {
            return Ok(Self(Label::lossy(&text)));
        }
        Err(format!("counter \"{text}\", expected one of {}", NAMES.join(", ")))
    }
}

impl CounterName {
    /// The unit of what bears this name, unless a rule says otherwise.
    pub(crate) fn unit(&self) -> Unit {
        match self.0.as_str() {
            "pages" | "scans" | "faxes" => Unit::Impressions,
            "sheets" | "originals" => Unit::Sheets,
            "other" => Unit::Unknown,
            _ => Unit::Items,
        }
    }
}

/// Labels of [`LABELS`], sorted by key.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
pub(crate) struct Labels(pub(crate) Vec<(Label, Label)>);

impl TryFrom<BTreeMap<String, String>> for Labels {
    type Error = String;

    fn try_from(map: BTreeMap<String, String>) -> Result<Self, String> {
        for (key, value) in &map {
            let Some((_, values)) = LABELS.iter().find(|(known, _)| known == key) else {
                let known: Vec<_> = LABELS.iter().map(|(known, _)| *known).collect();
                return Err(format!("label \"{key}\", expected one of {}", known.join(", ")));
            };
            if !values.is_empty() && !values.contains(&value.as_str()) {
                return Err(format!("label {key} = \"{value}\", expected one of {}", values.join(", ")));
            }
        }
        let label = |(key, value): (String, String)| (Label::lossy(&key), Label::lossy(&value));
        Ok(Self(map.into_iter().map(label).collect()))
    }
}
