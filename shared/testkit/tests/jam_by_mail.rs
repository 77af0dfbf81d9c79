//! A jam on its whole way, with all that ships: a printer that answers by SNMP, the agent beside it, Postfix and Dovecot, the
//! manager, and the mailbox of a service desk. Needs what `scripts/mail-lab` needs.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests may panic"
)]

use std::collections::BTreeMap;

use testkit::lab::MailLab;
use testkit::programs::{Programs, text, wait_until};
use testkit::station::{Rows, Station, fixture, recording};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// Rows of the printer with a jam, beside those that it always has.
const JAM: &str = "1.3.6.1.2.1.25.3.2.1.5.1|2|5\n\
                   1.3.6.1.2.1.25.3.5.1.2.1|4x|04\n\
                   1.3.6.1.2.1.43.18.1.1.2.1.7|2|3\n\
                   1.3.6.1.2.1.43.18.1.1.3.1.7|2|3\n\
                   1.3.6.1.2.1.43.18.1.1.4.1.7|2|13\n\
                   1.3.6.1.2.1.43.18.1.1.5.1.7|2|1\n\
                   1.3.6.1.2.1.43.18.1.1.6.1.7|2|-1\n\
                   1.3.6.1.2.1.43.18.1.1.7.1.7|2|8\n\
                   1.3.6.1.2.1.43.18.1.1.8.1.7|4|Paper jam in tray 2\n";

fn whole() -> Rows {
    fixture("00-whole")
}

fn jammed() -> Rows {
    let mut rows = whole();
    rows.extend(recording(JAM));
    rows
}

/// A printer, its agent, the mail, the manager and a service desk.
struct Site {
    printer: Station,
    programs: Programs,
}

impl Site {
    /// One agent that is enrolled and watches one printer.
    fn new() -> Option<Self> {
        let lab = MailLab::new(1, &["desk", "listener"])?;
        let alert = "\n[[alert]]\nto = \"desk@lab.test\"\nkinds = [\"jam\"]\n";
        let site = Self { printer: Station::serve(whole()), programs: Programs::new(lab, alert) };
        site.programs.enrol(
            "id,mail,class,site,note,admin\nA0001,agent0001@lab.test,,Tokyo,Alpha,\n",
            "look_for_faults = \"1s\"\nsend_counters = \"never\"\n",
        );
        let device = format!(
            "[[device]]\nname = \"mfp\"\ndriver = \"snmp\"\naddress = \"{}\"\ntimeout = \"2s\"\n",
            site.printer.address
        );
        site.programs.private("agent/1/devices.toml", &device);
        Some(site)
    }

    fn agent_works_at(&self, ahead_ms: i64) -> usize {
        self.programs.agent_works_at(1, ahead_ms)
    }

    fn status(&self) -> serde_json::Value {
        let out = self.programs.agent_at(1, 0, &["status", "--json"]);
        serde_json::from_slice(&out.stdout).unwrap_or_else(|err| panic!("{err}: {}", text(&out)))
    }

    /// The rows of `report faults`, by column.
    fn faults(&self) -> Vec<BTreeMap<String, String>> {
        let csv = self.programs.manager(&["report", "faults"]);
        let mut lines = csv.lines().map(|line| line.trim_end_matches('\r'));
        let columns: Vec<&str> = lines.next().unwrap().split(',').collect();
        let row = |line: &str| {
            let cells = line.split(',').map(str::to_owned);
            columns.iter().map(|column| (*column).to_owned()).zip(cells).collect()
        };
        lines.map(row).collect()
    }
}

#[test]
fn a_jam_is_told_to_the_service_desk_acknowledged_and_told_again_when_it_is_over() {
    let Some(site) = Site::new() else { return };
    let _manager = site.programs.manager_runs();
    let _agent = site.programs.agent_runs(1);
    wait_until("the printer is watched", || (site.status()["devices"] == 1).then_some(()));
    assert!(site.faults().is_empty() && site.programs.lab.mails("desk").is_empty());

    *site.printer.rows.lock().unwrap() = jammed();
    let acknowledged = |row: &BTreeMap<String, String>| !row["acknowledged_at"].is_empty();
    let row = wait_until("the jam is acknowledged", || site.faults().pop().filter(acknowledged));
    let says = |column: &str| row[column].as_str();
    assert_eq!(
        [says("agent"), says("device"), says("code"), says("kind"), says("severity"), says("text")],
        ["A0001", "mfp", "8", "jam", "critical", "Paper jam in tray 2"]
    );
    assert_eq!((says("cleared_at"), says("site")), ("", "Tokyo"));
    let mail = site.programs.mails("desk", 1).remove(0);
    assert!(mail.contains("jam at Tokyo: mfp") && mail.contains("Paper jam in tray 2"), "{mail}");
    wait_until("the agent knows", || (site.status()["faults_not_acknowledged"] == 0).then_some(()));
    assert_eq!(site.status()["open_faults"][0]["kind"], "jam");

    *site.printer.rows.lock().unwrap() = whole();
    let ended = |row: &BTreeMap<String, String>| !row["cleared_at"].is_empty();
    let over = wait_until("the end of the jam is told", || site.faults().pop().filter(ended));
    assert_eq!((&over["raised_at"], &over["reported_at"]), (&row["raised_at"], &row["reported_at"]));
    assert!(over["raised_at"] < over["cleared_at"], "{over:?}");
    let mails = site.programs.mails("desk", 2);
    assert!(mails.iter().any(|mail| mail.contains("cleared: class")), "{mails:?}");
    wait_until("nothing waits any more", || {
        let status = site.status();
        (status["faults_not_acknowledged"] == 0 && status["outbox"] == 0).then_some(())
    });
    assert_eq!(site.faults().len(), 1, "it was one fault");
}

