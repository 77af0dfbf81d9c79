//! From what a device shows at each look to when a fault began and ended: an edge makes a report, a level makes none.
//! What flickers is damped: a fault has ended when it has stayed away, and one that keeps coming back must stay away
//! for longer each time.

use minicbor::{Decode, Encode};
use shared::device::{
    DeviceClass, DeviceName, Fault, FaultClass, FaultKey, FaultKind, FaultsRead, Observation, Severity,
    Status,
};
use shared::limits::FAULTS_MAX_COUNT;
use shared::message::FaultChange;
use shared::{Label, UnixMillis};

use crate::limits::{FAULT_AWAY_FIRST, FAULT_AWAY_LONGEST, MISSES_UNTIL_SILENT, UNARY_FAULT_LIFE, back_off};

/// What is remembered of a device.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Watched {
    /// What it is.
    #[n(0)]
    pub class: DeviceClass,
    /// Its maker and model.
    #[n(1)]
    pub model: Option<Label>,
    /// Its serial number.
    #[n(2)]
    pub serial: Option<Label>,
    /// Its faults that have not ended.
    #[n(3)]
    pub open: Vec<Open>,
    /// When it started, by its own word, and how often it was seen to start again.
    #[n(4)]
    pub starts: Option<super::starts::Starts>,
}

impl Default for Watched {
    fn default() -> Self {
        Self { class: DeviceClass::Other, model: None, serial: None, open: Vec::new(), starts: None }
    }
}

/// A fault that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Open {
    /// As it was seen last.
    #[n(0)]
    pub fault: Fault,
    /// When it was first seen.
    #[n(1)]
    pub raised_at: UnixMillis,
    /// It has been away since.
    #[n(2)]
    pub away_since: Option<UnixMillis>,
    /// How often it has come back, in this fault and those shortly before it.
    #[n(3)]
    pub returns: u32,
    /// It was said to be over because the device never says so; it is forgotten when it is gone.
    #[n(4)]
    pub aged: bool,
}

/// Why a device gave no observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookFault {
    /// Nothing came from it at all: it may be switched off.
    pub silence: bool,
    /// For people.
    pub why: Label,
}

/// What is remembered of the last looks, and may be lost in a restart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Looks {
    /// Looks in a row that failed.
    misses: u32,
    /// Looks in a row that could not read all that is wrong.
    unreadable: u32,
    /// What it did when it was seen last.
    status: Option<Status>,
    /// Faults that ended a short while ago.
    ended: Vec<Ended>,
}

#[derive(Clone, Debug)]
struct Ended {
    key: FaultKey,
    at: UnixMillis,
    returns: u32,
}

const UNREACHABLE: &str = "agent:no-answer";
const UNREADABLE: &str = "agent:not-readable";
const NOT_BACK: &str = "agent:not-back";

impl Watched {
    /// Takes an observation; gives the changes that are worth a report. True: something to be saved has changed.
    pub(crate) fn seen(
        &mut self,
        name: &DeviceName,
        looks: &mut Looks,
        seen: &Observation,
        changes: &mut Vec<FaultChange>,
    ) -> bool {
        let now = seen.taken_at;
        looks.misses = 0;
        looks.status = Some(seen.status);
        looks.ended.retain(|ended| now.since(ended.at) < FAULT_AWAY_LONGEST);
        let mut dirty = self.identify(seen);
        for fault in seen.faults.iter().take(FAULTS_MAX_COUNT) {
            dirty |= self.shows(name, looks, now, fault, changes);
        }
        // PROTOCOL 14.8: what such a look does not show may be there all the same, so it ends nothing.
        if seen.faults_read == FaultsRead::Unreadable {
            return self.half_seen(name, looks, now, changes) || dirty;
        }
        looks.unreadable = 0;
        let open = std::mem::take(&mut self.open);
        for open in open {
            let shown = seen.faults.iter().any(|fault| fault.key == open.fault.key);
            dirty |= self.keep_or_end(name, looks, now, open, shown, changes);
        }
        dirty
    }

