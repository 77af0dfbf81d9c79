//! What becomes of signed readings that an agent sends (PROTOCOL 14): which are believed, how each stands to the one
//! before it, and up to where the agent may be told that everything has come.
//!
//! Not here: where they are kept, and what they say of a device.

use core::fmt;
use std::collections::BTreeMap;

use shared::keys::VerifyingKey;
use shared::message::ReadingMark;
use shared::reading::{Reading, SignedReading};
use shared::{AgentId, Digest, KeyId};

/// What the first reading of a chain names as the one before it.
pub const NOTHING_BEFORE: Digest = Digest([0; 32]);

/// Why a reading is kept out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// None of the agent's keys has signed it.
    NotSigned,
    /// It is signed, and no reading of this version.
    Unreadable,
    /// It names another agent.
    OtherAgent,
    /// Its index is 0 or beyond what can be counted.
    NoPlace,
    /// Another reading of the agent has this place.
    Forked,
}

impl Refusal {
    const ALL: [Self; 5] = [Self::NotSigned, Self::Unreadable, Self::OtherAgent, Self::NoPlace, Self::Forked];

    /// The name in the store and in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotSigned => "not-signed",
            Self::Unreadable => "unreadable",
            Self::OtherAgent => "other-agent",
            Self::NoPlace => "no-place",
            Self::Forked => "forked",
        }
    }

    /// The refusal of this name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }
}

/// In words.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NotSigned => "no key of the agent has signed it",
            Self::Unreadable => "it is no reading of this version",
            Self::OtherAgent => "it names another agent",
            Self::NoPlace => "it has no place in a chain",
            Self::Forked => "another reading has its place in the chain",
        })
    }
}

/// A reading that its agent has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// What it says.
    pub reading: Reading,
    /// Digest of the signed bytes.
    pub digest: Digest,
    /// The key that has signed it.
    pub key: KeyId,
}

/// Believes a reading only if a key of the agent has signed it and it names the agent (PROTOCOL 14.5).
///
/// # Errors
/// Why it is kept out.
pub fn prove(agent: &AgentId, signed: &SignedReading, keys: &[VerifyingKey]) -> Result<Proven, Refusal> {
    let key = keys.iter().find(|key| signed.verify(key).is_ok()).ok_or(Refusal::NotSigned)?;
    let reading = signed.read().map_err(|_| Refusal::Unreadable)?;
    if reading.agent != *agent {
        return Err(Refusal::OtherAgent);
    }
    if reading.mark.index == 0 || i64::try_from(reading.mark.index).is_err() {
        return Err(Refusal::NoPlace);
    }
    Ok(Proven { reading, digest: signed.digest(), key: key.key_id() })
}

/// How a reading stands to the one that is kept before it in its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// The chain begins with it.
    First,
    /// It names the digest of the one before it.
    Follows,
    /// So many between them are not here.
    Gap(u64),
    /// Nothing before it is here, and something was.
    Headless,
    /// It names another one than the one before it (PROTOCOL 14.6).
    Broken,
}

/// Compares a reading with the one that is kept before it: its index and digest.
#[must_use]
pub fn link(index: u64, previous: Digest, before: Option<(u64, Digest)>) -> Link {
    match before {
        None if previous == NOTHING_BEFORE => Link::First,
        None => Link::Headless,
        Some((last, digest)) => match index.saturating_sub(last).saturating_sub(1) {
            0 if previous == digest => Link::Follows,
            0 => Link::Broken,
            _ if previous == NOTHING_BEFORE => Link::Broken,
            missing => Link::Gap(missing),
        },
    }
}

/// Up to which index a chain is complete at the manager, now that a report has come which holds everything that the agent
/// keeps of it after `after`, up to `reached` (PROTOCOL 14.7). What the agent no longer keeps it will never send, so what is
/// missing below `reached` holds nothing up. If the report begins beyond what is here, nothing changes: the agent is told
/// the earlier place, and sends from there.
#[must_use]
pub fn complete(known: Option<u64>, after: Option<ReadingMark>, chain: u64, reached: u64) -> u64 {
    let begins = after.filter(|mark| mark.chain == chain).map_or(0, |mark| mark.index);
    let known = known.unwrap_or(0);
    if begins <= known { known.max(reached) } else { known }
}

/// What is to be done with a reading that its agent has signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Its place is free: it is kept.
    Free,
    /// It is there already.
    Known,
    /// Another one has its place: it is kept out (PROTOCOL 14.5).
    Taken,
    /// It stands behind one whose place was taken, and comes again in another chain (PROTOCOL 14.10).
    Behind,
}

/// Readings of one report, while they are taken in.
#[derive(Clone, Debug, Default)]
pub struct Intake {
    /// The highest index of each chain that was dealt with.
    reached: BTreeMap<u64, u64>,
    /// The chain that came last.
    last: Option<u64>,
    /// The first place of each chain that another reading has.
    forked: BTreeMap<u64, u64>,
}

