//! `agent import`: ten thousand rows in seconds, all or nothing, and safe to run again.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]
#![allow(clippy::arithmetic_side_effects, reason = "a test may overflow and fail")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

fn mailfleet(dir: &Path, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mailfleet"))
        .args(line.split(' '))
        .current_dir(dir)
        .env_clear()
        .env("MAILFLEET_HOME", dir.join("home"))
        .output()
        .unwrap()
}

fn good(dir: &Path, line: &str) -> String {
    let output = mailfleet(dir, line);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn manager() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let post = dir.path().join("post");
    let init =
        format!("init --address manager@lab.test --send spool:{0} --receive spool:{0}", post.display());
    good(dir.path(), &init);
    dir
}

fn csv(rows: usize) -> String {
    let mut text = "id,mail,class,site,note,admin\n".to_owned();
    for n in 0..rows {
        text.push_str(&format!(
            "A{n:05},box{n}@lab.test,office-gateway,Site {},\"Customer {n}, Ltd\",\n",
            n % 97
        ));
    }
    text
}

fn agents(dir: &Path) -> usize {
    let list: serde_json::Value = serde_json::from_str(&good(dir, "agent list --json")).unwrap();
    list["agents"].as_array().unwrap().len()
}

#[test]
fn ten_thousand_rows_are_imported_in_seconds() {
    let dir = manager();
    fs::write(dir.path().join("agents.csv"), csv(10_000)).unwrap();
    let began = Instant::now();
    good(dir.path(), "agent import agents.csv -o invites");
    let took = began.elapsed();
    println!("imported 10,000 agents in {took:.1?}");
    assert_eq!(agents(dir.path()), 10_000);
    let files: Vec<_> = fs::read_dir(dir.path().join("invites")).unwrap().map(|e| e.unwrap()).collect();
    assert_eq!(files.len(), 10_000);
    assert!(files.iter().all(|f| f.metadata().unwrap().permissions().mode() & 0o777 == 0o600));
    assert!(took.as_secs() < 60, "{took:?}");
    // Again: nothing changes, and each invitation stays the one that may be on its way already.
    let sample = dir.path().join("invites/A00042.invite");
    let before = fs::read(&sample).unwrap();
    let began = Instant::now();
    good(dir.path(), "agent import agents.csv -o invites");
    println!("imported the same again in {:.1?}", began.elapsed());
    assert_eq!(fs::read(&sample).unwrap(), before);
    assert_eq!(agents(dir.path()), 10_000);
}

#[test]
fn one_bad_row_among_thousands_imports_nothing_and_is_named_with_its_line() {
    let dir = manager();
    let text = csv(2_000).replace("box1234@lab.test", "box1234");
    fs::write(dir.path().join("agents.csv"), text).unwrap();
    let output = mailfleet(dir.path(), "agent import agents.csv -o invites");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("line 1236: mail: expected a mail address"), "{stderr}");
    assert!(stderr.contains("nothing was imported"), "{stderr}");
    assert_eq!(agents(dir.path()), 0);
    assert!(!dir.path().join("invites").exists());
}

#[test]
fn an_import_that_was_killed_between_the_store_and_the_files_is_completed_by_running_it_again() {
    let dir = manager();
    fs::write(dir.path().join("agents.csv"), csv(50)).unwrap();
    good(dir.path(), "agent import agents.csv -o invites");
    let invites = dir.path().join("invites");
    let kept = fs::read(invites.join("A00001.invite")).unwrap();
    // What a kill in the middle leaves: rows in the store, some files, and a temporary one.
    for n in 10..50 {
        fs::remove_file(invites.join(format!("A{n:05}.invite"))).unwrap();
    }
    good(dir.path(), "agent import agents.csv -o invites");
    assert_eq!(fs::read_dir(&invites).unwrap().count(), 50);
    assert_eq!(fs::read(invites.join("A00001.invite")).unwrap(), kept);
}

#[test]
fn a_row_that_contradicts_an_agent_that_is_there_is_refused_with_its_line() {
    let dir = manager();
    fs::write(dir.path().join("agents.csv"), csv(5)).unwrap();
    good(dir.path(), "agent import agents.csv -o invites");
    let other = csv(6).replace("box3@lab.test", "other@lab.test");
    fs::write(dir.path().join("agents.csv"), other).unwrap();
    let output = mailfleet(dir.path(), "agent import agents.csv -o invites");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("line 5: "), "{stderr}");
    assert_eq!(agents(dir.path()), 5);
}
