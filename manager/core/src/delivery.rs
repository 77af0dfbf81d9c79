//! What is wrong with a mail that did not reach its mailbox, told from a mail server's words, and what follows from that. Pure;
//! sends nothing. Words of a bounce are nobody's signed word: they explain silence and say nothing of an install (PROTOCOL 8.4).

mod words;

use core::fmt;
use core::time::Duration;

use minicbor::{Decode, Encode};
use shared::UnixMillis;

pub use words::{Words, cause};

/// A mailbox that was full is tried again after this: somebody has to clear it first, and every try is a mail that bounces.
pub const FULL_PAUSE: Duration = Duration::from_secs(24 * 3600);

/// Relays give up after four or five days (RFC 5321 §4.5.4.1), and say so. One that says that it still tries, and then nothing for
/// longer than this, has lost the mail.
pub const RELAY_PATIENCE: Duration = Duration::from_secs(6 * 24 * 3600);

/// Why a mail did not reach its mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Cause {
    /// None of the others, or the server does not say.
    #[default]
    #[n(0)]
    Other,
    /// There is no such mailbox.
    #[n(1)]
    UnknownMailbox,
    /// It has no room.
    #[n(2)]
    MailboxFull,
    /// It is there, and takes no mail.
    #[n(3)]
    MailboxDisabled,
    /// The mail is larger than some server on the way takes.
    #[n(4)]
    TooBig,
    /// A filter or a rule does not want it.
    #[n(5)]
    RefusedByPolicy,
    /// The mailbox's server cannot be found or reached.
    #[n(6)]
    NoRoute,
    /// The server takes mail of strangers only at the second try.
    #[n(7)]
    Greylisted,
    /// A server on the way has tried for as long as it does, and given up.
    #[n(8)]
    Expired,
}

impl Cause {
    /// In words; `None` for the one that has none.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Other => None,
            Self::UnknownMailbox => Some("unknown mailbox"),
            Self::MailboxFull => Some("mailbox full"),
            Self::MailboxDisabled => Some("mailbox disabled"),
            Self::TooBig => Some("too big"),
            Self::RefusedByPolicy => Some("refused by policy"),
            Self::NoRoute => Some("no route"),
            Self::Greylisted => Some("greylisted"),
            Self::Expired => Some("not delivered in time"),
        }
    }

    /// True if the same mail may reach the same address another day without anybody having changed something.
    #[must_use]
    pub fn may_pass(self) -> bool {
        match self {
            Self::MailboxFull | Self::NoRoute | Self::Greylisted | Self::Expired => true,
            Self::Other
            | Self::UnknownMailbox
            | Self::MailboxDisabled
            | Self::TooBig
            | Self::RefusedByPolicy => false,
        }
    }
}

/// What a mail server said of a mail, and what that means.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Trouble {
    /// What it means.
    #[n(0)]
    pub cause: Cause,
    /// The server's words.
    #[n(1)]
    pub text: String,
}

impl Trouble {
    /// Understands a server's words. `attachment_bytes` is named if the mail is too big: the server rarely says how big it was.
    #[must_use]
    pub fn of(words: &Words<'_>, attachment_bytes: u64) -> Self {
        let cause = cause(words);
        let text = match cause {
            Cause::TooBig => format!("an attachment of {attachment_bytes} bytes; {words}"),
            Cause::Other
            | Cause::UnknownMailbox
            | Cause::MailboxFull
            | Cause::MailboxDisabled
            | Cause::RefusedByPolicy
            | Cause::NoRoute
            | Cause::Greylisted
            | Cause::Expired => words.to_string(),
        };
        Self { cause, text }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause.name() {
            Some(name) => write!(f, "{name}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// An agent's second address, for a mail that its first does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Second {
    /// It has none.
    None,
    /// It was not used for this mail yet.
    Unused,
    /// This mail went to it.
    InUse,
}

/// What becomes of a mail that was refused for good, or bounced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// The same mail goes to the agent's second address.
    Second,
    /// The same mail goes to the same address again, then.
    Again(UnixMillis),
    /// It is given up.
    Over,
}

/// What becomes of a mail after its final refusal. `again`: the sender's patience is not at its end; `expires`: the order's.
#[must_use]
pub fn course(now: UnixMillis, cause: Cause, second: Second, again: bool, expires: UnixMillis) -> Course {
    if second == Second::Unused {
        return Course::Second;
    }
    let at = now.plus(FULL_PAUSE);
    if cause == Cause::MailboxFull && again && at < expires { Course::Again(at) } else { Course::Over }
}

/// When a mail that the relay did not take yet is offered again: twice as long after each try.
#[must_use]
pub fn next_try(now: UnixMillis, tries_before: u32, min: Duration, max: Duration) -> UnixMillis {
    let factor = 1u32.checked_shl(tries_before.min(16)).unwrap_or(1);
    now.plus(min.saturating_mul(factor).min(max))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000_000_000_000);

    #[test]
    fn the_second_address_is_tried_once_whatever_was_wrong_with_the_first() {
        let expires = NOW.plus(FULL_PAUSE * 14);
        for cause in [Cause::UnknownMailbox, Cause::MailboxFull, Cause::RefusedByPolicy, Cause::Other] {
            assert_eq!(course(NOW, cause, Second::Unused, true, expires), Course::Second);
        }
        assert_eq!(course(NOW, Cause::UnknownMailbox, Second::InUse, true, expires), Course::Over);
        assert_eq!(course(NOW, Cause::UnknownMailbox, Second::None, true, expires), Course::Over);
    }

    #[test]
    fn a_full_mailbox_is_tried_again_a_day_later_while_order_and_patience_last() {
        let day = Course::Again(NOW.plus(FULL_PAUSE));
        for second in [Second::None, Second::InUse] {
            let full = |again, expires| course(NOW, Cause::MailboxFull, second, again, expires);
            assert_eq!(full(true, NOW.plus(FULL_PAUSE * 2)), day);
            assert_eq!(full(true, NOW.plus(FULL_PAUSE)), Course::Over, "it would arrive expired");
            assert_eq!(full(false, NOW.plus(FULL_PAUSE * 2)), Course::Over);
        }
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pause = |tries| {
            next_try(NOW, tries, Duration::from_secs(300), Duration::from_secs(3_600)).since(NOW).as_secs()
        };
        assert_eq!([0, 1, 2, 3, 4, 99].map(pause), [300, 600, 1_200, 2_400, 3_600, 3_600]);
    }

    #[test]
    fn what_is_too_big_has_its_size_named() {
        let words = Words { code: Some(552), enhanced: "5.3.4", text: "Message size exceeds fixed limit" };
        assert_eq!(
            Trouble::of(&words, 7_000_000).to_string(),
            "too big: an attachment of 7000000 bytes; 552 5.3.4 Message size exceeds fixed limit"
        );
    }
}
