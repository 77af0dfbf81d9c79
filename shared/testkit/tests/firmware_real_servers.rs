//! Firmware of devices on its whole way with nothing of ours at either end: mails through Postfix and Dovecot, and as devices a real
//! SWUpdate, a real FTP server and a real web server, beside a printer that flashes itself. Needs what `scripts/test` installs.
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
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use testkit::flash::{Flasher, Taken, Temper, image};
use testkit::lab::MailLab;
use testkit::programs::{Programs, wait_until};
use testkit::takers::{PASSWORD, Taker};

const BYTES: usize = 300_000;

/// Between two looks of an agent, by its own clock: changes are gathered for a minute before they are told.
const STEP_MS: i64 = 120_000;

/// Prints what a device says of itself whose firmware lies in the file `$1`: the version that the firmware names, once all of it is there.
const SAYS: &str = r#"#!/bin/sh
version=1.0
if read -r _ _ named bytes <"$1" && [ "$(wc -c <"$1")" = "$bytes" ]; then version=$named; fi 2>/dev/null
printf '{"class": "other", "status": "idle", "identity": {"vendor": "Lab", "model": "%s", "serial": "S-%s",
    "firmware": [{"component": "main", "version": "%s"}]}}' "$2" "$2" "$version"
"#;

/// The devices, and the firmware that each has taken.
struct Devices {
    board: Taker,
    ftp: Taker,
    web: Taker,
    printer: Flasher,
}

impl Devices {
    fn start() -> Option<Self> {
        Some(Self {
            board: Taker::swupdate(&image("main", "2.0", BYTES))?,
            ftp: Taker::pure_ftpd()?,
            web: Taker::lighttpd()?,
            printer: Flasher::start("F-1", Temper::Takes, Duration::from_millis(300)),
        })
    }

