//! The simulated world: some dozens of seeds of everything at once, and single stories.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, clippy::panic, reason = "tests may panic")]

use core::time::Duration;
use std::collections::BTreeSet;

use manager_core::TargetState;
use manager_core::rollout::Times;
use shared::AgentId;
use shared::message::{Phase, UpdateState};
use testkit::{Figures, Flashings, Habits, Line, Persona, World};

const DAY: Duration = Duration::from_secs(86_400);

fn box_1() -> AgentId {
    AgentId::parse("A0001").unwrap()
}

/// A world of these boxes with a good post office, enrolled.
fn world_of(personas: Vec<Persona>) -> World {
    let mut world = World::new(7, personas, Habits::good());
    world.run_for(DAY);
    world
}

#[test]
fn fleets_survive_whatever_dozens_of_seeds_bring() {
    // scripts/sim plays thousands.
    let mut total = Figures::default();
    for seed in 0..60 {
        let result = std::panic::catch_unwind(|| World::live(seed, 8));
        let Ok((figures, _)) = result else {
            panic!("seed {seed} fails: scripts/sim --seed {seed} --boxes 8")
        };
        total.add(&figures);
    }
    println!("60 seeds: {total:?}");
    let lively = total.power_cuts > 150 && total.installs > 600 && total.key_changes > 600;
    let lively = lively && total.faults > 300 && total.readings > 3_000 && total.put_back > 15;
    let lively = lively && total.in_time > 300 && total.tests > 150 && total.joined > 150;
    assert!(lively, "the world is too kind: {total:?}");
}

// PROTOCOL 18.6, 18.7, 18.8
#[test]
fn devices_get_their_firmware_once_or_are_said_to_be_unknown() {
    let mut total = Flashings::default();
    // scripts/sim plays more.
    for seed in 0..8 {
        let result = std::panic::catch_unwind(|| World::flash(seed, 6));
        let Ok(flashings) = result else {
            panic!("seed {seed} fails: scripts/sim --seed {seed} --boxes 6 --devices")
        };
        total.add(&flashings);
    }
    println!("8 seeds: {total:?}");
    let ended = |state| total.ends.get(&state).copied().unwrap_or_default();
    // What the manager had to allow once more was unknown before.
    let lively = ended(UpdateState::Done) > 80 && ended(UpdateState::Failed) > 5 && total.allowed > 5;
    assert!(lively && total.pushes > 100, "the world is too kind: {total:?}");
}

