//! New keys for a box, by mail: the real agent against a manager that does what the protocol says.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::os::unix::fs::PermissionsExt as _;

use common::{Life, World, text};
use shared::EnvelopeId;
use shared::keys::SealingKey;
use shared::limits::FORMER_OPENING_KEY_LIFE;
use shared::message::{Order, Outcome, Rekeyed, Report, encode};

/// Mails an order that is sealed to this key.
fn send_to(w: &World, life: Life, order: &Order, key: &SealingKey) {
    w.mail(life.id, w.seal(life, &encode(order), b"", std::slice::from_ref(key), &w.sign));
}

/// The key files in the home.
fn key_files(w: &World) -> Vec<String> {
    let names = std::fs::read_dir(w.home()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut keys: Vec<String> = names.filter(|name| name.starts_with("key")).collect();
    keys.sort();
    keys
}

fn answers(w: &World, order: EnvelopeId) -> Vec<Rekeyed> {
    let answer = |r: &Report| match r {
        Report::Rekeyed(rekeyed) if rekeyed.order == order => Some(rekeyed.clone()),
        _ => None,
    };
    w.reports.iter().filter_map(answer).collect()
}

#[test]
fn a_box_makes_new_keys_says_them_under_the_old_and_uses_them_when_the_manager_does() {
    let mut w = World::enrolled();
    let (old_sign, old_seal) = w.agent_keys.clone().unwrap();
    let order = w.send(&Order::Rekey);
    assert_eq!(w.once(), 0);
    assert!(w.status().contains("Own keys            new ones wait"), "{}", w.status());
    // `collect` checks who has signed, and the proof.
    w.collect();
    assert_eq!((answers(&w, order).len(), w.former.len()), (1, 1));
    let new = [format!("key-{order}.open"), format!("key-{order}.sign")];
    assert_eq!(key_files(&w), [&new[0], &new[1], "key.open", "key.sign"]);
    for name in &new {
        let mode = std::fs::metadata(w.home().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    // A report under the old key would fail `collect` from here on: the test takes it for dropped.
    w.former.clear();
    let (life, query) = (w.life(), w.query());
    assert_eq!(w.once(), 0);
    assert_eq!(w.answers(query).len(), 1);
    assert!(w.reports.iter().any(|r| matches!(r, Report::Standing(_))), "{:?}", w.reports);
    assert!(w.status().contains("Own keys            current"), "{}", w.status());
    // What was on its way to the old key.
    send_to(&w, life, &Order::QueryVersions, &old_seal);
    assert_eq!(w.once(), 0);
    assert_eq!(w.answers(life.id).len(), 1);
    let install = w.install("2-0", Some("exit 0"), &[("bin/abcd", "two")]);
    assert_eq!(w.once(), 0);
    assert_eq!(w.outcome(install), Outcome::Installed);
    // Two weeks of the manager's time later, the old keys are gone.
    let mut later = w.life();
    later.created = later.created.plus(FORMER_OPENING_KEY_LIFE * 2);
    later.expires = later.expires.plus(FORMER_OPENING_KEY_LIFE * 2);
    w.send_with(later, &Order::QueryVersions, &[]);
    assert_eq!(w.once(), 0);
    assert_eq!((w.answers(later.id).len(), key_files(&w)), (1, new.to_vec()));
    let late = Life { id: EnvelopeId([8; 16]), sequence: later.sequence + 1, ..later };
    send_to(&w, late, &Order::QueryVersions, &old_seal);
    assert_eq!(w.once(), 0);
    assert_eq!(w.answers(late.id).len(), 0);
    assert!(w.status().contains("for another recipient 1"), "{}", w.status());
    assert_ne!(w.agent_keys.clone().unwrap().0, old_sign);
    let out = w.agent(&["doctor"]);
    let signs = format!("signs as {}", w.agent_keys.clone().unwrap().0.key_id());
    assert!(text(&out).contains(&signs), "{}", text(&out));
}

#[test]
fn a_repeated_order_makes_no_other_keys_and_another_one_before_the_change_gives_the_same() {
    let mut w = World::enrolled();
    let life = w.life();
    let sealed = w.seal(life, &encode(&Order::Rekey), b"", &[w.agent_seal_key()], &w.sign);
    for _ in 0..3 {
        w.mail(life.id, sealed.clone());
        assert_eq!(w.once(), 0);
    }
    let old = w.agent_seal_key();
    w.collect();
    let again = w.life();
    send_to(&w, again, &Order::Rekey, &old);
    assert_eq!(w.once(), 0);
    w.collect();
    let (first, second) = (answers(&w, life.id), answers(&w, again.id));
    assert_eq!((first.len(), second.len(), key_files(&w).len()), (1, 1, 4));
    assert_eq!((first[0].sign_key, first[0].seal_key), (second[0].sign_key, second[0].seal_key));
}

#[test]
fn keys_change_again_and_again() {
    let mut w = World::enrolled();
    for round in 1..=6 {
        let order = w.send(&Order::Rekey);
        assert_eq!(w.once(), 0);
        w.collect();
        assert_eq!((answers(&w, order).len(), w.former.len()), (1, round));
        let query = w.query();
        assert_eq!(w.once(), 0);
        assert_eq!(w.answers(query).len(), 1);
    }
    assert_eq!(key_files(&w).len(), 10, "the current pair and the last four: {:?}", key_files(&w));
}

#[test]
fn an_agent_that_is_killed_after_any_effect_of_a_change_ends_with_the_keys_that_the_manager_has() {
    for n in 0.. {
        let mut w = World::enrolled();
        let order = w.send(&Order::Rekey);
        let dies = |w: &World| {
            let mut command = w.command(&["run", "--once"]);
            command.env("MAILFLEET_TEST_EFFECTS_TO_LIVE", n.to_string());
            command.output().unwrap().status.code().is_none()
        };
        let died = dies(&w);
        assert_eq!(w.once(), 0);
        w.collect();
        assert_eq!(answers(&w, order).len(), 1, "killed after {n} effects: {:?}", w.reports);
        let query = w.query();
        let died_again = dies(&w);
        assert_eq!(w.once(), 0);
        assert_eq!(w.answers(query).len(), 1, "killed after {n} effects");
        assert_eq!(key_files(&w).len(), 4);
        if !died && !died_again {
            assert!(n > 8, "only {n} effects");
            break;
        }
    }
}
