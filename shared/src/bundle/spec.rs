//! `bundle.toml`: what an operator writes. Reads and checks the text; the files it names are opened by the
//! builder's shell.

mod firmware;

use core::ops::Range;
use core::time::Duration;

use serde::Deserialize;
use thiserror::Error;
use toml::Spanned;

use super::firmware::FirmwareEntry;
use super::manifest::{MODE_MASK, ModuleKind, TestEntry, Vendor};
use crate::address::MailAddress;
use crate::error::TomlFault;
use crate::id::Label;
use crate::limits::{MODULES_MAX_COUNT, NOTES_MAX_BYTES, TEST_ARGUMENTS_MAX_COUNT, TEST_LIMIT_MAX};
use crate::path::ModulePath;
use crate::time::parse_duration;
use crate::version::SoftwareVersion;

/// A checked `bundle.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleSpec {
    /// What an agent is called after this update.
    pub software_version: SoftwareVersion,
    /// The versions it goes over; empty: any.
    pub from: Vec<SoftwareVersion>,
    /// The classes it is for; empty: all.
    pub classes: Vec<Label>,
    /// The wait before the version query.
    pub settle: Option<Duration>,
    /// The script's file inside the bundle's folder.
    pub script: Option<SourceFile>,
    /// The modules.
    pub modules: Vec<ModuleSpec>,
    /// How to see that it works.
    pub test: Option<TestEntry>,
    /// Who has made it.
    pub vendor: Option<Vendor>,
    /// What is new.
    pub notes: Option<String>,
    /// Which devices its firmware is for.
    pub firmware: Vec<FirmwareEntry>,
}

/// A file inside the bundle's folder, and the line that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Relative path; checked like a module's path, so it cannot leave the folder.
    pub path: ModulePath,
    /// Line of `bundle.toml`, from 1.
    pub line: usize,
}

/// One `[[module]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleSpec {
    /// Its name.
    pub name: Label,
    /// Its own version.
    pub version: Label,
    /// Its own date.
    pub date: Label,
    /// Its content.
    pub file: SourceFile,
    /// Where it goes below the agent's root.
    pub path: ModulePath,
    /// Its permission bits.
    pub mode: u32,
    /// What it is.
    pub kind: ModuleKind,
}

