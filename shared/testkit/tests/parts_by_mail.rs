//! A bundle of 5 MB through mail servers that take mails of 1 MB, with all programs that ship: cut into parts, some of which get lost on
//! their way, asked for and mailed again, to all who lack them at once (PROTOCOL 17). Needs what `scripts/mail-lab` needs.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests may panic"
)]

use std::fs;
use std::path::Path;

use serde_json::Value;
use testkit::lab::MailLab;
use testkit::programs::{Programs, Running, wait_until};

const AGENTS: usize = 3;
const MAIL_MAX_BYTES: u64 = 1_000_000;
const BUNDLE_BYTES: usize = 5_000_000;
/// What the programs may hold in memory: a bundle more than what they need anyhow would show.
const PEAK_MAX_KIB: u64 = 40_000;

/// Text that does not compress away.
fn noise(bytes: usize) -> Vec<u8> {
    let mut seed = 1u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        u8::try_from(seed >> 56).unwrap()
    };
    (0..bytes).map(|_| next()).collect()
}

fn build(programs: &Programs) {
    let folder = programs.path("large");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("data"), noise(BUNDLE_BYTES)).unwrap();
    let toml = "software_version = \"1.0.02-0\"\n[[module]]\nname = \"maps\"\nversion = \"1\"\ndate = \"2026-01-01\"\n\
                file = \"data\"\npath = \"share/maps\"\nmode = \"0644\"\nkind = \"data\"\n";
    fs::write(folder.join("bundle.toml"), toml).unwrap();
    programs.manager(&["bundle", "build", "large", "-o", "large.mfb"]);
}

fn states(programs: &Programs) -> Vec<String> {
    let campaign: Value =
        serde_json::from_str(&programs.manager(&["campaign", "show", "1", "--json"])).unwrap();
    let targets = campaign["targets"].as_array().unwrap();
    targets.iter().map(|target| target["state"].as_str().unwrap().to_owned()).collect()
}

/// Mails with a part that Postfix has taken from the manager, each with its number of recipients.
fn part_mails(programs: &Programs) -> Vec<usize> {
    let log = fs::read_to_string(Path::new(programs.lab.var("LAB_LOG")).join("postfix.log")).unwrap();
    let of = |line: &str| {
        let rest = line.split_once("from=<manager@lab.test>, size=")?.1;
        let (size, rest) = rest.split_once(", nrcpt=")?;
        let count = rest.split_whitespace().next()?.parse().ok()?;
        (size.parse::<u64>().ok()? > 200_000).then_some(count)
    };
    log.lines().filter_map(of).collect()
}

/// The most memory that a program has had, in KiB.
fn peak_kib(running: &Running) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", running.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_bundle_larger_than_a_mail_reaches_all_agents_although_parts_get_lost() {
    let Some(lab) = MailLab::with_limit(AGENTS, &[], MAIL_MAX_BYTES) else { return };
    let programs = Programs::new(lab, "");
    let mut csv = "id,mail,class,site,note,admin\n".to_owned();
    for n in 1..=AGENTS {
        csv += &format!("A{n:04},agent{n:04}@lab.test,office-gateway,Lab,,\n");
    }
    programs.enrol(&csv, "ask_parts_after = \"3s\"\n");
    build(&programs);
    let manager = programs.manager_runs();
    let start = ["campaign", "start", "large.mfb", "--all", "--settle", "1s", "--reply-timeout", "50s"];
    programs.manager(&start);

    // The manager's relay says at once how much it takes: the way is narrower than what is set.
    let parts = 7;
    for n in 1..=AGENTS {
        drop(programs.mails(&format!("agent{n:04}"), parts));
    }
    assert_eq!(part_mails(&programs), vec![AGENTS; parts], "one mail for each part");
    // Each loses three parts of seven, two of them the same as the others.
    for (n, lost) in [(1, [1, 4, 6]), (2, [1, 4, 5]), (3, [0, 1, 4])] {
        let mut mails = programs.lab.mails(&format!("agent{n:04}"));
        mails.sort_by_key(|file| fs::metadata(file).unwrap().modified().unwrap());
        lost.iter().for_each(|place: &usize| fs::remove_file(&mails[*place]).unwrap());
    }
    let agents: Vec<Running> = (1..=AGENTS).map(|n| programs.agent_runs(n)).collect();
    wait_until("the rest is asked for", || {
        states(&programs).iter().any(|state| state == "deferred").then_some(())
    });
    let shown = programs.manager(&["campaign", "show", "1"]);
    assert!(shown.contains("parts are on their way"), "{shown}");
    wait_until("all are verified", || {
        states(&programs).iter().all(|state| state == "verified").then_some(())
    });
    for n in 1..=AGENTS {
        let installed = fs::read(programs.path(&format!("root/{n}/share/maps"))).unwrap();
        assert_eq!(installed, noise(BUNDLE_BYTES));
        assert_eq!(fs::read_dir(programs.path(&format!("agent/{n}/parts"))).unwrap().count(), 0);
    }
    let again = part_mails(&programs).split_off(parts);
    assert_eq!(again.iter().sum::<usize>(), 9, "what was lost, and nothing else: {again:?}");
    assert!(again.len() < 9, "what several lack goes out together: {again:?}");
    for running in agents.iter().chain([&manager]) {
        let peak = peak_kib(running);
        eprintln!("peak: {peak} KiB; parts mailed again: {again:?}");
        assert!(peak < PEAK_MAX_KIB, "{peak} KiB");
    }
}
