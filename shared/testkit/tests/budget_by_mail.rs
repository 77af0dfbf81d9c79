//! A bundle over a line whose budget is smaller than it, with all programs that ship and real mail servers: announced, asked for day by
//! day, installed (PROTOCOL 17.12, 17.13). The bytes are counted by a line between. Needs what `scripts/mail-lab` needs.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests may panic"
)]

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use testkit::lab::MailLab;
use testkit::programs::{Programs, text, wait_until};
use testkit::relay::Relay;

const DAY_MS: i64 = 86_400_000;
const BUDGET: u64 = 1024 * 1024;
const BUNDLE_BYTES: usize = 1_600_000;

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
    let toml = "software_version = \"1.0.02-0\"\nsettle = \"1s\"\n[[module]]\nname = \"maps\"\nversion = \"1\"\ndate = \"2026-01-01\"\n\
                file = \"data\"\npath = \"share/maps\"\nmode = \"0644\"\nkind = \"data\"\n";
    fs::write(folder.join("bundle.toml"), toml).unwrap();
    programs.manager(&["bundle", "build", "large", "-o", "large.mfb"]);
}

fn json(programs: &Programs, args: &[&str]) -> Value {
    serde_json::from_str(&programs.manager(args)).unwrap()
}

fn target(programs: &Programs) -> Value {
    json(programs, &["campaign", "show", "1", "--json"])["targets"][0].clone()
}

fn status(programs: &Programs, ahead_ms: i64) -> Value {
    let out = programs.agent_at(1, ahead_ms, &["status", "--json"]);
    serde_json::from_slice(&out.stdout).unwrap_or_else(|err| panic!("{err}: {}", text(&out)))
}

/// Milliseconds until noon of tomorrow: no midnight comes in the middle of a day here.
fn until_noon() -> i64 {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    DAY_MS + DAY_MS / 2 - now.rem_euclid(DAY_MS)
}

#[test]
fn a_bundle_larger_than_a_day_s_budget_comes_in_days_and_each_byte_is_counted() {
    let Some(lab) = MailLab::new(1, &[]) else { return };
    let programs = Programs::new(lab, "");
    programs.enrol("id,mail,class,site,note,admin\nA0001,agent0001@lab.test,office-gateway,Lab,,\n", "");
    let lines = ["LAB_SUBMISSION_PORT", "LAB_IMAP_PORT"].map(|name| {
        let port = programs.lab.var(name);
        let line = Relay::to(port.parse().unwrap());
        let config = fs::read_to_string(programs.path("agent/1/agent.toml")).unwrap();
        let config = config.replace(&format!("localhost:{port}"), &format!("localhost:{}", line.port));
        fs::write(programs.path("agent/1/agent.toml"), config).unwrap();
        line
    });
    let carried = || lines.iter().map(Relay::carried).sum::<u64>();
    programs.wrap("agent/1/agent.toml", "", "\n[budget]\nday = \"1 MiB\"\n");
    build(&programs);
    let manager = programs.manager_runs();
    let noon = until_noon();
    wait_until("the manager knows of the budget", || {
        programs.agent_works_at(1, noon);
        let agent = json(&programs, &["agent", "show", "A0001", "--json"]);
        (agent["budget"]["day_bytes"] == BUDGET).then_some(())
    });
    let plan = json(&programs, &["campaign", "plan", "large.mfb", "--all", "--json"]);
    let seconds = plan["targets"][0]["transfer_seconds"].as_u64().unwrap();
    assert!((86_400..4 * 86_400).contains(&seconds), "{seconds}");

    programs.manager(&["campaign", "start", "--plan", "1"]);
    let (mut days, mut before, mut known) = (0, 0, 0);
    loop {
        let ahead = noon + days * DAY_MS;
        let verified = wait_until("the day's share has come", || {
            programs.agent_works_at(1, ahead);
            let waits = status(&programs, ahead)["arriving"][0]["waits_for"].is_string();
            let verified = target(&programs)["state"] == "verified";
            (waits || verified).then_some(verified)
        });
        let counted = status(&programs, ahead)["line"]["budget"]["day_used_bytes"].as_u64().unwrap();
        // What the server has said last may still be on its way through the line.
        let of_day = wait_until("what is counted is what was carried, within 1 %", || {
            let of_day = carried() - before;
            (counted.abs_diff(of_day) * 100 <= of_day).then_some(of_day)
        });
        eprintln!("day {days}: {counted} counted, {of_day} carried");
        assert!(of_day <= BUDGET + 64 * 1024, "{of_day} on a day");
        (before, days) = (before + of_day, days + 1);
        if verified {
            break;
        }
        let waiting = wait_until("the manager hears of it", || {
            let target = target(&programs);
            let reason = target["reason"].as_str().unwrap_or_default().to_owned();
            (target["state"] == "deferred" && reason.contains("budget of its line")).then_some(reason)
        });
        eprintln!("{waiting}");
        let here = status(&programs, ahead)["arriving"][0]["bytes_here"].as_u64().unwrap();
        assert!(here > known, "something has come on day {days}");
        known = here;
        assert!(days < 10, "it does not end");
    }
    assert!(days >= 3, "2.2 MB of mails do not fit two days of 1 MiB");
    assert_eq!(fs::read(programs.path("root/1/share/maps")).unwrap(), noise(BUNDLE_BYTES));
    let log =
        fs::read_to_string(std::path::Path::new(programs.lab.var("LAB_LOG")).join("postfix.log")).unwrap();
    let size = |line: &str| {
        let (size, _) = line.split_once("from=<manager@lab.test>, size=")?.1.split_once(',')?;
        size.parse::<u64>().ok()
    };
    let parts: Vec<u64> = log.lines().filter_map(size).filter(|bytes| *bytes > 60_000).collect();
    assert!(parts.iter().sum::<u64>() < 2_400_000, "each part once: {parts:?}");
    let agent = json(&programs, &["agent", "show", "A0001", "--json"]);
    assert!(agent["from_manager_bytes_per_second"].as_u64().unwrap() > 0, "{agent}");
    assert!(agent["to_devices_bytes_per_second"].is_null(), "nobody has measured that");
    drop(manager);
}
