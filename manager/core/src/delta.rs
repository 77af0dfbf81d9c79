//! Who gets a delta of a bundle, and who the whole: a delta is for agents that have reported, good and in the right version, every
//! module that it changes. Pure. A guess all the same, because versions are names: the agent compares the files, and asks for the
//! whole bundle if they are others (PROTOCOL 6.10).

use minicbor::{Decode, Encode};
use shared::Label;
use shared::bundle::{Form, Manifest};
use shared::message::{Cause, FileState, Outcome, Phase, Refusal, Report, VersionReport};

use crate::campaign::{Target, TargetState};

/// A delta of a bundle, as far as the choice needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeltaFacts {
    /// Its number in the bundle, from 0.
    pub number: u8,
    /// What is mailed in all.
    pub bytes: u64,
    /// The modules that an agent has to have.
    pub base: Vec<BaseModule>,
}

/// A module that a delta was made for.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct BaseModule {
    /// Its name.
    #[n(0)]
    pub name: Label,
    /// Its version.
    #[n(1)]
    pub version: Label,
    /// Its date.
    #[n(2)]
    pub date: Label,
}

impl DeltaFacts {
    /// All deltas of a manifest; `bytes_of` says what is mailed of each.
    pub fn all(manifest: &Manifest, bytes_of: impl Fn(Form) -> Option<u64>) -> Vec<Self> {
        let deltas = (0u8..).zip(&manifest.deltas);
        let facts = deltas.filter_map(|(number, delta)| {
            let base = delta.patches.iter().map(|patch| BaseModule {
                name: patch.module.clone(),
                version: patch.base_version.clone(),
                date: patch.base_date.clone(),
            });
            Some(Self { number, bytes: bytes_of(Form::Delta(number))?, base: base.collect() })
        });
        facts.collect()
    }

    /// Whether an agent with this report has, as far as it is known, what the delta was made for.
    fn fits(&self, report: &VersionReport) -> bool {
        self.base.iter().all(|base| {
            report.modules.iter().any(|module| {
                module.file == FileState::Good
                    && (&module.name, &module.version, &module.date)
                        == (&base.name, &base.version, &base.date)
            })
        })
    }
}

/// What an agent is mailed that has reported this: the smallest delta that fits, or the whole.
#[must_use]
pub fn fitting<'d>(deltas: &'d [DeltaFacts], report: Option<&VersionReport>) -> Option<&'d DeltaFacts> {
    let report = report?;
    deltas.iter().filter(|delta| delta.fits(report)).min_by_key(|delta| delta.bytes)
}

impl Target {
    /// What its next order brings, if this delta fits what its agent has reported: none, once the agent could not use one.
    #[must_use]
    pub fn form(&self, fitting: Option<u8>) -> Form {
        fitting.filter(|_| !self.needs_full).map_or(Form::Full, Form::Delta)
    }

    /// Takes it that an agent could not use its delta: the whole bundle is mailed to it, as if nothing had been (PROTOCOL 6.11). True
    /// if there is nothing else in the report. The agent says so if its files are others; one that does not know deltas, or whose
    /// disk has changed under it, says that what came is not what was announced.
    pub(crate) fn turns_to_full(&mut self, report: &Report, cancelled: bool) -> bool {
        let Report::Ended(ended) = report else { return false };
        if self.delta.is_none() || self.order() != Some(ended.order) || self.state == TargetState::Pending {
            return false;
        }
        match &ended.outcome {
            Outcome::Refused(Refusal::OtherBase(_) | Refusal::BadBundle(_)) => {}
            Outcome::RolledBack(failure)
                if failure.phase == Phase::Stage && matches!(failure.cause, Cause::BadContent(_)) => {}
            Outcome::Installed
            | Outcome::AlreadyInstalled
            | Outcome::RolledBack(_)
            | Outcome::Refused(_)
            | Outcome::Damaged(_) => return false,
        }
        self.needs_full = true;
        // Who was given up meanwhile, or called back, is tried again as others are.
        if self.state.is_end() || cancelled {
            return false;
        }
        self.attempts = self.attempts.saturating_sub(1);
        self.restart();
        true
    }
}

#[cfg(test)]
mod tests {
    use shared::UnixMillis;
    use shared::message::{ModuleVersion, Reported};

    use super::*;

    fn module(name: &str, version: &str) -> ModuleVersion {
        let (name, version, date) = (Label::lossy(name), Label::lossy(version), Label::lossy("2026-01-01"));
        ModuleVersion { name, version, date, file: FileState::Good }
    }

    fn report(modules: Vec<ModuleVersion>) -> VersionReport {
        let rom_version = Label::lossy("1");
        VersionReport {
            software: Reported::Nothing,
            rom_version,
            modules,
            taken_at: UnixMillis(1),
            line: None,
        }
    }

    fn delta(number: u8, bytes: u64, base: &[(&str, &str)]) -> DeltaFacts {
        let base = base.iter().map(|(name, version)| BaseModule {
            name: Label::lossy(name),
            version: Label::lossy(version),
            date: Label::lossy("2026-01-01"),
        });
        DeltaFacts { number, bytes, base: base.collect() }
    }

    fn chosen(deltas: &[DeltaFacts], report: &VersionReport) -> Option<u8> {
        fitting(deltas, Some(report)).map(|delta| delta.number)
    }

    #[test]
    fn the_smallest_delta_is_chosen_whose_modules_an_agent_has_all() {
        let deltas = [
            delta(0, 90, &[("a", "1")]),
            delta(1, 50, &[("a", "1"), ("b", "1")]),
            delta(2, 10, &[("a", "0")]),
        ];
        assert_eq!(chosen(&deltas, &report(vec![module("a", "1"), module("b", "1")])), Some(1));
        assert_eq!(chosen(&deltas, &report(vec![module("a", "1"), module("b", "2")])), Some(0));
        assert_eq!(chosen(&deltas, &report(vec![module("a", "0")])), Some(2));
        assert_eq!(chosen(&deltas, &report(vec![module("b", "1")])), None);
    }

    #[test]
    fn who_has_not_reported_or_has_altered_files_gets_the_whole() {
        let deltas = [delta(0, 90, &[("a", "1")])];
        assert_eq!(fitting(&deltas, None), None);
        for file in [FileState::Altered, FileState::Missing] {
            let altered = ModuleVersion { file, ..module("a", "1") };
            assert_eq!(chosen(&deltas, &report(vec![altered])), None);
        }
        let other_date = ModuleVersion { date: Label::lossy("2026-02-01"), ..module("a", "1") };
        assert_eq!(chosen(&deltas, &report(vec![other_date])), None);
    }

    #[test]
    fn who_could_not_use_a_delta_gets_none_again() {
        let mut target = Target::new(None, 0);
        assert_eq!(target.form(Some(3)), Form::Delta(3));
        assert_eq!(target.form(None), Form::Full);
        target.needs_full = true;
        assert_eq!(target.form(Some(3)), Form::Full);
    }
}
