//! What a bundle says of the firmware in it: which devices it is for, over which versions it goes, how it gets there (M17, R3).
//!
//! ```text
//! firmware = {
//!   0: text / 1: text      its module / its type: main, controller, feeder
//!   ? 2: text              vendor of the devices, a pattern
//!   3: text                their model, a pattern
//!   ? 4: text              their hardware, a pattern
//!   5: text                component under which a device reports the version of this firmware
//!   6: [* text]            versions it goes over; empty: any
//!   7: text                version that a device reports afterwards
//!   8: handler             0 raw9100 / 1 ftp / 2 http-upload / 3 tftp-serve / 4 ipp / 5 swupdate / 6 exec
//!   9: {* text: text}      settings of the handler
//!   10: uint / 11: uint    a device goes away within so long / is back after so long, milliseconds
//!   ? 12: bool             a transfer that broke off anywhere does no harm, and may be repeated
//! }
//! ```
//!
//! Not here: how a handler works (the agent's drivers), and when a device is updated (the agent's core).

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use minicbor::{Decode, Encode};
use thiserror::Error;

use super::manifest::{ModuleEntry, ModuleKind};
use crate::bounded;
use crate::device::Identity;
use crate::glob::Glob;
use crate::id::Label;
use crate::limits::{
    FIRMWARE_BACK_BY_MAX, FIRMWARE_ENTRIES_MAX_COUNT, FIRMWARE_SETTINGS_MAX_COUNT, MANIFEST_LIST_MAX_COUNT,
};

/// The component under which a device reports the revision of its hardware, if it does.
pub const HARDWARE: &str = "hardware";

/// How long a device may take to go away after a transfer, unless its bundle says otherwise.
pub const GOES_AWAY: Duration = Duration::from_secs(2 * 60);

/// How long a device may take until it is back with its new firmware, unless its bundle says otherwise: what makers say is 5 to 15
/// minutes for printers.
pub const BACK_BY: Duration = Duration::from_secs(20 * 60);

named! {
    /// How an image gets from the agent to a device.
    FirmwareHandler {
        /// Written to a TCP port as a print job.
        0 Raw9100 "raw9100",
        /// Stored by FTP.
        1 Ftp "ftp",
        /// Posted to a page of the device's web interface.
        2 HttpUpload "http-upload",
        /// Offered by TFTP; the device fetches it.
        3 TftpServe "tftp-serve",
        /// Sent by IPP.
        4 Ipp "ipp",
        /// Given to SWUpdate's web server.
        5 SwUpdate "swupdate",
        /// Given to a program that the site's operator has named.
        6 Exec "exec",
    }
}

/// One firmware of a bundle, for one type of one group of devices.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct FirmwareEntry {
    /// The module that is the image.
    #[n(0)]
    pub module: Label,
    /// Its type: `main`, `controller`, `feeder`.
    #[n(1)]
    pub kind: Label,
    /// The devices' vendor; `None`: any.
    #[n(2)]
    pub vendor: Option<Glob>,
    /// The devices' model.
    #[n(3)]
    pub model: Glob,
    /// The devices' hardware, as they report it under the component [`HARDWARE`]; `None`: any.
    #[n(4)]
    pub hardware: Option<Glob>,
    /// The component under which a device reports the version of this firmware.
    #[n(5)]
    pub component: Label,
    /// The versions it goes over; empty: any.
    #[cbor(n(6), decode_with = "bounded::list::<_, _, MANIFEST_LIST_MAX_COUNT>")]
    pub from: Vec<Label>,
    /// The version that a device reports afterwards.
    #[n(7)]
    pub version: Label,
    /// How it gets there.
    #[n(8)]
    pub handler: FirmwareHandler,
    /// What the handler has to know beside that.
    #[cbor(n(9), decode_with = "bounded::map::<_, _, _, FIRMWARE_SETTINGS_MAX_COUNT>")]
    pub settings: BTreeMap<Label, Label>,
    #[n(10)]
    pub(super) goes_away_ms: u64,
    #[n(11)]
    pub(super) back_by_ms: u64,
    /// A transfer that broke off anywhere does the device no harm: its maker says so.
    #[cbor(n(12), default, skip_if = "core::ops::Not::not")]
    pub repeatable: bool,
}

impl FirmwareEntry {
    /// A firmware for all devices of a model, over any version, with the times that most devices need.
    #[must_use]
    pub fn new(module: Label, kind: Label, model: Glob, version: Label, handler: FirmwareHandler) -> Self {
        Self {
            module,
            component: kind.clone(),
            kind,
            vendor: None,
            model,
            hardware: None,
            from: Vec::new(),
            version,
            handler,
            settings: BTreeMap::new(),
            goes_away_ms: millis(GOES_AWAY),
            back_by_ms: millis(BACK_BY),
            repeatable: false,
        }
    }

    /// The same with other times.
    #[must_use]
    pub fn with_times(mut self, goes_away: Duration, back_by: Duration) -> Self {
        (self.goes_away_ms, self.back_by_ms) = (millis(goes_away), millis(back_by));
        self
    }

    /// A device that is updated stops answering within so long after the transfer.
    #[must_use]
    pub fn goes_away(&self) -> Duration {
        Duration::from_millis(self.goes_away_ms)
    }

    /// A device that is updated answers again within so long after the transfer.
    #[must_use]
    pub fn back_by(&self) -> Duration {
        Duration::from_millis(self.back_by_ms)
    }

