//! Devices beside a box, with the real agent: what they say goes to the manager. The devices are programs of the driver
//! `exec` here; SNMP and IPP have tests of their own.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use common::{World, text, wait_until};
use mailio::mime::extract::Extractor;
use shared::MailAddress;
use shared::device::DeviceName;
use shared::envelope::{RawHead, open_body};
use shared::keys::OpeningKey;
use shared::message::{
    Acknowledge, CounterReport, FaultReport, Linked, Order, ReadingMark, Report, decode_report,
};
use shared::reading::{AnomalyKind, Reading, unpack};

/// Writes the list of devices: one program that prints a file.
fn beside(w: &World, names: &[&str]) {
    let list: String = names
        .iter()
        .map(|name| {
            let file = w.folder.path().join(name);
            format!(
                "[[device]]\nname = \"{name}\"\ndriver = \"exec\"\ncommand = [\"cat\", \"{}\"]\n",
                file.display()
            )
        })
        .collect();
    let path = w.home().join("devices.toml");
    fs::write(&path, list).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// What a device says from now on.
fn says(w: &World, name: &str, pages: u64, jam: bool) {
    let jam = if jam {
        r#"{"code": "8", "kind": "jam", "fault_class": "B", "severity": "critical", "location": "tray 2", "text": "Misfeed"}"#
    } else {
        ""
    };
    let said = format!(
        r#"{{"class": "mfp", "status": "idle",
            "identity": {{"vendor": "ACME", "model": "X1", "serial": "S-{name}", "host": null, "description": null}},
            "counters": [{{"name": "pages", "labels": {{"colour": "mono"}}, "value": {pages}, "unit": "impressions"}}],
            "faults": [{jam}]}}"#
    );
    // Whole or not at all: the agent may be reading.
    let path = w.folder.path().join(name);
    fs::write(path.with_added_extension("new"), said).unwrap();
    fs::rename(path.with_added_extension("new"), path).unwrap();
}

fn faults(w: &mut World) -> Vec<FaultReport> {
    w.collect();
    let of = |r: &Report| if let Report::Faults(f) = r { Some(f.clone()) } else { None };
    w.reports.iter().filter_map(of).collect()
}

fn counters(w: &mut World) -> Vec<CounterReport> {
    w.collect();
    let of = |r: &Report| if let Report::Counters(c) = r { Some(c.clone()) } else { None };
    w.reports.iter().filter_map(of).collect()
}

fn readings(report: &CounterReport) -> Vec<Reading> {
    unpack(&report.packed).unwrap().iter().map(|signed| signed.read().unwrap()).collect()
}

/// An enrolled agent that looks every second.
fn quick() -> World {
    let mut w = World::enrolled();
    w.set_config("look_for_faults = \"1s\"");
    w.set_config("poll = \"1s\"");
    w.query();
    assert_eq!(w.once(), 0);
    w
}

#[test]
fn a_jam_that_comes_and_goes_is_told_once_each_way() {
    let mut w = quick();
    beside(&w, &["mfp"]);
    says(&w, "mfp", 100, false);
    let mut agent = w.spawn(&["run"]);
    says(&w, "mfp", 100, true);
    wait_until("the jam is told", || !faults(&mut w).is_empty());
    let raised = faults(&mut w).remove(0);
    w.send(&Order::Acknowledge(Acknowledge {
        faults: vec![raised.number],
        readings: None,
        there: None,
        stamps: None,
    }));
    let change = &raised.changes[0];
    assert_eq!((change.device.as_str(), change.fault.text.as_str()), ("mfp", "Misfeed"));
    assert_eq!((change.model.as_ref().unwrap().as_str(), change.cleared_at), ("ACME X1", None));
    says(&w, "mfp", 101, false);
    // It has to stay away for most of a minute.
    wait_until("its end is told", || faults(&mut w).len() >= 2);
    agent.kill().unwrap();
    agent.wait().unwrap();
    let all = faults(&mut w);
    assert_eq!(all.len(), 2, "nothing else was told: {all:?}");
    assert!(all[1].changes[0].cleared_at.is_some());
    assert_eq!(all[1].changes[0].raised_at, change.raised_at);
}

