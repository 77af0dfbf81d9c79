//! What somebody does who sets a box up: look for devices in the network, add them to the list, take them out, with the
//! real agent and devices on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod common;
#[path = "../drivers/tests/common/mod.rs"]
mod station;

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use common::{World, text};
use station::printer::{Printer, answer, http, small};
use station::{Rows, Station, recording};

/// A printer that answers SNMP.
fn printer() -> Rows {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/devices/00-whole.snmprec");
    recording(&fs::read_to_string(path).unwrap())
}

fn list(w: &World) -> PathBuf {
    w.home().join("devices.toml")
}

fn secret(w: &World, name: &str, text: &str) -> String {
    let path = w.folder.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

fn add(w: &World, name: &str, more: &[&str]) -> Output {
    w.agent(&[&["devices", "add", name], more].concat())
}

fn code(out: &Output) -> i32 {
    out.status.code().unwrap()
}

/// A port at which nobody is.
fn closed_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

#[test]
fn a_device_is_asked_shown_and_added_and_what_people_wrote_stays() {
    let w = World::enrolled();
    let station = Station::serve(printer());
    let written = "# The devices of this site.\n\n[[device]]\nname = \"scale\"   # in the yard\ndriver = \"exec\"\n\
        command = [\"true\"]\n";
    fs::write(list(&w), written).unwrap();
    fs::set_permissions(list(&w), fs::Permissions::from_mode(0o600)).unwrap();
    let out = add(&w, "mfp", &["--driver", "snmp", "--address", &station.address.to_string()]);
    assert_eq!(code(&out), 0, "{}", text(&out));
    let shown = text(&out);
    assert!(
        shown.contains("mfp: printer") && shown.contains("SN-0001") && shown.contains("Added to"),
        "{shown}"
    );
    let kept = fs::read_to_string(list(&w)).unwrap();
    assert!(kept.starts_with(written), "{kept}");
    assert_eq!(fs::metadata(list(&w)).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(code(&w.agent(&["devices", "poll", "mfp"])), 0);
    let out = w.agent(&["devices", "remove", "mfp"]);
    assert_eq!(code(&out), 0, "{}", text(&out));
    assert_eq!(fs::read_to_string(list(&w)).unwrap().trim_end(), written.trim_end());
    assert_eq!(code(&w.agent(&["devices", "remove", "mfp"])), 2);
}

#[test]
fn a_device_that_does_not_answer_is_not_added_unless_it_is_wanted() {
    let w = World::enrolled();
    let station = Station::serve(printer());
    let address = station.address.to_string();
    let community = secret(&w, "community", "not-this-one\n");
    let way =
        ["--driver", "snmp", "--address", &address, "--timeout", "200ms", "--community-file", &community];
    let out = add(&w, "mfp", &way);
    assert_eq!(code(&out), 3);
    assert!(text(&out).contains("community") && text(&out).contains("--no-check"), "{}", text(&out));
    assert!(!list(&w).exists());
    let out = add(&w, "mfp", &[&way[..], &["--no-check"]].concat());
    assert_eq!(code(&out), 0, "{}", text(&out));
    assert!(!text(&out).contains("not-this-one"), "secrets are not shown");
    let kept = fs::read_to_string(list(&w)).unwrap();
    assert!(kept.contains("community = \"not-this-one\""), "{kept}");
    let out = add(&w, "mfp", &["--driver", "host"]);
    assert_eq!(code(&out), 2);
    assert!(text(&out).contains("\"mfp\" already"), "{}", text(&out));
    assert_eq!(fs::read_to_string(list(&w)).unwrap(), kept);
}

#[test]
fn a_secret_comes_from_a_file_the_input_or_the_environment() {
    let w = World::enrolled();
    let v3 = ["--driver", "snmp", "--address", "192.0.2.1", "--version", "3", "--user", "mon", "--no-check"];
    let v3 = [&v3[..], &["--auth", "sha256", "--privacy", "aes128"]].concat();
    let files = ["--auth-password-file", "-", "--privacy-password-file", "-"];
    let mut command = w.command(&[&["devices", "add", "one"], &v3[..], &files].concat());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"authpass123\nprivpass123\n").unwrap();
    let out = child.wait_with_output().unwrap();
    assert_eq!(code(&out), 0, "{}", text(&out));
    let mut command = w.command(&[&["devices", "add", "two"], &v3[..]].concat());
    command.env("MAILFLEET_AUTH_PASSWORD", "authpass456").env("MAILFLEET_PRIVACY_PASSWORD", "privpass456");
    let out = command.env("MAILFLEET_COMMUNITY", "unused").output().unwrap();
    assert_eq!(code(&out), 0, "{}", text(&out));
    let kept = fs::read_to_string(list(&w)).unwrap();
    for secret in ["authpass123", "privpass123", "authpass456", "privpass456"] {
        assert_eq!(kept.matches(secret).count(), 1, "{kept}");
    }
    assert!(!kept.contains("unused"));
    let open = secret(&w, "open", "authpass123");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let out = add(&w, "three", &[&v3[..], &["--auth-password-file", &open]].concat());
    assert_eq!(code(&out), 2);
    assert!(text(&out).contains("0600"), "{}", text(&out));
    let out = add(&w, "three", &v3);
    assert_eq!(code(&out), 2, "without passwords");
    assert!(text(&out).contains("auth and auth_password belong together"), "{}", text(&out));
}

#[test]
fn a_printer_by_ipp_the_box_and_a_program_are_added_too() {
    let w = World::enrolled();
    let printer = Printer::saying(http(&answer(0, &small())));
    let out = add(&w, "office", &["--driver", "ipp", "--address", &printer.url()]);
    assert_eq!(code(&out), 0, "{}", text(&out));
    assert!(text(&out).contains("Acme LaserStar 7 S-0007"), "{}", text(&out));
    let out = add(&w, "box", &["--driver", "host", "--watch-program", "acad", "--timeout", "10s"]);
    assert_eq!(code(&out), 0, "{}", text(&out));
    assert!(text(&out).contains("program-running program=acad"), "{}", text(&out));
    let out = add(&w, "scale", &["--driver", "exec", "--", "echo", "{\"class\": \"other\"}"]);
    assert_eq!(code(&out), 0, "{}", text(&out));
    assert_eq!(code(&w.agent(&["devices", "poll"])), 0);
    let wrong = Printer::saying(b"HTTP/1.1 401 Unauthorized\r\n\r\n".to_vec());
    let out = add(&w, "locked", &["--driver", "ipp", "--address", &wrong.url()]);
    assert_eq!(code(&out), 2);
    assert!(text(&out).contains("login"), "{}", text(&out));
}

#[test]
fn devices_of_a_network_are_found_and_nothing_is_changed() {
    let w = World::enrolled();
    let station = Station::serve(printer());
    let port = station.address.port().to_string();
    let quick = ["--timeout", "200ms", "--ipp-port", &closed_port()];
    let look = |more: &[&str]| {
        w.agent(&[&["devices", "discover", "127.0.0.0/29", "--snmp-port", &port], &quick[..], more].concat())
    };
    let out = look(&["--json"]);
    assert_eq!(code(&out), 0, "{}", text(&out));
    let document: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((document["asked"].as_u64(), document["found"].as_array().unwrap().len()), (Some(6), 1));
    let found = &document["found"][0];
    assert_eq!((found["driver"].as_str(), found["serial"].as_str()), (Some("snmp"), Some("SN-0001")));
    assert_eq!(found["address"].as_str().unwrap(), station.address.to_string());
    assert!(!list(&w).exists());
    // What it prints can stand in the list.
    let out = look(&[]);
    fs::write(list(&w), &out.stdout).unwrap();
    fs::set_permissions(list(&w), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(code(&w.agent(&["devices", "poll"])), 0, "{}", text(&out));
    let again = text(&look(&[]));
    assert!(again.contains("It stands in devices.toml as \"testprint-100-1\""), "{again}");
}

#[test]
fn a_printer_that_answers_no_snmp_is_found_by_ipp() {
    let w = World::enrolled();
    let printer = Printer::saying(http(&answer(0, &small())));
    let silent = closed_port();
    let port = printer.address.port().to_string();
    let out = w.agent(&[
        "devices",
        "discover",
        "127.0.0.1",
        "--snmp-port",
        &silent,
        "--ipp-port",
        &port,
        "--timeout",
        "200ms",
    ]);
    let shown = text(&out);
    assert!(shown.contains("driver = \"ipp\"") && shown.contains(&printer.url()), "{shown}");
    assert!(shown.contains("1 asked: 1 found"), "{shown}");
    let web = Printer::saying(b"HTTP/1.1 404 Not Found\r\n\r\n".to_vec());
    let port = web.address.port().to_string();
    let out = w.agent(&[
        "devices",
        "discover",
        "127.0.0.1",
        "--snmp-port",
        &silent,
        "--ipp-port",
        &port,
        "--timeout",
        "200ms",
    ]);
    assert!(
        text(&out).contains("1 that cannot be used") && text(&out).contains("HTTP 404"),
        "{}",
        text(&out)
    );
}

#[test]
fn a_network_that_is_too_large_is_refused_before_anybody_is_asked() {
    let w = World::enrolled();
    let out = w.agent(&["devices", "discover", "10.0.0.0/8"]);
    assert_eq!(code(&out), 2);
    assert!(text(&out).contains("at most a /20"), "{}", text(&out));
    let out = w.agent(&["devices", "discover", "127.0.0.1", "--timeout", "1h"]);
    assert_eq!(code(&out), 2);
}
