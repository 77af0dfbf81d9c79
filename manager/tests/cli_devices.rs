//! The commands about devices, on a manager to which two hand-made agents have reported: transcripts in
//! `fixtures/golden/devices`, queries, proofs that fail, and what a long report costs.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may panic")]
#![allow(clippy::arithmetic_side_effects, reason = "tests may overflow and fail")]

mod office;
mod transcript;

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use mailfleet::store::NewAgent;
use mailfleet::system::now;
use office::watcher::{Chain, T0, counter, counters, faults, jam, label, seen};
use office::{Box7, Office};
use shared::device::{Capacity, FaultClass, FaultKey, FaultKind, Firmware, Level, Part, Severity, Unit};
use shared::message::{Order, Report};
use shared::reading::{Anomaly, AnomalyKind, Reading, SignedReading};
use shared::{Digest, UnixMillis};

const HOUR_MS: i64 = 3_600_000;

/// A manager whose times in the transcript are those of the agents.
fn fleet() -> (Office, Vec<Box7>) {
    let office = Office::new();
    let mut agents: Vec<Box7> =
        [(1, "Tokyo"), (2, "Osaka, 2nd floor")].map(|(n, site)| invite(&office, n, site)).into();
    for agent in &mut agents {
        agent.report(&office, &agent.enrol_request([7; 32]));
    }
    office.pass();
    agents.iter().for_each(|agent| drop(agent.orders(&office)));
    (office, agents)
}

fn invite(office: &Office, n: usize, site: &str) -> Box7 {
    let agent = Box7::new(n, &office.spool());
    let new = NewAgent {
        id: agent.id.clone(),
        mail: agent.mail.clone(),
        classes: vec![],
        site: label(site),
        note: label(""),
        admin: None,
        terms: mailfleet::registry::Terms::default(),
        secret_digest: Digest::of(&[7; 32]),
        invite_expires: now().plus(Duration::from_secs(3600)),
    };
    assert!(office.store().write(|tx| tx.add_agent(&new, now())).unwrap());
    agent
}

fn tell_faults(office: &Office, agents: &mut [Box7]) {
    let mut cover = jam("mfp");
    cover.fault.key = FaultKey(label("cover"));
    (cover.fault.kind, cover.fault.class) = (FaultKind::Alarm, FaultClass::B);
    cover.fault.severity = Severity::Warning;
    (cover.fault.location, cover.fault.text) = (label("front"), label("Cover open"));
    cover.raised_at = UnixMillis(T0.0 + HOUR_MS);
    cover.cleared_at = Some(UnixMillis(T0.0 + 2 * HOUR_MS));
    let mut odd = jam("printer-9");
    odd.fault.class = FaultClass::D;
    odd.fault.text = label("=HYPERLINK(\"http://x\")");
    odd.fault.location = label("-1, \"left\"");
    (odd.model, odd.serial) = (None, Some(label("@S1")));
    office.says(&mut agents[0], &faults(1, vec![jam("mfp"), cover]));
    office.says(&mut agents[1], &faults(1, vec![odd]));
}

/// A chain with a gap, an anomaly, and a counter whose name a spreadsheet would run.
fn tell_counters(office: &Office, agents: &mut [Box7]) {
    // Trends are about today.
    let begun = now().minus(Duration::from_secs(10 * 86_400));
    let mut chain = Chain::new(&agents[1], 7);
    for n in 0..5i64 {
        let at = UnixMillis(begun.0 + n * 24 * HOUR_MS);
        let mut look = seen(at, 1_000 + n.unsigned_abs() * 10, 60 - 10 * u32::try_from(n).unwrap());
        look.counters.push(counter("+scans", "full", 5));
        look.identity.firmware = vec![Firmware { component: label("main"), version: label("1.07") }];
        let mut waste = look.supplies[0].clone();
        waste.key = label("1.5");
        (waste.text, waste.colour) = (label("Waste Toner"), None);
        (waste.level, waste.capacity) = (Level::SomeLeft, Capacity::Unknown);
        look.supplies.push(waste);
        let (name, key) = (label("Fuser Unit"), label("fuser"));
        look.parts =
            vec![Part { key, name, used: Some(40_000), life: Some(160_000), unit: Unit::Impressions }];
        chain.add(&agents[1], "mfp", look);
    }
    let mut odd = chain.readings[4].read().unwrap();
    odd.anomalies = vec![Anomaly {
        kind: AnomalyKind::Backwards,
        counter: label("pages colour=mono"),
        before: label("9999"),
    }];
    chain.readings[4] = SignedReading::sign(&odd, &agents[1].sign);
    office.says(&mut agents[1], &chain.report(0, [1, 2, 4, 5]));
    let mut tokyo = Chain::new(&agents[0], 3);
    tokyo.add(&agents[0], "mfp", seen(begun, 42, 0));
    office.says(&mut agents[0], &tokyo.report(0, 1..=1));
}

fn play(office: &Office, name: &str) {
    let dir = office.dir.path();
    let script = transcript::fixtures().join("golden/devices");
    transcript::play_at(&script, name, dir, &[("MAILFLEET_HOME", office.home.dir())]);
}