    /// It answers, but not with all that is wrong with it: that it did not answer is over, and who waits for its faults is
    /// told that they cannot be read.
    fn half_seen(
        &mut self,
        name: &DeviceName,
        looks: &mut Looks,
        now: UnixMillis,
        changes: &mut Vec<FaultChange>,
    ) -> bool {
        let is_silence = |open: &Open| [UNREACHABLE, NOT_BACK].contains(&open.fault.code.as_str());
        let (silent, open): (Vec<Open>, Vec<Open>) =
            std::mem::take(&mut self.open).into_iter().partition(is_silence);
        self.open = open;
        let mut dirty = false;
        for open in silent {
            dirty |= self.keep_or_end(name, looks, now, open, false, changes);
        }
        looks.unreadable = looks.unreadable.saturating_add(1);
        if looks.unreadable < MISSES_UNTIL_SILENT {
            return dirty;
        }
        let why = LookFault { silence: false, why: Label::lossy("what is wrong with it cannot be read") };
        let fault = self.silence(None, &why);
        self.shows(name, looks, now, &fault, changes) || dirty
    }

    /// Takes a look that failed.
    pub(crate) fn missed(
        &mut self,
        name: &DeviceName,
        looks: &mut Looks,
        now: UnixMillis,
        fault: &LookFault,
        changes: &mut Vec<FaultChange>,
    ) -> bool {
        looks.misses = looks.misses.saturating_add(1);
        // Printers that sleep answer late or not at all; one look says nothing.
        if looks.misses < MISSES_UNTIL_SILENT {
            return false;
        }
        let fault = self.silence(looks.status, fault);
        // What the device itself has shown may last or not: nobody can say.
        self.shows(name, looks, now, &fault, changes)
    }

    /// It was updated, and does not answer when it should have come back.
    pub(crate) fn not_back(
        &mut self,
        name: &DeviceName,
        looks: &Looks,
        now: UnixMillis,
        changes: &mut Vec<FaultChange>,
    ) {
        let fault = Fault {
            key: FaultKey(Label::lossy(NOT_BACK)),
            code: Label::lossy(NOT_BACK),
            kind: FaultKind::Offline,
            class: FaultClass::A,
            severity: Severity::Critical,
            location: Label::default(),
            text: Label::lossy("did not come back after its update"),
            never_cleared: false,
        };
        self.shows(name, looks, now, &fault, changes);
    }

    /// The device is not watched any more: its faults end for whoever waits for that.
    pub(crate) fn forget(self, name: &DeviceName, now: UnixMillis, changes: &mut Vec<FaultChange>) {
        for open in self.open.iter().filter(|open| !open.aged) {
            changes.push(self.change(name, open, Some(open.away_since.unwrap_or(now))));
        }
    }

    fn identify(&mut self, seen: &Observation) -> bool {
        let words =
            [&seen.identity.vendor, &seen.identity.model].map(|word| word.as_ref().map_or("", Label::as_str));
        let model = Label::lossy(words.join(" ").trim());
        let model = Some(model).filter(|model| !model.is_empty()).or_else(|| self.model.clone());
        let serial = seen.identity.serial.clone().or_else(|| self.serial.clone());
        let same = (self.class, &self.model, &self.serial) == (seen.class, &model, &serial);
        self.class = seen.class;
        self.model = model;
        self.serial = serial;
        !same
    }

