//! Whoever reads what a command prints may go away (`| head -1`): then it ends as if all had been read. The real program
//! with pipes that nobody reads.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::fs::File;
use std::process::{Command, Output, Stdio};

use common::{World, text};

/// A pipe that nobody reads.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn complaint(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

fn code(command: &mut Command) -> i32 {
    command.status().unwrap().code().expect("no signal ends it")
}

#[test]
fn what_a_command_says_may_be_read_by_nobody() {
    let w = World::enrolled();
    for args in [
        &["status"][..],
        &["status", "--json"],
        &["versions"],
        &["doctor"],
        &["devices", "list"],
        &["lease", "take", "billing", "--reason", "r", "--for", "1m"],
        &["lease", "list", "--json"],
        &["--help"],
    ] {
        let out = w.command(args).stdout(closed()).stderr(Stdio::piped()).output().unwrap();
        assert_eq!((out.status.code(), complaint(&out).as_str()), (Some(0), ""), "{args:?}");
    }
    assert!(text(&w.agent(&["lease", "list"])).contains("billing"), "what it was told to do is done");
}

#[test]
fn an_enrolment_whose_words_nobody_reads_is_mailed() {
    let w = World::new();
    let out = w.enrol_command(&w.invitation()).stdout(closed()).output().unwrap();
    assert_eq!((out.status.code(), complaint(&out).as_str()), (Some(0), ""));
    assert!(text(&w.agent(&["status"])).contains("A0001"), "it is set up");
}

#[test]
fn a_standard_error_that_nobody_reads_takes_neither_log_nor_complaint() {
    let w = World::enrolled();
    assert_eq!(code(w.command(&["--log", "trace", "run", "--once"]).stderr(closed())), 0);
    assert_eq!(code(w.command(&["--home", "/nonexistent", "status"]).stderr(closed())), 2);
    assert_eq!(code(w.command(&["no-such-command"]).stderr(closed())), 2);
    // 2>&1 | head -1
    let mut both = w.command(&["--log", "trace", "run", "--once"]);
    assert_eq!(code(both.stdout(closed()).stderr(closed())), 0);
}

#[test]
fn output_that_no_disk_takes_is_an_error() {
    let w = World::enrolled();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let out = w.command(&["status"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(complaint(&out).contains("cannot write to standard output"), "{}", complaint(&out));
}
