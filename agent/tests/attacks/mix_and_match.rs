//! Mix and match: sound pieces of different mails and bundles, put together anew.

use std::io::{Cursor, Read as _};

use shared::bundle::BundleReader;
use shared::envelope::RawHead;
use shared::message::{Outcome, Refusal, encode};

use crate::common::{World, noise};
use crate::lab::{fends_off, poison, ran, sealed_poison, takes_an_honest_order};

/// An envelope as head and body.
fn pieces(sealed: &[u8]) -> (&[u8], &[u8]) {
    let mut rest = sealed;
    RawHead::read(&mut rest).unwrap();
    sealed.split_at(sealed.len() - rest.len())
}

/// A bundle as all that stands before its signatures, signatures, and payload.
fn parts(bundle: &[u8]) -> [&[u8]; 3] {
    let manifest = 12 + u32::from_be_bytes(bundle[8..12].try_into().unwrap()) as usize;
    let signatures = manifest + 1 + 72 * usize::from(bundle[manifest]);
    [&bundle[..manifest], &bundle[manifest..signatures], &bundle[signatures..]]
}

#[test]
fn the_body_of_one_envelope_under_the_head_of_another() {
    let mut w = World::enrolled();
    let (first, second) = (w.life(), w.life());
    let honest = w.bundle("1-0", "", None, &[("bin/abcd", &noise(300))]);
    let order = encode(&World::install_order(&honest, "1-0"));
    let good = w.seal(first, &order, &honest, &[w.agent_seal_key()], &w.sign);
    let bad = sealed_poison(&w, second, &w.sign);
    for (one, other) in [(&good, &bad), (&bad, &good)] {
        w.mail(first.id, [pieces(one).0, pieces(other).1].concat());
    }
    fends_off(&mut w, "damaged 2");
}

#[test]
fn the_header_of_one_envelope_with_the_signature_of_another() {
    let mut w = World::enrolled();
    let (first, second) = (w.life(), w.life());
    let query = encode(&shared::message::Order::QueryVersions);
    let good = w.seal(first, &query, b"", &[w.agent_seal_key()], &w.sign);
    let bad = sealed_poison(&w, second, &crate::lab::key(66));
    let (head, body) = pieces(&bad);
    let mut forged = [head, body].concat();
    let signature = head.len() - 68..head.len() - 4;
    let good_head = pieces(&good).0;
    forged[signature].copy_from_slice(&good_head[good_head.len() - 68..good_head.len() - 4]);
    forged[8..16].copy_from_slice(&good[8..16]);
    w.mail(first.id, forged);
    fends_off(&mut w, "not signed by the manager 1");
}

#[test]
fn another_part_index_than_the_header_has() {
    let mut w = World::enrolled();
    let life = w.life();
    let whole = sealed_poison(&w, life, &w.sign);
    let index = pieces(&whole).0.len() - 4;
    for part in [1u32, 4_096, u32::MAX] {
        let mut moved = whole.clone();
        moved[index..index + 4].copy_from_slice(&part.to_be_bytes());
        w.mail(life.id, moved);
    }
    fends_off(&mut w, "unreadable 3");
}

#[test]
fn manifest_signatures_and_payload_of_two_signed_bundles() {
    let mut w = World::enrolled();
    let (_, bad) = poison(&w);
    let good = w.bundle("1-0", "", Some("exit 0"), &[("bin/abcd", "one")]);
    let ([m1, s1, p1], [m2, s2, p2]) = (parts(&good), parts(&bad));
    // Ordered with the stolen order key: only the bundle's own seal is left.
    let mixes = [[m1, s1, p2], [m2, s2, p1], [m1, s2, p1], [m2, s1, p2], [m1, s2, p2], [m2, s1, p1]];
    for mix in mixes.map(|pieces| pieces.concat()) {
        let life = w.life();
        w.send_with(life, &World::install_order(&mix, "6-6"), &mix);
        assert_eq!(w.once(), 1);
        let outcome = w.outcome(life.id);
        let fine = matches!(&outcome, Outcome::Refused(Refusal::NotSigned | Refusal::BadBundle(_)))
            || matches!(&outcome, Outcome::RolledBack(f) if f.to_string().contains("does not match"));
        assert!(fine, "{outcome:?}");
    }
    assert_eq!((ran(&w), w.file("bin/abcd")), (0, None));
    takes_an_honest_order(&mut w);
}

#[test]
fn an_order_that_brings_the_bundle_of_another_one() {
    let mut w = World::enrolled();
    let (_, bad) = poison(&w);
    let good = w.bundle("1-0", "", None, &[("bin/abcd", "one")]);
    let life = w.life();
    w.send_with(life, &World::install_order(&good, "1-0"), &bad);
    assert_eq!(w.once(), 1);
    assert!(matches!(w.outcome(life.id), Outcome::Refused(Refusal::BadBundle(_))));
    // The right bundle under a wrong version: the order lies, the bundle's own name counts or nothing does.
    let life = w.life();
    w.send_with(life, &World::install_order(&good, "9-9"), &good);
    w.once();
    assert_ne!(w.outcome(life.id), Outcome::Installed);
    assert_eq!(ran(&w), 0);
    takes_an_honest_order(&mut w);
}

#[test]
fn a_bundle_signed_by_a_known_and_an_unknown_key_is_the_known_ones() {
    let mut w = World::enrolled();
    let (_, bad) = poison(&w);
    let [manifest, _, payload] = parts(&bad);
    // A stranger's bundle that carries a release key's signature over something else.
    let stranger = crate::lab::key(66);
    let good = w.bundle("1-0", "", None, &[("bin/abcd", "one")]);
    let mixed = [manifest, parts(&good)[1], payload].concat();
    let (mut both, mut rest) =
        BundleReader::open(Cursor::new(&mixed)).unwrap().signed_also_by(&stranger).unwrap();
    rest.read_to_end(&mut both).unwrap();
    let life = w.life();
    w.send_with(life, &World::install_order(&both, "6-6"), &both);
    assert_eq!(w.once(), 1);
    assert_eq!(w.outcome(life.id), Outcome::Refused(Refusal::NotSigned));
    assert_eq!(ran(&w), 0);
    takes_an_honest_order(&mut w);
}
