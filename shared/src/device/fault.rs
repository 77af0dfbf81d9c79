//! What is wrong with a device: one condition, with a key that stays the same while it lasts.

use minicbor::{Decode, Encode};

use crate::id::Label;

named! {
    /// What kind of fault it is (M16).
    FaultKind {
        /// Paper is stuck.
        0 Jam "jam",
        /// Something is broken or was found wrong.
        1 Error "error",
        /// Somebody at the device has to do something: a cover, a tray, paper.
        2 Alarm "alarm",
        /// A supply is low, empty, full or missing.
        3 Supply "supply",
        /// It was taken out of service, or does not answer any more.
        4 Offline "offline",
    }
}

named! {
    /// How bad a fault is for whoever uses the device (R14).
    FaultClass {
        /// Unusable until service comes.
        0 A "A",
        /// One function is unusable.
        1 B "B",
        /// To be logged only.
        2 C "C",
        /// Unusable until it is switched off and on.
        3 D "D",
    }
}

named! {
    /// How loud the device is about it.
    Severity {
        /// To be known.
        0 Info "info",
        /// It still works.
        1 Warning "warning",
        /// It does not work.
        2 Critical "critical",
    }
}

/// Tells a fault from the device's others and stays the same while the fault lasts: group, index, code and a digest of
/// the text; never a row's number, which devices give out anew.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct FaultKey(#[n(0)] pub Label);

/// A fault as a device shows it now.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Fault {
    /// Which one.
    #[n(0)]
    pub key: FaultKey,
    /// The device's code for it: `8`, `hr:jammed`, `ipp:media-jam`.
    #[n(1)]
    pub code: Label,
    /// Its kind.
    #[n(2)]
    pub kind: FaultKind,
    /// Its class.
    #[n(3)]
    pub class: FaultClass,
    /// How loud the device is about it.
    #[n(4)]
    pub severity: Severity,
    /// Where in the device.
    #[n(5)]
    pub location: Label,
    /// What the device says.
    #[n(6)]
    pub text: Label,
    /// The device never says that it is over (a unary warning): it ends when it is old.
    #[n(7)]
    pub never_cleared: bool,
}
