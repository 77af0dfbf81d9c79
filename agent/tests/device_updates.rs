//! Firmware on its way from a bundle to a printer, with the real agent: the manager's plan, the site's word, and what a power cut
//! of the box leaves. The printers are those of the testkit; how their images travel has tests of its own in `drivers`.
//! Release builds cannot bend the box's clock.
#![cfg(debug_assertions)]
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Child;
use std::time::Duration;

use common::{World, now, text, wait_until};
use serde_json::Value;
use shared::Digest;
use shared::message::{DevicePlan, Order, Outcome, Report, UpdateReason, UpdateState};
use testkit::flash::{Flasher, Taken, Temper, image};

const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);

/// An enrolled agent beside a printer, with a bundle installed that has firmware for it.
struct Site {
    w: World,
    printer: Flasher,
    bundle: Digest,
}

/// An agent that runs; ends with its value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Site {
    fn new(temper: Temper, bytes: usize, open: &str) -> Self {
        let printer = Flasher::start("F-1", temper, Duration::from_millis(300));
        let mut w = World::enrolled();
        for line in ["look_for_faults = \"1s\"", "read_counters = \"1s\"", "poll = \"1s\""] {
            w.set_config(line);
        }
        let list = format!(
            "[[device]]\nname = \"mfp\"\ndriver = \"snmp\"\naddress = \"{}\"\ntimeout = \"500ms\"\n\
             [device.firmware]\nallowed = {open}\nport = {}\n",
            printer.station.address,
            printer.raw.port()
        );
        let path = w.home().join("devices.toml");
        fs::write(&path, list).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let firmware = "[[firmware]]\nmodule = \"main.bin\"\ntype = \"main\"\nmodel = \"*bizhub C250i\"\nversion = \"2.0\"\n\
                        handler = \"raw9100\"\ngoes_away = \"1s\"\nback_by = \"3s\"\n";
        let content = image("main", "2.0", bytes);
        let bundle = w.bundle_of("2-0", firmware, None, &[("fw/main.bin", "firmware", &content)]);
        let life = w.life();
        let order = w.send_with(life, &World::install_order(&bundle, "2-0"), &bundle);
        assert_eq!(w.once(), 0);
        assert_eq!(w.outcome(order), Outcome::Installed);
        w.reports.clear();
        Self { w, printer, bundle: Digest::of(&bundle) }
    }

    fn plan(&self) -> DevicePlan {
        DevicePlan::for_all(self.bundle, now().minus(MINUTE), now().plus(HOUR * 10), MINUTE * 20)
    }

    fn send(&mut self, plan: DevicePlan) {
        self.w.send(&Order::DevicePlan(plan));
    }

    /// One run while the box's clock is so many minutes ahead.
    fn once_in(&self, minutes: i64) -> Option<i32> {
        let mut command = self.w.command(&["run", "--once"]);
        command.env("MAILFLEET_TEST_CLOCK_ERROR_MS", (minutes * 60_000).to_string());
        command.output().unwrap().status.code()
    }

    fn run(&self) -> Running {
        Running(self.w.spawn(&["run"]))
    }

    /// What the site sees of the printer.
    fn seen(&self) -> Value {
        let out = self.w.agent(&["devices", "updates", "--json"]);
        assert!(out.status.success(), "{}", text(&out));
        let document: Value = serde_json::from_slice(&out.stdout).unwrap();
        document["updates"].get(0).cloned().unwrap_or_default()
    }

    fn until(&self, state: &str) -> Value {
        let mut seen = self.seen();
        wait_until(&format!("it is {state}"), || {
            seen = self.seen();
            seen["state"] == state
        });
        seen
    }
}

#[test]
fn a_printer_gets_its_firmware_once_and_the_site_sees_how_it_went() {
    let mut site = Site::new(Temper::Takes, 2_000_000, "true");
    let out = site.w.agent(&["devices", "updates"]);
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(
        said.contains("the manager has planned none") && said.contains("main 2.0 for *bizhub C250i"),
        "{said}"
    );
    let plan = site.plan();
    site.send(plan.clone());
    {
        let _agent = site.run();
        let seen = site.until("done");
        assert_eq!(site.printer.version("main").as_deref(), Some("2.0"));
        assert_eq!((&seen["current"], &seen["chosen"]), (&"1.0".into(), &"2.0".into()));
        assert_eq!((&seen["transfers"], &seen["sent_bytes"]), (&1.into(), &2_000_000.into()));
        assert_eq!(seen["serial"], "F-1");
        // The same again, and an agent that starts again, change nothing.
        site.send(plan);
    }
    assert_eq!(site.w.once(), 0);
    assert_eq!(site.printer.taken(), [Taken { bytes: 2_000_000, is_whole: true }]);
    assert!(site.printer.wrongs().is_empty(), "{:?}", site.printer.wrongs());
    assert_eq!(site.until("done")["transfers"], 1);
}

