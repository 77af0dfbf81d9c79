//! What a simulated box is like. Each is a kind of site that exists.

use core::time::Duration;

use shared::message::Phase;

use crate::dice::Dice;

/// The character of one box.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a thing of its own that a box may have")]
pub struct Persona {
    /// Time between looks at the mailbox.
    pub poll: Duration,
    /// Power cuts per thousand effects.
    pub power_cuts: u64,
    /// It never looks at its mailbox.
    pub off: bool,
    /// This phase of any script, or the trial of any agent, fails the first so many times.
    pub fails: Option<(Phase, u32)>,
    /// The script says "not now" the first so many times.
    pub not_now: u32,
    /// Its script asks for a restart of the box the first so many times.
    pub restarts: u32,
    /// The box does not restart the first so many times that it is told.
    pub deaf: u32,
    /// Somebody holds a lease the first so many times.
    pub leases: u32,
    /// Staging finds the disk full the first so many times.
    pub disk_full: u32,
    /// Somebody edits a module's file by hand, per thousand polls.
    pub tampering: u64,
    /// Its clock jumps, per thousand polls.
    pub clock_jumps: u64,
    /// Somebody at the site puts off what waits, or cancels it, per thousand polls.
    pub people: u64,
    /// What is switched to kills it: it never starts again.
    pub bricks: bool,
    /// Its address is refused by the relay.
    pub dead_address: bool,
    /// Devices beside it.
    pub devices: usize,
    /// The disk with its readings is put back to an older copy, per thousand polls.
    pub put_back: u64,
}

impl Persona {
    /// A box with nothing wrong.
    #[must_use]
    pub fn healthy() -> Self {
        Self {
            poll: Duration::from_secs(300),
            power_cuts: 0,
            off: false,
            fails: None,
            not_now: 0,
            restarts: 0,
            deaf: 0,
            leases: 0,
            disk_full: 0,
            tampering: 0,
            clock_jumps: 0,
            people: 0,
            bricks: false,
            dead_address: false,
            devices: 0,
            put_back: 0,
        }
    }

    /// True if it can do what it is told in the end, whatever happens on the way.
    #[must_use]
    pub fn recovers(&self) -> bool {
        !self.off
            && !self.bricks
            && !self.dead_address
            && self.tampering == 0
            && self.clock_jumps == 0
            && self.people == 0
    }

    pub(crate) fn roll(dice: &mut Dice) -> Self {
        let healthy = Self { devices: usize::try_from(dice.below(4)).unwrap(), ..Self::healthy() };
        let phases = [Phase::Check, Phase::Pre, Phase::Post, Phase::Verify, Phase::Prove, Phase::Undo];
        match dice.below(17) {
            0 => Self { off: true, ..healthy },
            1 | 2 => {
                let phase = phases[usize::try_from(dice.below(6)).unwrap()];
                Self { fails: Some((phase, 1 + u32::try_from(dice.below(3)).unwrap())), ..healthy }
            }
            3 => Self { not_now: 1 + u32::try_from(dice.below(30)).unwrap(), ..healthy },
            4 => Self { tampering: 100, ..healthy },
            5 => Self { poll: Duration::from_secs(24 * 3600), ..healthy },
            6 | 7 => Self { power_cuts: 1 + dice.below(100), ..healthy },
            8 => Self { dead_address: true, ..healthy },
            9 => Self { clock_jumps: 50, ..healthy },
            10 => Self { disk_full: 1 + u32::try_from(dice.below(10)).unwrap(), ..healthy },
            11 => Self {
                power_cuts: 30,
                not_now: 2,
                fails: Some((phases[usize::try_from(dice.below(6)).unwrap()], 1)),
                ..healthy
            },
            12 => Self {
                restarts: 1 + u32::try_from(dice.below(4)).unwrap(),
                deaf: u32::try_from(dice.below(4)).unwrap(),
                power_cuts: dice.below(30),
                ..healthy
            },
            13 => Self { leases: 1 + u32::try_from(dice.below(20)).unwrap(), restarts: 1, ..healthy },
            14 => Self { put_back: 2, devices: 2, power_cuts: dice.below(10), ..healthy },
            15 => Self { people: 100, ..healthy },
            _ => healthy,
        }
    }
}
