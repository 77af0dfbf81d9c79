//! Unpacks a kept bundle beside the root: every file is checked by the reader and synced by us, so that
//! `switch` only renames.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use agent_core::{Module, StageFault};
use shared::bundle::{BundleError, Entry, ModuleEntry, OldFile};
use shared::error::chain;
use shared::trust::Trust;
use shared::{EnvelopeId, Label};

use super::beneath::Root;
use super::{Disk, facts_of, open_bundle};
use crate::alive::Alive;
use crate::files::{
    copy_seen, create_private, is_full, private_folder, remove_tree, set_mode, sync_folder, sync_parent,
};

/// Kept free beside the new files: old ones that cannot be linked, folders, the journal.
const SPARE_BYTES: u64 = 1024 * 1024;

/// The same for files and folders: the job's own, and some for the box.
const SPARE_FILES: u64 = 64;

impl Disk {
    /// Unpacks from scratch.
    pub(crate) fn stage(
        &self,
        order: EnvelopeId,
        bundle: &Path,
        trust: &Trust,
        modules: &[Module],
        unpacked_bytes: u64,
    ) -> Result<(), StageFault> {
        let io_fault = |err: io::Error| {
            if is_full(&err) { StageFault::NoSpace } else { StageFault::Io(Label::lossy(&err.to_string())) }
        };
        self.own_folder().map_err(io_fault)?;
        let job = self.job(order);
        remove_tree(&job).map_err(io_fault)?;
        let room = self.room().map_err(io_fault)?;
        let bytes = unpacked_bytes.saturating_add(SPARE_BYTES).saturating_add(self.folders.keep_free_bytes);
        if room.bytes < bytes || room.files < files_of(modules).saturating_add(SPARE_FILES) {
            return Err(StageFault::NoSpace);
        }
        private_folder(&self.stage_folder(order)).map_err(io_fault)?;
        let result = self.unpack(order, bundle, trust, modules);
        if result.is_err() {
            // Half a stage is of no use, and a full disk needs the room.
            let _ = remove_tree(&job);
        }
        result
    }

    fn unpack(
        &self,
        order: EnvelopeId,
        bundle: &Path,
        trust: &Trust,
        modules: &[Module],
    ) -> Result<(), StageFault> {
        let verified = open_bundle(bundle, trust).map_err(|err| fault_of(&err))?;
        // The kept file was inspected before: if its manifest is another one since, somebody changed it.
        if facts_of(verified.manifest()).modules != modules {
            return Err(StageFault::Bad(Label::lossy("the kept bundle is another one than before")));
        }
        let stage = self.stage_folder(order);
        let script = self.script(order);
        let mut folders = BTreeSet::from([stage.clone()]);
        let mut take = |entry: Entry<'_>, from: &mut dyn Read| match entry {
            Entry::Script(_) => write_file(&script, 0o700, from, &self.alive),
            Entry::Module(module) => {
                let path = stage.join(module.path.as_str());
                if let Some(parent) = path.parent() {
                    private_folder(parent)?;
                    folders.extend(above(parent, &stage));
                }
                write_file(&path, module.mode, from, &self.alive)
            }
        };
        let root = Root::open(&self.root).map_err(|err| StageFault::Io(Label::lossy(&err.to_string())))?;
        let mut old = |module: &ModuleEntry| -> io::Result<Box<dyn OldFile>> {
            Ok(Box::new(Watched { file: root.open_file(&module.path)?, alive: self.alive.clone() }))
        };
        verified.unpack_over(&mut old, &mut take).map_err(|err| fault_of(&err))?;
        let sync = || -> io::Result<()> {
            self.let_script_in(&folders, &[self.job(order), script.clone()])?;
            folders.iter().try_for_each(|folder| sync_folder(folder))?;
            sync_parent(&stage)?;
            sync_parent(&self.job(order))
        };
        sync().map_err(|err| StageFault::Io(Label::lossy(&err.to_string())))
    }
}

impl Disk {
    /// A script that runs as another user may read what is staged. The modules' files stay as they will be.
    fn let_script_in(&self, folders: &BTreeSet<PathBuf>, others: &[PathBuf]) -> io::Result<()> {
        let Some(group) = self.folders.script_group else { return Ok(()) };
        // A bundle without a script has no file for it.
        for path in folders.iter().chain(others).filter(|path| path.exists()) {
            chown(path, None, Some(group))?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o750))?;
        }
        Ok(())
    }
}

/// Files and folders that an unpacked bundle makes.
fn files_of(modules: &[Module]) -> u64 {
    let folders: BTreeSet<&str> = modules
        .iter()
        .flat_map(|m| m.path.as_str().match_indices('/').filter_map(|(end, _)| m.path.as_str().get(..end)))
        .collect();
    modules.len().saturating_add(folders.len()) as u64
}

/// `folder` and those above it, up to `stage`.
fn above(folder: &Path, stage: &Path) -> Vec<PathBuf> {
    folder.ancestors().take_while(|a| a.starts_with(stage)).map(Path::to_owned).collect()
}

fn write_file(path: &Path, mode: u32, from: &mut dyn Read, alive: &Alive) -> io::Result<()> {
    let mut file = create_private(path)?;
    copy_seen(from, &mut file, &mut |_| alive.step())?;
    set_mode(&file, mode)?;
    file.sync_all()
}

/// A file that a delta is applied to. Reading a large one takes minutes on a small box.
struct Watched {
    file: File,
    alive: Alive,
}

impl Read for Watched {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.alive.step();
        self.file.read(into)
    }
}

impl Seek for Watched {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

fn fault_of(err: &BundleError) -> StageFault {
    if let BundleError::Take { err, .. } = err
        && is_full(err)
    {
        return StageFault::NoSpace;
    }
    let text = Label::lossy(&chain(err));
    if let BundleError::OtherBase { .. } = err {
        return StageFault::OtherBase(text);
    }
    if err.is_local() { StageFault::Io(text) } else { StageFault::Bad(text) }
}
