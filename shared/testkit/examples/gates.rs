//! What a gate is worth: a bad release goes out to a simulated fleet in waves, over mail that loses some, under three rules.
//! Prints how many boxes it has reached and how many are dead before the campaign stopped, and how many of the others have failed:
//! rolled back, or at the old version still because the order got lost.
//!
//!   cargo run --release -p testkit --example gates -- [AGENTS]     10000 by default
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "a program for figures")]

use std::time::Duration;

use manager_core::rollout::{Gate, Share, WaveSize};
use manager_core::{CampaignState, TargetState};
use shared::message::Phase;
use testkit::{Habits, Persona, World};

/// How a release is bad.
#[derive(Clone, Copy)]
enum Harm {
    /// The box is dead.
    Kills,
    /// Half of them are dead, half roll back and say so.
    KillsHalf,
    /// All roll back and say so.
    RollsBack,
}

const HARMS: [(&str, Harm); 3] = [
    ("the box dies", Harm::Kills),
    ("half die, half roll back", Harm::KillsHalf),
    ("all roll back", Harm::RollsBack),
];

const WAVES: &str = "1%,5%,20%,rest";

/// Long enough for all answers that come.
const OBSERVE_MS: u64 = 10 * 3_600_000;

fn rules() -> [(&'static str, &'static str, Gate); 3] {
    let ours = Gate { observe_ms: OBSERVE_MS, ..Gate::CUSTOMERS };
    let answers = Gate { silence_max: Share::hundredths(10_000), success_min: Share::hundredths(0), ..ours };
    [
        ("failures and silence", WAVES, ours),
        ("failures alone", WAVES, answers),
        ("no gate", "rest", Gate::NONE),
    ]
}

/// One box in a hundred is off for days anyway; of the others, so many percent suffer from the release.
fn persona(n: usize, bad_percent: usize, harm: Harm) -> Persona {
    let box_of_fleet = Persona { poll: Duration::from_secs(3_600), ..Persona::healthy() };
    // Spread, so that neighbours differ.
    let place = n * 7_919 % 10_000;
    if place % 100 == 99 {
        return Persona { poll: Duration::from_secs(3 * 86_400), ..box_of_fleet };
    }
    if place % 100 >= bad_percent {
        return box_of_fleet;
    }
    let dies = match harm {
        Harm::Kills => true,
        Harm::KillsHalf => (place / 100).is_multiple_of(2),
        Harm::RollsBack => false,
    };
    if dies {
        Persona { bricks: true, ..box_of_fleet }
    } else {
        Persona { fails: Some((Phase::Verify, u32::MAX)), ..box_of_fleet }
    }
}

fn main() {
    let count = std::env::args().nth(1).map_or(10_000, |word| word.parse().unwrap());
    println!("{count} boxes; waves of {WAVES}; each gate: 95% verified, at most 5% failed (and 5% silent)\n");
    println!(
        "{:<4}  {:<24}  {:<20}  {:>7}  {:>6}  {:>6}  {:>5}  {:>5}  END",
        "BAD", "HARM", "RULE", "REACHED", "DEAD", "FAILED", "WAVES", "HOURS"
    );
    for bad_percent in [5, 20, 50] {
        for (harm_name, harm) in HARMS {
            for (rule, waves, gate) in rules() {
                let personas = (0..count).map(|n| persona(n, bad_percent, harm)).collect();
                let mut world = World::new(1, personas, Habits { drop: 5, delay: 50, ..Habits::good() });
                world.run_for(Duration::from_secs(12 * 3_600));
                let sizes: Vec<WaveSize> =
                    waves.split(',').map(|size| WaveSize::parse(size).unwrap()).collect();
                world.start_rollout(1, &sizes, gate);
                let mut hours = 0;
                while world.state(0) == CampaignState::Running && hours < 200 {
                    world.run_for(Duration::from_secs(3_600));
                    hours += 1;
                }
                println!(
                    "{bad_percent:>3}%  {harm_name:<24}  {rule:<20}  {:>7}  {:>6}  {:>6}  {:>5}  {hours:>5}  {}",
                    world.reached(0),
                    world.dead(),
                    world.in_state(0, TargetState::Failed).len(),
                    world.waves_begun(0),
                    world.state(0).as_str(),
                );
            }
        }
    }
}
