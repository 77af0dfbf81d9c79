//! `kill -9` of the real daemon at any moment: nothing is lost, and no agent gets a second order.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may panic"
)]

mod office;

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use manager_core::TargetState;
use office::{Office, goal, versions};
use shared::EnvelopeId;
use shared::message::{Order, Report, Versions};

#[test]
fn a_daemon_that_is_killed_again_and_again_ends_its_campaign_with_one_order_per_agent() {
    let office = Office::new();
    let config = office.home.config_path();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}\npoll = \"5ms\"\nrecipients_per_mail = 3\n")).unwrap();
    let mut agents = office.enrolled(12);
    let id = office.campaign(&agents, 100_000);
    let mut installs: BTreeMap<usize, BTreeSet<EnvelopeId>> = BTreeMap::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut kills = 0u32;
    loop {
        let mut daemon = Command::new(env!("CARGO_BIN_EXE_mailfleet"))
            .args(["--home", office.home.dir().to_str().unwrap(), "run"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // A little longer each time, so that the kill falls on another moment of the daemon's work.
        std::thread::sleep(Duration::from_millis(u64::from(kills) * 7 % 150));
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        kills += 1;
        for (n, agent) in agents.iter_mut().enumerate() {
            for (header, order, _) in agent.orders(&office) {
                match order {
                    Order::Install(_) => drop(installs.entry(n).or_default().insert(header.id)),
                    Order::QueryVersions => {
                        let answer = Versions { query: Some(header.id), versions: versions(goal()) };
                        agent.report(&office, &Report::Versions(answer));
                    }
                    Order::Enrolled(_)
                    | Order::Cancel(_)
                    | Order::Heartbeat(_)
                    | Order::Rekey
                    | Order::Acknowledge(_)
                    | Order::QueryCounters
                    | Order::Schedule(_)
                    | Order::Test(_)
                    | Order::DevicePlan(_) => {}
                }
            }
        }
        let verified = agents.iter().filter(|a| office.target(id, a).0 == TargetState::Verified).count();
        if verified == agents.len() {
            break;
        }
        assert!(Instant::now() < deadline, "{verified} verified after {kills} kills");
    }
    println!("{kills} kills");
    assert!(kills > 3);
    assert!((0..12).all(|n| installs[&n].len() == 1), "{installs:?}");
    let orders: BTreeSet<_> = installs.values().flatten().collect();
    assert_eq!(orders.len(), 4, "twelve agents, three in a mail");
}
