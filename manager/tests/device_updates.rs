//! Firmware of devices, on a real daemon with hand-made agents: who gets which plan when, what their reports change, and what an
//! operator's commands say.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may panic")]
#![allow(clippy::arithmetic_side_effects, reason = "tests may overflow and fail")]

mod office;
mod transcript;

use std::process::{Command, Output};
use std::time::Duration;

use mailfleet::store::UpdateRecord;
use mailfleet::system::now;
use manager_core::CampaignId;
use manager_core::updates::DeviceTerms;
use office::watcher::{Chain, label, seen};
use office::{Box7, Office, goal, versions};
use shared::device::{DeviceName, Firmware};
use shared::message::{
    DeviceAction, DevicePlan, DeviceUpdate, DeviceUpdates, Ended, Order, Outcome, Report, Rest, UpdateReason,
    UpdateState,
};
use shared::{EnvelopeId, UnixMillis};

fn name(device: &str) -> DeviceName {
    DeviceName::parse(device).unwrap()
}

fn row(device: &str, state: UpdateState, reason: Option<UpdateReason>, transfers: u32) -> DeviceUpdate {
    DeviceUpdate {
        device: name(device),
        kind: label("main"),
        vendor: Some(label("RICOH")),
        model: Some(label("MP C3004")),
        serial: Some(label("=E153M1")),
        old: Some(label("1.0")),
        new: Some(label("2.0")),
        state,
        reason,
        about: None,
        begins: Some(UnixMillis(1_795_000_000_000)),
        ends: Some(UnixMillis(1_795_000_900_000)),
        sent_bytes: 2_000_000 * u64::from(transfers.min(1)),
        bytes: 2_000_000,
        rate: (transfers > 0).then_some(400_000),
        transfers,
        since: UnixMillis(1_795_000_900_000),
    }
}

/// A campaign whose bundle has firmware.
struct Fleet {
    office: Office,
    agents: Vec<Box7>,
    id: CampaignId,
}

impl Fleet {
    fn new(count: usize) -> Self {
        let office = Office::new();
        let agents = office.enrolled(count);
        let id = office.campaign(&agents, 3_000);
        let terms = DeviceTerms { rest: Rest::Run, step_ms: 1_800_000, at_once: 1 };
        office.store().write(|tx| tx.add_device_terms(id, &terms)).unwrap();
        Self { office, agents, id }
    }

    /// The orders that an agent gets in the next pass.
    fn orders(&self, n: usize) -> Vec<(EnvelopeId, Order)> {
        self.office.pass();
        let orders = self.agents[n].orders(&self.office);
        orders.into_iter().map(|(header, order, _)| (header.id, order)).collect()
    }

    /// The plans that an agent gets in the next pass.
    fn plans(&self, n: usize) -> Vec<(EnvelopeId, DevicePlan)> {
        let orders = self.orders(n).into_iter();
        orders
            .filter_map(|(id, order)| match order {
                Order::DevicePlan(plan) => Some((id, plan)),
                _ => None,
            })
            .collect()
    }

    fn plan(&self, n: usize) -> (EnvelopeId, DevicePlan) {
        let mut plans = self.plans(n);
        assert_eq!(plans.len(), 1, "{plans:?}");
        plans.remove(0)
    }

    fn says(&mut self, n: usize, plan: EnvelopeId, all: bool, updates: Vec<DeviceUpdate>) {
        let bundle = self.bundle();
        let report = Report::DeviceUpdates(DeviceUpdates { plan, bundle, all, updates });
        let agent = &mut self.agents[n];
        agent.report(&self.office, &report);
    }

    fn bundle(&self) -> shared::Digest {
        self.office.store().read(|tx| tx.campaign(self.id)).unwrap().unwrap().bundle.digest
    }

    fn heard(&self, n: usize) -> Vec<(String, UpdateState)> {
        let rows: Vec<UpdateRecord> =
            self.office.store().read(|tx| tx.device_updates(self.id, &self.agents[n].id)).unwrap();
        rows.into_iter().map(|row| (row.update.device.to_string(), row.update.state)).collect()
    }

    fn run(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_mailfleet"))
            .args(args)
            .current_dir(self.office.dir.path())
            .env_clear()
            .env("MAILFLEET_HOME", self.office.home.dir())
            .output()
            .unwrap()
    }

    fn says_ok(&self, args: &[&str]) -> String {
        let out = self.run(args);
        let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{args:?}: {text}");
        text
    }
}

#[test]
fn a_plan_goes_out_beside_the_install_order_and_once() {
    let fleet = Fleet::new(2);
    let orders = fleet.orders(0);
    let count = |is: fn(&Order) -> bool| orders.iter().filter(|(_, order)| is(order)).count();
    assert_eq!(count(|order| matches!(order, Order::Install(_))), 1, "{orders:?}");
    assert_eq!(count(|order| matches!(order, Order::DevicePlan(_))), 1, "{orders:?}");
    let (_, plan) = fleet.plan(1);
    assert_eq!((plan.bundle, plan.rest, plan.at_once), (fleet.bundle(), Rest::Run, 1));
    let left = plan.until.since(now());
    assert!(left > Duration::from_secs(23 * 3_600) && left <= Duration::from_secs(24 * 3_600), "{left:?}");
    assert!(fleet.plans(0).is_empty(), "nothing has changed");
}

