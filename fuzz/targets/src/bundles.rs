//! Bundles: the file as it comes, the manifest below its signature, the payload below its digest.

use std::collections::BTreeSet;
use std::io::{self, Cursor, Read};
use std::sync::LazyLock;

use shared::bundle::manifest::MODE_MASK;
use shared::bundle::patch::Patched;
use shared::bundle::{
    BundleError, BundleReader, BundleSpec, Compression, Entry, MAGIC, Manifest, OldFile, pack,
};
use shared::limits::{
    BUNDLE_UNPACKED_MAX_BYTES, MANIFEST_LIST_MAX_COUNT, MANIFEST_MAX_BYTES, MODULES_MAX_COUNT,
};
use shared::message::encode;
use shared::{Digest, UnixMillis};

use crate::harness::{release_key, take, told};
use crate::texts::stays_below;

/// Bytes that one input may unpack to before this target stops taking them.
const UNPACKED_MAX_BYTES: usize = 1024 * 1024;

/// A whole file, as an agent takes it; and as `mailfleet bundle inspect` shows it.
pub(crate) fn file(data: &[u8]) -> bool {
    let reader = match BundleReader::open(Cursor::new(data)) {
        Ok(reader) => reader,
        Err(err) => {
            told(&err);
            assert!(!err.is_local(), "bytes in memory can always be read");
            return false;
        }
    };
    match BundleReader::open(Cursor::new(data)).and_then(BundleReader::inspect_unverified) {
        Ok(mut inspected) => {
            holds(inspected.manifest());
            if let Err(err) = inspected.check_payload() {
                told(&err);
            }
        }
        Err(err) => told(&err),
    }
    let unpacked = reader.verify(&[release_key().verifying_key()], 1).and_then(|bundle| {
        let limit = bundle.manifest().unpacked_bytes;
        let mut taken = 0u64;
        let mut old = |_: &_| -> io::Result<Box<dyn OldFile>> { Ok(Box::new(Cursor::new(old_file()))) };
        let unpacked = bundle.unpack_over(&mut old, &mut |_, content| {
            let mut piece = Vec::new();
            content.take(UNPACKED_MAX_BYTES as u64).read_to_end(&mut piece)?;
            taken = taken.saturating_add(piece.len() as u64);
            Ok(())
        });
        assert!(taken <= limit, "{taken} bytes handed out, the manifest says {limit}");
        unpacked
    });
    unpacked.inspect_err(|err| told(err)).is_ok()
}

/// What is on the harness's box at the path of every module.
#[must_use]
pub fn old_file() -> Vec<u8> {
    // Nothing that could be compressed: a full module would be smaller than its patch.
    (0..40u8).flat_map(|n| Digest::of(&[n]).0).collect()
}

/// `size of the older file (2), the older file`, then a patch. What can be made of them can also be made by a patch of ours.
pub(crate) fn patch(mut data: &[u8]) -> bool {
    let old_bytes = usize::from(u16::from_be_bytes(take::<2>(&mut data)));
    let (old, patch) = data.split_at(old_bytes.min(data.len()));
    let made = match apply(old, patch, usize::MAX) {
        Ok(made) => made,
        Err(err) => {
            told(&err);
            return false;
        }
    };
    assert!(made.len() <= UNPACKED_MAX_BYTES);
    // However it is read.
    assert_eq!(apply(old, patch, 3).ok().as_ref(), Some(&made));
    // Finding what has changed takes long in what repeats itself, and a patch of a hundred bytes can say a megabyte.
    if made.len() <= 8 * 1024 {
        let ours = shared::bundle::patch::make(old, &made);
        assert_eq!(ours.and_then(|ours| apply(old, &ours, 1_000).ok()), Some(made));
    }
    true
}