/// What is wrong in `bundle.toml`, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {problem}")]
pub struct SpecError {
    /// Line from 1.
    pub line: usize,
    /// What was expected and found.
    pub problem: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSpec {
    software_version: Spanned<String>,
    #[serde(default)]
    from: Vec<Spanned<String>>,
    #[serde(default)]
    classes: Vec<Spanned<String>>,
    settle: Option<Spanned<String>>,
    script: Option<Spanned<String>>,
    #[serde(default)]
    module: Vec<Spanned<RawModule>>,
    test: Option<Spanned<RawTest>>,
    vendor: Option<RawVendor>,
    notes: Option<Spanned<String>>,
    #[serde(default)]
    firmware: Vec<Spanned<firmware::RawFirmware>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTest {
    module: Spanned<String>,
    #[serde(default)]
    args: Vec<Spanned<String>>,
    #[serde(default)]
    exit: i32,
    output: Option<String>,
    limit: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawVendor {
    name: Spanned<String>,
    mail: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawModule {
    name: Spanned<String>,
    version: Spanned<String>,
    date: Spanned<String>,
    file: Spanned<String>,
    path: Spanned<String>,
    mode: Spanned<String>,
    kind: Spanned<String>,
}

/// Gives errors the line of the value that they are about.
struct Lines<'t>(&'t str);

impl Lines<'_> {
    fn of(&self, span: &Range<usize>) -> usize {
        let before = self.0.as_bytes().get(..span.start).unwrap_or(self.0.as_bytes());
        before.iter().filter(|b| **b == b'\n').count().saturating_add(1)
    }

    fn read<T, E: ToString>(
        &self,
        value: &Spanned<String>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, SpecError> {
        parse(value.get_ref())
            .map_err(|err| SpecError { line: self.of(&value.span()), problem: err.to_string() })
    }

    fn source(&self, value: &Spanned<String>) -> Result<SourceFile, SpecError> {
        Ok(SourceFile { path: self.read(value, ModulePath::parse)?, line: self.of(&value.span()) })
    }
}

impl BundleSpec {
    /// Reads `bundle.toml`.
    ///
    /// # Errors
    /// Not TOML, an unknown or missing key, or a value that is not allowed; with its line.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let lines = Lines(text);
        let raw: RawSpec = toml::from_str(text).map_err(|err| {
            let TomlFault { line, problem, .. } = TomlFault::of(text, &err);
            SpecError { line, problem }
        })?;
        if raw.module.is_empty() {
            return Err(SpecError {
                line: 1,
                problem: "no modules, expected at least one [[module]]".to_owned(),
            });
        }
        // Each is compared with all before it.
        if let Some(first_beyond) = raw.module.get(MODULES_MAX_COUNT) {
            return Err(SpecError {
                line: lines.of(&first_beyond.span()),
                problem: format!("{} modules, expected at most {MODULES_MAX_COUNT}", raw.module.len()),
            });
        }
        Ok(Self {
            software_version: lines.read(&raw.software_version, SoftwareVersion::parse)?,
            from: raw.from.iter().map(|v| lines.read(v, SoftwareVersion::parse)).collect::<Result<_, _>>()?,
            classes: raw.classes.iter().map(|v| lines.read(v, non_empty)).collect::<Result<_, _>>()?,
            settle: raw.settle.as_ref().map(|v| lines.read(v, parse_duration)).transpose()?,
            script: raw.script.as_ref().map(|v| lines.source(v)).transpose()?,
            modules: raw.module.iter().map(|m| module(&lines, m.get_ref())).collect::<Result<_, _>>()?,
            test: raw.test.as_ref().map(|raw_test| test(&lines, raw_test, &raw.module)).transpose()?,
            vendor: raw.vendor.as_ref().map(|raw| vendor(&lines, raw)).transpose()?,
            notes: raw.notes.as_ref().map(|v| lines.read(v, notes)).transpose()?,
            firmware: firmware::read(&lines, &raw.firmware, &raw.module)?,
        })
        .and_then(|spec: Self| spec.without_doubles(&lines, &raw))
    }

    fn without_doubles(self, lines: &Lines<'_>, raw: &RawSpec) -> Result<Self, SpecError> {
        for (i, module) in self.modules.iter().enumerate() {
            let earlier = self.modules.iter().take(i).zip(&raw.module);
            for (other, raw_other) in earlier {
                let what = if other.name == module.name {
                    format!("the name \"{}\"", module.name)
                } else if other.path.contains(&module.path) || module.path.contains(&other.path) {
                    format!("the path {}", module.path)
                } else if (other.kind, module.kind) == (ModuleKind::Agent, ModuleKind::Agent) {
                    "the kind \"agent\", of which a box has one,".to_owned()
                } else {
                    continue;
                };
                let first = lines.of(&raw_other.span());
                let line = raw.module.get(i).map_or(1, |m| lines.of(&m.get_ref().path.span()));
                let problem = format!("{what} is taken by the [[module]] at line {first}");
                return Err(SpecError { line, problem });
            }
        }
        Ok(self)
    }
}

fn module(lines: &Lines<'_>, raw: &RawModule) -> Result<ModuleSpec, SpecError> {
    Ok(ModuleSpec {
        name: lines.read(&raw.name, non_empty)?,
        version: lines.read(&raw.version, non_empty)?,
        date: lines.read(&raw.date, date)?,
        file: lines.source(&raw.file)?,
        path: lines.read(&raw.path, ModulePath::parse)?,
        mode: lines.read(&raw.mode, mode)?,
        kind: lines.read(&raw.kind, |text| {
            ModuleKind::parse(text).ok_or_else(|| {
                let names: Vec<_> = ModuleKind::ALL.iter().map(|(_, name)| *name).collect();
                format!("expected a kind ({}), found \"{text}\"", names.join(", "))
            })
        })?,
    })
}

/// How long a test may take if the bundle does not say.
const TEST_LIMIT: Duration = Duration::from_secs(60);

fn test(
    lines: &Lines<'_>,
    raw: &Spanned<RawTest>,
    modules: &[Spanned<RawModule>],
) -> Result<TestEntry, SpecError> {
    let raw_test = raw.get_ref();
    let args = &raw_test.args;
    if args.len() > TEST_ARGUMENTS_MAX_COUNT {
        let problem = format!("{} arguments, expected at most {TEST_ARGUMENTS_MAX_COUNT}", args.len());
        return Err(SpecError { line: lines.of(&raw.span()), problem });
    }
    let limit = match &raw_test.limit {
        None => TEST_LIMIT,
        Some(limit) => lines.read(limit, |text| match parse_duration(text) {
            Ok(limit) if limit <= TEST_LIMIT_MAX => Ok(limit),
            Ok(_) => Err(format!("expected at most 1h, found \"{text}\"")),
            Err(err) => Err(err.to_string()),
        })?,
    };
    Ok(TestEntry {
        module: lines.read(&raw_test.module, |name| {
            let found = modules.iter().map(Spanned::get_ref).find(|module| module.name.get_ref() == name);
            let runs = |module: &RawModule| mode(module.mode.get_ref()).is_ok_and(|mode| mode & 0o111 != 0);
            match found {
                None => Err(format!("expected the name of a [[module]], found \"{name}\"")),
                Some(module) if !runs(module) => {
                    Err(format!("the module \"{name}\" cannot be run: expected a mode such as \"0755\""))
                }
                Some(_) => non_empty(name),
            }
        })?,
        args: args.iter().map(|arg| lines.read(arg, Label::parse)).collect::<Result<_, _>>()?,
        exit: raw_test.exit,
        output: raw_test.output.clone(),
        limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
    })
}

fn vendor(lines: &Lines<'_>, raw: &RawVendor) -> Result<Vendor, SpecError> {
    Ok(Vendor { name: lines.read(&raw.name, non_empty)?, mail: lines.read(&raw.mail, MailAddress::parse)? })
}

fn notes(text: &str) -> Result<String, String> {
    if text.len() > NOTES_MAX_BYTES {
        return Err(format!("expected at most {NOTES_MAX_BYTES} bytes of notes, found {}", text.len()));
    }
    Ok(text.trim().to_owned())
}

fn non_empty(text: &str) -> Result<Label, String> {
    if text.trim().is_empty() {
        return Err("expected a text, found nothing".to_owned());
    }
    Label::parse(text).map_err(|err| err.to_string())
}

fn date(text: &str) -> Result<Label, String> {
    let ok = text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok();
    if ok {
        Ok(Label::lossy(text))
    } else {
        Err(format!("expected a date such as 2026-11-21, found \"{text}\""))
    }
}

fn mode(text: &str) -> Result<u32, String> {
    let digits = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| digits && mode & !MODE_MASK == 0)
        .ok_or_else(|| format!("expected a mode such as \"0755\", found \"{text}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"software_version = "1.0.02-0"
from = ["1.0.00-1", "1.0.01-1"]
classes = ["office-gateway"]
settle = "10m"
script = "install.sh"

[[module]]
name = "abcd"
version = "1.0.00"
date = "2026-01-01"
file = "modules/abcd"
path = "bin/abcd"
mode = "0755"
kind = "resident"
"#;

    fn error(replace: &str, with: &str) -> String {
        assert!(GOOD.contains(replace));
        BundleSpec::parse(&GOOD.replace(replace, with)).unwrap_err().to_string()
    }

    #[test]
    fn the_example_of_the_manual_is_read() {
        let spec = BundleSpec::parse(GOOD).unwrap();
        assert_eq!(spec.software_version.as_str(), "1.0.02-0");
        assert_eq!(spec.settle, Some(Duration::from_secs(600)));
        assert_eq!(spec.modules[0].mode, 0o755);
        assert_eq!(spec.modules[0].file.line, 11);
    }

    #[test]
    fn errors_name_the_line_and_what_was_expected() {
        assert!(error("settle =", "setle =").starts_with("line 4: unknown field `setle`"));
        assert!(error("1.0.02-0", "latest").starts_with("line 1: expected a Software Version"));
        assert!(error("bin/abcd", "../abcd").starts_with("line 12: bad path \"../abcd\""));
        assert!(error("bin/abcd", "/bin/abcd").contains("absolute"));
        assert!(error("modules/abcd", "../../etc/shadow").starts_with("line 11: bad path"));
        assert!(error("0755", "0799").starts_with("line 13: expected a mode"));
        assert!(error("resident", "daemon").starts_with("line 14: expected a kind"));
        assert!(error("2026-01-01", "2026-13-01").starts_with("line 10: expected a date"));
        assert!(error("10m", "ten").starts_with("line 4: expected a duration"));
        assert!(error("name = \"abcd\"\n", "").contains("missing field `name`"));
    }

    const TEST: &str = r#"
[test]
module = "abcd"
args = ["--self-test"]
output = "ready"

[vendor]
name = "Alpha Ltd"
mail = "releases@alpha.test"
"#;

    #[test]
    fn a_test_a_vendor_and_notes_are_read() {
        let spec = BundleSpec::parse(&format!("notes = \"\"\"\nLess paper.\n\"\"\"\n{GOOD}{TEST}")).unwrap();
        let test = spec.test.unwrap();
        assert_eq!((test.exit, test.limit(), test.output.as_deref()), (0, TEST_LIMIT, Some("ready")));
        assert_eq!(spec.vendor.unwrap().mail.as_str(), "releases@alpha.test");
        assert_eq!(spec.notes.as_deref(), Some("Less paper."));
    }

    #[test]
    fn a_test_that_cannot_be_run_is_refused_with_its_line() {
        let error = |text: String| BundleSpec::parse(&text).unwrap_err().to_string();
        let other = TEST.replace("\"abcd\"", "\"efgh\"");
        assert_eq!(
            error(format!("{GOOD}{other}")),
            "line 17: expected the name of a [[module]], found \"efgh\""
        );
        let data = GOOD.replace("0755", "0644");
        assert!(error(format!("{data}{TEST}")).starts_with("line 17: the module \"abcd\" cannot be run"));
        let long = TEST.replace("output =", "limit = \"2h\"\noutput =");
        assert_eq!(error(format!("{GOOD}{long}")), "line 19: expected at most 1h, found \"2h\"");
    }

    // PROTOCOL 6.6
    #[test]
    fn links_and_devices_cannot_be_expressed() {
        for kind in ["symlink", "link", "device", "fifo", "folder"] {
            assert!(error("resident", kind).starts_with("line 14: expected a kind"), "{kind}");
        }
        for key in ["link = \"/etc/passwd\"", "target = \"x\"", "device = \"1:3\""] {
            let with = format!("mode = \"0755\"\n{key}");
            assert!(error("mode = \"0755\"", &with).contains("unknown field"), "{key}");
        }
        // What `st_mode` of a link or a device would say.
        for mode in ["120777", "020666", "060660"] {
            assert!(error("0755", mode).starts_with("line 13: expected a mode"), "{mode}");
        }
    }

    #[test]
    fn special_bits_are_kept_for_the_box_to_judge() {
        let spec = BundleSpec::parse(&GOOD.replace("0755", "4755")).unwrap();
        assert_eq!(spec.modules[0].mode, 0o4755);
    }

    #[test]
    fn a_bundle_without_modules_is_refused() {
        let text = "software_version = \"1.0-0\"\n";
        assert!(BundleSpec::parse(text).unwrap_err().problem.contains("no modules"));
    }

    #[test]
    fn too_many_modules_are_refused_at_the_first_that_is_beyond() {
        let module = &GOOD[GOOD.find("[[module]]").unwrap()..];
        let text = format!("{GOOD}{}", module.repeat(MODULES_MAX_COUNT));
        let err = BundleSpec::parse(&text).unwrap_err();
        assert_eq!(err.line, 7 + 8 * MODULES_MAX_COUNT);
        assert!(err.problem.starts_with("4001 modules, expected at most 4000"), "{err}");
    }

    #[test]
    fn doubles_name_both_lines() {
        let second = &GOOD[GOOD.find("[[module]]").unwrap()..];
        let same_name = format!("{GOOD}{second}");
        let err = BundleSpec::parse(&same_name).unwrap_err().to_string();
        assert_eq!(err, "line 20: the name \"abcd\" is taken by the [[module]] at line 7");
        let same_path = format!("{GOOD}{}", second.replace("name = \"abcd\"", "name = \"other\""));
        assert!(BundleSpec::parse(&same_path).unwrap_err().problem.contains("the path bin/abcd"));
        let inside = same_path.replacen("path = \"bin/abcd\"", "path = \"bin\"", 1);
        assert!(BundleSpec::parse(&inside).unwrap_err().problem.contains("the path bin/abcd"));
        // PROTOCOL 6.7
        let two = same_path.replace("resident", "agent").replacen("bin/abcd", "bin/agent", 1);
        let err = BundleSpec::parse(&two).unwrap_err().to_string();
        assert!(
            err.ends_with("the kind \"agent\", of which a box has one, is taken by the [[module]] at line 7"),
            "{err}"
        );
    }
}
