//! What a switch is about to do, written and synced before it does the first part of it, so that it can be
//! taken back from any point.
//!
//! ```text
//! mailfleet switch 1
//! D bin/new            this folder is made
//! F 0 bin/abcd         this file is replaced; the old one is old/0
//! N bin/new/efgh       this file was not there
//! end
//! ```
//! Module paths hold no control characters, so a line is a line.

use std::io;
use std::path::Path;

use shared::ModulePath;

use crate::files::write_whole;

const HEAD: &str = "mailfleet switch 1";

/// All that a switch changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Journal {
    /// Folders that are made, outer ones first.
    pub(super) folders: Vec<ModulePath>,
    /// Files, and whether each replaces an old one, which is kept under the file's index.
    pub(super) files: Vec<(ModulePath, Before)>,
}

/// What was at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    Nothing,
    File,
}

impl Journal {
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let mut lines = vec![HEAD.to_owned()];
        lines.extend(self.folders.iter().map(|folder| format!("D {folder}")));
        lines.extend(self.files.iter().enumerate().map(|(index, (file, before))| match before {
            Before::Nothing => format!("N {file}"),
            Before::File => format!("F {index} {file}"),
        }));
        lines.push("end\n".to_owned());
        write_whole(path, lines.join("\n").as_bytes())
    }

    /// The journal, if the switch came so far as to write one.
    pub(super) fn read(path: &Path) -> io::Result<Option<Self>> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(err),
        };
        let damaged = || io::Error::other(format!("the journal {} is damaged", path.display()));
        Self::parse(&text).map(Some).ok_or_else(damaged)
    }

    fn parse(text: &str) -> Option<Self> {
        let body = text.strip_prefix(HEAD)?.strip_suffix("\nend\n")?;
        let mut journal = Self::default();
        for line in body.lines().skip(1) {
            let (kind, rest) = line.split_once(' ')?;
            match kind {
                "D" => journal.folders.push(ModulePath::parse(rest).ok()?),
                "N" => journal.files.push((ModulePath::parse(rest).ok()?, Before::Nothing)),
                "F" => {
                    let (index, path) = rest.split_once(' ')?;
                    if index.parse() != Ok(journal.files.len()) {
                        return None;
                    }
                    journal.files.push((ModulePath::parse(path).ok()?, Before::File));
                }
                _ => return None,
            }
        }
        Some(journal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_reads_back_and_a_cut_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        assert_eq!(Journal::read(&path).unwrap(), None);
        let p = |text| ModulePath::parse(text).unwrap();
        let journal = Journal {
            folders: vec![p("bin/new folder")],
            files: vec![(p("bin/a"), Before::File), (p("N x"), Before::Nothing), (p("b"), Before::File)],
        };
        journal.write(&path).unwrap();
        assert_eq!(Journal::read(&path).unwrap(), Some(journal));
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.trim_end_matches("end\n")).unwrap();
        assert!(Journal::read(&path).is_err());
    }
}
