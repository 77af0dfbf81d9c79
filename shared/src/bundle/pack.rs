//! Builds a bundle: compresses the files into the payload, makes the manifest, signs it.

use std::io::{self, Read, Write};

use flate2::write::DeflateEncoder;
use thiserror::Error;

use super::manifest::{Compression, FORMAT_VERSION, FileEntry, Manifest, ManifestError, ModuleEntry};
use super::spec::{BundleSpec, SourceFile};
use super::{MAGIC, SIGNATURE_LABEL};
use crate::id::{Digest, Hasher};
use crate::keys::SigningKey;
use crate::limits::{CHUNK_BYTES, MANIFEST_MAX_BYTES, RELEASE_SIGNATURES_MAX_COUNT, ZSTD_WINDOW_LOG_MAX};
use crate::time::UnixMillis;

/// A file that [`pack`] asks its caller to open.
pub type PackFile<'a> = &'a SourceFile;

/// How hard a payload is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Level of the method: 1 to 22 for zstd, 0 to 9 for deflate.
    pub level: i32,
    /// Threads that compress by zstd, beside the one that reads and digests. How many there are changes nothing of the result; none
    /// at all does.
    pub threads: u32,
}

impl From<i32> for Effort {
    /// A level, on the caller's thread alone.
    fn from(level: i32) -> Self {
        Self { level, threads: 0 }
    }
}

