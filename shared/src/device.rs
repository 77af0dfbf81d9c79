//! What a device behind an agent is and says, in the words that both sides share: identity, status, counters,
//! supplies, parts. Faults are in `fault`. Values stay what the device said: "unknown" is no number, "some left" is
//! no 50 %, and nothing here is computed from two readings.
//!
//! Not here: how a device is asked (the agent's drivers), and what follows from two observations (the cores).

mod fault;
mod supply;
#[cfg(test)]
mod tests;

use core::fmt;

use minicbor::{Decode, Encode};

use crate::bounded;
use crate::id::{IdError, Label};
use crate::limits::{
    COUNTER_LABELS_MAX_COUNT, COUNTERS_MAX_COUNT, DEVICE_NAME_MAX_BYTES, FAULTS_MAX_COUNT,
    FIRMWARES_MAX_COUNT, PARTS_MAX_COUNT_OF_DEVICE, SUPPLIES_MAX_COUNT,
};
use crate::time::UnixMillis;

pub use fault::{Fault, FaultClass, FaultKey, FaultKind, Severity};

pub use supply::{Capacity, Level, Supply, SupplyKind};

/// Names one device at an agent: chosen at the site, and kept when the device's address changes. The characters of an
/// agent's ID; at most 64 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
#[cbor(transparent)]
pub struct DeviceName(#[n(0)] String);

impl DeviceName {
    /// Reads a name.
    ///
    /// # Errors
    /// Empty, too long, or a character that is not allowed.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let fits = (1..=DEVICE_NAME_MAX_BYTES).contains(&text.len());
        if !fits || !text.starts_with(|c: char| c.is_ascii_alphanumeric()) || !text.chars().all(good) {
            return Err(IdError::new(
                "device name",
                text,
                "1 to 64 letters, digits, '-', '_' and '.', a letter or digit first",
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'b, C> Decode<'b, C> for DeviceName {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::parse(d.str()?).map_err(minicbor::decode::Error::custom)
    }
}

named! {
    /// What kind of thing a device is. Never decided by one object alone: a PC with printer drivers has rows of
    /// a printer.
    DeviceClass {
        /// A printer.
        0 Printer "printer",
        /// Prints, copies and scans.
        1 Mfp "mfp",
        /// A scanner.
        2 Scanner "scanner",
        /// A fax machine.
        3 Fax "fax",
        /// A computer, the agent's own box among them.
        4 Pc "pc",
        /// A power supply with a battery.
        5 Ups "ups",
        /// A box that speaks for printers behind it.
        6 PrintServer "print-server",
        /// Anything else.
        7 Other "other",
    }
}

named! {
    /// What a device does.
    Status {
        /// It answers and says nothing about it.
        0 Unknown "unknown",
        /// Ready.
        1 Idle "idle",
        /// At work.
        2 Busy "busy",
        /// Not ready yet.
        3 WarmingUp "warming-up",
        /// Asleep to save energy: no fault.
        4 Sleeping "sleeping",
        /// Works, and wants attention.
        5 Warning "warning",
        /// Does not work until somebody does something.
        6 Down "down",
        /// Taken out of service at its panel.
        7 Offline "offline",
    }
}

named! {
    /// Whether a look could read what is wrong with a device.
    FaultsRead {
        /// Whatever is wrong is in the list: a fault that is not there is none.
        0 Known "known",
        /// Status or alerts did not come, or not all of them: what is not in the list may be there all the same.
        1 Unreadable "unreadable",
    }
}

impl Default for FaultsRead {
    /// Observations that say nothing of it were made when one was kept only if all of it had come.
    fn default() -> Self {
        Self::Known
    }
}

named! {
    /// What a counter counts.
    Unit {
        /// Sides of paper.
        0 Impressions "impressions",
        /// Sheets of paper: two impressions, if both sides are printed.
        1 Sheets "sheets",
        /// Things or events.
        2 Items "items",
        /// Hours.
        3 Hours "hours",
        /// Seconds.
        4 Seconds "seconds",
        /// Bytes.
        5 Bytes "bytes",
        /// Hundredths of the whole.
        6 Percent "percent",
        /// Thousandths of ounces.
        7 ThousandthsOfOunces "thousandths-of-ounces",
        /// Tenths of grams.
        8 TenthsOfGrams "tenths-of-grams",
        /// Hundredths of fluid ounces.
        9 HundredthsOfFluidOunces "hundredths-of-fluid-ounces",
        /// Tenths of millilitres.
        10 TenthsOfMillilitres "tenths-of-millilitres",
        /// Feet.
        11 Feet "feet",
        /// Metres.
        12 Metres "metres",
        /// Tenths of volts.
        13 TenthsOfVolts "tenths-of-volts",
        /// Watts.
        14 Watts "watts",
        /// Minutes.
        15 Minutes "minutes",
        /// Degrees Celsius.
        16 Celsius "celsius",
        /// The device does not say.
        17 Unknown "unknown",
        /// Ten-thousandths of inches.
        18 TenThousandthsOfInches "ten-thousandths-of-inches",
        /// Micrometres.
        19 Micrometres "micrometres",
        /// Tenths of hertz.
        20 TenthsOfHertz "tenths-of-hertz",
        /// Tenths of amperes.
        21 TenthsOfAmperes "tenths-of-amperes",
    }
}

named! {
    /// How a counter's values follow each other.
    Measure {
        /// It only rises; anything else is an anomaly.
        0 Cumulative "cumulative",
        /// It goes up and down: a load, a temperature.
        1 Gauge "gauge",
    }
}

/// Which device it is, as it says itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Identity {
    /// Its maker: the name on the box, which may be another than that of who made it.
    #[n(0)]
    pub vendor: Option<Label>,
    /// Its model.
    #[n(1)]
    pub model: Option<Label>,
    /// Its serial number.
    #[n(2)]
    pub serial: Option<Label>,
    /// What it calls itself in the network.
    #[n(3)]
    pub host: Option<Label>,
    /// What its agent says of it in one text (`sysDescr`).
    #[n(4)]
    pub description: Option<Label>,
    /// Versions of its control programs.
    #[cbor(n(5), decode_with = "bounded::list::<_, _, FIRMWARES_MAX_COUNT>")]
    pub firmware: Vec<Firmware>,
}

impl Identity {
    /// The version of one of its control programs, by the name that the device gives it. Case is ignored.
    #[must_use]
    pub fn version_of(&self, component: &str) -> Option<&Label> {
        let found = self.firmware.iter().find(|one| one.component.as_str().eq_ignore_ascii_case(component));
        found.map(|one| &one.version)
    }
}

/// One control program of a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(map)]
pub struct Firmware {
    /// What it controls: `main`, `controller`, `document-feeder`.
    #[n(0)]
    pub component: Label,
    /// Its version, as the device says it.
    #[n(1)]
    pub version: Label,
}

/// One counter or gauge. Name and labels tell it from the device's others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(map)]
pub struct Counter {
    /// What is counted: `pages`, `scans`, `jams`, `cpu-busy`.
    #[n(0)]
    pub name: Label,
    /// Of which kind: `function=copy`, `colour=mono`, `size=A4`, `paper=plain`, `sides=2`; sorted by key.
    #[cbor(n(1), decode_with = "bounded::list::<_, _, COUNTER_LABELS_MAX_COUNT>")]
    pub labels: Vec<(Label, Label)>,
    /// The value, as read.
    #[n(2)]
    pub value: u64,
    /// Its unit.
    #[n(3)]
    pub unit: Unit,
    /// Whether it may fall.
    #[n(4)]
    pub measure: Measure,
}

impl Counter {
    /// `colour=mono size=A4`: the labels as one text, in their order.
    #[must_use]
    pub fn labels_text(&self) -> String {
        self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
    }
}

/// A part that wears out, with its use and its life in the same unit.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Part {
    /// Tells it from the device's others and stays the same between readings.
    #[n(0)]
    pub key: Label,
    /// What it is, in the device's words.
    #[n(1)]
    pub name: Label,
    /// How much of it is used.
    #[n(2)]
    pub used: Option<u64>,
    /// How long it lives.
    #[n(3)]
    pub life: Option<u64>,
    /// The unit of both.
    #[n(4)]
    pub unit: Unit,
}

/// How long a device has been up, by its own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Uptime {
    /// Milliseconds since it started.
    #[n(0)]
    pub up_ms: u64,
    /// After so many it begins again at zero without a restart; `None`: never.
    #[n(1)]
    pub wraps_after_ms: Option<u64>,
    /// True if it is the device's own time, false if it may be that of its SNMP program alone.
    #[n(2)]
    pub of_host: bool,
}

/// One look at a device.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Observation {
    /// When the device answered, by the agent's clock.
    #[n(0)]
    pub taken_at: UnixMillis,
    /// What it is.
    #[n(1)]
    pub class: DeviceClass,
    /// Which one it is.
    #[n(2)]
    pub identity: Identity,
    /// What it does.
    #[n(3)]
    pub status: Status,
    /// How long it has been up.
    #[n(4)]
    pub uptime: Option<Uptime>,
    /// Its counters; none in a short look.
    #[cbor(n(5), decode_with = "bounded::list::<_, _, COUNTERS_MAX_COUNT>")]
    pub counters: Vec<Counter>,
    /// Its supplies; none in a short look.
    #[cbor(n(6), decode_with = "bounded::list::<_, _, SUPPLIES_MAX_COUNT>")]
    pub supplies: Vec<Supply>,
    /// Its parts; none in a short look.
    #[cbor(n(7), decode_with = "bounded::list::<_, _, PARTS_MAX_COUNT_OF_DEVICE>")]
    pub parts: Vec<Part>,
    /// What is wrong with it now; whether that is all, `faults_read` says.
    #[cbor(n(8), decode_with = "bounded::list::<_, _, FAULTS_MAX_COUNT>")]
    pub faults: Vec<Fault>,
    /// What could not be read and was left out, for a person.
    #[cbor(n(9), decode_with = "bounded::list::<_, _, FAULTS_MAX_COUNT>")]
    pub left_out: Vec<Label>,
    /// Whether `faults` are all that is wrong with it. From `Unreadable` nothing follows of a fault that is not in the list.
    #[cbor(n(10), default)]
    pub faults_read: FaultsRead,
}

