//! Seeded chance: the only randomness of the simulated world.

use core::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use shared::EnvelopeId;

/// Seeded dice.
#[derive(Clone, Debug)]
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number below `n`, which is not 0.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0.next_u64() % n
    }

    /// True `per_mille` times in a thousand.
    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// A duration between two others.
    pub(crate) fn between(&mut self, low: Duration, high: Duration) -> Duration {
        let (low, high) = (low.as_secs(), high.as_secs());
        Duration::from_secs(low + self.below(high - low + 1))
    }

    pub(crate) fn envelope_id(&mut self) -> EnvelopeId {
        let mut bytes = [0; 16];
        self.0.fill_bytes(&mut bytes);
        EnvelopeId(bytes)
    }
}
