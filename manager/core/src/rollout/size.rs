//! How large waves are, and who is in which.

use core::fmt;
use core::time::Duration;

use minicbor::{Decode, Encode};
use shared::{AgentId, Digest};
use thiserror::Error;

/// A part of a whole, in hundredths of a percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct Share(#[n(0)] u16);

const WHOLE: u16 = 10_000;

impl Share {
    /// So many hundredths of a percent; more than all are all.
    #[must_use]
    pub const fn hundredths(hundredths: u16) -> Self {
        if hundredths > WHOLE { Self(WHOLE) } else { Self(hundredths) }
    }

    /// Reads `5%` or `2.5%`.
    ///
    /// # Errors
    /// Not of this form, or more than 100 %.
    pub fn parse(text: &str) -> Result<Self, SizeError> {
        let err = || SizeError { expected: "a share such as 5% or 2.5%", found: text.to_owned() };
        let number = text.strip_suffix('%').ok_or_else(err)?.trim();
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str, most: usize| {
            (!text.is_empty() && text.len() <= most && text.bytes().all(|b| b.is_ascii_digit()))
                .then(|| text.parse::<u16>().ok())
                .flatten()
                .ok_or_else(err)
        };
        let part = match part.len() {
            1 => digits(part, 1)?.saturating_mul(10),
            _ => digits(part, 2)?,
        };
        let hundredths = digits(whole, 3)?.saturating_mul(100).saturating_add(part);
        if hundredths > WHOLE { Err(err()) } else { Ok(Self(hundredths)) }
    }

    /// This share of so many, rounded down: how many a limit allows.
    #[must_use]
    pub fn floor_of(self, count: u64) -> u64 {
        count.saturating_mul(u64::from(self.0)).checked_div(u64::from(WHOLE)).unwrap_or(0)
    }

    /// This share of so many, rounded up: how many a goal asks for.
    #[must_use]
    pub fn ceil_of(self, count: u64) -> u64 {
        count.saturating_mul(u64::from(self.0)).div_ceil(u64::from(WHOLE))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 100, self.0 % 100);
        match part {
            0 => write!(f, "{whole}%"),
            part if part % 10 == 0 => write!(f, "{whole}.{}%", part / 10),
            part => write!(f, "{whole}.{part:02}%"),
        }
    }
}

/// How many targets a wave has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaveSize {
    /// So many.
    Count(u64),
    /// A share of all targets that are not test agents; one at least.
    Share(Share),
    /// All that are left.
    Rest,
}

impl WaveSize {
    /// Reads `10`, `5%` or `rest`.
    ///
    /// # Errors
    /// None of these, or a wave that nobody is in.
    pub fn parse(text: &str) -> Result<Self, SizeError> {
        let err = |expected| SizeError { expected, found: text.to_owned() };
        if text == "rest" {
            return Ok(Self::Rest);
        }
        let size = if text.ends_with('%') {
            Self::Share(Share::parse(text)?)
        } else {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let count = digits.then(|| text.parse().ok()).flatten();
            Self::Count(count.ok_or_else(|| err("the size of a wave, such as 10, 5% or rest"))?)
        };
        let nobody = matches!(size, Self::Count(0) | Self::Share(Share(0)));
        if nobody { Err(err("a wave that somebody is in")) } else { Ok(size) }
    }

    /// How many that is, of so many of which so many are left.
    fn of(self, all: u64, left: u64) -> u64 {
        match self {
            Self::Count(count) => count.min(left),
            Self::Share(share) => share.ceil_of(all).min(left),
            Self::Rest => left,
        }
    }
}

/// A size or share that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected {expected}, found \"{found}\"")]
pub struct SizeError {
    expected: &'static str,
    found: String,
}

/// Deals agents into waves of these sizes: the number of each agent's wave, from 0, in the order of `agents`. Who comes first follows
/// from the seed, so that it is not always the same sites that are first. A wave that nobody is left for is not made; whoever is left at
/// the end makes a wave of their own.
#[must_use]
pub fn assign(seed: &[u8], agents: &[AgentId], sizes: &[WaveSize]) -> Vec<u32> {
    let mut order: Vec<(Digest, usize)> =
        agents.iter().enumerate().map(|(at, agent)| (draw(seed, agent), at)).collect();
    order.sort();
    let all = u64::try_from(agents.len()).unwrap_or(u64::MAX);
    let mut waves = vec![0u32; agents.len()];
    let mut left = order.iter();
    let mut number = 0u32;
    for size in sizes.iter().chain([&WaveSize::Rest]) {
        let count = size.of(all, u64::try_from(left.len()).unwrap_or(u64::MAX));
        for (_, at) in left.by_ref().take(usize::try_from(count).unwrap_or(usize::MAX)) {
            if let Some(wave) = waves.get_mut(*at) {
                *wave = number;
            }
        }
        number = number.saturating_add(u32::from(count > 0));
    }
    waves
}