/// Reads in pieces of at most so many bytes.
fn apply(old: &[u8], mut patch: &[u8], piece_bytes: usize) -> io::Result<Vec<u8>> {
    let mut old = Cursor::new(old);
    let mut new = Vec::new();
    let mut from = Patched::new(&mut old, &mut patch)?.take(UNPACKED_MAX_BYTES as u64);
    let mut buffer = vec![0; piece_bytes.min(64 * 1024)];
    loop {
        let n = from.read(&mut buffer)?;
        if n == 0 {
            return Ok(new);
        }
        new.extend_from_slice(buffer.get(..n).unwrap_or_default());
    }
}

/// The CBOR of a manifest, signed by the harness.
pub(crate) fn manifest(data: &[u8]) -> bool {
    let unsigned = file_of(data, &[0; 64]);
    let read = BundleReader::open(Cursor::new(&unsigned)).and_then(BundleReader::inspect_unverified);
    let manifest = match read {
        Ok(bundle) => bundle.manifest().clone(),
        Err(err) => {
            told(&err);
            return false;
        }
    };
    let key = release_key();
    let keys = [key.verifying_key()];
    let forged = BundleReader::open(Cursor::new(&unsigned)).and_then(|bundle| bundle.verify(&keys, 1));
    assert!(matches!(forged, Err(BundleError::NotSigned { .. })));
    let signed = file_of(data, &key.sign("mailfleet/bundle/v1", data));
    let verified = BundleReader::open(Cursor::new(&signed)).and_then(|bundle| bundle.verify(&keys, 1));
    assert_eq!(verified.map(|bundle| bundle.manifest().clone()).ok().as_ref(), Some(&manifest));
    holds(&manifest);
    let again = file_of(&encode(&manifest), &[0; 64]);
    let again = BundleReader::open(Cursor::new(&again)).and_then(BundleReader::inspect_unverified);
    assert_eq!(again.map(|bundle| bundle.manifest().clone()).ok(), Some(manifest), "reads back");
    true
}

fn file_of(manifest: &[u8], signature: &[u8; 64]) -> Vec<u8> {
    let length = u32::try_from(manifest.len()).unwrap_or(u32::MAX).to_be_bytes();
    let key = release_key().verifying_key().key_id().0;
    [MAGIC.as_slice(), &length, manifest, &[1], &key, signature].concat()
}

// PROTOCOL 6.4: what an agent may rely on.
fn holds(manifest: &Manifest) {
    let mut names = BTreeSet::new();
    let mut paths = BTreeSet::new();
    assert!((1..=MODULES_MAX_COUNT).contains(&manifest.modules.len()));
    assert!(
        manifest.from.len() <= MANIFEST_LIST_MAX_COUNT && manifest.classes.len() <= MANIFEST_LIST_MAX_COUNT
    );
    for module in &manifest.modules {
        stays_below(module.path.as_str());
        assert!(names.insert(module.name.as_str()), "two modules {}", module.name);
        assert!(paths.insert(module.path.as_str()), "two modules at {}", module.path);
        assert_eq!(module.mode & !MODE_MASK, 0, "special bits in {:o}", module.mode);
    }
    for path in &paths {
        let inside = |other: &&str| other.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        assert!(!paths.iter().any(inside), "a path inside the file {path}");
    }
    assert!(manifest.unpacked_bytes <= BUNDLE_UNPACKED_MAX_BYTES);
    assert!(encode(manifest).len() <= MANIFEST_MAX_BYTES);
}

/// A sound bundle of a script and two modules; each input sets its sizes and payload.
static SAMPLE: LazyLock<Option<Manifest>> = LazyLock::new(|| {
    let module = |name: &str| {
        format!(
            "[[module]]\nname = \"{name}\"\nversion = \"1\"\ndate = \"2026-01-01\"\nfile = \"{name}\"\n\
             path = \"bin/{name}\"\nmode = \"0755\"\nkind = \"resident\"\n"
        )
    };
    let text = format!("software_version = \"1.0-0\"\nscript = \"s\"\n{}{}", module("a"), module("b"));
    let spec = BundleSpec::parse(&text).ok()?;
    let (compression, created) = (Compression::Deflate, UnixMillis(0));
    let mut open = |_: &_| Ok(io::empty());
    pack(&spec, compression, 0, created, &mut open, &mut io::sink(), &mut |_| {}).ok()
});