#[test]
fn what_a_service_desk_sees_is_as_in_its_transcript() {
    let (office, mut agents) = fleet();
    tell_faults(&office, &mut agents);
    tell_counters(&office, &mut agents);
    play(&office, "service-desk");
}

#[test]
fn what_a_billing_clerk_sees_is_as_in_its_transcript() {
    let (office, mut agents) = fleet();
    tell_counters(&office, &mut agents);
    let mut forged = Chain { agent: agents[1].id.clone(), ..Chain::new(&agents[0], 7) };
    forged.grow(&agents[0], 1);
    let report = counters(None, forged.mark(5), &forged.readings, false);
    office.says(&mut agents[1], &report);
    play(&office, "billing");
}

fn mailfleet(office: &Office, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mailfleet"))
        .args(args)
        .current_dir(office.dir.path())
        .env_clear()
        .env("MAILFLEET_HOME", office.home.dir())
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_query_waits_until_an_agent_has_sent_all_that_it_has() {
    let (office, mut agents) = fleet();
    let config = office.home.config_path();
    let settings = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("poll = \"100ms\"\n{settings}")).unwrap();
    let args = ["query", "counters", "--all", "--wait", "--reply-timeout", "60s"];
    let asking = std::thread::scope(|scope| {
        let asking = scope.spawn(|| mailfleet(&office, &args));
        let mut chain = Chain::new(&agents[0], 7);
        chain.grow(&agents[0], 6);
        let query = |agent: &Box7| loop {
            let orders = agent.orders(&office);
            if let Some((header, ..)) = orders.iter().find(|(_, order, _)| *order == Order::QueryCounters) {
                break header.id;
            }
            std::thread::yield_now();
        };
        let (first, second) = (query(&agents[0]), query(&agents[1]));
        agents[1].report(&office, &counters(Some(second), None, [], false));
        agents[0].report(&office, &counters(Some(first), None, &chain.readings[..4], true));
        let acknowledged = loop {
            if let Some((_, order, _)) = agents[0].orders(&office).pop() {
                break order;
            }
            std::thread::yield_now();
        };
        assert!(matches!(acknowledged, Order::Acknowledge(_)), "{acknowledged:?}");
        assert!(!asking.is_finished(), "the rest is still to come");
        agents[0].report(&office, &chain.report(4, 5..=6));
        asking.join().unwrap()
    });
    assert_eq!(asking.status.code(), Some(0), "{}", text(&asking));
    let text = text(&asking);
    assert!(text.contains("A0001  6 readings of 1 device\n"), "{text}");
    assert!(text.contains("A0002  none collected yet\n"), "{text}");
}

#[test]
fn a_query_that_nobody_answers_says_so() {
    let (office, _agents) = fleet();
    let asked = mailfleet(&office, &["query", "counters", "--agent", "A0001"]);
    assert!(
        text(&asked).contains("1 agent asked. The answers: mailfleet report counters"),
        "{}",
        text(&asked)
    );
    let args = ["query", "counters", "--agent", "A0001", "--wait", "--reply-timeout", "1s", "--json"];
    let waited = mailfleet(&office, &args);
    assert_eq!(waited.status.code(), Some(1), "{}", text(&waited));
    assert!(text(&waited).contains("\"text\": \"no answer\""), "{}", text(&waited));
}

/// Readings in a file, and what `report verify` says of it.
fn verified(office: &Office, signer: &Box7, readings: &[SignedReading]) -> (Option<i32>, String) {
    let path: PathBuf = office.dir.path().join("file.readings");
    std::fs::write(&path, readings.iter().flat_map(SignedReading::framed).collect::<Vec<u8>>()).unwrap();
    let key = signer.sign.verifying_key().to_text();
    let output = mailfleet(office, &["report", "verify", path.to_str().unwrap(), "--key", &key]);
    (output.status.code(), text(&output))
}

#[test]
fn whoever_takes_a_reading_out_or_puts_one_in_is_found_out_with_the_file_alone() {
    let office = Office::new();
    let agent = Box7::new(1, &office.spool());
    let mut chain = Chain::new(&agent, 7);
    chain.grow(&agent, 6);
    let whole = chain.readings.clone();
    assert_eq!(verified(&office, &agent, &whole).0, Some(0));
    let without = |at: usize| [&whole[..at], &whole[at + 1..]].concat();
    assert_eq!(verified(&office, &agent, &without(2)).0, Some(1), "one was taken out");
    assert_eq!(
        verified(&office, &agent, &whole[2..]).0,
        Some(0),
        "an extract of a chain says that it is one"
    );
    assert!(verified(&office, &agent, &whole[2..]).1.contains("2 before it were not looked at"));
    let mut swapped = whole.clone();
    swapped.swap(2, 3);
    assert_eq!(verified(&office, &agent, &swapped).0, Some(1), "two were exchanged");
    let mut lower: Reading = whole[3].read().unwrap();
    lower.seen.counters[0].value = 1;
    let mut altered = whole.clone();
    altered[3] = SignedReading::from_parts(minicbor::to_vec(&lower).unwrap(), *whole[3].signature());
    assert!(verified(&office, &agent, &altered).1.contains("no key of the agent has signed it"));
    // Even with the agent's key: the reading after it names another one.
    altered[3] = SignedReading::sign(&lower, &agent.sign);
    let (code, text) = verified(&office, &agent, &altered);
    assert_eq!(code, Some(1));
    assert!(text.contains("chain 7 reading 5 does not follow from the one before"), "{text}");
}

