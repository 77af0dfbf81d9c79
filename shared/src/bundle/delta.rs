//! Deltas of a bundle: a second payload of the same files, for agents that have those of an older bundle. Modules come in it as what
//! has changed (see `patch`), or in full where that is smaller (PROTOCOL 6.9).
//!
//! ```text
//! delta = { 0: text        Software Version of the older bundle
//!           1: uint        payload bytes
//!           2: bytes 32    payload SHA-256
//!           3: [+ patch] } in the order of the modules
//! patch = { 0: text        the module's name
//!           1: text        version of the older one
//!           2: text        date of the older one
//!           3: [uint, bytes 32]    the older file: size, SHA-256
//!           4: uint }      bytes of the patch before compression
//! ```
//!
//! Why not a bundle of its own for each delta: one signature, also by a key that is offline, then says what all agents have
//! afterwards, and what is ordered is one bundle for everyone.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use minicbor::{Decode, Encode};

use super::manifest::{FileEntry, Manifest, ManifestError, ModuleEntry};
use super::pack::{Compressor, CountingWriter, PackError};
use super::patch::LENGTHS_BYTES;
use super::{Entry, patch};
use crate::bounded;
use crate::id::{Digest, Hasher, Label};
use crate::limits::{CHUNK_BYTES, MODULES_MAX_COUNT, PATCH_COLUMNS_MAX_BYTES, PATCH_FILE_MAX_BYTES};
use crate::version::SoftwareVersion;

/// A payload for agents that have the files of an older bundle.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Delta {
    /// What the older bundle is called.
    #[n(0)]
    pub base: SoftwareVersion,
    /// Size of the compressed payload.
    #[n(1)]
    pub payload_bytes: u64,
    /// SHA-256 of the compressed payload.
    #[n(2)]
    pub payload_digest: Digest,
    /// The modules that come as patches, in the manifest's order; the others come in full.
    #[cbor(n(3), decode_with = "bounded::list::<_, _, MODULES_MAX_COUNT>")]
    pub patches: Vec<Patch>,
}

/// A module that comes as what has changed in it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Patch {
    /// The module's name.
    #[n(0)]
    pub module: Label,
    /// Version of the one that an agent has to have.
    #[n(1)]
    pub base_version: Label,
    /// Its date.
    #[n(2)]
    pub base_date: Label,
    /// Its file.
    #[n(3)]
    pub base: FileEntry,
    /// Size of the patch before compression.
    #[n(4)]
    pub bytes: u64,
}

impl Delta {
    /// The patch for a module, if it comes as one.
    #[must_use]
    pub fn patch(&self, module: &Label) -> Option<&Patch> {
        self.patches.iter().find(|patch| patch.module == *module)
    }

    /// PROTOCOL 6.9: every patch is for a module of the bundle, no module has two, and none is larger than what it could make.
    pub(super) fn check(&self, modules: &[ModuleEntry]) -> Result<(), ManifestError> {
        if self.patches.is_empty() {
            return Err(ManifestError::NoPatches);
        }
        let mut modules = modules.iter();
        for patch in &self.patches {
            let file = |module: &ModuleEntry| module.file.bytes.saturating_add(LENGTHS_BYTES as u64);
            let most = |module: &ModuleEntry| file(module).saturating_add(PATCH_COLUMNS_MAX_BYTES as u64);
            let module = modules.find(|module| module.name == patch.module);
            if module.is_none_or(|module| patch.bytes > most(module)) {
                return Err(ManifestError::Patch { name: patch.module.clone() });
            }
        }
        Ok(())
    }
}

/// A module of an older bundle, and its content.
#[derive(Clone, Debug)]
pub struct BaseFile {
    /// What the older bundle's manifest says of it.
    pub entry: ModuleEntry,
    /// The file.
    pub content: Vec<u8>,
}