#[test]
fn a_campaign_without_firmware_plans_nothing_for_devices() {
    let office = Office::new();
    let agents = office.enrolled(1);
    office.campaign(&agents, 3_000);
    office.pass();
    let orders = agents[0].orders(&office);
    assert!(orders.iter().all(|(_, order, _)| matches!(order, Order::Install(_))));
}

// PROTOCOL 18.14
#[test]
fn an_agent_speaks_only_of_plans_that_it_was_sent_and_a_copy_changes_nothing() {
    let mut fleet = Fleet::new(2);
    let (plan, _) = fleet.plan(0);
    fleet.says(1, EnvelopeId([7; 16]), true, vec![row("mfp", UpdateState::Done, None, 1)]);
    fleet.office.pass();
    assert!(fleet.heard(1).is_empty());
    assert!(fleet.office.log().contains("a plan for devices that it was not sent"));

    let report = Report::DeviceUpdates(DeviceUpdates {
        plan,
        bundle: fleet.bundle(),
        all: true,
        updates: vec![row("mfp", UpdateState::Queued, Some(UpdateReason::NotYet), 0)],
    });
    let (envelope, bytes) = fleet.agents[0].sealed(&fleet.office, &report);
    fleet.agents[0].post(&fleet.office, envelope, bytes.clone());
    fleet.office.pass();
    fleet.says(0, plan, false, vec![row("mfp", UpdateState::Done, None, 1)]);
    fleet.office.pass();
    // The first once more: it is known, and it would be overtaken.
    fleet.agents[0].post(&fleet.office, envelope, bytes);
    fleet.office.pass();
    assert_eq!(fleet.heard(0), [("mfp".to_owned(), UpdateState::Done)]);
    assert!(fleet.heard(1).is_empty(), "of its own devices alone");

    let other = Report::DeviceUpdates(DeviceUpdates {
        plan,
        bundle: shared::Digest([3; 32]),
        all: true,
        updates: vec![],
    });
    fleet.agents[0].report(&fleet.office, &other);
    fleet.office.pass();
    assert_eq!(fleet.heard(0).len(), 1, "of that plan's bundle alone");
}

#[test]
fn what_is_known_of_devices_decides_nothing_of_their_agent() {
    let mut fleet = Fleet::new(1);
    let mut orders = fleet.orders(0);
    let order = orders.iter().find(|(_, order)| matches!(order, Order::Install(_))).unwrap().0;
    let plan = orders.iter().find(|(_, order)| matches!(order, Order::DevicePlan(_))).unwrap().0;
    fleet.says(0, plan, true, vec![row("mfp", UpdateState::Unknown, Some(UpdateReason::NotBack), 1)]);
    let ended =
        Report::Ended(Ended { order, outcome: Outcome::Installed, output: None, versions: versions(goal()) });
    fleet.agents[0].report(&fleet.office, &ended);
    orders.extend(fleet.orders(0));
    orders.extend(fleet.orders(0));
    let query = orders.iter().rfind(|(_, order)| *order == Order::QueryVersions).map(|(id, _)| *id);
    assert!(query.is_some(), "{orders:?}");
    let answer = Report::Versions(shared::message::Versions { query, versions: versions(goal()) });
    fleet.agents[0].report(&fleet.office, &answer);
    fleet.office.pass();
    fleet.office.pass();
    let campaign = fleet.office.store().read(|tx| tx.campaign(fleet.id)).unwrap().unwrap();
    assert_eq!(campaign.state, manager_core::CampaignState::Finished);
    assert!(fleet.office.log().contains("mfp, main 1.0 to 2.0: unknown, the device did not come back"));

    // It is over for the agents, and what is to become of the printer is mailed all the same.
    let said = fleet.says_ok(&["campaign", "permit", "1", "--device", "A0001/mfp"]);
    assert!(said.contains("A0001/mfp permitted one more transfer"), "{said}");
    let (_, plan) = fleet.plan(0);
    assert_eq!(plan.choice(&name("mfp")).unwrap().transfers_allowed, 2);
}

