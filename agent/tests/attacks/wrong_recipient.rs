//! Wrong recipient: an order that was sealed for another box is delivered to this one.

use shared::keys::OpeningKey;
use shared::message::{Enrolled, Order, encode};
use shared::{AgentId, Digest};

use crate::common::World;
use crate::lab::{fends_off, poison};

#[test]
fn an_order_sealed_for_another_box_cannot_be_opened() {
    let mut w = World::enrolled();
    let (order, bundle) = poison(&w);
    let life = w.life();
    let other = OpeningKey::from_seed(&[1; 32]).sealing_key();
    w.mail(life.id, w.seal(life, &encode(&order), &bundle, &[other], &w.sign));
    fends_off(&mut w, "for another recipient 1");
}

#[test]
fn the_hint_of_this_box_put_on_the_slot_of_another_breaks_the_signature() {
    let mut w = World::enrolled();
    let (order, bundle) = poison(&w);
    let life = w.life();
    let other = OpeningKey::from_seed(&[1; 32]).sealing_key();
    let mut sealed = w.seal(life, &encode(&order), &bundle, &[other.clone(), w.agent_seal_key()], &w.sign);
    // PROTOCOL 3.5: what a box finds its slot by.
    let hint = |key: [u8; 32]| {
        Digest::of(&[b"mailfleet/slot-hint/v1\0", &life.id.0[..], &key[..]].concat()).0[..8].to_vec()
    };
    let hints = [hint(other.to_bytes()), hint(w.agent_seal_key().to_bytes())];
    let places = hints.each_ref().map(|hint| sealed.windows(8).position(|bytes| bytes == hint).unwrap());
    sealed[places[0]..places[0] + 8].copy_from_slice(&hints[1]);
    sealed[places[1]..places[1] + 8].copy_from_slice(&hints[0]);
    w.mail(life.id, sealed);
    fends_off(&mut w, "not signed by the manager 1");
}

#[test]
fn an_enrolment_answer_for_another_agent_does_not_rename_this_one() {
    let mut w = World::enrolled();
    w.send(&Order::Enrolled(Enrolled { agent: AgentId::parse("B2").unwrap(), heartbeat: None }));
    fends_off(&mut w, "for another agent 1");
}