impl Intake {
    /// Takes the next reading. `there`: digest of the one that has its place.
    pub fn take(&mut self, mark: ReadingMark, digest: Digest, there: Option<Digest>) -> Place {
        let ReadingMark { chain, index } = mark;
        self.last = Some(chain);
        if self.forked.contains_key(&chain) {
            return Place::Behind;
        }
        let reached = self.reached.entry(chain).or_insert(0);
        match there {
            Some(there) if there != digest => {
                *reached = index.saturating_sub(1).max(*reached);
                self.forked.insert(chain, index);
                Place::Taken
            }
            Some(_) | None => {
                *reached = index.max(*reached);
                if there.is_none() { Place::Free } else { Place::Known }
            }
        }
    }

    /// The chains that came, each with the index up to which it was dealt with: what [`complete`] is asked with.
    pub fn reached(&self) -> impl Iterator<Item = (u64, u64)> {
        self.reached.iter().map(|(chain, reached)| (*chain, *reached))
    }

    /// The chain that an answer is about; `None`: there is nothing to say. `after` is the report's.
    #[must_use]
    pub fn chain(&self, after: Option<ReadingMark>) -> Option<u64> {
        // A report that holds nothing may still begin beyond what is here.
        self.last.or(after.map(|mark| mark.chain))
    }