    /// True if it is for this device. One that does not say what is asked for is none.
    #[must_use]
    pub fn is_for(&self, device: &Identity) -> bool {
        let of =
            |glob: &Glob, text: Option<&Label>| text.is_some_and(|text| glob.matches(text.as_str().trim()));
        of(&self.model, device.model.as_ref())
            && self.vendor.as_ref().is_none_or(|glob| of(glob, device.vendor.as_ref()))
            && self.hardware.as_ref().is_none_or(|glob| of(glob, device.version_of(HARDWARE)))
    }

    /// The version of this firmware that the device shows.
    #[must_use]
    pub fn shown_by<'d>(&self, device: &'d Identity) -> Option<&'d Label> {
        device.version_of(self.component.as_str())
    }

    /// True if it goes over this version.
    #[must_use]
    pub fn goes_over(&self, version: &Label) -> bool {
        self.from.is_empty() || self.from.iter().any(|from| same_version(from, version))
    }
}

/// True if both are one version: devices pad them with blanks.
#[must_use]
pub fn same_version(one: &Label, other: &Label) -> bool {
    one.as_str().trim() == other.as_str().trim()
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Checks the entries of a manifest against each other and its modules (PROTOCOL 18.1).
///
/// # Errors
/// The first thing that is wrong.
pub(super) fn check(entries: &[FirmwareEntry], modules: &[ModuleEntry]) -> Result<(), FirmwareError> {
    if entries.len() > FIRMWARE_ENTRIES_MAX_COUNT {
        return Err(FirmwareError::TooMany { found: entries.len() });
    }
    let mut devices = BTreeSet::new();
    for entry in entries {
        entry.check(modules)?;
        if !devices.insert((entry.kind.as_str().to_lowercase(), &entry.vendor, &entry.model, &entry.hardware))
        {
            return Err(FirmwareError::Double { kind: entry.kind.clone(), model: entry.model.clone() });
        }
    }
    let named = |module: &&ModuleEntry| entries.iter().any(|entry| entry.module == module.name);
    match modules.iter().filter(|module| module.kind == ModuleKind::Firmware).find(|module| !named(module)) {
        Some(module) => Err(FirmwareError::NoEntry { module: module.name.clone() }),
        None => Ok(()),
    }
}

impl FirmwareEntry {
    fn check(&self, modules: &[ModuleEntry]) -> Result<(), FirmwareError> {
        let module = self.module.clone();
        match modules.iter().find(|one| one.name == self.module) {
            None => return Err(FirmwareError::NoModule { module }),
            Some(one) if one.kind != ModuleKind::Firmware => {
                return Err(FirmwareError::NoFirmware { module });
            }
            Some(one) if one.file.bytes == 0 => return Err(FirmwareError::NoBytes { module }),
            Some(_) => {}
        }
        let globs = [Some(&self.model), self.vendor.as_ref(), self.hardware.as_ref()];
        let texts = [&self.kind, &self.component, &self.version].map(Label::as_str);
        let texts = texts.into_iter().chain(globs.into_iter().flatten().map(Glob::as_str));
        if texts.chain(self.settings.keys().map(Label::as_str)).any(|text| text.trim().is_empty()) {
            return Err(FirmwareError::Empty { module });
        }
        let too_many = self.settings.len() > FIRMWARE_SETTINGS_MAX_COUNT;
        if too_many || self.from.len() > MANIFEST_LIST_MAX_COUNT {
            return Err(FirmwareError::TooLong { module });
        }
        if self.goes_away_ms > self.back_by_ms || self.back_by() > FIRMWARE_BACK_BY_MAX {
            return Err(FirmwareError::Times { module });
        }
        Ok(())
    }
}

/// A `[[firmware]]` that contradicts its bundle or itself.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FirmwareError {
    /// More than allowed.
    #[error("{found} firmwares, expected at most {FIRMWARE_ENTRIES_MAX_COUNT}")]
    TooMany {
        /// How many there are.
        found: usize,
    },
    /// Two for the same devices.
    #[error("two firmwares of the type \"{kind}\" are for the same devices, model \"{model}\"")]
    Double {
        /// The type.
        kind: Label,
        /// The model.
        model: Glob,
    },
    /// Names a module that is not there.
    #[error("a firmware is in the module \"{module}\", which the bundle does not have")]
    NoModule {
        /// The module.
        module: Label,
    },
    /// Names a module that is something else.
    #[error("a firmware is in the module \"{module}\", expected one of the kind \"firmware\"")]
    NoFirmware {
        /// The module.
        module: Label,
    },
    /// Names a module without content.
    #[error("the firmware in the module \"{module}\" has no bytes")]
    NoBytes {
        /// The module.
        module: Label,
    },
    /// A module of the kind `firmware` that no entry is about.
    #[error("the module \"{module}\" is a firmware, expected a [[firmware]] that says for which devices")]
    NoEntry {
        /// The module.
        module: Label,
    },
    /// A text that has to say something says nothing.
    #[error(
        "the firmware in the module \"{module}\" lacks its type, model, component or version, or has an empty text"
    )]
    Empty {
        /// The module.
        module: Label,
    },
    /// Too many versions or settings.
    #[error("the firmware in the module \"{module}\" has too many versions or settings")]
    TooLong {
        /// The module.
        module: Label,
    },
    /// Times that cannot be.
    #[error(
        "the firmware in the module \"{module}\" has impossible times, expected goes_away <= back_by <= 1d"
    )]
    Times {
        /// The module.
        module: Label,
    },
}
