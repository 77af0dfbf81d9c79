//! What is installed at an agent (M10, M11), as read from the files.

use core::fmt;

use minicbor::{Decode, Encode};

use super::Line;
use crate::id::{EnvelopeId, Label};
use crate::limits::MODULES_MAX_COUNT;
use crate::time::UnixMillis;
use crate::version::SoftwareVersion;

/// Version report with what caused it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Versions {
    /// The version query that this answers.
    #[n(0)]
    pub query: Option<EnvelopeId>,
    /// The report.
    #[n(1)]
    pub versions: VersionReport,
}

/// Every module's version and the overall Software Version (M10).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct VersionReport {
    /// The overall version.
    #[n(0)]
    pub software: Reported,
    /// Version of the box's read-only system.
    #[n(1)]
    pub rom_version: Label,
    /// The modules, by name; at most [`MODULES_MAX_COUNT`].
    #[cbor(n(2), decode_with = "bounded_modules")]
    pub modules: Vec<ModuleVersion>,
    /// When the files were read, by the agent's clock.
    #[n(3)]
    pub taken_at: UnixMillis,
    /// Its line; `None`: an agent from before it was measured.
    #[n(4)]
    pub line: Option<Line>,
}

/// Refuses a list that is too long before all of it is in memory: nine bytes of CBOR become eighty.
fn bounded_modules<'b, C>(
    d: &mut minicbor::Decoder<'b>,
    ctx: &mut C,
) -> Result<Vec<ModuleVersion>, minicbor::decode::Error> {
    let mut modules = Vec::new();
    for module in d.array_iter_with(ctx)? {
        if modules.len() >= MODULES_MAX_COUNT {
            return Err(minicbor::decode::Error::message("more modules than a version report may have"));
        }
        modules.push(module?);
    }
    Ok(modules)
}

/// The overall version as found on the files (M11): never what was ordered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Reported {
    /// No bundle was ever installed.
    #[n(0)]
    Nothing,
    /// Every module's file is the one of this version.
    #[n(1)]
    Exact(#[n(0)] SoftwareVersion),
    /// This version was installed, but some files are other ones.
    #[n(2)]
    Mixed(#[n(0)] SoftwareVersion),
}

impl Reported {
    /// The version, if all files are those of one.
    #[must_use]
    pub fn exact(&self) -> Option<&SoftwareVersion> {
        match self {
            Self::Exact(version) => Some(version),
            Self::Nothing | Self::Mixed(_) => None,
        }
    }
}

/// `1.0.02-0`, `none`, or `mixed(1.0.02-0)`: the cell in tables and CSV.
impl fmt::Display for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.pad("none"),
            Self::Exact(version) => version.fmt(f),
            Self::Mixed(version) => f.pad(&format!("mixed({version})")),
        }
    }
}

/// One module as it is on the agent.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ModuleVersion {
    /// Its name.
    #[n(0)]
    pub name: Label,
    /// Its own version, as its bundle gave it.
    #[n(1)]
    pub version: Label,
    /// Its own date (`2026-11-21`), as its bundle gave it.
    #[n(2)]
    pub date: Label,
    /// Whether its file is the one of that version.
    #[n(3)]
    pub file: FileState,
}

/// What is at a module's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum FileState {
    /// The file of this version.
    #[n(0)]
    Good,
    /// Another file.
    #[n(1)]
    Altered,
    /// Nothing, or something unreadable.
    #[n(2)]
    Missing,
}

/// The text form of M10: what `mailfleet-agent versions` prints.
impl fmt::Display for VersionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<20}{}", "Software Version", self.software)?;
        writeln!(f, "{:<20}{}", "ROM Version", self.rom_version)?;
        writeln!(f, "Modules")?;
        let name_width =
            self.modules.iter().map(|m| m.name.as_str().chars().count()).max().unwrap_or(0).max(18);
        for m in &self.modules {
            let note = match m.file {
                FileState::Good => "",
                FileState::Altered => "  altered",
                FileState::Missing => "  missing",
            };
            writeln!(f, "{:<name_width$}  {:<12}{}{note}", m.name, m.version, m.date)?;
        }
        Ok(())
    }
}
