//! Opens what most commands need: the home, its keys, its store. Sorts their errors by whose turn it is.

use std::path::{Path, PathBuf};

use mailfleet::home::{Home, HomeError};
use mailfleet::store::{Store, StoreError};

use super::fail::{Fail, Kind};

/// The home that the user named.
pub(crate) fn home_path(home: Option<&Path>) -> Result<PathBuf, Fail> {
    home.map(Path::to_owned).ok_or_else(|| {
        Fail::usage("which manager? expected --home DIR, or MAILFLEET_HOME in the environment")
    })
}

/// The manager's home.
pub(crate) fn home(home: Option<&Path>) -> Result<Home, Fail> {
    Home::open(&home_path(home)?).map_err(home_failed)
}

/// The home of a manager that agents obey.
pub(crate) fn commander(named: Option<&Path>) -> Result<Home, Fail> {
    let home = home(named)?;
    if home.config().map_err(home_failed)?.listens_only {
        return Err(Fail::usage("this manager only listens: listens_only in manager.toml")
            .next("use the manager that the agents obey"));
    }
    Ok(home)
}

/// A home's faults are the operator's to mend, but for a disk that fails.
pub(crate) fn home_failed(err: HomeError) -> Fail {
    let (kind, next) = match &err {
        HomeError::NotAHome(_) => (Kind::Usage, None),
        HomeError::Taken(_) => (Kind::Usage, Some("choose another --home, or use the manager that is there")),
        HomeError::Io(_, io) if io.kind() == std::io::ErrorKind::NotFound => {
            (Kind::Usage, Some("put the file back from your backup"))
        }
        HomeError::Io(_, io) if io.kind() == std::io::ErrorKind::PermissionDenied => {
            (Kind::Usage, Some("run as the user who owns the home"))
        }
        HomeError::Io(..) => (Kind::Outside, None),
        HomeError::Exposed { .. } => (Kind::Usage, None),
        HomeError::Key(..) | HomeError::Trust(..) | HomeError::NoSecret { .. } => {
            (Kind::Usage, Some("put the file back from your backup"))
        }
        HomeError::Config(_) => (Kind::Usage, Some("mend manager.toml; `mailfleet doctor` checks it")),
        HomeError::Locked { .. } => {
            (Kind::Usage, Some("stop the other one, or leave the work to it and use `campaign watch`"))
        }
    };
    let fail = Fail::plain(kind, err);
    match next {
        Some(next) => fail.next(next),
        None => fail,
    }
}

/// The manager's store.
pub(crate) fn store(home: &Home) -> Result<Store, Fail> {
    Store::open(&home.store_path()).map_err(store_failed)
}

/// A store that cannot be used is the outside's, but for one that the operator put in the wrong place.
pub(crate) fn store_failed(err: StoreError) -> Fail {
    Fail::plain(Kind::Outside, err)
}
