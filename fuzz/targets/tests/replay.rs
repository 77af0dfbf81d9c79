//! Plays every kept input to its target: those that reach different code (`fuzz/corpus`), and those that a
//! decoder once did not survive (`fuzz/crashes`). One test, because the bound of memory is the process's.
#![allow(clippy::unwrap_used, clippy::panic, clippy::arithmetic_side_effects, reason = "tests may panic")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fuzz_targets::{TARGETS, Target, unbind_panics};

/// What the repository takes of inputs: the bytes of one, those of a target, and the bytes of all. More would be
/// read by nobody; `scripts/fuzz --keep` stays below.
const INPUT_MAX_BYTES: u64 = 4_096;
const INPUTS_MAX_COUNT: usize = 40;
const INPUTS_MAX_BYTES: u64 = 600_000;

/// Far more than any input needs, also on a busy machine without optimisation.
const INPUT_TIME_MAX: Duration = Duration::from_secs(10);

fn inputs(kind: &str, target: &Target) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(kind).join(target.name);
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn play(target: &Target, file: &Path) {
    let input = fs::read(file).unwrap();
    let began = Instant::now();
    let accepted = catch_unwind(AssertUnwindSafe(|| target.play(&input)))
        .unwrap_or_else(|_| panic!("{} does not survive {}", target.name, file.display()));
    assert!(began.elapsed() < INPUT_TIME_MAX, "{} takes {:?}", file.display(), began.elapsed());
    let seed = file.file_name().unwrap().to_string_lossy().starts_with("seed-");
    assert!(accepted || !seed, "{} is refused: UPDATE_GOLDEN=1 makes seeds anew", file.display());
}

#[test]
fn every_kept_input_is_survived_and_every_seed_accepted() {
    unbind_panics();
    let (mut count, mut sum) = (0, 0);
    for target in &TARGETS {
        let corpus = inputs("corpus", target);
        assert!(!corpus.is_empty(), "{} has no corpus", target.name);
        assert!(corpus.len() <= INPUTS_MAX_COUNT, "{} has {} inputs", target.name, corpus.len());
        for file in corpus.iter().chain(&inputs("crashes", target)) {
            let bytes = fs::metadata(file).unwrap().len();
            assert!(bytes <= INPUT_MAX_BYTES, "{} has {bytes} bytes", file.display());
            (count, sum) = (count + 1, sum + bytes);
            play(target, file);
        }
    }
    assert!(sum <= INPUTS_MAX_BYTES, "inputs of {sum} bytes");
    println!("replayed {count} inputs of {} targets, {sum} bytes", TARGETS.len());
}

#[test]
fn every_folder_of_inputs_belongs_to_a_target() {
    for kind in ["corpus", "crashes"] {
        let Ok(entries) = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(kind)) else {
            continue;
        };
        for entry in entries {
            let name = entry.unwrap().file_name();
            assert!(TARGETS.iter().any(|target| target.name == name), "{kind}/{name:?} belongs to no target");
        }
    }
}