#[test]
fn a_chain_that_was_begun_anew_is_shown_in_csv_and_in_the_proof() {
    // PROTOCOL 14.10
    let (office, mut agents) = fleet();
    let (mut first, mut second) = (Chain::new(&agents[0], 900), Chain::new(&agents[0], 3));
    first.grow(&agents[0], 2);
    second.add(&agents[0], "mfp", seen(UnixMillis(T0.0 + 9 * HOUR_MS), 1_009, 50));
    office.says(&mut agents[0], &first.report(0, 1..=2));
    office.says(&mut agents[0], &second.report(0, 1..=1));
    let anew = format!("chain begun anew at {}", UnixMillis(T0.0 + 9 * HOUR_MS));
    let csv = text(&mailfleet(&office, &["report", "counters"]));
    let marked: Vec<&str> = csv.lines().filter(|line| line.contains("chain beg")).collect();
    assert!(marked[0].ends_with(",chain begins,900,1"), "{csv}");
    assert!(marked[1].ends_with(&format!(",{anew},3,1")), "{csv}");
    let proof = mailfleet(&office, &["report", "verify"]);
    assert_eq!(proof.status.code(), Some(0), "{}", text(&proof));
    assert!(text(&proof).contains(&format!("note       A0001 {anew}: chain 3 begins")), "{}", text(&proof));
    assert!(text(&proof).contains("3 proved, 0 missing, 0 not proved; 2 chains of 1 agent"));
    // With the file alone it shows as well.
    let both = [first.readings, second.readings].concat();
    let (code, said) = verified(&office, &agents[0], &both);
    assert_eq!(code, Some(0));
    assert!(said.contains(&anew), "{said}");
}

#[test]
fn a_reading_that_was_altered_in_the_store_is_found_out() {
    let (office, mut agents) = fleet();
    let mut chain = Chain::new(&agents[0], 7);
    chain.grow(&agents[0], 3);
    office.says(&mut agents[0], &chain.report(0, 1..=3));
    assert_eq!(mailfleet(&office, &["report", "verify"]).status.code(), Some(0));
    // Somebody with the database exchanges the report that holds them, and its readings' digests stay.
    let mut lower = chain.readings[1].read().unwrap();
    lower.seen.counters[0].value = 1;
    chain.readings[1] = SignedReading::sign(&lower, &agents[1].sign);
    let Report::Counters(_) = chain.report(0, 1..=3) else { panic!() };
    let message = shared::message::encode(&chain.report(0, 1..=3));
    let conn = rusqlite::Connection::open(office.home.store_path()).unwrap();
    let changed =
        conn.execute("UPDATE reports SET message = ?1 WHERE length(message) > 200", [message]).unwrap();
    assert_eq!(changed, 1);
    let output = mailfleet(&office, &["report", "verify"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output).contains("A0001 chain 7 reading 2: no key of the agent has signed it"),
        "{}",
        text(&output)
    );
}

/// Readings of an MFP that counts everything: 600 counters each.
fn large_chain(agent: &Box7, count: u64) -> Chain {
    let mut chain = Chain::new(agent, 7);
    for n in 0..count {
        let at = UnixMillis(T0.0 + i64::try_from(n).unwrap() * HOUR_MS);
        let mut look = seen(at, n, 50);
        look.counters = (0..600).map(|at| counter(&format!("pages-{at}"), "mono", n * 1_000 + at)).collect();
        chain.add(agent, "mfp", look);
    }
    chain
}

#[test]
fn a_report_of_many_large_readings_needs_little_memory() {
    let count = 1_200;
    let (office, mut agents) = fleet();
    let chain = large_chain(&agents[0], count);
    let mut after = 0;
    for part in chain.readings.chunks(400) {
        let report = counters(None, chain.mark(after), part, false);
        agents[0].report(&office, &report);
        after += part.len() as u64;
    }
    let began = std::time::Instant::now();
    office.pass();
    println!("{count} readings of 600 counters taken in within {:?}", began.elapsed());
    // The file is larger than what the program may have.
    let script = "ulimit -v 60000; exec \"$0\" report counters -o counters.csv";
    let began = std::time::Instant::now();
    let output = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_mailfleet")])
        .current_dir(office.dir.path())
        .env("MAILFLEET_HOME", office.home.dir())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let size = std::fs::metadata(office.dir.path().join("counters.csv")).unwrap().len();
    println!("{} written in {:?}", size, began.elapsed());
    assert!(size > count * 600 * 80, "{size}");
    let verify = mailfleet(&office, &["report", "verify"]);
    assert_eq!(verify.status.code(), Some(0), "{}", text(&verify));
}
