//! The files below the agent's root: unpacks bundles beside them, puts them in place, puts them back, hashes
//! them. Decides nothing; every step may be done again.
//!
//! ```text
//! <root>/.mailfleet/jobs/<order>/
//!     stage/<module path>   the new files, checked and synced; also the script's working folder
//!     script                the bundle's script
//!     old/<number>          the old files, by hard link where the file system allows it
//!     journal               what `switch` is about to do; see `journal`
//! <root>/.mailfleet/leases/ see `lease`
//! ```
//!
//! Nobody but root's owner can be trusted with `root`, but a module's folder may have been replaced by a
//! symbolic link: all target folders are opened beneath the root by the kernel's rules.

mod adopt;
mod beneath;
mod in_use;
mod journal;
mod stage;
mod switch;

use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use agent_core::{BundleFacts, InspectFault, Module, ModulesFound};
use shared::bundle::{BundleError, BundleReader, Manifest, VerifiedBundle};
use shared::error::chain;
use shared::path::AGENT_FOLDER;
use shared::trust::Trust;
use shared::{Digest, EnvelopeId, Hasher, Label, ModulePath};

use crate::alive::Alive;
use crate::config::Config;
use crate::files::{copy_seen, durable_folder, remove_tree};
use crate::home::{HomeError, Lock};
use crate::lease::Leases;
use crate::script::ScriptUser;
use beneath::Root;

/// An agent's root folder.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    root: PathBuf,
    folders: Folders,
    /// Told of each piece of a file: a large one takes minutes on a small box.
    alive: Alive,
}

/// How the agent's own folders are kept. The default is for who only reads.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Folders {
    /// Stays free when a bundle is unpacked.
    pub(crate) keep_free_bytes: u64,
    /// Group of the user that scripts run as: it may read what is staged, and change nothing.
    pub(crate) script_group: Option<u32>,
    /// Mode of the folder of leases.
    pub(crate) lease_mode: u32,
}

impl Folders {
    /// As the operator has decided.
    pub(crate) fn of(config: &Config, script_user: Option<&ScriptUser>) -> Self {
        Self {
            keep_free_bytes: config.keep_free_bytes,
            script_group: script_user.map(|user| user.gid),
            lease_mode: config.lease_mode,
        }
    }
}

impl Disk {
    pub(crate) fn new(root: PathBuf, folders: Folders) -> Self {
        Self { root, folders, alive: Alive::default() }
    }

