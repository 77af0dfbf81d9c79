//! Where everything is in an agent's home folder, and the lock that keeps a second agent out.
//!
//! ```text
//! agent.toml           configuration
//! key.sign key.open    secret keys, mode 0600; those that the manager asked for later: key-ORDER.sign key-ORDER.open
//! state state.prev     what must not be lost, and the copy before it
//! lock                 held while an agent works here
//! incoming/            the mail that is being read
//! bundles/ORDER.mfb    bundles of accepted install orders
//! parts/               orders that come in parts; see `parts`
//! outbox/SEQ-….env     sealed reports, byte for byte as they are sent and sent again
//! devices.toml         the devices beside the box, and what makes them answer; mode 0600
//! profiles/*.toml      what makers' own objects mean, beside the built-in ones
//! readings/            readings of counters, signed and chained
//! wishes/ORDER.toml    what people at the site want of an update; see `wish`; of a device's: wishes/device-NAME.toml
//! ```

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use agent_core::KeyName;
use rustix::fs::{FlockOperation, fcntl_lock};
use shared::EnvelopeId;
use thiserror::Error;

use crate::files::{durable_folder, private_folder, sync_folder};
use crate::parts::Parts;
use crate::wish::Wishes;

/// An agent's home folder.
#[derive(Clone, Debug)]
pub(crate) struct Home(PathBuf);

/// Held as long as an agent works in a home; the system lets go of it however the process ends.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held, not read")] File);

/// The home cannot be used.
#[derive(Debug, Error)]
pub(crate) enum HomeError {
    /// Another process holds the lock.
    #[error("another mailfleet-agent works in {} (it holds the file \"lock\"): expected to be the only one", .0.display())]
    Busy(PathBuf),
    /// The folder cannot be used.
    #[error("cannot use the home folder {}", .0.display())]
    Io(PathBuf, #[source] io::Error),
}

impl Home {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.0.join("agent.toml")
    }

    pub(crate) fn sign_key(&self, name: KeyName) -> PathBuf {
        self.key(name, "sign")
    }

    pub(crate) fn open_key(&self, name: KeyName) -> PathBuf {
        self.key(name, "open")
    }

    fn key(&self, name: KeyName, kind: &str) -> PathBuf {
        self.0.join(match name {
            KeyName::First => format!("key.{kind}"),
            KeyName::Later(order) => format!("key-{order}.{kind}"),
        })
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    pub(crate) fn incoming(&self) -> PathBuf {
        self.0.join("incoming")
    }

    pub(crate) fn bundles(&self) -> PathBuf {
        self.0.join("bundles")
    }

    pub(crate) fn bundle(&self, order: EnvelopeId) -> PathBuf {
        self.bundles().join(format!("{order}.mfb"))
    }

    pub(crate) fn parts(&self) -> Parts {
        Parts::below(&self.0)
    }

    pub(crate) fn devices(&self) -> PathBuf {
        self.0.join("devices.toml")
    }

    /// A site's own profiles of vendors.
    pub(crate) fn profiles(&self) -> PathBuf {
        self.0.join("profiles")
    }

    pub(crate) fn readings(&self) -> PathBuf {
        self.0.join("readings")
    }

    pub(crate) fn outbox(&self) -> PathBuf {
        self.0.join("outbox")
    }

    pub(crate) fn wishes(&self) -> Wishes {
        Wishes::in_home(&self.0)
    }

    /// Makes the folders that are not there. All are durable before anything is kept in them: a power cut must
    /// not take a home whose keys the manager has already seen.
    pub(crate) fn create(&self) -> Result<(), HomeError> {
        let make = || -> io::Result<()> {
            durable_folder(&self.0, 0o700)?;
            for folder in [self.incoming(), self.bundles(), self.outbox(), self.wishes().folder().to_owned()]
            {
                private_folder(&folder)?;
            }
            sync_folder(&self.0)
        };
        make().map_err(|err| HomeError::Io(self.0.clone(), err))
    }

    /// Keeps every other agent out of this home.
    pub(crate) fn lock(&self) -> Result<Lock, HomeError> {
        Lock::take(&self.0)
    }
}

impl Lock {
    /// Locks a folder.
    pub(crate) fn take(folder: &Path) -> Result<Self, HomeError> {
        let failed = |err| HomeError::Io(folder.to_owned(), err);
        let path = folder.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
        let file = file.map_err(failed)?;
        // Whoever can open it can lock it, and others may pass through the folder.
        file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        // Of the process, not of the file, as `flock` is: a script that is just being started when the agent is
        // killed would hold the file open, and the lock, a little longer.
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(file)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {
                Err(HomeError::Busy(folder.to_owned()))
            }
            Err(err) => Err(failed(err.into())),
        }
    }
}
