//! What a device does now: the three objects of HOST-RESOURCES-MIB read together, as RFC 3805 §2.2.13.2 combines them.

use shared::device::{DeviceClass, Status};

use super::codes::Errors;
use super::{View, codes, faults, mib};

/// What it does.
pub(super) fn status(view: &View<'_>, class: DeviceClass) -> Status {
    match class {
        DeviceClass::Ups => super::ups::status(view),
        // It answers, so it runs; how busy it is, its load says.
        DeviceClass::Pc => Status::Idle,
        _ => printer(view),
    }
}

fn printer(view: &View<'_>) -> Status {
    let index = view.printer_index().unwrap_or(1);
    let device = view.rows.number(mib::HR_DEVICE_STATUS, &[index]);
    let printer = view.rows.number(mib::HR_PRINTER_STATUS, &[index]);
    let errors = faults::errors(view, index);
    let blocks = errors.has_any(codes::BLOCKING);
    match (device, printer) {
        _ if errors.has_any(codes::OFFLINE) => Status::Offline,
        // hrDeviceStatus down(5).
        (Some(5), _) => Status::Down,
        // hrPrinterStatus printing(4), whatever else it wants.
        (_, Some(4)) => Status::Busy,
        // hrPrinterStatus warmup(5).
        (_, Some(5)) => Status::WarmingUp,
        // hrPrinterStatus other(1) with something in the way.
        (_, Some(1)) if blocks => Status::Down,
        _ if faults::is_saving_power(view) => Status::Sleeping,
        // hrDeviceStatus warning(3), or a bit.
        (Some(3), _) => Status::Warning,
        _ if errors != Errors::default() => Status::Warning,
        // hrDeviceStatus running(2) and hrPrinterStatus other(1): standby, and no fault.
        (Some(2), Some(1)) => Status::Sleeping,
        (_, Some(3)) => Status::Idle,
        // Running without a known error, and no word about the printer.
        (Some(2), None) => Status::Idle,
        _ => Status::Unknown,
    }
}
