//! Compression bombs: bundles that a release key has signed, yet whose payload unpacks to far more than it says.

use std::io::Write as _;

use flate2::Compression as Level;
use flate2::write::DeflateEncoder;
use shared::Digest;
use shared::bundle::{BundleReader, Compression, Manifest, write_head};
use shared::message::Outcome;

use crate::common::World;
use crate::lab::{poison, ran, takes_an_honest_order, works_within};

const LIMIT_MIB: u64 = 48;

/// 4 GiB of zeros as one zstd frame with this window: blocks that say "128 KiB of this byte".
fn zeros_zstd(window: u8) -> Vec<u8> {
    // Magic, no content size, and the window as RFC 8878, 3.1.1.1.2 has it: exponent above 10, no mantissa.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, (window - 10) << 3];
    for block in 1..=32_768u32 {
        let last = u32::from(block == 32_768);
        let header = (128 * 1024) << 3 | 1 << 1 | last;
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

/// 4 GiB of zeros as deflate: one compressed mebibyte, repeated.
fn zeros_deflate() -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(vec![], Level::best());
    encoder.write_all(&vec![0; 1024 * 1024]).unwrap();
    encoder.flush().unwrap();
    let mut stream = encoder.get_ref().repeat(4_096);
    stream.extend_from_slice(&[0x03, 0x00]);
    stream
}

/// A signed bundle with this payload.
fn bomb(w: &World, payload: &[u8], change: impl Fn(&mut Manifest)) -> Vec<u8> {
    let (_, honest) = poison(w);
    let reader = BundleReader::open(std::io::Cursor::new(&honest)).unwrap();
    let mut manifest = reader.inspect_unverified().unwrap().manifest().clone();
    manifest.payload_bytes = payload.len() as u64;
    manifest.payload_digest = Digest::of(payload);
    change(&mut manifest);
    let mut bundle = write_head(&manifest, &[&w.release]).unwrap();
    bundle.extend_from_slice(payload);
    bundle
}

/// The agent refuses it or takes everything back, and the disk below the root stays as it was.
fn is_refused(payload: &[u8], change: impl Fn(&mut Manifest)) {
    let mut w = World::enrolled();
    let bundle = bomb(&w, payload, change);
    let life = w.life();
    w.send_with(life, &World::install_order(&bundle, "6-6"), &bundle);
    works_within(&w, LIMIT_MIB, |w| {
        let status = w.status();
        status.contains("Last install") && status.contains("Outbox              0 reports")
    });
    // The end may be saved and its report not made yet: the files are read for it first.
    assert_eq!(w.once(), 0);
    let outcome = w.outcome(life.id);
    assert!(matches!(outcome, Outcome::Refused(_) | Outcome::RolledBack(_)), "{outcome:?}");
    assert_eq!((ran(&w), w.file("bin/abcd")), (0, None));
    let jobs = w.root().join(".mailfleet/jobs");
    assert!(
        std::fs::read_dir(jobs).map_or(true, |mut left| left.next().is_none()),
        "half a stage is removed"
    );
    takes_an_honest_order(&mut w);
}

/// The module's digest is right, so that unpacking goes on to the end of the stream.
fn of_zeros(manifest: &mut Manifest, bytes: usize) {
    let zeros = shared::bundle::FileEntry { bytes: bytes as u64, digest: Digest::of(&vec![0; bytes]) };
    manifest.script = None;
    manifest.modules[0].file = zeros;
    manifest.unpacked_bytes = bytes as u64;
}

#[test]
fn four_gibibytes_of_zeros_in_zstd() {
    is_refused(&zeros_zstd(17), |_| {});
    is_refused(&zeros_zstd(17), |manifest| of_zeros(manifest, 1_000));
}

#[test]
fn four_gibibytes_of_zeros_in_deflate() {
    let payload = zeros_deflate();
    is_refused(&payload, |manifest| {
        manifest.compression = Compression::Deflate;
        of_zeros(manifest, 1_000);
    });
}

#[test]
fn a_zstd_frame_that_asks_for_a_window_of_two_gibibytes() {
    is_refused(&zeros_zstd(31), |manifest| of_zeros(manifest, 1_000));
}

#[test]
fn a_manifest_that_admits_to_more_than_any_bundle_may_hold() {
    is_refused(&zeros_zstd(17), |manifest| {
        of_zeros(manifest, 1_000);
        manifest.modules[0].file.bytes = 5 * 1024 * 1024 * 1024;
        manifest.unpacked_bytes = 5 * 1024 * 1024 * 1024;
    });
}

#[test]
fn a_million_empty_frames_behind_the_content() {
    let content = zstd::encode_all(&[0u8; 1_000][..], 1).unwrap();
    let empty = zstd::encode_all(&b""[..], 1).unwrap();
    let payload = [content, empty.repeat(1_000_000), zeros_zstd(17)].concat();
    is_refused(&payload, |manifest| of_zeros(manifest, 1_000));
}
