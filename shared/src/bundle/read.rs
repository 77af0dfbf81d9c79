//! Reads a bundle in the only safe order: signature, manifest, payload digest, and only then decompression,
//! with every file's size and digest known beforehand (PROTOCOL 6).

use std::io::{self, Read, Seek, SeekFrom};

use flate2::read::DeflateDecoder;
use thiserror::Error;

use super::delta::{Delta, Patch};
use super::manifest::{Compression, FileEntry, Manifest, ManifestError, ModuleEntry};
use super::patch::{OldFile, Patched};
use super::{DELTA_MAGIC, Form, MAGIC, SIGNATURE_LABEL};
use crate::id::{Digest, Hasher, KeyId};
use crate::keys::{SigningKey, VerifyingKey};
use crate::limits::{MANIFEST_MAX_BYTES, RELEASE_SIGNATURES_MAX_COUNT, ZSTD_WINDOW_LOG_MAX};
use crate::trust::count_signers;

/// A bundle whose signature is not checked yet.
#[derive(Debug)]
pub struct BundleReader<R> {
    form: Form,
    manifest: Vec<u8>,
    signatures: Vec<(KeyId, [u8; 64])>,
    from: R,
}

impl<R: Read + Seek> BundleReader<R> {
    /// Reads up to the payload. Bounded.
    ///
    /// # Errors
    /// Not a bundle, cut off, over a limit, or the reader failed.
    pub fn open(mut from: R) -> Result<Self, BundleError> {
        let form = match read_array::<8>(&mut from, "magic")? {
            MAGIC => Form::Full,
            DELTA_MAGIC => {
                let [number] = read_array::<1>(&mut from, "magic")?;
                if read_array::<8>(&mut from, "magic")? != MAGIC {
                    return Err(BundleError::NotABundle);
                }
                Form::Delta(number)
            }
            _ => return Err(BundleError::NotABundle),
        };
        let length = u32::from_be_bytes(read_array::<4>(&mut from, "manifest length")?);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > MANIFEST_MAX_BYTES {
            return Err(BundleError::ManifestTooLarge { found: length });
        }
        let mut manifest = vec![0u8; length];
        read_exact(&mut from, &mut manifest, "manifest")?;
        let [count] = read_array::<1>(&mut from, "signatures")?;
        if !(1..=RELEASE_SIGNATURES_MAX_COUNT).contains(&usize::from(count)) {
            return Err(BundleError::Signatures { found: count });
        }
        let mut signatures = Vec::new();
        for _ in 0..count {
            let key = KeyId(read_array::<8>(&mut from, "signatures")?);
            signatures.push((key, read_array::<64>(&mut from, "signatures")?));
        }
        Ok(Self { form, manifest, signatures, from })
    }

    /// The release keys that claim to have signed.
    #[must_use]
    pub fn signers(&self) -> Vec<KeyId> {
        self.signatures.iter().map(|(key, _)| *key).collect()
    }

    /// The bundle's head again with a signature by `key` added, and the payload that follows it.
    ///
    /// # Errors
    /// There are as many signatures as there can be, or it is a delta as it is mailed.
    pub fn signed_also_by(mut self, key: &SigningKey) -> Result<(Vec<u8>, R), BundleError> {
        if self.form != Form::Full {
            return Err(BundleError::NotABundle);
        }
        let id = key.verifying_key().key_id();
        self.signatures.retain(|(by, _)| *by != id);
        self.signatures.push((id, key.sign(SIGNATURE_LABEL, &self.manifest)));
        let count = u8::try_from(self.signatures.len()).unwrap_or(u8::MAX);
        if usize::from(count) > RELEASE_SIGNATURES_MAX_COUNT {
            return Err(BundleError::Signatures { found: count });
        }
        let head = self.head();
        Ok((head, self.from))
    }

    /// What stands before the payload of the full form.
    fn head(&self) -> Vec<u8> {
        let length = u32::try_from(self.manifest.len()).unwrap_or(u32::MAX);
        let count = u8::try_from(self.signatures.len()).unwrap_or(u8::MAX);
        let mut head = [MAGIC.as_slice(), &length.to_be_bytes(), &self.manifest, &[count]].concat();
        for (by, signature) in &self.signatures {
            head.extend_from_slice(&by.0);
            head.extend_from_slice(signature);
        }
        head
    }

