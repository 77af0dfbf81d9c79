//! Rows of a device become an observation. Pure: no IO, no clock, nothing remembered.

mod class;
mod codes;
mod counters;
mod faults;
mod identity;
mod pc;
mod status;
mod supplies;
mod ups;
mod uptime;
mod vendor;

use shared::device::{DeviceClass, FaultsRead, Observation};
use shared::id::Label;
use shared::time::UnixMillis;

use super::mib;
use super::oid::Oid;
use super::profile::Profile;
use super::rows::{Rows, Value};
use super::text::{self, Charset};
use crate::Depth;

pub(crate) use class::{class, is_printing};
pub(crate) use faults::wants_power_cycle;
pub(crate) use supplies::{capacity, colour_word, kind_word, level, parts};

/// Rows with what is needed to understand them.
pub(crate) struct View<'a> {
    pub(crate) rows: &'a Rows,
    pub(crate) profile: &'a Profile,
    charset: Charset,
}

impl<'a> View<'a> {
    pub(crate) fn new(rows: &'a Rows, profile: &'a Profile) -> Self {
        Self { rows, profile, charset: charset(rows) }
    }

    /// A text of the device, if it is one and not empty.
    pub(crate) fn read(&self, value: Option<&Value>) -> Option<String> {
        let text = text::read(value?.bytes()?, self.charset);
        (!text.is_empty()).then_some(text)
    }

    /// The text of `column` at `index`.
    pub(crate) fn text(&self, column: &[u32], index: &[u32]) -> Option<String> {
        self.read(self.rows.at(column, index))
    }

    /// The first text among these objects.
    pub(crate) fn text_of(&self, objects: &[Oid]) -> Option<String> {
        objects.iter().find_map(|oid| self.read(self.rows.get(oid)))
    }

    /// The first text in a column.
    pub(crate) fn first_text(&self, column: &[u32]) -> Option<String> {
        self.rows.column(column).find_map(|(_, value)| self.read(Some(value)))
    }

    /// The index of the printer in the tables of HOST-RESOURCES-MIB; most say 1.
    pub(crate) fn printer_index(&self) -> Option<u32> {
        let first = |column| self.rows.column(column).find_map(|(index, _)| index.first().copied());
        let by_type = || {
            let is_printer = |value: &Value| value.name().is_some_and(|t| t.arcs() == mib::HR_DEVICE_PRINTER);
            let mut types = self.rows.column(mib::HR_DEVICE_TYPE);
            types.find(|(_, value)| is_printer(value)).and_then(|(index, _)| index.first().copied())
        };
        first(mib::HR_PRINTER_ERRORS)
            .or_else(|| first(mib::HR_PRINTER_STATUS))
            .or_else(by_type)
            .or_else(|| first(mib::HR_DEVICE_DESCR))
    }
}

/// The character set of the language that the device speaks now; of the first language, if it does not say which.
fn charset(rows: &Rows) -> Charset {
    let current = charset_name(rows).and_then(|name| rows.get(&name)).and_then(Value::number);
    Charset(current.or_else(|| rows.first_number(mib::PRT_CHARSET)))
}

/// Where the character set of the language stands that the device speaks now.
pub(crate) fn charset_name(rows: &Rows) -> Option<Oid> {
    let (device, language) = rows.column(mib::PRT_LOCALIZATION).next()?;
    let language = u32::try_from(language.number()?).ok()?;
    Some(Oid::new(mib::PRT_CHARSET).with(&[*device.first()?, language]))
}

/// A label of some text of the device.
fn label(text: &str) -> Label {
    Label::lossy(text)
}

/// What the rows say, in our words. `faults_read`: whether the rows that tell of faults have all come.
pub(crate) fn observation(
    view: &View<'_>,
    class: DeviceClass,
    depth: Depth,
    faults_read: FaultsRead,
    taken_at: UnixMillis,
) -> Observation {
    let mut seen = Observation::of(class, taken_at);
    seen.faults_read = faults_read;
    seen.identity = identity::identity(view, class);
    seen.uptime = uptime::uptime(view);
    seen.faults = match class {
        // Its printer rows are those of drivers, not of a device.
        DeviceClass::Pc => Vec::new(),
        DeviceClass::Ups => ups::faults(view),
        _ if faults_read == FaultsRead::Unreadable => faults::of_whole_rows(view),
        _ => faults::faults(view),
    };
    seen.status = status::status(view, class);
    if depth == Depth::Full {
        match class {
            DeviceClass::Ups => {
                seen.counters = ups::counters(view);
                seen.supplies = ups::supplies(view);
            }
            DeviceClass::Pc => seen.counters = pc::counters(view),
            _ => {
                seen.counters = counters::counters(view);
                seen.supplies = supplies::supplies(view);
                seen.parts = parts(&seen.supplies);
            }
        }
        vendor::add(view, &mut seen);
    }
    seen.bound();
    seen
}