#[test]
fn a_single_run_sees_a_transfer_through() {
    let mut site = Site::new(Temper::Takes, 2_000_000, "true");
    let plan = site.plan();
    site.send(plan);
    assert_eq!(site.w.once(), 0);
    wait_until("it has flashed", || site.printer.version("main").as_deref() == Some("2.0"));
    assert_eq!(site.printer.taken(), [Taken { bytes: 2_000_000, is_whole: true }]);
    assert_eq!(site.w.once(), 0);
    site.until("done");
}

#[test]
fn an_agent_that_was_killed_in_the_middle_of_a_transfer_does_not_send_it_again() {
    let mut site = Site::new(Temper::Stalls, 20_000_000, "true");
    let plan = site.plan();
    site.send(plan);
    {
        let _agent = site.run();
        site.until("transferring");
    }
    site.printer.becomes(Temper::Takes);
    // It looks at once, and again when the printer has had its time.
    for minutes in [0, 2] {
        assert_eq!(site.once_in(minutes), Some(0));
    }
    let seen = site.until("unknown");
    assert_eq!(seen["reason"], "the agent was stopped during the transfer");
    assert_eq!(site.printer.version("main").as_deref(), Some("1.0"));
    assert!(site.printer.taken().iter().all(|taken| !taken.is_whole), "{:?}", site.printer.taken());
    assert!(site.printer.taken().len() <= 1);
}

#[test]
fn a_printer_that_its_site_has_not_opened_is_named_and_left_alone() {
    let mut site = Site::new(Temper::Takes, 5_000, "false");
    let plan = site.plan();
    site.send(plan);
    assert_eq!(site.w.once(), 0);
    let seen = site.until("not-registered");
    assert_eq!((&seen["reason"], &seen["chosen"]), (&"not opened at the site".into(), &Value::Null));
    // What has changed is gathered for a minute.
    assert_eq!(site.once_in(2), Some(0));
    site.w.collect();
    let told = site.w.reports.iter().filter_map(|report| match report {
        Report::DeviceUpdates(report) => report.updates.first(),
        _ => None,
    });
    let told: Vec<_> = told.map(|row| (row.device.as_str(), row.state, row.reason)).collect();
    assert!(!told.is_empty(), "{:?}", site.w.reports);
    for row in told {
        assert_eq!(row, ("mfp", UpdateState::NotRegistered, Some(UpdateReason::NotAllowed)));
    }
    assert!(site.printer.taken().is_empty());
}

#[test]
fn a_person_at_the_site_puts_an_update_off_and_cancels_it() {
    let mut site = Site::new(Temper::Takes, 5_000, "true");
    let mut plan = site.plan();
    let begins = now().plus(HOUR);
    (plan.not_before, plan.defer_until) = (begins, Some(now().plus(HOUR * 5)));
    site.send(plan);
    assert_eq!(site.w.once(), 0);
    let seen = site.until("queued");
    assert_eq!(seen["begins_at"], begins.to_string());
    let refused = |args: &[&str], why: &str| {
        let out = site.w.agent(&[&["devices", "updates"], args].concat());
        assert_eq!(out.status.code(), Some(2), "{}", text(&out));
        assert!(text(&out).contains(why), "{}", text(&out));
    };
    refused(&["--defer", "mfp", "9h"], "it can be put off until");
    refused(&["--defer", "scale", "1h"], "no update of this device waits");
    refused(&["--defer", "mfp", "soon"], "soon");
    let out = site.w.agent(&["devices", "updates", "--defer", "mfp", "2h"]);
    assert!(out.status.success() && text(&out).contains("mfp is put off"), "{}", text(&out));
    assert!(site.seen()["wish"].as_str().unwrap().contains("puts it off until"));
    assert_eq!(site.w.once(), 0);
    let seen = site.until("deferred");
    assert_eq!((&seen["reason"], &seen["wish"]), (&"put off at the site".into(), &Value::Null));
    assert_eq!(seen["begins_at"], begins.plus(HOUR * 2).to_string());
    let out = site.w.agent(&["devices", "updates", "--cancel", "mfp"]);
    assert!(out.status.success(), "{}", text(&out));
    assert_eq!(site.w.once(), 0);
    assert_eq!(site.until("cancelled")["reason"], "cancelled at the site");
    refused(&["--cancel", "mfp"], "no update of this device waits");
    assert!(site.printer.taken().is_empty());
}
