//! New keys of agents: when they are asked for, which ones are taken, what the old ones are still worth.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may panic")]
#![allow(clippy::arithmetic_side_effects, reason = "tests may overflow and fail")]

mod office;

use std::time::Duration;

use mailfleet::daemon::{Question, queue_query};
use mailfleet::system::now;
use manager_core::{Reason, TargetState};
use office::{Box7, Office, goal, versions};
use shared::keys::SigningKey;
use shared::message::{Cause, Ended, Failure, Order, Outcome, Phase, Report, Reported, Standing, Versions};

const DAY: Duration = Duration::from_secs(86_400);

fn told(software: Reported) -> Report {
    Report::Versions(Versions { query: None, versions: versions(software) })
}

fn software(office: &Office, agent: &Box7) -> Option<Reported> {
    office.record(agent).versions.map(|versions| versions.software)
}

fn signs_as(office: &Office, agent: &Box7, seed: u8) -> bool {
    office.record(agent).sign_key == Some(SigningKey::from_seed(&[seed; 32]).verifying_key())
}

fn are_unused(office: &Office, agent: &Box7) -> bool {
    office.store().read(|tx| tx.keys_are_unused(&agent.id)).unwrap()
}

/// The kinds of an agent's orders.
fn kinds(office: &Office, agent: &Box7) -> Vec<&'static str> {
    let kind = |order: &Order| match order {
        Order::Rekey => "rekey",
        Order::Enrolled(_) => "enrolled",
        Order::QueryVersions => "query",
        Order::Install(_) | Order::Cancel(_) | Order::Heartbeat(_) | Order::Schedule(_) | Order::Test(_) => {
            "other"
        }
        Order::Acknowledge(_) => "acknowledge",
        Order::QueryCounters => "counters",
        Order::DevicePlan(_) => "device-plan",
    };
    agent.orders(office).iter().map(|(_, order, _)| kind(order)).collect()
}

/// An office whose one agent has named new keys, those of seed 77, and not used them.
fn changed() -> (Office, Box7) {
    let office = Office::new();
    let mut agent = office.enrolled(1).remove(0);
    let order = office.ask_for_keys(&agent);
    agent.report(&office, &agent.rekeyed(order, 77));
    office.pass();
    (office, agent)
}

#[test]
fn an_agent_that_names_new_keys_gets_its_orders_under_them_and_is_heard_under_both() {
    let office = Office::new();
    let mut agents = office.enrolled(2);
    let order = office.ask_for_keys(&agents[0]);
    assert!(office.record(&agents[0]).rekey_ordered.is_some());
    assert_eq!(office.record(&agents[1]).rekey_ordered, None);
    let agent = &mut agents[0];
    // Two mails in one look: what comes after the change is applied after it.
    agent.report(&office, &agent.rekeyed(order, 77));
    agent.report(&office, &told(Reported::Nothing));
    office.pass();
    let record = office.record(agent);
    assert!(signs_as(&office, agent, 77) && are_unused(&office, agent));
    assert_eq!((record.rekey_ordered, record.keys_at > record.enrolled_at), (None, true));
    assert_eq!(
        software(&office, agent),
        Some(Reported::Nothing),
        "the old key counts until the new one is used"
    );
    // PROTOCOL 13.4: the answer is sealed to the new key, which `orders` opens it with.
    agent.use_keys(77);
    assert_eq!(kinds(&office, agent), ["enrolled"]);
    agent.report(&office, &told(goal()));
    office.pass();
    assert_eq!((software(&office, agent), are_unused(&office, agent)), (Some(goal()), false));
    assert!(office.log().contains("A0001 has new keys: signs as"), "{}", office.log());
    assert!(!office.log().contains("refused"), "{}", office.log());
}

#[test]
fn an_order_that_waited_for_the_relay_goes_out_under_the_new_key() {
    let office = Office::new();
    let mut agent = office.enrolled(1).remove(0);
    let order = office.ask_for_keys(&agent);
    agent.report(&office, &agent.rekeyed(order, 77));
    let ids = [agent.id.clone()];
    let life = shared::limits::ORDER_LIFE;
    office.store().write(|tx| queue_query(tx, Question::Versions, &ids, 50, life, now())).unwrap();
    office.pass();
    agent.use_keys(77);
    assert_eq!(kinds(&office, &agent), ["query", "enrolled"]);
}

