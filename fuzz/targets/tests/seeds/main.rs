//! The first inputs of every target, made by our own code: what is sound is accepted. `UPDATE_GOLDEN=1` writes
//! them into `fuzz/corpus`, for the engine to start from.
#![allow(clippy::unwrap_used, clippy::panic, clippy::arithmetic_side_effects, reason = "tests may panic")]

mod devices;
mod mails;
mod sealed;
mod servers;
mod settings;

use std::fs;
use std::path::Path;

use fuzz_targets::{TARGETS, unbind_panics};

/// Target, name, bytes.
pub(crate) type Seed = (&'static str, &'static str, Vec<u8>);

fn seeds() -> Vec<Seed> {
    [sealed::seeds(), mails::seeds(), servers::seeds(), settings::seeds(), devices::seeds()].concat()
}

#[test]
fn every_target_accepts_what_our_own_code_makes() {
    unbind_panics();
    let seeds = seeds();
    for target in TARGETS {
        assert!(seeds.iter().any(|(name, ..)| *name == target.name), "{} has no seed", target.name);
    }
    for (target, name, bytes) in &seeds {
        let accepted = TARGETS.iter().find(|t| t.name == *target).unwrap().play(bytes);
        assert!(accepted, "{target} refuses {name}: {}", String::from_utf8_lossy(bytes));
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(target);
        let file = folder.join(format!("seed-{name}"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&file, bytes).unwrap();
        }
        // Not compared: a new compressor may make other bytes of the same bundle.
        assert!(file.exists(), "{} is missing: UPDATE_GOLDEN=1 writes it", file.display());
    }
}
