//! Wishes about updates of devices, beside those about orders and in the same folder:
//!
//! ```text
//! <home>/wishes/device-NAME.toml
//!     device = "mfp-2nd-floor"
//!     by = "tanaka"
//!     put_off_until = "2026-11-21T22:00:00Z"    # or cancel = true
//! ```

use std::fs::File;
use std::io;

use agent_core::{DeviceWant, DeviceWish};
use serde::{Deserialize, Serialize};
use shared::device::DeviceName;
use shared::error::{chain, quoted};
use shared::{Label, UnixMillis};

use super::{ERROR_MAX_CHARS, EXTENSION, Wishes};
use crate::files::{read_shared, remove_if_there, write_readable};
use crate::limits::{LEASE_NAMES_MAX_COUNT, WISH_FILE_MAX_BYTES, WISHES_MAX_COUNT};

const PREFIX: &str = "device-";

/// A wish as its file says it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    device: String,
    by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    put_off_until: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    cancel: bool,
}

impl Wishes {
    /// All wishes about devices that can be read.
    #[must_use]
    pub fn read_of_devices(&self) -> Vec<DeviceWish> {
        self.devices().iter().filter_map(|device| self.read_device(device).ok()).collect()
    }

    /// The same, for who acts on them; what is no wish is removed.
    #[must_use]
    pub fn attend_devices(&self) -> Vec<DeviceWish> {
        let mut wishes = vec![];
        for device in self.devices() {
            match self.read_device(&device) {
                Ok(wish) => wishes.push(wish),
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                Err(err) => {
                    tracing::warn!(%device, err = chain(&err), "A file is no wish and is removed");
                    if let Err(err) = self.forget_device(&device) {
                        tracing::warn!(%device, %err, "It cannot be removed");
                    }
                }
            }
        }
        wishes
    }

    fn devices(&self) -> Vec<DeviceName> {
        let Ok(entries) = std::fs::read_dir(self.folder()) else { return vec![] };
        let names = entries
            .take(LEASE_NAMES_MAX_COUNT)
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let of_one =
            |name: String| DeviceName::parse(name.strip_prefix(PREFIX)?.strip_suffix(EXTENSION)?).ok();
        let mut devices: Vec<DeviceName> = names.filter_map(of_one).collect();
        devices.sort();
        devices.truncate(WISHES_MAX_COUNT);
        devices
    }

    fn read_device(&self, device: &DeviceName) -> io::Result<DeviceWish> {
        let folder = File::open(self.folder())?;
        let (text, _) = read_shared(&folder, &format!("{PREFIX}{device}{EXTENSION}"), WISH_FILE_MAX_BYTES)?;
        parse(device, &text)
    }

    /// Writes a wish about a device down; it takes the place of an older one.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub fn put_device(&self, wish: &DeviceWish) -> io::Result<()> {
        let (put_off_until, cancel) = match wish.want {
            DeviceWant::PutOff(until) => (Some(until.to_string()), false),
            DeviceWant::Cancel => (None, true),
        };
        let (device, by) = (wish.device.to_string(), wish.by.to_string());
        // Plain strings always have a TOML form.
        let text = toml::to_string(&Written { device, by, put_off_until, cancel }).unwrap_or_default();
        write_readable(&self.device_path(&wish.device), text.as_bytes())
    }

    /// Removes what is wished of a device.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub fn forget_device(&self, device: &DeviceName) -> io::Result<()> {
        remove_if_there(&self.device_path(device))
    }

    fn device_path(&self, device: &DeviceName) -> std::path::PathBuf {
        self.folder().join(format!("{PREFIX}{device}{EXTENSION}"))
    }
}

/// Reads the text of a wish's file.
fn parse(device: &DeviceName, text: &str) -> io::Result<DeviceWish> {
    let written: Written =
        toml::from_str(text).map_err(|err| io::Error::other(quoted(err.message(), ERROR_MAX_CHARS)))?;
    if written.device != device.as_str() {
        let found = quoted(&written.device, ERROR_MAX_CHARS);
        return Err(io::Error::other(format!("expected the device \"{device}\", found \"{found}\"")));
    }
    let want = match (written.put_off_until, written.cancel) {
        (Some(until), false) => DeviceWant::PutOff(UnixMillis::parse(&until).map_err(io::Error::other)?),
        (None, true) => DeviceWant::Cancel,
        _ => return Err(io::Error::other("expected one of \"put_off_until\" and \"cancel\"")),
    };
    Ok(DeviceWish { device: device.clone(), by: Label::lossy(&written.by), want })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::private_folder;
    use agent_core::{Want, Wish};
    use shared::EnvelopeId;

    fn name(text: &str) -> DeviceName {
        DeviceName::parse(text).unwrap()
    }

    fn wish(device: &str, want: DeviceWant) -> DeviceWish {
        DeviceWish { device: name(device), by: Label::lossy("tanaka \"t\""), want }
    }

    #[test]
    fn wishes_about_devices_and_about_orders_lie_beside_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let wishes = Wishes::in_home(folder.path());
        private_folder(wishes.folder()).unwrap();
        let order = Wish { order: EnvelopeId([1; 16]), by: Label::lossy("t"), want: Want::Cancel };
        wishes.put(&order).unwrap();
        let put_off = wish("mfp.2", DeviceWant::PutOff(UnixMillis(1_795_000_000_000)));
        wishes.put_device(&wish("mfp.2", DeviceWant::Cancel)).unwrap();
        wishes.put_device(&put_off).unwrap();
        wishes.put_device(&wish("scale", DeviceWant::Cancel)).unwrap();
        assert_eq!(wishes.read_of_devices(), [put_off, wish("scale", DeviceWant::Cancel)]);
        assert_eq!(wishes.attend(), [order]);
        wishes.forget_device(&name("mfp.2")).unwrap();
        assert_eq!(wishes.attend_devices(), [wish("scale", DeviceWant::Cancel)]);
    }

    #[test]
    fn what_is_no_wish_about_a_device_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let wishes = Wishes::in_home(folder.path());
        private_folder(wishes.folder()).unwrap();
        for (device, text) in [
            ("a", ""),
            ("b", "device = \"a\"\nby = \"x\"\ncancel = true\n"),
            ("c", "device = \"c\"\nby = \"x\"\n"),
            ("d", "device = \"d\"\nby = \"x\"\ncancel = true\nput_off_until = \"2026-11-21\"\n"),
        ] {
            std::fs::write(wishes.device_path(&name(device)), text).unwrap();
        }
        assert_eq!(wishes.read_of_devices(), []);
        assert_eq!(std::fs::read_dir(wishes.folder()).unwrap().count(), 4);
        assert_eq!(wishes.attend_devices(), []);
        assert_eq!(std::fs::read_dir(wishes.folder()).unwrap().count(), 0);
    }
}
