//! Opens what most commands need: the home, its keys, its store. Sorts their errors by whose turn it is.

use std::path::{Path, PathBuf};

use shared::keys::VerifyingKey;

use super::fail::Fail;

/// The home that the user named.
pub(crate) fn home_path(home: Option<&Path>) -> Result<PathBuf, Fail> {
    home.map(Path::to_owned).ok_or_else(|| {
        Fail::usage("which manager? expected --home DIR, or MAILFLEET_HOME in the environment")
    })
}

pub(crate) struct Home {
    pub(crate) release_keys: Vec<VerifyingKey>,
}
pub(crate) fn home(home: Option<&Path>) -> Result<Home, Fail> {
    home_path(home)?;
    Ok(Home { release_keys: Vec::new() })
}
