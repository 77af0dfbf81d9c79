//! Puts a staged agent in the place of the one that runs: the one file of an update that `switch` leaves alone, as
//! whatever starts this box's agent starts what is there.

use std::io;

use agent_core::Module;
use shared::{EnvelopeId, Label};

use super::Disk;
use super::beneath::Root;
use super::journal::Journal;
use super::switch::{link_over, sync_folders, temporary};
use crate::program::digest_of;

impl Disk {
    /// Whether the staged agent is the one that was signed; a script may have been at it.
    pub(crate) fn check_staged(&self, order: EnvelopeId, module: &Module) -> io::Result<()> {
        let staged = self.stage_folder(order).join(module.path.as_str());
        let found = digest_of(&mut std::fs::File::open(staged)?)?;
        if found == module.digest {
            return Ok(());
        }
        Err(io::Error::other("the staged agent is not the file that was staged"))
    }

    /// Puts it in place, in one rename. The staged file stays: a power cut may undo the one and not the other, and
    /// this is done again then.
    pub(crate) fn adopt(&self, order: EnvelopeId, module: &Module) -> Result<(), Label> {
        let adopt = || -> io::Result<()> {
            let root = Root::open(&self.root)?;
            let is_there = root.open_file(&module.path).and_then(|mut file| digest_of(&mut file));
            if is_there.is_ok_and(|digest| digest == module.digest) {
                return Ok(());
            }
            self.check_staged(order, module)?;
            let staged = self.stage_folder(order).join(module.path.as_str());
            // Without the journal it could not be taken back; with it, what a power cut leaves here is tidied away.
            let journal = Journal::read(&self.job(order).join("journal"))?;
            let index = journal.and_then(|j| j.files.iter().position(|(path, _)| *path == module.path));
            let index = index.ok_or_else(|| io::Error::other("the old agent was not kept"))?;
            link_over(&root.place(&module.path)?, &staged, module.mode, &temporary(order, index))
        };
        let told = |err: &dyn std::fmt::Display| Label::lossy(&format!("{}: {err}", module.path));
        adopt().map_err(|err| told(&err))?;
        let root = Root::open(&self.root).map_err(|err| told(&err))?;
        sync_folders(&root, std::iter::once(&module.path)).map_err(|err| told(&err))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Folders;
    use shared::bundle::ModuleKind;
    use shared::{Digest, ModulePath};
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    /// A root with an old agent, and a job with a staged one beside another module.
    fn site() -> (tempfile::TempDir, Disk, EnvelopeId, Vec<Module>) {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path().to_owned(), Folders::default());
        let order = EnvelopeId([7; 16]);
        fs::create_dir_all(folder.path().join("bin")).unwrap();
        fs::write(folder.path().join("bin/agent"), "old").unwrap();
        let module = |path: &str, kind| Module {
            name: Label::lossy(path),
            version: Label::lossy("1"),
            date: Label::lossy("2026-01-01"),
            path: ModulePath::parse(path).unwrap(),
            mode: 0o755,
            bytes: 3,
            digest: Digest::of(b"new"),
            kind,
        };
        let modules = vec![module("bin/a", ModuleKind::Data), module("bin/agent", ModuleKind::Agent)];
        for module in &modules {
            let staged = disk.stage_folder(order).join(module.path.as_str());
            fs::create_dir_all(staged.parent().unwrap()).unwrap();
            fs::write(&staged, "new").unwrap();
            fs::set_permissions(&staged, fs::Permissions::from_mode(0o755)).unwrap();
        }
        (folder, disk, order, modules)
    }

    fn content(root: &tempfile::TempDir, path: &str) -> Option<String> {
        fs::read_to_string(root.path().join(path)).ok()
    }

    #[test]
    fn a_switch_leaves_the_agent_alone_until_it_is_adopted_and_both_are_taken_back_as_one() {
        let (root, disk, order, modules) = site();
        disk.switch(order, &modules).unwrap();
        assert_eq!(content(&root, "bin/a").as_deref(), Some("new"));
        assert_eq!(content(&root, "bin/agent").as_deref(), Some("old"));
        for _ in 0..2 {
            disk.adopt(order, &modules[1]).unwrap();
            assert_eq!(content(&root, "bin/agent").as_deref(), Some("new"));
        }
        assert_eq!(fs::read_dir(root.path().join("bin")).unwrap().count(), 2, "nothing else is left");
        disk.check_staged(order, &modules[1]).unwrap();
        disk.restore(order, true).unwrap();
        assert_eq!((content(&root, "bin/a"), content(&root, "bin/agent").as_deref()), (None, Some("old")));
    }

    #[test]
    fn an_agent_that_could_not_be_taken_back_is_not_put_in_place() {
        let (root, disk, order, modules) = site();
        let fault = disk.adopt(order, &modules[1]).unwrap_err();
        assert_eq!(fault.as_str(), "bin/agent: the old agent was not kept");
        assert_eq!(content(&root, "bin/agent").as_deref(), Some("old"));
    }

    #[test]
    fn what_a_power_cut_leaves_of_an_adoption_is_tidied_away_by_either_way_on() {
        for taken_back in [false, true] {
            let (root, disk, order, modules) = site();
            disk.switch(order, &modules).unwrap();
            let staged = disk.stage_folder(order).join("bin/agent");
            fs::hard_link(&staged, root.path().join("bin").join(temporary(order, 1))).unwrap();
            if taken_back { disk.restore(order, true) } else { disk.adopt(order, &modules[1]) }.unwrap();
            let left = fs::read_dir(root.path().join("bin")).unwrap().count();
            assert_eq!(left, if taken_back { 1 } else { 2 });
        }
    }

    #[test]
    fn a_staged_agent_that_was_altered_is_never_put_in_place() {
        let (root, disk, order, modules) = site();
        disk.switch(order, &modules).unwrap();
        fs::write(disk.stage_folder(order).join("bin/agent"), "bad").unwrap();
        let fault = disk.adopt(order, &modules[1]).unwrap_err();
        assert_eq!(fault.as_str(), "bin/agent: the staged agent is not the file that was staged");
        assert_eq!(content(&root, "bin/agent").as_deref(), Some("old"));
    }
}