    /// Checks that `threshold` different ones of `release_keys` have signed, then reads the manifest. A
    /// threshold of 0 counts as 1.
    ///
    /// # Errors
    /// Too few such signatures; or signed, but not a manifest that this version can install.
    pub fn verify(
        self,
        release_keys: &[VerifyingKey],
        threshold: u8,
    ) -> Result<VerifiedBundle<R>, BundleError> {
        // PROTOCOL 6.2: nothing of the manifest is decoded before release keys' signatures are checked.
        let signers = count_signers(SIGNATURE_LABEL, &self.manifest, &self.signatures, release_keys);
        let needed = threshold.max(1);
        match signers.len() {
            0 => Err(BundleError::NotSigned { signers: self.signers() }),
            found if found < usize::from(needed) => Err(BundleError::TooFewSigned { needed, found }),
            _ => self.into_verified(signers),
        }
    }

    /// Reads the manifest although its signer is not known: only to show it to a person.
    ///
    /// # Errors
    /// Not a manifest that this version knows.
    pub fn inspect_unverified(self) -> Result<VerifiedBundle<R>, BundleError> {
        let signers = self.signers();
        self.into_verified(signers)
    }

    fn into_verified(mut self, signers: Vec<KeyId>) -> Result<VerifiedBundle<R>, BundleError> {
        let manifest: Manifest = minicbor::decode(&self.manifest).map_err(BundleError::Manifest)?;
        manifest.check().map_err(BundleError::BadManifest)?;
        if let Form::Delta(number) = self.form
            && manifest.deltas.get(usize::from(number)).is_none()
        {
            return Err(BundleError::NoSuchDelta { found: manifest.deltas.len() });
        }
        let payload_at = self.from.stream_position().map_err(BundleError::Read)?;
        let head = self.head();
        Ok(VerifiedBundle { manifest, signers, form: self.form, head, from: self.from, payload_at })
    }
}

/// A bundle whose manifest can be believed.
#[derive(Debug)]
pub struct VerifiedBundle<R> {
    manifest: Manifest,
    signers: Vec<KeyId>,
    pub(super) form: Form,
    /// What stands before the payload of the full form.
    pub(super) head: Vec<u8>,
    pub(super) from: R,
    pub(super) payload_at: u64,
}

