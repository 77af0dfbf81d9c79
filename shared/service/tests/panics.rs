//! What becomes of panics, in a process of its own.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use service::panics::{caught, end_the_process};

const CHILD: &str = "MAILFLEET_PANICS";

#[test]
fn a_parser_s_panic_is_a_bad_mail_and_any_other_ends_the_process() {
    if std::env::var_os(CHILD).is_some() {
        end_the_process();
        assert_eq!(caught(|| panic!("the text of a mail")), None::<()>);
        assert_eq!(caught(|| 7), Some(7));
        println!("goes on");
        let _ = std::thread::spawn(|| panic!("a bug")).join();
        println!("goes on without that thread");
        return;
    }
    let test = ["--exact", "--nocapture", "a_parser_s_panic_is_a_bad_mail_and_any_other_ends_the_process"];
    let out = Command::new(std::env::current_exe().unwrap()).args(test).env(CHILD, "1").output().unwrap();
    let said = |bytes: &[u8], text: &str| String::from_utf8_lossy(bytes).contains(text);
    assert_eq!(out.status.signal(), Some(6), "SIGABRT: {out:?}");
    assert!(said(&out.stdout, "goes on") && !said(&out.stdout, "without"), "{out:?}");
    assert!(said(&out.stderr, "a bug") && !said(&out.stderr, "the text of a mail"), "{out:?}");
}
