//! Puts staged files in place and old files back. Each file changes in one rename; the journal makes the whole
//! of them one step that can be taken back.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use agent_core::Module;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use shared::{EnvelopeId, Label, ModulePath};

use super::Disk;
use super::beneath::{Place, Root, split};
use super::journal::{Before, Journal};
use crate::files::{copy_seen, private_folder, sync_folder, sync_parent};

impl Disk {
    /// Keeps the old files and puts the staged ones in place.
    pub(crate) fn switch(&self, order: EnvelopeId, modules: &[Module]) -> Result<(), Label> {
        self.try_switch(order, modules).map_err(|err| Label::lossy(&err))
    }

    fn try_switch(&self, order: EnvelopeId, modules: &[Module]) -> Result<(), String> {
        let root = Root::open(&self.root).map_err(|err| format!("{}: {err}", self.root.display()))?;
        let job = self.job(order);
        let journal = keep_old(&root, &job, modules)?;
        journal.write(&job.join("journal")).map_err(|err| format!("cannot write the journal: {err}"))?;
        for folder in &journal.folders {
            root.make_folder(folder.as_str()).map_err(|err| format!("{folder}: {err}"))?;
        }
        let stage = self.stage_folder(order);
        for (index, module) in modules.iter().enumerate() {
            let staged = stage.join(module.path.as_str());
            root.place(&module.path)
                .and_then(|place| put(&place, &staged, module.mode, &temporary(order, index)))
                .map_err(|err| format!("{}: {err}", module.path))?;
        }
        sync_folders(&root, modules.iter().map(|m| &m.path))
    }

    /// Puts the old files back, as far as the switch came. Goes on after a fault: the more files are back, the
    /// better.
    pub(crate) fn restore(&self, order: EnvelopeId) -> Result<(), Label> {
        let job = self.job(order);
        let journal = match Journal::read(&job.join("journal")) {
            Ok(Some(journal)) => journal,
            // Without a journal, nothing was changed yet.
            Ok(None) => return Ok(()),
            Err(err) => return Err(Label::lossy(&err.to_string())),
        };
        let root = Root::open(&self.root).map_err(|err| Label::lossy(&err.to_string()))?;
        let mut first_fault = Ok(());
        for (index, (path, before)) in journal.files.iter().enumerate() {
            let kept = job.join("old").join(index.to_string());
            if let Err(err) = put_back(&root, path, *before, &kept, &temporary(order, index)) {
                tracing::error!(%path, %err, "Cannot put an old file back");
                first_fault = first_fault.and(Err(Label::lossy(&format!("{path}: {err}"))));
            }
        }
        for folder in journal.folders.iter().rev() {
            if let Err(err) = root.remove_folder(folder.as_str()) {
                tracing::warn!(%folder, %err, "Cannot remove a folder that the install had made");
            }
        }
        let synced = sync_folders(&root, journal.files.iter().map(|(path, _)| path));
        first_fault.and(synced.map_err(|err| Label::lossy(&err)))
    }
}

/// Looks at every target before the first one is touched, and keeps the old files.
fn keep_old(root: &Root, job: &Path, modules: &[Module]) -> Result<Journal, String> {
    let old = job.join("old");
    private_folder(&old).map_err(|err| format!("cannot keep the old files: {err}"))?;
    let mut journal = Journal::default();
    for (index, module) in modules.iter().enumerate() {
        let path = &module.path;
        let kept = old.join(index.to_string());
        let before = missing_folders(root, path, &mut journal.folders)
            .and_then(|missing| if missing { Ok(Before::Nothing) } else { keep_one(root, path, &kept) })
            .map_err(|err| format!("{path}: {err}"))?;
        journal.files.push((path.clone(), before));
    }
    sync_folder(&old)
        .and_then(|()| sync_parent(&old))
        .map_err(|err| format!("cannot keep the old files: {err}"))?;
    Ok(journal)
}