/// An agent's place in a time over which mails are spread.
#[must_use]
pub fn spread(seed: &[u8], agent: &AgentId, over: Duration) -> Duration {
    let [a, b, c, d, ..] = draw(seed, agent).0;
    let place = u128::from(u32::from_be_bytes([a, b, c, d]));
    let ms = over.as_millis().saturating_mul(place) >> 32;
    Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
}

fn draw(seed: &[u8], agent: &AgentId) -> Digest {
    Digest::of(&[seed, b"\0", agent.as_str().as_bytes()].concat())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn agents(count: usize) -> Vec<AgentId> {
        (0..count).map(|n| AgentId::parse(&format!("A{n:05}")).unwrap()).collect()
    }

    fn sizes(text: &str) -> Vec<WaveSize> {
        text.split(',').map(|size| WaveSize::parse(size).unwrap()).collect()
    }

    fn counts(waves: &[u32]) -> Vec<usize> {
        let last = waves.iter().max().copied().unwrap_or(0);
        (0..=last).map(|n| waves.iter().filter(|wave| **wave == n).count()).collect()
    }

    #[test]
    fn waves_are_counts_shares_and_the_rest() {
        assert_eq!(counts(&assign(b"s", &agents(1_000), &sizes("10,5%,rest"))), [10, 50, 940]);
        assert_eq!(
            counts(&assign(b"s", &agents(1_000), &sizes("10,5%"))),
            [10, 50, 940],
            "nobody is left out"
        );
        assert_eq!(
            counts(&assign(b"s", &agents(3), &sizes("1%,10%,rest"))),
            [1, 1, 1],
            "a share is one at least"
        );
        assert_eq!(counts(&assign(b"s", &agents(3), &sizes("5,5,rest"))), [3], "no wave without anybody");
        assert_eq!(counts(&assign(b"s", &agents(7), &[])), [7]);
    }

    #[test]
    fn who_comes_first_follows_from_the_campaign() {
        let (all, first) = (agents(1_000), sizes("10,rest"));
        let of = |seed: &[u8]| {
            let waves = assign(seed, &all, &first);
            (0..1_000).filter(|at| waves[*at] == 0).collect::<Vec<usize>>()
        };
        assert_eq!(of(b"campaign 1"), of(b"campaign 1"));
        assert_ne!(of(b"campaign 1"), of(b"campaign 2"));
        assert_ne!(of(b"campaign 1"), (0..10).collect::<Vec<usize>>());
    }

    #[test]
    fn mails_of_a_wave_are_spread_evenly() {
        let hour = Duration::from_secs(3_600);
        let places: Vec<Duration> = agents(10_000).iter().map(|agent| spread(b"s", agent, hour)).collect();
        assert!(places.iter().all(|place| *place < hour));
        for quarter in 0..4u32 {
            let (from, to) = (hour / 4 * quarter, hour / 4 * (quarter + 1));
            let count = places.iter().filter(|place| **place >= from && **place < to).count();
            assert!((2_300..2_700).contains(&count), "{count} in quarter {quarter}");
        }
        assert_eq!(spread(b"s", &agents(1)[0], Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn sizes_that_make_no_sense_are_named() {
        for (text, why) in [
            ("", "expected the size of a wave, such as 10, 5% or rest, found \"\""),
            ("-1", "expected the size of a wave, such as 10, 5% or rest, found \"-1\""),
            ("0", "expected a wave that somebody is in, found \"0\""),
            ("0%", "expected a wave that somebody is in, found \"0%\""),
            ("101%", "expected a share such as 5% or 2.5%, found \"101%\""),
            ("1.234%", "expected a share such as 5% or 2.5%, found \"1.234%\""),
        ] {
            assert_eq!(WaveSize::parse(text).unwrap_err().to_string(), why);
        }
    }

    #[test]
    fn shares_are_written_as_they_are_read() {
        for text in ["0%", "5%", "2.5%", "0.25%", "100%", "99.99%"] {
            assert_eq!(Share::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Share::hundredths(500).floor_of(19), 0);
        assert_eq!(Share::hundredths(500).floor_of(20), 1);
        assert_eq!(Share::hundredths(9_500).ceil_of(20), 19);
        assert_eq!(Share::hundredths(10_000).floor_of(7), 7);
    }

    proptest! {
        #[test]
        fn everybody_is_in_exactly_one_wave(count in 0usize..300, raw in prop::collection::vec(1u64..50, 0..6)) {
            let sizes: Vec<WaveSize> = raw.iter().map(|n| WaveSize::Count(*n)).collect();
            let waves = assign(b"x", &agents(count), &sizes);
            prop_assert_eq!(waves.len(), count);
            let counts = counts(&waves);
            prop_assert_eq!(counts.iter().sum::<usize>(), count);
            prop_assert!(count == 0 || counts.iter().all(|n| *n > 0));
        }

        #[test]
        fn arbitrary_text_is_read_or_refused(text in ".{0,12}") {
            let _ = (Share::parse(&text), WaveSize::parse(&text));
        }
    }
}
