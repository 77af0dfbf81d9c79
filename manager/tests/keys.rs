//! Keys that change under a running fleet, and heartbeats: what agents are mailed, and what the manager keeps of
//! their answers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may panic")]
#![allow(clippy::arithmetic_side_effects, reason = "tests may overflow and fail")]

mod office;

use std::time::Duration;

use mailfleet::system::now;
use manager_core::trust::Change;
use office::{Box7, Office, goal, versions};
use shared::UnixMillis;
use shared::message::{Heartbeat, Order, Report, Standing, Versions};
use shared::trust::Statement;

const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// Puts a change into force, as `keys propose`, `sign` and `accept` do.
fn change(office: &Office, change: Change) {
    let next = change.apply(&office.home.trust().unwrap(), now()).unwrap();
    let mut statement = Statement::unsigned(&next);
    statement.sign(&office.home.release_key(None).unwrap());
    office.home.accept(&statement).unwrap();
}

fn a_week_passes(office: &Office) {
    let last = now().minus(WEEK + Duration::from_secs(1));
    office.store().write(|tx| tx.heartbeat_made(last)).unwrap();
}

fn kinds(agent: &Box7, office: &Office) -> Vec<Order> {
    agent.orders(office).into_iter().map(|(_, order, _)| order).collect()
}

#[test]
fn every_enrolled_agent_is_told_once_a_week_that_the_manager_is_there() {
    let office = Office::new();
    let agents = office.enrolled(4);
    office.invite(5);
    office.pass();
    assert!(agents.iter().all(|agent| kinds(agent, &office).is_empty()), "they have just enrolled");
    a_week_passes(&office);
    // PROTOCOL 12.1
    assert_eq!(office.pass().mails_out, 1, "one mail for all");
    let beat = Order::Heartbeat(Heartbeat { every_ms: 7 * 86_400_000 });
    assert!(agents.iter().all(|agent| kinds(agent, &office) == [beat.clone()]));
    assert_eq!(office.pass().mails_out, 0);
}

#[test]
fn a_new_order_key_signs_and_its_mails_bring_the_statement() {
    let office = Office::new();
    let agents = office.enrolled(1);
    let old = office.home.keys().unwrap().order.verifying_key();
    let new = office.home.new_order_key().unwrap();
    assert_eq!(office.home.keys().unwrap().order.verifying_key(), old, "nothing is in force yet");
    change(&office, Change { new_order_key: Some(new.clone()), ..Change::default() });
    a_week_passes(&office);
    office.pass();
    // `orders` checks that the first key of the trust has signed.
    assert_eq!(office.home.keys().unwrap().order.verifying_key(), new);
    assert_eq!(kinds(&agents[0], &office).len(), 1);
    let brought = Statement::read_all(&office.home.keys().unwrap().introduction).unwrap();
    assert_eq!(brought[0].inspect_unverified().unwrap().order_keys, [new, old]);
}

#[test]
fn a_report_that_was_sealed_to_the_opening_key_before_is_still_opened() {
    let office = Office::new();
    let mut agents = office.enrolled(1);
    let (id, late) =
        agents[0].sealed(&office, &Report::Versions(Versions { query: None, versions: versions(goal()) }));
    let new = office.home.new_opening_key().unwrap();
    change(&office, Change { new_seal_key: Some(new), ..Change::default() });
    agents[0].post(&office, id, late);
    office.pass();
    let record = office.store().read(|tx| tx.agent(&agents[0].id)).unwrap().unwrap();
    assert_eq!(record.versions.unwrap().software, goal());
    // And new ones are sealed to the new key.
    agents[0].report(&office, &Report::Standing(Standing { trust_version: 2, unheard_since: None }));
    office.pass();
    let record = office.store().read(|tx| tx.agent(&agents[0].id)).unwrap().unwrap();
    assert_eq!(record.trust_version, Some(2));
}

#[test]
fn a_possible_freeze_is_kept_and_logged_and_an_overtaken_word_of_it_is_not() {
    let office = Office::new();
    let mut agents = office.enrolled(1);
    let since = UnixMillis(1_795_000_000_000);
    let standing = |unheard_since| Report::Standing(Standing { trust_version: 1, unheard_since });
    let (id, early) = agents[0].sealed(&office, &standing(None));
    agents[0].report(&office, &standing(Some(since)));
    office.pass();
    agents[0].post(&office, id, early);
    office.pass();
    let record = || office.store().read(|tx| tx.agent(&agents[0].id)).unwrap().unwrap();
    assert_eq!(record().unheard_since, Some(since));
    assert!(office.log().contains("A0001 has had no heartbeat since 2026-11-18T"), "{}", office.log());
    let mut later = Box7 { sequence: 10, ..Box7::new(1, &office.spool()) };
    later.report(&office, &standing(None));
    office.pass();
    assert_eq!(record().unheard_since, None);
}
