//! Patterns for the names of devices: `*` stands for any characters, case is ignored.

use core::fmt;

use minicbor::{Decode, Encode};

use crate::id::Label;

/// A pattern. Two that differ in case alone are the same.
#[derive(Clone, Debug, Encode, Decode)]
#[cbor(transparent)]
pub struct Glob(#[n(0)] Label);

impl Glob {
    /// The pattern of this text.
    #[must_use]
    pub fn new(text: Label) -> Self {
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// True if the pattern has no characters: it is that of the empty text.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True if all of `text` is of this pattern. Each piece between two `*` is taken where it comes first, so nothing is tried twice.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.folded(), text.to_lowercase());
        let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
        let Some(mut text) = text.strip_prefix(head) else { return false };
        let mut pieces = rest.split('*');
        let tail = pieces.next_back().unwrap_or_default();
        for piece in pieces {
            let Some((_, after)) = text.split_once(piece) else { return false };
            text = after;
        }
        text.ends_with(tail)
    }

    fn folded(&self) -> String {
        self.0.as_str().to_lowercase()
    }
}

impl PartialEq for Glob {
    fn eq(&self, other: &Self) -> bool {
        self.folded() == other.folded()
    }
}

impl Eq for Glob {}

impl PartialOrd for Glob {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Glob {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.folded().cmp(&other.folded())
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn glob(text: &str) -> Glob {
        Glob::new(Label::lossy(text))
    }

    #[test]
    fn a_star_stands_for_any_characters_and_case_is_ignored() {
        for (pattern, text) in [
            ("Alpha 2*", "ALPHA 2500n"),
            ("*", ""),
            ("*500*", "Alpha 2500"),
            ("a*b*c", "a-b-b-c"),
            ("a**b", "ab"),
            ("alpha", "Alpha"),
        ] {
            assert!(glob(pattern).matches(text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("alpha", "alpha 2"), ("a*a", "a"), ("", "x"), ("*x", "xy"), ("a*b*b", "a-b"), ("b*", "ab")]
        {
            assert!(!glob(pattern).matches(text), "{pattern} {text}");
        }
    }

    /// What the pattern means, tried in every way.
    fn slowly(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|at| slowly(rest, &text[at..])),
            Some((c, rest)) => text.first() == Some(c) && slowly(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn it_finds_what_trying_every_way_finds(pattern in "[ab*]{0,7}", text in "[ab]{0,9}") {
            prop_assert_eq!(glob(&pattern).matches(&text), slowly(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
