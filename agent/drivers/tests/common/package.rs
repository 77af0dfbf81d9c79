//! An image, what its bundle says of it, and its way to a device.

use std::path::PathBuf;
use std::sync::Mutex;

use drivers::firmware::{Answer, Package, Pushed};
use drivers::{Device, Drivers, Profiles};
use shared::bundle::{FirmwareEntry, FirmwareHandler};
use shared::glob::Glob;
use shared::time::UnixMillis;
use shared::{Digest, Label};
use tempfile::TempDir;

/// An image in a folder of its own.
pub(crate) struct Parcel {
    pub(crate) entry: FirmwareEntry,
    pub(crate) file: PathBuf,
    pub(crate) content: Vec<u8>,
    _folder: TempDir,
}

impl Parcel {
    /// For the printers of `testkit::flash`, to version 2.0 of their component `main`.
    pub(crate) fn new(content: Vec<u8>, handler: FirmwareHandler, settings: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("image.bin");
        std::fs::write(&file, &content).unwrap();
        let label = |text: &str| Label::parse(text).unwrap();
        let model = Glob::new(label("*bizhub c250i"));
        let mut entry = FirmwareEntry::new(label("fw"), label("main"), model, label("2.0"), handler);
        entry.settings = settings.iter().map(|(key, value)| (label(key), label(value))).collect();
        Self { entry, file, content, _folder: folder }
    }

    pub(crate) fn package(&self) -> Package<'_> {
        let digest = Digest::of(&self.content);
        Package { entry: &self.entry, bytes: self.content.len() as u64, digest }
    }

    /// Sends it; and the bytes that were told on the way.
    pub(crate) async fn push(&self, device: &Device) -> (Pushed, Vec<u64>) {
        let told = Mutex::new(Vec::new());
        let progress = |bytes| told.lock().unwrap().push(bytes);
        let pushed = drivers().push_firmware(device, &self.file, &self.package(), &progress).await;
        (pushed, told.into_inner().unwrap())
    }

    pub(crate) async fn ask(&self, device: &Device) -> Answer {
        drivers().ask_firmware(device, &self.package(), || UnixMillis(1_000)).await
    }

    pub(crate) async fn activate(&self, device: &Device) -> Result<(), String> {
        drivers().activate_firmware(device, &self.package()).await
    }
}

pub(crate) fn drivers() -> Drivers {
    Drivers::new(Profiles::read([]).unwrap())
}

/// An SNMP device with a table `[device.firmware]`.
pub(crate) fn open_device(address: &str, table: &str) -> Device {
    super::device(address, &format!("[device.firmware]\nallowed = true\nstall = \"30s\"\n{table}"))
}

pub(crate) fn ready(shows: &str) -> Answer {
    Answer::Ready { shows: Label::parse(shows).unwrap() }
}

pub(crate) fn sent(pushed: &Pushed) -> u64 {
    match pushed {
        Pushed::Sent { bytes, .. } => *bytes,
        other => panic!("{other:?}"),
    }
}
