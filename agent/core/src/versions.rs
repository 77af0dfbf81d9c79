//! The version report (M10, M11): made from the digests of the files that are there, never from what was
//! ordered. Pure comparison; the shell has read the files.

use minicbor::{Decode, Encode};
use shared::bundle::TestEntry;
use shared::message::{FileState, ModuleVersion, Reported, VersionReport};
use shared::{ModulePath, SoftwareVersion, UnixMillis};

use crate::facts::{Module, ModulesFound};
use crate::firmware::Catalogue;

/// The modules that belong to a Software Version on this box.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Combination {
    /// Its name.
    #[n(0)]
    pub software_version: SoftwareVersion,
    /// The modules, by name.
    #[n(1)]
    pub modules: Vec<Module>,
    /// How to see that it works, as the bundle that made it says.
    #[n(2)]
    pub test: Option<TestEntry>,
    /// The firmware for devices that is among them, by the newest bundle that brought some.
    #[n(3)]
    pub catalogue: Option<Catalogue>,
}

impl Combination {
    /// What is installed once a bundle's modules have come over `old`: a module of the same name or at the
    /// same path is replaced, the others stay.
    #[must_use]
    pub fn overlaid(old: Option<&Self>, version: SoftwareVersion, new: &[Module]) -> Self {
        let kept = old.map(|c| c.modules.as_slice()).unwrap_or_default();
        let replaced = |m: &&Module| !new.iter().any(|n| n.name == m.name || n.path == m.path);
        let mut modules: Vec<Module> = kept.iter().filter(replaced).chain(new).cloned().collect();
        modules.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.path.cmp(&b.path)));
        let catalogue = old.and_then(|old| old.catalogue.as_ref()?.among(&modules));
        Self { software_version: version, modules, test: None, catalogue }
    }
}

/// Paths of all modules of both, each once.
pub(crate) fn paths_of(installed: Option<&Combination>, coming: &[Module]) -> Vec<ModulePath> {
    let old = installed.map(|c| c.modules.as_slice()).unwrap_or_default();
    let mut paths: Vec<ModulePath> = old.iter().chain(coming).map(|m| m.path.clone()).collect();
    paths.sort();
    paths.dedup();
    paths
}

/// What is at one module's path.
pub(crate) fn file_state(module: &Module, found: &ModulesFound) -> FileState {
    match found.files.get(&module.path) {
        Some(digest) if *digest == module.digest => FileState::Good,
        Some(_) => FileState::Altered,
        None => FileState::Missing,
    }
}

/// The first module whose file is not the right one.
pub(crate) fn first_bad<'m>(modules: &'m [Module], found: &ModulesFound) -> Option<&'m Module> {
    modules.iter().find(|m| file_state(m, found) != FileState::Good)
}

/// The overall version as found.
pub(crate) fn reported(installed: Option<&Combination>, found: &ModulesFound) -> Reported {
    match installed {
        None => Reported::Nothing,
        Some(c) if first_bad(&c.modules, found).is_none() => Reported::Exact(c.software_version.clone()),
        Some(c) => Reported::Mixed(c.software_version.clone()),
    }
}

/// The whole report.
pub(crate) fn report(
    installed: Option<&Combination>,
    found: &ModulesFound,
    taken_at: UnixMillis,
) -> VersionReport {
    let modules = installed.map(|c| c.modules.as_slice()).unwrap_or_default();
    let line = |m: &Module| ModuleVersion {
        name: m.name.clone(),
        version: m.version.clone(),
        date: m.date.clone(),
        file: file_state(m, found),
    };
    VersionReport {
        software: reported(installed, found),
        rom_version: found.rom_version.clone(),
        modules: modules.iter().map(line).collect(),
        taken_at,
        line: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::{Digest, Label};

    fn module(name: &str, path: &str, content: &str) -> Module {
        Module {
            name: Label::lossy(name),
            version: Label::lossy("1.0"),
            date: Label::lossy("2026-01-01"),
            path: ModulePath::parse(path).unwrap(),
            mode: 0o755,
            bytes: content.len() as u64,
            digest: Digest::of(content.as_bytes()),
            kind: shared::bundle::ModuleKind::Data,
        }
    }

    fn version(text: &str) -> SoftwareVersion {
        SoftwareVersion::parse(text).unwrap()
    }

    #[test]
    fn a_bundle_replaces_modules_of_the_same_name_or_path_and_keeps_the_rest() {
        let old = Combination::overlaid(
            None,
            version("1-0"),
            &[module("a", "bin/a", "1"), module("b", "bin/b", "1"), module("c", "bin/c", "1")],
        );
        let new = Combination::overlaid(
            Some(&old),
            version("2-0"),
            &[module("a", "bin/a2", "2"), module("x", "bin/b", "2")],
        );
        let names: Vec<_> = new.modules.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["a", "c", "x"]);
    }

    #[test]
    fn only_the_exact_files_make_the_software_version() {
        let c = Combination::overlaid(None, version("1-0"), &[module("a", "a", "1"), module("b", "b", "1")]);
        let mut found = ModulesFound::default();
        for m in &c.modules {
            found.files.insert(m.path.clone(), m.digest);
        }
        assert_eq!(reported(Some(&c), &found), Reported::Exact(version("1-0")));
        found.files.insert(ModulePath::parse("b").unwrap(), Digest::of(b"other"));
        assert_eq!(report(Some(&c), &found, UnixMillis(1)).modules[1].file, FileState::Altered);
        found.files.remove(&ModulePath::parse("b").unwrap());
        assert_eq!(report(Some(&c), &found, UnixMillis(1)).modules[1].file, FileState::Missing);
        assert_eq!(reported(Some(&c), &found), Reported::Mixed(version("1-0")));
        assert_eq!(reported(None, &found), Reported::Nothing);
    }
}