// PROTOCOL 18.15
#[test]
fn a_word_on_a_device_moves_no_time_and_goes_to_its_agent_alone() {
    let mut fleet = Fleet::new(2);
    let (order, first) = fleet.plan(0);
    fleet.plan(1);
    fleet.says(0, order, true, vec![row("mfp", UpdateState::Queued, None, 0)]);
    fleet.office.pass();
    fleet.says_ok(&["campaign", "suspend", "1", "--device", "A0001/mfp"]);
    let (_, mut plan) = fleet.plan(0);
    assert_eq!(plan.choice(&name("mfp")).unwrap().action, DeviceAction::Suspend);
    plan.devices.clear();
    assert_eq!(plan, first, "all else is as it was");
    assert!(fleet.plans(1).is_empty());
    let said = fleet.says_ok(&["campaign", "suspend", "1", "--device", "A0001/mfp"]);
    assert!(said.contains("Nothing to do"), "{said}");
    assert!(fleet.plans(0).is_empty(), "it was said before");
    fleet.says_ok(&["campaign", "resume", "1", "--device", "A0001/mfp"]);
    assert_eq!(fleet.plan(0).1.choice(&name("mfp")).unwrap().action, DeviceAction::Run);
}

#[test]
fn a_halt_suspends_devices_and_a_resume_frees_them_and_a_cancellation_ends_them() {
    let mut fleet = Fleet::new(1);
    let (order, first) = fleet.plan(0);
    fleet.says(0, order, true, vec![row("mfp", UpdateState::Queued, None, 0)]);
    fleet.office.pass();
    let action = |plan: &DevicePlan| plan.choice(&name("mfp")).map(|choice| choice.action);
    fleet.says_ok(&["campaign", "pause", "1"]);
    assert!(fleet.plans(0).is_empty(), "a pause is about mails");
    fleet.says_ok(&["campaign", "halt", "1"]);
    let (_, halted) = fleet.plan(0);
    assert_eq!((action(&halted), halted.rest), (Some(DeviceAction::Suspend), Rest::Leave));
    fleet.says_ok(&["campaign", "resume", "1"]);
    assert_eq!(fleet.plan(0).1, first);
    fleet.says_ok(&["campaign", "cancel", "1"]);
    assert_eq!(action(&fleet.plan(0).1), Some(DeviceAction::Cancel));
}

#[test]
fn a_new_box_of_an_agent_is_believed_though_it_counts_its_reports_anew() {
    let mut fleet = Fleet::new(1);
    let (order, _) = fleet.plan(0);
    fleet.agents[0].sequence = 100;
    fleet.says(0, order, true, vec![row("mfp", UpdateState::Done, None, 1)]);
    assert!(fleet.plans(0).is_empty());
    fleet.agents[0].use_keys(77);
    fleet.agents[0].sequence = 0;
    fleet
        .office
        .store()
        .write(|tx| {
            let agent = tx.agent(&fleet.agents[0].id)?.unwrap();
            let expires = now().plus(Duration::from_secs(3_600));
            tx.renew_invitation(&agent.id, shared::Digest::of(&[8; 32]), expires)
        })
        .unwrap();
    let request = fleet.agents[0].enrol_request([8; 32]);
    fleet.agents[0].report(&fleet.office, &request);
    fleet.office.pass();
    // Its next install order brings the plan, which the box before it had answered.
    let (id, agent) = (fleet.id, fleet.agents[0].id.clone());
    fleet.office.store().write(|tx| tx.plan_is_due(id, &agent, now())).unwrap();
    let (order, _) = fleet.plan(0);
    fleet.says(0, order, true, vec![row("other", UpdateState::Queued, None, 0)]);
    fleet.office.pass();
    assert_eq!(fleet.heard(0), [("other".to_owned(), UpdateState::Queued)]);
}

#[test]
fn what_an_operator_sees_of_devices_is_as_in_its_transcript() {
    let mut fleet = Fleet::new(2);
    let orders: Vec<EnvelopeId> = (0..2).map(|n| fleet.plan(n).0).collect();
    let mut busy = row("mfp-2", UpdateState::Deferred, Some(UpdateReason::DeviceBusy), 0);
    busy.about = Some(label("printing\u{1b}[2J"));
    let mut closed = row("scanner", UpdateState::NotRegistered, Some(UpdateReason::NotAllowed), 0);
    (closed.kind, closed.old, closed.new, closed.begins, closed.ends) = (label(""), None, None, None, None);
    fleet.says(0, orders[0], true, vec![row("mfp", UpdateState::Done, None, 1), busy, closed]);
    let mut lost = row("mfp", UpdateState::Unknown, Some(UpdateReason::StillOld), 1);
    lost.sent_bytes = 2_000_000;
    fleet.says(1, orders[1], true, vec![lost]);
    fleet.office.pass();
    let mut chain = Chain::new(&fleet.agents[0], 7);
    for (device, version) in [("mfp", "2.0"), ("mfp-2", "1.0"), ("old", "0.9")] {
        let mut look = seen(now(), 1, 50);
        look.identity.firmware = vec![Firmware { component: label("main"), version: label(version) }];
        chain.add(&fleet.agents[0], device, look);
    }
    let readings = chain.report(0, 1..=3);
    let office = &fleet.office;
    office.says(&mut fleet.agents[0], &readings);
    let script = transcript::fixtures().join("golden/devices");
    transcript::play_at(&script, "firmware", office.dir.path(), &[("MAILFLEET_HOME", office.home.dir())]);
}
