//! Spans of bytes: which of a long text are here, which are wanted. Sorted and apart, so that there is one way to say
//! each; in bytes and not in numbers of parts, so that what one cut brought counts for every other (PROTOCOL 17.4).

use minicbor::{Decode, Decoder, Encode};

use crate::limits::SPANS_MAX_COUNT;

/// Bytes `from` up to, but not with, `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Span {
    /// The first byte.
    #[n(0)]
    pub from: u64,
    /// The byte after the last one.
    #[n(1)]
    pub until: u64,
}

impl Span {
    /// How many bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.until.saturating_sub(self.from)
    }

    /// True if it has none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.bytes() == 0
    }
}

/// Some spans of one text. Encoded as a list of `[from, until]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode)]
#[cbor(transparent)]
pub struct Spans(#[n(0)] Vec<Span>);

impl Spans {
    /// All of a text of so many bytes.
    #[must_use]
    pub fn all(bytes: u64) -> Self {
        let mut all = Self::default();
        all.add(Span { from: 0, until: bytes });
        all
    }

    /// Adds a span. False, and nothing is added, if there are too many spans that do not touch.
    pub fn add(&mut self, span: Span) -> bool {
        if span.is_empty() {
            return true;
        }
        let mut whole = span;
        let (mut spans, mut after) = (Vec::new(), Vec::new());
        for old in &self.0 {
            if old.until < whole.from {
                spans.push(*old);
            } else if whole.until < old.from {
                after.push(*old);
            } else {
                whole = Span { from: old.from.min(whole.from), until: old.until.max(whole.until) };
            }
        }
        spans.push(whole);
        spans.append(&mut after);
        let fits = spans.len() <= SPANS_MAX_COUNT;
        if fits {
            self.0 = spans;
        }
        fits
    }

    /// Adds the spans of another list, as far as there is room.
    pub fn add_all(&mut self, other: &Self) {
        for span in &other.0 {
            self.add(*span);
        }
    }

    /// Takes a span away.
    pub fn remove(&mut self, span: Span) {
        if span.is_empty() {
            return;
        }
        let parts = self.0.iter().flat_map(|old| {
            let before = Span { from: old.from, until: old.until.min(span.from) };
            let after = Span { from: old.from.max(span.until), until: old.until };
            [before, after]
        });
        self.0 = parts.filter(|part| !part.is_empty()).collect();
    }

    /// Takes away whatever lies at or beyond `bytes`: a text has no more.
    pub fn cut_at(&mut self, bytes: u64) {
        self.remove(Span { from: bytes, until: u64::MAX });
    }

    /// True if all of `span` is in them.
    #[must_use]
    pub fn has(&self, span: Span) -> bool {
        span.is_empty() || self.0.iter().any(|own| own.from <= span.from && span.until <= own.until)
    }

    /// True if something of `span` is in them.
    #[must_use]
    pub fn touch(&self, span: Span) -> bool {
        self.0.iter().any(|own| own.from.max(span.from) < own.until.min(span.until))
    }

    /// What is not in them of a text of so many bytes.
    #[must_use]
    pub fn missing(&self, bytes: u64) -> Self {
        let mut missing = Self::all(bytes);
        for span in &self.0 {
            missing.remove(*span);
        }
        missing
    }

    /// The first byte that is in them.
    #[must_use]
    pub fn first(&self) -> Option<u64> {
        self.0.first().map(|span| span.from)
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many bytes they have together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.iter().fold(0, |sum, span| sum.saturating_add(span.bytes()))
    }
}

impl<'b, C> Decode<'b, C> for Spans {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        // One more can appear for each that is taken from the middle of another.
        let spans = crate::bounded::list::<_, Span, { 2 * SPANS_MAX_COUNT }>(d, ctx)?;
        let mut last: Option<u64> = None;
        for span in &spans {
            if span.is_empty() || last.is_some_and(|last| span.from <= last) {
                return Err(minicbor::decode::Error::message("spans that are not sorted and apart"));
            }
            last = Some(span.until);
        }
        Ok(Self(spans))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn span(from: u64, until: u64) -> Span {
        Span { from, until }
    }

    #[test]
    fn spans_that_touch_become_one() {
        let mut spans = Spans::default();
        for (from, until) in [(10, 20), (30, 40), (20, 30)] {
            assert!(spans.add(span(from, until)));
        }
        assert_eq!(spans.0, [span(10, 40)]);
        assert_eq!(spans.missing(50).0, [span(0, 10), span(40, 50)]);
    }

    #[test]
    fn a_list_that_is_not_sorted_and_apart_is_refused() {
        for bad in
            [vec![span(5, 5)], vec![span(4, 2)], vec![span(0, 5), span(5, 6)], vec![span(7, 9), span(1, 2)]]
        {
            let bytes = minicbor::to_vec(&bad).unwrap();
            assert!(minicbor::decode::<Spans>(&bytes).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn more_spans_than_allowed_are_not_added_and_not_read() {
        let mut spans = Spans::default();
        for n in 0..SPANS_MAX_COUNT as u64 {
            assert!(spans.add(span(n * 2, n * 2 + 1)));
        }
        let full = spans.clone();
        assert!(!spans.add(span(1_000_000, 1_000_001)));
        assert!(spans.add(span(1, 2)), "one that closes a gap needs no room");
        assert_ne!(spans, full);
        let many: Vec<Span> = (0..=2 * SPANS_MAX_COUNT as u64).map(|n| span(n * 2, n * 2 + 1)).collect();
        assert!(minicbor::decode::<Spans>(&minicbor::to_vec(&many).unwrap()).is_err());
    }

    proptest! {
        #[test]
        fn they_are_what_a_set_of_bytes_is(
            steps in prop::collection::vec((any::<bool>(), 0u64..60, 0u64..60), 0..40)
        ) {
            let (mut spans, mut set) = (Spans::default(), BTreeSet::new());
            for (adds, a, b) in steps {
                let (from, until) = (a.min(b), a.max(b));
                if adds {
                    spans.add(span(from, until));
                    set.extend(from..until);
                } else {
                    spans.remove(span(from, until));
                    set.retain(|byte| !(from..until).contains(byte));
                }
            }
            prop_assert_eq!(spans.bytes(), set.len() as u64);
            prop_assert_eq!(spans.first(), set.first().copied());
            for a in 0..60 {
                prop_assert_eq!(spans.touch(span(a, a + 3)), (a..a + 3).any(|byte| set.contains(&byte)));
                prop_assert_eq!(spans.has(span(a, a + 3)), (a..a + 3).all(|byte| set.contains(&byte)));
                prop_assert_eq!(spans.missing(60).has(span(a, a + 1)), !set.contains(&a));
            }
            let read: Spans = minicbor::decode(&minicbor::to_vec(&spans).unwrap()).unwrap();
            prop_assert_eq!(read, spans);
        }
    }
}
