//! Several devices, several types, and who takes part at all.

use agent_core::State;
use shared::message::{DeviceChoice, Order, Rest, UpdateReason, UpdateState};

use crate::site::{Fate, MINUTE, Site, bundle, combination, device, minute};

fn begun(site: &Site, name: &str) -> Option<shared::UnixMillis> {
    site.devices[&device(name)].pushes.first().copied()
}

// PROTOCOL 18.6
#[test]
fn the_first_device_goes_alone_and_then_as_many_as_the_plan_says() {
    let mut site = Site::new(&["a", "b", "c", "d"]);
    let mut plan = site.plan();
    plan.at_once = 2;
    site.order(Order::DevicePlan(plan));
    site.run_until(minute(7));
    let others = ["b", "c", "d"].map(|name| (site.state(name), site.why(name)));
    assert_eq!(others, [(UpdateState::Queued, Some(UpdateReason::OthersFirst)); 3]);
    site.run_until(minute(12));
    assert!(begun(&site, "b").is_some() && begun(&site, "c").is_some() && begun(&site, "d").is_none());
    site.run_until(minute(90));
    assert!(["a", "b", "c", "d"].iter().all(|name| site.state(name) == UpdateState::Done));
}

#[test]
fn when_the_first_device_is_lost_no_other_follows_until_the_manager_has_decided() {
    let mut site = Site::new(&["a", "b"]);
    site.fates("a", &[Fate::Dies]);
    site.begin();
    site.run_until(minute(200));
    assert_eq!(site.state("a"), UpdateState::Unknown);
    assert_eq!((site.state("b"), site.pushes("b")), (UpdateState::Queued, 0));
    let mut plan = site.plan();
    let choice = DeviceChoice { action: shared::message::DeviceAction::Cancel, ..DeviceChoice::default() };
    plan.devices.insert(device("a"), choice);
    site.order(Order::DevicePlan(plan));
    site.run_until(minute(300));
    assert_eq!((site.state("a"), site.state("b")), (UpdateState::Unknown, UpdateState::Done));
}

// R3, PROTOCOL 18.6
#[test]
fn types_of_one_device_go_one_after_the_other() {
    let mut site = Site::new(&["two"]);
    site.begin();
    site.run_until(minute(120));
    let truly = &site.devices[&device("two")];
    assert_eq!(truly.pushes.len(), 2);
    assert!(
        truly.pushes[1].since(truly.pushes[0]) >= 8 * MINUTE,
        "the second waits until the device is back"
    );
    assert!(truly.versions.values().all(|version| version == "2"));
}

// R12, PROTOCOL 18.2, 18.12
#[test]
fn whoever_takes_no_part_is_named_with_the_reason() {
    let mut site = Site::new(&["a", "closed", "new", "old"]);
    site.devices.get_mut(&device("new")).unwrap().versions.insert("main".to_owned(), "2".to_owned());
    site.devices.get_mut(&device("old")).unwrap().versions.clear();
    site.open.retain(|name| name.as_str() != "closed");
    site.start();
    site.look();
    let mut plan = site.plan();
    plan.devices.insert(device("ghost"), DeviceChoice::default());
    site.order(Order::DevicePlan(plan));
    site.run_until(minute(3));
    let told = site.told();
    let of = |name: &str, kind: &str| told[&(name.to_owned(), kind.to_owned())];
    let not = |reason| (UpdateState::NotRegistered, Some(reason));
    assert_eq!(of("closed", ""), not(UpdateReason::NotAllowed));
    assert_eq!(of("new", "main"), not(UpdateReason::HasIt));
    assert_eq!(of("old", "main"), not(UpdateReason::NoVersion));
    assert_eq!(of("ghost", ""), not(UpdateReason::UnknownDevice));
    assert!(site.sent[0].all);
    site.run_until(minute(60));
    assert_eq!(["a", "closed", "new", "old"].map(|name| site.pushes(name)), [1, 0, 0, 0]);
}

#[test]
fn devices_that_a_plan_leaves_out_are_left_alone() {
    let mut site = Site::new(&["a", "b"]);
    let mut plan = site.plan();
    plan.rest = Rest::Leave;
    plan.devices.insert(device("b"), DeviceChoice::default());
    site.order(Order::DevicePlan(plan));
    site.run_until(minute(90));
    assert_eq!((site.pushes("a"), site.pushes("b")), (0, 1));
}

#[test]
fn a_plan_for_a_bundle_that_is_not_here_is_answered_and_kept() {
    let mut site = Site::new(&["a"]);
    site.bundle = 3;
    let mut plan = site.plan();
    plan.devices.insert(device("a"), DeviceChoice::default());
    site.order(Order::DevicePlan(plan));
    site.run_until(minute(5));
    assert_eq!(
        site.told()[&("a".to_owned(), String::new())],
        (UpdateState::NotRegistered, Some(UpdateReason::NoBundle))
    );
    install(&mut site, 3);
    site.run_until(minute(60));
    assert_eq!(
        (site.state("a"), site.devices[&device("a")].versions["main"].as_str()),
        (UpdateState::Done, "3")
    );
}

/// Another bundle is installed.
fn install(site: &mut Site, n: u8) {
    let mut state = State::decode(&site.saved).unwrap();
    state.installed = Some(combination(n, site.repeatable));
    site.saved = state.encode();
    site.bundle = n;
    site.start();
    site.look();
}

// PROTOCOL 18.11
#[test]
fn a_newer_bundle_replaces_what_has_not_begun_and_waits_for_what_has() {
    let mut site = Site::new(&["a", "b"]);
    site.begin();
    site.run_until(minute(3));
    assert_eq!(site.state("a"), UpdateState::Restarting);
    install(&mut site, 3);
    assert_eq!(site.core.state().updates.catalogue.as_ref().unwrap().bundle, bundle(2), "one is under way");
    site.run_until(minute(30));
    assert_eq!(site.devices[&device("a")].versions["main"], "2");
    assert_eq!(site.pushes("b"), 0, "without a plan for the newer bundle nothing begins");
    site.begin();
    site.run_until(minute(120));
    let now = |name: &str| site.devices[&device(name)].versions["main"].clone();
    assert_eq!((now("a"), now("b")), ("3".to_owned(), "3".to_owned()));
}

#[test]
fn what_became_of_a_device_stays_unknown_whatever_bundle_comes() {
    let mut site = Site::new(&["a"]);
    site.fates("a", &[Fate::KeepsOld]);
    site.begin();
    site.run_until(minute(60));
    assert_eq!(site.state("a"), UpdateState::Unknown);
    install(&mut site, 3);
    site.begin();
    site.run_until(minute(160));
    assert_eq!(
        (site.state("a"), site.pushes("a")),
        (UpdateState::Unknown, 1),
        "it waits for the manager's word"
    );
    site.permit("a", 2);
    site.run_until(minute(260));
    assert_eq!(
        (site.state("a"), site.devices[&device("a")].versions["main"].as_str()),
        (UpdateState::Done, "3")
    );
}
