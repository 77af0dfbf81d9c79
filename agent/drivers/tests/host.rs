//! The box that the tests run on, as a device.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may panic")]

mod common;

use std::process::{Child, Command};

use common::look;
use drivers::{Depth, Device};
use shared::device::{DeviceClass, Observation};

fn device(more: &str) -> Device {
    let text = format!("[[device]]\nname = \"box\"\ndriver = \"host\"\ntimeout = \"10s\"\n{more}");
    drivers::read_devices(&text).unwrap().remove(0)
}

fn value(seen: &Observation, name: &str, labels: &str) -> u64 {
    let found = seen.counters.iter().find(|c| c.name.as_str() == name && c.labels_text() == labels);
    found.unwrap_or_else(|| panic!("{name} {labels}: {:#?}", seen.counters)).value
}

/// Ends with its value.
struct Sleeper(Child);

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_box_says_who_it_is_and_how_full_it_is() {
    let seen = look(&device(""), Depth::Full).await.unwrap();
    println!("{seen:#?}");
    assert_eq!(seen.class, DeviceClass::Pc);
    assert!(
        seen.identity.host.is_some()
            && seen.identity.firmware.iter().any(|f| f.component.as_str() == "kernel")
    );
    let up = seen.uptime.unwrap();
    assert!(up.of_host && up.up_ms > 0 && up.wraps_after_ms.is_none());
    let (used, size) = (value(&seen, "memory-used", ""), value(&seen, "memory-size", ""));
    assert!(used > 0 && used < size);
    assert!(value(&seen, "cpu-busy", "") <= 100);
    let (used, size) = (value(&seen, "disk-used", "disk=/"), value(&seen, "disk-size", "disk=/"));
    assert!(used > 0 && used <= size);
    let short = look(&device(""), Depth::Faults).await.unwrap();
    assert!(short.counters.is_empty());
    assert_eq!(short.faults, seen.faults);
}

#[tokio::test]
async fn a_watched_program_runs_or_does_not() {
    let folder = tempfile::tempdir().unwrap();
    // One name fits what the kernel keeps of it, the other does not.
    let (short, long) = ("mf-sleep", "mailfleet-sleeps-for-a-test");
    let sleep = |name: &str| {
        let path = folder.path().join(name);
        std::fs::copy("/bin/sleep", &path).unwrap();
        Sleeper(Command::new(path).arg("600").spawn().unwrap())
    };
    let watched = device(&format!("watch_programs = [\"{short}\", \"{long}\", \"mailfleet-sleeps-x\"]\n"));
    let before = look(&watched, Depth::Full).await.unwrap();
    assert_eq!(value(&before, "program-running", &format!("program={short}")), 0);
    let _sleepers = [sleep(short), sleep(long)];
    let seen = look(&watched, Depth::Full).await.unwrap();
    let runs = |name: &str| value(&seen, "program-running", &format!("program={name}"));
    assert_eq!((runs(short), runs(long), runs("mailfleet-sleeps-x")), (1, 1, 0));
    assert!(value(&seen, "program-seconds", &format!("program={short}")) < 600);
}