#[test]
fn counters_are_kept_signed_and_sent_when_asked_for_until_they_are_acknowledged() {
    let mut w = quick();
    let none = w.send(&Order::QueryCounters);
    assert_eq!(w.once(), 0);
    let answer = counters(&mut w).remove(0);
    assert_eq!((answer.query, answer.upto), (Some(none), None), "none is collected yet");
    beside(&w, &["mfp", "ups"]);
    w.set_config("read_counters = \"1ms\"");
    for pages in [100, 110] {
        says(&w, "mfp", pages, false);
        says(&w, "ups", 7, false);
        assert_eq!(w.once(), 0);
    }
    for _ in 0..2 {
        w.send(&Order::QueryCounters);
    }
    assert_eq!(w.once(), 0);
    let answers = counters(&mut w).split_off(1);
    assert_eq!(answers.len(), 2);
    let all = readings(&answers[1]);
    let values: Vec<_> =
        all.iter().map(|r| (r.device.as_str(), r.seen.counters[0].value, r.mark.index)).collect();
    let now: Vec<_> = values.iter().filter(|v| v.0 == "mfp").map(|v| v.1).collect();
    assert_eq!(now, [100, 110, 110, 110][..now.len()], "each look of each run");
    assert!(values.windows(2).all(|pair| pair[1].2 == pair[0].2 + 1), "{values:?}");
    let upto = answers[1].upto.unwrap();
    w.send(&Order::Acknowledge(Acknowledge {
        faults: vec![],
        readings: Some(upto),
        there: None,
        stamps: None,
    }));
    w.send(&Order::QueryCounters);
    assert_eq!(w.once(), 0);
    let last = counters(&mut w).pop().unwrap();
    assert_eq!(last.after, Some(upto));
    assert!(readings(&last).iter().all(|r| r.mark.index > upto.index), "what it has is not sent again");
}

#[test]
fn a_counter_that_falls_is_marked_and_never_smoothed() {
    let mut w = quick();
    beside(&w, &["mfp"]);
    w.set_config("read_counters = \"1ms\"");
    for pages in [5_000, 40, 40] {
        says(&w, "mfp", pages, false);
        assert_eq!(w.once(), 0);
    }
    w.send(&Order::QueryCounters);
    assert_eq!(w.once(), 0);
    let all = readings(&counters(&mut w).pop().unwrap());
    let fell = all.iter().find(|r| !r.anomalies.is_empty()).expect("a marked reading");
    assert_eq!(fell.anomalies[0].kind, AnomalyKind::Backwards);
    assert_eq!((fell.anomalies[0].before.as_str(), fell.seen.counters[0].value), ("5000", 40));
}

#[test]
fn a_list_of_devices_with_a_slip_of_the_pen_keeps_no_box_from_its_mail() {
    let mut w = quick();
    let path = w.home().join("devices.toml");
    fs::write(&path, "[[device]]\nname = \"mfp\"\ndriver = \"snpm\"\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let query = w.query();
    assert_eq!(w.once(), 0);
    assert_eq!(w.answers(query).len(), 1);
    let out = w.agent(&["devices", "poll"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out).contains("line 3"), "{}", text(&out));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(text(&w.agent(&["devices"])).contains("chmod 600"));
}

#[test]
fn a_profile_with_a_slip_of_the_pen_is_named_and_keeps_no_device_from_being_heard() {
    let w = quick();
    beside(&w, &["mfp"]);
    says(&w, "mfp", 100, true);
    let folder = w.home().join("profiles");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("mine.toml"), "[match]\nobject_ids = [\"1.3.6.1.4.1.99999\"]\n[counters]\n")
        .unwrap();
    assert_eq!(w.once(), 0);
    assert!(w.status().contains("mfp: class B, jam: Misfeed"), "{}", w.status());
    let out = w.agent(&["devices", "poll"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out).contains("mine.toml") && text(&out).contains("line 3"), "{}", text(&out));
}

