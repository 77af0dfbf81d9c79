//! How a sealed body travels: whole, in parts, or by its head alone, and to whom the next mail of it goes (PROTOCOL 17). Pure;
//! knows sizes and spans, no bytes.

use core::time::Duration;

use shared::limits::{PART_MIN_BYTES, PARTS_MAX_COUNT, mail_bytes_for_attachment};
use shared::{Span, Spans, UnixMillis};

/// Requests for parts that are answered for one agent and order in a day (PROTOCOL 17.7). Honest agents ask a few times, and less
/// often each time.
pub const ASKS_PER_DAY: u32 = 24;

/// An agent that lacks parts says so every 12 hours (PROTOCOL 17.5). After so long without a word it has them all and its report was
/// lost, or nothing of it can be heard: then it is asked for its version.
pub const PARTS_PATIENCE: Duration = Duration::from_secs(14 * 3600);

/// How long requests are gathered before they are answered: agents that lack the same part get it in one mail.
pub const GATHER: Duration = Duration::from_secs(60);

/// Bytes of a head beside slots, parts and introduction: magic, signature, IDs, times; 330 in fact.
const HEAD_BYTES: u64 = 512;
/// A slot is 94 bytes, a part's size and digest 44.
const SLOT_BYTES: u64 = 96;
const PART_INFO_BYTES: u64 = 48;

/// Parts end on a multiple of this, so that a few bytes more of head do not make another cut.
const STEP_BYTES: u64 = 4 * 1024;

/// What the mails of one manager have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Recipients of one mail.
    pub recipients: usize,
    /// Bytes of the trust statements before each envelope.
    pub introduction_bytes: usize,
}

/// In what pieces a body goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carriage {
    /// In one mail.
    Whole,
    /// In parts of so many bytes.
    Parts(u64),
}

impl Carriage {
    /// How many mails it takes to one batch of recipients.
    #[must_use]
    pub fn mails(self, body_bytes: u64) -> u64 {
        match self {
            Self::Whole => 1,
            Self::Parts(part_bytes) => body_bytes.div_ceil(part_bytes.max(1)),
        }
    }
}

/// True if a body of this size goes to agents whose lines have a budget only as they ask for it (PROTOCOL 17.13). What is
/// smaller is hardly more than the head that would announce it.
#[must_use]
pub fn is_announced(body_bytes: u64) -> bool {
    body_bytes > PART_MIN_BYTES
}

/// The pieces in which a body goes to an agent whose line has a budget: at least two, because only what comes in parts can be announced
/// by its head and asked for.
#[must_use]
pub fn announced(carriage: Carriage, body_bytes: u64) -> Carriage {
    match carriage {
        Carriage::Whole if is_announced(body_bytes) => {
            let half = body_bytes.div_ceil(2).div_ceil(STEP_BYTES).saturating_mul(STEP_BYTES);
            Carriage::Parts(half.max(PART_MIN_BYTES))
        }
        Carriage::Whole | Carriage::Parts(_) => carriage,
    }
}

/// The largest attachment of a mail of so many bytes.
#[must_use]
pub fn attachment_max_bytes(mail_max_bytes: u64) -> u64 {
    // The inverse of `mail_bytes_for_attachment`: whole lines only.
    let lines = mail_max_bytes.saturating_sub(mail_bytes_for_attachment(0)).checked_div(78).unwrap_or(0);
    lines.saturating_mul(57)
}

/// The pieces in which a body fits mails of so many bytes; `None`: it does not, however it is cut.
#[must_use]
pub fn carriage(body_bytes: u64, mail_max_bytes: u64, heads: Heads) -> Option<Carriage> {
    let slots = (heads.recipients as u64).saturating_mul(SLOT_BYTES);
    let fixed = HEAD_BYTES.saturating_add(slots).saturating_add(heads.introduction_bytes as u64);
    let room = attachment_max_bytes(mail_max_bytes).saturating_sub(fixed);
    if body_bytes.saturating_add(PART_INFO_BYTES) <= room {
        return Some(Carriage::Whole);
    }
    // The more parts there are, the longer is each head: the first number of parts that has room for itself.
    let mut count = body_bytes.checked_div(room)?.max(1);
    while count <= PARTS_MAX_COUNT as u64 {
        let part = room.saturating_sub(count.saturating_mul(PART_INFO_BYTES));
        let part = part.saturating_sub(part.checked_rem(STEP_BYTES)?);
        if part < PART_MIN_BYTES {
            return None;
        }
        if part.saturating_mul(count) >= body_bytes {
            return Some(Carriage::Parts(part));
        }
        count = count.saturating_add(1);
    }
    None
}