    /// The same root, with somebody who wants to know that the work goes on.
    pub(crate) fn watched(self, alive: Alive) -> Self {
        Self { alive, ..self }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn jobs(&self) -> PathBuf {
        self.root.join(AGENT_FOLDER).join("jobs")
    }

    pub(crate) fn job(&self, order: EnvelopeId) -> PathBuf {
        self.jobs().join(order.to_hex())
    }

    pub(crate) fn stage_folder(&self, order: EnvelopeId) -> PathBuf {
        self.job(order).join("stage")
    }

    pub(crate) fn script(&self, order: EnvelopeId) -> PathBuf {
        self.job(order).join("script")
    }

    /// Keeps agents of other homes out of this root: they would tidy each other's jobs away. A root that cannot
    /// be used yet has no lock; its first install says why it cannot.
    pub(crate) fn lock(&self) -> Result<Option<Lock>, HomeError> {
        if self.own_folder().is_err() {
            return Ok(None);
        }
        match Lock::take(&self.root.join(AGENT_FOLDER)) {
            Err(HomeError::Io(..)) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Makes the agent's own folders below the root, and refuses one that is a link to elsewhere. Others may
    /// pass through only on their way to what is theirs. They are durable before a job is laid out in them: what
    /// takes a switch back must not be lost before what was switched.
    fn own_folder(&self) -> io::Result<()> {
        const PASS: u32 = 0o711;
        const PRIVATE: u32 = 0o700;
        let Folders { script_group, lease_mode, .. } = self.folders;
        let jobs = if script_group.is_some() { PASS } else { PRIVATE };
        let leases = lease_mode | PRIVATE;
        let own = if jobs == PASS || leases & 0o077 != 0 { PASS } else { PRIVATE };
        let leases = (Leases::below(&self.root).folder().to_owned(), leases);
        for (folder, mode) in [(self.root.join(AGENT_FOLDER), own), (self.jobs(), jobs), leases] {
            durable_folder(&folder, PRIVATE)?;
            let found = std::fs::symlink_metadata(&folder)?;
            if !found.is_dir() {
                return Err(io::Error::other(format!("{} is a link, expected a folder", folder.display())));
            }
            if found.permissions().mode() & 0o7777 != mode {
                std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode))?;
            }
        }
        Ok(())
    }

    /// Digests of the regular files at these paths. A file that cannot be read is left out.
    pub(crate) fn read_modules(&self, paths: &[ModulePath], rom_version: Label) -> ModulesFound {
        let root = Root::open(&self.root);
        let digest = |path: &ModulePath| -> io::Result<Digest> {
            let root = root.as_ref().map_err(|err| io::Error::from(err.kind()))?;
            let mut hasher = Hasher::default();
            copy_seen(&mut root.open_file(path)?, &mut io::sink(), &mut |piece| {
                hasher.update(piece);
                self.alive.step();
            })?;
            Ok(hasher.finish())
        };
        let mut found = ModulesFound { rom_version, ..ModulesFound::default() };
        for path in paths {
            match digest(path) {
                Ok(digest) => drop(found.files.insert(path.clone(), digest)),
                Err(err) => tracing::debug!(%path, %err, "Cannot read a module's file"),
            }
        }
        found
    }

    /// Removes all that an install has left.
    pub(crate) fn cleanup(&self, order: EnvelopeId) -> io::Result<()> {
        remove_tree(&self.job(order))
    }

    /// Removes the folders of all other jobs.
    pub(crate) fn tidy(&self, keep: &[EnvelopeId]) -> io::Result<()> {
        let entries = match std::fs::read_dir(self.jobs()) {
            Ok(entries) => entries,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(err) => return Err(err),
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            if !keep.iter().any(|order| name.to_str() == Some(order.to_hex().as_str())) {
                remove_tree(&entry.path())?;
            }
        }
        Ok(())
    }

    /// What may still be written below the root.
    pub(crate) fn room(&self) -> io::Result<Room> {
        let stat = rustix::fs::statvfs(&self.root)?;
        Ok(Room {
            bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            // Some file systems make inodes as they need them, and say that they have none.
            files: if stat.f_files == 0 { u64::MAX } else { stat.f_favail },
        })
    }
}

/// What a file system still takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) bytes: u64,
    /// Files and folders.
    pub(crate) files: u64,
}

/// Reads a kept bundle's manifest; believes it only with a release key's signature.
pub(crate) fn inspect(bundle: &Path, trust: &Trust) -> Result<Box<BundleFacts>, InspectFault> {
    let facts = open_bundle(bundle, trust).map(|verified| Box::new(facts_of(verified.manifest())));
    facts.map_err(|err| match &err {
        BundleError::NotSigned { .. } | BundleError::TooFewSigned { .. } => InspectFault::NotSigned,
        local if local.is_local() => InspectFault::Io(Label::lossy(&chain(&err))),
        _ => InspectFault::Bad(Label::lossy(&chain(&err))),
    })
}

type OpenBundle = VerifiedBundle<io::BufReader<File>>;

fn open_bundle(bundle: &Path, trust: &Trust) -> Result<OpenBundle, BundleError> {
    let file = File::open(bundle).map_err(BundleError::Read)?;
    // PROTOCOL 6.1: whoever has ordered it, only a release key makes a bundle.
    BundleReader::open(io::BufReader::new(file))?.verify(&trust.release_keys, trust.threshold)
}

fn facts_of(manifest: &Manifest) -> BundleFacts {
    let module = |m: &shared::bundle::ModuleEntry| Module {
        name: m.name.clone(),
        version: m.version.clone(),
        date: m.date.clone(),
        path: m.path.clone(),
        mode: m.mode,
        bytes: m.file.bytes,
        digest: m.file.digest,
        kind: m.kind,
    };
    BundleFacts {
        software_version: manifest.software_version.clone(),
        from: manifest.from.clone(),
        classes: manifest.classes.clone(),
        has_script: manifest.script.is_some(),
        modules: manifest.modules.iter().map(module).collect(),
        unpacked_bytes: manifest.unpacked_bytes,
        test: manifest.test.clone(),
        firmware: manifest.firmware.clone(),
    }
}
