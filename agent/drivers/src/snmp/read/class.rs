//! What kind of device it is. Never by one object alone: a PC with printer drivers has rows of a printer, a printer may
//! have the `sysObjectID` of Linux, a printer behind a print server the server's `sysDescr`.

use shared::device::DeviceClass;

use super::{View, mib};

/// The class that the rows of the first look tell.
pub(crate) fn class(view: &View<'_>) -> DeviceClass {
    let rows = view.rows;
    let object_id = rows.at(mib::SYS_OBJECT_ID, &[0]).and_then(|value| value.name());
    let is_below = |prefix: &[u32]| object_id.is_some_and(|id| id.arcs().starts_with(prefix));
    let prints = is_printing(view);
    if is_below(mib::MICROSOFT) {
        return DeviceClass::Pc;
    }
    if rows.has(mib::UPS_BATTERY_STATUS) && !prints {
        return DeviceClass::Ups;
    }
    if let Some(class) = by_word(view) {
        return class;
    }
    if let Some(class) = view.profile.class() {
        return class;
    }
    if prints {
        return DeviceClass::Printer;
    }
    let is_computer = is_below(mib::NET_SNMP) || rows.has(mib::HR_PROCESSOR_LOAD);
    if is_computer { DeviceClass::Pc } else { DeviceClass::Other }
}

/// True if the device itself prints: it has a marker, supplies or a panel, or a printer's status and no operating system of
/// a PC.
pub(crate) fn is_printing(view: &View<'_>) -> bool {
    let rows = view.rows;
    let is_pc = rows.has(mib::HR_PROCESSOR_LOAD) || rows.has(mib::HR_RUN_STATUS);
    rows.has(mib::PRINTER_MIB) || (rows.has(mib::HR_PRINTER_ERRORS) && !is_pc)
}

/// A multi-function device says so in its name, and nowhere else.
fn by_word(view: &View<'_>) -> Option<DeviceClass> {
    let texts = super::identity::texts(view);
    let named = |word: &str| texts.iter().any(|text| text.contains(word));
    view.profile.classes.iter().find(|rule| named(&rule.word)).map(super::super::profile::ClassByWord::class)
}