#[test]
fn what_was_said_under_the_old_key_before_the_change_is_not_lost_and_says_nothing_of_now() {
    let office = Office::new();
    let mut agent = office.enrolled(1).remove(0);
    let id = office.campaign(core::slice::from_ref(&agent), 1_000);
    office.pass();
    let install = agent.orders(&office)[0].0.id;
    let order = office.ask_for_keys(&agent);
    let failure = Failure { phase: Phase::Post, cause: Cause::ScriptExit(3), undo_failed: false };
    let ended = Report::Ended(Ended {
        order: install,
        outcome: Outcome::RolledBack(failure.clone()),
        output: None,
        versions: versions(Reported::Nothing),
    });
    let (late_id, late) = agent.sealed(&office, &ended);
    let (stale_id, stale) = agent.sealed(&office, &told(Reported::Nothing));
    agent.report(&office, &agent.rekeyed(order, 77));
    office.pass();
    let mut after = Box7 { sequence: agent.sequence, ..Box7::new(1, &office.spool()) };
    after.use_keys(77);
    after.report(&office, &told(goal()));
    office.pass();
    // PROTOCOL 13.6: mails overtake each other.
    agent.post(&office, late_id, late);
    agent.post(&office, stale_id, stale);
    office.pass();
    assert_eq!(office.target(id, &agent), (TargetState::Failed, Some(Reason::RolledBack(failure))));
    assert_eq!(software(&office, &agent), Some(goal()));
    assert!(!office.log().contains("refused"), "{}", office.log());
}

#[test]
fn who_does_not_answer_is_asked_again_each_week_and_not_more() {
    let office = Office::new();
    let agents = office.enrolled(2);
    office.ask_for_keys(&agents[0]);
    office.pass();
    assert_eq!(kinds(&office, &agents[0]), Vec::<&str>::new());
    let asked = |days: u32| {
        let ids = [agents[0].id.clone()];
        office.store().write(|tx| tx.rekey_ordered(&ids, now().minus(DAY * days))).unwrap();
        office.pass();
        kinds(&office, &agents[0])
    };
    assert_eq!(asked(6), Vec::<&str>::new());
    assert_eq!(asked(8), ["rekey"]);
    assert_eq!(kinds(&office, &agents[1]), Vec::<&str>::new());
}

#[test]
fn keys_that_are_older_than_the_operator_likes_are_changed_without_being_told() {
    let office = Office::new();
    let agents = office.enrolled(2);
    let path = office.home.config_path();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}rotate_agent_keys = \"30d\"\n")).unwrap();
    office.pass();
    assert_eq!(kinds(&office, &agents[1]), Vec::<&str>::new());
    let seed = |n: u8| shared::keys::OpeningKey::from_seed(&[n; 32]).sealing_key();
    let sign = SigningKey::from_seed(&[78; 32]).verifying_key();
    // As if the second agent had changed its keys a month ago.
    let month_ago = now().minus(DAY * 31);
    office.store().write(|tx| tx.replace_keys(&agents[1].id, (&sign, &seed(78)), month_ago)).unwrap();
    office.pass();
    let mut second = Box7::new(2, &office.spool());
    second.use_keys(78);
    assert_eq!(kinds(&office, &second), ["rekey"]);
    office.pass();
    assert_eq!((kinds(&office, &second), kinds(&office, &agents[0])), (vec![], vec![]));
}

#[test]
fn a_second_change_before_the_first_is_used_keeps_what_both_have_signed() {
    let (office, mut agent) = changed();
    let mut second = Box7 { sequence: 50, ..Box7::new(1, &office.spool()) };
    second.use_keys(77);
    assert_eq!(kinds(&office, &second), ["enrolled"]);
    let order = office.ask_for_keys(&second);
    second.report(&office, &second.rekeyed(order, 78));
    office.pass();
    assert!(signs_as(&office, &agent, 78));
    let standing = |version| Report::Standing(Standing { trust_version: version, unheard_since: None });
    agent.report(&office, &standing(5));
    second.report(&office, &standing(6));
    office.pass();
    assert_eq!(office.record(&agent).trust_version, Some(6));
    assert!(!office.log().contains("refused"), "{}", office.log());
}