/// Makes the delta from an older bundle to the one of `manifest`: for each module the smaller of patch and file, compressed into `payload`.
/// `old` gives the older file at the same place, `new` opens a file of this bundle. `None`: no patch is smaller than its file.
///
/// # Errors
/// A file cannot be read or is not the one of the manifest any more, or the payload cannot be written.
pub fn pack_delta<R: Read>(
    manifest: &Manifest,
    base: &SoftwareVersion,
    level: i32,
    old: &mut dyn FnMut(&ModuleEntry) -> io::Result<Option<BaseFile>>,
    new: &mut dyn FnMut(Entry<'_>) -> io::Result<R>,
    payload: &mut dyn Write,
) -> Result<Option<Delta>, PackError> {
    let mut counted = CountingWriter::new(payload);
    let mut compressor =
        Compressor::new(&mut counted, manifest.compression, level.into()).map_err(PackError::Write)?;
    let mut patches = Vec::new();
    if let Some(script) = &manifest.script {
        let mut from = new(Entry::Script(script)).map_err(|err| unreadable("the script", err))?;
        add_whole(&mut from, script, "the script", &mut compressor)?;
    }
    for module in &manifest.modules {
        let name = module.name.as_str();
        let mut from = new(Entry::Module(module)).map_err(|err| unreadable(name, err))?;
        let base = old(module).map_err(|err| unreadable(name, err))?;
        let Some(base) = base.filter(|_| module.file.bytes <= PATCH_FILE_MAX_BYTES) else {
            add_whole(&mut from, &module.file, name, &mut compressor)?;
            continue;
        };
        let mut content = Vec::new();
        from.take(PATCH_FILE_MAX_BYTES).read_to_end(&mut content).map_err(|err| unreadable(name, err))?;
        if Digest::of(&content) != module.file.digest {
            return Err(PackError::Changed { file: name.to_owned() });
        }
        let size = |bytes: &[u8]| packed_size(bytes, manifest, level).map_err(PackError::Write);
        let Some(made) = patch::make(&base.content, &content) else {
            compressor.write_all(&content).map_err(PackError::Write)?;
            continue;
        };
        if size(&made)? >= size(&content)? {
            compressor.write_all(&content).map_err(PackError::Write)?;
            continue;
        }
        compressor.write_all(&made).map_err(PackError::Write)?;
        patches.push(Patch {
            module: module.name.clone(),
            base_version: base.entry.version,
            base_date: base.entry.date,
            base: base.entry.file,
            bytes: made.len() as u64,
        });
    }
    compressor.finish().map_err(PackError::Write)?;
    let (payload_bytes, payload_digest) = counted.finish();
    let delta = Delta { base: base.clone(), payload_bytes, payload_digest, patches };
    Ok(Some(delta).filter(|delta| !delta.patches.is_empty() && payload_bytes < manifest.payload_bytes))
}

/// The older modules that have a successor at the same place in a bundle.
#[must_use]
pub fn successors<'b>(base: &'b Manifest, manifest: &Manifest) -> BTreeMap<&'b str, &'b ModuleEntry> {
    let stays = |old: &&ModuleEntry| {
        let mut modules = manifest.modules.iter();
        old.file.bytes <= PATCH_FILE_MAX_BYTES
            && modules.any(|new| new.name == old.name && new.path == old.path)
    };
    base.modules.iter().filter(stays).map(|old| (old.name.as_str(), old)).collect()
}

fn add_whole<W: Write>(
    from: &mut dyn Read,
    file: &FileEntry,
    name: &str,
    compressor: &mut Compressor<W>,
) -> Result<(), PackError> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![0u8; CHUNK_BYTES];
    loop {
        let n = from.read(&mut buffer).map_err(|err| unreadable(name, err))?;
        let piece = buffer.get(..n).unwrap_or_default();
        if piece.is_empty() {
            break;
        }
        hasher.update(piece);
        compressor.write_all(piece).map_err(PackError::Write)?;
    }
    if hasher.len() == file.bytes && hasher.finish() == file.digest {
        return Ok(());
    }
    Err(PackError::Changed { file: name.to_owned() })
}

/// What some bytes need by themselves.
fn packed_size(bytes: &[u8], manifest: &Manifest, level: i32) -> io::Result<u64> {
    let mut sink = io::sink();
    let mut counted = CountingWriter::new(&mut sink);
    let mut compressor = Compressor::new(&mut counted, manifest.compression, level.into())?;
    compressor.write_all(bytes)?;
    compressor.finish()?;
    Ok(counted.finish().0)
}

fn unreadable(file: &str, err: io::Error) -> PackError {
    PackError::ReadAgain { file: file.to_owned(), err }
}
