//! Behaviour of deltas, rule by rule of PROTOCOL 6.9 and 6.10.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};

use super::*;
use crate::keys::SigningKey;
use crate::time::UnixMillis;

/// Three modules: a program, one that is only in the newer bundle, and data.
fn spec(version: &str, with_new: bool) -> BundleSpec {
    let module = |name: &str, path: &str, kind: &str| {
        format!(
            "[[module]]\nname = \"{name}\"\nversion = \"{version}\"\ndate = \"2026-01-01\"\nfile = \"{name}\"\n\
             path = \"{path}\"\nmode = \"0755\"\nkind = \"{kind}\"\n"
        )
    };
    let new = if with_new { module("new", "bin/new", "script") } else { String::new() };
    let text = format!(
        "software_version = \"{version}-0\"\nscript = \"install.sh\"\n{}{new}{}",
        module("program", "bin/program", "resident"),
        module("data", "share/data", "data")
    );
    BundleSpec::parse(&text).unwrap()
}

type Files = BTreeMap<String, Vec<u8>>;

fn noise(seed: u32, len: u32) -> Vec<u8> {
    let mut n = seed;
    let next = |_| {
        n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        n.to_be_bytes()[0]
    };
    (0..len).map(next).collect()
}

fn old_files() -> Files {
    let files =
        [("install.sh", b"#!/bin/sh\n".to_vec()), ("program", noise(1, 80_000)), ("data", noise(2, 9_000))];
    files.into_iter().map(|(name, content)| (name.to_owned(), content)).collect()
}

/// The program has other addresses and a new piece, the data are altogether others.
fn new_files() -> Files {
    let mut files = old_files();
    let program = files.get_mut("program").unwrap();
    program.iter_mut().step_by(997).for_each(|byte| *byte = byte.wrapping_add(4));
    program.splice(30_000..30_000, noise(3, 500));
    files.insert("data".to_owned(), noise(4, 9_100));
    files.insert("new".to_owned(), b"#!/bin/sh\nexit 0\n".to_vec());
    files
}

fn key() -> SigningKey {
    SigningKey::from_seed(&[8; 32])
}

fn pack_files(spec: &BundleSpec, files: &Files, compression: Compression) -> (Manifest, Vec<u8>) {
    let mut payload = Vec::new();
    let open = &mut |file: PackFile<'_>| Ok(Cursor::new(files[file.path.as_str()].clone()));
    let manifest = pack(spec, compression, 9, UnixMillis(5), open, &mut payload, &mut |_| {}).unwrap();
    (manifest, payload)
}

/// The file that is built: a bundle with a delta from the older one.
fn build(compression: Compression) -> (Manifest, Vec<u8>) {
    let old = pack_files(&spec("1.0.01", false), &old_files(), compression).0;
    let (mut manifest, mut file) = pack_files(&spec("1.0.02", true), &new_files(), compression);
    let files = (old_files(), new_files());
    let bases = successors(&old, &manifest);
    let mut payload = Vec::new();
    let delta = pack_delta(
        &manifest,
        &old.software_version,
        9,
        &mut |module| {
            let base = bases.get(module.name.as_str());
            let file = |entry: &&ModuleEntry| BaseFile {
                entry: (*entry).clone(),
                content: files.0[entry.name.as_str()].clone(),
            };
            Ok(base.map(file))
        },
        &mut |entry| {
            let name = match entry {
                Entry::Script(_) => "install.sh",
                Entry::Module(module) => module.name.as_str(),
            };
            Ok(Cursor::new(files.1[name].clone()))
        },
        &mut payload,
    );
    manifest.deltas.extend(delta.unwrap());
    let mut bundle = write_head(&manifest, &[&key()]).unwrap();
    bundle.append(&mut file);
    bundle.append(&mut payload);
    (manifest, bundle)
}

fn form(bundle: &[u8], form: Form) -> Vec<u8> {
    let verified = BundleReader::open(Cursor::new(bundle)).unwrap().inspect_unverified().unwrap();
    let mut bytes = Vec::new();
    let expected = verified.form_bytes(form).unwrap();
    verified.into_form(form).unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, expected);
    bytes
}

/// What comes out on a box that has `there`.
fn unpack(bundle: &[u8], there: &Files) -> Result<Files, BundleError> {
    let verified = BundleReader::open(Cursor::new(bundle))?.verify(&[key().verifying_key()], 1)?;
    let mut files = Files::new();
    verified.unpack_over(
        &mut |module| match there.get(module.name.as_str()) {
            Some(file) => Ok(Box::new(Cursor::new(file.clone()))),
            None => Err(io::ErrorKind::NotFound.into()),
        },
        &mut |entry, from| {
            let name = match entry {
                Entry::Script(_) => "install.sh",
                Entry::Module(module) => module.name.as_str(),
            };
            let mut content = Vec::new();
            from.read_to_end(&mut content)?;
            files.insert(name.to_owned(), content);
            Ok(())
        },
    )?;
    Ok(files)
}

#[test]
fn a_delta_makes_the_same_files_as_the_full_bundle() {
    for compression in [Compression::Zstd, Compression::Deflate] {
        let (manifest, bundle) = build(compression);
        let full = form(&bundle, Form::Full);
        assert_eq!(unpack(&full, &Files::new()).unwrap(), new_files());
        let delta = form(&bundle, Form::Delta(0));
        assert_eq!(unpack(&delta, &old_files()).unwrap(), new_files());
        assert!(delta.len() * 7 < full.len(), "{} of {} bytes", delta.len(), full.len());
        // What is smaller in full, or new, has no patch.
        let patched: Vec<&str> =
            manifest.deltas[0].patches.iter().map(|patch| patch.module.as_str()).collect();
        assert_eq!(patched, ["program"]);
        assert_eq!(manifest.deltas[0].base.as_str(), "1.0.01-0");
    }
}

