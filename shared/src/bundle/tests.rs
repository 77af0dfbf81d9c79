//! Behaviour of bundles, rule by rule of PROTOCOL 6.

use std::collections::BTreeMap;
use std::io::Cursor;

use super::*;
use crate::keys::SigningKey;
use crate::time::UnixMillis;

const TOML: &str = r#"
software_version = "1.0.02-0"
settle = "1m"
script = "install.sh"
[[module]]
name = "abcd"
version = "1.0.00"
date = "2026-01-01"
file = "modules/abcd"
path = "bin/abcd"
mode = "0755"
kind = "resident"
[[module]]
name = "bbb.lib"
version = "1.3.05"
date = "2026-11-29"
file = "modules/bbb"
path = "lib/bbb.so"
mode = "0644"
kind = "library"
"#;

fn release_key() -> SigningKey {
    SigningKey::from_seed(&[8; 32])
}

fn build(compression: Compression) -> Vec<u8> {
    let spec = BundleSpec::parse(TOML).unwrap();
    let files: BTreeMap<&str, Vec<u8>> = BTreeMap::from([
        ("install.sh", b"#!/bin/sh\nexit 0\n".to_vec()),
        ("modules/abcd", vec![7u8; 300_000]),
        ("modules/bbb", Vec::new()),
    ]);
    let mut payload = Vec::new();
    let mut read = 0;
    let manifest = pack(
        &spec,
        compression,
        9,
        UnixMillis(5),
        &mut |file| Ok(Cursor::new(files[file.path.as_str()].clone())),
        &mut payload,
        &mut |n| read += n,
    )
    .unwrap();
    assert_eq!(read, manifest.unpacked_bytes);
    let mut bundle = write_head(&manifest, &[&release_key()]).unwrap();
    bundle.extend_from_slice(&payload);
    bundle
}

fn unpack(bundle: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, BundleError> {
    let verified = BundleReader::open(Cursor::new(bundle))?.verify(&[release_key().verifying_key()], 1)?;
    let mut files = BTreeMap::new();
    verified.unpack(&mut |entry, reader| {
        let name = match entry {
            Entry::Script(_) => "script".to_owned(),
            Entry::Module(module) => module.path.to_string(),
        };
        let mut content = Vec::new();
        reader.read_to_end(&mut content)?;
        files.insert(name, content);
        Ok(())
    })?;
    Ok(files)
}

#[test]
fn a_bundle_unpacks_to_its_files_with_either_compression() {
    for compression in [Compression::Zstd, Compression::Deflate] {
        let bundle = build(compression);
        assert!(bundle.len() < 2_000, "{} bytes", bundle.len());
        let files = unpack(&bundle).unwrap();
        assert_eq!(files["bin/abcd"], vec![7u8; 300_000]);
        assert_eq!(files["lib/bbb.so"], b"");
        assert_eq!(files["script"], b"#!/bin/sh\nexit 0\n");
    }
}

#[test]
fn files_that_the_receiver_does_not_read_are_still_checked_and_skipped() {
    let bundle = build(Compression::Zstd);
    let verified = BundleReader::open(Cursor::new(&bundle))
        .unwrap()
        .verify(&[release_key().verifying_key()], 1)
        .unwrap();
    let mut names = Vec::new();
    verified
        .unpack(&mut |entry, _| {
            names.push(format!("{entry:?}").chars().take(6).collect::<String>());
            Ok(())
        })
        .unwrap();
    assert_eq!(names, ["Script", "Module", "Module"]);
}

#[test]
fn every_altered_byte_of_a_bundle_is_noticed() {
    let bundle = build(Compression::Zstd);
    for at in 0..bundle.len() {
        let mut altered = bundle.clone();
        altered[at] ^= 1;
        assert!(unpack(&altered).is_err(), "byte {at}");
    }
}

#[test]
fn every_truncation_and_every_tail_is_noticed() {
    let bundle = build(Compression::Deflate);
    for len in 0..bundle.len() {
        assert!(unpack(&bundle[..len]).is_err(), "cut at {len}");
    }
    assert!(matches!(unpack(&[bundle.as_slice(), b"x"].concat()), Err(BundleError::Payload { .. })));
}

#[test]
fn a_bundle_that_no_known_release_key_signed_is_refused() {
    let bundle = build(Compression::Zstd);
    let other = SigningKey::from_seed(&[9; 32]).verifying_key();
    let err = BundleReader::open(Cursor::new(&bundle)).unwrap().verify(&[other], 1).unwrap_err();
    assert!(err.to_string().contains(&release_key().verifying_key().key_id().to_string()), "{err}");
}

#[test]
fn a_payload_that_unpacks_to_more_than_signed_is_refused() {
    // A holder of the release key builds a bomb: sizes in the manifest are small, the stream is not.
    let spec = BundleSpec::parse(TOML).unwrap();
    let mut payload = Vec::new();
    let mut manifest = pack(
        &spec,
        Compression::Zstd,
        3,
        UnixMillis(5),
        &mut |_| Ok(Cursor::new(vec![0u8; 1_000_000])),
        &mut payload,
        &mut |_| {},
    )
    .unwrap();
    for module in &mut manifest.modules {
        module.file = FileEntry { bytes: 10, digest: crate::Digest::of(&[0; 10]) };
    }
    manifest.script = Some(FileEntry { bytes: 10, digest: crate::Digest::of(&[0; 10]) });
    manifest.unpacked_bytes = 30;
    let mut bundle = write_head(&manifest, &[&release_key()]).unwrap();
    bundle.extend_from_slice(&payload);
    assert!(matches!(unpack(&bundle), Err(BundleError::Content { .. })));
}

#[test]
fn a_signed_manifest_is_checked_again_by_its_reader() {
    let spec = BundleSpec::parse(TOML).unwrap();
    let mut payload = Vec::new();
    let open = &mut |_: PackFile<'_>| Ok(Cursor::new(Vec::new()));
    let good = pack(&spec, Compression::Zstd, 3, UnixMillis(5), open, &mut payload, &mut |_| {}).unwrap();
    type Breaks = fn(&mut Manifest);
    let broken: [(&str, Breaks); 6] = [
        ("two modules go to the path", |m| m.modules[1].path = m.modules[0].path.clone()),
        ("lies inside", |m| m.modules[0].path = crate::ModulePath::parse("lib").unwrap()),
        ("two modules are named", |m| m.modules[1].name = m.modules[0].name.clone()),
        ("expected at most one", |m| m.modules.iter_mut().for_each(|m| m.kind = ModuleKind::Agent)),
        ("at most 07777", |m| m.modules[0].mode = 0o120_777),
        ("no modules", |m| m.modules.clear()),
    ];
    for (expected, breaks) in broken {
        let mut manifest = good.clone();
        breaks(&mut manifest);
        let mut bundle = write_head(&manifest, &[&release_key()]).unwrap();
        bundle.extend_from_slice(&payload);
        match unpack(&bundle) {
            Err(BundleError::BadManifest(err)) => assert!(err.to_string().contains(expected), "{err}"),
            other => panic!("{expected}: {other:?}"),
        }
    }
}