/// About the size of a mail that has so many bytes of a body of this size; never less than it is.
#[must_use]
pub fn mail_bytes(bytes: u64, parts: u64, heads: Heads) -> u64 {
    let slots = (heads.recipients as u64).saturating_mul(SLOT_BYTES);
    let infos = parts.saturating_mul(PART_INFO_BYTES);
    let head = HEAD_BYTES.saturating_add(slots).saturating_add(infos);
    mail_bytes_for_attachment(head.saturating_add(heads.introduction_bytes as u64).saturating_add(bytes))
}

/// What of its body the next mail to a recipient brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// All of it.
    Whole,
    /// One part.
    Part {
        /// Size of all parts but the last.
        part_bytes: u64,
        /// Which, counted from 0.
        index: u32,
        /// Its bytes.
        span: Span,
    },
    /// The head alone: the agent asks for what it lacks (PROTOCOL 17.6).
    Head {
        /// Size of all parts but the last.
        part_bytes: u64,
    },
}

impl Load {
    /// The next mail for a recipient. `wanted`: what is still to be mailed of the body; `None`: all of it.
    #[must_use]
    pub fn next(carriage: Carriage, body_bytes: u64, wanted: Option<&Spans>) -> Self {
        let Carriage::Parts(part_bytes) = carriage else { return Self::Whole };
        let first = match wanted {
            None => 0,
            Some(wanted) => match wanted.first() {
                Some(first) => first,
                None => return Self::Head { part_bytes },
            },
        };
        let index = first.checked_div(part_bytes).unwrap_or(0);
        let from = index.saturating_mul(part_bytes);
        let until = from.saturating_add(part_bytes).min(body_bytes);
        Self::Part { part_bytes, index: u32::try_from(index).unwrap_or(u32::MAX), span: Span { from, until } }
    }

    /// True if the mail of this load can go to a recipient of that carriage who wants this as well.
    #[must_use]
    pub fn serves(self, carriage: Carriage, wanted: Option<&Spans>) -> bool {
        match (self, carriage) {
            (Self::Whole, Carriage::Whole) => true,
            (Self::Part { part_bytes, span, .. }, Carriage::Parts(own)) => {
                part_bytes == own && wanted.is_none_or(|wanted| wanted.touch(span))
            }
            (Self::Head { part_bytes }, Carriage::Parts(own)) => {
                part_bytes == own && wanted.is_some_and(Spans::is_empty)
            }
            (Self::Whole, Carriage::Parts(_)) | (Self::Part { .. } | Self::Head { .. }, Carriage::Whole) => {
                false
            }
        }
    }

    /// What is still to be mailed after this; `None`: nothing.
    #[must_use]
    pub fn rest(self, body_bytes: u64, wanted: Option<&Spans>) -> Option<Spans> {
        let Self::Part { span, .. } = self else { return None };
        let mut rest = wanted.cloned().unwrap_or_else(|| Spans::all(body_bytes));
        rest.remove(span);
        (!rest.is_empty()).then_some(rest)
    }
}

/// How often an agent has asked for parts of one order, since when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Requests in the day that began then.
    pub count: u32,
    /// When that day began.
    pub since: UnixMillis,
}