#[test]
fn the_file_that_is_built_is_a_full_bundle_too() {
    let (_, bundle) = build(Compression::Zstd);
    assert_eq!(unpack(&bundle, &Files::new()).unwrap(), new_files());
}

// PROTOCOL 6.10
#[test]
fn a_delta_is_not_applied_to_another_file() {
    let (_, bundle) = build(Compression::Zstd);
    let delta = form(&bundle, Form::Delta(0));
    let mut altered = old_files();
    altered.get_mut("program").unwrap()[70_000] ^= 1;
    let mut longer = old_files();
    longer.get_mut("program").unwrap().push(0);
    for there in [altered, longer, Files::new(), new_files()] {
        let err = unpack(&delta, &there).unwrap_err();
        assert!(matches!(&err, BundleError::OtherBase { file } if file == "bin/program"), "{err}");
        assert!(!err.is_local());
    }
}

#[test]
fn every_altered_byte_of_a_delta_is_noticed() {
    let (_, bundle) = build(Compression::Zstd);
    let delta = form(&bundle, Form::Delta(0));
    for at in 0..delta.len() {
        let mut altered = delta.clone();
        altered[at] ^= 1;
        assert!(unpack(&altered, &old_files()).is_err(), "byte {at}");
    }
}

#[test]
fn every_truncation_and_every_tail_of_a_delta_is_noticed() {
    let (_, bundle) = build(Compression::Zstd);
    let delta = form(&bundle, Form::Delta(0));
    for len in (0..delta.len()).step_by(7).chain([delta.len() - 1]) {
        assert!(unpack(&delta[..len], &old_files()).is_err(), "cut at {len}");
    }
    let longer = [delta.as_slice(), b"x"].concat();
    assert!(matches!(unpack(&longer, &old_files()), Err(BundleError::Payload { .. })));
    // The file that is built, cut off in its delta or with something behind it.
    assert!(matches!(unpack(&bundle[..bundle.len() - 1], &Files::new()), Err(BundleError::Payload { .. })));
    let longer = [bundle.as_slice(), b"x"].concat();
    assert!(matches!(unpack(&longer, &Files::new()), Err(BundleError::Payload { .. })));
}

#[test]
fn a_delta_that_the_bundle_does_not_have_is_refused() {
    let (_, bundle) = build(Compression::Zstd);
    let mut delta = form(&bundle, Form::Delta(0));
    delta[8] = 1;
    assert!(matches!(unpack(&delta, &old_files()), Err(BundleError::NoSuchDelta { found: 1 })));
    let verified = BundleReader::open(Cursor::new(&bundle)).unwrap().inspect_unverified().unwrap();
    assert!(matches!(verified.into_form(Form::Delta(3)), Err(BundleError::NoSuchDelta { .. })));
}

#[test]
fn a_bundle_that_nothing_was_left_of_has_no_delta() {
    let (manifest, _) = pack_files(&spec("1.0.02", true), &new_files(), Compression::Zstd);
    let new = new_files();
    let delta = pack_delta(
        &manifest,
        &manifest.software_version,
        9,
        &mut |_| Ok(None),
        &mut |entry| {
            Ok(Cursor::new(match entry {
                Entry::Script(_) => new["install.sh"].clone(),
                Entry::Module(module) => new[module.name.as_str()].clone(),
            }))
        },
        &mut Vec::new(),
    );
    assert_eq!(delta.unwrap(), None);
}

// PROTOCOL 6.9
#[test]
fn a_signed_delta_is_checked_by_its_reader() {
    let (good, bundle) = build(Compression::Zstd);
    type Breaks = fn(&mut Vec<Delta>);
    let broken: [(&str, Breaks); 5] = [
        ("no right patch for the module \"other\"", |deltas| {
            deltas[0].patches[0].module = crate::Label::lossy("other");
        }),
        ("no right patch", |deltas| {
            let twice = deltas[0].patches[0].clone();
            deltas[0].patches.push(twice);
        }),
        ("no right patch", |deltas| deltas[0].patches[0].bytes = 1 << 40),
        ("changes nothing", |deltas| deltas[0].patches.clear()),
        ("longer than it may be", |deltas| {
            let one = deltas[0].clone();
            deltas.resize(crate::limits::DELTAS_MAX_COUNT + 1, one);
        }),
    ];
    for (expected, breaks) in broken {
        let mut manifest = good.clone();
        breaks(&mut manifest.deltas);
        let mut altered = write_head(&manifest, &[&key()]).unwrap();
        altered.extend_from_slice(&bundle[altered.len().min(bundle.len())..]);
        let err = unpack(&altered, &old_files()).unwrap_err();
        assert!(crate::error::chain(&err).contains(expected), "{expected}: {}", crate::error::chain(&err));
    }
}

#[test]
fn a_second_signature_leaves_the_deltas_where_they_are() {
    let (_, bundle) = build(Compression::Zstd);
    let other = SigningKey::from_seed(&[9; 32]);
    let reader = BundleReader::open(Cursor::new(bundle)).unwrap();
    let (mut signed, mut rest) = reader.signed_also_by(&other).unwrap();
    rest.read_to_end(&mut signed).unwrap();
    let delta = form(&signed, Form::Delta(0));
    let keys = [key().verifying_key(), other.verifying_key()];
    let verified = BundleReader::open(Cursor::new(delta.as_slice())).unwrap().verify(&keys, 2).unwrap();
    assert_eq!(verified.signers().len(), 2);
    assert_eq!(unpack(&delta, &old_files()).unwrap(), new_files());
}
