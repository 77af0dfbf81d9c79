//! Which modules run: a program by the executable of some process, a library by what some process has mapped.
//! Whether that is in the way is the core's.
//!
//! Files are compared by device and inode, so a process that still runs an old file which was replaced long
//! ago does not count. An agent that is not root sees only processes of its own user.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use agent_core::{Module, Running};
use shared::bundle::ModuleKind;
use shared::{Label, ModulePath};

use super::Disk;
use super::beneath::Root;
use crate::limits::MAPS_MAX_BYTES;

/// A file, whatever it is called.
type Identity = (u64, u64);

struct Library {
    name: Label,
    identity: Identity,
    path: PathBuf,
}

impl Disk {
    /// Modules whose files, as they are now, are in use; each with one process.
    pub(crate) fn running(&self, modules: &[Module]) -> Vec<Running> {
        let Ok(root) = Root::open(&self.root) else { return vec![] };
        let mut programs: BTreeMap<Identity, Label> = BTreeMap::new();
        let mut libraries = Vec::new();
        for module in modules {
            // What is not there is not in use.
            let Ok((identity, path)) = identify(&root, &module.path) else { continue };
            match module.kind {
                ModuleKind::Resident | ModuleKind::OnDemand => {
                    programs.insert(identity, module.name.clone());
                }
                ModuleKind::Library => {
                    libraries.push(Library { name: module.name.clone(), identity, path });
                }
                ModuleKind::Script | ModuleKind::Data | ModuleKind::Agent | ModuleKind::Firmware => {}
            }
        }
        if programs.is_empty() && libraries.is_empty() {
            return vec![];
        }
        let mut found: BTreeMap<Label, u32> = BTreeMap::new();
        for pid in processes() {
            if let Ok(exe) = std::fs::metadata(format!("/proc/{pid}/exe"))
                && let Some(name) = programs.get(&(exe.dev(), exe.ino()))
            {
                found.entry(name.clone()).or_insert(pid);
            }
            if !libraries.is_empty() {
                // It may have ended, or be another user's.
                let _ = mapped(pid, &libraries, &mut |library| {
                    found.entry(library.name.clone()).or_insert(pid);
                });
            }
        }
        found.into_iter().map(|(module, pid)| Running { module, pid }).collect()
    }
}

/// The file at a module's path, and the path by which the kernel knows it.
fn identify(root: &Root, path: &ModulePath) -> io::Result<(Identity, PathBuf)> {
    let file = root.open_file(path)?;
    let found = file.metadata()?;
    let known = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    Ok(((found.dev(), found.ino()), known))
}

/// All processes but this one: an agent that is a module itself would wait for itself.
fn processes() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return vec![] };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != std::process::id()).collect()
}

fn mapped(pid: u32, libraries: &[Library], see: &mut dyn FnMut(&Library)) -> io::Result<()> {
    let mut maps = BufReader::new(File::open(format!("/proc/{pid}/maps"))?.take(MAPS_MAX_BYTES));
    let mut line = Vec::new();
    loop {
        line.clear();
        if maps.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line);
        if let Some((identity, path)) = in_maps(&text) {
            libraries.iter().filter(|l| is_same(l, identity, path)).for_each(&mut *see);
        }
    }
}

/// Some file systems (btrfs, overlays) show another device here than in a file's status: then the path must
/// be the same.
fn is_same(library: &Library, (device, inode): Identity, path: &str) -> bool {
    let (library_device, library_inode) = library.identity;
    library_inode == inode && (library_device == device || library.path.as_os_str() == path)
}

/// `addresses permissions offset major:minor inode path`
fn in_maps(line: &str) -> Option<(Identity, &str)> {
    let mut fields = line.trim_end_matches('\n').splitn(6, ' ');
    let (major, minor) = fields.nth(3)?.split_once(':')?;
    let number = |text| u32::from_str_radix(text, 16).ok();
    let device = rustix::fs::makedev(number(major)?, number(minor)?);
    let inode = fields.next()?.parse().ok().filter(|inode| *inode != 0)?;
    Some(((device, inode), fields.next()?.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Folders;
    use shared::Digest;
    use std::process::{Child, Command};

    struct Ended(Child);

    impl Drop for Ended {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn module(path: &str, kind: ModuleKind) -> Module {
        Module {
            name: Label::lossy(path),
            version: Label::lossy("1"),
            date: Label::lossy("2026-01-01"),
            path: ModulePath::parse(path).unwrap(),
            mode: 0o755,
            bytes: 3,
            digest: Digest::of(b"new"),
            kind,
        }
    }

    #[test]
    fn a_line_of_mapped_files_is_read_and_others_are_not() {
        let line = "7f00-7f10 r-xp 00002000 fe:0a 247282                     /opt/a b/x.so\n";
        assert_eq!(in_maps(line), Some(((rustix::fs::makedev(0xfe, 0x0a), 247_282), "/opt/a b/x.so")));
        for line in ["", "7f00-7f10 rw-p 00000000 00:00 0 \n", "7f00 rw-p 0 00:00 0 [heap]\n", "x y z\n"] {
            assert_eq!(in_maps(line), None, "{line}");
        }
    }

    #[test]
    fn a_program_counts_while_it_runs_from_the_file_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path().to_owned(), Folders::default());
        let path = folder.path().join("prog");
        std::fs::copy("/bin/sleep", &path).unwrap();
        let modules = [module("prog", ModuleKind::OnDemand), module("missing", ModuleKind::Resident)];
        assert_eq!(disk.running(&modules), []);
        let child = Ended(Command::new(&path).arg("600").spawn().unwrap());
        let expected = Running { module: Label::lossy("prog"), pid: child.0.id() };
        assert_eq!(disk.running(&modules), [expected]);
        assert_eq!(disk.running(&[module("prog", ModuleKind::Data)]), []);
        std::fs::copy("/bin/sleep", folder.path().join("new")).unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
        assert_eq!(disk.running(&modules), [], "it runs an older file");
    }

    #[test]
    fn a_library_counts_while_a_process_has_it_mapped() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path().to_owned(), Folders::default());
        // Any file that a dynamic linker maps will do: a program is one.
        let path = folder.path().join("lib.so");
        std::fs::copy("/bin/sleep", &path).unwrap();
        let modules = [module("lib.so", ModuleKind::Library)];
        assert_eq!(disk.running(&modules), []);
        let child = Ended(Command::new(&path).arg("600").spawn().unwrap());
        let expected = Running { module: Label::lossy("lib.so"), pid: child.0.id() };
        assert_eq!(disk.running(&modules), [expected]);
    }
}
