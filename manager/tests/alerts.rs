//! Alerts over a spool (M18): who is told of a fault, how often, and what happens if that does not work.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may panic")]
#![allow(clippy::arithmetic_side_effects, reason = "tests may overflow and fail")]

mod office;

use std::fs;
use std::path::PathBuf;

use mailfleet::store::{AlertTrouble, NewAgent};
use mailfleet::system::now;
use mailio::Mailbox;
use office::watcher::{T0, faults, jam, label};
use office::{Box7, Office};
use shared::device::{DeviceName, FaultClass};
use shared::message::FaultChange;
use shared::{Digest, MailAddress, UnixMillis};

fn mail(text: &str) -> MailAddress {
    MailAddress::parse(text).unwrap()
}

/// A manager with these rules, the mailboxes of a desk and of a site, and an agent at each of two sites: the first one
/// has an administrator.
fn office(rules: &str) -> (Office, Vec<Box7>) {
    let office = Office::new();
    let config = office.home.config_path();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}retry_min = \"1ms\"\n{rules}")).unwrap();
    for address in ["desk@lab.test", "site@lab.test"] {
        Mailbox::create_spool(&office.spool(), &mail(address)).unwrap();
    }
    let mut agents = Vec::new();
    for (n, site, admin) in [(1, "Tokyo", Some(mail("site@lab.test"))), (2, "Osaka", None)] {
        let mut agent = Box7::new(n, &office.spool());
        let new = NewAgent {
            id: agent.id.clone(),
            mail: agent.mail.clone(),
            classes: vec![],
            site: label(site),
            note: label("Alpha Ltd"),
            admin,
            terms: mailfleet::registry::Terms::default(),
            secret_digest: Digest::of(&[7; 32]),
            invite_expires: now().plus(std::time::Duration::from_secs(3600)),
        };
        assert!(office.store().write(|tx| tx.add_agent(&new, now())).unwrap());
        agent.report(&office, &agent.enrol_request([7; 32]));
        agents.push(agent);
    }
    office.pass();
    (office, agents)
}

/// The mails in a mailbox, oldest first, taken out.
fn mails(office: &Office, address: &str) -> Vec<String> {
    let folder = office.spool().join(address).join("new");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
        .iter()
        .map(|file| {
            let text = fs::read_to_string(file).unwrap();
            fs::remove_file(file).unwrap();
            text
        })
        .collect()
}

fn at(device: &str, class: FaultClass) -> FaultChange {
    let mut change = jam(device);
    change.fault.class = class;
    change
}

fn over(device: &str) -> FaultChange {
    FaultChange { cleared_at: Some(UnixMillis(T0.0 + 60_000)), ..jam(device) }
}

const DESK: &str = "[[alert]]\nto = \"desk@lab.test\"\nclasses = [\"A\", \"D\"]\n";

#[test]
fn a_desk_gets_one_plain_mail_for_all_faults_of_a_pass_and_another_when_they_are_over() {
    let (office, mut agents) = office(DESK);
    let both = vec![at("mfp", FaultClass::A), at("mfp-2", FaultClass::D), at("mfp-3", FaultClass::C)];
    agents[1].report(&office, &faults(1, vec![jam("mfp-4")]));
    office.says(&mut agents[0], &faults(1, both));
    let told = mails(&office, "desk@lab.test");
    assert_eq!(told.len(), 1);
    assert!(
        told[0].contains("Subject: mailfleet: 3 faults: 2 of class A, 1 of class D at Osaka, Tokyo\r\n"),
        "{}",
        told[0]
    );
    assert!(told[0].contains("Content-Type: text/plain") && !told[0].contains("X-Mailfleet"));
    for line in [
        "Site             Tokyo; Alpha Ltd",
        "Device           mfp-2 (mfp, RICOH MP C3004)",
        "The device says  Paper misfeed",
    ] {
        assert!(told[0].contains(line), "{line}\n{}", told[0]);
    }
    assert!(!told[0].contains("mfp-3"), "class C is not the desk's");
    office.pass();
    assert!(mails(&office, "desk@lab.test").is_empty(), "once");
    office.says(&mut agents[0], &faults(2, vec![over("mfp")]));
    let told = mails(&office, "desk@lab.test");
    assert!(told[0].contains("cleared: class A jam at Tokyo: mfp (RICOH MP C3004)"), "{}", told[0]);
}

#[test]
fn nobody_is_told_twice_of_one_change_however_often_it_is_reported() {
    let (office, mut agents) = office(&format!("{DESK}{DESK}[[alert]]\nto = [\"desk@lab.test\"]\n"));
    let (id, bytes) = agents[0].sealed(&office, &faults(1, vec![jam("mfp")]));
    for _ in 0..3 {
        agents[0].post(&office, id, bytes.clone());
        office.pass();
        office.says(&mut agents[0], &faults(1, vec![jam("mfp")]));
    }
    assert_eq!(mails(&office, "desk@lab.test").len(), 1);
    for _ in 0..3 {
        office.says(&mut agents[0], &faults(2, vec![over("mfp")]));
    }
    assert_eq!(mails(&office, "desk@lab.test").len(), 1);
}