#[test]
fn a_person_sees_what_the_devices_say_and_which_do_not_answer() {
    let w = quick();
    beside(&w, &["mfp", "ups"]);
    says(&w, "mfp", 100, true);
    let out = w.agent(&["devices", "poll", "--json"]);
    assert_eq!(out.status.code(), Some(1), "one of them does not answer");
    let document: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let mfp = &document["devices"][0];
    assert_eq!((mfp["device"].as_str(), mfp["counters"][0]["value"].as_u64()), (Some("mfp"), Some(100)));
    assert_eq!(mfp["faults"][0]["fault_class"], "B");
    assert_eq!(document["failed"][0]["device"], "ups");
    let shown = text(&w.agent(&["devices", "poll", "mfp"]));
    assert!(shown.contains("pages colour=mono"), "{shown}");
    assert!(shown.contains("FAULT B   critical jam: Misfeed (8)"), "{shown}");
    let listed = text(&w.agent(&["devices"]));
    assert!(listed.contains("mfp                     exec"), "{listed}");
    assert_eq!(w.agent(&["devices", "poll", "fax"]).status.code(), Some(2));
    assert_eq!(w.once(), 0);
    let status = w.status();
    assert!(status.contains("mfp: class B, jam: Misfeed, since "), "{status}");
}

