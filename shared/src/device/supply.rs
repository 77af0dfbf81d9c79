//! Toner, ink, drums, staples, waste boxes: what is left, as the device said it (Printer-MIB, RFC 3805).

use core::fmt;

use minicbor::{Decode, Encode};

use super::Unit;
use crate::id::Label;

named! {
    /// What a supply is. The names are those of `PrtMarkerSuppliesTypeTC`, as far as they are used.
    SupplyKind {
        /// Something else, or not said.
        0 Other "other",
        /// Toner.
        1 Toner "toner",
        /// Ink.
        2 Ink "ink",
        /// A drum or another photo conductor.
        3 Drum "drum",
        /// A developer.
        4 Developer "developer",
        /// A box for waste toner or waste ink: it gets full.
        5 Waste "waste",
        /// A fuser.
        6 Fuser "fuser",
        /// A transfer unit or belt.
        7 Transfer "transfer",
        /// A cleaner.
        8 Cleaner "cleaner",
        /// Staples.
        9 Staples "staples",
        /// Paper or another medium in a tray.
        10 Media "media",
        /// A filter.
        11 Filter "filter",
        /// The charge of a battery.
        12 Battery "battery",
        /// Rollers, kits, what a technician replaces.
        13 Maintenance "maintenance",
    }
}

/// How much is left. The special values stay what they are: no number is made of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Level {
    /// So much, in the supply's unit.
    #[n(0)]
    Amount(#[n(0)] u32),
    /// Some (`-3`).
    #[n(1)]
    SomeLeft,
    /// The device does not know (`-2`).
    #[n(2)]
    Unknown,
    /// There is no limit (`-1`).
    #[n(3)]
    Unlimited,
    /// Little, without a number (a maker's own value).
    #[n(4)]
    Low,
}

/// How much there is when it is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Capacity {
    /// So much, in the supply's unit.
    #[n(0)]
    Amount(#[n(0)] u32),
    /// The device does not know (`-2`).
    #[n(1)]
    Unknown,
    /// There is no limit (`-1`).
    #[n(2)]
    Unlimited,
}

impl Level {
    /// The level of this word.
    #[must_use]
    pub fn parse_word(text: &str) -> Option<Self> {
        [Self::SomeLeft, Self::Unknown, Self::Unlimited, Self::Low]
            .into_iter()
            .find(|level| level.to_string() == text)
    }
}

/// The number, or a word where there is none.
impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Amount(amount) => f.pad(&amount.to_string()),
            Self::SomeLeft => f.pad("some-left"),
            Self::Unknown => f.pad("unknown"),
            Self::Unlimited => f.pad("unlimited"),
            Self::Low => f.pad("low"),
        }
    }
}

impl Capacity {
    /// The capacity of this word.
    #[must_use]
    pub fn parse_word(text: &str) -> Option<Self> {
        [Self::Unknown, Self::Unlimited].into_iter().find(|capacity| capacity.to_string() == text)
    }
}

/// The number, or a word where there is none.
impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Amount(amount) => f.pad(&amount.to_string()),
            Self::Unknown => f.pad("unknown"),
            Self::Unlimited => f.pad("unlimited"),
        }
    }
}

/// One supply.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Supply {
    /// Tells it from the device's others and stays the same between readings.
    #[n(0)]
    pub key: Label,
    /// What it is.
    #[n(1)]
    pub kind: SupplyKind,
    /// Its colour: `black`, `cyan`, …, if it has one.
    #[n(2)]
    pub colour: Option<Label>,
    /// What it is, in the device's words.
    #[n(3)]
    pub text: Label,
    /// What is left; of a box for waste: the room in it.
    #[n(4)]
    pub level: Level,
    /// What there is when it is new.
    #[n(5)]
    pub capacity: Capacity,
    /// The unit of both.
    #[n(6)]
    pub unit: Unit,
    /// The maker's number for ordering a new one.
    #[n(7)]
    pub part_number: Option<Label>,
    /// The serial number of this one.
    #[n(8)]
    pub serial: Option<Label>,
}

impl Supply {
    /// Hundredths that are left, where the device's numbers say it: both are amounts, or the level is one of hundredths
    /// and the capacity unknown.
    #[must_use]
    pub fn percent(&self) -> Option<u8> {
        let Level::Amount(level) = self.level else { return None };
        let share = match self.capacity {
            Capacity::Amount(capacity) => {
                u64::from(level).saturating_mul(100).checked_div(u64::from(capacity))?
            }
            Capacity::Unknown if self.unit == Unit::Percent => u64::from(level),
            Capacity::Unknown | Capacity::Unlimited => return None,
        };
        u8::try_from(share.min(100)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toner(level: Level, capacity: Capacity, unit: Unit) -> Supply {
        let text = Label::lossy("Black Toner");
        let key = Label::lossy("1.1");
        let kind = SupplyKind::Toner;
        Supply { key, kind, colour: None, text, level, capacity, unit, part_number: None, serial: None }
    }

    #[test]
    fn a_percentage_is_said_only_where_numbers_are() {
        use {Capacity as C, Level as L, Unit as U};
        let percent = |l, c, u| toner(l, c, u).percent();
        assert_eq!(percent(L::Amount(5_340), C::Amount(6_000), U::Impressions), Some(89));
        assert_eq!(percent(L::Amount(110), C::Amount(100), U::Percent), Some(100));
        assert_eq!(percent(L::Amount(9), C::Unknown, U::Percent), Some(9));
        assert_eq!(percent(L::Amount(9), C::Unknown, U::Unknown), None);
        assert_eq!(percent(L::Amount(0), C::Amount(0), U::Percent), None);
        for level in [L::SomeLeft, L::Unknown, L::Unlimited, L::Low] {
            assert_eq!(percent(level, C::Amount(100), U::Percent), None);
        }
    }
}
