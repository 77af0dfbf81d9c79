//! The rules of the house that no compiler checks: who may depend on whom, where IO may be, that rules of
//! the protocol are cited, that every file says what it is.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests may panic"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PURE: [(&str, &str); 3] =
    [("shared", "shared"), ("agent-core", "agent/core"), ("manager-core", "manager/core")];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Every Rust file below a folder of the repository.
fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn all_rust_files() -> Vec<PathBuf> {
    ["shared", "agent", "manager", "fuzz"].iter().flat_map(|folder| rust_files(folder)).collect()
}

/// Names of all packages that `package` links, itself included.
fn linked(package: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--offline",
            "-e",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
            "-p",
            package,
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn pure_crates_link_no_clock_randomness_files_or_sockets() {
    for (package, _) in PURE {
        let linked = linked(package);
        for banned in [
            "tokio",
            "rusqlite",
            "getrandom",
            "rand",
            "rustix",
            "socket2",
            "mio",
            "lettre",
            "async-imap",
            "tempfile",
        ] {
            assert!(!linked.contains(banned), "{package} links {banned}");
        }
    }
}

#[test]
fn dependencies_point_downwards_only() {
    let ours = [
        "shared",
        "mailio",
        "service",
        "testkit",
        "agent-core",
        "drivers",
        "mailfleet-agent",
        "manager-core",
        "mailfleet",
        "fuzz-targets",
    ];
    let allowed: [(&str, &[&str]); 10] = [
        ("shared", &[]),
        ("mailio", &["shared", "service"]),
        ("service", &[]),
        ("agent-core", &["shared"]),
        ("manager-core", &["shared"]),
        ("drivers", &["shared"]),
        ("mailfleet-agent", &["shared", "mailio", "service", "agent-core", "drivers"]),
        ("mailfleet", &["shared", "mailio", "service", "manager-core"]),
        ("testkit", &["shared", "agent-core", "manager-core"]),
        (
            "fuzz-targets",
            &[
                "shared",
                "mailio",
                "service",
                "agent-core",
                "drivers",
                "mailfleet-agent",
                "manager-core",
                "mailfleet",
            ],
        ),
    ];
    for (package, below) in allowed {
        let linked = linked(package);
        for other in ours.iter().filter(|other| **other != package && !below.contains(other)) {
            assert!(!linked.contains(*other), "{package} must not see {other}");
        }
    }
}

#[test]
fn no_crate_links_openssl() {
    for package in ["mailfleet", "mailfleet-agent"] {
        let linked = linked(package);
        for banned in ["openssl-sys", "native-tls", "aws-lc-sys"] {
            assert!(!linked.contains(banned), "{package} links {banned}");
        }
    }
}

#[test]
fn every_dependency_has_a_licence_that_we_may_ship() {
    const FINE: [&str; 12] = [
        "MIT",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "Zlib",
        "0BSD",
        "Unlicense",
        "CC0-1.0",
        "Unicode-3.0",
        "BSL-1.0",
        "BlueOak-1.0.0",
    ];
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--format-version", "1", "--filter-platform", &platform])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for package in metadata["packages"].as_array().unwrap() {
        // An SPDX expression: one fine choice of each "OR" is enough, every "AND" is needed.
        let licence = package["license"].as_str().unwrap_or("none").replace('/', " OR ");
        let fine = licence.replace(['(', ')'], "").split(" AND ").all(|all| {
            all.split(" OR ").any(|one| FINE.contains(&one.split(" WITH ").next().unwrap().trim()))
        });
        assert!(fine, "{} is under {licence}", package["name"]);
    }
}

#[test]
fn pure_crates_call_no_clock_files_or_sockets() {
    for (_, folder) in PURE {
        for file in rust_files(&format!("{folder}/src")) {
            if file.ends_with("tests.rs") {
                continue;
            }
            let text = fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            for banned in
                ["::now(", "std::fs", "std::net", "std::process", "std::env", "std::thread", "SystemTime"]
            {
                assert!(!code.contains(banned), "{} uses {banned}", file.display());
            }
        }
    }
}

#[test]
fn every_file_says_what_it_is() {
    for file in all_rust_files() {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//! "), "{} does not begin with a //! header", file.display());
        let banned = ["TODO", "FIXME", "XXX"].map(|word| format!("// {word}"));
        for word in banned {
            assert!(!text.contains(&word), "{} has a {word}", file.display());
        }
    }
}

#[test]
fn test_names_are_sentences_and_ignored_tests_have_an_issue() {
    for file in all_rust_files().into_iter().filter(|file| !file.ends_with("house.rs")) {
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains("fn test_"), "{}: a test's name says the behaviour", file.display());
        for (at, _) in text.match_indices("#[ignore") {
            assert!(text[at..].starts_with("#[ignore = \"#"), "{}: ignore without an issue", file.display());
        }
    }
}

#[test]
fn what_a_command_of_the_manager_changes_stands_in_the_audit_log() {
    let writers: Vec<PathBuf> = rust_files("manager/src/cli")
        .into_iter()
        .filter(|file| fs::read_to_string(file).unwrap().contains(".write(|tx"))
        .collect();
    assert_eq!(writers, [root().join("manager/src/cli/audited.rs")], "another way to write leaves no row");
}

#[test]
fn every_rule_of_the_protocol_is_cited_and_every_citation_exists() {
    let protocol = fs::read_to_string(root().join("PROTOCOL.md")).unwrap();
    let rules: BTreeSet<String> = protocol
        .lines()
        .filter_map(|line| line.strip_prefix("- **"))
        .filter_map(|line| line.split_once("**"))
        .map(|(rule, _)| rule.to_owned())
        .collect();
    assert!(rules.len() > 30, "{rules:?}");
    let mut cited = BTreeSet::new();
    for file in all_rust_files().into_iter().filter(|file| !file.ends_with("house.rs")) {
        let text = fs::read_to_string(&file).unwrap();
        for (at, word) in text.match_indices("PROTOCOL ") {
            let rest = &text[at + word.len()..];
            // "PROTOCOL 3.4" or "PROTOCOL 3.4, 3.5".
            for number in rest.split([' ', ',', ':', ';', ')', '\n']).filter(|w| !w.is_empty()) {
                let number = number.trim_end_matches('.');
                if !number.contains('.') || !number.chars().all(|c| c.is_ascii_digit() || c == '.') {
                    break;
                }
                assert!(rules.contains(number), "{} cites rule {number}, which is not there", file.display());
                cited.insert(number.to_owned());
            }
        }
    }
    let missing: Vec<_> = rules.difference(&cited).collect();
    assert!(missing.is_empty(), "no code or test cites PROTOCOL {missing:?}");
}
