//! One program for all targets: libFuzzer makes up inputs for the one that `MAILFLEET_FUZZ_TARGET` names, or, if
//! it names none, the targets are listed with their longest inputs. `scripts/fuzz` builds and runs it.
#![no_main]

use std::panic;
use std::sync::LazyLock;

use fuzz_targets::{TARGETS, Target};
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<Option<Target>> = LazyLock::new(|| {
    let name = std::env::var("MAILFLEET_FUZZ_TARGET").ok()?;
    TARGETS.into_iter().find(|target| target.name == name)
});

/// Parsers of others whose panics the product catches; to libFuzzer, any panic would be the end.
const CAUGHT: [&str; 2] = ["/mail-parser-", "/imap-proto-"];

fn start() {
    if TARGET.is_none() {
        for target in TARGETS {
            println!("{} {}", target.name, target.input_max_bytes);
        }
        std::process::exit(0);
    }
    let abort = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let caught = info.location().is_some_and(|at| CAUGHT.iter().any(|name| at.file().contains(name)));
        // One that is not caught after all still ends the process where libFuzzer called us.
        if !caught {
            abort(info);
        }
    }));
}

fuzz_target!(init: start(), |input: &[u8]| {
    if let Some(target) = *TARGET {
        target.play(input);
    }
});
