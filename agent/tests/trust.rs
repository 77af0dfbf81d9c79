//! Whom the agent believes: keys that rotate, statements by those who may not make them. What thieves of keys try is in
//! `attacks`.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod common;

use common::{World, now};
use shared::keys::{SealingKey, SigningKey};
use shared::message::{Heartbeat, Order, Outcome, Refusal, Report, encode};
use shared::trust::{Statement, Trust};
use shared::{EnvelopeId, UnixMillis};

const FILES: common::Files<'static> = &[("bin/abcd", "two")];

fn key(n: u8) -> SigningKey {
    SigningKey::from_seed(&[n; 32])
}

/// The trust after the invitation's.
fn next(w: &World, version: u32, order: &[&SigningKey], release: &[&SigningKey], threshold: u8) -> Trust {
    let public = |keys: &[&SigningKey]| keys.iter().map(|key| key.verifying_key()).collect();
    Trust::new(version, now(), public(order), public(release), threshold, w.open.sealing_key())
}

fn statement(trust: &Trust, signers: &[&SigningKey]) -> Vec<u8> {
    let mut statement = Statement::unsigned(trust);
    signers.iter().for_each(|key| statement.sign(key));
    statement.to_bytes()
}

/// Mails an order that this key has signed, with statements before it.
fn send(
    w: &mut World,
    introduction: &[u8],
    signer: &SigningKey,
    order: &Order,
    payload: &[u8],
) -> EnvelopeId {
    let life = w.life();
    let to: [SealingKey; 1] = [w.agent_seal_key()];
    let sealed = w.seal(life, &encode(order), payload, &to, signer);
    w.mail(life.id, [introduction, &sealed].concat());
    life.id
}

fn install(w: &mut World, introduction: &[u8], signer: &SigningKey, version: &str) -> EnvelopeId {
    let bundle = w.bundle(version, "", None, FILES);
    send(w, introduction, signer, &World::install_order(&bundle, version), &bundle)
}

fn copy_of(key: &SigningKey) -> SigningKey {
    SigningKey::parse_secret_text(&key.to_secret_text()).unwrap()
}

fn held(w: &mut World) -> Vec<u32> {
    w.collect();
    let held = |r: &Report| if let Report::Standing(s) = r { Some(s.trust_version) } else { None };
    w.reports.iter().filter_map(held).collect()
}

#[test]
fn a_mail_brings_the_statement_that_introduces_its_new_order_key() {
    let mut w = World::enrolled();
    let (old, release) = (copy_of(&w.sign), copy_of(&w.release));
    let trust = next(&w, 2, &[&key(2)], &[&release], 1);
    let introduction = statement(&trust, &[&release]);
    let order = install(&mut w, &introduction, &key(2), "2-0");
    assert_eq!(w.once(), 0);
    assert_eq!(w.outcome(order), Outcome::Installed);
    assert_eq!(held(&mut w), [2]);
    assert!(w.status().contains("version 2; orders by"), "{}", w.status());
    // The old key is worth nothing any more, also with an older statement before it.
    let first = next(&w, 1, &[&old], &[&release], 1);
    let back = statement(&first, &[&release]);
    install(&mut w, &back, &old, "3-0");
    assert_eq!(w.once(), 0);
    assert_eq!((w.file("bin/abcd").unwrap(), w.unread()), ("two".to_owned(), 0));
    assert!(w.status().contains("not signed by the manager 1"), "{}", w.status());
    assert_eq!(held(&mut w), [2]);
}

#[test]
fn where_two_release_keys_must_sign_one_is_not_enough() {
    let mut w = World::enrolled();
    let (order_key, first, second) = (copy_of(&w.sign), copy_of(&w.release), key(12));
    let trust = next(&w, 2, &[&order_key], &[&first, &second], 2);
    let introduction = statement(&trust, &[&first, &second]);
    let order = install(&mut w, &introduction, &order_key, "2-0");
    assert_eq!(w.once(), 1);
    assert_eq!(w.outcome(order), Outcome::Refused(Refusal::NotSigned));
    // One of the two cannot change the trust back.
    let alone = next(&w, 3, &[&order_key], &[&first], 1);
    let back = statement(&alone, &[&first]);
    let once = w.bundle("2-0", "", None, FILES);
    let order = send(&mut w, &back, &order_key, &World::install_order(&once, "2-0"), &once);
    assert_eq!(w.once(), 1);
    assert_eq!(w.outcome(order), Outcome::Refused(Refusal::NotSigned));
    let reader = shared::bundle::BundleReader::open(std::io::Cursor::new(once)).unwrap();
    let (mut twice, mut payload) = reader.signed_also_by(&second).unwrap();
    std::io::Read::read_to_end(&mut payload, &mut twice).unwrap();
    let order = send(&mut w, &[], &order_key, &World::install_order(&twice, "2-0"), &twice);
    assert_eq!(w.once(), 0);
    assert_eq!(w.outcome(order), Outcome::Installed);
}

#[test]
fn an_agent_that_missed_years_of_key_changes_follows_the_chain_in_one_mail() {
    let mut w = World::enrolled();
    let (order_key, release) = (copy_of(&w.sign), copy_of(&w.release));
    let second = next(&w, 2, &[&order_key], &[&key(12)], 1);
    let third = next(&w, 3, &[&key(3)], &[&key(12)], 1);
    let fourth = next(&w, 4, &[&key(4)], &[&key(13)], 1);
    let chain = [
        statement(&second, &[&release, &key(12)]),
        statement(&third, &[&key(12)]),
        statement(&fourth, &[&key(12), &key(13)]),
    ]
    .concat();
    w.release = key(13);
    let order = install(&mut w, &chain, &key(4), "2-0");
    assert_eq!(w.once(), 0);
    assert_eq!(w.outcome(order), Outcome::Installed);
    assert_eq!(held(&mut w).last(), Some(&4));
}

#[test]
fn a_heartbeat_is_taken_silently_and_raises_the_clock_floor() {
    let mut w = World::enrolled();
    let mut life = w.life();
    life.created = UnixMillis(now().0 + 3_600_000);
    w.send_with(life, &Order::Heartbeat(Heartbeat { every_ms: 7 * 86_400_000 }), &[]);
    assert_eq!(w.once(), 0);
    w.collect();
    assert_eq!(w.reports, []);
    assert_eq!(w.unread(), 0);
    assert!(w.status().contains(&format!("Clock floor         {}", life.created)), "{}", w.status());
}
