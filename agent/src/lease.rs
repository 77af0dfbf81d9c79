//! Leases: files in which programs of this box say that modules must not be replaced for a while. What of them
//! counts is the core's; what a lease means to whoever takes it is theirs.
//!
//! ```text
//! <root>/.mailfleet/leases/OWNER.toml
//!     owner = "billing"
//!     reason = "metering run 17"
//!     until = "2026-11-21T06:10:00Z"   # or boot = "<the run of the box's system, as the kernel names it>"
//!     modules = ["abcd"]               # optional: without it, all
//! ```
//!
//! Why not a lock: one whose owner has died blocks a box until somebody drives there. Other users may write
//! here if the operator opens the folder, so nothing in it is trusted to be a file, small, or a lease; what is
//! not is left out with a warning, and never blocks.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use agent_core::{BootId, Lease, LeaseEnd};
use serde::{Deserialize, Serialize};
use shared::error::{TomlFault, chain, quoted};
use shared::path::AGENT_FOLDER;
use shared::{Label, UnixMillis};
use thiserror::Error;

use crate::files::{open_shared_folder, read_shared, write_readable};
use crate::limits::{LEASE_FILE_MAX_BYTES, LEASE_NAMES_MAX_COUNT, LEASE_OWNER_MAX_BYTES, LEASES_MAX_COUNT};

const EXTENSION: &str = ".toml";

/// What a warning repeats of a file that is no lease.
const ERROR_MAX_CHARS: usize = 80;

/// The folder of leases.
#[derive(Clone, Debug)]
pub struct Leases(PathBuf);

/// A lease as its file says it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    owner: String,
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    boot: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    modules: Vec<String>,
}

/// A lease cannot be taken or given back.
#[derive(Debug, Error)]
pub enum LeaseError {
    /// A name that is no file name.
    #[error(
        "expected an owner of 1 to {LEASE_OWNER_MAX_BYTES} letters, digits, \"-\", \"_\" and \".\", not \".\" first, found \"{0}\""
    )]
    Owner(String),
    /// Longer than the file may be.
    #[error("lease of {0} bytes, expected at most {LEASE_FILE_MAX_BYTES}: name fewer modules")]
    TooLarge(usize),
    /// Nothing to give back.
    #[error("\"{0}\" holds no lease")]
    NotHeld(String),
    /// The folder cannot be used.
    #[error("cannot use {}", .0.display())]
    Io(PathBuf, #[source] io::Error),
}

impl Leases {
    /// That of an agent whose modules are below `root`.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        Self(root.join(AGENT_FOLDER).join("leases"))
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// All leases that can be read, by owner.
    #[must_use]
    pub fn read(&self) -> Vec<Lease> {
        let folder = match open_shared_folder(&self.0) {
            Ok(folder) => folder,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return vec![],
            Err(err) => {
                tracing::warn!(folder = %self.0.display(), %err, "Leases cannot be read and do not count");
                return vec![];
            }
        };
        let mut owners = self.owners();
        if owners.len() > LEASES_MAX_COUNT {
            tracing::warn!(
                found = owners.len(),
                most = LEASES_MAX_COUNT,
                "Too many leases; some do not count"
            );
            owners.truncate(LEASES_MAX_COUNT);
        }
        let mut leases = vec![];
        for owner in owners {
            match read_one(&folder, &owner) {
                Ok(lease) => leases.push(lease),
                // It was given back just now.
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                Err(err) => tracing::warn!(owner, err = chain(&err), "A file is no lease and does not count"),
            }
        }
        leases
    }

