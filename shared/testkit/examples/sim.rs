//! Plays seeds of the simulated world: `scripts/sim N [--from SEED] [--boxes N] [--devices]`, `scripts/sim --seed SEED`.
#![allow(clippy::arithmetic_side_effects, reason = "counts of a test program")]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use testkit::{Figures, Flashings, World};

const USAGE: &str = "scripts/sim N [--from SEED] [--boxes N]   plays N seeds\n\
                     scripts/sim --seed SEED [--boxes N]      plays one again\n\
                     --devices: updates of devices, instead of boxes\n\
                     Example: scripts/sim 10000";

struct Args {
    count: u64,
    from: u64,
    boxes: usize,
    devices: bool,
}

fn main() -> ExitCode {
    let Some(args) = args() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let began = Instant::now();
    let next = AtomicU64::new(args.from);
    let end = args.from + args.count;
    let total = Mutex::new((Figures::default(), Flashings::default(), Vec::new()));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let result = std::panic::catch_unwind(|| match args.devices {
                        false => (World::live(seed, args.boxes).0, Flashings::default()),
                        true => (Figures::default(), World::flash(seed, args.boxes)),
                    });
                    let Ok(mut total) = total.lock() else { return };
                    match result {
                        Ok((figures, flashings)) => {
                            total.0.add(&figures);
                            total.1.add(&flashings);
                        }
                        Err(_) => total.2.push(seed),
                    }
                }
            });
        }
    });
    let Ok((figures, flashings, failed)) = total.into_inner() else { return ExitCode::FAILURE };
    let seconds = began.elapsed().as_secs_f64();
    println!("{} seeds of {} boxes in {seconds:.1} s", args.count, args.boxes);
    if args.devices {
        println!(
            "{} transfers of firmware, {} of them as the manager allowed; updates ended {}",
            flashings.pushes,
            flashings.allowed,
            flashings
                .ends
                .iter()
                .map(|(state, times)| format!("{state} {times}"))
                .collect::<Vec<_>>()
                .join(", ")
        );
    } else {
        println!(
            "{} simulated days, {} mails, {} bounces, {} effects, {} power cuts, {} installs, {} changes of keys",
            figures.days,
            figures.mails,
            figures.bounces,
            figures.effects,
            figures.power_cuts,
            figures.installs,
            figures.key_changes
        );
        println!(
            "{} faults and {} readings of devices, {} disks put back",
            figures.faults, figures.readings, figures.put_back
        );
    }
    println!("{} violations", failed.len());
    for seed in &failed {
        println!(
            "  scripts/sim --seed {seed} --boxes {}{}",
            args.boxes,
            if args.devices { " --devices" } else { "" }
        );
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn args() -> Option<Args> {
    let mut args = Args { count: 0, from: 0, boxes: 8, devices: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--devices" => args.devices = true,
            "--from" => args.from = words.next()?.parse().ok()?,
            "--boxes" => args.boxes = words.next()?.parse().ok()?,
            "--seed" => (args.from, args.count) = (words.next()?.parse().ok()?, 1),
            number => args.count = number.parse().ok()?,
        }
    }
    (args.count > 0 && args.boxes > 0).then_some(args)
}