#[test]
fn a_listener_hears_of_the_jam_too_and_says_nothing_to_the_agent() {
    // PROTOCOL 8.7
    let Some(site) = Site::new() else { return };
    let programs = &site.programs;
    let at_listener = |args: &[&str]| programs.manager(&[["--home", "listener"].as_slice(), args].concat());
    let account = programs.account("listener");
    let account: Vec<&str> = account.iter().map(String::as_str).collect();
    at_listener(&[["init", "--address", "listener@lab.test"].as_slice(), &account].concat());
    programs.wrap("listener/manager.toml", "listens_only = true\npoll = \"500ms\"\n", "");
    programs.manager(&["agent", "export", "-o", "known.csv"]);
    at_listener(&["agent", "introduce", "known.csv"]);
    let keys: serde_json::Value = serde_json::from_str(&at_listener(&["keys", "list", "--json"])).unwrap();
    let copy =
        format!("\n[[copy]]\nof = [\"faults\"]\nto = \"listener@lab.test\"\nkey = {}\n", keys["opening_key"]);
    programs.wrap("agent/1/agent.toml", "", &copy);
    let _manager = programs.manager_runs();
    let _listener = programs.start("mailfleet", "listener.log", &["--home", "listener", "run"]);
    let _agent = programs.agent_runs(1);
    wait_until("the printer is watched", || (site.status()["devices"] == 1).then_some(()));
    *site.printer.rows.lock().unwrap() = jammed();
    wait_until("the listener knows of the jam", || {
        at_listener(&["report", "faults"]).contains("Paper jam in tray 2").then_some(())
    });
    let acknowledged = |row: &BTreeMap<String, String>| !row["acknowledged_at"].is_empty();
    wait_until("the manager acknowledges it", || site.faults().pop().filter(acknowledged));
    wait_until("the agent knows", || (site.status()["faults_not_acknowledged"] == 0).then_some(()));
    let _seen = programs.mails("desk", 1);
}

#[test]
fn a_report_whose_acknowledgement_is_lost_comes_once_more_and_then_waits_for_a_contact() {
    // PROTOCOL 14.9
    let Some(site) = Site::new() else { return };
    *site.printer.rows.lock().unwrap() = jammed();
    // The manager is away. What was seen is gathered for some seconds, and then told.
    assert_eq!(site.agent_works_at(0), 0);
    assert_eq!(site.agent_works_at(10_000), 1);
    assert_eq!(site.agent_works_at(29 * MINUTE_MS), 0, "the answer may still come");
    assert_eq!(site.agent_works_at(31 * MINUTE_MS), 1, "once more");
    for later in [62 * MINUTE_MS, 5 * HOUR_MS] {
        assert_eq!(site.agent_works_at(later), 0, "and not a third time");
    }
    let _seen = site.programs.mails("manager", 2);
    // Both come to the manager, and its answer is lost.
    site.programs.manager(&["run", "--once"]);
    site.programs.lose_mails_to_agent(1, 1);
    assert_eq!(site.faults().len(), 1);
    assert_eq!(site.agent_works_at(6 * HOUR_MS), 0);
    assert_eq!(site.status()["faults_not_acknowledged"], 1, "it is kept");
    // The manager is heard: it asks for something else.
    site.programs.manager(&["query", "versions", "--all"]);
    site.programs.manager(&["run", "--once"]);
    let _seen = site.programs.mails("agent0001", 1);
    assert_eq!(site.agent_works_at(7 * HOUR_MS), 2, "the versions, and the fault again");
    let _seen = site.programs.mails("manager", 2);
    site.programs.manager(&["run", "--once"]);
    let _seen = site.programs.mails("agent0001", 1);
    assert_eq!(site.agent_works_at(7 * HOUR_MS + MINUTE_MS), 0);
    assert_eq!(site.status()["faults_not_acknowledged"], 0);
    let faults = site.faults();
    assert_eq!(faults.len(), 1, "however often it was told, it is one: {faults:?}");
    let _seen = site.programs.mails("desk", 1);
}
