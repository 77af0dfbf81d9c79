//! Forged by a peer: an agent that was taken over knows the content key of each order that it got together with others.

use std::io::Cursor;

use shared::envelope::{ContentKey, NewHeader, RawHead, seal_body, seal_head};
use shared::keys::{OpeningKey, SigningKey};
use shared::message::{InstallOrder, Order, encode};

use crate::common::{Life, World, rng};
use crate::lab::{fends_off, key, poison};

/// A bulk order to this agent and to a peer who turned bad: its head, and the content key that both know.
struct Bulk {
    life: Life,
    head: Vec<u8>,
    key: [u8; 32],
    peer: OpeningKey,
}

/// Seals under a known content key: head and body.
fn seal(
    w: &World,
    life: Life,
    content: [u8; 32],
    order: &Order,
    bundle: &[u8],
    by: &SigningKey,
) -> [Vec<u8>; 2] {
    let peer = OpeningKey::from_seed(&[7; 32]).sealing_key();
    let content = ContentKey::from_bytes(content);
    let mut body = vec![];
    let sealed = seal_body(&content, &encode(order), &mut Cursor::new(bundle), &mut body).unwrap();
    let Life { id, created, expires, sequence } = life;
    let header = NewHeader { id, created, expires, sequence, body: sealed };
    [seal_head(&header, &content, &[w.agent_seal_key(), peer], by, &mut rng()).unwrap(), body]
}

fn bulk(w: &mut World) -> Bulk {
    let (life, key) = (w.life(), [5; 32]);
    let [head, _] = seal(w, life, key, &Order::QueryVersions, b"", &w.sign);
    let peer = OpeningKey::from_seed(&[7; 32]);
    let raw = RawHead::read(&mut &head[..]).unwrap();
    assert!(
        raw.decode_unverified().unwrap().open_slot(&peer, raw.sender()).is_ok(),
        "the peer has the content key"
    );
    Bulk { life, head, key, peer }
}

#[test]
fn another_body_under_the_managers_header_and_content_key() {
    let mut w = World::enrolled();
    let bulk = bulk(&mut w);
    let (order, bundle) = poison(&w);
    let [_, body] = seal(&w, bulk.life, bulk.key, &order, &bundle, &key(66));
    w.mail(bulk.life.id, [bulk.head, body].concat());
    fends_off(&mut w, "damaged 1");
}

#[test]
fn a_new_header_signed_with_his_own_key() {
    let mut w = World::enrolled();
    let bulk = bulk(&mut w);
    let (order, bundle) = poison(&w);
    let forged = seal(&w, bulk.life, bulk.key, &order, &bundle, &key(66)).concat();
    w.mail(bulk.life.id, forged.clone());
    // And one that claims to be the manager's.
    let mut claims = forged;
    claims[8..16].copy_from_slice(&bulk.head[8..16]);
    w.mail(bulk.life.id, claims);
    fends_off(&mut w, "not signed by the manager 2");
}

#[test]
fn a_body_of_the_signed_size_that_begins_as_the_signed_one() {
    // AES-GCM does not commit to its key or text: the digest in the header does.
    let mut w = World::enrolled();
    let bulk = bulk(&mut w);
    let order = Order::Install(InstallOrder {
        bundle: shared::Digest::of(b""),
        bundle_bytes: 0,
        software_version: shared::SoftwareVersion::parse("6-6").unwrap(),
        scheduled: false,
        delta: None,
    });
    let [_, long] = seal(&w, bulk.life, bulk.key, &order, b"", &key(66));
    let [_, short] = seal(&w, bulk.life, bulk.key, &Order::QueryVersions, b"", &key(66));
    w.mail(bulk.life.id, [&bulk.head[..], &long[..short.len()]].concat());
    fends_off(&mut w, "damaged 1");
    drop(bulk.peer);
}