/// Notes the folders on the way to `path` that are not there, outer ones first. True if there are any.
fn missing_folders(root: &Root, path: &ModulePath, missing: &mut Vec<ModulePath>) -> io::Result<bool> {
    let (parent, _) = split(path.as_str());
    let mut any = false;
    for (end, _) in parent.match_indices('/').chain([(parent.len(), "")]) {
        let Some(folder) = parent.get(..end).filter(|folder| !folder.is_empty()) else { continue };
        match root.folder(folder) {
            Ok(_) => {}
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                any = true;
                let folder = ModulePath::parse(folder).map_err(io::Error::other)?;
                if !missing.contains(&folder) {
                    missing.push(folder);
                }
            }
            Err(err) => return Err(err),
        }
    }
    Ok(any)
}

fn keep_one(root: &Root, path: &ModulePath, kept: &Path) -> io::Result<Before> {
    let place = root.place(path)?;
    if !place.has_file()? {
        return Ok(Before::Nothing);
    }
    match rustix::fs::linkat(&place.folder, place.name, CWD, kept, AtFlags::empty()) {
        Ok(()) => {}
        // No hard links here, or another file system: copy.
        Err(Errno::XDEV | Errno::PERM | Errno::MLINK | Errno::OPNOTSUPP | Errno::NOSYS) => {
            let mut from = root.open_file(path)?;
            let mode = from.metadata()?.permissions();
            let mut to = File::create_new(kept)?;
            copy_seen(&mut from, &mut to, &mut |_| {})?;
            to.set_permissions(mode)?;
            to.sync_all()?;
        }
        Err(err) => return Err(err.into()),
    }
    Ok(Before::File)
}

/// A name in the target's folder that nobody else uses.
fn temporary(order: EnvelopeId, index: usize) -> String {
    format!(".mailfleet-{order}-{index}")
}

/// One rename; by way of a copy if the target is on another file system.
fn put(place: &Place<'_>, staged: &Path, mode: u32, temporary: &str) -> io::Result<()> {
    match rustix::fs::renameat(CWD, staged, &place.folder, place.name) {
        Err(Errno::XDEV) => copy_into(place, staged, mode, temporary),
        other => Ok(other?),
    }
}

fn copy_into(place: &Place<'_>, from: &Path, mode: u32, temporary: &str) -> io::Result<()> {
    place.remove(temporary)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut to = File::from(rustix::fs::openat(&place.folder, temporary, flags, Mode::from_raw_mode(0o600))?);
    copy_seen(&mut File::open(from)?, &mut to, &mut |_| {})?;
    to.flush()?;
    to.set_permissions(std::fs::Permissions::from_mode(mode & 0o777))?;
    to.sync_all()?;
    Ok(rustix::fs::renameat(&place.folder, temporary, &place.folder, place.name)?)
}

fn put_back(root: &Root, path: &ModulePath, before: Before, kept: &Path, temporary: &str) -> io::Result<()> {
    let place = match root.place(path) {
        // Its folder was not made yet, so neither was the file.
        Err(err) if err.kind() == io::ErrorKind::NotFound && before == Before::Nothing => return Ok(()),
        other => other?,
    };
    place.remove(temporary)?;
    match before {
        Before::Nothing => {
            if place.has_file()? {
                place.remove(place.name)?;
            }
            Ok(())
        }
        Before::File => {
            // The kept file stays: this step may have to be done again.
            match rustix::fs::linkat(CWD, kept, &place.folder, temporary, AtFlags::empty()) {
                Ok(()) => {}
                Err(Errno::XDEV | Errno::PERM | Errno::MLINK | Errno::OPNOTSUPP | Errno::NOSYS) => {
                    let mode = std::fs::metadata(kept)?.permissions().mode();
                    return copy_into(&place, kept, mode, temporary);
                }
                Err(err) => return Err(err.into()),
            }
            rustix::fs::renameat(&place.folder, temporary, &place.folder, place.name)?;
            // Renaming one name of a file over another name of it does nothing, says POSIX.
            place.remove(temporary)
        }
    }
}

/// Makes the renames durable: each folder once.
fn sync_folders<'m>(root: &Root, paths: impl Iterator<Item = &'m ModulePath>) -> Result<(), String> {
    let folders: BTreeSet<&str> = paths.map(|path| split(path.as_str()).0).collect();
    for folder in folders {
        let sync = |fd: OwnedFd| Ok(rustix::fs::fsync(fd.as_fd())?);
        match root.folder(folder).and_then(sync) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(|err| format!("cannot sync {folder}: {err}"))?,
        }
    }
    Ok(())
}
