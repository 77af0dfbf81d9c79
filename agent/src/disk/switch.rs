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
use shared::bundle::ModuleKind;
use shared::bundle::manifest::MODE_MASK;
use shared::{EnvelopeId, Label, ModulePath};

use super::Disk;
use super::beneath::{Place, Root, split};
use super::journal::{Before, Journal};
use crate::files::{copy_seen, private_folder, set_mode, sync_folder, sync_parent};

impl Disk {
    /// Keeps the old files and puts the staged ones in place, all but an agent's, which comes later (`adopt`).
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
        let others = modules.iter().enumerate().filter(|(_, module)| module.kind != ModuleKind::Agent);
        for (index, module) in others {
            let staged = stage.join(module.path.as_str());
            root.place(&module.path)
                .and_then(|place| put(&place, &staged, module.mode, &temporary(order, index)))
                .map_err(|err| format!("{}: {err}", module.path))?;
        }
        sync_folders(&root, modules.iter().map(|m| &m.path))
    }

    /// Puts the old files back, as far as the switch came. Goes on after a fault: the more files are back, the
    /// better. `switched`: the switch was done, so what it has kept must be there.
    pub(crate) fn restore(&self, order: EnvelopeId, switched: bool) -> Result<(), Label> {
        let job = self.job(order);
        let journal = match Journal::read(&job.join("journal")) {
            Ok(Some(journal)) => journal,
            // Somebody has removed the job's folder, a script for example.
            Ok(None) if switched => return Err(Label::lossy("the old files that were kept are gone")),
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
            set_mode(&to, mode.mode() & MODE_MASK)?;
            to.sync_all()?;
        }
        Err(err) => return Err(err.into()),
    }
    Ok(Before::File)
}

/// A name in the target's folder that nobody else uses.
pub(super) fn temporary(order: EnvelopeId, index: usize) -> String {
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
    set_mode(&to, mode & MODE_MASK)?;
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
            let mode = std::fs::metadata(kept)?.permissions().mode();
            link_over(&place, kept, mode, temporary)
        }
    }
}

/// Puts a second name of a file in place, in one rename; a copy of it where file systems allow no such name.
pub(super) fn link_over(place: &Place<'_>, from: &Path, mode: u32, temporary: &str) -> io::Result<()> {
    place.remove(temporary)?;
    match rustix::fs::linkat(CWD, from, &place.folder, temporary, AtFlags::empty()) {
        Ok(()) => {}
        Err(Errno::XDEV | Errno::PERM | Errno::MLINK | Errno::OPNOTSUPP | Errno::NOSYS) => {
            return copy_into(place, from, mode, temporary);
        }
        Err(err) => return Err(err.into()),
    }
    rustix::fs::renameat(&place.folder, temporary, &place.folder, place.name)?;
    // Renaming one name of a file over another name of it does nothing, says POSIX.
    place.remove(temporary)
}