/// Compresses the files that `spec` names into `payload` and gives the manifest. `open` opens one file at a
/// time; `progress` is told of each piece read, in bytes.
///
/// # Errors
/// A file cannot be read, the payload not written, or the whole breaks a limit.
pub fn pack<R: Read>(
    spec: &BundleSpec,
    compression: Compression,
    effort: impl Into<Effort>,
    created: UnixMillis,
    open: &mut dyn FnMut(PackFile<'_>) -> io::Result<R>,
    payload: &mut dyn Write,
    progress: &mut dyn FnMut(u64),
) -> Result<Manifest, PackError> {
    let mut counted = CountingWriter::new(payload);
    let mut compressor =
        Compressor::new(&mut counted, compression, effort.into()).map_err(PackError::Write)?;
    let mut add = |source: &SourceFile| -> Result<FileEntry, PackError> {
        let read_error = |err| PackError::Read { file: source.clone(), err };
        let mut reader = open(source).map_err(read_error)?;
        let mut hasher = Hasher::default();
        let mut buffer = vec![0u8; CHUNK_BYTES];
        loop {
            let n = reader.read(&mut buffer).map_err(read_error)?;
            let piece = buffer.get(..n).unwrap_or_default();
            if piece.is_empty() {
                return Ok(FileEntry { bytes: hasher.len(), digest: hasher.finish() });
            }
            hasher.update(piece);
            compressor.write_all(piece).map_err(PackError::Write)?;
            progress(n as u64);
        }
    };

    let script = spec.script.as_ref().map(&mut add).transpose()?;
    let mut modules = Vec::new();
    for module in &spec.modules {
        modules.push(ModuleEntry {
            name: module.name.clone(),
            version: module.version.clone(),
            date: module.date.clone(),
            path: module.path.clone(),
            mode: module.mode,
            kind: module.kind,
            file: add(&module.file)?,
        });
    }
    compressor.finish().map_err(PackError::Write)?;

    let files = modules.iter().map(|m| m.file).chain(script);
    let (payload_bytes, payload_digest) = counted.finish();
    let manifest = Manifest {
        format: FORMAT_VERSION,
        software_version: spec.software_version.clone(),
        from: spec.from.clone(),
        classes: spec.classes.clone(),
        settle_ms: spec.settle.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
        script,
        unpacked_bytes: files.fold(0u64, |sum, file| sum.saturating_add(file.bytes)),
        modules,
        compression,
        payload_bytes,
        payload_digest,
        created,
        test: spec.test.clone(),
        vendor: spec.vendor.clone(),
        notes: spec.notes.clone(),
        deltas: Vec::new(),
        firmware: spec.firmware.clone(),
    };
    manifest.check().map_err(PackError::Manifest)?;
    Ok(manifest)
}

/// Everything of a bundle file that stands before its payload.
///
/// # Errors
/// No key, too many keys, or a manifest over its limit.
pub fn write_head(manifest: &Manifest, release_keys: &[&SigningKey]) -> Result<Vec<u8>, PackError> {
    let count = u8::try_from(release_keys.len())
        .ok()
        .filter(|n| (1..=RELEASE_SIGNATURES_MAX_COUNT).contains(&usize::from(*n)))
        .ok_or(PackError::Keys { found: release_keys.len() })?;
    let manifest = crate::message::encode(manifest);
    if manifest.len() > MANIFEST_MAX_BYTES {
        return Err(PackError::ManifestTooLarge { found: manifest.len() });
    }
    let length = u32::try_from(manifest.len()).unwrap_or(u32::MAX);
    let mut head = [MAGIC.as_slice(), &length.to_be_bytes(), &manifest, &[count]].concat();
    for key in release_keys {
        head.extend_from_slice(&key.verifying_key().key_id().0);
        head.extend_from_slice(&key.sign(SIGNATURE_LABEL, &manifest));
    }
    Ok(head)
}

/// Why a bundle was not built.
#[derive(Debug, Error)]
pub enum PackError {
    /// A file of the bundle cannot be read.
    #[error("cannot read {} (named at line {} of bundle.toml)", .file.path, .file.line)]
    Read {
        /// The file.
        file: SourceFile,
        /// Why.
        #[source]
        err: io::Error,
    },
    /// A file that a delta is made of cannot be read.
    #[error("cannot read {file} for a delta")]
    ReadAgain {
        /// The module.
        file: String,
        /// Why.
        #[source]
        err: io::Error,
    },
    /// A file is not what it was when the payload was made.
    #[error("{file} has changed while the bundle was built")]
    Changed {
        /// The module.
        file: String,
    },
    /// The payload cannot be written.
    #[error("cannot write the bundle's payload")]
    Write(#[source] io::Error),
    /// The result breaks a rule.
    #[error("this is no valid bundle")]
    Manifest(#[source] ManifestError),
    /// The manifest is too large.
    #[error("manifest of {found} bytes, expected at most {MANIFEST_MAX_BYTES}")]
    ManifestTooLarge {
        /// Its size.
        found: usize,
    },
    /// No release key, or too many.
    #[error("{found} release keys, expected 1 to {RELEASE_SIGNATURES_MAX_COUNT}")]
    Keys {
        /// How many were given.
        found: usize,
    },
}

/// Counts and hashes what goes through it.
pub(super) struct CountingWriter<'w> {
    inner: &'w mut dyn Write,
    hasher: Hasher,
}

impl<'w> CountingWriter<'w> {
    pub(super) fn new(inner: &'w mut dyn Write) -> Self {
        Self { inner, hasher: Hasher::default() }
    }

    pub(super) fn finish(self) -> (u64, Digest) {
        (self.hasher.len(), self.hasher.finish())
    }
}

impl Write for CountingWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..n).unwrap_or_default());
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Makes the one stream of a payload.
pub(super) enum Compressor<W: Write> {
    Deflate(DeflateEncoder<W>),
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Compressor<W> {
    pub(super) fn new(to: W, compression: Compression, effort: Effort) -> io::Result<Self> {
        let Effort { level, threads } = effort;
        match compression {
            Compression::Deflate => {
                let level = u32::try_from(level.clamp(0, 9)).unwrap_or(9);
                Ok(Self::Deflate(DeflateEncoder::new(to, flate2::Compression::new(level))))
            }
            Compression::Zstd => {
                let mut encoder = zstd::Encoder::new(to, level.clamp(1, 22))?;
                encoder.multithread(threads)?;
                // PROTOCOL 6.5: an agent refuses a larger window; levels above 19 would ask for one.
                if level > 19 {
                    encoder.window_log(ZSTD_WINDOW_LOG_MAX)?;
                }
                Ok(Self::Zstd(encoder))
            }
        }
    }

    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Deflate(encoder) => encoder.write_all(bytes),
            Self::Zstd(encoder) => encoder.write_all(bytes),
        }
    }

    pub(super) fn finish(self) -> io::Result<()> {
        match self {
            Self::Deflate(encoder) => encoder.finish().map(drop),
            Self::Zstd(encoder) => encoder.finish().map(drop),
        }
    }
}
