//! Plays a script of commands and compares what they print with a file that was looked at. `UPDATE_GOLDEN=1` writes the
//! file anew.
//!
//! A script is one shell command a line, run in a folder with `mailfleet` on the PATH and `$FIXTURES` set. Lines of standard
//! error are marked with `!`. What differs from run to run (times of today, digests, key IDs, temporary paths) is
//! replaced by a word.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file uses its part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").canonicalize().unwrap()
}

/// Plays `NAME.cmds` of a folder in `dir`, and compares with `NAME.out`.
pub fn play(golden: &Path, name: &str, dir: &Path) {
    play_at(golden, name, dir, &[]);
}

/// As [`play`], with more in the environment.
pub fn play_at(golden: &Path, name: &str, dir: &Path, env: &[(&str, &Path)]) {
    let script = fs::read_to_string(golden.join(format!("{name}.cmds"))).unwrap();
    let mut transcript = String::new();
    for line in script.lines().filter(|l| !l.trim().is_empty()) {
        if line.starts_with('#') {
            transcript.push_str(&format!("{line}\n"));
        } else {
            transcript.push_str(&run(line, dir, env));
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

fn run(line: &str, dir: &Path, env: &[(&str, &Path)]) -> String {
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
        .envs(env.iter().copied())
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