    /// Model, handler, its settings, and what its image is.
    fn firmware(&self) -> [(&'static str, &'static str, &'static str, Vec<u8>); 4] {
        let plain = || image("main", "2.0", BYTES);
        [
            ("board", "swupdate", "", fs::read(self.board.path("up.swu")).unwrap()),
            ("recorder", "ftp", "path = \"fw.bin\", success = \"transferred\"", plain()),
            ("kiosk", "http-upload", "method = \"put\", path = \"/fw.bin\", status = \"201\"", plain()),
            ("*bizhub C250i", "raw9100", "", plain()),
        ]
    }

    fn place(&self, programs: &Programs) {
        programs.private("says", SAYS);
        let says = programs.path("says").display().to_string();
        let told = |model: &str, file: &Path| {
            let command =
                ["/bin/sh", &says, &file.display().to_string(), model].map(|word| format!("\"{word}\""));
            format!("[[device]]\nname = \"{model}\"\ndriver = \"exec\"\ncommand = [{}]\n", command.join(", "))
        };
        let at = |port: u16, more: &str| {
            format!("[device.firmware]\nallowed = true\nhost = \"127.0.0.1\"\nport = {port}\n{more}\n")
        };
        let login = |user: &str| format!("user = \"{user}\"\npassword = \"{PASSWORD}\"");
        let board = told("board", &self.board.path("out/image.bin")) + &at(self.board.port, "");
        let recorder =
            told("recorder", &self.ftp.path("store/fw.bin")) + &at(self.ftp.port, &login("printer"));
        let kiosk = told("kiosk", &self.web.path("root/fw.bin")) + &at(self.web.port, &login("admin"));
        let printer = format!(
            "[[device]]\nname = \"printer\"\ndriver = \"snmp\"\naddress = \"{}\"\ntimeout = \"500ms\"\n{}",
            self.printer.station.address,
            at(self.printer.raw.port(), "")
        );
        for (n, list) in [(1, board), (2, recorder + &kiosk), (3, printer)] {
            programs.private(&format!("agent/{n}/devices.toml"), &list);
        }
    }

    /// One bundle for all of them.
    fn build(&self, programs: &Programs) {
        let folder = programs.path("all.d");
        fs::create_dir(&folder).unwrap();
        let mut toml = "software_version = \"2.0.00-0\"\n".to_owned();
        for (model, handler, settings, content) in self.firmware() {
            fs::write(folder.join(handler), content).unwrap();
            toml += &format!(
                "[[module]]\nname = \"fw-{handler}\"\nversion = \"2.0\"\ndate = \"2026-11-01\"\nfile = \"{handler}\"\n\
                 path = \"firmware/{handler}\"\nmode = \"0644\"\nkind = \"firmware\"\n\
                 [[firmware]]\nmodule = \"fw-{handler}\"\ntype = \"main\"\nmodel = \"{model}\"\nfrom = [\"1.0\"]\n\
                 version = \"2.0\"\nhandler = \"{handler}\"\nsettings = {{ {settings} }}\ngoes_away = \"1s\"\nback_by = \"3s\"\n"
            );
        }
        fs::write(folder.join("bundle.toml"), toml).unwrap();
        programs.manager(&["bundle", "build", "all.d", "-o", "all.mfb"]);
    }
}

/// Lets everybody work in turn, while time passes at the sites, until something has come about.
fn until<T>(programs: &Programs, ahead_ms: &Cell<i64>, what: &str, look: impl Fn() -> Option<T>) -> T {
    wait_until(what, || {
        programs.manager(&["run", "--once"]);
        ahead_ms.set(ahead_ms.get() + STEP_MS);
        for n in 1..=3 {
            programs.agent_works_at(n, ahead_ms.get());
        }
        look()
    })
}

fn json(programs: &Programs, args: &[&str]) -> Value {
    serde_json::from_str(&programs.manager(&[args, &["--json"]].concat())).unwrap()
}

#[test]
fn swupdate_an_ftp_server_a_web_server_and_a_printer_get_their_firmware_by_real_mail() {
    let (Some(devices), Some(lab)) = (Devices::start(), MailLab::new(3, &[])) else { return };
    let programs = Programs::new(lab, "");
    programs.enrol(
        "id,mail,class,site,note,admin\nA0001,agent0001@lab.test,,Tokyo,,\nA0002,agent0002@lab.test,,Osaka,,\n\
         A0003,agent0003@lab.test,,Kyoto,,\n",
        "look_for_faults = \"1s\"\nread_counters = \"1s\"\nsend_counters = \"never\"\n",
    );
    devices.place(&programs);
    devices.build(&programs);
    let ahead_ms = Cell::new(0);
    programs.manager(&["query", "counters", "--all"]);
    until(&programs, &ahead_ms, "the manager knows the devices", || {
        (json(&programs, &["devices"])["devices"].as_array().unwrap().len() == 4).then_some(())
    });
    let terms = ["--settle", "1s", "--reply-timeout", "2h", "--retries", "0", "--device-step", "1m"];
    programs.manager(&[&["campaign", "start", "all.mfb", "--all"], &terms[..]].concat());
    let rows = until(&programs, &ahead_ms, "all devices show their new version", || {
        let shown = json(&programs, &["campaign", "show", "1", "--devices"]);
        let rows = shown["devices"].as_array().unwrap().clone();
        (rows.len() == 4 && rows.iter().all(|row| row["state"] == "done")).then_some(rows)
    });
    for row in &rows {
        let text = |key: &str| row[key].as_str().unwrap_or_default();
        assert_eq!([text("old_version"), text("new_version")], ["1.0", "2.0"], "{row}");
        assert_eq!(row["transfers"], 1, "{row}");
    }
    let plain = image("main", "2.0", BYTES);
    for file in [
        devices.board.path("out/image.bin"),
        devices.ftp.path("store/fw.bin"),
        devices.web.path("root/fw.bin"),
    ] {
        assert!(fs::read(&file).unwrap() == plain, "{}", file.display());
    }
    assert_eq!(devices.printer.taken(), [Taken { bytes: BYTES, is_whole: true }]);
    assert!(devices.printer.wrongs().is_empty(), "{:?}", devices.printer.wrongs());
    let csv = programs.manager(&["report", "devices-campaign", "1"]);
    let done: Vec<&str> = csv.lines().filter(|line| line.contains(",1.0,2.0,done,")).collect();
    assert_eq!(done.len(), 4, "{csv}");
}