/// A file that [`VerifiedBundle::unpack`] hands out.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'m> {
    /// The install script.
    Script(&'m FileEntry),
    /// A module's file.
    Module(&'m ModuleEntry),
}

impl<R: Read + Seek> VerifiedBundle<R> {
    /// What is true of the bundle.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The release keys that signed it.
    #[must_use]
    pub fn signers(&self) -> &[KeyId] {
        &self.signers
    }

    /// Hands out every file, in the manifest's order. The payload's digest is checked first, each file's
    /// size and digest while it is read: `take` gets a reader that ends at the file's signed size.
    ///
    /// # Errors
    /// The payload is another one, a file is not what the manifest says, `take` failed, or this is a delta.
    pub fn unpack(
        self,
        take: &mut dyn FnMut(Entry<'_>, &mut dyn Read) -> io::Result<()>,
    ) -> Result<Manifest, BundleError> {
        self.unpack_over(&mut |_| Err(io::ErrorKind::NotFound.into()), take)
    }

    /// [`VerifiedBundle::unpack`], also of a delta: `old` opens the file that is at a module's path now.
    ///
    /// # Errors
    /// As there; or a file that is there is not the one that the delta was made for.
    pub fn unpack_over(
        mut self,
        old: &mut OpenOld<'_>,
        take: &mut dyn FnMut(Entry<'_>, &mut dyn Read) -> io::Result<()>,
    ) -> Result<Manifest, BundleError> {
        // PROTOCOL 6.3: digest first, decompression after it.
        self.check_payload()?;
        self.from.seek(SeekFrom::Start(self.payload_at)).map_err(BundleError::Read)?;
        let delta = self.delta().cloned();
        let bytes = delta.as_ref().map_or(self.manifest.payload_bytes, |delta| delta.payload_bytes);
        let payload = (&mut self.from).take(bytes);
        let mut plain: Box<dyn Read + '_> = match self.manifest.compression {
            Compression::Deflate => Box::new(DeflateDecoder::new(payload)),
            Compression::Zstd => {
                let mut decoder = zstd::Decoder::new(payload).map_err(BundleError::Read)?;
                // PROTOCOL 6.5: bounds the memory that a frame can ask for.
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(BundleError::Read)?;
                Box::new(decoder)
            }
        };
        if let Some(script) = &self.manifest.script {
            hand_out(Entry::Script(script), &mut plain, take)?;
        }
        for module in &self.manifest.modules {
            match delta.as_ref().and_then(|delta: &Delta| delta.patch(&module.name)) {
                Some(patch) => hand_out_patched(module, patch, &mut plain, old, take)?,
                None => hand_out(Entry::Module(module), &mut plain, take)?,
            }
        }
        // A stream that unpacks to more than the manifest says was made to surprise somebody.
        if plain.read(&mut [0u8; 1]).map_err(BundleError::Decompress)? != 0 {
            return Err(BundleError::Content { file: "the end of the payload".to_owned() });
        }
        drop(plain);
        Ok(self.manifest)
    }
}

/// Opens the file that is at a module's path now.
pub type OpenOld<'o> = dyn FnMut(&ModuleEntry) -> io::Result<Box<dyn OldFile>> + 'o;

impl Entry<'_> {
    fn file(&self) -> &FileEntry {
        match self {
            Self::Script(file) => file,
            Self::Module(module) => &module.file,
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Script(_) => "the script",
            Self::Module(module) => module.path.as_str(),
        }
    }
}

/// Makes a module from the file that is there, once that is known to be the right one (PROTOCOL 6.10).
fn hand_out_patched(
    module: &ModuleEntry,
    patch: &Patch,
    plain: &mut dyn Read,
    old: &mut OpenOld<'_>,
    take: &mut dyn FnMut(Entry<'_>, &mut dyn Read) -> io::Result<()>,
) -> Result<(), BundleError> {
    let other = || BundleError::OtherBase { file: module.path.to_string() };
    // Whatever is wrong with it, the whole file does not need it.
    let mut old = old(module).map_err(|_| other())?;
    let mut there = HashingReader::new((&mut old).take(patch.base.bytes.saturating_add(1)));
    io::copy(&mut there, &mut io::sink()).map_err(|_| other())?;
    if there.hasher.len() != patch.base.bytes || there.hasher.finish() != patch.base.digest {
        return Err(other());
    }
    let mut bytes = plain.take(patch.bytes);
    let mut patched = Patched::new(&mut *old, &mut bytes).map_err(BundleError::Decompress)?;
    hand_out(Entry::Module(module), &mut patched, take)?;
    // A patch of more bytes than its file needs is not one of ours, but the next file begins after it.
    io::copy(&mut bytes, &mut io::sink()).map_err(BundleError::Decompress).map(drop)
}

fn hand_out(
    entry: Entry<'_>,
    plain: &mut dyn Read,
    take: &mut dyn FnMut(Entry<'_>, &mut dyn Read) -> io::Result<()>,
) -> Result<(), BundleError> {
    let (file, name) = (*entry.file(), entry.name().to_owned());
    let mut reader = HashingReader::new(plain.take(file.bytes));
    let taken = take(entry, &mut reader);
    if reader.failed {
        return Err(taken.err().map_or(BundleError::Content { file: name }, BundleError::Decompress));
    }
    taken.map_err(|err| BundleError::Take { file: name.clone(), err })?;
    // What `take` left unread still has to be read: the next file begins after it.
    io::copy(&mut reader, &mut io::sink()).map_err(BundleError::Decompress)?;
    if reader.hasher.len() != file.bytes || reader.hasher.finish() != file.digest {
        return Err(BundleError::Content { file: name });
    }
    Ok(())
}

struct HashingReader<R> {
    inner: R,
    hasher: Hasher,
    failed: bool,
}

impl<R> HashingReader<R> {
    fn new(inner: R) -> Self {
        Self { inner, hasher: Hasher::default(), failed: false }
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(into).inspect_err(|err| {
            self.failed |= err.kind() != io::ErrorKind::Interrupted;
        })?;
        self.hasher.update(into.get(..n).unwrap_or_default());
        Ok(n)
    }
}

/// A file that is not a bundle that can be installed.
#[derive(Debug, Error)]
pub enum BundleError {
    /// The file could not be read.
    #[error("cannot read the bundle")]
    Read(#[source] io::Error),
    /// It ends too early.
    #[error("the bundle is cut off in its {place}")]
    Truncated {
        /// What was being read.
        place: &'static str,
    },
    /// It does not begin with the magic.
    #[error("not a bundle (expected it to begin with \"MAILFLB1\")")]
    NotABundle,
    /// The manifest is longer than its limit.
    #[error("manifest of {found} bytes, expected at most {MANIFEST_MAX_BYTES}")]
    ManifestTooLarge {
        /// Its claimed length.
        found: usize,
    },
    /// No signature, or too many.
    #[error("{found} signatures, expected 1 to {RELEASE_SIGNATURES_MAX_COUNT}")]
    Signatures {
        /// How many there are.
        found: u8,
    },
    /// No known release key has signed these bytes.
    #[error("no signature of a known release key matches (signatures claim to be by: {})", list(.signers))]
    NotSigned {
        /// The keys that claim to have signed.
        signers: Vec<KeyId>,
    },
    /// Some release keys have signed, but not as many as must.
    #[error("{found} of the known release keys have signed, expected {needed}")]
    TooFewSigned {
        /// How many are needed.
        needed: u8,
        /// How many have.
        found: usize,
    },
    /// Signed, but not readable.
    #[error("cannot read the manifest")]
    Manifest(#[source] minicbor::decode::Error),
    /// Signed and readable, but wrong.
    #[error("the manifest is not valid")]
    BadManifest(#[source] ManifestError),
    /// The payload is not the one that was signed.
    #[error(
        "the payload does not match the manifest: expected {expected_bytes} bytes, {expected}; found {found_bytes} bytes, {found}"
    )]
    Payload {
        /// Signed length.
        expected_bytes: u64,
        /// Signed digest.
        expected: Digest,
        /// Length found.
        found_bytes: u64,
        /// Digest found.
        found: Digest,
    },
    /// The payload does not decompress.
    #[error("the payload does not decompress")]
    Decompress(#[source] io::Error),
    /// A file is not what the manifest says.
    #[error("the content of {file} does not match the manifest")]
    Content {
        /// The file.
        file: String,
    },
    /// It does not have the delta that this claims to be.
    #[error("the bundle has {found} deltas, and not this one")]
    NoSuchDelta {
        /// How many it has.
        found: usize,
    },
    /// A delta was made for another file than the one that is there.
    #[error("{file} is not the file that the delta was made for")]
    OtherBase {
        /// The module's path.
        file: String,
    },
    /// The receiver of a file failed.
    #[error("cannot unpack {file}")]
    Take {
        /// The file.
        file: String,
        /// Why.
        #[source]
        err: io::Error,
    },
}

impl BundleError {
    /// True if the bundle is not to blame: reading or writing our own disk failed.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Read(_) | Self::Take { .. })
    }
}

fn list(keys: &[KeyId]) -> String {
    keys.iter().map(KeyId::to_string).collect::<Vec<_>>().join(", ")
}

fn read_array<const N: usize>(from: &mut impl Read, place: &'static str) -> Result<[u8; N], BundleError> {
    let mut bytes = [0u8; N];
    read_exact(from, &mut bytes, place)?;
    Ok(bytes)
}

fn read_exact(from: &mut impl Read, into: &mut [u8], place: &'static str) -> Result<(), BundleError> {
    from.read_exact(into).map_err(|err| {
        if err.kind() == io::ErrorKind::UnexpectedEof {
            BundleError::Truncated { place }
        } else {
            BundleError::Read(err)
        }
    })
}
