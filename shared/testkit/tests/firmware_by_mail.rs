//! Firmware of devices with all programs that ship, over a post office in a folder: two sites with three printers, from the bundle's folder
//! to the row of CSV. One takes its firmware, one belongs to somebody who has not opened it, and one forgets what it was given, until a
//! person has looked at it and permits another transfer.
//! Release builds cannot bend the boxes' clocks.
#![cfg(debug_assertions)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests may panic"
)]

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use testkit::flash::{Flasher, Taken, Temper, image};
use testkit::programs::{program, text, wait_until};

const MAIN_BYTES: usize = 300_000;
const FEEDER_BYTES: usize = 40_000;

/// Between two looks of an agent, by its own clock: changes are gathered for a minute before they are told.
const STEP_MS: i64 = 120_000;

/// One manager, and agents `A0001` and `A0002`, in a folder.
struct Office {
    folder: TempDir,
    /// How far the boxes' clocks are ahead.
    ahead_ms: Cell<i64>,
}

impl Office {
    fn new() -> Self {
        let office = Self { folder: tempfile::tempdir().unwrap(), ahead_ms: Cell::new(0) };
        let post = format!("spool:{}", office.path("post").display());
        fs::create_dir(office.path("post")).unwrap();
        office.manager(&["init", "--address", "manager@lab.test", "--send", &post, "--receive", &post]);
        let csv = "id,mail,class,site,note,admin\nA0001,agent0001@lab.test,office-gateway,Tokyo,,\n\
                   A0002,agent0002@lab.test,office-gateway,Osaka,,\n";
        fs::write(office.path("agents.csv"), csv).unwrap();
        office.manager(&["agent", "import", "agents.csv", "-o", "invites"]);
        for n in 1..=2 {
            let (invite, root) = (format!("invites/A{n:04}.invite"), office.path(&format!("root{n}")));
            fs::create_dir(&root).unwrap();
            let root = root.display().to_string();
            office.agent(n, &["enrol", &invite, "--root", &root, "--send", &post, "--receive", &post]);
            let config = office.path(&format!("agent{n}/agent.toml"));
            let settings = fs::read_to_string(&config).unwrap();
            fs::write(&config, format!("look_for_faults = \"1s\"\nread_counters = \"1s\"\n{settings}"))
                .unwrap();
        }
        office
    }

    /// Writes down which printers stand at a site, and which of them may get firmware.
    fn stand_at(&self, n: usize, printers: &[(&str, &Flasher, bool)]) {
        let entry = |(name, printer, allowed): &(&str, &Flasher, bool)| {
            format!(
                "[[device]]\nname = \"{name}\"\ndriver = \"snmp\"\naddress = \"{}\"\ntimeout = \"500ms\"\n\
                 [device.firmware]\nallowed = {allowed}\nport = {}\n",
                printer.station.address,
                printer.raw.port()
            )
        };
        let path = self.path(&format!("agent{n}/devices.toml"));
        fs::write(&path, printers.iter().map(entry).collect::<String>()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, name: &str, args: &[&str]) -> Output {
        let mut command = program(name);
        command.current_dir(self.folder.path()).env("MAILFLEET_HOME", self.path("manager")).args(args);
        if name == "mailfleet-agent" {
            command.env("MAILFLEET_TEST_CLOCK_ERROR_MS", self.ahead_ms.get().to_string());
        }
        let out = command.output().unwrap();
        assert!(out.status.success(), "{name} {args:?}: {}", text(&out));
        out
    }

    fn manager(&self, args: &[&str]) -> String {
        let out = self.run("mailfleet", args);
        String::from_utf8(out.stdout).unwrap()
    }

    fn agent(&self, n: usize, args: &[&str]) -> String {
        let home = format!("agent{n}");
        text(&self.run("mailfleet-agent", &[&["--home", &home, "--log", "info"], args].concat()))
    }

    /// Lets everybody work in turn, while time passes at the sites, until something has come about.
    fn until<T>(&self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        wait_until(what, || {
            self.manager(&["run", "--once"]);
            self.ahead_ms.set(self.ahead_ms.get() + STEP_MS);
            (1..=2).for_each(|n| drop(self.agent(n, &["run", "--once"])));
            self.manager(&["run", "--once"]);
            look(self)
        })
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.manager(&[args, &["--json"]].concat())).unwrap()
    }

    /// State, reason and transfers of a device's update, as the manager knows it.
    fn update_of(&self, id: &str, device: &str, kind: &str) -> Option<(String, String, u64)> {
        let shown = self.json(&["campaign", "show", id, "--devices"]);
        let rows = shown["devices"].as_array().unwrap().clone();
        let row = rows.into_iter().find(|row| row["device"] == device && row["type"] == kind)?;
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        Some((text("state"), text("reason"), row["transfers"].as_u64().unwrap()))
    }

    fn build(&self) {
        let folder = self.path("printers.d");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("main.bin"), image("main", "2.0", MAIN_BYTES)).unwrap();
        fs::write(folder.join("feeder.bin"), image("feeder", "2.1", FEEDER_BYTES)).unwrap();
        let mut toml = "software_version = \"2.0.00-0\"\n".to_owned();
        for (kind, version) in [("main", "2.0"), ("feeder", "2.1")] {
            toml += &format!(
                "[[module]]\nname = \"c250i-{kind}\"\nversion = \"{version}\"\ndate = \"2026-11-01\"\nfile = \"{kind}.bin\"\n\
                 path = \"firmware/{kind}.bin\"\nmode = \"0644\"\nkind = \"firmware\"\n\
                 [[firmware]]\nmodule = \"c250i-{kind}\"\ntype = \"{kind}\"\nmodel = \"*bizhub C250i\"\nfrom = [\"1.0\"]\n\
                 version = \"{version}\"\nhandler = \"raw9100\"\ngoes_away = \"1s\"\nback_by = \"3s\"\n"
            );
        }
        fs::write(folder.join("bundle.toml"), toml).unwrap();
        self.manager(&["bundle", "build", "printers.d", "-o", "printers.mfb"]);
    }
}

