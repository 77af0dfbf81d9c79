//! Runs each script `fixtures/golden/*.cmds` and compares what it prints with `*.out`. `UPDATE_GOLDEN=1`
//! writes the `.out` files anew; look at the difference before you commit it.
//!
//! A script is one shell command a line, run in an empty folder of its own with `mailfleet` on the PATH and
//! `$FIXTURES` set. Lines of standard error are marked with `!`. What differs from run to run (times,
//! digests, key IDs, temporary paths) is replaced by a word.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]
#![allow(clippy::arithmetic_side_effects, reason = "a test may overflow and fail")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

macro_rules! golden {
    ($($name:ident)*) => {
        $(#[test] fn $name() { play(stringify!($name)); })*

        #[test]
        fn every_script_is_played_by_a_test() {
            let mut listed = vec![$(stringify!($name).to_owned()),*];
            listed.sort();
            assert_eq!(scripts(), listed, "a .cmds file without a test, or the other way round");
        }
    };
}

golden! {
    agents
    bad_bundles
    build_and_inspect
    campaign
    doctor
    help
    import
    keys
    usage
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").canonicalize().unwrap()
}

fn scripts() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(fixtures().join("golden"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "cmds"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().replace('-', "_"))
        .collect();
    names.sort();
    names
}

fn play(test: &str) {
    let name = test.replace('_', "-");
    let golden = fixtures().join("golden");
    let script = fs::read_to_string(golden.join(format!("{name}.cmds"))).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut transcript = String::new();
    for line in script.lines().filter(|l| !l.trim().is_empty()) {
        if line.starts_with('#') {
            transcript.push_str(&format!("{line}\n"));
        } else {
            transcript.push_str(&run(line, dir.path()));
        }
    }
    let out = golden.join(format!("{name}.out"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&out, &transcript).unwrap();
    }
    let expected = fs::read_to_string(&out).unwrap_or_default();
    if expected != transcript {
        let first = expected.lines().zip(transcript.lines()).position(|(a, b)| a != b);
        let at = first.unwrap_or_else(|| expected.lines().count().min(transcript.lines().count()));
        panic!(
            "{} differs at line {}:\n  expected: {:?}\n  found:    {:?}\nwhole transcript:\n{transcript}",
            out.display(),
            at + 1,
            expected.lines().nth(at),
            transcript.lines().nth(at)
        );
    }
}

fn run(line: &str, dir: &Path) -> String {
    let bin = Path::new(env!("CARGO_BIN_EXE_mailfleet")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let output = Command::new("sh")
        .args(["-c", line])
        .current_dir(dir)
        .env_clear()
        .env("PATH", path)
        .env("HOME", dir)
        .env("FIXTURES", fixtures())
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| steady(&String::from_utf8_lossy(bytes), dir);
    let mut transcript = format!("$ {line}\n{}", text(&output.stdout));
    for line in text(&output.stderr).lines() {
        transcript.push_str(&format!("! {line}\n"));
    }
    match output.status.code() {
        Some(0) => {}
        Some(code) => transcript.push_str(&format!("[exit {code}]\n")),
        None => transcript.push_str("[killed]\n"),
    }
    transcript
}

/// Replaces what differs from run to run.
fn steady(text: &str, dir: &Path) -> String {
    let text = text.replace(fixtures().to_str().unwrap(), "$FIXTURES").replace(dir.to_str().unwrap(), "$DIR");
    let mut out = String::new();
    let mut word = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '+') {
            word.push(c);
        } else {
            out.push_str(&steady_word(&word));
            word.clear();
            out.push(c);
        }
    }
    out.pop();
    out
}

fn steady_word(word: &str) -> String {
    let (word, colon) = word.strip_suffix(':').map_or((word, ""), |word| (word, ":"));
    let shape: String = word.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let hex = word.bytes().all(|b| b.is_ascii_hexdigit());
    let steady = match word.len() {
        20 if shape == "0000-00-00T00:00:00Z" => "<TIME>",
        64 if hex => "<SHA-256>",
        32 if hex => "<ID>",
        16 if hex => "<KEY-ID>",
        _ => word,
    };
    format!("{steady}{colon}")
}
