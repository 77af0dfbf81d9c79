//! Alter: any byte of a mail is changed on its way.

use shared::message::{Order, Outcome, Refusal, Report, encode};

use crate::common::World;
use crate::lab::{
    copy_of, fends_off, in_memory, key, poison, ran, sealed_poison, statement, takes_an_honest_order, trust,
};

/// This with one byte changed, for each byte.
fn each_altered(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len()).map(|at| {
        let mut altered = bytes.to_vec();
        altered[at] ^= 1 << (at % 8);
        altered
    })
}

#[test]
fn every_byte_of_an_envelope_one_after_the_other() {
    let mut w = in_memory();
    let life = w.life();
    let whole = sealed_poison(&w, life, &w.sign);
    each_altered(&whole).for_each(|altered| w.mail(life.id, altered));
    fends_off(&mut w, "not signed by the manager");
    println!("figure: {} bytes", whole.len());
    // The same bytes unaltered are an order: it was the alteration that was refused.
    let mut w = World::enrolled();
    let life = w.life();
    w.mail(life.id, sealed_poison(&w, life, &w.sign));
    assert_eq!((w.once(), ran(&w)), (0, 4));
}

#[test]
fn every_byte_of_the_statement_that_introduces_its_signer() {
    let mut w = World::enrolled();
    let release = copy_of(&w.release);
    let introduction = statement(&trust(&w, 2, &[&key(2)], &[&release], 1), &[&release]);
    let life = w.life();
    let sealed = sealed_poison(&w, life, &key(2));
    each_altered(&introduction).for_each(|altered| w.mail(life.id, [&altered[..], &sealed].concat()));
    fends_off(&mut w, "not signed by the manager");
    println!("figure: {} bytes", introduction.len());
    w.mail(life.id, [introduction, sealed].concat());
    assert_eq!((w.once(), ran(&w)), (0, 4), "unaltered, it introduces its signer");
}

#[test]
fn every_byte_of_a_bundle_that_the_order_key_has_sealed_all_the_same() {
    let mut w = in_memory();
    let (_, bundle) = poison(&w);
    let altered: Vec<_> = each_altered(&bundle)
        .map(|altered| {
            let life = w.life();
            w.send_with(life, &World::install_order(&altered, "6-6"), &altered)
        })
        .collect();
    assert_eq!(w.once(), 1);
    w.collect();
    for order in altered {
        let ended: Vec<_> = w
            .reports
            .iter()
            .filter_map(|r| if let Report::Ended(e) = r { Some(e) } else { None })
            .filter(|e| e.order == order)
            .map(|e| &e.outcome)
            .collect();
        let refused = matches!(
            ended[..],
            [Outcome::Refused(Refusal::NotSigned | Refusal::BadBundle(_)) | Outcome::RolledBack(_)]
        );
        assert!(refused, "{ended:?}");
    }
    assert_eq!((ran(&w), w.file("bin/abcd")), (0, None));
    println!("figure: {} bytes", bundle.len());
    takes_an_honest_order(&mut w);
}

#[test]
fn cut_short_or_longer() {
    let mut w = World::enrolled();
    let life = w.life();
    let whole = sealed_poison(&w, life, &w.sign);
    for end in [0, 7, 8, 19, 20, 100, whole.len() / 2, whole.len() - 1] {
        w.mail(life.id, whole[..end].to_vec());
    }
    w.mail(life.id, [&whole[..], b"x"].concat());
    w.mail(life.id, [&whole[..], &whole[..]].concat());
    fends_off(&mut w, "damaged");
}

#[test]
fn sealed_by_the_manager_but_no_order() {
    let mut w = World::enrolled();
    for message in [&b""[..], b"\xff\xff", &encode(&Order::QueryVersions)[1..], &[0x9f; 10_000]] {
        let life = w.life();
        w.mail(life.id, w.seal(life, message, b"", &[w.agent_seal_key()], &w.sign));
    }
    fends_off(&mut w, "unreadable 4");
}