#[test]
fn a_fleet_of_a_hundred_boxes_lives_through_it_too() {
    let (figures, _) = World::live(77, 100);
    println!("100 boxes: {figures:?}");
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_gives_another() {
    let (figures, trace) = World::live(5, 6);
    assert_eq!(World::live(5, 6), (figures, trace));
    assert_ne!(World::live(6, 6).1, trace);
}

#[test]
fn a_bundle_in_parts_goes_out_once_over_a_good_line() {
    let mut world = world_of(vec![Persona::healthy(); 3]);
    world.send_in_parts();
    world.start_campaign(1, 2);
    world.run_until_settled();
    assert_eq!(world.in_state(0, TargetState::Verified).len(), 3);
    assert_eq!((world.parts_mailed(), world.installs_mailed(), world.figures().joined), (3 * 6, 0, 3));
}

#[test]
fn parts_that_are_lost_are_mailed_again_and_no_others() {
    let mut world = world_of(vec![Persona::healthy(); 20]);
    world.send_in_parts();
    world.set_habits(Habits { drop: 200, duplicate: 200, ..Habits::good() });
    world.start_campaign(1, 2);
    world.run_until_settled();
    assert_eq!(world.in_state(0, TargetState::Verified).len(), 20, "{:?}", world.figures());
    // A fifth of 120 is lost, and a fifth of those again; asking twice, because an answer is late, costs some more.
    let parts = world.parts_mailed();
    assert!((120..=240).contains(&parts), "{parts} parts for 20 boxes");
}

#[test]
fn a_box_that_loses_power_after_any_effect_gets_its_bundle_in_parts() {
    let mut calm = world_of(vec![Persona::healthy()]);
    calm.send_in_parts();
    let before = calm.figures().effects;
    calm.start_campaign(1, 2);
    calm.run_until_settled();
    let effects = calm.figures().effects - before;
    for cut in 0..effects {
        let mut world = world_of(vec![Persona::healthy()]);
        world.send_in_parts();
        world.start_campaign(1, 2);
        world.cut_power_after(&box_1(), cut);
        world.run_until_settled();
        assert_eq!(world.in_state(0, TargetState::Verified).len(), 1, "cut {cut}");
        assert_eq!((world.figures().power_cuts, world.parts_mailed()), (1, 6), "cut {cut}");
        world.check_end();
    }
}

#[test]
fn a_box_that_loses_power_after_any_effect_ends_verified() {
    // First count the effects of one undisturbed update, then cut after each of them.
    let healthy = Persona::healthy;
    for persona in [
        healthy(),
        Persona { fails: Some((Phase::Verify, 1)), ..healthy() },
        Persona { restarts: 1, deaf: 1, leases: 2, ..healthy() },
    ] {
        let mut calm = world_of(vec![persona.clone()]);
        let before = calm.figures().effects;
        calm.start_campaign(1, 2);
        calm.run_until_settled();
        let effects = calm.figures().effects - before;
        assert!(effects > 30);
        for cut in 0..effects {
            let mut world = world_of(vec![persona.clone()]);
            world.start_campaign(1, 2);
            world.cut_power_after(&box_1(), cut);
            world.run_until_settled();
            assert_eq!(world.figures().power_cuts, 1, "cut {cut}");
            assert_eq!(world.in_state(0, TargetState::Verified).len(), 1, "cut {cut}");
            assert!(world.has_version(&box_1(), 1), "cut {cut}");
            world.check_end();
        }
        println!("{effects} cuts, each ends verified");
    }
}

#[test]
fn a_box_that_loses_power_after_any_effect_of_a_change_of_keys_is_never_locked_out() {
    let mut calm = world_of(vec![Persona::healthy()]);
    let before = calm.figures().effects;
    calm.ask_for_keys();
    calm.run_for(DAY);
    let effects = calm.figures().effects - before;
    assert!(effects > 15 && calm.keys_are_settled(&box_1()) && calm.figures().key_changes == 1);
    for cut in 0..effects {
        let mut world = world_of(vec![Persona::healthy()]);
        world.ask_for_keys();
        world.cut_power_after(&box_1(), cut);
        world.run_for(DAY);
        assert!(world.keys_are_settled(&box_1()), "cut {cut}");
        assert_eq!((world.figures().key_changes, world.figures().power_cuts), (1, 1), "cut {cut}");
    }
    println!("{effects} cuts, each ends with the new keys");
}

/// Lets a box with devices live on for so many days, and everything be told.
fn told_after(days: u32, mut world: World) -> World {
    world.run_for(DAY * days);
    world.mend_post();
    world.let_devices_rest();
    world.run_until_devices_are_told(&BTreeSet::from([box_1()]));
    world.check_devices(&box_1());
    world
}

fn with_devices() -> World {
    world_of(vec![Persona { devices: 3, ..Persona::healthy() }])
}

#[test]
fn a_box_that_loses_power_after_any_effect_tells_each_fault_and_each_reading_once() {
    let calm = with_devices();
    let before = calm.figures().effects;
    let figures = told_after(10, calm).figures();
    let effects = figures.effects - before;
    assert!(effects > 100 && figures.faults > 3 && figures.readings > 50, "{figures:?}");
    // Each cut costs two weeks of looks; every fifth place is in every kind of step.
    for cut in (0..effects).step_by(5) {
        let mut world = with_devices();
        world.cut_power_after(&box_1(), cut);
        assert!(told_after(10, world).figures().power_cuts <= 1, "cut {cut}");
    }
    println!(
        "cuts in {effects} effects, each tells {} faults and {} readings",
        figures.faults, figures.readings
    );
}

#[test]
fn a_box_whose_disk_is_put_back_tells_all_that_it_still_has_in_another_chain() {
    // Before anything of it was sent, in the middle, and after most was.
    for (days, lacks) in [(1, 3), (4, 2), (4, 9), (12, 5), (12, 40)] {
        let mut world = with_devices();
        world.run_for(DAY * days);
        world.put_disk_back(&box_1(), lacks);
        let figures = told_after(4, world).figures();
        println!("put back by {lacks} after {days} days: {} readings", figures.readings);
    }
}

#[test]
fn a_box_whose_disk_is_put_back_while_no_answer_comes_finds_out_where_its_chain_forks() {
    for lacks in [30, 35, 40] {
        let mut world = with_devices();
        world.run_for(DAY);
        world.keep_orders_back(true);
        world.run_for(DAY * 5);
        // The manager has what was sent, and this disk does not know any more what that was.
        world.put_disk_back(&box_1(), lacks);
        let before = world.figures().readings;
        world.run_for(DAY * 5);
        assert_eq!(world.figures().readings, before, "{lacks}: what stands behind a fork is not kept");
        world.keep_orders_back(false);
        let after = told_after(2, world).figures().readings;
        assert!(after > before + 30, "{lacks}: {before}, {after}");
    }
}

#[test]
fn an_answer_from_before_a_disk_was_put_back_keeps_no_fault_from_the_manager() {
    // PROTOCOL 14.2: the numbers of fault reports are given out again, and old answers name them.
    for seed in 0..8 {
        let mut world = World::new(seed, vec![Persona { devices: 3, ..Persona::healthy() }], Habits::good());
        world.run_for(DAY);
        world.keep_orders_back(true);
        world.put_whole_disk_back_after(&box_1(), DAY * 12);
        // What is said now is lost.
        world.set_habits(Habits { drop: 1_000, ..Habits::good() });
        world.run_for(DAY * 12);
        world.keep_orders_back(false);
        world.run_for(DAY);
        let figures = told_after(1, world).figures();
        assert!(figures.faults > 3 && figures.put_back == 1, "{figures:?}");
    }
}

#[test]
fn a_post_office_that_loses_most_mails_keeps_no_fault_and_no_reading_from_the_manager() {
    let habits = Habits { drop: 600, duplicate: 200, delay: 500, damage: 100, ..Habits::good() };
    let boxes = vec![Persona { devices: 3, power_cuts: 20, put_back: 1, ..Persona::healthy() }; 4];
    let mut world = World::new(11, boxes, habits);
    world.run_for(DAY * 20);
    world.mend_post();
    world.let_devices_rest();
    let all = world.recovering();
    world.run_until_devices_are_told(&all);
    all.iter().for_each(|agent| world.check_devices(agent));
    let figures = world.figures();
    assert!(figures.faults > 20 && figures.readings > 200, "{figures:?}");
}

#[test]
fn a_box_that_was_away_while_its_keys_were_to_change_changes_them_when_it_is_back() {
    let mut world = world_of(vec![Persona::healthy(); 2]);
    world.set_line(&box_1(), Line::Down);
    world.ask_for_keys();
    world.run_for(DAY * 60);
    assert!(!world.keys_are_settled(&box_1()));
    world.set_line(&box_1(), Line::Up);
    world.run_for(DAY * 8);
    assert!(world.keys_are_settled(&box_1()));
    world.start_campaign(1, 1);
    world.run_until_settled();
    assert_eq!(world.in_state(0, TargetState::Verified).len(), 2);
}

#[test]
fn a_silent_box_is_silent_and_a_dead_address_is_undeliverable() {
    let off = Persona { off: true, ..Persona::healthy() };
    let dead = Persona { dead_address: true, ..Persona::healthy() };
    let mut world = world_of(vec![Persona::healthy(), dead]);
    assert_eq!(world.enrolled_count(), 2);
    world.start_campaign(1, 1);
    world.run_until_settled();
    assert_eq!(world.in_state(0, TargetState::Verified).len(), 1);
    assert_eq!(world.in_state(0, TargetState::Undeliverable).len(), 1);
    // It asked to be enrolled when it was first switched on, and was never seen again.
    let mut world = world_of(vec![off]);
    assert_eq!(world.enrolled_count(), 1);
    world.start_campaign(1, 1);
    world.run_until_settled();
    assert_eq!(world.in_state(0, TargetState::Silent).len(), 1);
}

#[test]
fn only_the_failed_are_mailed_again() {
    let failing = Persona { fails: Some((Phase::Post, 1)), ..Persona::healthy() };
    let mut world = world_of(vec![Persona::healthy(), failing, Persona::healthy()]);
    world.start_campaign(1, 0);
    world.run_until_settled();
    assert_eq!((world.installs_mailed(), world.in_state(0, TargetState::Failed).len()), (3, 1));
    world.retry(0);
    world.run_until_settled();
    assert_eq!((world.installs_mailed(), world.in_state(0, TargetState::Verified).len()), (4, 3));
}

#[test]
fn not_now_is_no_failure() {
    let busy = Persona { not_now: 40, ..Persona::healthy() };
    let mut world = world_of(vec![busy]);
    world.start_campaign(1, 0);
    world.run_for(DAY);
    assert_eq!(world.in_state(0, TargetState::Deferred).len(), 1);
    world.run_until_settled();
    assert_eq!(world.in_state(0, TargetState::Verified).len(), 1);
}

#[test]
fn a_file_changed_by_hand_is_never_reported_as_the_version() {
    let edited = Persona { tampering: 1000, ..Persona::healthy() };
    let mut world = world_of(vec![edited]);
    world.start_campaign(1, 1);
    world.run_until_settled();
    assert_eq!(world.in_state(0, TargetState::Failed).len(), 1);
}

#[test]
fn replays_doubles_and_bounces_alone_cannot_keep_a_fleet_from_its_version() {
    let habits = Habits { duplicate: 500, attack: 1000, bounce: 300, out_of_office: 300, ..Habits::good() };
    let mut world = World::new(3, vec![Persona::healthy(); 5], habits);
    world.run_for(DAY);
    for n in 1..=3 {
        world.start_campaign(n, 2);
        world.run_until_settled();
    }
    world.run_for(DAY * 20);
    assert_eq!(world.in_state(2, TargetState::Verified).len(), 5);
    assert!((1..=5).all(|n| world.has_version(&AgentId::parse(&format!("A{n:04}")).unwrap(), 3)));
    world.check_end();
}

#[test]
fn a_box_that_is_alone_for_ninety_days_keeps_little_and_says_all_of_it_on_its_return() {
    let mut world = world_of(vec![Persona::healthy(); 2]);
    world.set_line(&box_1(), Line::Down);
    world.start_campaign(1, 1);
    world.run_for(DAY * 90);
    assert_eq!(world.in_state(0, TargetState::Verified).len(), 1, "the other box is not held up");
    assert_eq!(world.in_state(0, TargetState::Silent).len(), 1);
    let waiting = world.reports_waiting(&box_1());
    assert!((1..10).contains(&waiting), "{waiting} reports");
    // Heartbeats were missing for three months, and only the box knows.
    assert!(world.unheard().is_empty());
    world.set_line(&box_1(), Line::Up);
    world.run_for(Duration::from_secs(1800));
    assert_eq!(world.reports_waiting(&box_1()), 0);
    world.run_for(DAY * 8);
    assert!(world.unheard().is_empty(), "it hears the manager again");
    world.start_campaign(2, 1);
    world.run_until_settled();
    assert_eq!(world.in_state(1, TargetState::Verified).len(), 2);
    world.check_end();
}

#[test]
fn boxes_whose_mail_is_held_back_say_so_and_a_stolen_key_is_dropped_under_way() {
    let mut world = world_of(vec![Persona::healthy(); 3]);
    world.start_campaign(1, 1);
    world.change_order_key();
    world.run_until_settled();
    assert_eq!(world.in_state(0, TargetState::Verified).len(), 3);
    world.keep_orders_back(true);
    world.run_for(DAY * 30);
    assert_eq!(world.unheard().len(), 3, "reports pass, orders do not");
    world.keep_orders_back(false);
    world.run_for(DAY * 8);
    assert!(world.unheard().is_empty());
}

#[test]
fn an_agent_that_does_not_prove_itself_is_tried_again_and_its_order_only_after_three_times() {
    let flaky = Persona { fails: Some((Phase::Prove, 2)), ..Persona::healthy() };
    let broken = Persona { fails: Some((Phase::Prove, 3)), ..Persona::healthy() };
    let mut world = world_of(vec![Persona::healthy(), flaky, broken]);
    world.start_campaign(2, 0);
    world.run_until_settled();
    assert_eq!(world.in_state(0, TargetState::Verified).len(), 2);
    assert_eq!(world.in_state(0, TargetState::Failed).len(), 1);
    world.retry(0);
    world.run_until_settled();
    assert_eq!(world.in_state(0, TargetState::Verified).len(), 3);
    world.check_end();
}

#[test]
fn boxes_keep_to_the_nights_of_their_sites_and_ask_for_what_they_are_offered() {
    let busy = Persona { not_now: 8, ..Persona::healthy() };
    let asked = Persona { people: 1000, ..Persona::healthy() };
    for fetch in [false, true] {
        let mut world = world_of(vec![Persona::healthy(), busy.clone(), asked.clone()]);
        // The world begins at half past eleven in the morning, UTC.
        let times = Times { windows: true, fetch, ..Times::default() };
        world.start_campaign_at(1, 0, times);
        world.run_for(Duration::from_secs(10 * 3600));
        assert_eq!(world.figures().installs, 0, "it is not yet ten in the evening");
        world.run_until_settled();
        let verified = world.in_state(0, TargetState::Verified);
        assert!(verified.len() >= 2 && world.figures().in_time >= 2, "{verified:?}");
        // One mail each: nobody had to be sent the bundle twice.
        assert_eq!(world.installs_mailed(), 3);
        world.order_tests(1);
        world.run_for(DAY);
        assert_eq!(world.figures().tests, verified.len() as u64);
        world.check_end();
    }
}