    /// A fault is there.
    fn shows(
        &mut self,
        name: &DeviceName,
        looks: &Looks,
        now: UnixMillis,
        fault: &Fault,
        changes: &mut Vec<FaultChange>,
    ) -> bool {
        if let Some(open) = self.open.iter_mut().find(|open| open.fault.key == fault.key) {
            let came_back = open.away_since.take().is_some();
            open.returns = open.returns.saturating_add(u32::from(came_back));
            let worse = open.fault.class != fault.class || open.fault.severity != fault.severity;
            open.fault = fault.clone();
            if worse && !open.aged {
                let open = open.clone();
                changes.push(self.change(name, &open, None));
            }
            return came_back || worse;
        }
        if self.open.len() >= FAULTS_MAX_COUNT {
            return false;
        }
        let before = looks.ended.iter().find(|ended| ended.key == fault.key);
        let returns = before.map_or(0, |ended| ended.returns.saturating_add(1));
        let open = Open { fault: fault.clone(), raised_at: now, away_since: None, returns, aged: false };
        changes.push(self.change(name, &open, None));
        self.open.push(open);
        true
    }

    fn keep_or_end(
        &mut self,
        name: &DeviceName,
        looks: &mut Looks,
        now: UnixMillis,
        mut open: Open,
        shown: bool,
        changes: &mut Vec<FaultChange>,
    ) -> bool {
        if shown {
            // devices say of some warnings that they began, and never that they ended.
            let old = open.fault.never_cleared && now.since(open.raised_at) >= UNARY_FAULT_LIFE;
            let ages = old && !open.aged;
            if ages {
                open.aged = true;
                changes.push(self.change(name, &open, Some(now)));
            }
            self.open.push(open);
            return ages;
        }
        // It answers: that it did not is over.
        let ours = [UNREACHABLE, UNREADABLE, NOT_BACK].contains(&open.fault.code.as_str());
        let first = open.away_since.is_none();
        let away = *open.away_since.get_or_insert(now);
        // PROTOCOL 14.8: one look may have missed it; what has come back before must stay away for longer.
        let long_enough = match open.returns.checked_sub(1) {
            None => !first,
            Some(returns) => now.since(away) >= back_off(FAULT_AWAY_FIRST, FAULT_AWAY_LONGEST, returns),
        };
        if !ours && !long_enough {
            self.open.push(open);
            return first;
        }
        if !open.aged {
            changes.push(self.change(name, &open, Some(away)));
        }
        looks.ended.retain(|ended| ended.key != open.fault.key);
        if looks.ended.len() < FAULTS_MAX_COUNT {
            looks.ended.push(Ended { key: open.fault.key, at: now, returns: open.returns });
        }
        true
    }

    fn change(&self, name: &DeviceName, open: &Open, cleared_at: Option<UnixMillis>) -> FaultChange {
        FaultChange {
            device: name.clone(),
            class: self.class,
            model: self.model.clone(),
            serial: self.serial.clone(),
            fault: open.fault.clone(),
            raised_at: open.raised_at,
            cleared_at,
            returns: open.returns,
        }
    }

    /// What it means that a device cannot be asked: a printer that was idle or asleep was most likely switched off; one
    /// that was in trouble is in more of it.
    fn silence(&self, status: Option<Status>, fault: &LookFault) -> Fault {
        let critical = self
            .open
            .iter()
            .any(|open| open.fault.severity == Severity::Critical && open.away_since.is_none());
        let before = match status {
            Some(status) => format!("; before that it was {status}"),
            None => String::new(),
        };
        let (code, kind, class, severity, guess) = match (fault.silence, critical) {
            (true, false) => {
                (UNREACHABLE, FaultKind::Offline, FaultClass::C, Severity::Info, ": switched off or asleep")
            }
            (true, true) => {
                (UNREACHABLE, FaultKind::Offline, FaultClass::A, Severity::Critical, ", with a fault")
            }
            (false, _) => (UNREADABLE, FaultKind::Error, FaultClass::C, Severity::Warning, ""),
        };
        // The network's words may change from look to look: the key does not.
        Fault {
            key: FaultKey(Label::lossy(code)),
            code: Label::lossy(code),
            kind,
            class,
            severity,
            location: Label::default(),
            text: Label::lossy(&format!("{}{before}{guess}", fault.why)),
            never_cleared: false,
        }
    }
}
