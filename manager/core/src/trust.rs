//! What an operator can change about whom the agents trust, and when a heartbeat is due. Pure: makes no key, signs
//! nothing; that is the shell's, with release keys that may be far away.

use core::time::Duration;

use shared::keys::{SealingKey, VerifyingKey};
use shared::trust::{Trust, TrustError};
use shared::{KeyId, UnixMillis};
use thiserror::Error;

/// A change of the trust.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// This order key signs from now on; the others go on counting.
    pub new_order_key: Option<VerifyingKey>,
    /// These order keys count no more.
    pub drop_order_keys: Vec<KeyId>,
    /// Reports are sealed to this key from now on.
    pub new_seal_key: Option<SealingKey>,
    /// These sign bundles and statements too.
    pub add_release_keys: Vec<VerifyingKey>,
    /// These sign no more.
    pub drop_release_keys: Vec<KeyId>,
    /// So many release keys must sign.
    pub threshold: Option<u8>,
}

/// A change that cannot be made.
#[derive(Debug, Error)]
pub enum ChangeError {
    /// There is nothing to change.
    #[error("nothing would change")]
    Nothing,
    /// A key that is not there was to be dropped.
    #[error("key {0} is not trusted, so it cannot be dropped")]
    NotThere(KeyId),
    /// What would come out is no sound trust.
    #[error("this would be no sound trust")]
    Unsound(#[source] TrustError),
}

impl Change {
    /// The trust after `known`.
    ///
    /// # Errors
    /// Nothing changes, a dropped key is not there, or the result is not sound.
    pub fn apply(self, known: &Trust, now: UnixMillis) -> Result<Trust, ChangeError> {
        if self == Self::default() {
            return Err(ChangeError::Nothing);
        }
        let mut next = known.clone();
        next.version = known.version.saturating_add(1);
        // Also with a clock that went back: agents take this time for the oldest that can be.
        next.made = now.max(known.made);
        drop_keys(&mut next.order_keys, &self.drop_order_keys)?;
        drop_keys(&mut next.release_keys, &self.drop_release_keys)?;
        if let Some(key) = self.new_order_key {
            next.order_keys.insert(0, key);
        }
        next.release_keys.extend(self.add_release_keys);
        next.seal_key = self.new_seal_key.unwrap_or(next.seal_key);
        next.threshold = self.threshold.unwrap_or(next.threshold);
        next.check().map_err(ChangeError::Unsound)?;
        Ok(next)
    }
}

fn drop_keys(keys: &mut Vec<VerifyingKey>, dropped: &[KeyId]) -> Result<(), ChangeError> {
    for id in dropped {
        let before = keys.len();
        keys.retain(|key| key.key_id() != *id);
        if keys.len() == before {
            return Err(ChangeError::NotThere(*id));
        }
    }
    Ok(())
}

/// When the next heartbeat is due (PROTOCOL 12.1). A last one from the future was made before the clock was set.
#[must_use]
pub fn heartbeat_due(last: UnixMillis, every: Duration, now: UnixMillis) -> UnixMillis {
    if last <= now { last.plus(every) } else { now }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::keys::{OpeningKey, SigningKey};

    const T0: UnixMillis = UnixMillis(1_795_000_000_000);

    fn key(n: u8) -> VerifyingKey {
        SigningKey::from_seed(&[n; 32]).verifying_key()
    }

    fn trust() -> Trust {
        let seal = OpeningKey::from_seed(&[9; 32]).sealing_key();
        Trust::new(4, T0, vec![key(1)], vec![key(11)], 1, seal)
    }

    #[test]
    fn a_new_order_key_signs_and_the_old_one_still_counts_until_it_is_dropped() {
        let change = Change { new_order_key: Some(key(2)), ..Change::default() };
        let next = change.apply(&trust(), T0).unwrap();
        assert_eq!((next.version, next.order_keys.clone()), (5, vec![key(2), key(1)]));
        let change = Change { drop_order_keys: vec![key(1).key_id()], ..Change::default() };
        assert_eq!(change.apply(&next, T0).unwrap().order_keys, [key(2)]);
    }

    #[test]
    fn what_would_lock_the_operator_out_or_change_nothing_is_refused() {
        let apply = |change: Change| change.apply(&trust(), T0);
        assert!(matches!(apply(Change::default()), Err(ChangeError::Nothing)));
        let last_order = Change { drop_order_keys: vec![key(1).key_id()], ..Change::default() };
        assert!(matches!(apply(last_order), Err(ChangeError::Unsound(_))));
        let last_release = Change { drop_release_keys: vec![key(11).key_id()], ..Change::default() };
        assert!(matches!(apply(last_release), Err(ChangeError::Unsound(_))));
        let high = Change { threshold: Some(2), ..Change::default() };
        assert!(matches!(apply(high), Err(ChangeError::Unsound(_))));
        let stranger = Change { drop_release_keys: vec![key(3).key_id()], ..Change::default() };
        assert!(matches!(apply(stranger), Err(ChangeError::NotThere(_))));
    }

    #[test]
    fn heartbeats_come_after_each_period_also_when_the_clock_was_set_back() {
        let week = Duration::from_secs(7 * 86_400);
        assert_eq!(heartbeat_due(T0, week, T0.plus(week / 2)), T0.plus(week));
        assert_eq!(heartbeat_due(T0.plus(week), week, T0), T0);
    }
}
