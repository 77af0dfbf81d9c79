//! Which orders are fresh: clock floor, life, repeats, sequence floors per order key. Says nothing about what an
//! order asks for.
//!
//! The clock floor is the newest time that the manager has signed. A box whose clock battery is empty wakes
//! up in 1970 and still refuses what was replayed from before the floor.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use shared::keys::VerifyingKey;
use shared::limits::{CLOCK_LEAD_MAX, ORDER_LIFE_MAX, SEEN_MAX_COUNT};
use shared::{EnvelopeId, KeyId, UnixMillis};

use crate::facts::{EnvelopeFacts, JunkReason};

/// What the agent remembers so that no order counts twice.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Freshness {
    /// When the trust was made that is in force: no order is older.
    #[n(0)]
    base: UnixMillis,
    /// What the orders of each trusted key have raised.
    #[n(1)]
    floors: BTreeMap<KeyId, Floor>,
    /// Orders that were taken.
    #[n(2)]
    pub seen: BTreeMap<EnvelopeId, Seen>,
}

/// What the orders of one key have raised. It falls with the key: a thief who signed far-off times and numbers
/// with it has no lasting power (the fast-forward attack).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct Floor {
    /// The newest time that it has signed.
    #[n(0)]
    clock: UnixMillis,
    /// Orders at or below this are refused: the memory of them is gone.
    #[n(1)]
    sequence: u64,
    /// The newest install order that was taken.
    #[n(2)]
    install: u64,
}

/// An order that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Seen {
    /// Its sequence.
    #[n(0)]
    pub sequence: u64,
    /// Its expiry: past it, it is refused for that.
    #[n(1)]
    pub expires: UnixMillis,
    /// The key that signed it.
    #[n(2)]
    pub signer: KeyId,
}

impl Freshness {
    /// Starts with the invitation's creation time.
    #[must_use]
    pub fn since(base: UnixMillis) -> Self {
        Self { base, floors: BTreeMap::new(), seen: BTreeMap::new() }
    }

    /// The newest time that was signed by a key that is trusted.
    #[must_use]
    pub fn clock_floor(&self) -> UnixMillis {
        self.floors.values().map(|floor| floor.clock).fold(self.base, UnixMillis::max)
    }

    /// The time to decide by: the box's clock, but never before the floor.
    #[must_use]
    pub fn effective(&self, clock: UnixMillis) -> UnixMillis {
        clock.max(self.clock_floor())
    }

    /// Sequence of the newest install order that was taken from a key that is trusted.
    #[must_use]
    pub fn newest_install(&self) -> u64 {
        self.floors.values().map(|floor| floor.install).max().unwrap_or(0)
    }

    /// Another trust is in force: what dropped keys have raised falls (PROTOCOL 11.6).
    pub(crate) fn trust(&mut self, made: UnixMillis, order_keys: &[VerifyingKey]) {
        self.base = self.base.max(made);
        self.floors.retain(|id, _| order_keys.iter().any(|key| key.key_id() == *id));
    }

    /// Whether an order with this header may be taken.
    ///
    /// # Errors
    /// The reason why not.
    pub fn judge(&self, now: UnixMillis, facts: &EnvelopeFacts) -> Result<(), JunkReason> {
        let now = self.effective(now);
        // PROTOCOL 7.3, 10.2: by the envelope's own ID, once.
        if self.seen.contains_key(&facts.id) {
            return Err(JunkReason::Repeated);
        }
        // PROTOCOL 7.1.
        if facts.expires < now {
            return Err(JunkReason::Expired);
        }
        // PROTOCOL 7.2.
        if facts.created > now.plus(CLOCK_LEAD_MAX) {
            return Err(JunkReason::FromFuture);
        }
        // PROTOCOL 3.8. A life that ends before it begins is as wrong as one that is too long.
        if facts.expires < facts.created || facts.expires > facts.created.plus(ORDER_LIFE_MAX) {
            return Err(JunkReason::LivesTooLong);
        }
        // PROTOCOL 7.4.
        if self.floors.get(&facts.signer).is_some_and(|floor| facts.sequence <= floor.sequence) {
            return Err(JunkReason::BelowFloor);
        }
        Ok(())
    }

    /// Remembers an order that is taken now.
    pub(crate) fn take(&mut self, facts: &EnvelopeFacts) {
        let floor = self.floors.entry(facts.signer).or_default();
        floor.clock = floor.clock.max(facts.created);
        let seen = Seen { sequence: facts.sequence, expires: facts.expires, signer: facts.signer };
        self.seen.insert(facts.id, seen);
        // PROTOCOL 7.3: by the floor, not by the clock: a clock that jumped ahead and back must not make us forget.
        let clock_floor = self.clock_floor();
        self.seen.retain(|_, s| s.expires >= clock_floor);
        while self.seen.len() > SEEN_MAX_COUNT {
            let Some((id, lowest)) = self.seen.iter().min_by_key(|(_, s)| s.sequence) else { break };
            let (id, lowest) = (*id, *lowest);
            self.seen.remove(&id);
            let floor = self.floors.entry(lowest.signer).or_default();
            floor.sequence = floor.sequence.max(lowest.sequence);
        }
    }