/// How the receiver of a file behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiver {
    ReadsAll,
    ReadsNothing,
    Fails,
}

/// A payload: `compression and receiver, size of the script, of module a, of module b (3 each)`, then the
/// compressed stream. The harness finds out the digests, as a sender knows them.
pub(crate) fn payload(mut data: &[u8]) -> bool {
    let [mode] = take::<1>(&mut data);
    let sizes: [u64; 3] = core::array::from_fn(|_| {
        let [a, b, c] = take::<3>(&mut data);
        u64::from(u32::from_be_bytes([0, a, b, c])).min(UNPACKED_MAX_BYTES as u64)
    });
    let receiver = match (mode / 2) % 3 {
        0 => Receiver::ReadsAll,
        1 => Receiver::ReadsNothing,
        _ => Receiver::Fails,
    };
    let Some(mut manifest) = SAMPLE.clone() else { return false };
    manifest.compression = if mode % 2 == 0 { Compression::Deflate } else { Compression::Zstd };
    manifest.payload_bytes = data.len() as u64;
    manifest.payload_digest = Digest::of(data);
    manifest.unpacked_bytes = sizes.iter().sum();
    let [script, a, b] = sizes;
    if let Some(entry) = &mut manifest.script {
        entry.bytes = script;
    }
    manifest.modules.iter_mut().zip([a, b]).for_each(|(module, bytes)| module.file.bytes = bytes);

    // Each round finds the digest of one more file, as far as the stream holds it.
    for round in 0..4 {
        let (found, unpacked) = unpack(&manifest, data, Receiver::ReadsAll);
        assert!(found.iter().zip(sizes).all(|(found, size)| found.len() as u64 <= size));
        let Err(err) = unpacked else {
            assert!(found.iter().zip(sizes).all(|(found, size)| found.len() as u64 == size));
            return received(&manifest, data, receiver);
        };
        told(&err);
        let digest = found.get(round).map(|content| Digest::of(content));
        let entry = if round == 0 {
            manifest.script.as_mut()
        } else {
            manifest.modules.get_mut(round.saturating_sub(1)).map(|module| &mut module.file)
        };
        if let (Some(entry), Some(digest)) = (entry, digest) {
            entry.digest = digest;
        }
    }
    false
}

/// A sound bundle with a receiver that does not read, or fails.
fn received(manifest: &Manifest, payload: &[u8], receiver: Receiver) -> bool {
    let (_, unpacked) = unpack(manifest, payload, receiver);
    match receiver {
        Receiver::ReadsAll | Receiver::ReadsNothing => {
            assert!(unpacked.is_ok(), "what is unread is checked too")
        }
        Receiver::Fails => assert!(matches!(unpacked, Err(BundleError::Take { .. })), "its failure is told"),
    }
    true
}

fn unpack(
    manifest: &Manifest,
    payload: &[u8],
    receiver: Receiver,
) -> (Vec<Vec<u8>>, Result<Manifest, BundleError>) {
    let mut found = Vec::new();
    let mut take = |_: Entry<'_>, content: &mut dyn Read| {
        let mut taken = Vec::new();
        let done = match receiver {
            Receiver::ReadsAll => content.read_to_end(&mut taken).map(|_| ()),
            Receiver::ReadsNothing => Ok(()),
            Receiver::Fails => Err(io::ErrorKind::StorageFull.into()),
        };
        found.push(taken);
        done
    };
    // Signatures are the other targets' matter, and would cost most of the time here.
    let file = [file_of(&encode(manifest), &[0; 64]).as_slice(), payload].concat();
    let unpacked = BundleReader::open(Cursor::new(file))
        .and_then(BundleReader::inspect_unverified)
        .and_then(|bundle| bundle.unpack(&mut take));
    (found, unpacked)
}