#[test]
fn a_fault_that_becomes_worse_is_told_to_whom_it_did_not_matter_before() {
    let (office, mut agents) = office(DESK);
    office.says(&mut agents[0], &faults(1, vec![at("mfp", FaultClass::C)]));
    assert!(mails(&office, "desk@lab.test").is_empty());
    office.says(&mut agents[0], &faults(2, vec![at("mfp", FaultClass::A)]));
    assert_eq!(mails(&office, "desk@lab.test").len(), 1);
}

#[test]
fn a_sites_administrator_is_told_of_his_site_and_a_site_without_one_is_logged() {
    let (office, mut agents) = office("[[alert]]\nto = \"site\"\non = [\"raised\"]\n");
    office.says(&mut agents[0], &faults(1, vec![jam("mfp")]));
    office.says(&mut agents[1], &faults(1, vec![jam("mfp")]));
    office.says(&mut agents[0], &faults(2, vec![over("mfp")]));
    let told = mails(&office, "site@lab.test");
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("To: site@lab.test\r\n") && !told[0].contains("Osaka"), "{}", told[0]);
    assert!(office.log().contains("A0002 an alert is for the site's administrator"), "{}", office.log());
}

#[test]
fn an_alert_waits_for_a_mail_server_that_is_down_and_is_not_lost() {
    let (office, mut agents) = office(DESK);
    let folder = office.spool().join("desk@lab.test/tmp");
    let away = office.spool().join("away");
    fs::rename(&folder, &away).unwrap();
    office.says(&mut agents[0], &faults(1, vec![jam("mfp")]));
    let trouble = || office.store().read(|tx| tx.alert_trouble()).unwrap();
    assert_eq!((trouble().waiting, trouble().failed), (1, 0), "{:?}", trouble());
    assert!(trouble().answer.contains("delivery failed"), "{:?}", trouble());
    fs::rename(&away, &folder).unwrap();
    // Each pass is another daemon: what is to be told is in the store.
    while office.store().read(|tx| tx.next_alert("mail")).unwrap().is_some() {
        office.pass();
    }
    assert_eq!(mails(&office, "desk@lab.test").len(), 1);
    assert_eq!(trouble().waiting, 0);
}

#[test]
fn an_alert_that_no_mailbox_takes_is_given_up_and_shown() {
    let (office, mut agents) = office("[[alert]]\nto = [\"nobody@lab.test\", \"desk@lab.test\"]\n");
    office.says(&mut agents[0], &faults(1, vec![jam("mfp")]));
    assert_eq!(mails(&office, "desk@lab.test").len(), 1, "the others are told");
    let AlertTrouble { failed, answer, .. } = office.store().read(|tx| tx.alert_trouble()).unwrap();
    assert_eq!(failed, 1);
    assert!(answer.contains("no such mailbox"), "{answer}");
    assert!(office.log().contains("alert for nobody@lab.test given up"), "{}", office.log());
}

#[test]
fn a_program_reads_the_faults_as_json_and_is_run_again_if_it_fails() {
    let dir = tempfile::tempdir().unwrap();
    let (script, out) = (dir.path().join("ticket"), dir.path().join("out"));
    // Fails the first time.
    let text = format!(
        "#!/bin/sh\n[ -e {0}.once ] || {{ touch {0}.once; echo no network >&2; exit 1; }}\ncat >> {0}; echo >> {0}\n",
        out.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let (office, mut agents) = office(&format!("[[alert]]\ncommand = [\"{}\"]\n", script.display()));
    office.says(&mut agents[0], &faults(1, vec![jam("mfp"), jam("mfp-2")]));
    let trouble = office.store().read(|tx| tx.alert_trouble()).unwrap();
    assert!(trouble.answer.ends_with("exit status: 1: no network"), "{trouble:?}");
    while office.store().read(|tx| tx.next_alert("command")).unwrap().is_some() {
        office.pass();
    }
    let text = fs::read_to_string(&out).unwrap();
    assert_eq!(text.lines().count(), 1);
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(told["faults"].as_array().unwrap().len(), 2);
    let first = &told["faults"][0];
    assert_eq!(
        (&first["device"], &first["fault_class"], &first["site"]),
        (&"mfp".into(), &"A".into(), &"Tokyo".into())
    );
    assert_eq!(first["changes"], serde_json::json!(["raised"]));
    assert_eq!(first["cleared_at"], serde_json::Value::Null);
}

#[test]
fn a_storm_of_faults_is_one_mail_that_a_person_can_read() {
    let (office, mut agents) = office(DESK);
    let storm = (0..500)
        .map(|n| FaultChange { device: DeviceName::parse(&format!("mfp-{n}")).unwrap(), ..jam("mfp") })
        .collect();
    office.says(&mut agents[0], &faults(1, storm));
    let told = mails(&office, "desk@lab.test");
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("Subject: mailfleet: 500 faults: 500 of class A at Tokyo\r\n"));
    assert!(told[0].contains("And 450 more: mailfleet faults\r\n") && told[0].len() < 60_000);
}