    fn owners(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.0) else { return vec![] };
        let names = entries
            .take(LEASE_NAMES_MAX_COUNT)
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let owners = names.filter_map(|name| Some(name.strip_suffix(EXTENSION)?.to_owned()));
        let mut owners: Vec<String> = owners.filter(|owner| is_owner(owner)).collect();
        owners.sort();
        owners
    }

    /// Takes a lease, or takes it anew.
    ///
    /// # Errors
    /// Its owner is no file name, it is too large, or the folder cannot be used.
    pub fn take(&self, lease: &Lease) -> Result<(), LeaseError> {
        let path = self.path(lease.owner.as_str())?;
        let (until, boot) = match &lease.end {
            LeaseEnd::At(end) => (Some(end.to_string()), None),
            LeaseEnd::Restart(boot) => (None, Some(boot.0.to_string())),
        };
        let written = Written {
            owner: lease.owner.to_string(),
            reason: lease.reason.to_string(),
            until,
            boot,
            modules: lease.modules.iter().map(Label::to_string).collect(),
        };
        // Plain strings always have a TOML form.
        let text = toml::to_string(&written).unwrap_or_default();
        if text.len() as u64 > LEASE_FILE_MAX_BYTES {
            return Err(LeaseError::TooLarge(text.len()));
        }
        write_readable(&path, text.as_bytes()).map_err(|err| LeaseError::Io(self.0.clone(), err))
    }

    /// Gives a lease back.
    ///
    /// # Errors
    /// There is none, or the folder cannot be used.
    pub fn release(&self, owner: &str) -> Result<(), LeaseError> {
        match std::fs::remove_file(self.path(owner)?) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => Err(LeaseError::NotHeld(owner.to_owned())),
            other => other.map_err(|err| LeaseError::Io(self.0.clone(), err)),
        }
    }

    fn path(&self, owner: &str) -> Result<PathBuf, LeaseError> {
        if !is_owner(owner) {
            return Err(LeaseError::Owner(owner.chars().take(80).collect()));
        }
        Ok(self.0.join(format!("{owner}{EXTENSION}")))
    }
}

fn is_owner(text: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    (1..=LEASE_OWNER_MAX_BYTES).contains(&text.len()) && text.bytes().all(fine) && !text.starts_with('.')
}

fn read_one(folder: &File, owner: &str) -> io::Result<Lease> {
    let (text, taken) = read_shared(folder, &format!("{owner}{EXTENSION}"), LEASE_FILE_MAX_BYTES)?;
    parse(owner, &text, taken)
}

