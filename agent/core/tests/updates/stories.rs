//! Whatever devices, people, the manager and the power do: no device gets two transfers at once or another one without a proof, and what is said
//! of it in the end is true. The site asserts the first with each transfer (`site::push`).

use agent_core::{DeviceWant, Readiness};
use proptest::prelude::*;
use shared::message::{DeviceAction, DeviceChoice, Order, UpdateState};

use crate::site::{Fate, MINUTE, Site, device, label, minute};

#[derive(Clone, Debug)]
enum Happens {
    Busy(usize, bool),
    Silent(usize, bool),
    PutOff(usize, i64),
    Cancel(usize),
    Plan(usize, DeviceAction, u32),
    Stop,
    StopAfter(u32),
    Holds(usize),
    Pass(i64),
}

const NAMES: [&str; 4] = ["a", "b", "two-c", "d"];

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Takes),
        1 => Just(Fate::KeepsOld),
        1 => Just(Fate::Dies),
        1 => Just(Fate::Other),
        2 => Just(Fate::NotBegun),
        2 => Just(Fate::CutShort),
        1 => Just(Fate::UnclearTaken),
        1 => Just(Fate::UnclearNot),
        1 => Just(Fate::Refuses),
    ]
}

fn happens() -> impl Strategy<Value = Happens> {
    let one = 0..NAMES.len();
    let action = prop_oneof![
        3 => Just(DeviceAction::Run),
        1 => Just(DeviceAction::Suspend),
        1 => Just(DeviceAction::Cancel)
    ];
    prop_oneof![
        (one.clone(), any::<bool>()).prop_map(|(n, busy)| Happens::Busy(n, busy)),
        (one.clone(), any::<bool>()).prop_map(|(n, silent)| Happens::Silent(n, silent)),
        (one.clone(), 0i64..200).prop_map(|(n, minutes)| Happens::PutOff(n, minutes)),
        one.clone().prop_map(Happens::Cancel),
        (one.clone(), action, 1u32..4).prop_map(|(n, action, allowed)| Happens::Plan(n, action, allowed)),
        Just(Happens::Stop),
        (0u32..12).prop_map(Happens::StopAfter),
        one.prop_map(Happens::Holds),
        (1i64..90).prop_map(Happens::Pass),
        (1i64..90).prop_map(Happens::Pass),
    ]
}

fn happen(site: &mut Site, plan: &mut shared::message::DevicePlan, what: &Happens) {
    let of = |n: &usize| device(NAMES[*n]);
    match what {
        Happens::Busy(n, busy) => site.devices.get_mut(&of(n)).unwrap().busy = *busy,
        Happens::Silent(n, silent) => site.devices.get_mut(&of(n)).unwrap().silent = *silent,
        Happens::PutOff(n, minutes) => {
            let until = site.now.plus(MINUTE * u32::try_from(*minutes).unwrap());
            site.wish(NAMES[*n], DeviceWant::PutOff(until));
        }
        Happens::Cancel(n) => site.wish(NAMES[*n], DeviceWant::Cancel),
        Happens::Plan(n, action, transfers_allowed) => {
            let choice =
                DeviceChoice { action: *action, not_before: None, transfers_allowed: *transfers_allowed };
            plan.devices.insert(of(n), choice);
            site.order(Order::DevicePlan(plan.clone()));
        }
        Happens::Stop => site.start(),
        Happens::StopAfter(effects) => site.cut_after = Some(*effects),
        Happens::Holds(n) => {
            let answers = &mut site.devices.get_mut(&of(n)).unwrap().answers;
            answers.push_back(Readiness::Deferred(20 * MINUTE));
            answers.push_back(Readiness::NotNow(label("printing"), None));
        }
        Happens::Pass(minutes) => {
            let end = site.now.plus(MINUTE * u32::try_from(*minutes).unwrap());
            site.run_until(end);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn every_update_ends_in_a_state_that_is_true(
        fates in prop::collection::vec(prop::collection::vec(fate(), 0..4), NAMES.len()),
        story in prop::collection::vec(happens(), 1..14),
        at_once in 0u16..4,
        repeatable in any::<bool>(),
    ) {
        let mut site = Site::with(&NAMES, repeatable);
        for (name, fates) in NAMES.iter().zip(&fates) {
            site.fates(name, fates);
        }
        let mut plan = site.plan();
        plan.at_once = at_once;
        plan.defer_until = Some(minute(20 * 60));
        site.order(Order::DevicePlan(plan.clone()));
        for what in &story {
            happen(&mut site, &mut plan, what);
        }
        site.cut_after = None;
        site.devices.values_mut().for_each(|truly| (truly.busy, truly.silent) = (false, false));
        site.run_until(minute(26 * 60));
        for update in &site.core.state().updates.list {
            let truly = &site.devices[&update.device];
            let state = update.stage.state();
            prop_assert!(state.is_end(), "{} {state} after the plan's end", update.device);
            let version = truly.versions.get(update.kind.as_str()).map(String::as_str);
            let new = version == Some("2");
            prop_assert!(!new || [UpdateState::Done, UpdateState::NotRegistered, UpdateState::Cancelled].contains(&state),
                "{} has it and is {state}", update.device);
            prop_assert!(state != UpdateState::Done || new, "{} is done and has {version:?}", update.device);
            let as_it_was = [UpdateState::Failed, UpdateState::Expired, UpdateState::Cancelled].contains(&state);
            let of_another = site.core.state().updates.list.iter();
            let of_another = of_another.filter(|other| other.device == update.device && other.kind != update.kind);
            let lost = truly.dead && !of_another.clone().any(|other| other.stage.state() == UpdateState::Unknown);
            let old = update.old.as_ref().map(shared::Label::as_str);
            prop_assert!(!as_it_was || (version == old && !lost), "{} {state}: {version:?}", update.device);
            let told = site.told()[&(update.device.to_string(), update.kind.to_string())];
            prop_assert_eq!(told.0, state, "the manager was told another thing of {}", &update.device);
        }
    }
}
