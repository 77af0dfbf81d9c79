//! Paths of modules below an agent's root, made safe once at the edge. Only a [`ModulePath`] reaches the
//! code that writes files.

use core::fmt;

use minicbor::{Decode, Encode};
use thiserror::Error;

use crate::error::quoted;
use crate::limits::MODULE_PATH_MAX_BYTES;

/// The folder below the root that the agent keeps for itself: staged files, backups.
pub const AGENT_FOLDER: &str = ".mailfleet";

/// A relative path of plain names, joined by `/`: no `..`, no `.`, no empty name, no control character,
/// no backslash, not inside the agent's own folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
#[cbor(transparent)]
pub struct ModulePath(#[n(0)] String);

impl ModulePath {
    /// Reads a path.
    ///
    /// # Errors
    /// The path is empty, absolute, escapes, or holds a name that is not plain.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let err = |why| PathError { found: quoted(text, 120), why };
        if text.is_empty() || text.len() > MODULE_PATH_MAX_BYTES {
            return Err(err("1 to 400 bytes"));
        }
        if text.starts_with('/') {
            return Err(err("a path below the root, not an absolute one"));
        }
        for name in text.split('/') {
            match name {
                ".." => return Err(err("a path that stays below the root (no \"..\")")),
                "" | "." => return Err(err("names between the slashes")),
                AGENT_FOLDER => return Err(err("a path outside the agent's own folder")),
                _ => {}
            }
            if name.len() > 255 || name.chars().any(|c| c.is_control() || c == '\\') {
                return Err(err("plain names of at most 255 bytes"));
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if `self` is a folder on the way to `other`, or the same path.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        other.0.strip_prefix(self.0.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Display for ModulePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'b, C> Decode<'b, C> for ModulePath {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::parse(d.str()?).map_err(minicbor::decode::Error::custom)
    }
}

/// A text that should have been a module's path.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("bad path \"{found}\": expected {why}")]
pub struct PathError {
    found: String,
    why: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_that_leave_the_root_are_refused() {
        for bad in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a//b",
            "./a",
            "a/.",
            "a/",
            ".mailfleet/state",
            "a\\b",
            "a\0b",
            "a\nb",
        ] {
            assert!(ModulePath::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(ModulePath::parse("bin/abcd").unwrap().as_str(), "bin/abcd");
        assert!(ModulePath::parse("bin/..abcd").is_ok());
    }

    #[test]
    fn a_folder_contains_what_is_below_it_only() {
        let p = |t| ModulePath::parse(t).unwrap();
        assert!(p("bin").contains(&p("bin/x")));
        assert!(p("bin").contains(&p("bin")));
        assert!(!p("bin").contains(&p("binary")));
    }

    proptest! {
        #[test]
        fn an_accepted_path_stays_below_the_root(text in "[a./\\\\ ~\\-]{0,12}") {
            if let Ok(path) = ModulePath::parse(&text) {
                let joined = std::path::Path::new("/root").join(path.as_str());
                prop_assert!(joined.starts_with("/root"));
                prop_assert!(joined.components().all(|c| !matches!(c, std::path::Component::ParentDir)));
                prop_assert_ne!(joined, std::path::PathBuf::from("/root"));
            }
        }
    }
}
