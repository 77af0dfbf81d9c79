//! What devices say that are asked without a library's decoder, and the list of devices, which people and a command write.

use drivers::access::{Entry, with_device, without_device};
use drivers::firmware::Pushed;
use drivers::{Depth, PrinterUrl, read_devices, replay};
use shared::UnixMillis;
use shared::bundle::FirmwareHandler;
use shared::device::{DeviceName, Observation};

use crate::harness::{said, take, told_operator};
use crate::servers::wait;

/// An answer of a printer: `how much is asked (1)`, then HTTP.
pub(crate) fn printer(mut data: &[u8]) -> bool {
    let [mode] = take::<1>(&mut data);
    let depth = if mode % 2 == 0 { Depth::Full } else { Depth::Faults };
    let Ok(url) = PrinterUrl::parse("ipp://mfp.lab.test/ipp/print") else { return false };
    match wait(replay::printer(&url, data, depth, UnixMillis(0))) {
        Some(Ok(seen)) => {
            // Whatever a printer says, it fits a message.
            let bytes = minicbor::to_vec(&seen).unwrap_or_default();
            assert_eq!(minicbor::decode::<Observation>(&bytes).ok().as_ref(), Some(&seen));
            true
        }
        Some(Err(fault)) => {
            said(&fault.to_string());
            false
        }
        None => false,
    }
}

/// What a device says to a handler of firmware: `handler (1)`, then its bytes.
pub(crate) fn firmware(mut data: &[u8]) -> bool {
    let [mode] = take::<1>(&mut data);
    let handlers = [
        FirmwareHandler::Ftp,
        FirmwareHandler::TftpServe,
        FirmwareHandler::SwUpdate,
        FirmwareHandler::Exec,
        FirmwareHandler::HttpUpload,
    ];
    let Some(handler) = handlers.get(usize::from(mode)) else { return false };
    match wait(replay::firmware(*handler, data)) {
        Some(Ok(())) => true,
        Some(Err(
            Pushed::NotBegun(why) | Pushed::Incomplete(why) | Pushed::Unclear(why) | Pushed::Refused(why),
        )) => {
            said(&why);
            false
        }
        Some(Err(Pushed::Sent { .. })) | None => false,
    }
}

/// `devices.toml`: read, and changed without a change to the devices that were there.
pub(crate) fn list(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let devices = match read_devices(&text) {
        Ok(devices) => devices,
        Err(err) => {
            told_operator(&err);
            return false;
        }
    };
    let entry = Entry { name: "new-device".to_owned(), driver: "host".to_owned(), ..Entry::default() };
    let Ok(name) = DeviceName::parse(&entry.name) else { return false };
    if let Ok(more) = with_device(&text, &entry) {
        assert_eq!(read_devices(&more).map(|devices| devices.len()).ok(), devices.len().checked_add(1));
        if let Ok(less) = without_device(&more, &name) {
            assert_eq!(read_devices(&less).ok().as_ref(), Some(&devices));
        }
    }
    for device in &devices {
        if let Ok(less) = without_device(&text, &device.name) {
            assert_eq!(read_devices(&less).map(|devices| devices.len()).ok(), devices.len().checked_sub(1));
        }
    }
    true
}