#[test]
fn a_box_whose_disk_was_put_back_begins_another_chain_and_loses_no_reading() {
    // PROTOCOL 14.10
    let mut w = quick();
    beside(&w, &["mfp"]);
    w.set_config("read_counters = \"1ms\"");
    let read = |w: &mut World, pages: u64| {
        says(w, "mfp", pages, false);
        assert_eq!(w.once(), 0);
    };
    let sent = |w: &mut World| {
        w.send(&Order::QueryCounters);
        assert_eq!(w.once(), 0);
        let report = counters(w).pop().unwrap();
        (readings(&report), unpack(&report.packed).unwrap())
    };
    read(&mut w, 100);
    let folder = w.home().join("readings");
    let image = w.folder.path().join("image");
    copy(&folder, &image);
    read(&mut w, 200);
    let (lost, signed) = sent(&mut w);
    // The image comes back; what was read since is another reading in the same place.
    fs::remove_dir_all(&folder).unwrap();
    copy(&image, &folder);
    read(&mut w, 300);
    let (fork, _) = sent(&mut w);
    assert_eq!((fork[1].mark, fork[1].seen.counters[0].value), (lost[1].mark, 300));
    let acknowledge = |at: usize| Acknowledge {
        faults: vec![],
        readings: Some(lost[at].mark),
        there: Some(Linked { digest: signed[at].digest(), previous: lost[at].previous }),
        stamps: None,
    };
    w.send(&Order::Acknowledge(acknowledge(1)));
    assert_eq!(w.once(), 0);
    let (anew, proofs) = sent(&mut w);
    assert_ne!(anew[0].mark.chain, lost[0].mark.chain);
    let what = |r: &Reading| (r.mark.index, r.seen.clone());
    let left: Vec<_> = fork[1..].iter().map(|r| r.seen.clone()).collect();
    let begun: Vec<_> = anew.iter().map(what).take(left.len()).collect();
    assert_eq!(begun, (1..).zip(left).collect::<Vec<_>>(), "what was not acknowledged is said again");
    assert_eq!(anew[0].previous, shared::Digest([0; 32]));
    assert!((1..anew.len()).all(|at| anew[at].previous == proofs[at - 1].digest()));
    // What is said of the old chain counts no more, and the new one goes on after a restart.
    w.send(&Order::Acknowledge(acknowledge(1)));
    read(&mut w, 400);
    let (more, _) = sent(&mut w);
    assert_eq!(more[0], anew[0]);
    assert!(more.len() > anew.len());
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn an_acknowledgement_of_readings_that_a_box_does_not_have_makes_no_difference_to_what_it_keeps() {
    let mut w = quick();
    beside(&w, &["mfp"]);
    says(&w, "mfp", 100, false);
    assert_eq!(w.once(), 0);
    let wrong = Some(ReadingMark { chain: 1, index: 9_999 });
    w.send(&Order::Acknowledge(Acknowledge {
        faults: vec![7, 8],
        readings: wrong,
        there: None,
        stamps: None,
    }));
    w.send(&Order::QueryCounters);
    assert_eq!(w.once(), 0);
    let last = counters(&mut w).pop().unwrap();
    assert_eq!((last.after, readings(&last).len()), (None, 1));
    assert_eq!(readings(&last)[0].device, DeviceName::parse("mfp").unwrap());
}

/// The reports in a listener's mailbox, opened with its key.
fn copies(w: &World, address: &MailAddress, key: &OpeningKey) -> Vec<Report> {
    let folder = w.spool().join(address.as_str()).join("new");
    let open = |path: std::path::PathBuf| {
        let mut bytes = Vec::new();
        let mail = fs::read(&path).unwrap();
        let mut extractor = Extractor::new(10_000_000, &mut bytes);
        extractor.push(&mail).unwrap();
        extractor.finish().unwrap();
        let mut rest = bytes.as_slice();
        let head = RawHead::read(&mut rest).unwrap();
        let header = head.decode_unverified().unwrap();
        let content_key = header.open_slot(key, head.sender()).unwrap();
        let (message, _) = open_body(&header, &content_key, rest).unwrap();
        decode_report(&message).unwrap()
    };
    fs::read_dir(folder).unwrap().map(|entry| open(entry.unwrap().path())).collect()
}

#[test]
fn faults_go_to_one_listener_and_counters_to_another_and_both_to_the_manager() {
    let mut w = quick();
    beside(&w, &["mfp"]);
    says(&w, "mfp", 100, true);
    let listeners = [("desk@lab.test", "faults", [41; 32]), ("bills@lab.test", "counters", [42; 32])]
        .map(|(to, of, seed)| (MailAddress::parse(to).unwrap(), of, OpeningKey::from_seed(&seed)));
    let config = w.home().join("agent.toml");
    let mut text = fs::read_to_string(&config).unwrap();
    for (to, of, key) in &listeners {
        mailio::Mailbox::create_spool(&w.spool(), to).unwrap();
        text += &format!(
            "\n[[copy]]\nof = [\"{of}\"]\nto = \"{to}\"\nkey = \"{}\"\n",
            key.sealing_key().to_text()
        );
    }
    fs::write(&config, text).unwrap();
    let mut agent = w.spawn(&["run"]);
    wait_until("the jam is told", || !faults(&mut w).is_empty());
    w.send(&Order::QueryCounters);
    wait_until("the counters are sent", || !counters(&mut w).is_empty());
    wait_until("both listeners have their copies", || {
        listeners.iter().all(|(to, _, key)| !copies(&w, to, key).is_empty())
    });
    agent.kill().unwrap();
    agent.wait().unwrap();
    let [desk, bills] = listeners.map(|(to, _, key)| copies(&w, &to, &key));
    // PROTOCOL 8.7: what the manager got, and nothing else.
    assert!(!desk.is_empty() && desk.iter().all(|report| matches!(report, Report::Faults(_))), "{desk:?}");
    assert!(
        !bills.is_empty() && bills.iter().all(|report| matches!(report, Report::Counters(_))),
        "{bills:?}"
    );
    assert!(w.reports.contains(&desk[0]) && w.reports.contains(&bills[0]));
}