impl Observation {
    /// A device that says nothing yet.
    #[must_use]
    pub fn of(class: DeviceClass, taken_at: UnixMillis) -> Self {
        Self {
            taken_at,
            class,
            identity: Identity::default(),
            status: Status::Unknown,
            uptime: None,
            counters: Vec::new(),
            supplies: Vec::new(),
            parts: Vec::new(),
            faults: Vec::new(),
            left_out: Vec::new(),
            faults_read: FaultsRead::Known,
        }
    }

    /// Cuts every list to what a message may hold, and says so in `left_out`: a device may answer endlessly.
    pub fn bound(&mut self) {
        let mut cut = Vec::new();
        let mut check = |what: &str, found: usize, most: usize| {
            if found > most {
                cut.push(Label::lossy(&format!("{what} past the first {most} of {found}")));
            }
        };
        check("counters", self.counters.len(), COUNTERS_MAX_COUNT);
        check("supplies", self.supplies.len(), SUPPLIES_MAX_COUNT);
        check("parts", self.parts.len(), PARTS_MAX_COUNT_OF_DEVICE);
        check("faults", self.faults.len(), FAULTS_MAX_COUNT);
        // Those past the bound last, whatever the list says.
        if self.faults.len() > FAULTS_MAX_COUNT {
            self.faults_read = FaultsRead::Unreadable;
        }
        check("firmware versions", self.identity.firmware.len(), FIRMWARES_MAX_COUNT);
        self.counters.truncate(COUNTERS_MAX_COUNT);
        self.supplies.truncate(SUPPLIES_MAX_COUNT);
        self.parts.truncate(PARTS_MAX_COUNT_OF_DEVICE);
        self.faults.truncate(FAULTS_MAX_COUNT);
        self.identity.firmware.truncate(FIRMWARES_MAX_COUNT);
        for counter in &mut self.counters {
            counter.labels.truncate(COUNTER_LABELS_MAX_COUNT);
        }
        cut.append(&mut self.left_out);
        cut.truncate(FAULTS_MAX_COUNT);
        self.left_out = cut;
    }
}
