//! Whoever reads what a command prints may go away (`| head -1`): then it ends as if all had been read. The real program
//! with pipes that nobody reads.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::process::{Command, Stdio};

/// A pipe that nobody reads.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// A manager with some agents on their way.
struct Fleet(tempfile::TempDir);

impl Fleet {
    fn new() -> Self {
        let fleet = Self(tempfile::tempdir().unwrap());
        let spool = format!("spool:{}", fleet.0.path().join("post").display());
        fleet.good(&format!("init --address manager@lab.test --send {spool} --receive {spool}"));
        let rows: String = (1..50).map(|n| format!("A{n:04},a{n}@lab.test,office,Site {n},,\n")).collect();
        let csv = format!("id,mail,class,site,note,admin\n{rows}");
        std::fs::write(fleet.0.path().join("agents.csv"), csv).unwrap();
        fleet.good("agent import agents.csv -o invites");
        fleet
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mailfleet"));
        command.args(line.split(' ')).current_dir(self.0.path()).env_clear();
        command.env("MAILFLEET_HOME", self.0.path().join("home")).stdin(Stdio::null());
        command
    }

    fn good(&self, line: &str) {
        let output = self.command(line).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn code(command: &mut Command) -> i32 {
    command.status().unwrap().code().expect("no signal ends it")
}

#[test]
fn what_a_command_says_may_be_read_by_nobody() {
    let fleet = Fleet::new();
    for line in ["agent list", "agent list --json", "report devices", "keys list", "doctor", "--help"] {
        let out = fleet.command(line).stdout(closed()).stderr(Stdio::piped()).output().unwrap();
        let complaint = String::from_utf8_lossy(&out.stderr);
        assert_eq!((out.status.code(), complaint.as_ref()), (Some(0), ""), "{line}");
    }
}

#[test]
fn a_standard_error_that_nobody_reads_takes_neither_log_nor_complaint() {
    let fleet = Fleet::new();
    assert_eq!(code(fleet.command("run --once").env("MAILFLEET_LOG", "trace").stderr(closed())), 0);
    assert_eq!(code(fleet.command("campaign show 7").stderr(closed())), 2);
    assert_eq!(code(fleet.command("no-such-command").stderr(closed())), 2);
    // 2>&1 | head -1
    let mut both = fleet.command("run --once");
    assert_eq!(code(both.env("MAILFLEET_LOG", "trace").stdout(closed()).stderr(closed())), 0);
}