/// Makes the renames durable: each folder once, and those above it, which a script may have made and not synced.
pub(super) fn sync_folders<'m>(
    root: &Root,
    paths: impl Iterator<Item = &'m ModulePath>,
) -> Result<(), String> {
    let mut folders = BTreeSet::from([""]);
    for path in paths.map(ModulePath::as_str) {
        folders.extend(path.match_indices('/').filter_map(|(end, _)| path.get(..end)));
    }
    for folder in folders {
        let sync = |fd: OwnedFd| Ok(rustix::fs::fsync(fd.as_fd())?);
        match root.folder(folder).and_then(sync) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(|err| format!("cannot sync {folder}: {err}"))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Folders;
    use shared::Digest;
    use std::fs;

    /// A root with old files, and a job with staged ones: one replaced, one new, one in new folders.
    fn site() -> (tempfile::TempDir, Disk, EnvelopeId, Vec<Module>) {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path().to_owned(), Folders::default());
        let order = EnvelopeId([7; 16]);
        fs::create_dir_all(folder.path().join("bin")).unwrap();
        fs::write(folder.path().join("bin/a"), "old").unwrap();
        fs::set_permissions(folder.path().join("bin/a"), fs::Permissions::from_mode(0o751)).unwrap();
        let modules: Vec<Module> = ["bin/a", "bin/b", "new/deep/c"].map(module).to_vec();
        for module in &modules {
            let staged = disk.stage_folder(order).join(module.path.as_str());
            fs::create_dir_all(staged.parent().unwrap()).unwrap();
            fs::write(staged, "new").unwrap();
        }
        (folder, disk, order, modules)
    }

    fn module(path: &str) -> Module {
        Module {
            name: Label::lossy(path),
            version: Label::lossy("1"),
            date: Label::lossy("2026-01-01"),
            path: ModulePath::parse(path).unwrap(),
            mode: 0o755,
            bytes: 3,
            digest: Digest::of(b"new"),
            kind: ModuleKind::Resident,
        }
    }

    fn assert_old(root: &Path) {
        assert_eq!(fs::read_to_string(root.join("bin/a")).unwrap(), "old");
        assert_eq!(fs::metadata(root.join("bin/a")).unwrap().permissions().mode() & 0o777, 0o751);
        assert_eq!(fs::read_dir(root.join("bin")).unwrap().count(), 1, "nothing else is left");
        assert!(!root.join("new").exists());
    }

    #[test]
    fn a_switch_that_was_cut_after_any_file_is_taken_back_as_often_as_asked() {
        for done in 0..=3 {
            let (folder, disk, order, modules) = site();
            let root = Root::open(folder.path()).unwrap();
            let job = disk.job(order);
            let journal = keep_old(&root, &job, &modules).unwrap();
            journal.write(&job.join("journal")).unwrap();
            if done > 0 {
                journal.folders.iter().for_each(|f| root.make_folder(f.as_str()).unwrap());
            }
            for module in modules.iter().take(done) {
                let staged = disk.stage_folder(order).join(module.path.as_str());
                put(&root.place(&module.path).unwrap(), &staged, 0o755, "tmp").unwrap();
            }
            for _ in 0..2 {
                disk.restore(order, false).unwrap();
                assert_old(folder.path());
            }
        }
    }

    #[test]
    fn a_whole_switch_puts_every_file_in_place_and_can_be_taken_back() {
        let (folder, disk, order, modules) = site();
        disk.switch(order, &modules).unwrap();
        for module in &modules {
            assert_eq!(fs::read_to_string(folder.path().join(module.path.as_str())).unwrap(), "new");
        }
        disk.restore(order, true).unwrap();
        assert_old(folder.path());
    }

    #[test]
    fn an_old_file_that_cannot_be_put_back_is_told_and_the_others_are_back() {
        let (folder, disk, order, modules) = site();
        disk.switch(order, &modules).unwrap();
        fs::remove_file(disk.job(order).join("old/0")).unwrap();
        let fault = disk.restore(order, true).unwrap_err();
        assert!(fault.as_str().starts_with("bin/a: "), "{fault}");
        assert!(!folder.path().join("new").exists());
    }

    #[test]
    fn a_copy_across_file_systems_ends_in_one_rename() {
        let (folder, disk, order, modules) = site();
        let root = Root::open(folder.path()).unwrap();
        let staged = disk.stage_folder(order).join("bin/a");
        copy_into(&root.place(&modules[0].path).unwrap(), &staged, 0o4755, ".tmp").unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("bin/a")).unwrap(), "new");
        let mode = fs::metadata(folder.path().join("bin/a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o4755, "all of its mode");
        assert_eq!(fs::read_dir(folder.path().join("bin")).unwrap().count(), 1);
    }

    #[test]
    fn without_a_journal_there_is_nothing_to_take_back_unless_there_was_one() {
        let (folder, disk, order, _) = site();
        disk.restore(order, false).unwrap();
        disk.restore(EnvelopeId([8; 16]), false).unwrap();
        assert_old(folder.path());
        let fault = disk.restore(order, true).unwrap_err();
        assert!(fault.as_str().contains("are gone"), "{fault}");
    }
}
