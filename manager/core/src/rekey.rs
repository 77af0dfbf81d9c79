//! An agent's own keys as the manager sees them (PROTOCOL 13): when new ones are asked for, which ones are taken, and what
//! the replaced ones are still worth.

use core::fmt;
use core::time::Duration;

use shared::keys::{SealingKey, VerifyingKey};
use shared::limits::FORMER_SIGNING_KEY_LIFE;
use shared::message::Rekeyed;
use shared::rekey::{RekeyError, check};
use shared::{AgentId, UnixMillis};

/// An agent that has not answered is asked again: mails get lost, and boxes are switched off. Relays give up before.
const ASK_AGAIN: Duration = Duration::from_secs(7 * 24 * 3600);

/// When an agent is to be asked for new keys. `asked` is when it was asked last, if it has not answered; `since` is when its
/// keys came, `every` how long they are to last. `None`: never.
#[must_use]
pub fn rekey_due(
    asked: Option<UnixMillis>,
    since: UnixMillis,
    every: Option<Duration>,
    now: UnixMillis,
) -> Option<UnixMillis> {
    match asked {
        // Asked in the future: before the clock was set.
        Some(asked) if asked > now => Some(now),
        Some(asked) => Some(asked.plus(ASK_AGAIN)),
        None => every.map(|every| since.plus(every)),
    }
}

/// What the manager knows of an agent that names new keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFacts {
    /// The keys that it has.
    pub known: (VerifyingKey, SealingKey),
    /// The key that has signed the report.
    pub signed_by: VerifyingKey,
    /// The order that the report answers has asked this agent for keys.
    pub asked: bool,
    /// A new key is somebody's already, or was one of this agent's.
    pub taken: bool,
}

/// Why new keys are not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RekeyRefusal {
    /// The order that the report names has not asked for them.
    NotAsked,
    /// Signed by a key that was replaced.
    ReplacedKey,
    /// Not keys, or not proven to be this agent's.
    Unproven(RekeyError),
    /// Somebody has one of them.
    Taken,
}

impl fmt::Display for RekeyRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAsked => f.write_str("they were not asked for"),
            Self::ReplacedKey => f.write_str("they are signed by a key that was replaced"),
            Self::Unproven(why) => write!(f, "{why}"),
            Self::Taken => f.write_str("one of them is in use already"),
        }
    }
}

/// The keys to take from a report that its signer's key has signed; `None` if the agent has them already.
///
/// # Errors
/// Why they are not taken. The agent's keys stay as they are.
pub fn take_keys(
    agent: &AgentId,
    rekeyed: &Rekeyed,
    facts: &KeyFacts,
) -> Result<Option<(VerifyingKey, SealingKey)>, RekeyRefusal> {
    // PROTOCOL 13.2.
    let new = check(agent, rekeyed).map_err(RekeyRefusal::Unproven)?;
    if new == facts.known {
        return Ok(None);
    }
    // PROTOCOL 13.5: else whoever finds an old key could put his own in the place of the new one.
    if facts.signed_by != facts.known.0 {
        return Err(RekeyRefusal::ReplacedKey);
    }
    if !facts.asked {
        return Err(RekeyRefusal::NotAsked);
    }
    if facts.taken || new.0 == facts.known.0 || new.1 == facts.known.1 {
        return Err(RekeyRefusal::Taken);
    }
    Ok(Some(new))
}

/// What a replaced key is still worth. As long as nothing was heard under newer keys, all: the agent may not have used
/// them yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FormerKey {
    /// The lowest sequence number that was heard under newer keys, and until when reports below it are believed.
    pub overtaken: Option<(u64, UnixMillis)>,
}

/// How far a report is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Belief {
    /// As one under the current key.
    Whole,
    /// As one that a newer report has overtaken: it says why something failed, not how things are.
    Late,
    /// Not at all.
    Not,
}

