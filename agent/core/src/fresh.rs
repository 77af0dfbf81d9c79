//! Which orders are fresh: clock floor, life, repeats, sequence floor. Says nothing about what an order
//! asks for.
//!
//! The clock floor is the newest time that the manager has signed. A box whose clock battery is empty wakes
//! up in 1970 and still refuses what was replayed from before the floor.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use shared::limits::{CLOCK_LEAD_MAX, ORDER_LIFE_MAX, SEEN_MAX_COUNT};
use shared::{EnvelopeId, UnixMillis};

use crate::facts::{EnvelopeFacts, JunkReason};

/// What the agent remembers so that no order counts twice.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Freshness {
    /// The newest signed time.
    #[n(0)]
    pub clock_floor: UnixMillis,
    /// Orders at or below this are refused: the memory of them is gone.
    #[n(1)]
    pub sequence_floor: u64,
    /// Orders that were taken.
    #[n(2)]
    pub seen: BTreeMap<EnvelopeId, Seen>,
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
}

impl Freshness {
    /// Starts with the invitation's creation time.
    #[must_use]
    pub fn since(clock_floor: UnixMillis) -> Self {
        Self { clock_floor, sequence_floor: 0, seen: BTreeMap::new() }
    }

    /// The time to decide by: the box's clock, but never before the floor.
    #[must_use]
    pub fn effective(&self, clock: UnixMillis) -> UnixMillis {
        clock.max(self.clock_floor)
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
        if facts.sequence <= self.sequence_floor {
            return Err(JunkReason::BelowFloor);
        }
        Ok(())
    }

    /// Remembers an order that is taken now.
    pub(crate) fn take(&mut self, facts: &EnvelopeFacts) {
        self.clock_floor = self.clock_floor.max(facts.created);
        let seen = Seen { sequence: facts.sequence, expires: facts.expires };
        self.seen.insert(facts.id, seen);
        // PROTOCOL 7.3: by the floor, not by the clock: a clock that jumped ahead and back must not make us forget.
        let floor = self.clock_floor;
        self.seen.retain(|_, s| s.expires >= floor);
        while self.seen.len() > SEEN_MAX_COUNT {
            let Some((id, lowest)) = self.seen.iter().min_by_key(|(_, s)| s.sequence) else { break };
            let (id, sequence) = (*id, lowest.sequence);
            self.seen.remove(&id);
            self.sequence_floor = self.sequence_floor.max(sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use proptest::prelude::*;
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
        assert_eq!((fresh.seen.len(), fresh.sequence_floor), (SEEN_MAX_COUNT, 5));
        assert_eq!(fresh.judge(T0, &facts(3, T0)), Err(JunkReason::BelowFloor));
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