/// Reads the text of a lease's file, which was written at `taken`.
///
/// # Errors
/// It is no lease, or one of another owner than the file is named after.
pub fn parse(owner: &str, text: &str, taken: UnixMillis) -> io::Result<Lease> {
    // Other users may write leases: names of keys are theirs.
    let written: Written = toml::from_str(text)
        .map_err(|err| io::Error::other(quoted(&TomlFault::of(text, &err).to_string(), ERROR_MAX_CHARS)))?;
    if written.owner != owner {
        let found = quoted(&written.owner, ERROR_MAX_CHARS);
        return Err(io::Error::other(format!("expected the owner \"{owner}\", found \"{found}\"")));
    }
    let end = match (written.until, written.boot) {
        (Some(until), None) => LeaseEnd::At(UnixMillis::parse(&until).map_err(io::Error::other)?),
        (None, Some(boot)) => LeaseEnd::Restart(BootId(Label::lossy(&boot))),
        _ => return Err(io::Error::other("expected one of \"until\" and \"boot\"")),
    };
    Ok(Lease {
        owner: Label::lossy(owner),
        reason: Label::lossy(&written.reason),
        taken,
        end,
        modules: written.modules.iter().map(|name| Label::lossy(name)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{now, private_folder};

    fn folder() -> (tempfile::TempDir, Leases) {
        let folder = tempfile::tempdir().unwrap();
        let leases = Leases::below(folder.path());
        private_folder(leases.folder()).unwrap();
        (folder, leases)
    }

    fn lease(owner: &str) -> Lease {
        Lease {
            owner: Label::lossy(owner),
            reason: Label::lossy("metering \"17\""),
            taken: UnixMillis(0),
            end: LeaseEnd::At(UnixMillis(1_795_000_000_000)),
            modules: vec![Label::lossy("abcd")],
        }
    }

    #[test]
    fn a_lease_reads_back_until_it_is_given_back() {
        let (_folder, leases) = folder();
        assert_eq!(leases.read(), []);
        let until_restart =
            Lease { end: LeaseEnd::Restart(BootId(Label::lossy("b"))), modules: vec![], ..lease("z.2") };
        leases.take(&lease("billing")).unwrap();
        leases.take(&until_restart).unwrap();
        let found = leases.read();
        assert!(found.iter().all(|l| now().since(l.taken).as_secs() < 60));
        let expected = [lease("billing"), until_restart];
        for (found, expected) in found.into_iter().zip(expected) {
            assert_eq!(Lease { taken: UnixMillis(0), ..found }, expected);
        }
        leases.release("billing").unwrap();
        leases.release("z.2").unwrap();
        assert_eq!(leases.read(), []);
        assert!(leases.release("billing").unwrap_err().to_string().contains("holds no lease"));
    }

    #[test]
    fn an_owner_that_is_no_file_name_is_refused() {
        let (_folder, leases) = folder();
        for owner in ["", ".", "..", "../x", ".hidden", "a/b", "a b", "ü", &"x".repeat(65)] {
            assert!(matches!(leases.take(&lease(owner)), Err(LeaseError::Owner(_))), "{owner}");
            assert!(matches!(leases.release(owner), Err(LeaseError::Owner(_))), "{owner}");
        }
        let long = Lease { modules: vec![Label::lossy(&"m".repeat(150)); 40], ..lease("a") };
        assert!(matches!(leases.take(&long), Err(LeaseError::TooLarge(_))));
    }

    #[test]
    fn what_is_no_lease_does_not_count_and_does_not_stop_those_that_are() {
        let (folder, leases) = folder();
        leases.take(&lease("good")).unwrap();
        let at = |name: &str| leases.folder().join(name);
        let good = std::fs::read_to_string(at("good.toml")).unwrap();
        std::fs::write(at("empty.toml"), "").unwrap();
        std::fs::write(at("other.toml"), &good).unwrap();
        std::fs::write(at("large.toml"), format!("{good}#{}", "x".repeat(5_000))).unwrap();
        std::fs::write(at("binary.toml"), [0xff; 100]).unwrap();
        std::fs::write(at("no-end.toml"), "owner = \"no-end\"\nreason = \"x\"\n").unwrap();
        std::fs::write(at("time.toml"), "owner = \"time\"\nreason = \"x\"\nuntil = \"soon\"\n").unwrap();
        std::fs::write(at("key.toml"), good.replace("good", "key") + "x = 1\n").unwrap();
        std::fs::write(at("notes.txt"), &good).unwrap();
        std::fs::create_dir(at("folder.toml")).unwrap();
        let elsewhere = folder.path().join("elsewhere");
        std::fs::write(&elsewhere, good.replace("good", "link")).unwrap();
        std::os::unix::fs::symlink(&elsewhere, at("link.toml")).unwrap();
        std::fs::write(folder.path().join("hard"), good.replace("good", "hard")).unwrap();
        std::fs::hard_link(folder.path().join("hard"), at("hard.toml")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("fifo.toml"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o644),
            0,
        )
        .unwrap();
        let owners: Vec<String> = leases.read().iter().map(|l| l.owner.to_string()).collect();
        assert_eq!(owners, ["good"]);
    }

    #[test]
    fn what_is_wrong_with_a_lease_is_said_without_the_characters_that_drive_a_terminal() {
        for text in [
            "owner = \"\\u001b[2J\"\nreason = \"x\"\nuntil = \"2026-11-21T06:10:00Z\"\n",
            "owner = \"billing\" \u{1b}[2J\n",
            "\"\\u001b[2J\" = 1\n",
        ] {
            let err = parse("billing", text, UnixMillis(0)).unwrap_err().to_string();
            assert!(!err.is_empty() && !err.contains(char::is_control), "{err:?}");
        }
    }

    #[test]
    fn a_folder_that_is_a_link_holds_no_leases() {
        let (folder, leases) = folder();
        let elsewhere = Leases(folder.path().join("elsewhere"));
        assert!(matches!(elsewhere.take(&lease("billing")), Err(LeaseError::Io(..))), "there is no folder");
        std::fs::rename(leases.folder(), elsewhere.folder()).unwrap();
        elsewhere.take(&lease("billing")).unwrap();
        std::os::unix::fs::symlink(elsewhere.folder(), leases.folder()).unwrap();
        assert_eq!(leases.read(), []);
    }

    #[test]
    fn no_more_leases_are_read_than_the_limit() {
        let (_folder, leases) = folder();
        for n in 0..LEASES_MAX_COUNT + 5 {
            leases.take(&lease(&format!("owner{n}"))).unwrap();
        }
        assert_eq!(leases.read().len(), LEASES_MAX_COUNT);
    }
}