impl FormerKey {
    /// A report under newer keys has come, with this sequence number (PROTOCOL 13.6).
    pub fn overtake(&mut self, sequence: u64, now: UnixMillis) {
        let (below, until) = self.overtaken.unwrap_or((sequence, now.plus(FORMER_SIGNING_KEY_LIFE)));
        self.overtaken = Some((below.min(sequence), until));
    }

    /// What a report under this key is worth (PROTOCOL 13.6).
    #[must_use]
    pub fn belief(&self, sequence: u64, now: UnixMillis) -> Belief {
        match self.overtaken {
            None => Belief::Whole,
            Some((below, until)) if sequence < below && now <= until => Belief::Late,
            Some(_) => Belief::Not,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::EnvelopeId;
    use shared::keys::{OpeningKey, SigningKey};
    use shared::rekey::rekeyed;

    const T0: UnixMillis = UnixMillis(1_795_000_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    fn keys(n: u8) -> (VerifyingKey, SealingKey) {
        (SigningKey::from_seed(&[n; 32]).verifying_key(), OpeningKey::from_seed(&[n; 32]).sealing_key())
    }

    #[test]
    fn an_agent_is_asked_when_its_keys_are_old_and_each_week_until_it_answers() {
        assert_eq!(rekey_due(None, T0, None, T0.plus(DAY * 9_999)), None);
        assert_eq!(rekey_due(None, T0, Some(DAY * 365), T0), Some(T0.plus(DAY * 365)));
        assert_eq!(rekey_due(Some(T0), T0, None, T0.plus(DAY)), Some(T0.plus(DAY * 7)));
        assert_eq!(rekey_due(Some(T0.plus(DAY)), T0, None, T0), Some(T0));
    }

    #[test]
    fn new_keys_are_taken_only_from_the_current_key_asked_proven_and_nobody_elses() {
        let agent = AgentId::parse("A1").unwrap();
        let new = rekeyed(&agent, EnvelopeId([1; 16]), &SigningKey::from_seed(&[2; 32]), &keys(2).1);
        let facts = KeyFacts { known: keys(1), signed_by: keys(1).0, asked: true, taken: false };
        let take = |new: &Rekeyed, facts: &KeyFacts| take_keys(&agent, new, facts);
        assert_eq!(take(&new, &facts), Ok(Some(keys(2))));
        // Said again, by whichever key: nothing changes.
        let again = KeyFacts { known: keys(2), asked: false, ..facts.clone() };
        assert_eq!(take(&new, &again), Ok(None));
        let replaced = KeyFacts { signed_by: keys(9).0, ..facts.clone() };
        assert_eq!(take(&new, &replaced), Err(RekeyRefusal::ReplacedKey));
        let unasked = KeyFacts { asked: false, ..facts.clone() };
        assert_eq!(take(&new, &unasked), Err(RekeyRefusal::NotAsked));
        let taken = KeyFacts { taken: true, ..facts.clone() };
        assert_eq!(take(&new, &taken), Err(RekeyRefusal::Taken));
        let half = KeyFacts { known: (keys(2).0, keys(1).1), signed_by: keys(2).0, ..facts.clone() };
        assert_eq!(take(&new, &half), Err(RekeyRefusal::Taken));
        let unproven = Rekeyed { proof: [0; 64], ..new };
        assert!(matches!(take(&unproven, &facts), Err(RekeyRefusal::Unproven(_))));
    }

    #[test]
    fn a_replaced_key_is_believed_until_the_new_one_is_heard_and_after_that_only_of_what_came_before() {
        let mut former = FormerKey::default();
        assert_eq!(former.belief(99, T0.plus(DAY * 900)), Belief::Whole);
        former.overtake(12, T0);
        // Mails overtake each other: the lowest number under the new key is the border.
        former.overtake(10, T0.plus(DAY));
        former.overtake(30, T0.plus(DAY * 20));
        assert_eq!([9, 10, 11].map(|n| former.belief(n, T0)), [Belief::Late, Belief::Not, Belief::Not]);
        assert_eq!(former.belief(9, T0.plus(DAY * 30)), Belief::Late);
        assert_eq!(former.belief(9, T0.plus(DAY * 31)), Belief::Not);
    }
}
