//! Who can change the trust, and who cannot.

use super::*;
use crate::keys::OpeningKey;

const T0: UnixMillis = UnixMillis(1_795_000_000_000);

fn key(n: u8) -> SigningKey {
    SigningKey::from_seed(&[n; 32])
}

fn public(seeds: &[u8]) -> Vec<VerifyingKey> {
    seeds.iter().map(|n| key(*n).verifying_key()).collect()
}

fn trust(version: u32, order: &[u8], release: &[u8], threshold: u8) -> Trust {
    let seal = OpeningKey::from_seed(&[9; 32]).sealing_key();
    Trust::new(version, T0, public(order), public(release), threshold, seal)
}

fn statement(trust: &Trust, signers: &[u8]) -> Statement {
    let mut statement = Statement::unsigned(trust);
    signers.iter().for_each(|n| statement.sign(&key(*n)));
    statement
}

#[test]
fn a_statement_signed_by_a_trusted_release_key_replaces_the_order_key() {
    let known = trust(1, &[1], &[11], 1);
    let next = trust(2, &[2, 1], &[11], 1);
    let read = Statement::read_all(&statement(&next, &[11]).to_bytes()).unwrap();
    assert_eq!(read[0].accept(&known).unwrap(), next);
}

#[test]
fn neither_the_order_key_nor_a_stranger_can_make_one() {
    let known = trust(1, &[1], &[11], 1);
    let next = trust(2, &[5], &[15], 1);
    for signers in [&[][..], &[1], &[5], &[15], &[1, 5, 15]] {
        assert!(matches!(statement(&next, signers).accept(&known), Err(TrustError::TooFew { .. })));
    }
}

#[test]
fn a_threshold_counts_different_keys_of_the_old_set_and_of_the_new_one() {
    let known = trust(1, &[1], &[11, 12, 13], 2);
    let next = trust(2, &[1], &[12, 14], 2);
    let accepts = |signers: &[u8]| statement(&next, signers).accept(&known).is_ok();
    assert!(accepts(&[11, 12, 14]));
    assert!(!accepts(&[11, 12]), "14 has not shown that it exists");
    assert!(!accepts(&[12, 14]), "only one of the old set");
    let mut twice = statement(&next, &[12, 14]);
    twice.signatures.push(*twice.signatures.first().unwrap());
    assert!(twice.accept(&known).is_err(), "one key twice is one key");
}

#[test]
fn an_older_version_or_the_same_one_changes_nothing() {
    let known = trust(3, &[1], &[11], 1);
    for version in [1, 2, 3] {
        let old = statement(&trust(version, &[2], &[11], 1), &[11]);
        assert!(matches!(old.accept(&known), Err(TrustError::NotNewer { .. })));
    }
}

#[test]
fn what_contradicts_itself_is_refused_although_it_is_signed() {
    let known = trust(1, &[1], &[11], 1);
    let bad = [
        trust(2, &[], &[11], 1),
        trust(2, &[1, 1], &[11], 1),
        trust(2, &[1, 2, 3, 4, 5], &[11], 1),
        trust(2, &[1], &[], 0),
        trust(2, &[1], &[11], 0),
        trust(2, &[1], &[11], 2),
        trust(2, &[11], &[11], 1),
    ];
    for trust in bad {
        let result = statement(&trust, &[11]).accept(&known);
        assert!(matches!(result, Err(TrustError::Contradiction { .. })), "{result:?}");
    }
}

#[test]
fn every_altered_byte_and_every_cut_is_refused() {
    let known = trust(1, &[1], &[11], 1);
    let bytes = statement(&trust(2, &[2], &[11], 1), &[11]).to_bytes();
    for at in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        let accepted = Statement::read_all(&altered).ok().and_then(|all| all[0].accept(&known).ok());
        assert!(accepted.is_none(), "byte {at}");
        assert!(at == 0 || Statement::read_all(&bytes[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn an_agent_of_the_first_day_can_follow_the_introduction_and_a_short_one_is_enough() {
    let first = trust(1, &[1], &[11], 1);
    let steps = [
        (trust(2, &[2], &[11], 1), &[11][..]),
        (trust(3, &[2], &[12], 1), &[11, 12]),
        (trust(4, &[3], &[12], 1), &[12]),
        (trust(5, &[4], &[12], 1), &[12]),
    ];
    let mut chain = vec![statement(&first, &[11])];
    chain.extend(steps.iter().map(|(trust, signers)| statement(trust, signers)));
    let brought = Statement::read_all(&introduction(&chain)).unwrap();
    assert_eq!(brought.len(), 2, "the one that changed the release keys, and the newest");
    for begin in [&first, &steps[0].0, &steps[1].0, &steps[2].0] {
        let follow = |known: Trust, s: &Statement| s.accept(&known).unwrap_or(known);
        assert_eq!(brought.iter().fold(begin.clone(), follow), steps[3].0);
    }
    assert_eq!(introduction(&chain[..1]), b"", "version 1 comes with the invitation");
}

#[test]
fn signatures_of_copies_that_were_signed_apart_can_be_joined() {
    let known = trust(1, &[1], &[11, 12], 2);
    let next = trust(2, &[2], &[11, 12], 2);
    let mut one = statement(&next, &[11]);
    assert!(one.join(&statement(&next, &[12])));
    assert!(one.accept(&known).is_ok());
    assert!(!one.join(&statement(&trust(2, &[3], &[11, 12], 2), &[12])), "another statement");
}
