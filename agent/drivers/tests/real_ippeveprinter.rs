//! Against `ippeveprinter`, the printer of CUPS for tests (Debian package cups-ipp-utils), another implementation of the
//! protocol: attributes, a fault that comes with a job, and TLS with the certificate that it makes for itself. Starts it on
//! loopback in a folder of its own, and stops it by its pid; so too a message bus that nobody else is on, because this
//! printer does not start without one, even if it is to tell nobody of itself.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may panic")]

mod common;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::look;
use drivers::{Depth, Device, PollFault};
use shared::device::{DeviceClass, Observation, Status, SupplyKind};
use tempfile::TempDir;

/// Longest time until it answers: it makes a key first.
const LIMIT: Duration = Duration::from_secs(60);

/// Between two looks while something is waited for.
const PAUSE: Duration = Duration::from_millis(50);

/// What it says of itself beside what it always says.
const ATTRIBUTES: &str = r##"
ATTR text printer-device-id "MFG:Acme;MDL:Everywhere 5;SN:EV-0005;"
ATTR name marker-names "Black","Cyan"
ATTR keyword marker-types "toner","toner"
ATTR name marker-colors "#000000","#00FFFF"
ATTR integer marker-levels 40,-3
ATTR integer printer-impressions-completed 4711
ATTR text printer-firmware-name "main"
ATTR text printer-firmware-string-version "2.5"
"##;

struct Evp {
    child: Child,
    bus: Child,
    port: u16,
    home: TempDir,
}

fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Evp {
    /// `None` where it is not installed; `scripts/test` installs it, and then it must be there.
    async fn start(arguments: &[&str]) -> Option<Self> {
        let path = format!("/usr/sbin:{}", std::env::var("PATH").unwrap_or_default());
        let is_there = |program| Command::new(program).arg("--version").env("PATH", &path).output().is_ok();
        if !is_there("ippeveprinter") || !is_there("dbus-daemon") {
            let why = "no ippeveprinter or no dbus-daemon; scripts/test installs them";
            assert!(std::env::var_os("MAILFLEET_TEST_ALL").is_none(), "{why}");
            println!("skipped: {why}");
            return None;
        }
        let home = TempDir::new().unwrap();
        let port = port();
        for folder in ["spool", "keys"] {
            fs::create_dir(home.path().join(folder)).unwrap();
        }
        let address = format!("unix:path={}", home.path().join("bus").display());
        let bus = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--nopidfile", "--address", &address])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let since = Instant::now();
        while !home.path().join("bus").exists() {
            assert!(since.elapsed() < LIMIT, "the bus is not there");
            tokio::task::yield_now().await;
        }
        let log = fs::File::create(home.path().join("log")).unwrap();
        let child = Command::new("ippeveprinter")
            .args(["-v", "-r", "off", "-n", "localhost", "-p", &port.to_string()])
            .arg("-d")
            .arg(home.path().join("spool"))
            .arg("-K")
            .arg(home.path().join("keys"))
            .args(arguments)
            .arg("Second Floor")
            .env("PATH", &path)
            .env("HOME", home.path())
            .env("DBUS_SYSTEM_BUS_ADDRESS", &address)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut evp = Self { child, bus, port, home };
        evp.wait("it answers", &evp.device("ipp", ""), |_| true).await;
        Some(evp)
    }

    fn device(&self, scheme: &str, more: &str) -> Device {
        let Self { port, .. } = self;
        let text = format!(
            "[[device]]\nname = \"it\"\ndriver = \"ipp\"\naddress = \"{scheme}://localhost:{port}/ipp/print\"\n\
             timeout = \"10s\"\n{more}"
        );
        drivers::read_devices(&text).unwrap().remove(0)
    }

    async fn wait(
        &mut self,
        what: &str,
        device: &Device,
        is_it: impl Fn(&Observation) -> bool,
    ) -> Observation {
        let since = Instant::now();
        loop {
            let looked = look(device, Depth::Full).await;
            if let Ok(seen) = looked.clone()
                && is_it(&seen)
            {
                return seen;
            }
            let ended = self.child.try_wait().unwrap();
            let log = fs::read_to_string(self.home.path().join("log")).unwrap_or_default();
            let log: Vec<_> = log.lines().filter(|line| !line.starts_with("localhost ")).take(60).collect();
            let log = log.join("\n");
            assert!(ended.is_none() && since.elapsed() < LIMIT, "{what}: {ended:?} {looked:?}\n{log}");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Drop for Evp {
    fn drop(&mut self) {
        for child in [&mut self.child, &mut self.bus] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A file of the printer's folder that it can run or read.
fn put(folder: &Path, name: &str, text: &str, mode: u32) -> String {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn what_a_printer_is_and_has_is_read() {
    let Some(evp) = Evp::start(&["-M", "Acme", "-m", "Everywhere 5", "-s", "10,5", "-2"]).await else {
        return;
    };
    let seen = look(&evp.device("ipp", ""), Depth::Full).await.unwrap();
    println!("{seen:#?}");
    assert_eq!((seen.class, seen.status), (DeviceClass::Printer, Status::Idle));
    assert_eq!(seen.identity.vendor.as_ref().unwrap().as_str(), "Acme");
    assert!(seen.identity.model.as_ref().unwrap().as_str().contains("Everywhere 5"));
    assert_eq!(seen.identity.host.as_ref().unwrap().as_str(), "Second Floor");
    assert!(seen.identity.serial.as_ref().unwrap().as_str().starts_with("urn:uuid:"));
    assert!(seen.uptime.is_some() && seen.faults.is_empty() && seen.left_out.is_empty());
    let has = |kind| seen.supplies.iter().any(|supply| supply.kind == kind && supply.percent().is_some());
    assert!(has(SupplyKind::Ink) && has(SupplyKind::Waste), "{:#?}", seen.supplies);
    assert!(seen.supplies.iter().any(|supply| supply.kind == SupplyKind::Media));
}

#[tokio::test]
async fn attributes_of_another_file_are_read() {
    let folder = TempDir::new().unwrap();
    let attributes = put(folder.path(), "attributes", ATTRIBUTES, 0o644);
    let Some(evp) = Evp::start(&["-a", &attributes]).await else { return };
    let seen = look(&evp.device("ipp", ""), Depth::Full).await.unwrap();
    assert_eq!(seen.identity.serial.as_ref().unwrap().as_str(), "EV-0005", "{seen:#?}");
    assert_eq!(seen.identity.model.as_ref().unwrap().as_str(), "Everywhere 5");
    assert_eq!(seen.identity.firmware[0].version.as_str(), "2.5");
    assert_eq!(seen.counters[0].value, 4_711);
}

#[tokio::test]
async fn a_fault_that_comes_with_a_job_is_seen() {
    let folder = TempDir::new().unwrap();
    let command = put(
        folder.path(),
        "print", // Its reasons last as long as the job.
        "#!/bin/sh\necho 'STATE: +media-jam,toner-low' >&2\n\
         for i in $(seq 600); do [ -e \"$0.done\" ] && exit 0; sleep 0.1; done\n",
        0o755,
    );
    let Some(mut evp) = Evp::start(&["-c", &command, "-f", "text/plain"]).await else { return };
    let job = put(folder.path(), "job.txt", "hello\n", 0o644);
    let test = put(
        folder.path(),
        "print-job.test",
        "{\nOPERATION Print-Job\nGROUP operation-attributes-tag\nATTR charset attributes-charset utf-8\n\
         ATTR language attributes-natural-language en\nATTR uri printer-uri $uri\n\
         ATTR name requesting-user-name test\nATTR mimeMediaType document-format text/plain\nFILE $filename\n\
         STATUS successful-ok\n}\n",
        0o644,
    );
    let uri = format!("ipp://localhost:{}/ipp/print", evp.port);
    let sent = Command::new("ipptool").args(["-tv", "-f", &job, &uri, &test]).output().unwrap();
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stdout));
    let device = evp.device("ipp", "");
    let seen = evp.wait("the jam is seen", &device, |seen| seen.faults.len() >= 2).await;
    let codes: Vec<_> = seen.faults.iter().map(|fault| fault.code.as_str()).collect();
    assert!(codes.contains(&"ipp:media-jam") && codes.contains(&"ipp:toner-low"), "{codes:?}");
    put(folder.path(), "print.done", "", 0o644);
    evp.wait("it is over", &device, |seen| seen.faults.is_empty()).await;
}

#[tokio::test]
async fn its_own_certificate_is_accepted_only_where_the_list_says_so() {
    let Some(evp) = Evp::start(&[]).await else { return };
    let fault = look(&evp.device("ipps", ""), Depth::Faults).await.unwrap_err();
    let PollFault::Untrusted { why, .. } = &fault else { panic!("{fault:?}") };
    assert!(why.contains("self_signed = true"), "{why}");
    let seen = look(&evp.device("ipps", "self_signed = true\n"), Depth::Faults).await.unwrap();
    assert_eq!(seen.status, Status::Idle);
}