    /// What the agent is to be told of that chain: the last reading up to which all is here, or the place where it forks, by
    /// whose digest the agent sees that it does. `None`: nothing. `complete`: up to where it is, with this report.
    #[must_use]
    pub fn answer(&self, after: Option<ReadingMark>, chain: u64, complete: u64) -> Option<ReadingMark> {
        let beyond = after.is_some_and(|mark| mark.chain == chain && mark.index > complete);
        if self.last.is_none() && !beyond {
            return None;
        }
        let fork = self.forked.get(&chain).filter(|fork| **fork <= complete.saturating_add(1));
        Some(ReadingMark { chain, index: fork.copied().unwrap_or(complete) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shared::UnixMillis;
    use shared::device::{DeviceClass, DeviceName, Observation};
    use shared::keys::SigningKey;

    fn agent() -> AgentId {
        AgentId::parse("A1").unwrap()
    }

    fn signed(agent: &str, index: u64, key: u8) -> SignedReading {
        let reading = Reading {
            agent: AgentId::parse(agent).unwrap(),
            mark: ReadingMark { chain: 7, index },
            previous: NOTHING_BEFORE,
            device: DeviceName::parse("mfp").unwrap(),
            seen: Observation::of(DeviceClass::Mfp, UnixMillis(1)),
            anomalies: vec![],
        };
        SignedReading::sign(&reading, &SigningKey::from_seed(&[key; 32]))
    }

    fn keys(seeds: &[u8]) -> Vec<VerifyingKey> {
        seeds.iter().map(|seed| SigningKey::from_seed(&[*seed; 32]).verifying_key()).collect()
    }

    #[test]
    fn a_reading_is_believed_under_any_key_of_its_agent_and_under_no_other() {
        let proven = prove(&agent(), &signed("A1", 1, 2), &keys(&[1, 2])).unwrap();
        assert_eq!(proven.key, keys(&[2])[0].key_id());
        assert_eq!(prove(&agent(), &signed("A1", 1, 3), &keys(&[1, 2])), Err(Refusal::NotSigned));
        assert_eq!(prove(&agent(), &signed("A1", 1, 1), &[]), Err(Refusal::NotSigned));
        assert_eq!(prove(&agent(), &signed("A2", 1, 1), &keys(&[1])), Err(Refusal::OtherAgent));
        for index in [0, u64::MAX] {
            assert_eq!(prove(&agent(), &signed("A1", index, 1), &keys(&[1])), Err(Refusal::NoPlace));
        }
    }

    #[test]
    fn signed_bytes_that_are_no_reading_are_named_as_such() {
        let key = SigningKey::from_seed(&[1; 32]);
        let bytes = b"no reading".to_vec();
        let signature = key.sign("mailfleet/reading/v1", &bytes);
        let odd = SignedReading::from_parts(bytes, signature);
        assert_eq!(prove(&agent(), &odd, &keys(&[1])), Err(Refusal::Unreadable));
    }

    #[test]
    fn links_of_a_chain_are_told_apart() {
        let digest = |n: u8| Digest([n; 32]);
        for (index, previous, before, expected) in [
            (1, NOTHING_BEFORE, None, Link::First),
            (5, digest(4), None, Link::Headless),
            (5, digest(4), Some((4, digest(4))), Link::Follows),
            (5, digest(9), Some((4, digest(4))), Link::Broken),
            (8, digest(7), Some((4, digest(4))), Link::Gap(3)),
            (5, NOTHING_BEFORE, Some((4, digest(4))), Link::Broken),
            (8, NOTHING_BEFORE, Some((4, digest(4))), Link::Broken),
        ] {
            assert_eq!(link(index, previous, before), expected, "{index}");
        }
    }

    #[test]
    fn refusals_read_back_from_their_names() {
        for one in Refusal::ALL {
            assert_eq!(Refusal::parse(one.as_str()), Some(one));
        }
    }

    #[test]
    fn a_report_that_begins_beyond_what_is_here_is_asked_for_again() {
        let after = |chain, index| Some(ReadingMark { chain, index });
        assert_eq!(complete(None, None, 7, 20), 20);
        assert_eq!(complete(Some(20), after(7, 20), 7, 30), 30);
        assert_eq!(complete(Some(20), after(7, 25), 7, 30), 20, "21 to 25 are not here");
        assert_eq!(complete(None, after(7, 25), 7, 30), 0, "the store is an old copy");
        assert_eq!(complete(None, after(6, 25), 7, 30), 30, "a new chain is sent from its beginning");
        assert_eq!(complete(Some(50), after(7, 10), 7, 20), 50, "it was overtaken on its way");
    }

    fn mark(index: u64) -> ReadingMark {
        ReadingMark { chain: 7, index }
    }

    #[test]
    fn where_a_chain_forks_is_told_and_nothing_behind_it_is_kept() {
        let (ours, others) = (Digest([1; 32]), Digest([2; 32]));
        let mut intake = Intake::default();
        assert_eq!(intake.take(mark(4), ours, Some(ours)), Place::Known);
        assert_eq!(intake.take(mark(5), ours, Some(others)), Place::Taken);
        assert_eq!(intake.take(mark(6), ours, None), Place::Behind);
        let other = ReadingMark { chain: 8, index: 1 };
        assert_eq!(intake.take(other, ours, None), Place::Free, "another chain is another matter");
        assert_eq!(intake.reached().collect::<Vec<_>>(), [(7, 4), (8, 1)]);
        assert_eq!(intake.take(mark(7), ours, None), Place::Behind);
        assert_eq!(intake.chain(None), Some(7));
        assert_eq!(intake.answer(None, 7, 50), Some(mark(5)));
        assert_eq!(intake.answer(None, 7, 2), Some(mark(2)), "what is missing before it comes first");
    }

    #[test]
    fn a_report_without_readings_is_answered_if_it_begins_beyond_what_is_here() {
        let intake = Intake::default();
        assert_eq!(intake.chain(Some(mark(9))), Some(7));
        assert_eq!(intake.answer(Some(mark(9)), 7, 9), None);
        assert_eq!(intake.answer(Some(mark(9)), 7, 4), Some(mark(4)));
        assert_eq!(intake.chain(None), None);
    }

    /// An agent that keeps readings, sends them, and drops some that nobody has yet when it runs out of room.
    #[derive(Default)]
    struct Keeper {
        kept: Vec<u64>,
        made: u64,
        delivered: Option<ReadingMark>,
    }

    #[derive(Clone, Debug)]
    enum Move {
        Make(u8),
        Thin(u8),
        Send { most: u8, report_lost: bool, answer_lost: bool },
        OldCopyOfTheStore(u8),
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let one = prop_oneof![
            (1u8..9).prop_map(Move::Make),
            any::<u8>().prop_map(Move::Thin),
            (1u8..6, any::<bool>(), any::<bool>()).prop_map(|(most, report_lost, answer_lost)| {
                Move::Send { most, report_lost, answer_lost }
            }),
            (0u8..9).prop_map(Move::OldCopyOfTheStore),
        ];
        proptest::collection::vec(one, 1..60)
    }

    proptest! {
        #[test]
        fn whatever_is_lost_the_manager_ends_with_everything_that_the_agent_still_had(moves in moves()) {
            let mut agent = Keeper::default();
            let mut have = std::collections::BTreeSet::new();
            let mut known = None;
            let end = core::iter::repeat_n(Move::Send { most: 200, report_lost: false, answer_lost: false }, 3);
            for one in moves.into_iter().chain(end) {
                match one {
                    Move::Make(n) => {
                        for _ in 0..n {
                            agent.made += 1;
                            agent.kept.push(agent.made);
                        }
                    }
                    Move::Thin(at) if !agent.kept.is_empty() => {
                        let at = usize::from(at) % agent.kept.len();
                        agent.kept.remove(at);
                    }
                    Move::Thin(_) => {}
                    Move::Send { most, report_lost, answer_lost } => {
                        let from = agent.delivered.map_or(0, |mark| mark.index);
                        let sent: Vec<u64> =
                            agent.kept.iter().copied().filter(|i| *i > from).take(usize::from(most)).collect();
                        if report_lost {
                            continue;
                        }
                        have.extend(sent.iter().copied());
                        let reached = sent.last().copied().unwrap_or(from);
                        let now = complete(known, agent.delivered, 7, reached);
                        prop_assert!(now >= known.unwrap_or(0), "it never falls");
                        known = Some(now);
                        if !answer_lost {
                            agent.delivered = Some(ReadingMark { chain: 7, index: now });
                        }
                    }
                    Move::OldCopyOfTheStore(keep) => {
                        let keep = u64::from(keep).min(known.unwrap_or(0));
                        have.retain(|i| *i <= keep);
                        known = Some(keep);
                    }
                }
            }
            prop_assert!(agent.kept.iter().all(|i| have.contains(i)), "{:?} of {:?}", have, agent.kept);
        }
    }
}