fn whole(bytes: usize) -> Taken {
    Taken { bytes, is_whole: true }
}

#[test]
fn three_printers_at_two_sites_get_their_firmware_by_mail_and_what_is_unknown_waits_for_a_person() {
    let printer = |serial, temper| Flasher::start(serial, temper, Duration::from_millis(300));
    let (front, archive, desk) =
        (printer("F-1", Temper::Takes), printer("F-2", Temper::Takes), printer("F-3", Temper::Forgets));
    let office = Office::new();
    office.stand_at(1, &[("front", &front, true), ("archive", &archive, false)]);
    office.stand_at(2, &[("desk", &desk, true)]);
    office.build();
    let inspected = office.json(&["bundle", "inspect", "printers.mfb"]);
    assert_eq!(inspected["firmware"][0]["model"], "*bizhub C250i");
    office.until("both agents are enrolled", |office| {
        let agents = office.manager(&["agent", "list", "--json"]);
        (agents.matches("\"reported_at\": \"").count() == 2).then_some(())
    });

    // What was read of the printers says what is to be expected.
    office.manager(&["query", "counters", "--all"]);
    office.until("the manager knows the printers", |office| {
        let devices = office.json(&["devices"]);
        (devices["devices"].as_array().unwrap().len() == 3).then_some(())
    });
    let planned = office.json(&["campaign", "plan", "printers.mfb", "--all"]);
    assert_eq!(planned["devices"]["updates"].as_array().unwrap().len(), 6, "{planned}");
    for update in planned["devices"]["updates"].as_array().unwrap() {
        assert_eq!(
            (&update["old_version"], &update["registered"]),
            (&"1.0".into(), &true.into()),
            "{update}"
        );
    }
    assert!(front.taken().is_empty(), "nothing was sent by that");

    let terms = ["--settle", "1s", "--reply-timeout", "2h", "--retries", "0", "--device-step", "1m"];
    let said = office.manager(&[&["campaign", "start", "printers.mfb", "--all"], &terms[..]].concat());
    assert!(said.contains("2 firmwares for devices"), "{said}");
    follow(&office, "2", &front, &archive, &desk);
}

fn follow(office: &Office, id: &str, front: &Flasher, archive: &Flasher, desk: &Flasher) {
    let update = |office: &Office, device, kind| office.update_of(id, device, kind);
    office.until("one is done, one is closed, one is unknown", |office| {
        let is = |device, kind, state| update(office, device, kind).is_some_and(|found| found.0 == state);
        let all = is("front", "main", "done")
            && is("front", "feeder", "done")
            && is("archive", "", "not-registered")
            && is("desk", "main", "unknown");
        all.then_some(())
    });
    assert_eq!(update(office, "archive", "").unwrap().1, "not opened at the site");
    let (_, reason, transfers) = update(office, "desk", "main").unwrap();
    assert_eq!((reason.as_str(), transfers), ("all was sent, and the device shows the old version", 1));
    assert_eq!(desk.taken(), [whole(MAIN_BYTES)], "and nothing else is sent to it");
    let targets = office.json(&["campaign", "show", id]);
    assert_eq!(targets["counts"]["verified"], 2, "the agents are: {targets}");

    desk.becomes(Temper::Takes);
    let place = "A0002/desk";
    office.manager(&["campaign", "permit", id, "--device", place]);
    office.until("the one that was permitted is done", |office| {
        let is_done = |kind| update(office, "desk", kind).is_some_and(|found| found.0 == "done");
        (is_done("main") && is_done("feeder")).then_some(())
    });
    assert_eq!(front.taken(), [whole(MAIN_BYTES), whole(FEEDER_BYTES)]);
    assert_eq!(desk.taken(), [whole(MAIN_BYTES), whole(MAIN_BYTES), whole(FEEDER_BYTES)]);
    assert!(archive.taken().is_empty(), "it was not opened");
    for printer in [front, archive, desk] {
        assert!(printer.wrongs().is_empty(), "{:?}", printer.wrongs());
    }
    check_csv(office, id);
}

fn check_csv(office: &Office, id: &str) {
    let csv = office.manager(&["report", "devices-campaign", id]);
    let rows: Vec<Vec<&str>> = csv.lines().skip(1).map(|line| line.split(',').collect()).collect();
    let cells = |row: &[&str]| [1, 2, 3, 6, 7, 8, 9, 10, 18, 19].map(|at| row[at].to_owned()).join(",");
    let rows: Vec<String> = rows.iter().map(|row| cells(row)).collect();
    assert_eq!(
        rows,
        [
            "A0001,Tokyo,archive,F-2,,,,not-registered,0,1",
            "A0001,Tokyo,front,F-1,feeder,1.0,2.1,done,1,1",
            "A0001,Tokyo,front,F-1,main,1.0,2.0,done,1,1",
            "A0002,Osaka,desk,F-3,feeder,1.0,2.1,done,1,2",
            "A0002,Osaka,desk,F-3,main,1.0,2.0,done,2,2",
        ]
    );
}