    /// Remembers an install order that is taken now.
    pub(crate) fn take_install(&mut self, facts: &EnvelopeFacts) {
        let floor = self.floors.entry(facts.signer).or_default();
        floor.install = floor.install.max(facts.sequence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use proptest::prelude::*;
    use shared::keys::SigningKey;
    use shared::limits::ORDER_LIFE;

    const T0: UnixMillis = UnixMillis(1_750_000_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    fn facts(n: u64, created: UnixMillis) -> EnvelopeFacts {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.to_be_bytes());
        EnvelopeFacts {
            id: EnvelopeId(id),
            created,
            expires: created.plus(ORDER_LIFE),
            sequence: n,
            body_bytes: 1,
            signer: KeyId([1; 8]),
        }
    }

    #[test]
    fn a_box_without_a_clock_refuses_what_expired_before_the_floor() {
        let fresh = Freshness::since(T0);
        let dead_clock = UnixMillis(0);
        assert_eq!(fresh.judge(dead_clock, &facts(1, T0.minus(DAY * 20))), Err(JunkReason::Expired));
        assert_eq!(fresh.judge(dead_clock, &facts(1, T0.plus(DAY * 300))), Ok(()));
    }

    #[test]
    fn a_manager_with_a_clock_in_2099_does_not_drag_the_floor_along() {
        let fresh = Freshness::since(T0);
        assert_eq!(fresh.judge(T0, &facts(1, T0.plus(DAY * 367))), Err(JunkReason::FromFuture));
    }

    #[test]
    fn an_order_that_claims_a_longer_life_than_allowed_is_refused() {
        let fresh = Freshness::since(T0);
        let long = EnvelopeFacts { expires: T0.plus(DAY * 91), ..facts(1, T0) };
        assert_eq!(fresh.judge(T0, &long), Err(JunkReason::LivesTooLong));
    }

    #[test]
    fn a_repeat_is_refused_as_long_as_it_lives_even_when_the_clock_jumps() {
        let mut fresh = Freshness::since(T0);
        fresh.take(&facts(1, T0));
        for clock in [T0, UnixMillis(0), T0.plus(DAY * 13)] {
            assert_eq!(fresh.judge(clock, &facts(1, T0)), Err(JunkReason::Repeated));
        }
    }

    #[test]
    fn past_the_limit_the_lowest_sequences_become_the_floor() {
        let mut fresh = Freshness::since(T0);
        for n in 1..=(SEEN_MAX_COUNT as u64 + 5) {
            fresh.take(&facts(n, T0));
        }
        assert_eq!((fresh.seen.len(), fresh.floors[&KeyId([1; 8])].sequence), (SEEN_MAX_COUNT, 5));
        assert_eq!(fresh.judge(T0, &facts(3, T0)), Err(JunkReason::BelowFloor));
    }

    #[test]
    fn what_a_stolen_key_has_raised_falls_with_the_key() {
        let (thief, ours) = (SigningKey::from_seed(&[1; 32]), SigningKey::from_seed(&[2; 32]));
        let signed = |key: &SigningKey, n, created| EnvelopeFacts {
            signer: key.verifying_key().key_id(),
            ..facts(n, created)
        };
        let mut fresh = Freshness::since(T0);
        let ahead = signed(&thief, u64::MAX, T0.plus(DAY * 365));
        fresh.take(&ahead);
        fresh.take_install(&ahead);
        let order = signed(&ours, 7, T0.plus(DAY));
        assert_eq!(fresh.judge(T0, &order), Err(JunkReason::Expired));
        assert_eq!(fresh.newest_install(), u64::MAX);
        fresh.trust(T0.plus(DAY), &[ours.verifying_key()]);
        assert_eq!(fresh.judge(T0, &order), Ok(()));
        assert_eq!((fresh.newest_install(), fresh.clock_floor()), (0, T0.plus(DAY)));
    }

    proptest! {
        #[test]
        fn nothing_is_taken_twice(
            orders in prop::collection::vec((0u64..20, 0u32..200, 0u32..200), 1..60)
        ) {
            let mut fresh = Freshness::since(T0);
            let mut taken = std::collections::BTreeSet::new();
            let sent: BTreeMap<u64, UnixMillis> =
                orders.iter().map(|(n, day, _)| (*n, T0.plus(DAY * *day))).collect();
            for (n, _, clock) in orders {
                let f = facts(n + 1, sent[&n]);
                if fresh.judge(T0.plus(DAY * clock), &f).is_ok() {
                    prop_assert!(taken.insert(n), "order {n} twice");
                    fresh.take(&f);
                }
            }
        }
    }
}
