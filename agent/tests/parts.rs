//! The real agent and an order in parts (PROTOCOL 17): lost, doubled, damaged and late parts, and what it asks for.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may panic"
)]

mod common;

use common::{Life, World, noise, random, rng, wait_until};
use shared::envelope::{ContentKey, Cut, NewHeader, SealedBody, seal_body, seal_part_head};
use shared::message::{Cause, Outcome, PartsWanted, Refusal, Report, WaitReason, encode};
use shared::{EnvelopeId, Spans};

const PART_BYTES: u64 = 40_000;

/// A sealed body: each order over it has these bytes.
struct Sealed {
    key: ContentKey,
    body: Vec<u8>,
    sealed: SealedBody,
    cut: Cut,
}

impl Sealed {
    /// A bundle that brings `bin/abcd` with this text, in seven parts.
    fn new(w: &World, version: &str, text: &str) -> Self {
        let bundle = w.bundle(version, "", None, &[("bin/abcd", text), ("share/noise", &noise(330_000))]);
        let key = ContentKey::from_bytes(random());
        let mut body = Vec::new();
        let message = encode(&World::install_order(&bundle, version));
        let sealed = seal_body(&key, &message, &mut bundle.as_slice(), &mut body).unwrap();
        let cut = Cut::of(&mut body.as_slice(), PART_BYTES).unwrap();
        Self { key, body, sealed, cut }
    }

    fn count(&self) -> u64 {
        self.cut.count() as u64
    }

    /// The mail of one part; `None`: of the head alone.
    fn mail(&self, w: &World, life: Life, part: Option<u64>) -> Vec<u8> {
        let new = NewHeader {
            id: life.id,
            created: life.created,
            expires: life.expires,
            sequence: life.sequence,
            body: self.sealed,
        };
        let found = part.map(|n| self.cut.part_with(n * PART_BYTES).unwrap());
        let part = (&self.cut, found.map(|(index, _)| index));
        let mut mail =
            seal_part_head(&new, part, &self.key, &[w.agent_seal_key()], &w.sign, &mut rng()).unwrap();
        if let Some((_, span)) = found {
            let [from, until] = [span.from, span.until].map(|at| usize::try_from(at).unwrap());
            mail.extend_from_slice(&self.body[from..until]);
        }
        mail
    }

    fn send(&self, w: &World, life: Life, part: u64) {
        w.mail(life.id, self.mail(w, life, Some(part)));
    }

    fn missing(&self, parts: &[u64]) -> Spans {
        let mut missing = Spans::default();
        parts.iter().for_each(|n| assert!(missing.add(self.cut.part_with(n * PART_BYTES).unwrap().1)));
        missing
    }
}

fn asks(w: &mut World, order: EnvelopeId) -> Vec<PartsWanted> {
    w.collect();
    let of = |r: &Report| if let Report::Parts(ask) = r { Some(ask.clone()) } else { None };
    w.reports.iter().filter_map(of).filter(|ask| ask.order == order).collect()
}

fn parts_on_disk(w: &World) -> usize {
    std::fs::read_dir(w.home().join("parts")).map_or(0, Iterator::count)
}

#[test]
fn parts_in_any_order_and_twice_become_the_bundle() {
    let mut w = World::enrolled();
    let sealed = Sealed::new(&w, "1-0", "one");
    let life = w.life();
    let mut parts: Vec<u64> = (0..sealed.count()).rev().collect();
    parts.insert(2, 4);
    let last = parts.pop().unwrap();
    for part in parts {
        sealed.send(&w, life, part);
        assert_eq!(w.once(), 0);
    }
    assert_eq!((w.file("bin/abcd"), w.unread(), parts_on_disk(&w)), (None, 0, 2));
    let waits = w.waits(life.id);
    assert_eq!(waits.iter().map(|wait| wait.reason).collect::<Vec<_>>(), [WaitReason::PartsMissing]);
    sealed.send(&w, life, last);
    assert_eq!(w.once(), 0);
    assert_eq!(w.outcome(life.id), Outcome::Installed);
    assert_eq!((w.file("bin/abcd").as_deref(), parts_on_disk(&w)), (Some("one"), 0));
    // PROTOCOL 7.3: late parts of it are repeats.
    sealed.send(&w, life, 1);
    assert_eq!(w.once(), 0);
    assert_eq!((w.unread(), parts_on_disk(&w)), (0, 0));
}

#[test]
fn only_what_is_missing_is_asked_for() {
    let mut w = World::enrolled();
    w.set_config("ask_parts_after = \"1s\"");
    let sealed = Sealed::new(&w, "1-0", "one");
    let life = w.life();
    (0..sealed.count()).filter(|n| ![1, 2, 5].contains(n)).for_each(|n| sealed.send(&w, life, n));
    wait_until("missing parts are asked for", || {
        w.once();
        !asks(&mut w, life.id).is_empty()
    });
    let ask = asks(&mut w, life.id).remove(0);
    assert_eq!((ask.body_bytes, ask.missing), (sealed.body.len() as u64, sealed.missing(&[1, 2, 5])));
    [1, 2, 5].into_iter().for_each(|n| sealed.send(&w, life, n));
    assert_eq!(w.once(), 0);
    assert_eq!(w.outcome(life.id), Outcome::Installed);
}

