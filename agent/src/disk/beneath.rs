//! Opens folders and files below the root and nowhere else, whatever links lie on the way.
//!
//! The kernel does it (`openat2`, `RESOLVE_BENEATH`, Linux 5.6): a link that stays below the root is
//! followed, one that leaves it is an error. Older kernels: no link on the way at all.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use shared::ModulePath;

/// The root folder, open.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

/// A module's folder, open, and the module's name in it.
#[derive(Debug)]
pub(super) struct Place<'p> {
    pub(super) folder: OwnedFd,
    pub(super) name: &'p str,
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Root {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(rustix::fs::open(path, FOLDER, Mode::empty())?))
    }

    /// A folder below the root; `""` is the root itself.
    pub(super) fn folder(&self, path: &str) -> io::Result<OwnedFd> {
        if path.is_empty() {
            return self.0.try_clone();
        }
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.0, path, FOLDER, Mode::empty(), beneath) {
            // EPERM: a sandbox that does not know the call.
            Err(Errno::NOSYS | Errno::PERM) => self.folder_without_links(path),
            Err(Errno::XDEV) => Err(leaves_root(path)),
            other => Ok(other?),
        }
    }

    fn folder_without_links(&self, path: &str) -> io::Result<OwnedFd> {
        let mut folder = self.0.try_clone()?;
        for name in path.split('/') {
            folder = match rustix::fs::openat(&folder, name, FOLDER | OFlags::NOFOLLOW, Mode::empty()) {
                Err(Errno::LOOP | Errno::NOTDIR) => return Err(leaves_root(path)),
                other => other?,
            };
        }
        Ok(folder)
    }

    /// The folder and name of a module. The folder must be there.
    pub(super) fn place<'p>(&self, path: &'p ModulePath) -> io::Result<Place<'p>> {
        let (folder, name) = split(path.as_str());
        Ok(Place { folder: self.folder(folder)?, name })
    }

    /// Opens a module's file for reading, if it is a regular file.
    pub(super) fn open_file(&self, path: &ModulePath) -> io::Result<File> {
        let place = self.place(path)?;
        // NONBLOCK: a FIFO that someone put there must not stop the agent.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&place.folder, place.name, flags, Mode::empty())?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(not_regular(path)) }
    }

    /// Makes a folder whose parent is there.
    pub(super) fn make_folder(&self, path: &str) -> io::Result<()> {
        let (parent, name) = split(path);
        let parent = self.folder(parent)?;
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            Err(Errno::EXIST) => return Ok(()),
            other => other?,
        }
        Ok(rustix::fs::fsync(&parent)?)
    }

    /// Removes a folder if it is there and empty.
    pub(super) fn remove_folder(&self, path: &str) -> io::Result<()> {
        let (parent, name) = split(path);
        let parent = match self.folder(parent) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        match rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => return Ok(()),
            other => other?,
        }
        Ok(rustix::fs::fsync(&parent)?)
    }
}

impl Place<'_> {
    /// Whether a regular file is there. Anything else that is there is an error: it is not ours to replace.
    pub(super) fn has_file(&self) -> io::Result<bool> {
        match rustix::fs::statat(&self.folder, self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(false),
            Err(err) => Err(err.into()),
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => Ok(true),
            Ok(_) => Err(io::Error::other("expected a regular file or nothing, found something else")),
        }
    }

    /// Removes the file if it is there.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.folder, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            other => Ok(other?),
        }
    }
}

/// Folder and last name of a path.
pub(super) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn leaves_root(path: &str) -> io::Error {
    io::Error::other(format!("{path} leads out of the root by a symbolic link"))
}

fn not_regular(path: &ModulePath) -> io::Error {
    io::Error::other(format!("{path} is not a regular file"))
}