impl Asked {
    /// One more request. `None`: it is one too many for this day (PROTOCOL 17.7).
    #[must_use]
    pub fn again(self, now: UnixMillis) -> Option<Self> {
        let day = Duration::from_secs(24 * 3600);
        if self.since > now || now.since(self.since) >= day {
            return Some(Self { count: 1, since: now });
        }
        let count = self.count.saturating_add(1);
        (count <= ASKS_PER_DAY).then_some(Self { count, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shared::limits::mail_bytes_for_attachment;

    const HEADS: Heads = Heads { recipients: 50, introduction_bytes: 700 };

    #[test]
    fn two_hundred_megabytes_go_through_mails_of_ten() {
        let Some(Carriage::Parts(part)) = carriage(200_000_000, 10_240_000, HEADS) else { panic!() };
        assert!(part > 7_000_000, "{part}");
        assert_eq!(Carriage::Parts(part).mails(200_000_000), 27);
    }

    #[test]
    fn what_is_announced_has_two_parts_at_least() {
        for bytes in [PART_MIN_BYTES + 1, 50_000, 65_536, 65_537, 7_000_000] {
            let Carriage::Parts(part) = announced(Carriage::Whole, bytes) else { panic!("{bytes}") };
            assert_eq!(Carriage::Parts(part).mails(bytes), 2, "{bytes}");
        }
        assert_eq!(announced(Carriage::Whole, PART_MIN_BYTES), Carriage::Whole);
        assert_eq!(announced(Carriage::Parts(40_000), 1_000_000), Carriage::Parts(40_000));
    }

    #[test]
    fn what_fits_is_not_cut_and_what_cannot_fit_is_said() {
        assert_eq!(carriage(7_000_000, 10_240_000, HEADS), Some(Carriage::Whole));
        assert_eq!(carriage(1_000_000, 30_000, HEADS), None);
        assert_eq!(carriage(u64::MAX, 10_240_000, HEADS), None);
        assert_eq!(carriage(1_000_000, 0, HEADS), None);
    }

    #[test]
    fn a_mail_goes_to_all_who_lack_its_part_and_to_nobody_else() {
        let carriage = Carriage::Parts(100);
        let mut first = Spans::default();
        first.add(Span { from: 150, until: 160 });
        let mut second = first.clone();
        second.add(Span { from: 390, until: 395 });
        let load = Load::next(carriage, 395, Some(&first));
        assert_eq!(load, Load::Part { part_bytes: 100, index: 1, span: Span { from: 100, until: 200 } });
        assert!(load.serves(carriage, Some(&second)) && load.serves(carriage, None));
        assert!(
            !load.serves(Carriage::Parts(99), Some(&second))
                && !load.serves(carriage, Some(&Spans::default()))
        );
        assert_eq!(load.rest(395, Some(&first)), None);
        let rest = load.rest(395, Some(&second)).unwrap();
        let last = Load::next(carriage, 395, Some(&rest));
        assert_eq!(last, Load::Part { part_bytes: 100, index: 3, span: Span { from: 300, until: 395 } });
        assert_eq!(Load::next(carriage, 395, Some(&Spans::default())), Load::Head { part_bytes: 100 });
    }

    #[test]
    fn an_agent_that_asks_without_end_is_answered_so_often_a_day() {
        let now = UnixMillis(1_000_000_000_000);
        let mut asked = Asked::default();
        for _ in 0..ASKS_PER_DAY {
            asked = asked.again(now).unwrap();
        }
        assert_eq!(asked.again(now), None);
        assert!(asked.again(now.plus(Duration::from_secs(86_400))).is_some());
        assert!(asked.again(now.minus(Duration::from_secs(1))).is_some(), "the clock went back");
    }

    proptest! {
        #[test]
        fn every_part_fits_its_mail_and_all_parts_are_the_body(
            body in 1u64..3_000_000_000,
            mail_max in 60_000u64..30_000_000,
            recipients in 1usize..1_000,
            introduction_bytes in 0usize..5_000,
        ) {
            let heads = Heads { recipients, introduction_bytes };
            let Some(carriage) = carriage(body, mail_max, heads) else { return Ok(()) };
            let mut wanted = None;
            let mut mails = 0u64;
            loop {
                let load = Load::next(carriage, body, wanted.as_ref());
                let (bytes, parts) = match load {
                    Load::Whole => (body, 1),
                    Load::Part { span, .. } => (span.bytes(), carriage.mails(body)),
                    Load::Head { .. } => panic!("nobody is to ask"),
                };
                let head = 330 + 94 * recipients as u64 + 44 * parts + introduction_bytes as u64;
                prop_assert!(mail_bytes_for_attachment(head + bytes) <= mail_max);
                mails += 1;
                match load.rest(body, wanted.as_ref()) {
                    Some(rest) => wanted = Some(rest),
                    None => break,
                }
            }
            prop_assert_eq!(mails, carriage.mails(body));
        }
    }
}