#[test]
fn another_order_for_the_same_body_goes_on_from_what_is_here() {
    let mut w = World::enrolled();
    let sealed = Sealed::new(&w, "1-0", "one");
    let (first, second) = (w.life(), w.life());
    (0..sealed.count() - 2).for_each(|n| sealed.send(&w, first, n));
    w.mail(second.id, sealed.mail(&w, second, None));
    w.once();
    let last = [sealed.count() - 2, sealed.count() - 1];
    assert_eq!(asks(&mut w, second.id)[0].missing, sealed.missing(&last));
    assert_eq!(w.outcome(first.id), Outcome::Refused(Refusal::Superseded));
    last.into_iter().for_each(|n| sealed.send(&w, second, n));
    w.once();
    assert_eq!(w.outcome(second.id), Outcome::Installed);
}

#[test]
fn a_part_that_was_altered_on_its_way_is_junk_and_the_others_count() {
    let mut w = World::enrolled();
    let sealed = Sealed::new(&w, "1-0", "one");
    let life = w.life();
    for n in 0..sealed.count() {
        let mut mail = sealed.mail(&w, life, Some(n));
        let end = mail.len() - 1;
        mail[end] ^= 1;
        w.mail(life.id, mail);
        mail = sealed.mail(&w, life, Some(n));
        mail.truncate(end);
        w.mail(life.id, mail);
        sealed.send(&w, life, n);
    }
    w.once();
    assert!(w.status().contains(&format!("damaged {}", 2 * sealed.count())), "{}", w.status());
    assert_eq!(w.outcome(life.id), Outcome::Installed);
}

#[test]
fn parts_that_nobody_could_open_or_has_ordered_are_not_kept() {
    let mut w = World::enrolled();
    let sealed = Sealed::new(&w, "1-0", "one");
    let life = w.life();
    let stranger = shared::keys::SigningKey::from_seed(&random());
    let ours = std::mem::replace(&mut w.sign, stranger);
    sealed.send(&w, life, 0);
    w.sign = ours;
    let keys = w.agent_keys.clone().unwrap();
    let other = shared::keys::OpeningKey::from_seed(&random()).sealing_key();
    w.agent_keys = Some((keys.0.clone(), other));
    sealed.send(&w, life, 0);
    w.agent_keys = Some(keys);
    w.once();
    assert_eq!((w.unread(), parts_on_disk(&w)), (0, 0));
    let status = w.status();
    assert!(
        status.contains("not signed by the manager 1") && status.contains("for another recipient 1"),
        "{status}"
    );
}

#[test]
fn a_body_that_is_too_large_for_the_box_is_refused_at_its_first_part() {
    let mut w = World::enrolled();
    // What else may be in a body counts as well: five megabytes.
    w.set_config("max_bundle_bytes = 1");
    let bundle = w.bundle("1-0", "", None, &[("share/noise", &noise(7_000_000))]);
    let key = ContentKey::from_bytes(random());
    let mut body = Vec::new();
    let message = encode(&World::install_order(&bundle, "1-0"));
    let sealed = seal_body(&key, &message, &mut bundle.as_slice(), &mut body).unwrap();
    let cut = Cut::of(&mut body.as_slice(), PART_BYTES).unwrap();
    let sealed = Sealed { key, body, sealed, cut };
    let life = w.life();
    sealed.send(&w, life, 3);
    w.once();
    let outcome = w.outcome(life.id);
    assert!(matches!(&outcome, Outcome::Refused(Refusal::BadBundle(_))), "{outcome:?}");
    assert_eq!((w.unread(), parts_on_disk(&w)), (0, 0));
}

#[test]
fn parts_that_vanished_from_the_disk_are_asked_for_anew() {
    let mut w = World::enrolled();
    let sealed = Sealed::new(&w, "1-0", "one");
    let life = w.life();
    (1..sealed.count()).for_each(|n| sealed.send(&w, life, n));
    w.once();
    for entry in std::fs::read_dir(w.home().join("parts")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    sealed.send(&w, life, 0);
    w.once();
    assert_eq!(asks(&mut w, life.id)[0].missing, Spans::all(sealed.body.len() as u64));
    (0..sealed.count()).for_each(|n| sealed.send(&w, life, n));
    w.once();
    assert_eq!(w.outcome(life.id), Outcome::Installed);
}

#[test]
fn an_order_that_never_becomes_whole_ends_and_leaves_nothing() {
    let mut w = World::enrolled();
    let sealed = Sealed::new(&w, "1-0", "one");
    let mut life = w.life();
    life.expires = common::now().plus(std::time::Duration::from_secs(3));
    sealed.send(&w, life, 0);
    w.once();
    assert_eq!(parts_on_disk(&w), 2);
    wait_until("the order has expired", || {
        w.once();
        parts_on_disk(&w) == 0
    });
    let Outcome::RolledBack(failure) = w.outcome(life.id) else { panic!() };
    let Cause::WaitedTooLong(Some(hindrance)) = failure.cause else { panic!("{failure}") };
    assert_eq!(hindrance.reason, WaitReason::PartsMissing);
}
