//! Vendor profiles: where a maker keeps what the standard MIBs lack, and how it bends them. Data, not code: TOML files,
//! ours built in, a user's read from a folder of the home. `agent/drivers/profiles/README.md` describes the format and the
//! names of counters, for all makers the same.
//!
//! Not here: reading a device by them (`read::vendor`).

mod names;
mod rules;

use serde::Deserialize;
use shared::error::TomlFault;
use thiserror::Error;

use super::oid::Oid;
use crate::limits::{PROFILE_MAX_BYTES, PROFILES_MAX_COUNT};

pub(crate) use names::{CounterName, Labels};
pub(crate) use rules::{
    Bare, Brand, ClassByWord, CounterRule, IdentityRules, Others, PartRule, RecordPart, RecordsRule,
    SupplyRules, TableRule, UnitName, Waste,
};
use rules::{ClassName, Match};

/// What is known of one maker's devices.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Profile {
    /// The maker, where the device itself names no other.
    pub(crate) vendor: Option<String>,
    class: Option<ClassName>,
    #[serde(rename = "match")]
    matching: Match,
    #[serde(rename = "brand")]
    pub(crate) brands: Vec<Brand>,
    #[serde(rename = "class_by_word")]
    pub(crate) classes: Vec<ClassByWord>,
    pub(crate) identity: IdentityRules,
    pub(crate) supplies: SupplyRules,
    #[serde(rename = "counter")]
    pub(crate) counters: Vec<CounterRule>,
    #[serde(rename = "table")]
    pub(crate) tables: Vec<TableRule>,
    pub(crate) records: Vec<RecordsRule>,
    #[serde(rename = "part")]
    pub(crate) parts: Vec<PartRule>,
}

impl Profile {
    /// What this maker's devices are, unless a word says otherwise.
    pub(crate) fn class(&self) -> Option<shared::device::DeviceClass> {
        self.class.map(|class| class.0)
    }

    /// Single objects that it wants read.
    pub(crate) fn objects(&self) -> Vec<Oid> {
        let identity = &self.identity;
        let firmware = identity.firmware.iter().map(|rule| &rule.version);
        let parts = self.parts.iter().flat_map(|rule| [Some(&rule.used), rule.life.as_ref()]).flatten();
        let mut all: Vec<Oid> = identity
            .serial
            .iter()
            .chain(&identity.model)
            .chain(&identity.device_id)
            .chain(firmware)
            .chain(self.counters.iter().map(|rule| &rule.oid))
            .chain(self.records.iter().map(|rule| &rule.value))
            .chain(parts)
            .cloned()
            .collect();
        all.sort();
        all.dedup();
        all
    }

    /// Tables that it wants read: each a list of columns.
    pub(crate) fn columns(&self) -> Vec<Vec<&[u32]>> {
        let mut all = Vec::new();
        for table in &self.tables {
            let columns = [table.keys.as_ref(), table.names.as_ref(), Some(&table.values)];
            all.push(columns.into_iter().flatten().map(Oid::arcs).collect());
        }
        if let Some(table) = &self.supplies.table {
            all.push(vec![table.names.arcs(), table.levels.arcs()]);
        }
        if let Some(table) = &self.identity.firmware_table {
            all.push(vec![table.names.arcs(), table.versions.arcs()]);
        }
        all
    }
}

/// Every profile, a user's before ours; none by default.
#[derive(Clone, Debug, Default)]
pub struct Profiles(Vec<Profile>);

/// A profile that cannot be used.
#[derive(Debug, Error)]
pub enum ProfileError {
    /// Not TOML, an unknown key, a name that is not in the list.
    #[error("profile {file}")]
    Toml {
        /// The file.
        file: String,
        /// What is wrong, and where.
        #[source]
        fault: TomlFault,
    },
    /// Longer than a profile can be.
    #[error("profile {file} has {found} bytes, expected at most {PROFILE_MAX_BYTES}")]
    TooLong {
        /// The file.
        file: String,
        /// Its length.
        found: usize,
    },
    /// It can never match.
    #[error("profile {file} matches nothing: [match] needs object_ids, words or present")]
    MatchesNothing {
        /// The file.
        file: String,
    },
    /// More than are looked at.
    #[error("{0} profiles, expected at most {PROFILES_MAX_COUNT}")]
    TooMany(usize),
}

macro_rules! built_in {
    ($($file:literal,)+) => {
        &[$(($file, include_str!(concat!("../../profiles/", $file))),)+]
    };
}

const BUILT_IN: &[(&str, &str)] = built_in![
    "brother.toml",
    "canon.toml",
    "dell.toml",
    "epson.toml",
    "fujifilm.toml",
    "hp.toml",
    "konica-minolta.toml",
    "kyocera.toml",
    "lexmark.toml",
    "oki.toml",
    "ricoh.toml",
    "samsung.toml",
    "sharp.toml",
    "toshiba.toml",
    "xerox.toml",
];

impl Profiles {
    /// Reads a user's profiles, given as file name and text, and puts ours behind them.
    ///
    /// # Errors
    /// A profile that is wrong, named with its file and line.
    pub fn read<'t>(users: impl IntoIterator<Item = (&'t str, &'t str)>) -> Result<Self, ProfileError> {
        let mut profiles = Vec::new();
        for (file, text) in users.into_iter().chain(BUILT_IN.iter().copied()) {
            let file = file.to_owned();
            if text.len() > PROFILE_MAX_BYTES {
                return Err(ProfileError::TooLong { file, found: text.len() });
            }
            let profile: Profile = match toml::from_str(text) {
                Ok(profile) => profile,
                Err(err) => return Err(ProfileError::Toml { file, fault: TomlFault::of(text, &err) }),
            };
            if profile.matching.is_empty() {
                return Err(ProfileError::MatchesNothing { file });
            }
            profiles.push(profile);
        }
        if profiles.len() > PROFILES_MAX_COUNT {
            return Err(ProfileError::TooMany(profiles.len()));
        }
        Ok(Self(profiles))
    }

    /// The profile for what a device says of itself: that with the longest part of its `sysObjectID`, else the first with
    /// one of its words in `texts`.
    pub(crate) fn find(&self, object_id: Option<&Oid>, texts: &[String]) -> Option<&Profile> {
        let mut best: Option<(usize, &Profile)> = None;
        for profile in &self.0 {
            let length = object_id.and_then(|id| profile.matching.length(id));
            if let Some(length) = length.filter(|length| best.is_none_or(|(best, _)| *length > best)) {
                best = Some((length, profile));
            }
        }
        best.map(|(_, profile)| profile)
            .or_else(|| self.0.iter().find(|profile| profile.matching.has_word_of(texts)))
    }

    /// Objects whose presence tells a maker, where nothing else does.
    pub(crate) fn tell_tales(&self) -> Vec<Oid> {
        self.0.iter().flat_map(|profile| profile.matching.present.iter().cloned()).collect()
    }

    /// The first profile that has one of its tell-tale objects among what was answered.
    pub(crate) fn find_by_presence(&self, is_present: impl Fn(&Oid) -> bool) -> Option<&Profile> {
        self.0.iter().find(|profile| profile.matching.present.iter().any(&is_present))
    }
}

#[cfg(test)]
mod tests;
